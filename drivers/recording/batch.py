"""Cut, order and join batches: the same few verbs for CAN frames and for blocks of samples."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from agent.blocks import Block, Frames

Batch = Frames | Block
B = TypeVar("B", Frames, Block)


def times(batch: Batch) -> npt.NDArray[np.int64]:
    """Return the times of `batch`, int64[n] ns, as a contiguous array."""
    return np.ascontiguousarray(batch.t if isinstance(batch, Frames) else batch["t"])


def length(batch: Batch) -> int:
    """Return how many frames or samples `batch` holds."""
    return len(batch.t) if isinstance(batch, Frames) else len(batch)


def with_times(batch: B, t: npt.NDArray[np.int64]) -> B:
    """Return `batch` with the times `t`; samples are changed in place."""
    if isinstance(batch, Frames):
        return batch._replace(t=t)
    batch["t"] = t
    return batch


def take(batch: B, which: slice | npt.NDArray[np.int64]) -> B:
    """Return the part or the order of `batch` that `which` says."""
    if isinstance(batch, Frames):
        return Frames(*[column[which] for column in batch])  # type: ignore[arg-type]
    return batch[which]


def widen(frames: Frames, width: int) -> Frames:
    """Return `frames` with data `width` bytes wide, zero beyond what they had."""
    n, have = frames.data.shape
    if have == width:
        return frames
    data = np.zeros((n, width), np.uint8)
    data[:, :have] = frames.data
    return frames._replace(data=data)


def join(batches: list[B]) -> B:
    """Put batches one after the other, in the order given; at least one must be given."""
    if len(batches) == 1:
        return batches[0]
    first = batches[0]
    if isinstance(first, Frames):
        frames = [b for b in batches if isinstance(b, Frames)]
        width = max(b.data.shape[1] for b in frames)
        columns = zip(*(widen(b, width) for b in frames), strict=True)
        return Frames(*(np.concatenate(column) for column in columns))
    return np.concatenate([b for b in batches if not isinstance(b, Frames)])
