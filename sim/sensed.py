"""From decoded samples to what the box's own sensors and the car's control units say at one moment."""

from collections.abc import Collection, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.blocks import Block
from agent.channels import number

ONE_FIX_NS: Final = 40_000_000  # the messages of one fix follow each other within this; receivers fix at ≤ 20 Hz
STALE_NS: Final = 200_000_000  # an inertial sensor that has said nothing for so long gives no sample
LATITUDE, LONGITUDE = number("Gnss.Latitude"), number("Gnss.Longitude")
FIX_TYPE: Final = number("Gnss.FixType")
GNSS: Final = frozenset(
    number(f"Gnss.{n}")
    for n in ("Latitude", "Longitude", "Speed", "Heading", "Altitude", "HorizontalAccuracy", "FixType", "Satellites")
)
ACCEL: Final = tuple(number(f"Imu.Acceleration.{a}") for a in "XYZ")
GYRO: Final = tuple(number(f"Imu.AngularVelocity.{a}") for a in "XYZ")

# name in sim.elm_car.Car.values -> PID, channels that may give it (the best first), counts of its unit in ours
_ASKED: Final[dict[str, tuple[int, tuple[str, ...], float]]] = {
    "load": (0x04, ("Obd.EngineLoad",), 1.0),
    "coolant": (0x05, ("Obd.CoolantTemperature",), 1.0),
    "intake_pressure": (0x0B, ("Obd.IntakePressure",), 1.0),
    "rpm": (0x0C, ("Vehicle.Powertrain.CombustionEngine.Speed", "Obd.EngineSpeed"), 1.0),
    "speed_kmh": (0x0D, ("Vehicle.Speed", "Obd.Speed"), 3.6),
    "timing": (0x0E, ("Obd.TimingAdvance",), 1.0),
    "intake_air": (0x0F, ("Obd.IntakeAirTemperature",), 1.0),
    "air_flow": (0x10, ("Obd.MassAirFlow",), 1.0),
    "throttle": (0x11, ("Obd.ThrottlePosition",), 1.0),
    "fuel": (0x2F, ("Vehicle.Powertrain.FuelSystem.RelativeLevel", "Obd.FuelLevel"), 1.0),
    "volts": (0x42, ("Vehicle.LowVoltageBattery.CurrentVoltage", "Obd.ControlModuleVoltage"), 1.0),
    "ambient": (0x46, ("Vehicle.Exterior.AirTemperature", "Obd.AmbientTemperature"), 1.0),
    "pedal": (0x49, ("Vehicle.Chassis.Accelerator.PedalPosition", "Obd.AcceleratorPedal"), 1.0),
    "oil": (0x5C, ("Obd.OilTemperature",), 1.0),
    "odometer": (0xA6, ("Vehicle.TraveledDistance",), 0.001),
}
_SOURCES: Final = {name: [number(c) for c in channels] for name, (_, channels, _) in _ASKED.items()}


class Fixes:
    """Gather the samples of one satellite fix, which come in several messages."""

    def __init__(self) -> None:
        self._open: dict[int, float] = {}
        self._since_ns = 0
        self._last: dict[int, float] = {}

    def gather(self, block: Block, until_ns: int) -> Iterator[tuple[int, dict[int, float]]]:
        """Yield (t_ns, channel -> value) of every fix, and of every message that there is none, whole by `until_ns`.

        Speed, course and the like that a fix does not say anew are those of the fix before.
        """
        chosen = block[np.isin(block["channel"], list(GNSS))]
        for t, channel, value in chosen.tolist():
            if self._open and t - self._since_ns > ONE_FIX_NS:
                yield from self._whole()
            if not self._open:
                self._since_ns = t
            self._open[channel] = value
        if self._open and until_ns - self._since_ns > ONE_FIX_NS:
            yield from self._whole()

    def _whole(self) -> Iterator[tuple[int, dict[int, float]]]:
        told, self._open = self._open, {}
        self._last |= told
        if LATITUDE in told and LONGITUDE in told:
            yield self._since_ns, {FIX_TYPE: 3.0, **self._last}
        elif FIX_TYPE in told:  # it speaks and has no position
            yield self._since_ns, {FIX_TYPE: 0.0}


class Inertia:
    """Hold what the accelerometer and the gyroscope said last, so that it can be sampled at any rate."""

    def __init__(self) -> None:
        self._t = [np.zeros(0, np.int64) for _ in range(6)]
        self._values = [np.zeros(0) for _ in range(6)]

    def feed(self, block: Block) -> None:
        """Take samples."""
        for axis, channel in enumerate((*ACCEL, *GYRO)):
            mine = block[block["channel"] == channel]
            self._t[axis] = np.concatenate([self._t[axis], mine["t"]])
            self._values[axis] = np.concatenate([self._values[axis], mine["value"]])

    def at(
        self, t_ns: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return which of `t_ns`[n] have a fresh sample, and accel[n, 3] in m/s² and gyro[n, 3] in deg/s.

        What was said before the last of `t_ns` is forgotten.
        """
        values = np.zeros((len(t_ns), 6))
        fresh = np.ones(len(t_ns), np.bool_)
        for axis in range(6):
            mine = self._t[axis]
            at = np.searchsorted(mine, t_ns, side="right") - 1
            said = at >= 0
            values[said, axis] = self._values[axis][at[said]]
            if axis < 3:  # a recording may have no gyroscope: it reads 0 then
                fresh &= said
                fresh[said] &= t_ns[said] - mine[at[said]] <= STALE_NS
            used = max(int(at[-1]), 0) if len(at) else 0
            self._t[axis], self._values[axis] = mine[used:], self._values[axis][used:]
        return fresh, values[:, :3], values[:, 3:]


def pids_of(channels: Collection[int]) -> tuple[int, ...]:
    """Return the PIDs that control units can answer from `channels`."""
    return tuple(pid for name, (pid, _, _) in _ASKED.items() if any(c in channels for c in _SOURCES[name]))


def obd_values(latest: dict[int, float]) -> dict[str, float]:
    """Return what control units would say, by the names of sim.elm_car, from the latest value of each channel."""
    values = {}
    for name, (_, _, scale) in _ASKED.items():
        for channel in _SOURCES[name]:
            if channel in latest:
                values[name] = latest[channel] * scale
                break
    return values
