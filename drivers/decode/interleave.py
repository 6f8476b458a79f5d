"""Bring two blocks that are each ordered by time into one order."""

from typing import Final

import numpy as np
from numba import from_dtype, njit, types

from agent.blocks import BLOCK, Block

_BLOCK: Final = from_dtype(BLOCK)[::1]


@njit(types.void(_BLOCK, _BLOCK, _BLOCK), cache=True, nogil=True)
def _interleave(a, b, out):  # type: ignore[no-untyped-def]
    a_t, b_t = a["t"], b["t"]
    i = j = 0
    for k in range(len(out)):
        if j == len(b) or (i < len(a) and a_t[i] <= b_t[j]):
            out[k] = a[i]
            i += 1
        else:
            out[k] = b[j]
            j += 1


def interleave(a: Block, b: Block) -> Block:
    """Return the samples of both in a new block, by time; of equal times those of `a` first."""
    out = np.empty(len(a) + len(b), BLOCK)
    _interleave(np.ascontiguousarray(a), np.ascontiguousarray(b), out)
    return out
