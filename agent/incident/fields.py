"""The one table of what a crash record holds: column, unit, digits, and the channels that may give it.

`docs/crash-record.md` sets it beside 49 CFR 563, UN R160 and GB 39732; a test keeps the two equal. The elements are
those standards'; ranges and accuracy are our sensors', not theirs.
"""

from dataclasses import dataclass
from typing import Final

from agent.channels import number


@dataclass(frozen=True, slots=True)
class Column:
    """One column: a name with its unit's ending, digits after the point, and channels, the preferred one first."""

    name: str
    unit: str
    digits: int
    channels: tuple[str, ...]

    @property
    def resolution(self) -> float:
        """Return the step in which the value is written, in `unit`."""
        return float(10**-self.digits)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Return the channels' numbers."""
        return tuple(number(name) for name in self.channels)


FUSED: Final = "state"  # not a channel: the fused speed of agent.state, which comes 1.5 s late

# before.csv: every 0.1 s from -20.0 to 0.0 s; each value is the newest at that time, empty when too old
BEFORE: Final = (
    Column("speed_mps", "m/s", 2, (FUSED,)),
    Column("speed_indicated_mps", "m/s", 2, ("Vehicle.Speed",)),
    Column("speed_obd_mps", "m/s", 2, ("Obd.Speed",)),
    Column("speed_gnss_mps", "m/s", 2, ("Gnss.Speed",)),
    Column("wheel_mps", "m/s", 2, ("Wheel.Speed",)),
    Column("wheel_front_left_mps", "m/s", 2, ("Vehicle.Chassis.Axle.Row1.Wheel.Left.Speed",)),
    Column("wheel_front_right_mps", "m/s", 2, ("Vehicle.Chassis.Axle.Row1.Wheel.Right.Speed",)),
    Column("wheel_rear_left_mps", "m/s", 2, ("Vehicle.Chassis.Axle.Row2.Wheel.Left.Speed",)),
    Column("wheel_rear_right_mps", "m/s", 2, ("Vehicle.Chassis.Axle.Row2.Wheel.Right.Speed",)),
    Column("accelerator_pct", "%", 1, ("Vehicle.Chassis.Accelerator.PedalPosition", "Obd.AcceleratorPedal")),
    Column("throttle_pct", "%", 1, ("Obd.ThrottlePosition",)),
    Column("brake_on", "", 0, ("Vehicle.Chassis.Brake.IsPressed",)),
    Column("brake_pct", "%", 1, ("Vehicle.Chassis.Brake.PedalPosition",)),
    Column("engine_rpm", "rpm", 0, ("Vehicle.Powertrain.CombustionEngine.Speed", "Obd.EngineSpeed")),
    Column("steering_deg", "deg", 1, ("Vehicle.Chassis.SteeringWheel.Angle",)),
    Column("abs_active", "", 0, ("Vehicle.ADAS.ABS.IsEngaged",)),
    Column("esc_active", "", 0, ("Vehicle.ADAS.ESC.IsEngaged",)),
    Column("gear", "", 0, ("Vehicle.Powertrain.Transmission.CurrentGear",)),
    Column("longitudinal_mps2", "m/s2", 2, ("Vehicle.Acceleration.Longitudinal",)),
    Column("lateral_mps2", "m/s2", 2, ("Vehicle.Acceleration.Lateral",)),
    Column("vertical_mps2", "m/s2", 2, ("Vehicle.Acceleration.Vertical",)),
    Column("yaw_degps", "deg/s", 2, ("Vehicle.AngularVelocity.Yaw",)),
    Column("roll_degps", "deg/s", 2, ("Vehicle.AngularVelocity.Roll",)),
    Column("belt_driver", "", 0, ("Vehicle.Cabin.Seat.Row1.DriverSide.IsBelted",)),
    Column("belt_passenger", "", 0, ("Vehicle.Cabin.Seat.Row1.PassengerSide.IsBelted",)),
    Column("ignition_on", "", 0, ("Power.Ignition",)),
    Column(
        "battery_v", "V", 2, ("Vehicle.LowVoltageBattery.CurrentVoltage", "Obd.ControlModuleVoltage", "Power.Voltage")
    ),
)

# imu.csv: every sample from -5 to +5 s, box axes, gravity included
IMU: Final = (
    Column("x_mps2", "m/s2", 3, ("Imu.Acceleration.X",)),
    Column("y_mps2", "m/s2", 3, ("Imu.Acceleration.Y",)),
    Column("z_mps2", "m/s2", 3, ("Imu.Acceleration.Z",)),
    Column("x_degps", "deg/s", 2, ("Imu.AngularVelocity.X",)),
    Column("y_degps", "deg/s", 2, ("Imu.AngularVelocity.Y",)),
    Column("z_degps", "deg/s", 2, ("Imu.AngularVelocity.Z",)),
    Column("clipped_axes", "", 0, ("Imu.Clipped",)),
)

# track.csv: the newest fix of every second from -60 to +10 s
TRACK: Final = (
    Column("latitude_deg", "deg", 7, ("Gnss.Latitude", "Vehicle.CurrentLocation.Latitude")),
    Column("longitude_deg", "deg", 7, ("Gnss.Longitude", "Vehicle.CurrentLocation.Longitude")),
    Column("accuracy_m", "m", 1, ("Gnss.HorizontalAccuracy", "Vehicle.CurrentLocation.HorizontalAccuracy")),
    Column("altitude_m", "m", 1, ("Gnss.Altitude", "Vehicle.CurrentLocation.Altitude")),
    Column("heading_deg", "deg", 1, ("Gnss.Heading", "Vehicle.CurrentLocation.Heading")),
    Column("speed_mps", "m/s", 2, ("Gnss.Speed",)),
    Column("speed_accuracy_mps", "m/s", 2, ("Gnss.SpeedAccuracy",)),
    Column("fix_type", "", 0, ("Gnss.FixType",)),
    Column("satellites", "", 0, ("Gnss.Satellites",)),
    Column("utc_s", "s", 3, ("Gnss.Time",)),
)

# crash.json, `flags_s`: when the car first said so, from -1 to +10 s; None where it did not
FLAGS: Final = (
    Column("airbag_driver_s", "s", 3, ("Vehicle.Cabin.Seat.Row1.DriverSide.Airbag.IsDeployed",)),
    Column("airbag_passenger_s", "s", 3, ("Vehicle.Cabin.Seat.Row1.PassengerSide.Airbag.IsDeployed",)),
    Column("crash_flag_s", "s", 3, ("Vehicle.Safety.IsCrashDetected",)),
    Column("fuel_cut_s", "s", 3, ("Vehicle.Safety.IsFuelCutOff",)),
)

TABLES: Final[dict[str, tuple[Column, ...]]] = {"before.csv": BEFORE, "imu.csv": IMU, "track.csv": TRACK}
