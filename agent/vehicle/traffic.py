"""What is on a bus: every identifier with its rate, jitter and length, the load, and the bit rate that shows in it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from agent.blocks import ERROR, EXTENDED, FD, REMOTE, Frames
from agent.clock import NS_PER_S

# Bits of a classic data frame without its data and without stuff bits, the gap of 3 bits to the next one included, and
# how many of them stuffing applies to (ISO 11898-1: one bit after each four at worst).
BITS_11, STUFFED_11 = 47, 34
BITS_29, STUFFED_29 = 67, 54

MOST_IDS: Final = 8192  # told apart; a bus that shows more is broken or hostile, the frames beyond are counted together
RATES: Final = (10_000, 20_000, 33_333, 50_000, 83_333, 95_238, 100_000, 125_000, 250_000, 500_000, 1_000_000)
_WINDOW: Final = 16  # frames: long enough for stamps of 0.1 ms, short enough to lie within one burst
_EDGES: Final = np.geomspace(1e3, 1e8, 501)  # bit/s, 2.3 % apart
_SURE: Final = 0.995  # share of windows that a bit rate must explain; the rest is a recorder's bunched stamps
_FULL: Final = 0.55  # of a bit rate that a burst must reach before that rate is named; stuffing alone takes 0.2
_BURSTY: Final = 3.0  # times the mean: slower "bursts" are evenly paced frames, which say nothing of the bit rate
_FAST: Final = 125_000  # bit/s; what comes close to such a rate has it, however evenly it comes


class Key(NamedTuple):
    """One identifier on one bus."""

    bus: str
    id: int
    extended: bool

    @property
    def text(self) -> str:
        """The identifier as people write it: 7E8 or 18FEF100."""
        return f"{self.id:08X}" if self.extended else f"{self.id:03X}"


@dataclass(slots=True)
class Seen:
    """What was seen of one identifier. Times in ns; gaps are between neighbouring frames of this identifier."""

    frames: int = 0
    first_ns: int = 0
    last_ns: int = 0
    shortest_ns: int = 0  # gap, valid from two frames on
    longest_ns: int = 0
    squares: float = 0.0  # of the gaps, in s²
    least_bytes: int = 64
    most_bytes: int = 0
    remote: int = 0

    @property
    def rate_hz(self) -> float | None:
        """Frames a second between the first and the last; None for a single one."""
        lasted_s = (self.last_ns - self.first_ns) / NS_PER_S
        return (self.frames - 1) / lasted_s if self.frames > 1 and lasted_s > 0 else None

    @property
    def jitter_s(self) -> float | None:
        """Standard deviation of the gaps; None below three frames."""
        if self.frames < 3:
            return None
        mean_s = (self.last_ns - self.first_ns) / NS_PER_S / (self.frames - 1)
        return math.sqrt(max(self.squares / (self.frames - 1) - mean_s * mean_s, 0.0))


@dataclass(slots=True)
class Bus:
    """What was seen of a bus as a whole; `bits` and `stuffed` are of classic frames, without and with stuff bits."""

    frames: int = 0
    errors: int = 0
    fd: int = 0
    bits: int = 0
    stuffed: int = 0
    first_ns: int = 0
    last_ns: int = 0
    _bursts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_EDGES) + 1, np.int64))
    _t: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    _b: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def lasted_s(self) -> float:
        """From the first frame to the last."""
        return (self.last_ns - self.first_ns) / NS_PER_S

    @property
    def rate_hz(self) -> float | None:
        """Frames a second of all identifiers; None for a single frame."""
        return (self.frames - 1) / self.lasted_s if self.frames > 1 and self.lasted_s > 0 else None

    def load(self, bit_rate: int) -> tuple[float, float] | None:
        """Return the share (0..1) of `bit_rate` in use, without and with all stuff bits; None with CAN FD frames.

        FD frames change to a second bit rate that nobody tells.
        """
        if self.fd or self.lasted_s <= 0 or bit_rate <= 0:
            return None
        return self.bits / self.lasted_s / bit_rate, self.stuffed / self.lasted_s / bit_rate

    @property
    def fastest(self) -> float | None:
        """Bit/s of the fastest bursts of 16 frames, the fastest half per cent left out; None where there was none."""
        total = int(self._bursts.sum())
        if not total or self.fd:
            return None
        place = int(np.searchsorted(np.cumsum(self._bursts), _SURE * total))
        return float(_EDGES[min(place, len(_EDGES) - 1)])

    @property
    def likely_bit_rate(self) -> int | None:
        """The usual bit rate that the fastest bursts come close to and do not exceed; None where they tell nothing."""
        fastest = self.fastest
        if fastest is None:
            return None
        rate = next((rate for rate in RATES if rate * 1.03 >= fastest), None)
        if rate is None or fastest < _FULL * rate or self.lasted_s <= 0:
            return None
        return rate if rate >= _FAST or fastest >= _BURSTY * self.bits / self.lasted_s else None

    def _burst(self, t: npt.NDArray[np.int64], bits: npt.NDArray[np.int64]) -> None:
        """Note how fast each run of _WINDOW frames came; the newest frames wait for their followers."""
        t, bits = np.concatenate((self._t, t)), np.concatenate((self._b, bits))
        self._t, self._b = t[-_WINDOW:].copy(), bits[-_WINDOW:].copy()
        if len(t) <= _WINDOW:
            return
        total = np.cumsum(bits)
        lasted = t[_WINDOW:] - t[:-_WINDOW]
        whole = lasted > 0
        speed = (total[_WINDOW:] - total[:-_WINDOW])[whole] * float(NS_PER_S) / lasted[whole]
        self._bursts += np.bincount(np.searchsorted(_EDGES, speed), minlength=len(_EDGES) + 1)
        self._bursts[-1] += int(np.count_nonzero(~whole))


class Traffic:
    """Count what passes; memory does not grow with time."""

    def __init__(self) -> None:
        self.ids: dict[Key, Seen] = {}
        self.buses: dict[str, Bus] = {}
        self.uncounted = 0  # frames of identifiers beyond MOST_IDS

    def add(self, frames: Frames, buses: list[str]) -> None:
        """Count a batch; `buses` names the bus numbers."""
        if not len(frames.t):
            return
        for number in np.unique(frames.bus).tolist():
            self._add_bus(buses[number], frames, frames.bus == number)
        data = (frames.flags & ERROR) == 0
        if not data.any():
            return
        extended = (frames.flags & EXTENDED) != 0
        keys = frames.bus.astype(np.int64) << 40 | extended.astype(np.int64) << 32 | frames.id.astype(np.int64)
        order = np.flatnonzero(data)[np.argsort(keys[data], kind="stable")]
        found, starts = np.unique(keys[order], return_index=True)
        for key, part in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
            name = Key(buses[key >> 40], key & 0xFFFFFFFF, bool(key >> 32 & 1))
            seen = self.ids.get(name)
            if seen is None:
                if len(self.ids) >= MOST_IDS:
                    self.uncounted += len(part)
                    continue
                seen = self.ids[name] = Seen()
            _add(seen, frames, part)

    @property
    def frames(self) -> int:
        """Data and remote frames of all buses."""
        return sum(bus.frames for bus in self.buses.values())

    def _add_bus(self, name: str, frames: Frames, mine: npt.NDArray[np.bool_]) -> None:
        bus = self.buses.setdefault(name, Bus())
        flags = frames.flags[mine]
        good = (flags & ERROR) == 0
        bus.errors += int(np.count_nonzero(~good))
        t, flags = frames.t[mine][good], flags[good]
        if not len(t):
            return
        if not bus.frames:
            bus.first_ns = int(t[0])
        bus.frames += len(t)
        bus.last_ns = max(bus.last_ns, int(t[-1]))
        bus.fd += int(np.count_nonzero(flags & FD))
        long = (flags & EXTENDED) != 0
        data = np.where(flags & REMOTE, 0, 8 * frames.len[mine][good].astype(np.int64))
        bits = np.where(long, BITS_29, BITS_11) + data
        bus.bits += int(bits.sum())
        bus.stuffed += int((bits + (np.where(long, STUFFED_29, STUFFED_11) + data - 1) // 4).sum())
        bus._burst(t, bits)


def _add(seen: Seen, frames: Frames, which: npt.NDArray[np.intp]) -> None:
    t = frames.t[which]
    length = frames.len[which]
    gaps = np.diff(t, prepend=seen.last_ns) if seen.frames else np.diff(t)
    if len(gaps):
        had = seen.frames > 1
        seen.shortest_ns = min(int(gaps.min()), seen.shortest_ns) if had else int(gaps.min())
        seen.longest_ns = max(int(gaps.max()), seen.longest_ns)
        gaps_s = gaps / NS_PER_S
        seen.squares += float(gaps_s @ gaps_s)
    if not seen.frames:
        seen.first_ns = int(t[0])
    seen.frames += len(t)
    seen.last_ns = int(t[-1])
    seen.least_bytes = min(seen.least_bytes, int(length.min()))
    seen.most_bytes = max(seen.most_bytes, int(length.max()))
    seen.remote += int(np.count_nonzero(frames.flags[which] & REMOTE))


def counted(batches: Iterable[tuple[Frames, list[str]]]) -> Traffic:
    """Return what all batches together show."""
    traffic = Traffic()
    for frames, buses in batches:
        traffic.add(frames, buses)
    return traffic
