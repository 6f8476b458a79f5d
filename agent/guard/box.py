"""The box itself: too hot, nearly full, and without knowing the time."""

from typing import Final

from agent.guard.memory import Memory
from agent.guard.senses import Second
from agent.guard.settings import BoxSettings
from agent.guard.standing import Standing, event, level_of
from agent.records import SEVERITIES, Event, EventKind, TimeQuality

DRIVING_MPS: Final = 2.8  # 10 km/h
KNOWN: Final[tuple[TimeQuality, ...]] = ("ntp", "gnss")


class Box:
    """Three rules; `clock_told` says that this boot has told already that it has no time."""

    def __init__(self, settings: BoxSettings, memory: Memory, clock_told: bool = False) -> None:
        self._settings = settings
        self._memory = memory
        self._hot = Standing(settings.hot_s, settings.calm_s, memory.level("over_temperature"))
        self._full = Standing(0.0, settings.calm_s, memory.level("disk_nearly_full"))
        self._driven_s = 0.0
        self._clock_ns: int | None = None
        self._clock_told = clock_told

    def step(self, now: Second, time: TimeQuality, used_share: float | None) -> list[Event]:
        """Take one second, what the boot knows of the time, and how much of the store's room is used (0..1)."""
        return [*self._heat(now), *self._room(now, used_share), *self._clock(now, time)]

    def _heat(self, now: Second) -> list[Event]:
        if now.board_c is None:
            return []
        s, celsius = self._settings, now.board_c
        levels = (s.minor_c, s.moderate_c, s.severe_c)
        slowed = bool(now.throttled) and celsius >= s.release_c  # a low supply slows the board down too
        reached = max(level_of(celsius, levels), 1 if slowed else 0)
        level = self._hot.step(now.t_ns, reached, celsius < s.release_c)
        return self._told("over_temperature", self._hot, level, now, celsius, "°C", levels, "board")

    def _room(self, now: Second, used_share: float | None) -> list[Event]:
        if used_share is None:
            return []
        s = self._settings
        levels = (s.minor_share, s.moderate_share, s.severe_share)
        level = self._full.step(now.t_ns, level_of(used_share, levels), used_share < s.release_share)
        percent = (100 * levels[0], 100 * levels[1], 100 * levels[2])
        return self._told("disk_nearly_full", self._full, level, now, 100 * used_share, "%", percent, "storage")

    def _clock(self, now: Second, time: TimeQuality) -> list[Event]:
        if now.speed_mps is not None and now.speed_mps >= DRIVING_MPS:
            self._driven_s += 1.0
            self._clock_ns = now.t_ns if self._clock_ns is None else self._clock_ns
        if self._clock_told or time in KNOWN or self._clock_ns is None or self._driven_s < self._settings.clock_s:
            return []
        self._clock_told = True
        return [
            event(
                "clock_unknown",
                "minor",
                self._clock_ns,
                self._driven_s,
                "s",
                sources=["clock"],
                until_ns=now.t_ns,
                speed_mps=now.speed_mps,
            )
        ]

    def _told(
        self,
        kind: EventKind,
        standing: Standing,
        level: int,
        now: Second,
        peak: float,
        unit: str,
        levels: tuple[float, float, float],
        source: str,
    ) -> list[Event]:
        self._memory.set(f"told {kind}", str(standing.told or ""))
        if not level:
            return []
        severity, began_ns = SEVERITIES[level - 1], standing.began_ns
        return [event(kind, severity, began_ns, peak, unit, sources=[source], until_ns=now.t_ns, levels=levels)]
