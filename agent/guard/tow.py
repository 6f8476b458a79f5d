"""A parked car with its engine off is tilted, or moves away."""

from math import acos, cos, degrees, hypot, radians
from statistics import median
from typing import Final

from agent.clock import NS_PER_S
from agent.guard.memory import Memory
from agent.guard.senses import Place, Second
from agent.guard.settings import TowSettings
from agent.guard.standing import GAP_NS, Standing, event
from agent.records import Event

OUTLIVES: Final = "outlives"  # in the memory: this box stays awake after the engine is off
STANDING_MPS: Final = 0.5  # slower is standing
FIRST: Final = 30  # seconds, and fixes, that tell how and where the car was parked
ACCURATE_M: Final = 30.0  # worse fixes do not tell where
DOUBTS: Final = 4.0  # a fix may be off by this many times its accuracy
TURNED_DEG: Final = 45.0  # more is the box in somebody's hand, which fusion tells as device_moved
CALM_S: Final = 600.0
EARTH_M_PER_DEG: Final = 111_195.0  # 6,371,009 m × π / 180

Vector = tuple[float, float, float]


class Tow:
    """Learns how and where the car stands once it is parked; each sign is told once a parking."""

    def __init__(self, settings: TowSettings, memory: Memory) -> None:
        self._settings = settings
        self._memory = memory
        self._knows = OUTLIVES in memory.facts  # whether the engine runs can be told at all
        self._tilt = Standing(settings.tilt_s, CALM_S, memory.level("towed_tilt"))
        self._away = Standing(settings.moved_s, CALM_S, memory.level("towed_away"))
        self._tilted = self._tilt.told > 0
        self._last_ns: int | None = None
        self._off_ns: int | None = None
        self._forget()

    def step(self, now: Second, charging: bool) -> list[Event]:
        """Take one second; `charging`: the voltage says that the engine runs."""
        if self._last_ns is not None and now.t_ns - self._last_ns > GAP_NS:
            self._off_ns = None  # after a sleep it is learned anew how the car stands: it may have been driven
        self._last_ns = now.t_ns
        if now.in_use or charging:
            self._knows = True
            self._off_ns = None
            for name in ("towed_tilt", "towed_away"):
                self._memory.set(f"told {name}", "")
            self._tilt.told = self._away.told = 0
            self._tilted = False
            return []
        if not self._knows and now.in_use is None:
            return []
        if self._off_ns is None:
            self._forget()
            self._off_ns = now.t_ns
        if now.t_ns - self._off_ns < self._settings.settle_s * NS_PER_S:
            if now.speed_mps is not None and now.speed_mps >= STANDING_MPS and now.in_use is None:
                self._off_ns = now.t_ns  # it rolls, and nobody says that the engine is off
            return []
        if self._knows:
            self._memory.set(OUTLIVES, "yes")
        self._learn(now)
        sure = now.in_use is False or now.volts is not None
        return [*self._lifted(now, sure), *self._moved(now, sure)]

    def _forget(self) -> None:
        self._pulls: list[Vector] = []
        self._places: list[Place] = []
        self._up: Vector | None = None
        self._home: Place | None = None

    def _learn(self, now: Second) -> None:
        if self._up is None and now.gravity is not None:
            self._pulls.append(now.gravity)
            if len(self._pulls) >= FIRST:
                self._up = (
                    median(p[0] for p in self._pulls),
                    median(p[1] for p in self._pulls),
                    median(p[2] for p in self._pulls),
                )
        if self._home is None and now.place is not None and now.place.accuracy_m <= ACCURATE_M:
            self._places.append(now.place)
            if len(self._places) >= FIRST:
                self._home = Place(
                    median(p.latitude for p in self._places),
                    median(p.longitude for p in self._places),
                    max(p.accuracy_m for p in self._places),
                )

    def _lifted(self, now: Second, sure: bool) -> list[Event]:
        if self._up is None or now.gravity is None:
            return []
        s, angle = self._settings, _angle_deg(self._up, now.gravity)
        tilted = sure and s.tilt_deg <= angle <= TURNED_DEG
        level = self._tilt.step(now.t_ns, 1 if tilted else 0, False)
        self._memory.set("told towed_tilt", str(self._tilt.told or ""))
        if not level:
            return []
        self._tilted = True
        return [
            event(
                "towed",
                "minor",
                self._tilt.began_ns,
                angle,
                "deg",
                sources=["imu"],
                confirmed=False,  # a jack or a lift in a workshop tilts a car too
                until_ns=now.t_ns,
                speed_mps=0.0,
            )
        ]

    def _moved(self, now: Second, sure: bool) -> list[Event]:
        if self._home is None or now.place is None:
            return []
        s, away_m = self._settings, _distance_m(self._home, now.place)
        far = away_m > max(s.moved_m, DOUBTS * max(self._home.accuracy_m, now.place.accuracy_m))
        fast = now.gnss_mps is not None and now.gnss_mps >= s.moved_mps
        level = self._away.step(now.t_ns, 2 if sure and far and fast else 0, False)
        self._memory.set("told towed_away", str(self._away.told or ""))
        if not level:
            return []
        return [
            event(
                "towed",
                "moderate",
                self._away.began_ns,
                away_m,
                "m",
                sources=["gnss", "imu"] if self._tilted else ["gnss"],
                confirmed=self._tilted,  # lifted first, then gone; without that it may stand on a ferry
                until_ns=now.t_ns,
                speed_mps=0.0,
            )
        ]


def _angle_deg(a: Vector, b: Vector) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    size = hypot(*a) * hypot(*b)
    return degrees(acos(max(-1.0, min(1.0, dot / size)))) if size > 0 else 0.0


def _distance_m(a: Place, b: Place) -> float:
    east_deg = (b.longitude - a.longitude + 180.0) % 360.0 - 180.0
    north_m = (b.latitude - a.latitude) * EARTH_M_PER_DEG
    return hypot(north_m, east_deg * EARTH_M_PER_DEG * cos(radians(a.latitude)))
