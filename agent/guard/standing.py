"""A condition that stands or not: told once for each level that it reaches, over only after it has been calm."""

from typing import Final

from agent.clock import NS_PER_S
from agent.records import SEVERITIES, Event, EventKind, Severity

GAP_NS: Final = 60 * NS_PER_S  # nothing is known of what happened in a longer silence: dwell times begin anew
LEVELS: Final = len(SEVERITIES)


class Standing:
    """Dwell on both sides of one condition. `told` is the level that was told last, 0 while it does not stand."""

    def __init__(self, hold_s: float, calm_s: float, told: int = 0) -> None:
        self._hold_ns, self._calm_ns = round(hold_s * NS_PER_S), round(calm_s * NS_PER_S)
        self._since: list[int | None] = [None] * LEVELS
        self._calm_since: int | None = None
        self._last_ns: int | None = None
        self.told = told
        self.began_ns = 0  # of what was told last

    def step(self, t_ns: int, level: int, calm: bool) -> int:
        """Take the level at a time (0 none, 1 minor … 3 severe); return one that has now held and was not told, else 0.

        `calm` says that the value is beyond the release limit; after `calm_s` of it the condition is over.
        """
        if self._last_ns is not None and t_ns - self._last_ns > GAP_NS:
            self._since, self._calm_since = [None] * LEVELS, None
        self._last_ns = t_ns
        for i in range(LEVELS):
            if level <= i:
                self._since[i] = None
            elif self._since[i] is None:
                self._since[i] = t_ns
        self._calm_since = (t_ns if self._calm_since is None else self._calm_since) if calm else None
        if self._calm_since is not None and t_ns - self._calm_since >= self._calm_ns:
            self.told = 0
        for i in reversed(range(LEVELS)):
            since = self._since[i]
            if i >= self.told and since is not None and t_ns - since >= self._hold_ns:
                self.told, self.began_ns = i + 1, since
                return i + 1
        return 0


def level_of(value: float, levels: tuple[float, float, float]) -> int:
    """Return how many of the levels a value has reached: rising ones from below, falling ones from above."""
    sign = 1.0 if levels[2] >= levels[0] else -1.0
    return sum(sign * value >= sign * limit for limit in levels)


def event(
    kind: EventKind,
    severity: Severity,
    t_ns: int,
    peak: float,
    unit: str,
    *,
    sources: list[str],
    confirmed: bool = True,
    until_ns: int | None = None,
    levels: tuple[float, float, float] | None = None,
    detail: str = "",
    speed_mps: float | None = None,
) -> Event:
    """Return an event by version 1 of the rule of its kind, lasting until `until_ns` so far."""
    return Event(
        kind=kind,
        severity=severity,
        confirmed=confirmed,
        t_ns=t_ns,
        duration_ns=max(0, (until_ns or t_ns) - t_ns),
        peak=round(peak, 3),
        unit=unit,
        speed_before_mps=speed_mps,
        rule=f"{kind}/1",
        sources=sources,
        levels=levels,
        detail=detail,
    )
