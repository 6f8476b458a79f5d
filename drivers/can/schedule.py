"""Which PIDs to ask next: each is due at its own period, neighbours in time and control unit share a request."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from agent.clock import NS_PER_S
from drivers.can.outgoing import MOST_PIDS

# Seconds between readings. Speed above the 5 Hz that detection wants (domain.md D2); temperatures and levels change
# slowly; what a vehicle says once in its life is asked once an hour.
PERIODS_S: Final[dict[int, float]] = {
    0x0D: 0.1, 0x0C: 0.2, 0x11: 0.2, 0x49: 0.2, 0x5A: 0.5, 0x04: 0.5, 0x0B: 0.5, 0x10: 0.5, 0x66: 0.5, 0x0E: 1.0,
    0x5E: 1.0, 0x9D: 1.0, 0x61: 1.0, 0x62: 1.0, 0x42: 2.0, 0x01: 10.0, 0x05: 10.0, 0x5B: 10.0, 0x5C: 10.0,
    0x0F: 30.0, 0x1F: 30.0, 0x2F: 30.0, 0x46: 60.0, 0x33: 60.0, 0x21: 60.0, 0x31: 60.0, 0x4D: 60.0, 0x4E: 60.0,
    0xA6: 60.0, 0x30: 300.0, 0x51: 3600.0,
}  # fmt: skip
JOIN: Final = 0.3  # a PID whose period is over to this share may join a request that goes out anyway
MISSES: Final = 3  # unanswered single requests after which a PID is taken for unsupported (domain.md F3)
REFUSALS: Final = 2  # joint requests answered in part or not at all, after which a unit is asked for one at a time


@dataclass(slots=True)
class _Due:
    pid: int
    unit: int
    period_ns: int
    at_ns: int
    misses: int = 0


@dataclass(slots=True)
class Schedule:
    """The PIDs of one vehicle; `supported` maps the units' answer identifiers to the PIDs they announce.

    A PID that several units announce is asked of the first of them: the engine's on almost every vehicle.
    """

    supported: dict[int, frozenset[int]]
    now_ns: int
    _due: dict[int, _Due] = field(init=False)
    _joint: dict[int, int] = field(init=False)  # refusals left, by unit

    def __post_init__(self) -> None:
        self._joint = dict.fromkeys(self.supported, REFUSALS)
        self._due = {}
        for unit in sorted(self.supported):
            for pid in self.supported[unit] & PERIODS_S.keys():
                period_ns = round(PERIODS_S[pid] * NS_PER_S)
                self._due.setdefault(pid, _Due(pid, unit, period_ns, self.now_ns))

    @property
    def pids(self) -> set[int]:
        """The PIDs that are still asked."""
        return set(self._due)

    def next_ns(self) -> int | None:
        """Return when the next request is due; None when nothing is supported."""
        return min((d.at_ns for d in self._due.values()), default=None)

    def take(self, now_ns: int) -> tuple[int, list[int]]:
        """Return the unit and the PIDs to ask now, most overdue first, and set when they are due again."""
        first = min(self._due.values(), key=_urgency)
        chosen = [first]
        if self._joint[first.unit] > 0:
            others = sorted((d for d in self._due.values() if d.unit == first.unit and d is not first), key=_urgency)
            ready = (d for d in others if d.misses == 0 and d.at_ns - now_ns <= JOIN * d.period_ns)
            chosen += list(ready)[: MOST_PIDS - 1]
        for due in chosen:
            late = now_ns - due.at_ns > due.period_ns  # behind: go on from now, never in bursts
            due.at_ns = (now_ns if late else max(due.at_ns, now_ns - due.period_ns)) + due.period_ns
        return first.unit, [d.pid for d in chosen]

    def heard(self, unit: int, asked: list[int], got: Iterable[int], now_ns: int) -> None:
        """Take note of which of the PIDs that `unit` was asked for have been answered."""
        missing = set(asked) - set(got)
        for pid in asked:
            due = self._due.get(pid)
            if due is None:
                continue
            if pid not in missing:
                due.misses = 0
            elif len(asked) == 1:
                due.misses += 1
                if due.misses >= MISSES:
                    del self._due[pid]
            else:
                due.at_ns = now_ns  # alone, next
        if len(asked) > 1:
            self._joint[unit] = max(self._joint[unit] - 1, 0) if missing else REFUSALS


def _urgency(due: _Due) -> tuple[int, int]:
    return due.at_ns, due.period_ns
