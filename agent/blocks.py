"""The two shapes in which everything measured travels: blocks of samples and batches of CAN frames.

A *block* is one structured array of dtype `BLOCK`: time (monotonic ns of one boot, or ns since a recording's first
frame), channel number, value in the channel's unit; ordered by time. *Frames* are CAN frames as parallel arrays.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

BLOCK: Final = np.dtype([("t", "<i8"), ("channel", "<u2"), ("value", "<f8")])

Block = npt.NDArray[np.void]

# Bits of Frames.flags
EXTENDED: Final = 1  # 29-bit identifier
REMOTE: Final = 2
ERROR: Final = 4
FD: Final = 8
BIT_RATE_SWITCH: Final = 16
ERROR_STATE: Final = 32


class Frames(NamedTuple):
    """CAN frames as parallel arrays of length n, in the order received.

    t int64[n] ns · bus uint8[n] index into the recording's or driver's bus names · id uint32[n] without flag bits ·
    flags uint8[n] bits above · len uint8[n] bytes of data (0..64) · data uint8[n, w], C-contiguous, w = 8 or 64,
    zero beyond `len`.
    """

    t: npt.NDArray[np.int64]
    bus: npt.NDArray[np.uint8]
    id: npt.NDArray[np.uint32]
    flags: npt.NDArray[np.uint8]
    len: npt.NDArray[np.uint8]
    data: npt.NDArray[np.uint8]


def empty_frames(n: int, width: int = 8) -> Frames:
    """Return `n` zeroed frames whose data are `width` bytes wide."""
    return Frames(
        np.zeros(n, np.int64),
        np.zeros(n, np.uint8),
        np.zeros(n, np.uint32),
        np.zeros(n, np.uint8),
        np.zeros(n, np.uint8),
        np.zeros((n, width), np.uint8),
    )


def empty_block() -> Block:
    """Return a block without samples."""
    return np.empty(0, BLOCK)


def make_block(samples: Iterable[tuple[int, int, float]]) -> Block:
    """Build a block from (t_ns, channel number, value) triples, which must be ordered by time."""
    return np.array(list(samples), dtype=BLOCK)


def join_blocks(blocks: list[Block]) -> Block:
    """Join blocks and order the samples by time; samples of equal time keep the order in which they were given."""
    blocks = [b for b in blocks if len(b)]
    if not blocks:
        return empty_block()
    if len(blocks) == 1:
        return blocks[0]
    joined = np.concatenate(blocks)
    t = joined["t"]
    if np.all(t[1:] >= t[:-1]):
        return joined
    return joined[np.argsort(t, kind="stable")]
