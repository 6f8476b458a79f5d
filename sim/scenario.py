"""Scenarios: what is driven, on which roads, and what goes wrong. Data over the blocks of `sim.script`."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from sim.roads import Terrain
from sim.script import (
    Block,
    Script,
    city_block,
    country_road,
    door,
    dropped,
    emergency,
    firm_stop,
    harsh_brake,
    harsh_corner,
    harsh_launch,
    harsh_swerve,
    idling,
    kerb,
    knock,
    motorway_leg,
    over_rev,
    pothole,
    roundabout,
    speed_bump,
    speeding,
    stop_and_go,
)
from sim.sensors import FaultKind


@dataclass(frozen=True, slots=True)
class Trouble:
    """Faults to strew over a drive: how often per hour, how long, how large; ranges are uniform."""

    kind: FaultKind
    per_hour: float
    seconds: tuple[float, float]
    size: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of drive: blocks with their weights, terrain, trouble, and when it starts (local solar hours)."""

    name: str
    what: str
    minutes: float
    blocks: dict[Block, float]
    once: tuple[Block, ...] = ()  # happens once at a random place
    terrain: Terrain = field(default_factory=Terrain)
    trouble: tuple[Trouble, ...] = ()
    hours: tuple[float, float] = (7.0, 19.0)
    park_minutes: tuple[float, float] | None = None  # an errand: ignition off half-way
    talks: bool = True  # the vehicle bus can be read, not only OBD
    cautious_s: float = 120.0  # at the start nothing harsh happens: it takes a while to leave a car park


_TUNNELS: Final = Trouble("gnss_gap", 3.0, (15.0, 90.0))
_URBAN_JUMPS: Final = Trouble("gnss_jump", 4.0, (3.0, 12.0), (15.0, 60.0))

_COMMUTE: Final[dict[Block, float]] = {
    city_block: 3,
    stop_and_go: 1,
    firm_stop: 1,
    roundabout: 0.7,
    country_road: 1,
    speed_bump: 0.7,
    pothole: 1,
    door: 0.3,
    harsh_brake: 5,
    harsh_launch: 4,
    harsh_corner: 4,
    harsh_swerve: 2,
    over_rev: 0.3,
}

SCENARIOS: Final[dict[str, Scenario]] = {
    s.name: s
    for s in (
        Scenario(
            "calm-city",
            "lights, queues, bumps and turns; nothing harsh on purpose",
            25,
            {city_block: 5, stop_and_go: 1, firm_stop: 1, roundabout: 1, speed_bump: 0.7, pothole: 0.5, door: 0.5},
            trouble=(_URBAN_JUMPS,),
        ),
        Scenario(
            "commute",
            "harsh events of every kind and severity among everyday traffic, an errand, one long idle",
            40,
            _COMMUTE,
            once=(idling,),
            trouble=(Trouble("gnss_gap", 1.0, (10.0, 40.0)), Trouble("gnss_jump", 1.0, (3.0, 8.0), (15.0, 40.0))),
            park_minutes=(8.0, 12.0),
        ),
        Scenario(
            "motorway",
            "long legs at the limit, tunnels, speeding, sudden braking and lane changes",
            35,
            {motorway_leg: 5, speeding: 1, harsh_brake: 1, harsh_swerve: 1, pothole: 0.3},
            once=(speeding,),
            terrain=Terrain(grade=0.02, grade_length_m=1500.0, bend=0.0002, bend_length_m=500.0, roughness=0.25),
            trouble=(_TUNNELS,),
        ),
        Scenario(
            "hills-rough",
            "grades to 10 %, broken asphalt, potholes and bumps, some harsh events",
            30,
            {
                country_road: 3,
                city_block: 1.5,
                pothole: 2,
                speed_bump: 1.5,
                firm_stop: 1,
                harsh_brake: 1.5,
                harsh_launch: 1,
                harsh_corner: 1.5,
            },
            terrain=Terrain(grade=0.05, grade_length_m=300.0, bend=0.0012, bend_length_m=80.0, roughness=1.1),
            trouble=(Trouble("gnss_gap", 1.5, (8.0, 30.0)),),
        ),
        Scenario(
            "rough-road",
            "no accident at all: holes, kerbs, knocks against a loose box, slammed doors, emergency stops",
            40,
            {
                country_road: 3,
                city_block: 2,
                pothole: 4,
                speed_bump: 2,
                kerb: 2,
                knock: 2,
                dropped: 0.5,
                door: 1.5,
                emergency: 1.5,
                harsh_swerve: 1,
            },
            terrain=Terrain(grade=0.04, grade_length_m=300.0, bend=0.0012, bend_length_m=80.0, roughness=1.8),
            trouble=(Trouble("box_loose", 4.0, (10.0, 60.0), (2.0, 12.0)), Trouble("gnss_gap", 1.0, (8.0, 30.0))),
        ),
        Scenario(
            "night",
            "the way home at night, open roads, a few harsh events",
            25,
            {city_block: 2, country_road: 3, roundabout: 0.7, harsh_brake: 1, harsh_corner: 1, harsh_launch: 0.6},
            hours=(22.3, 26.0),
            trouble=(_URBAN_JUMPS,),
        ),
        Scenario(
            "sensor-trouble",
            "harsh events while satellites, inertial sensor and OBD fail in turn and the box is knocked askew",
            40,
            _COMMUTE,
            trouble=(
                Trouble("gnss_gap", 4.0, (10.0, 60.0)),
                Trouble("gnss_jump", 6.0, (3.0, 15.0), (20.0, 120.0)),
                Trouble("imu_stuck", 1.5, (10.0, 40.0)),
                Trouble("imu_clipped", 1.0, (10.0, 30.0), (10.5, 13.0)),
                Trouble("imu_gap", 1.5, (5.0, 30.0)),
                Trouble("obd_stall", 6.0, (2.0, 6.0)),
                Trouble("obd_gap", 2.0, (5.0, 30.0)),
                Trouble("bus_gap", 1.0, (2.0, 10.0)),
                Trouble("box_moved", 0.75, (0.8, 2.0), (30.0, 30.0)),
            ),
        ),
        Scenario(
            "obd-only",
            "the commute in a car whose gateway shows nothing but OBD answers",
            40,
            _COMMUTE,
            trouble=(Trouble("gnss_gap", 1.0, (10.0, 40.0)), Trouble("obd_stall", 1.0, (2.0, 4.0))),
            talks=False,
        ),
    )
}

CALM: Final[frozenset[Block]] = frozenset({city_block, country_road, roundabout, firm_stop, stop_and_go})


def write_script(what: Scenario, minutes: float, rng: np.random.Generator) -> Script:
    """Write what the driver does for about `minutes`: blocks drawn by weight, the errand, and parked at both ends."""
    s = Script(rng)
    blocks = list(what.blocks)
    weights = np.array([what.blocks[b] for b in blocks])
    calm = [b for b in blocks if b in CALM] or [motorway_leg]
    s.stand(s.between(8, 25))
    total = minutes * 60.0
    once = sorted((s.between(0.15, 0.4) * total, i) for i in range(len(what.once)))
    errand = s.between(0.4, 0.6) * total if what.park_minutes and minutes >= 30 else np.inf
    while s.elapsed_s < total - 40.0:
        if s.elapsed_s < min(what.cautious_s, total / 4):
            block = calm[int(rng.integers(len(calm)))]
        elif once and s.elapsed_s >= once[0][0] and total >= 20 * 60.0:
            block = what.once[once.pop(0)[1]]
        elif s.elapsed_s >= errand and what.park_minutes:
            errand = np.inf
            s.stop(1.2, 4.0)
            s.note("errand")
            s.park(60.0 * s.between(*what.park_minutes))
            s.stand(s.between(5, 15))
            continue
        else:
            block = blocks[int(rng.choice(len(blocks), p=weights / weights.sum()))]
        block(s)
    s.stop(1.2, 5.0)
    s.park(30.0)
    return s
