"""One simulated drive: the motion, what every sensor said of it, and the truth. The same seed gives the same bytes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np

from agent.blocks import Block, Frames, join_blocks
from agent.clock import iso_utc
from agent.config import config_dir
from drivers.decode.dbc import load_dbc
from drivers.decode.obd import ObdDecoder
from drivers.decode.profile import load_profile
from sim import truth
from sim.carbus import Units, control_units, obd_answers
from sim.crash import NOTE, Collision, collide, happened, known, script_of
from sim.encode import NS_PER_S, encode, take
from sim.roads import Floats, build_road
from sim.scenario import Scenario
from sim.script import Script
from sim.sensors import Box, Fault, Shock, ShockKind, gnss, imu, mounts, random_mount
from sim.vehicle import DT, GRAVITY, Car, Motion, simulate_motion

BUS: Final = "can0"
EPOCH_S: Final = 1_777_593_600  # 2026-05-01T00:00:00Z; seeds fall within the year after it
NEUTRAL_PLACE: Final = (36.65, 117.12)  # deg; a city's middle, nobody's address


@dataclass(frozen=True)
class Drive:
    """What was driven and what was sent: `frames` in the order of the bus, times in ns since the drive began."""

    scenario: str
    seed: int
    utc_start_ns: int
    motion: Motion
    latitude: Floats
    longitude: Floats
    mounts: tuple[tuple[float, Floats], ...]  # from when (s) the box sits how: vehicle axes to box axes
    faults: tuple[Fault, ...]
    shocks: tuple[Shock, ...]
    collisions: tuple[Collision, ...]
    notes: tuple[tuple[float, str], ...]
    frames: Frames

    @property
    def duration_s(self) -> float:
        """Return how long the drive lasts."""
        return len(self.motion.speed) * DT

    @property
    def first_frame_s(self) -> float:
        """Return the time of the first frame, which is 0 for whoever reads the log."""
        return float(self.frames.t[0]) / NS_PER_S

    def blocks(self, batch: int = 65_536) -> Iterator[Block]:
        """Decode the frames as the product does, `batch` at a time: what a replay of the log would give."""
        signals = load_profile("simcar", config_dir()).decoder()
        obd = ObdDecoder()
        for first in range(0, len(self.frames.t), batch):
            part = take(self.frames, slice(first, first + batch))
            # the decoder writes every batch into the same buffer
            yield join_blocks([signals.decode(part, [BUS]).copy(), obd.decode(part)])

    @cached_property
    def events(self) -> list[truth.TruthEvent]:
        """Find every event by the published rules in the true motion."""
        found = truth.harsh_events(self.motion) + truth.lasting_events(self.motion, truth.Rules())
        return sorted(found, key=lambda e: e.t_s)

    def truth(self) -> dict[str, Any]:
        """Return all that truth.json says; times in s count from the log's first frame."""
        zero = self.first_frame_s

        def t(seconds: float) -> float:
            return round(seconds - zero, 3)

        rate = np.bincount(self.frames.id, minlength=0x800)
        ids = np.flatnonzero(rate)
        return {
            "scenario": self.scenario,
            "seed": self.seed,
            "start_utc": iso_utc(self.utc_start_ns + self.frames.t[0]),
            "duration_s": round(self.duration_s - zero, 3),
            "frames": len(self.frames.t),
            "frames_by_id": {f"{i:03X}": int(rate[i]) for i in ids.tolist()},
            "distance_m": round(float(self.motion.distance[-1]), 1),
            "max_speed_mps": round(float(self.motion.speed.max()), 2),
            "mount": _axes(self.mounts[0][1]),
            "mounts": [{"from_t_s": t(since), **_axes(mount)} for since, mount in self.mounts],
            "trips": [
                {"start_t_s": t(a), "end_t_s": t(b), "distance_m": self._distance(a, b)}
                for a, b in truth.trips(self.motion)
            ],
            "stops": [{"start_t_s": t(a), "end_t_s": t(b)} for a, b in truth.stops(self.motion)],
            "events": [
                {
                    "kind": e.kind,
                    "t_s": t(e.t_s),
                    "duration_s": e.duration_s,
                    "peak": e.peak,
                    "unit": e.unit,
                    "speed_before_mps": e.speed_before_mps,
                    "severity": e.severity,
                    "severities": e.severities,
                    "either": len(e.severities) > 1,
                }
                for e in self.events
            ],
            "crashes": [c.told(zero) for c in self.collisions],
            "non_events": [
                *({"kind": s.kind, "t_s": t(s.t_s), "size": round(s.size, 2)} for s in self.shocks),
                *({"kind": what, "t_s": t(at)} for at, what in self.notes if what not in (*get_args(ShockKind), NOTE)),
                *({"kind": "hill", "t_s": t(a), "end_t_s": t(b)} for a, b in truth.hills(self.motion)),
                *(
                    {"kind": f.kind, "t_s": t(f.start_s), "end_t_s": t(f.end_s), "size": round(f.size, 2)}
                    for f in self.faults
                ),
            ],
        }

    def _distance(self, start_s: float, end_s: float) -> float:
        last = len(self.motion.distance) - 1
        a, b = min(round(start_s / DT), last), min(round(end_s / DT), last)
        return round(float(self.motion.distance[b] - self.motion.distance[a]), 1)


def simulate(name: str, seed: int, minutes: float | None = None, start_utc_s: float | None = None) -> Drive:
    """Drive the scenario called `name` once, at a seeded time of the year or at `start_utc_s`.

    Raises ConfigError for a name that is not known.
    """
    what = known(name)
    rng = np.random.default_rng([seed, *name.encode()])
    script = script_of(name, what.minutes if minutes is None else minutes, rng)
    longest_s = script.elapsed_s * 1.5 + 120.0
    road = build_road(what.terrain, longest_s * 45.0, rng)
    car = _some_car(rng)
    motion, starts = simulate_motion(script.phases(), road, car, longest_s, rng)
    contact_s = next((float(starts[i]) for i, text in script.notes if text == NOTE and starts[i] >= 0), None)
    collisions = happened(name, contact_s, motion, rng)
    motion, *impact = collide(motion, collisions, rng)
    faults = _strew(what, len(motion.speed) * DT, rng)
    shocks = _placed(script, starts)
    box = _some_box(rng, bool(collisions))
    units = _some_units(rng, what.talks)
    ambient = float(np.round(rng.uniform(-5.0, 33.0)))
    seeded_start_s = _start(what, rng)
    utc_start_s = seeded_start_s if start_utc_s is None else start_utc_s
    latitude, longitude = track(motion, rng)
    held = mounts(box, faults, rng)
    sent = imu(motion, box, held, shocks, faults, ambient, rng, (impact[0], impact[1]) if collisions else None)
    sent += gnss(motion, box, faults, latitude, longitude, utc_start_s, rng)
    if units.talks:
        sent += control_units(motion, units, faults, ambient, rng)
    answers = obd_answers(motion, units, faults, ambient, rng)
    frames = encode(load_dbc(dbc_path()), sent, answers)
    notes = tuple((float(starts[i]), text) for i, text in script.notes if i < len(starts) and starts[i] >= 0)
    return Drive(
        scenario=name,
        seed=seed,
        utc_start_ns=round(utc_start_s * NS_PER_S),
        motion=motion,
        latitude=latitude,
        longitude=longitude,
        mounts=tuple(held),
        faults=tuple(faults),
        shocks=tuple(shocks),
        collisions=tuple(collisions),
        notes=notes,
        frames=frames,
    )


def dbc_path() -> Path:
    """Return the virtual car's bus database."""
    return config_dir() / "dbc" / "simcar.dbc"


def track(motion: Motion, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Lay the path on the WGS-84 ellipsoid: latitude and longitude in degrees at every step."""
    turn = rng.uniform(0, 2 * np.pi)  # the first street may run anywhere
    east = motion.east * np.cos(turn) - motion.north * np.sin(turn)
    north = motion.east * np.sin(turn) + motion.north * np.cos(turn)
    motion.heading[:] -= turn  # compass: the path was turned to the left
    lat0 = NEUTRAL_PLACE[0] + rng.uniform(-0.01, 0.01)
    lon0 = NEUTRAL_PLACE[1] + rng.uniform(-0.01, 0.01)
    a, e2 = 6_378_137.0, 6.694379990141e-3
    s2 = np.sin(np.radians(lat0)) ** 2
    meridian = a * (1 - e2) / (1 - e2 * s2) ** 1.5
    latitude = lat0 + np.degrees(north / meridian)
    rad = np.radians(latitude)
    prime = a / np.sqrt(1 - e2 * np.sin(rad) ** 2)
    steps = np.degrees(np.diff(east, prepend=0.0) / (prime * np.cos(rad)))
    return latitude, lon0 + np.cumsum(steps)


def _axes(mount: Floats) -> dict[str, list[float]]:
    """Say the box axes of what the accelerometer reads at rest (up) and of forward."""
    return {
        "gravity": [round(float(x), 4) for x in mount[:, 2]],
        "forward": [round(float(x), 4) for x in mount[:, 0]],
    }


def _some_car(rng: np.random.Generator) -> Car:
    return Car(
        mass_kg=float(rng.uniform(1350, 1850)),
        torque_nm=float(rng.uniform(320, 420)),
        grip=float(rng.uniform(0.85, 0.98)),
        steering_ratio=float(rng.uniform(13.5, 17.0)),
        pitch_gain=float(rng.uniform(0.0040, 0.0065)),
        roll_gain=float(rng.uniform(0.0055, 0.0090)),
        body_hz=float(rng.uniform(1.2, 1.7)),
        damping=float(rng.uniform(0.28, 0.45)),
    )


def _some_box(rng: np.random.Generator, evidence: bool) -> Box:
    """Draw a box; one that is to tell of collisions has a wide and fast accelerometer."""
    box = Box(
        mount=random_mount(rng),
        lever_m=(float(rng.uniform(0.2, 1.0)), float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.1, 0.4))),
        accel_noise=float(rng.uniform(0.02, 0.10)),
        gyro_noise=float(rng.uniform(0.04, 0.2)),
        accel_bias=tuple(rng.normal(0.0, 0.08, 3).tolist()),
        gyro_bias=tuple(rng.normal(0.0, 0.5, 3).tolist()),
        accel_drift=float(rng.normal(0.0, 0.003)),
        accel_range=float(rng.choice([4.0, 8.0, 16.0])) * GRAVITY,
        accel_quantum=float(rng.choice([0.005, 0.01, 0.04, 0.125])),  # the CANmod's sensor has 0.125
        gyro_quantum=float(rng.choice([0.07, 0.25])),
        vibration=float(rng.uniform(0.02, 0.2)),
        rate_hz=float(rng.choice([50.0, 100.0, 100.0, 100.0])),
        gnss_hz=float(rng.choice([1.0, 1.0, 5.0, 10.0])),
        gnss_latency_s=float(rng.uniform(0.06, 0.35)),
        gnss_speed_lag_s=float(rng.uniform(0.05, 0.3)),
        gnss_speed_noise=float(rng.uniform(0.04, 0.15)),
        gnss_position_sigma_m=float(rng.uniform(1.0, 3.5)),
        gnss_first_fix_s=float(rng.uniform(2.0, 40.0)),
    )
    if not evidence:
        return box
    rate_hz, wide = float(rng.choice([100.0, 200.0, 400.0])), float(rng.choice([8.0, 16.0, 16.0])) * GRAVITY
    return replace(box, rate_hz=rate_hz, accel_range=wide, gnss_first_fix_s=8.0)


def _some_units(rng: np.random.Generator, talks: bool) -> Units:
    return Units(
        wheel_scale=float(rng.uniform(-0.012, 0.015)),
        wheel_spread=tuple(rng.normal(0.0, 0.002, 4).tolist()),
        wheel_noise=float(rng.uniform(0.01, 0.04)),
        accel_bias=tuple(rng.normal(0.0, 0.05, 2).tolist()),
        yaw_bias=float(rng.normal(0.0, 0.15)),
        grade_left=float(rng.uniform(0.0, 0.25)),
        steering_offset=float(rng.normal(0.0, 1.0)),
        obd_period_s=1.0 / float(rng.uniform(2.0, 5.0)),
        obd_scale=float(rng.uniform(0.0, 0.01)),
        talks=talks,
    )


def _strew(what: Scenario, duration_s: float, rng: np.random.Generator) -> list[Fault]:
    faults = []
    for trouble in what.trouble:
        expected = trouble.per_hour * duration_s / 3600.0
        count = int(expected) + int(rng.random() < expected % 1.0)
        for _ in range(count):
            start = float(rng.uniform(0.12, 0.95)) * duration_s
            length = float(rng.uniform(*trouble.seconds))
            faults.append(Fault(trouble.kind, start, start + length, float(rng.uniform(*trouble.size))))
    return sorted(faults, key=lambda f: f.start_s)


def _placed(script: Script, starts: Floats) -> list[Shock]:
    return [
        Shock(kind, float(starts[phase]) + after_s, size)
        for phase, kind, after_s, size in script.shocks
        if starts[phase] >= 0
    ]


def _start(what: Scenario, rng: np.random.Generator) -> float:
    """Return a UTC start in s: a seeded day, an hour of the scenario's, local solar time at the place."""
    day = EPOCH_S + 86_400 * int(rng.integers(365))
    solar_hours = float(rng.uniform(*what.hours))
    return round(day + 3600.0 * (solar_hours - NEUTRAL_PLACE[1] / 15.0), 3)
