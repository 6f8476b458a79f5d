"""Collisions of the virtual car: from where, how hard, in which shape, and what the car does afterwards.

A collision changes the car's velocity by a pulse, leaves it spinning or rolling, and lets its structure ring; then
it brakes or slides to a standstill. Axes are ISO 8855 (x forward, y left, z up); directions are where the force comes
from, in degrees clockwise from the front, as an accident record names them. Nothing here knows of detection.
"""

from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from agent.errors import ConfigError, near_names
from sim.roads import Floats
from sim.scenario import SCENARIOS, Scenario, write_script
from sim.script import KMH, Script, city_block, country_road
from sim.vehicle import DT, Motion

Shape = Literal["half-sine", "haversine", "square", "triangle", "barrier"]
SHAPES: Final[tuple[Shape, ...]] = ("half-sine", "haversine", "square", "triangle", "barrier")
REBOUND: Final = 0.12  # of a barrier test's velocity change: 7 of 57 km/h in NHTSA 10146
FUEL_CUT_MPS: Final = 25 * KMH  # from such a change on the engine is cut off
NOTE: Final = "collision"
CONTACT_S: Final = 1.0  # after the phase began that the note marks


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of collision; ranges are uniform, speeds and changes in km/h."""

    name: str
    what: str
    speed_kmh: tuple[float, float]  # before; 0 stands
    change_kmh: tuple[float, float]
    from_deg: tuple[float, float]
    seconds: tuple[float, float] = (0.07, 0.14)
    shapes: tuple[Shape, ...] = SHAPES
    spin_dps: float = 0.0  # largest
    roll_deg: tuple[float, float] = (0.0, 0.0)
    slows_mps2: float = 5.0  # afterwards
    parked: bool = False
    brakes_before: bool = False
    again_s: float | None = None  # a second collision so long after the first


KINDS: Final[dict[str, Kind]] = {
    k.name: k
    for k in (
        Kind(
            "crash", "an accident at 50: into the car ahead, at the end of a short drive", (46, 56), (27, 34), (-8, 8)
        ),
        Kind("crash-frontal", "head-on, from a bump at 20 to a wall at 60", (20, 64), (12, 66), (-12, 12), spin_dps=20),
        Kind(
            "crash-oblique",
            "a corner of the front hits",
            (30, 70),
            (16, 50),
            (-50, 50),
            spin_dps=90,
            brakes_before=True,
        ),
        Kind(
            "crash-right",
            "hit in the right side at a crossing",
            (15, 50),
            (11, 35),
            (70, 110),
            (0.05, 0.11),
            spin_dps=90,
        ),
        Kind(
            "crash-left",
            "hit in the left side at a crossing",
            (15, 50),
            (11, 35),
            (250, 290),
            (0.05, 0.11),
            spin_dps=90,
        ),
        Kind("crash-rear", "hit from behind while it waits at a light", (0, 0), (10, 32), (172, 188), (0.09, 0.16)),
        Kind(
            "crash-swipe",
            "another car scrapes along the side",
            (60, 100),
            (9, 13),
            (75, 100),
            (0.10, 0.14),
            ("half-sine", "haversine"),
            spin_dps=25,
            slows_mps2=2.5,
        ),
        Kind(
            "crash-rollover",
            "off the road and over",
            (55, 90),
            (10, 20),
            (60, 100),
            (0.12, 0.2),
            ("haversine",),
            spin_dps=60,
            roll_deg=(80, 180),
        ),
        Kind(
            "crash-pair",
            "into the car ahead, and three seconds later hit from behind",
            (50, 80),
            (15, 25),
            (-8, 8),
            again_s=3.0,
        ),
        Kind(
            "parked-hit",
            "somebody backs into the parked car; its brakes hold it",
            (0, 0),
            (1.5, 4.0),
            (0, 360),
            (0.05, 0.09),
            ("half-sine",),
            parked=True,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Collision:
    """One collision as it happened; the car's own numbers, in its axes."""

    kind: str
    t_s: float  # first contact
    speed_before_mps: float
    forward_mps: float  # change of velocity
    left_mps: float
    seconds: float
    shape: Shape
    spin_dps: float  # left positive
    roll_deg: float  # left side up positive
    slows_mps2: float
    ring_mps2: float  # of the structure, decays with the pulse

    def told(self, zero_s: float) -> dict[str, Any]:
        """Say it as truth.json does; `zero_s` is the log's first frame."""
        direction = float(np.degrees(np.arctan2(self.left_mps, -self.forward_mps))) % 360.0
        return {
            "kind": self.kind,
            "t_s": round(self.t_s - zero_s, 3),
            "speed_before_mps": round(self.speed_before_mps, 2),
            "delta_v_longitudinal_mps": round(self.forward_mps, 3),
            "delta_v_lateral_mps": round(self.left_mps, 3),
            "delta_v_mps": round(float(np.hypot(self.forward_mps, self.left_mps)), 3),
            "direction_deg": round(direction, 1),
            "direction_clock": round(direction / 30.0) % 12 or 12,
            "seconds": round(self.seconds, 4),
            "shape": self.shape,
            "roll_deg": round(self.roll_deg, 1),
        }


def names() -> list[str]:
    """Name everything that can be driven: everyday scenarios first, then those that end in a collision."""
    return [*SCENARIOS, *KINDS]


def known(name: str) -> Scenario:
    """Return the everyday scenario that `name` is, or the drive that ends in its collision."""
    if name in SCENARIOS:
        return SCENARIOS[name]
    if name not in KINDS:
        near = near_names(name, names())
        raise ConfigError(f"scenario '{name}' is not known{near}; see `roadwitness sim scenarios`")
    return Scenario(name, KINDS[name].what, 6.0, {city_block: 2, country_road: 1}, cautious_s=0.0)


def script_of(name: str, minutes: float, rng: np.random.Generator) -> Script:
    """Write the drive; one of a collision ends with it, stands for a minute and a half, and is switched off."""
    if name in SCENARIOS:
        return write_script(SCENARIOS[name], minutes, rng)
    kind = KINDS[name]
    s = Script(rng)
    s.stand(s.between(8, 20))
    # something of everything, so that the box learns how it sits
    while s.elapsed_s < minutes * 60.0 - 110.0 - s.speed / 1.5:
        (city_block if rng.random() < 0.6 else country_road)(s)
    if kind.speed_kmh[1] == 0.0:
        s.stop(1.4, 8.0)
        if kind.parked:
            s.park(s.between(60, 90))
    else:
        s.reach(s.between(*kind.speed_kmh) * KMH, s.between(1.0, 1.8))
        s.cruise(s.between(5, 9))
        if kind.brakes_before:
            s.pulse(-s.between(4, 8), s.between(0.4, 0.9), 3.0, 20.0)
    s.note(NOTE)
    (s.park if kind.parked else s.stand if s.speed == 0.0 else s.cruise)(CONTACT_S + 1.0)
    if kind.parked:
        s.park(60.0)
        return s
    s.stop(7.0, 85.0)
    s.park(20.0)
    return s


def happened(name: str, at_s: float | None, motion: Motion, rng: np.random.Generator) -> list[Collision]:
    """Draw the collisions of a drive whose contact phase began at `at_s`."""
    kind = KINDS.get(name)
    if kind is None or at_s is None:
        return []
    t_s = at_s + CONTACT_S
    speed = float(motion.speed[min(int(t_s / DT), len(motion.speed) - 1)])
    change = rng.uniform(*kind.change_kmh) * KMH
    towards = np.radians(rng.uniform(*kind.from_deg))
    shape: Shape = kind.shapes[int(rng.integers(len(kind.shapes)))]
    forward = -float(np.cos(towards)) * change
    # nothing is thrown back faster than by a wall, and by a car ahead not at all
    forward = max(forward, -speed * (1.0 + REBOUND if shape == "barrier" else 1.0))
    first = Collision(
        kind="parked_hit" if kind.parked else "rollover" if kind.roll_deg[1] else "collision",
        t_s=t_s,
        speed_before_mps=speed,
        forward_mps=forward,
        left_mps=float(np.sin(towards)) * change,
        seconds=float(rng.uniform(*kind.seconds)),
        shape=shape,
        spin_dps=float(rng.uniform(-kind.spin_dps, kind.spin_dps)),
        roll_deg=float(rng.uniform(*kind.roll_deg)) * float(rng.choice([-1.0, 1.0])),
        slows_mps2=kind.slows_mps2,
        ring_mps2=float(rng.uniform(0.1, 0.35)) * change / 0.1,
    )
    if kind.again_s is None:
        return [first]
    left = max(0.0, speed + forward - kind.slows_mps2 * (kind.again_s - first.seconds))
    again = float(rng.uniform(*kind.change_kmh)) * KMH
    second = replace(
        first, t_s=t_s + kind.again_s, speed_before_mps=left, forward_mps=again, left_mps=0.0, spin_dps=0.0
    )
    return [first, second]


def collide(motion: Motion, collisions: list[Collision], rng: np.random.Generator) -> tuple[Motion, Floats, Floats]:
    """Let the collisions happen: the motion as it was then, and what the body feels beyond that motion.

    The two others are float64[3, n]: specific force in m/s² and angular velocity in rad/s, to be added to what
    follows from the motion.
    """
    n = len(motion.speed)
    force, turn = np.zeros((3, n)), np.zeros((3, n))
    for hit in collisions:
        motion = _after(motion, hit, force, turn, rng)
    return motion, force, turn


def _after(motion: Motion, hit: Collision, force: Floats, turn: Floats, rng: np.random.Generator) -> Motion:
    n = len(motion.speed)
    first = min(round(hit.t_s / DT), n - 2)
    tau: Floats = np.arange(1, n - first + 1, dtype=np.float64) * DT
    pulse = pulse_of(hit.shape, tau, hit.seconds)
    gained = np.cumsum(pulse) * DT
    before = float(motion.speed[first - 1]) if first else 0.0
    held = hit.kind == "parked_hit"  # its brakes and tyres bring it back
    back = pulse_of("haversine", tau - hit.seconds, 2 * hit.seconds) if held else 0.0 * pulse
    pushed = hit.forward_mps * (gained - np.cumsum(back) * DT)
    slowing = hit.slows_mps2 * np.maximum(tau - hit.seconds, 0.0)
    coasting = np.maximum(before + pushed - (0.0 if held else slowing), 0.0)
    stopped = np.flatnonzero((coasting < 0.01) & (tau > hit.seconds))
    speed = motion.speed.copy()
    old = motion.speed[first:]
    # from where the car stands in both, the driver goes on
    joins = np.flatnonzero((old < 0.01) & (np.arange(len(old)) >= (stopped[0] if len(stopped) else len(old))))
    end = int(joins[0]) if len(joins) else len(old)
    new = np.where(np.arange(len(old)) < end, coasting, old)
    if len(stopped):
        new[stopped[0] : end] = 0.0
    speed[first:] = new
    longitudinal = np.diff(speed, prepend=0.0) / DT
    course = motion.heading.copy()  # the car slides on, whichever way it points
    slide = hit.left_mps * (gained - np.cumsum(back) * DT) * np.exp(-np.maximum(tau - hit.seconds, 0.0) / 0.6)
    slide *= (tau < hit.seconds) | (new > 0.01) | held
    east, north = motion.east.copy(), motion.north.copy()
    distance = motion.distance.copy()
    mean = (speed[first:] + np.concatenate([[before], speed[first:-1]])) / 2
    for path, along, across in ((east, np.sin(course), -np.cos(course)), (north, np.cos(course), np.sin(course))):
        steps = mean * along[first:] + slide * across[first:]
        path[first:] = path[first - 1] + np.cumsum(steps) * DT
    distance[first:] = distance[first - 1] + np.cumsum(mean) * DT

    ring = hit.ring_mps2 * np.exp(-tau / hit.seconds) * (tau < 0.6)
    for axis, share in enumerate((1.0, 1.0, 0.8)):
        tone = np.sin(2 * np.pi * rng.uniform(28, 70) * tau + rng.uniform(0, 2 * np.pi))
        force[axis, first:] += share * ring * (tone - tone[0] * np.exp(-tau / 0.01))
    inside = tau <= hit.seconds * (3.2 if held else 1.6)
    force[0, first:] += np.where(inside, hit.forward_mps * (pulse - back) - longitudinal[first:], 0.0)
    force[1, first:] += np.where(inside, hit.left_mps * (pulse - back), 0.0)

    spin = np.radians(hit.spin_dps) * gained * np.exp(-np.maximum(tau - hit.seconds, 0.0) / 0.5)
    over = np.radians(hit.roll_deg) * np.clip(tau / 1.6, 0.0, 1.0) ** 2 * (3 - 2 * np.clip(tau / 1.6, 0.0, 1.0))
    turn[0, first:] += np.gradient(over, DT)
    turn[2, first:] += spin
    heading = motion.heading.copy()
    heading[first:] -= np.cumsum(spin) * DT
    roll = motion.roll.copy()
    roll[first:] += over
    hard = float(np.hypot(hit.forward_mps, hit.left_mps)) >= FUEL_CUT_MPS
    rpm, pedal, brake = motion.rpm.copy(), motion.pedal.copy(), motion.brake.copy()
    if not held:
        pedal[first : first + end] = 0.0
        brake[first : first + end] = np.where(tau[:end] > 0.25, 45.0, brake[first : first + end])
        rpm[first:] = rpm[first:] * np.exp(-tau / 0.4) if hard else rpm[first:]
    return replace(
        motion,
        speed=speed,
        longitudinal=longitudinal,
        heading=heading,
        east=east,
        north=north,
        distance=distance,
        roll=roll,
        rpm=rpm,
        pedal=pedal,
        brake=brake,
        yaw_rate=np.where(np.arange(n) >= first, motion.yaw_rate * (speed > 0.01), motion.yaw_rate),
    )


def pulse_of(shape: Shape, tau: Floats, seconds: float) -> Floats:
    """Return the share of the velocity change that a pulse gives per second, at steps `tau` s after contact."""
    x = tau / seconds
    match shape:
        case "half-sine":
            form = np.sin(np.pi * x)
        case "haversine":
            form = 1.0 - np.cos(2 * np.pi * x)
        case "triangle":
            form = np.minimum(x, 1.0 - x)
        case "square":
            form = np.minimum(np.minimum(x, 1.0 - x) / 0.08, 1.0)
        case "barrier":  # the front gives way in steps
            form = np.sin(np.pi * x) * (1.0 + 0.35 * np.sin(3 * np.pi * x))
    form = np.where((x > 0.0) & (x < 1.0), form, 0.0)
    total = float(form.sum()) * DT
    return np.asarray(form / total if total else form)
