"""The last minute in memory, allocated once: samples as they came, in rings that forget the oldest."""

from collections.abc import Iterable
from typing import Final

import numpy as np

from agent.blocks import BLOCK, Block
from agent.clock import NS_PER_S
from agent.incident.fields import BEFORE, FLAGS, FUSED, IMU, TRACK, Column
from agent.state import State

# Room for the widest window, its end (10 s), and 5 s in which a crash becomes known, at rates above what is met:
IMU_SAMPLES: Final = 1 << 17  # 7 channels at 1 kHz for 18 s; 2.4 MB
CAR_SAMPLES: Final = 1 << 17  # 25 channels at 100 Hz for 52 s
PLACE_SAMPLES: Final = 1 << 15  # 14 channels at 25 Hz for 93 s
ROWS: Final = 1 << 10  # 102 s

GAP_NS: Final = 2 * NS_PER_S  # no sample of any channel for so long: the box was off. A receiver alone speaks at 1 Hz
_MOST_GAPS: Final = 64

ROW: Final = np.dtype([("t", "<i8"), ("speed", "<f8")])


class Ring:
    """The newest records of one dtype that has a field `t`, in the order in which they came."""

    def __init__(self, size: int, dtype: np.dtype) -> None:
        self._kept = np.zeros(size, dtype)
        self._taken = 0

    def take(self, new: Block) -> None:
        """Take records over; the oldest make room."""
        size = len(self._kept)
        self._taken += max(0, len(new) - size)
        new = new[-size:]
        at = self._taken % size
        first = min(len(new), size - at)
        self._kept[at : at + first] = new[:first]
        self._kept[: len(new) - first] = new[first:]
        self._taken += len(new)

    def between(self, start_ns: int, end_ns: int) -> Block:
        """Return a copy of what is kept with start_ns ≤ t ≤ end_ns, by time."""
        size = len(self._kept)
        at = self._taken % size
        parts = [self._kept[:at]] if self._taken < size else [self._kept[at:], self._kept[:at]]
        found = np.concatenate([p[(p["t"] >= start_ns) & (p["t"] <= end_ns)] for p in parts])
        return found[np.argsort(found["t"], kind="stable")]


class Rings:
    """What a record is cut from: inertial samples, what the car said, places, and fused speed.

    One look-up per sample decides where it goes (benchmarks/crashrecord.py).
    """

    def __init__(self) -> None:
        self.imu = Ring(IMU_SAMPLES, BLOCK)
        self.car = Ring(CAR_SAMPLES, BLOCK)
        self.place = Ring(PLACE_SAMPLES, BLOCK)
        self.rows = Ring(ROWS, ROW)
        self.newest_ns: int | None = None  # of all samples, of whatever channel
        self.gaps: list[tuple[int, int]] = []  # the latest silences: last sample before, first after
        self._place_of = np.zeros(1 << 16, np.uint8)
        self._of = {1: self.imu, 2: self.car, 3: self.place}
        # Gnss.Speed stands in two tables: it goes where the longer window is, and is read from there.
        for code, columns in ((2, BEFORE), (2, FLAGS), (1, IMU), (3, TRACK)):
            self._place_of[list(_numbers(columns))] = code

    def ring_of(self, channel: int) -> Ring:
        """Return the ring that holds a channel of the field table."""
        return self._of[int(self._place_of[channel])]

    def take(self, block: Block) -> None:
        """Take samples in order of time."""
        if not len(block):
            return
        codes = self._place_of[block["channel"]]
        for code, ring in self._of.items():
            chosen = np.flatnonzero(codes == code)
            if len(chosen):
                ring.take(block[chosen])
        t = block["t"]
        self.gaps += self.silence_until(int(t[0]))
        self.gaps += [(int(t[i]), int(t[i + 1])) for i in np.flatnonzero(np.diff(t) > GAP_NS)]
        self.gaps = self.gaps[-_MOST_GAPS:]
        self.newest_ns = int(t[-1])

    def silence_until(self, t_ns: int) -> list[tuple[int, int]]:
        """Return the silence that a sample at `t_ns` would end, if it is one."""
        silent = self.newest_ns is not None and t_ns - self.newest_ns > GAP_NS
        return [(self.newest_ns, t_ns)] if self.newest_ns is not None and silent else []

    def take_rows(self, rows: State) -> None:
        """Take rows of state as they become known."""
        if len(rows):
            own = np.empty(len(rows), ROW)
            own["t"], own["speed"] = rows["t"], rows["speed"]
            self.rows.take(own)


def _numbers(columns: Iterable[Column]) -> Iterable[int]:
    return (n for column in columns if column.channels != (FUSED,) for n in column.numbers)
