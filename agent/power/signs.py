"""What samples say of engine, motion and supply: the latest of each kind of sign, and since when. No clock here."""

from collections import deque
from dataclasses import dataclass, field
from math import sqrt
from statistics import median
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.blocks import Block
from agent.channels import BY_NUMBER, CHANNELS, number
from agent.clock import NS_PER_S

NEVER: Final = -(1 << 62)
FRESH_NS: Final = 5 * NS_PER_S  # older rpm and speed are no sign: the slowest adapters ask for them every 2 s
VOLTS_FRESH_NS: Final = 30 * NS_PER_S  # an ELM327 that rests measures every 10 s
BUS_SILENT_NS: Final = 10 * NS_PER_S  # a bus that carries traffic has a frame of something every second
SHORT_NS: Final = 5 * NS_PER_S  # medians over so long do not see a starter's dip (ISO 7637-2 pulse 4: 0.5 to 20 s …
LONG: Final = 60  # … nor do those of so many samples)
HIGH_V: Final = 18.0  # no 12 V system stays above, no 24 V system below
FIXES: Final = 3  # in a row
SECOND_SAMPLES: Final = 5  # fewer samples of an axis in a second say nothing about shaking
SHAKE_GAP_NS: Final = 3 * NS_PER_S  # calmer for longer: shaking is over

_OTHER, _RPM, _SPEED, _GNSS, _VOLTS, _IGNITION, _ACCEL = range(7)
_ROLES: Final = {
    "Obd.EngineSpeed": _RPM,
    "Vehicle.Powertrain.CombustionEngine.Speed": _RPM,
    "Obd.Speed": _SPEED,
    "Vehicle.Speed": _SPEED,
    "Wheel.Speed": _SPEED,
    **{c.name: _SPEED for c in CHANNELS if ".Wheel." in c.name},
    "Gnss.Speed": _GNSS,
    # the best first: what is measured while polling rests, what the bus says by itself, what must be asked for
    "Power.Voltage": _VOLTS,
    "Vehicle.LowVoltageBattery.CurrentVoltage": _VOLTS,
    "Obd.ControlModuleVoltage": _VOLTS,
    "Power.Ignition": _IGNITION,
    "Imu.Acceleration.X": _ACCEL,
    "Imu.Acceleration.Y": _ACCEL,
    "Imu.Acceleration.Z": _ACCEL,
}
_ROLE: Final = np.zeros(max(BY_NUMBER) + 1, np.uint8)
for _name, _role in _ROLES.items():
    _ROLE[number(_name)] = _role
_FROM_BUS: Final = np.zeros(len(_ROLE), np.bool_)
for _c in CHANNELS:
    _FROM_BUS[_c.number] = _c.name.startswith(("Vehicle.", "Wheel.", "Obd."))
VOLT_CHANNELS: Final = tuple(number(name) for name, role in _ROLES.items() if role == _VOLTS)
_AXES: Final = tuple(number(f"Imu.Acceleration.{a}") for a in "XYZ")


@dataclass(slots=True)
class Run:
    """Something that goes on since `since_ns`, last noticed at `last_ns`; a gap above `gap_ns` begins it anew."""

    gap_ns: int
    since_ns: int = NEVER
    last_ns: int = NEVER

    def mark(self, t_ns: int) -> None:
        """Notice it."""
        if t_ns - self.last_ns > self.gap_ns:
            self.since_ns = t_ns
        self.last_ns = max(self.last_ns, t_ns)

    def lasting_ns(self, now_ns: int) -> int:
        """Return for how long it has gone on, -1 when it does not."""
        return self.last_ns - self.since_ns if now_ns - self.last_ns <= self.gap_ns else -1


@dataclass(slots=True)
class Supply:
    """One measured voltage."""

    recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=LONG))
    highest: float = 0.0  # of the medians since the engine last ran

    def take(self, t_ns: int, volts: float) -> None:
        """Take one measurement."""
        self.recent.append((t_ns, volts))

    def fresh(self, now_ns: int) -> bool:
        """Say whether there is a measurement that still counts."""
        return bool(self.recent) and now_ns - self.recent[-1][0] <= VOLTS_FRESH_NS

    def now(self) -> float:
        """Return the median of the last seconds, of the last three measurements at least."""
        last_ns = self.recent[-1][0]
        values = [v for t, v in self.recent if t >= last_ns - SHORT_NS]
        return median(values if len(values) >= 3 else [v for _, v in list(self.recent)[-3:]])

    def before(self, latest: int) -> float | None:
        """Return the median of all but the `latest` measurements, None of fewer than three."""
        values = [v for _, v in self.recent][: max(len(self.recent) - latest, 0)]
        return median(values) if len(values) >= 3 else None


class Signs:
    """The latest of every sign; times are those of the samples."""

    def __init__(self, running_rpm: float, moving_mps: float, gnss_moving_mps: float, shake_mps2: float) -> None:
        self._running_rpm, self._moving_mps, self._gnss_moving_mps = running_rpm, moving_mps, gnss_moving_mps
        self._shake_mps2 = shake_mps2
        self.rpm, self.rpm_ns, self.running_ns = 0.0, NEVER, NEVER
        self.speed_ns = self.driven_ns = self.fix_ns = self.travelled_ns = NEVER
        self.ignition: bool | None = None
        self.ignition_ns = self.switched_ns = NEVER  # last said; last changed
        self.bus = Run(BUS_SILENT_NS)
        self.shaking = Run(SHAKE_GAP_NS)
        self.shake_mps2: float | None = None
        self.shake_ns = NEVER
        self.supplies = {channel: Supply() for channel in VOLT_CHANNELS}
        self._fixes = 0
        self._second = NEVER
        self._sums = np.zeros((3, 3))  # axis: count, sum, sum of squares

    def take(self, block: Block) -> None:
        """Take samples in order of time; any split into blocks gives the same."""
        if not len(block):
            return
        channel, t, value = block["channel"], block["t"], block["value"]
        role = _ROLE[channel]
        of_bus = t[_FROM_BUS[channel]]
        if len(of_bus):
            for i in (0, *(np.flatnonzero(np.diff(of_bus) > BUS_SILENT_NS) + 1), len(of_bus) - 1):
                self.bus.mark(int(of_bus[i]))
        for part, act in ((_RPM, self._take_rpm), (_SPEED, self._take_speed)):
            of_part = role == part
            if of_part.any():
                act(t[of_part], value[of_part])
        for i in np.flatnonzero((role >= _GNSS) & (role <= _IGNITION)):
            self._take_one(int(t[i]), int(channel[i]), float(value[i]))
        accelerations = role == _ACCEL
        if accelerations.any():
            self._take_shaking(t[accelerations], channel[accelerations], value[accelerations])

    def supply(self, now_ns: int) -> Supply | None:
        """Return the best voltage that is measured, None where none is."""
        return next((s for s in self.supplies.values() if s.fresh(now_ns)), None)

    def forget_supply(self) -> None:
        """Begin the voltages anew: what comes is compared with what follows."""
        for supply in self.supplies.values():
            supply.recent.clear()

    def _take_rpm(self, t: npt.NDArray[np.int64], rpm: npt.NDArray[np.float64]) -> None:
        self.rpm, self.rpm_ns = float(rpm[-1]), int(t[-1])
        running = t[rpm >= self._running_rpm]
        if len(running):
            self.running_ns = int(running[-1])

    def _take_speed(self, t: npt.NDArray[np.int64], speed: npt.NDArray[np.float64]) -> None:
        self.speed_ns = int(t[-1])
        moving = t[speed >= self._moving_mps]
        if len(moving):
            self.driven_ns = int(moving[-1])

    def _take_one(self, t_ns: int, channel: int, value: float) -> None:
        if channel in self.supplies:
            self.supplies[channel].take(t_ns, value)
        elif _ROLE[channel] == _GNSS:
            self.fix_ns = t_ns
            self._fixes = self._fixes + 1 if value >= self._gnss_moving_mps else 0
            if self._fixes >= FIXES:
                self.travelled_ns = t_ns
        else:
            on = value >= 0.5
            if on != self.ignition:
                self.ignition, self.switched_ns = on, t_ns
            self.ignition_ns = t_ns

    def _take_shaking(
        self, t: npt.NDArray[np.int64], channel: npt.NDArray[np.uint16], value: npt.NDArray[np.float64]
    ) -> None:
        seconds = t // NS_PER_S
        for second in np.unique(seconds).tolist():
            if second != self._second:
                self._end_second()
                self._second = second
            mine = seconds == second
            for axis, wanted in enumerate(_AXES):
                values = value[mine & (channel == wanted)]
                self._sums[axis] += len(values), values.sum(), (values * values).sum()

    def _end_second(self) -> None:
        count, total, squares = self._sums.T
        if (count >= SECOND_SAMPLES).all():
            variance = float((squares / count - (total / count) ** 2).clip(0.0).sum())
            self.shake_mps2, self.shake_ns = sqrt(variance), (self._second + 1) * NS_PER_S
            if self.shake_mps2 >= self._shake_mps2:
                self.shaking.mark(self.shake_ns)
        self._sums[:] = 0.0
