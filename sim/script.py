"""What the driver of the virtual car does: phases of the physical model, and blocks of them as short functions."""

from collections.abc import Callable
from math import radians
from typing import Final

import numpy as np

from sim.roads import Floats
from sim.sensors import ShockKind
from sim.vehicle import CRUISE, PARK, PULSE, REACH, STAND, SWERVE, TURN

KMH: Final = 1 / 3.6


class Script:
    """The driver's phases in order; keeps the speed reached and an estimate of the time used."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.rows: list[list[float]] = []
        self.notes: list[tuple[int, str]] = []  # phase and what was put into it on purpose
        self.shocks: list[tuple[int, ShockKind, float, float]] = []  # phase, kind, s after its start, m/s²
        self.speed = 0.0
        self.elapsed_s = 0.0

    def phases(self) -> Floats:
        """Return the phases as the physical model takes them."""
        return np.array(self.rows, np.float64)

    def note(self, what: str) -> None:
        """Remember that the next phase holds `what`."""
        self.notes.append((len(self.rows), what))

    def shock(self, kind: ShockKind, after_s: float, size: float) -> None:
        """Shake the box `after_s` into the next phase."""
        self.shocks.append((len(self.rows), kind, after_s, size))
        self.note(kind)

    def reach(self, speed: float, accel: float, jerk: float = 2.0) -> None:
        """Go to `speed` with at most `accel`."""
        self._add(REACH, abs(speed - self.speed) / accel + 1.5, speed, accel, jerk)

    def cruise(self, seconds: float, speed: float | None = None, revs: float = 0.0) -> None:
        """Hold a speed, gently."""
        self._add(CRUISE, seconds, self.speed if speed is None else speed, 0.9, 1.0, revs=revs)

    def pulse(self, accel: float, seconds: float, until: float, jerk: float) -> None:
        """Brake (negative) or accelerate at `accel` for `seconds`, or until a speed is reached."""
        reached = self.speed + accel * seconds
        reached = max(reached, until) if accel < 0 else min(reached, until)
        self._add(PULSE, seconds, reached, accel, jerk, until=until)

    def turn(self, lateral: float, degrees: float) -> None:
        """Take a bend of `degrees` at the present speed with `lateral` acceleration, left positive."""
        seconds = radians(degrees) * self.speed / abs(lateral) + abs(lateral) / 3.0
        self._add(TURN, seconds, self.speed, 0.9, 1.5, lateral=lateral, angle=radians(degrees))

    def swerve(self, lateral: float, seconds: float) -> None:
        """Change lanes: one sine of lateral acceleration."""
        self._add(SWERVE, seconds, self.speed, 0.9, 1.0, lateral=lateral)

    def stop(self, decel: float, stand_s: float) -> None:
        """Brake to a standstill and wait."""
        self.reach(0.0, decel)
        self.stand(stand_s)

    def stand(self, seconds: float) -> None:
        """Stand with the engine running."""
        self._add(STAND, seconds, 0.0, 1.5, 3.0)

    def park(self, seconds: float) -> None:
        """Stand with the ignition off."""
        self._add(PARK, seconds, 0.0, 1.5, 3.0)

    def between(self, low: float, high: float) -> float:
        """Return a random number in low..high."""
        return float(self.rng.uniform(low, high))

    def side(self) -> float:
        """Return left (1) or right (-1)."""
        return float(self.rng.choice([-1.0, 1.0]))

    def _add(
        self,
        kind: int,
        seconds: float,
        speed: float,
        accel: float,
        jerk: float,
        *,
        lateral: float = 0.0,
        angle: float = 0.0,
        revs: float = 0.0,
        until: float | None = None,
    ) -> None:
        # a pulse's phase holds the speed that ends it
        self.rows.append([kind, speed if until is None else until, accel, jerk, seconds, lateral, angle, revs])
        self.speed = speed
        self.elapsed_s += seconds


Block = Callable[[Script], None]


def city_block(s: Script) -> None:
    """From one light to the next."""
    s.reach(s.between(28, 56) * KMH, s.between(0.8, 1.9))
    s.cruise(s.between(6, 28))
    if s.rng.random() < 0.5:
        s.reach(s.between(18, 28) * KMH, s.between(0.8, 1.6))
        s.turn(s.side() * s.between(1.2, 2.3), s.between(60, 100))
        s.reach(s.between(30, 50) * KMH, s.between(0.8, 1.6))
        s.cruise(s.between(5, 15))
    if s.rng.random() < 0.75:
        s.stop(s.between(0.8, 1.9), s.between(3, 35))


def stop_and_go(s: Script) -> None:
    """A queue that creeps."""
    s.note("stop_and_go")
    for _ in range(int(s.rng.integers(3, 8))):
        s.reach(s.between(5, 22) * KMH, s.between(0.6, 1.7))
        s.cruise(s.between(1, 5))
        s.stop(s.between(0.7, 1.9), s.between(1.5, 8))


def firm_stop(s: Script) -> None:
    """A stop that feels firm and is not harsh."""
    s.reach(s.between(40, 70) * KMH, s.between(1.2, 2.0))
    s.cruise(s.between(5, 12))
    s.note("firm_stop")
    s.stop(s.between(1.9, 2.2), s.between(3, 15))


def roundabout(s: Script) -> None:
    """Right, left round the island, right."""
    s.reach(s.between(18, 26) * KMH, s.between(0.9, 1.6))
    s.turn(-s.between(1.2, 1.9), 35)
    s.turn(s.between(1.5, 2.3), s.between(100, 200))
    s.turn(-s.between(1.2, 1.9), 35)
    s.reach(s.between(35, 50) * KMH, s.between(0.9, 1.6))


def speed_bump(s: Script) -> None:
    """Slow down and roll over it."""
    s.reach(s.between(12, 28) * KMH, s.between(0.9, 1.7))
    s.shock("speed_bump", s.between(1.0, 2.0), s.between(2.0, 5.0))
    s.cruise(s.between(3.5, 5))
    s.reach(s.between(30, 45) * KMH, s.between(0.8, 1.6))


def pothole(s: Script) -> None:
    """Hit a hole at speed."""
    s.reach(s.between(35, 75) * KMH, s.between(0.9, 1.7))
    s.cruise(s.between(3, 6))
    s.shock("pothole", s.between(1.0, 2.0), s.between(1.0, 2.4) * 9.81)
    s.cruise(s.between(3, 10))


def door(s: Script) -> None:
    """Let somebody out."""
    s.reach(s.between(25, 40) * KMH, 1.3)
    s.reach(0.0, s.between(0.9, 1.7))
    s.shock("door_slam", 4.0, s.between(4.0, 14.0))
    s.stand(s.between(8, 15))


def kerb(s: Script) -> None:
    """Park on the pavement."""
    s.reach(s.between(25, 40) * KMH, 1.3)
    s.reach(s.between(6, 14) * KMH, 1.4)
    s.shock("kerb", s.between(0.8, 1.4), s.between(6.0, 18.0))
    s.cruise(2.5)
    s.stop(1.5, s.between(5, 12))


def knock(s: Script) -> None:
    """Somebody's knee, or a bag, against the box."""
    s.cruise(s.between(3, 6))
    s.shock("knock", 0.5, s.between(10.0, 60.0))
    s.cruise(s.between(3, 6))


def dropped(s: Script) -> None:
    """The box falls from its holder and is put back."""
    s.stop(1.5, 3.0)
    s.shock("dropped_box", 1.0, s.between(40.0, 150.0))
    s.stand(s.between(8, 15))


def emergency(s: Script) -> None:
    """Stop with all that the tyres give."""
    s.reach(s.between(50, 90) * KMH, 1.8)
    s.cruise(s.between(5, 9))
    s.pulse(-s.between(8.5, 10.0), 4.0, 0.0, 40.0)
    s.stop(3.0, s.between(3, 8))


def country_road(s: Script) -> None:
    """Bends at 60-90 km/h."""
    s.reach(s.between(60, 90) * KMH, s.between(0.9, 1.8))
    s.cruise(s.between(20, 50))
    s.turn(s.side() * s.between(1.0, 2.4), s.between(15, 50))
    s.cruise(s.between(10, 30))


def motorway_leg(s: Script) -> None:
    """Cruise at the limit and change lanes."""
    s.reach(s.between(95, 122) * KMH, s.between(0.7, 1.8))
    s.cruise(s.between(30, 120))
    s.swerve(s.side() * s.between(0.5, 1.6), s.between(4, 7))
    s.cruise(s.between(20, 60))
    if s.rng.random() < 0.4:
        s.reach(s.between(75, 95) * KMH, s.between(0.8, 1.9))
        s.cruise(s.between(5, 20))


def harsh_brake(s: Script) -> None:
    """Brake hard: from just noticeable to an emergency stop."""
    s.reach(s.between(45, 100) * KMH, s.between(1.2, 2.0))
    s.cruise(s.between(6, 12))
    force = float(np.exp(s.between(np.log(2.3), np.log(9.0))))
    s.pulse(-force, s.between(0.8, 2.6), 0.0 if force > 6 else 3.0, s.between(8, 25))
    s.reach(max(s.speed, 4.0), 1.5, 6.0)
    s.cruise(s.between(3, 9))


def harsh_launch(s: Script) -> None:
    """Floor the pedal, from a standstill or rolling."""
    if s.rng.random() < 0.5:
        s.stop(1.6, s.between(2, 8))
    else:
        s.reach(s.between(12, 30) * KMH, 1.4)
        s.cruise(s.between(3, 6))
    force = s.between(2.3, 5.0)
    s.pulse(force, s.between(1.8, 3.6), s.speed + 14.0, s.between(5, 15))
    s.reach(s.speed, 0.9, 6.0)
    s.cruise(s.between(6, 12))


def harsh_corner(s: Script) -> None:
    """Take a bend too fast."""
    s.reach(s.between(38, 75) * KMH, s.between(1.0, 2.0))
    s.cruise(s.between(6, 10))
    s.turn(s.side() * s.between(2.6, 7.0), s.between(40, 110))
    s.cruise(s.between(5, 12))


def harsh_swerve(s: Script) -> None:
    """Throw the car into the next lane."""
    s.reach(s.between(60, 105) * KMH, s.between(1.0, 1.9))
    s.cruise(s.between(6, 12))
    s.swerve(s.side() * s.between(2.6, 6.0), s.between(2.2, 3.4))
    s.cruise(s.between(6, 12))


def speeding(s: Script) -> None:
    """Well above the highest limit for a while."""
    s.reach(s.between(126, 165) * KMH, s.between(0.8, 1.6))
    s.cruise(s.between(15, 60))
    s.reach(s.between(100, 118) * KMH, s.between(0.8, 1.5))


def over_rev(s: Script) -> None:
    """Stay in a low gear."""
    s.reach(s.between(50, 60) * KMH, 1.8)
    s.cruise(s.between(5, 9), revs=6350.0)
    s.cruise(8)


def idling(s: Script) -> None:
    """Wait with the engine running."""
    s.stop(1.4, s.between(330, 480))
