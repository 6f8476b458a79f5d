"""The one table of channels: number, name, unit, plausible range, stored resolution.

Numbers are written into stored blocks and sent over the wire: never reuse or renumber one. Names are COVESA VSS
names for what is true of the vehicle and the source's own for what a sensor says; units are those of this table
wherever the name appears inside the product. Vehicle axes are ISO 8855 (x forward, y left, z up).
"""

from dataclasses import dataclass
from math import inf
from typing import Final


@dataclass(frozen=True, slots=True)
class Channel:
    """One named quantity; samples outside `low`..`high` are dropped and counted, `quantum` is what the store keeps."""

    number: int
    name: str
    unit: str
    low: float = -inf
    high: float = inf
    quantum: float = 0.01


# Plausible ranges are physical bounds, not typical values: 120 m/s (432 km/h) road speed, ±16 g (157 m/s²) what a
# vehicle's own sensor says, ±200 g the widest range of the box's accelerometers (ADXL372; a barrier test reaches 40 g
# in the cabin), ±2000 °/s their widest gyro range, 20,000 rpm no road engine exceeds.
_SPEED: Final = (0.0, 120.0, 0.001)
_ACCEL: Final = (-160.0, 160.0, 0.001)
_BOX_ACCEL: Final = (-2000.0, 2000.0, 0.001)
_RATE: Final = (-2000.0, 2000.0, 0.01)
_PERCENT: Final = (0.0, 100.0, 0.1)
_TEMPERATURE: Final = (-60.0, 250.0, 0.1)
_TRIM: Final = (-100.0, 100.0, 0.1)
_EXHAUST: Final = (-40.0, 6513.5, 0.1)  # all that 16 bits of 0.1 °C can say

CHANNELS: Final[tuple[Channel, ...]] = (
    # true of the vehicle: fused by us, or said by the vehicle's own control units
    Channel(1, "Vehicle.Speed", "m/s", *_SPEED),
    Channel(2, "Vehicle.Acceleration.Longitudinal", "m/s2", *_ACCEL),
    Channel(3, "Vehicle.Acceleration.Lateral", "m/s2", *_ACCEL),
    Channel(4, "Vehicle.Acceleration.Vertical", "m/s2", *_ACCEL),
    Channel(5, "Vehicle.AngularVelocity.Roll", "deg/s", *_RATE),
    Channel(6, "Vehicle.AngularVelocity.Pitch", "deg/s", *_RATE),
    Channel(7, "Vehicle.AngularVelocity.Yaw", "deg/s", *_RATE),
    Channel(8, "Vehicle.CurrentLocation.Latitude", "deg", -90.0, 90.0, 1e-7),
    Channel(9, "Vehicle.CurrentLocation.Longitude", "deg", -180.0, 180.0, 1e-7),
    Channel(10, "Vehicle.CurrentLocation.Heading", "deg", 0.0, 360.0, 0.1),
    Channel(11, "Vehicle.CurrentLocation.Altitude", "m", -1000.0, 20000.0, 0.1),
    Channel(12, "Vehicle.CurrentLocation.HorizontalAccuracy", "m", 0.0, 1e6, 0.1),
    Channel(13, "Vehicle.TraveledDistance", "m", 0.0, 1e10, 1.0),
    Channel(14, "Vehicle.Powertrain.CombustionEngine.Speed", "rpm", 0.0, 20000.0, 1.0),
    Channel(15, "Vehicle.Powertrain.Transmission.CurrentGear", "", -10.0, 30.0, 1.0),
    Channel(16, "Vehicle.Chassis.Accelerator.PedalPosition", "%", *_PERCENT),
    Channel(17, "Vehicle.Chassis.Brake.PedalPosition", "%", *_PERCENT),
    Channel(18, "Vehicle.Chassis.Brake.IsPressed", "", 0.0, 1.0, 1.0),
    Channel(19, "Vehicle.Chassis.SteeringWheel.Angle", "deg", -1500.0, 1500.0, 0.1),
    Channel(20, "Vehicle.Chassis.Axle.Row1.Wheel.Left.Speed", "m/s", *_SPEED),
    Channel(21, "Vehicle.Chassis.Axle.Row1.Wheel.Right.Speed", "m/s", *_SPEED),
    Channel(22, "Vehicle.Chassis.Axle.Row2.Wheel.Left.Speed", "m/s", *_SPEED),
    Channel(23, "Vehicle.Chassis.Axle.Row2.Wheel.Right.Speed", "m/s", *_SPEED),
    Channel(24, "Vehicle.LowVoltageBattery.CurrentVoltage", "V", 0.0, 60.0, 0.01),
    Channel(25, "Vehicle.ADAS.ABS.IsEngaged", "", 0.0, 1.0, 1.0),
    Channel(26, "Vehicle.ADAS.ESC.IsEngaged", "", 0.0, 1.0, 1.0),
    Channel(27, "Vehicle.Exterior.AirTemperature", "degC", *_TEMPERATURE),
    Channel(28, "Vehicle.Powertrain.FuelSystem.RelativeLevel", "%", *_PERCENT),
    Channel(31, "Vehicle.Cabin.Seat.Row1.DriverSide.IsBelted", "", 0.0, 1.0, 1.0),
    Channel(32, "Vehicle.Cabin.Seat.Row1.PassengerSide.IsBelted", "", 0.0, 1.0, 1.0),
    # what the vehicle says of a collision
    Channel(33, "Vehicle.Cabin.Seat.Row1.DriverSide.Airbag.IsDeployed", "", 0.0, 1.0, 1.0),
    Channel(34, "Vehicle.Cabin.Seat.Row1.PassengerSide.Airbag.IsDeployed", "", 0.0, 1.0, 1.0),
    Channel(35, "Vehicle.Safety.IsCrashDetected", "", 0.0, 1.0, 1.0),
    Channel(36, "Vehicle.Safety.IsFuelCutOff", "", 0.0, 1.0, 1.0),
    # wheels, from the bus
    Channel(30, "Wheel.Speed", "m/s", *_SPEED),
    # satellite receiver
    Channel(40, "Gnss.Speed", "m/s", *_SPEED),
    Channel(41, "Gnss.SpeedAccuracy", "m/s", 0.0, 1000.0, 0.01),
    Channel(42, "Gnss.Heading", "deg", 0.0, 360.0, 0.1),
    Channel(43, "Gnss.Latitude", "deg", -90.0, 90.0, 1e-7),
    Channel(44, "Gnss.Longitude", "deg", -180.0, 180.0, 1e-7),
    Channel(45, "Gnss.Altitude", "m", -1000.0, 20000.0, 0.1),
    Channel(46, "Gnss.HorizontalAccuracy", "m", 0.0, 1e6, 0.1),
    Channel(47, "Gnss.FixType", "", 0.0, 6.0, 1.0),  # 0 none, 1 dead reckoning, 2 2-D, 3 3-D, 4 3-D + DR, 5 time only
    Channel(48, "Gnss.Satellites", "", 0.0, 200.0, 1.0),
    Channel(49, "Gnss.Time", "s", 0.0, 1e11, 0.001),  # UTC, seconds since 1970-01-01
    Channel(50, "Gnss.TimeAccuracy", "s", 0.0, 1000.0, 0.001),  # how well Gnss.Time fits the time of its sample
    # the box's own inertial sensor, box axes, gravity included
    Channel(60, "Imu.Acceleration.X", "m/s2", *_BOX_ACCEL),
    Channel(61, "Imu.Acceleration.Y", "m/s2", *_BOX_ACCEL),
    Channel(62, "Imu.Acceleration.Z", "m/s2", *_BOX_ACCEL),
    Channel(63, "Imu.AngularVelocity.X", "deg/s", *_RATE),
    Channel(64, "Imu.AngularVelocity.Y", "deg/s", *_RATE),
    Channel(65, "Imu.AngularVelocity.Z", "deg/s", *_RATE),
    Channel(66, "Imu.Temperature", "degC", *_TEMPERATURE),
    Channel(67, "Imu.Clipped", "", 0.0, 6.0, 1.0),  # axes at their rails, said when it changes
    # OBD-II, SAE J1979 service 01
    Channel(80, "Obd.Speed", "m/s", *_SPEED),
    Channel(81, "Obd.EngineSpeed", "rpm", 0.0, 20000.0, 0.25),
    Channel(82, "Obd.EngineLoad", "%", *_PERCENT),
    Channel(83, "Obd.CoolantTemperature", "degC", *_TEMPERATURE),
    Channel(84, "Obd.IntakePressure", "kPa", 0.0, 2048.0, 1.0),
    Channel(85, "Obd.TimingAdvance", "deg", -64.0, 64.0, 0.5),
    Channel(86, "Obd.IntakeAirTemperature", "degC", *_TEMPERATURE),
    Channel(87, "Obd.MassAirFlow", "g/s", 0.0, 2048.0, 0.01),
    Channel(88, "Obd.ThrottlePosition", "%", *_PERCENT),
    Channel(89, "Obd.RunTime", "s", 0.0, 65535.0, 1.0),
    Channel(90, "Obd.DistanceWithMil", "km", 0.0, 65535.0, 1.0),
    Channel(91, "Obd.FuelLevel", "%", *_PERCENT),
    Channel(92, "Obd.DistanceSinceClear", "km", 0.0, 65535.0, 1.0),
    Channel(93, "Obd.BarometricPressure", "kPa", 0.0, 255.0, 1.0),
    Channel(94, "Obd.ControlModuleVoltage", "V", 0.0, 66.0, 0.001),
    Channel(95, "Obd.AmbientTemperature", "degC", *_TEMPERATURE),
    Channel(96, "Obd.AcceleratorPedal", "%", *_PERCENT),
    Channel(97, "Obd.OilTemperature", "degC", *_TEMPERATURE),
    Channel(98, "Obd.FuelRate", "L/h", 0.0, 3300.0, 0.05),
    Channel(99, "Obd.Odometer", "km", 0.0, 5e8, 0.1),
    Channel(100, "Obd.HybridBatteryLevel", "%", *_PERCENT),
    Channel(101, "Obd.MilOn", "", 0.0, 1.0, 1.0),
    Channel(102, "Obd.DtcCount", "", 0.0, 127.0, 1.0),
    Channel(103, "Obd.ActualTorque", "%", -125.0, 130.0, 1.0),
    Channel(104, "Obd.ShortTermFuelTrim.Bank1", "%", *_TRIM),
    Channel(105, "Obd.LongTermFuelTrim.Bank1", "%", *_TRIM),
    Channel(106, "Obd.ShortTermFuelTrim.Bank2", "%", *_TRIM),
    Channel(107, "Obd.LongTermFuelTrim.Bank2", "%", *_TRIM),
    Channel(108, "Obd.FuelPressure", "kPa", 0.0, 765.0, 3.0),
    Channel(109, "Obd.FuelRailPressure", "kPa", 0.0, 655350.0, 1.0),
    Channel(110, "Obd.CommandedEgr", "%", *_PERCENT),
    Channel(111, "Obd.EgrError", "%", *_TRIM),
    Channel(112, "Obd.CommandedEvaporativePurge", "%", *_PERCENT),
    Channel(113, "Obd.WarmUpsSinceClear", "", 0.0, 255.0, 1.0),
    Channel(114, "Obd.CatalystTemperature.Bank1Sensor1", "degC", *_EXHAUST),
    Channel(115, "Obd.CatalystTemperature.Bank2Sensor1", "degC", *_EXHAUST),
    Channel(116, "Obd.CatalystTemperature.Bank1Sensor2", "degC", *_EXHAUST),
    Channel(117, "Obd.CatalystTemperature.Bank2Sensor2", "degC", *_EXHAUST),
    Channel(118, "Obd.AbsoluteLoad", "%", 0.0, 25700.0, 0.1),
    Channel(119, "Obd.CommandedEquivalenceRatio", "", 0.0, 2.0, 0.0001),
    Channel(120, "Obd.RelativeThrottlePosition", "%", *_PERCENT),
    Channel(121, "Obd.ThrottlePositionB", "%", *_PERCENT),
    Channel(122, "Obd.CommandedThrottle", "%", *_PERCENT),
    Channel(123, "Obd.AcceleratorPedalE", "%", *_PERCENT),
    Channel(124, "Obd.RelativeAcceleratorPedal", "%", *_PERCENT),
    Channel(125, "Obd.TimeWithMil", "s", 0.0, 3932100.0, 60.0),
    Channel(126, "Obd.TimeSinceClear", "s", 0.0, 3932100.0, 60.0),
    Channel(127, "Obd.FuelType", "", 0.0, 255.0, 1.0),
    Channel(128, "Obd.EthanolShare", "%", *_PERCENT),
    Channel(129, "Obd.DemandedTorque", "%", -125.0, 130.0, 1.0),
    Channel(130, "Obd.ReferenceTorque", "Nm", 0.0, 65535.0, 1.0),
    Channel(131, "Obd.FrictionTorque", "%", -125.0, 130.0, 1.0),
    Channel(132, "Obd.OxygenSensor.Bank1Sensor1.EquivalenceRatio", "", 0.0, 2.0, 0.0001),
    Channel(133, "Obd.OxygenSensor.Bank1Sensor1.Voltage", "V", 0.0, 8.0, 0.001),
    Channel(134, "Obd.OxygenSensor.Bank1Sensor2.Voltage", "V", 0.0, 8.0, 0.001),
    Channel(135, "Obd.BoostPressure", "kPa", 0.0, 2048.0, 0.1),
    Channel(136, "Obd.ManifoldTemperature", "degC", *_TEMPERATURE),
    Channel(137, "Obd.ExhaustTemperature.Bank1Sensor1", "degC", *_EXHAUST),
    Channel(138, "Obd.ParticulateFilter.PressureDifference", "kPa", -328.0, 328.0, 0.01),
    Channel(139, "Obd.ParticulateFilter.InletTemperature", "degC", *_EXHAUST),
    Channel(140, "Obd.EngineRunTimeTotal", "s", 0.0, 4294967295.0, 1.0),
    Channel(141, "Obd.IdleTimeTotal", "s", 0.0, 4294967295.0, 1.0),
    Channel(142, "Obd.HybridBatteryVoltage", "V", 0.0, 1024.0, 0.02),
    Channel(143, "Obd.HybridBatteryCurrent", "A", -3276.8, 3276.7, 0.1),
    Channel(144, "Obd.HybridBatteryHealth", "%", *_PERCENT),
    Channel(145, "Obd.FuelMassRate", "g/s", 0.0, 1310.7, 0.02),
    Channel(146, "Obd.ExhaustMassFlow", "kg/h", 0.0, 13107.0, 0.2),
    Channel(147, "Obd.GearRatio", "", 0.0, 65.535, 0.001),
    Channel(148, "Obd.DefLevel", "%", *_PERCENT),
    # power and road
    Channel(160, "Power.Voltage", "V", 0.0, 60.0, 0.01),
    Channel(161, "Power.Ignition", "", 0.0, 1.0, 1.0),
    Channel(162, "Power.BoardTemperature", "degC", *_TEMPERATURE),
    Channel(163, "Power.Throttled", "", 0.0, 1.0, 1.0),  # the board is slowed down by heat or low supply voltage
    Channel(170, "Road.SpeedLimit", "m/s", 0.0, 120.0, 0.01),
)

BY_NAME: Final[dict[str, Channel]] = {c.name: c for c in CHANNELS}
BY_NUMBER: Final[dict[int, Channel]] = {c.number: c for c in CHANNELS}


def number(name: str) -> int:
    """Return the number of the channel `name`; a name not in the table is a bug and raises KeyError."""
    return BY_NAME[name].number
