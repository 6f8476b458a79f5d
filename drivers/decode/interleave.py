"""Bring two blocks that are each ordered by time into one order."""

from typing import Final

import numpy as np
from numba import from_dtype, njit, types

from agent.blocks import BLOCK, Block

_BLOCK: Final = from_dtype(BLOCK)[::1]


@njit(types.void(_BLOCK, _BLOCK, _BLOCK), cache=True, nogil=True)
def _interleave(a, b, out):  # type: ignore[no-untyped-def]
    i = j = 0
    for k in range(len(out)):
        if j == len(b) or (i < len(a) and a[i].t <= b[j].t):
            out[k].t, out[k].channel, out[k].value = a[i].t, a[i].channel, a[i].value
            i += 1
        else:
            out[k].t, out[k].channel, out[k].value = b[j].t, b[j].channel, b[j].value
            j += 1


def interleave(a: Block, b: Block) -> Block:
    """Return the samples of both in a new block, by time; of equal times those of `a` first."""
    out = np.empty(len(a) + len(b), BLOCK)
    _interleave(np.ascontiguousarray(a), np.ascontiguousarray(b), out)
    return out
