"""Which bits of which identifiers change: the newest data of each, and what has changed so far and lately."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.blocks import ERROR, EXTENDED, Frames
from agent.clock import NS_PER_S
from agent.vehicle.traffic import MOST_IDS, Key

LATELY_NS: Final = NS_PER_S  # a change is shown as new for so long
_WIDE: Final = 64


@dataclass(slots=True)
class Watched:
    """One identifier: newest data, bits that have ever changed, when each byte did last, and how often any did."""

    data: bytes = b""
    bits: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(_WIDE, np.uint8))
    changed_ns: npt.NDArray[np.int64] = field(default_factory=lambda: np.full(_WIDE, -(1 << 62), np.int64))
    changes: int = 0
    lengths: int = 0  # how often the length changed
    frames: int = 0

    def state(self, byte: int, now_ns: int) -> str:
        """Say of a byte whether it changed lately ('new'), at some time ('moved'), or never ('still')."""
        if now_ns - int(self.changed_ns[byte]) <= LATELY_NS:
            return "new"
        return "moved" if self.bits[byte] else "still"


class Sniffer:
    """Watch what passes; identifiers beyond MOST_IDS are left out and counted."""

    def __init__(self) -> None:
        self.ids: dict[Key, Watched] = {}
        self.now_ns = 0
        self.left_out = 0

    def add(self, frames: Frames, buses: list[str]) -> None:
        """Take a batch."""
        if not len(frames.t):
            return
        self.now_ns = max(self.now_ns, int(frames.t[-1]))
        extended = (frames.flags & EXTENDED) != 0
        keys = frames.bus.astype(np.int64) << 40 | extended.astype(np.int64) << 32 | frames.id.astype(np.int64)
        good = np.flatnonzero((frames.flags & ERROR) == 0)
        order = good[np.argsort(keys[good], kind="stable")]
        found, starts = np.unique(keys[order], return_index=True)
        for key, begin, end in zip(found.tolist(), starts, [*starts[1:], len(order)], strict=True):
            name = Key(buses[key >> 40], key & 0xFFFFFFFF, bool(key >> 32 & 1))
            watched = self.ids.get(name)
            if watched is None:
                if len(self.ids) >= MOST_IDS:
                    self.left_out += end - begin
                    continue
                watched = self.ids[name] = Watched()
            _take(watched, frames, order[begin:end])


def _take(watched: Watched, frames: Frames, which: npt.NDArray[np.intp]) -> None:
    data, length, t = frames.data[which], frames.len[which], frames.t[which]
    if watched.frames:
        before = np.zeros((1, data.shape[1]), np.uint8)
        kept = watched.data[: data.shape[1]]
        before[0, : len(kept)] = np.frombuffer(kept, np.uint8)
        data, length = np.vstack((before, data)), np.concatenate(([len(watched.data)], length))
    else:
        t = t[1:]
    flipped = data[1:] ^ data[:-1]
    moved = flipped.any(axis=1)
    watched.lengths += int(np.count_nonzero(np.diff(length.astype(np.int64))))
    watched.changes += int(np.count_nonzero(moved))
    if moved.any():
        width = data.shape[1]
        watched.bits[:width] |= np.bitwise_or.reduce(flipped, axis=0)
        for byte in np.flatnonzero(flipped.any(axis=0)):
            watched.changed_ns[byte] = t[np.flatnonzero(flipped[:, byte])[-1]]
    watched.data = data[-1, : length[-1]].tobytes()
    watched.frames += len(which)
