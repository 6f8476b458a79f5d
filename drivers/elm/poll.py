"""Which parameters to ask for next: by due time, speed first, several in one request where the car has shown it can.

Pure: times come in, requests come out.
"""

from dataclasses import dataclass
from typing import Final

from agent.clock import NS_PER_S
from drivers.decode.j1979 import PIDS
from drivers.elm.command import allowed, current_data

SPEED: Final = 0x0D
RPM: Final = 0x0C
MISSES: Final = 3  # answers missing in a row before a parameter is no longer asked for (reference/domain.md F3)
# One CAN frame carries seven bytes of an answer. Answers of one frame need no flow control, do not freeze clones, and
# can be counted, so that the adapter need not wait for more of them.
ROOM: Final = 7
MOST: Final = 6  # PIDs in one request (SAE J1979 on CAN)

SLOW_S: Final = 60.0
# Seconds between two samples, other than speed's: what driving needs often, what warms up or drains seldom. PIDs with
# a channel that are not here are asked for every SLOW_S. PID 04 cannot be asked for (drivers/elm/command.py).
INTERVALS_S: Final[dict[int, float]] = {
    RPM: 0.25,
    0x11: 0.5,  # throttle
    0x49: 0.5,  # accelerator pedal
    0x10: 1.0,  # air flow
    0x0B: 1.0,  # intake pressure
    0x5E: 1.0,  # fuel rate
    0x62: 2.0,  # torque
    0x0E: 5.0,  # timing
    0x42: 5.0,  # supply voltage at the control unit
    0x05: 15.0,  # coolant
    0x0F: 30.0,  # intake air
    0x5B: 15.0,  # hybrid battery
    0x1F: 30.0,  # run time
    0x01: 30.0,  # lamp and codes
}


@dataclass(frozen=True, slots=True)
class Query:
    """One request: its parameters, how many units answer it (0 not known), and its text."""

    pids: tuple[int, ...]
    text: str


@dataclass(slots=True)
class _Entry:
    interval_ns: int
    due_ns: int
    misses: int = 0
    fresh: bool = True  # not asked for yet
    doubt: int | None = None  # how many others were answered in the request in which this one was not


class Plan:
    """Keep due times. `units` says which PIDs each control unit has; `most` how many a request may carry."""

    def __init__(
        self, units: dict[str, tuple[int, ...]], wanted: tuple[int, ...], speed_hz: float, now_ns: int
    ) -> None:
        self._units = units
        self.most = 1
        self.counted = False  # whether the adapter understands the count of answers
        self._last: tuple[int, ...] = ()
        self._entries: dict[int, _Entry] = {}
        for pid in wanted:
            interval_s = 1.0 / speed_hz if pid == SPEED else INTERVALS_S.get(pid, SLOW_S)
            if any(pid in have for have in units.values()) and allowed(current_data((pid,), 9)):
                self._entries[pid] = _Entry(int(interval_s * NS_PER_S), now_ns)

    @property
    def pids(self) -> tuple[int, ...]:
        """Give the PIDs that are still asked for."""
        return tuple(self._entries)

    def owner(self) -> dict[int, str]:
        """Say which unit's answer counts for each PID: the lowest address (the engine's) of those that have it."""
        return {pid: min(unit for unit, have in self._units.items() if pid in have) for pid in self._entries}

    def due_ns(self) -> int | None:
        """Say when the next parameter is due; None when none is left."""
        return min((e.due_ns for e in self._entries.values()), default=None)

    def next(self, now_ns: int) -> Query | None:
        """Return the request to send now, None when nothing is due.

        Late parameters go by lateness in terms of their own interval, each once before any a second time. Where
        requests carry several, speed rides in every one beside which it has room, and what is due soon fills the
        rest. Otherwise speed goes first when it is due, but never twice running while others wait.
        """
        late = sorted(
            (pid for pid, e in self._entries.items() if e.due_ns <= now_ns),
            key=lambda pid: (not self._entries[pid].fresh, self._earliness(pid, now_ns), pid),
        )
        if not late:
            return None
        order = [pid for pid in late if pid != SPEED]
        alone = [pid for pid in late if self._entries[pid].doubt is not None]
        if alone and self._last != (alone[0],):
            self._last = (alone[0],)
            return Query(self._last, self._text(self._last, ROOM - 1 - _size(alone[0])))
        order = [pid for pid in order if pid not in alone] or order
        rides = self.most > 1 and SPEED in self._entries and (not order or _size(order[0]) + _size(SPEED) < ROOM)
        if rides or (SPEED in late and (SPEED not in self._last or not order)):
            order.insert(0, SPEED)
        if self.most > 1:
            order += self._soon(now_ns, order)
        pids: tuple[int, ...] = ()
        room = ROOM - 1
        for pid in order:
            if pids and (len(pids) >= min(self.most, MOST) or _size(pid) > room):
                continue
            if allowed(current_data((*pids, pid), 9)):
                pids, room = (*pids, pid), room - _size(pid)
        for pid in pids:
            self._entries[pid].fresh = False
        self._last = pids
        return Query(pids, self._text(pids, room))

    def _earliness(self, pid: int, now_ns: int) -> float:
        entry = self._entries[pid]
        return (entry.due_ns - now_ns) / entry.interval_ns

    def _soon(self, now_ns: int, taken: list[int]) -> list[int]:
        """Give what is due within a quarter of its interval: it costs nothing in a request that is sent anyway."""
        soon = [
            (e.due_ns, pid)
            for pid, e in self._entries.items()
            if pid not in taken and e.doubt is None and e.due_ns - now_ns < e.interval_ns // 4
        ]
        return [pid for _, pid in sorted(soon)]

    def answered(self, pids: set[int], sent_ns: int) -> None:
        """Set the next due times of PIDs that were answered; lost time is not made up for, a free ride not saved up."""
        for pid in pids:
            entry = self._entries.get(pid)
            if entry is not None:
                entry.misses = 0
                if entry.doubt is not None and len(pids) == 1:  # alone it was answered: the others were too many
                    self.most = max(1, min(self.most, entry.doubt))
                    entry.doubt = None
                entry.due_ns = min(max(entry.due_ns + entry.interval_ns, sent_ns), sent_ns + entry.interval_ns)

    def doubted(self, pids: tuple[int, ...], answered: int) -> None:
        """Note PIDs that were not answered in a request of which `answered` others were: each is asked alone next."""
        for pid in pids:
            if pid in self._entries:
                self._entries[pid].doubt = answered

    def missed(self, pids: tuple[int, ...], sent_ns: int, *, alive: bool) -> list[int]:
        """Put off PIDs without an answer; return those that are given up.

        A miss counts only while the vehicle answers other requests (`alive`): a car that sleeps lacks nothing.
        Speed is never given up.
        """
        gone = []
        for pid in pids:
            entry = self._entries.get(pid)
            if entry is None:
                continue
            entry.due_ns = sent_ns + entry.interval_ns
            if alive and pid != SPEED:
                entry.misses += 1
                if entry.misses >= MISSES:
                    del self._entries[pid]
                    gone.append(pid)
        return gone

    def _text(self, pids: tuple[int, ...], room: int) -> str:
        """Write the request; the count of answers only where each fits into one frame."""
        counted = self.counted and room >= 0
        text = current_data(pids, self.answers_to(pids)) if counted else current_data(pids)
        return text if allowed(text) else current_data(pids)

    def answers_to(self, pids: tuple[int, ...]) -> int:
        """Count the units that answer a request for any of these PIDs."""
        return sum(1 for have in self._units.values() if any(pid in have for pid in pids))


def _size(pid: int) -> int:
    """Count the bytes that a PID takes in an answer."""
    return 1 + max(PIDS[pid].length, PIDS[pid].long)
