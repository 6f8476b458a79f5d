"""Cars for tests of power management: what their wires say, second by second, and what the power state makes of it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from agent.blocks import BLOCK, Block
from agent.channels import number
from agent.clock import NS_PER_S
from agent.power.machine import Change, PowerState
from agent.power.settings import PowerRules

S = NS_PER_S
WIRES = {
    "rpm": "Obd.EngineSpeed",
    "speed": "Obd.Speed",
    "module_volts": "Obd.ControlModuleVoltage",
    "volts": "Power.Voltage",
    "ignition": "Power.Ignition",
    "gnss": "Gnss.Speed",
    "frames": "Vehicle.Chassis.SteeringWheel.Angle",  # a bus that speaks by itself
}
POLLED = ("rpm", "speed", "module_volts")  # said only to those who ask
IMU_HZ = 25
AXES = [number(f"Imu.Acceleration.{axis}") for axis in "XYZ"]
Value = float | Callable[[float], float | None] | None


class Life:
    """One car's life at 1 Hz on the clock of `now_s`; polled values fall silent while the box lets the car sleep."""

    def __init__(self, rules: PowerRules | None = None, seed: int = 1) -> None:
        self.power = PowerState(rules or PowerRules(), 1000 * S)
        self.changes: list[Change] = []
        self.now_s = 1000
        self._rng = np.random.default_rng(seed)

    def samples(self, shake: Value, **wires: Value) -> Block:
        """Return what is said in the second that begins now."""
        begun_ns, t_s = self.now_s * S, float(self.now_s)
        said: list[tuple[int, int, float]] = []
        for wire, value in wires.items():
            now = value(t_s) if callable(value) else value
            if now is None or (wire in POLLED and self.power.asleep):
                continue
            noise = self._rng.normal(0.0, 0.03) if wire == "volts" else 0.0
            said.append((begun_ns + len(said), number(WIRES[wire]), now + noise))
        rms = shake(t_s) if callable(shake) else shake
        told = np.array(said, BLOCK)
        if rms is None:
            return told
        inertial = np.empty((IMU_HZ, 3), BLOCK)
        inertial["t"] = (begun_ns + 1000 + np.arange(IMU_HZ) * S // IMU_HZ)[:, None]
        inertial["channel"] = AXES
        inertial["value"] = self._rng.normal((0.0, 0.0, 9.81), rms / 3**0.5, (IMU_HZ, 3))
        return np.concatenate((told, inertial.ravel()))

    def goes_on(self, seconds: int, shake: Value = None, every_s: int = 1, **wires: Value) -> "Life":
        """Live on for `seconds` with these values; a value may be a function of the time in seconds."""
        for _ in range(0, seconds, every_s):
            self.power.take(self.samples(shake, **wires))
            self.now_s += every_s
            change = self.power.step(self.now_s * S)
            if change is not None:
                self.changes.append(change)
        return self

    def until(self, state: str, at_most: int, shake: Value = None, every_s: int = 1, **wires: Value) -> int:
        """Live on until the state is reached; return after how many seconds."""
        for second in range(0, at_most, every_s):
            if self.power.state == state:
                return second
            self.goes_on(every_s, shake, every_s, **wires)
        assert self.power.state == state, (self.power.state, self.changes[-3:])
        return at_most

    @property
    def states(self) -> list[str]:
        """Every state that was entered, in order."""
        return [c.state for c in self.changes]


DRIVING: dict[str, Any] = {"rpm": 1800.0, "speed": 14.0, "gnss": 14.0, "shake": 0.45}
OFF: dict[str, Any] = {"volts": 12.6, "gnss": 0.05, "shake": 0.03}
