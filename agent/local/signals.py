"""Channels for people: a short name, a value in the unit that people drive by, and how old it is."""

import re
from typing import Final

from agent.channels import BY_NUMBER
from agent.clock import iso_utc

_KMH: Final = 3.6
_FEWER_DIGITS: Final = {"rpm": 0, "%": 0, "km": 0, "V": 1, "degC": 0, "deg": 1}  # than the store keeps
_SPEEDS: Final = 120.0  # channels in m/s up to a road speed are shown in km/h, accuracies stay as they are
_FIX: Final = ("none", "dead r.", "2-D", "3-D", "3-D + dr", "time", "?")
_NAMES: Final = {
    "Vehicle.Acceleration.Longitudinal": "acceleration ahead",
    "Vehicle.Acceleration.Lateral": "acceleration left",
    "Vehicle.Acceleration.Vertical": "acceleration up",
    "Vehicle.AngularVelocity.Roll": "roll rate",
    "Vehicle.AngularVelocity.Pitch": "pitch rate",
    "Vehicle.AngularVelocity.Yaw": "yaw rate",
    "Vehicle.TraveledDistance": "odometer",
    "Vehicle.Powertrain.CombustionEngine.Speed": "engine",
    "Vehicle.Powertrain.Transmission.CurrentGear": "gear",
    "Vehicle.Chassis.Accelerator.PedalPosition": "accelerator",
    "Vehicle.Chassis.Brake.PedalPosition": "brake pedal",
    "Vehicle.Chassis.Brake.IsPressed": "brake pressed",
    "Vehicle.Chassis.SteeringWheel.Angle": "steering wheel",
    "Vehicle.Chassis.Axle.Row1.Wheel.Left.Speed": "wheel front left",
    "Vehicle.Chassis.Axle.Row1.Wheel.Right.Speed": "wheel front right",
    "Vehicle.Chassis.Axle.Row2.Wheel.Left.Speed": "wheel rear left",
    "Vehicle.Chassis.Axle.Row2.Wheel.Right.Speed": "wheel rear right",
    "Vehicle.LowVoltageBattery.CurrentVoltage": "battery",
    "Vehicle.ADAS.ABS.IsEngaged": "ABS works",
    "Vehicle.ADAS.ESC.IsEngaged": "ESC works",
    "Vehicle.Exterior.AirTemperature": "air outside",
    "Vehicle.Powertrain.FuelSystem.RelativeLevel": "fuel",
    "Vehicle.Cabin.Seat.Row1.DriverSide.IsBelted": "driver belted",
    "Vehicle.Cabin.Seat.Row1.PassengerSide.IsBelted": "passenger belted",
    "Vehicle.Cabin.Seat.Row1.DriverSide.Airbag.IsDeployed": "driver airbag",
    "Vehicle.Cabin.Seat.Row1.PassengerSide.Airbag.IsDeployed": "passenger airbag",
    "Vehicle.Safety.IsCrashDetected": "crash detected",
    "Vehicle.Safety.IsFuelCutOff": "fuel cut off",
    "Obd.EngineSpeed": "engine",
    "Gnss.Time": "UTC",
}
_GROUPS: Final = (
    ("Vehicle", "on the bus"),
    ("Wheel", "on the bus"),
    ("Obd", "asked by OBD"),
    ("Gnss", "satellites"),
    ("Imu", "the box's own sensor"),
    ("Power", "power"),
    ("Road", "road"),
)
GROUP: Final = dict(_GROUPS)


def group_of(channel: int) -> str:
    """Return where a channel comes from, in words; "" for one that this version does not know."""
    known = BY_NUMBER.get(channel)
    return "" if known is None else GROUP.get(known.name.partition(".")[0], "")


def label_of(channel: int) -> str:
    """Return a short name in words, without the group's."""
    known = BY_NUMBER.get(channel)
    if known is None:
        return f"channel {channel}"
    rest = known.name.partition(".")[2].removeprefix("CurrentLocation.")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|\.", " ", rest)
    return _NAMES.get(known.name) or " ".join(w if w.isupper() else w.lower() for w in words.split())


def shown(channel: int, value: float) -> tuple[str, str]:
    """Return value and unit as people read them."""
    known = BY_NUMBER.get(channel)
    if known is None:
        return f"{value:g}", ""
    if known.name == "Gnss.Time":
        return iso_utc(round(value * 1e9))[11:19], ""
    if known.name == "Gnss.FixType":
        return _FIX[min(max(int(value), 0), len(_FIX) - 1)], ""
    if known.unit == "" and (known.low, known.high) == (0.0, 1.0):
        return ("yes" if value else "no"), ""
    if known.unit == "m/s" and known.high <= _SPEEDS:
        return f"{value * _KMH:z.1f}", "km/h"
    if known.name == "Vehicle.TraveledDistance":
        return f"{value / 1000.0:.0f}", "km"
    unit = {"m/s2": "m/s²", "degC": "°C", "deg": "°", "deg/s": "°/s"}.get(known.unit, known.unit)
    digits = 0 if known.quantum >= 1.0 or abs(value) >= 1000.0 else _FEWER_DIGITS.get(known.unit, 2)
    return f"{value:z.{5 if known.quantum < 1e-5 else digits}f}", unit


def age(seconds: float) -> str:
    """Say how old something is: nothing while it is fresh."""
    return "" if seconds < 2.0 else lasting(seconds)


def lasting(seconds: float) -> str:
    """Say a duration in at most six characters."""
    if seconds < 100.0:
        return f"{seconds:.0f} s"
    if seconds < 100.0 * 60.0:
        return f"{seconds / 60.0:.0f} min"
    return f"{seconds / 3600.0:.0f} h" if seconds < 100.0 * 3600.0 else f"{seconds / 86400.0:.0f} d"


_BARS: Final = "▁▂▃▄▅▆▇█"


def sparkline(values: "list[float]", width: int) -> str:
    """Draw the last `width` values between their least and their largest; "" where nothing moves."""
    last = values[-width:]
    if len(last) < 2 or (span := max(last) - min(last)) <= 0.0:
        return ""
    low, steps = min(last), len(_BARS) - 1
    return "".join(_BARS[round((v - low) / span * steps)] for v in last)
