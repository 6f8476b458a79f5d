"""A small collision as samples, and a crash detector as simple as can be, for tests of what is made of a crash.

The detector here has the interface of agent.crash.detector: a crash when the x axis exceeds 50 m/s², known 50 ms after
time zero, complete a second after it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agent.blocks import Block, join_blocks, make_block
from agent.channels import number
from agent.records import Crash, Event, Mount, incident_id
from agent.state import State

S = 1_000_000_000
MS = 1_000_000
BOOT = "b" * 32
X, Y, Z = (number(f"Imu.Acceleration.{axis}") for axis in "XYZ")
HIT_MPS2 = 50.0


def crash_at(t0_ns: int, *, complete: bool = False, boot: str = BOOT, **given: Any) -> Crash:
    """Return a frontal crash at `t0_ns`."""
    values: dict[str, Any] = {
        "id": incident_id(boot, t0_ns),
        "kind": "impact",
        "t_ns": t0_ns,
        "known_ns": t0_ns + 50 * MS,
        "complete": complete,
        "locked": False,
        "number": 1,
        "since_previous_ns": None,
        "delta_v_longitudinal_mps": None,
        "delta_v_lateral_mps": None,
        "delta_v_mps": 12.5 if complete else 3.0,
        "delta_v_max_ns": None,
        "direction_deg": None,
        "direction_clock": None,
        "peak_mps2": 196.0,
        "clipped": False,
        "roll_deg": None,
        "curve_step_ms": 10,
        "curve_longitudinal_cmps": [],
        "curve_lateral_cmps": [],
        "speed_before_mps": None,
        "speed_after_mps": None,
        "confirmed_by": [],
        "sensors": ["imu"],
        "rate_hz": 200.0,
        "mount_confidence": 0.9,
        "rule": "stub/1",
    }
    return Crash(**(values | given))


class StubDetector:
    """As agent.crash.detector.CrashDetector, without physics."""

    def __init__(self, settings: object, boot: str, mount: Mount | None = None) -> None:
        self._boot = boot
        self._t0_ns: int | None = None
        self._told = False
        self.counts: dict[str, int] = {}

    def mount_known(self, mount: Mount) -> None:
        pass

    def step(self, block: Block, rows: State) -> list[Crash | Event]:
        found: list[Crash | Event] = []
        own = block[block["channel"] == X]
        for t, value in zip(own["t"].tolist(), own["value"].tolist(), strict=True):
            if self._t0_ns is None:
                if abs(value) > HIT_MPS2:
                    self._t0_ns, self._told = t, False
                continue
            if not self._told and t >= self._t0_ns + 50 * MS:
                self._told = True
                found.append(crash_at(self._t0_ns, boot=self._boot))
            if t >= self._t0_ns + S:
                found += self.finish()
        return found

    def finish(self) -> list[Crash | Event]:
        if self._t0_ns is None or not self._told:
            return []
        found: list[Crash | Event] = [crash_at(self._t0_ns, complete=True, boot=self._boot)]
        self._t0_ns = None
        return found


def collision(
    hits_s: Sequence[float] = (70.0,), until_s: float = 90.0, *, start_s: float = 0.0, imu_hz: int = 200
) -> Block:
    """Return the samples of a car at 15 m/s that hits something 20 g hard, and stands after the first hit.

    Inertial at `imu_hz`, the car's own signals at 10 Hz, OBD at 4 Hz, fixes at 1 Hz that come 0.13 s after the second.
    """
    t = np.arange(start_s, until_s, 1 / imu_hz)
    x = np.sin(t * 40.0) * 0.2
    for hit in hits_s:
        phase = (t - hit) / 0.1
        x = np.where((phase >= 0) & (phase < 1), -196.0 * np.sin(np.pi * np.clip(phase, 0, 1)), x)
    stop = hits_s[0] if hits_s else until_s
    car_t = np.arange(start_s, until_s, 0.1)
    speed = np.where(car_t < stop, 15.0, 0.0)
    obd_t = np.arange(start_s + 0.01, until_s, 0.25)
    fix_t = np.arange(start_s + 0.13, until_s, 1.0)
    east_m = 15.0 * np.minimum(fix_t, stop)
    return join_blocks(
        [
            channel(X, t, x),
            channel(Y, t, np.cos(t * 30.0) * 0.2),
            channel(Z, t, 9.81 + np.sin(t * 50.0) * 0.1),
            channel(number("Imu.AngularVelocity.Z"), t, np.sin(t)),
            channel(number("Vehicle.Speed"), car_t, speed),
            channel(number("Vehicle.Chassis.Brake.IsPressed"), car_t, (car_t > stop - 1.0).astype(float)),
            channel(number("Obd.EngineSpeed"), obd_t, 1800.0 + 10.0 * (obd_t % 7)),
            channel(number("Gnss.Latitude"), fix_t, np.full(len(fix_t), 30.0)),
            channel(number("Gnss.Longitude"), fix_t, 114.0 + east_m / 96_000.0),
            channel(number("Gnss.Speed"), fix_t, np.where(fix_t < stop, 15.0, 0.0)),
            channel(number("Gnss.HorizontalAccuracy"), fix_t, np.full(len(fix_t), 2.5)),
        ]
    )


def channel(of: int, t_s: Any, values: Any) -> Block:
    """Return the samples of one channel."""
    return make_block((round(t * S), of, v) for t, v in zip(t_s.tolist(), values.tolist(), strict=True))


def shifted(block: Block, by_ns: int) -> Block:
    """Return the same samples later."""
    moved = block.copy()
    moved["t"] += by_ns
    return moved


def pieces(block: Block, cuts: Sequence[int]) -> list[Block]:
    """Return the block cut at sample numbers."""
    return [part for part in np.split(block, sorted(c % (len(block) + 1) for c in cuts)) if len(part)]
