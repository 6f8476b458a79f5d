"""What a collision does to a car is no way of driving: harsh events that it made are told, and weigh in no score.

A harsh event waits until every collision that could have made it is known, then it is told, unconfirmed where there was
one. How long it waits is counted in the signal's time, so any split of the samples gives the same events.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from agent.clock import NS_PER_S
from agent.records import Crash, Event

HARSH: Final = frozenset({"harsh_braking", "harsh_acceleration", "harsh_cornering"})
BEFORE_NS: Final = 600_000_000  # rows are smoothed: a blow shows so early; who braked before that braked
AFTER_NS: Final = 3 * NS_PER_S  # spinning, sliding and being pushed are over by then
KNOWN_NS: Final = 5 * NS_PER_S  # after the event, the threshold of its collision has been reached
SAME_NS: Final = NS_PER_S  # stored times are rounded, and a walk that began elsewhere cuts an event elsewhere
WAIT_NS: Final = 11 * NS_PER_S  # and 5 s later it is told: the detector's longest patience, a roll's
_MOST_CRASHES: Final = 32


class Aftermath:
    """Holds harsh events back; in order of time. `kept` are the events of this boot that the store holds already."""

    def __init__(self, kept: Iterable[Event] = ()) -> None:
        self._kept = [(event.kind, event.t_ns) for event in kept if event.kind in HARSH]
        self._crashes: deque[Crash] = deque(maxlen=_MOST_CRASHES)
        self._waiting: list[Event] = []

    def crashed(self, crash: Crash) -> None:
        """Take a collision that became known."""
        self._crashes.append(crash)

    def step(self, events: list[Event], now_ns: int | None) -> list[Event]:
        """Take what was found and return what may be told at a time of the signal; everything at None."""
        self._waiting += [event for event in events if event.kind in HARSH]
        over = [e for e in self._waiting if now_ns is None or now_ns >= e.t_ns + WAIT_NS]
        self._waiting = [e for e in self._waiting if now_ns is not None and now_ns < e.t_ns + WAIT_NS]
        over.sort(key=lambda e: e.t_ns)
        return [event for event in events if event.kind not in HARSH] + [self._judged(event) for event in over]

    def is_told(self, event: Event) -> bool:
        """Say whether an earlier life of the agent told it: records are durable before the samples they came with."""
        return any(kind == event.kind and abs(t_ns - event.t_ns) <= SAME_NS for kind, t_ns in self._kept)

    def _judged(self, event: Event) -> Event:
        for crash in self._crashes:
            near = crash.t_ns - BEFORE_NS <= event.t_ns <= crash.t_ns + AFTER_NS
            if near and crash.known_ns <= event.t_ns + KNOWN_NS:
                return replace(event, confirmed=False, detail=f"part of the collision {crash.id}")
        return event
