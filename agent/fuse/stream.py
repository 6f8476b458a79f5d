"""The state of the measuring kernel: what each channel is to it, and the arrays that persist between calls."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agent.channels import CHANNELS
from agent.fuse.measured import CAN_I, GNSS_I, OBD_I, SPEED_SOURCES, WHEEL_I

LOOK_NS: Final = 1_500_000_000
BIN_NS: Final = 50_000_000
BINS: Final = 128  # 6.4 s
CELLS: Final = 32  # rows of history for values that are only held: 3.2 s
RING: Final = 256  # updates, ≥ 10 s
MERGE_NS: Final = 40_000_000  # updates closer than this are averaged
SET_NS: Final = 20_000_000  # the axes of one inertial sample, the wheels of one message, the halves of one position
MEDIAN_NS: Final = 50_000_000  # slower sensors are not median filtered: a peak of 1 Hz data is all there is
SECOND: Final = 1_000_000_000
HELD_NS: Final = 10 * SECOND  # pedals, rpm, steering; OBD asks for some PIDs every 3 s
FIX_NS: Final = 3 * SECOND
PROXY_S: Final = 20.0  # averaging of "up" for `vertical`, which does without the learned gravity
MPS_PER_COUNT: Final = 1 / 3.6  # PID 0x0D

# What a channel is to this kernel.
IGNORED, WHEEL, SPEED, GNSS, ACCEL, GYRO, SERIES, HELD, HEADING, POSITION = range(10)
# Values that are held: one per row cell.
(
    RPM,
    OBD_RPM,
    PEDAL,
    OBD_PEDAL,
    OBD_THROTTLE,
    BRAKE_PEDAL,
    BRAKE,
    STEERING,
    LIMIT,
    IGNITION,
    GNSS_HEADING,
    GNSS_ACCURACY,
    GNSS_SPEED_ACCURACY,
    FIX_TYPE,
    CAR_HEADING,
    CAR_ACCURACY,
    GNSS_LATITUDE,
    GNSS_LONGITUDE,
    CAR_LATITUDE,
    CAR_LONGITUDE,
    HELD_COUNT,
) = range(21)

_USES: Final = {
    "Vehicle.Chassis.Axle.Row1.Wheel.Left.Speed": (WHEEL, 0),
    "Vehicle.Chassis.Axle.Row1.Wheel.Right.Speed": (WHEEL, 1),
    "Vehicle.Chassis.Axle.Row2.Wheel.Left.Speed": (WHEEL, 2),
    "Vehicle.Chassis.Axle.Row2.Wheel.Right.Speed": (WHEEL, 3),
    "Wheel.Speed": (SPEED, WHEEL_I),
    "Vehicle.Speed": (SPEED, CAN_I),
    "Obd.Speed": (SPEED, OBD_I),
    "Gnss.Speed": (GNSS, GNSS_I),
    **{f"Imu.Acceleration.{a}": (ACCEL, i) for i, a in enumerate("XYZ")},
    **{f"Imu.AngularVelocity.{a}": (GYRO, i) for i, a in enumerate("XYZ")},
    "Vehicle.Acceleration.Longitudinal": (SERIES, 2),
    "Vehicle.Acceleration.Lateral": (SERIES, 3),
    "Vehicle.AngularVelocity.Yaw": (SERIES, 4),
    "Vehicle.Powertrain.CombustionEngine.Speed": (HELD, RPM),
    "Obd.EngineSpeed": (HELD, OBD_RPM),
    "Vehicle.Chassis.Accelerator.PedalPosition": (HELD, PEDAL),
    "Obd.AcceleratorPedal": (HELD, OBD_PEDAL),
    "Obd.ThrottlePosition": (HELD, OBD_THROTTLE),
    "Vehicle.Chassis.Brake.PedalPosition": (HELD, BRAKE_PEDAL),
    "Vehicle.Chassis.Brake.IsPressed": (HELD, BRAKE),
    "Vehicle.Chassis.SteeringWheel.Angle": (HELD, STEERING),
    "Road.SpeedLimit": (HELD, LIMIT),
    "Power.Ignition": (HELD, IGNITION),
    "Gnss.HorizontalAccuracy": (HELD, GNSS_ACCURACY),
    "Gnss.SpeedAccuracy": (HELD, GNSS_SPEED_ACCURACY),
    "Gnss.FixType": (HELD, FIX_TYPE),
    "Vehicle.CurrentLocation.Heading": (HELD, CAR_HEADING),
    "Vehicle.CurrentLocation.HorizontalAccuracy": (HELD, CAR_ACCURACY),
    "Gnss.Heading": (HEADING, GNSS_HEADING),
    "Gnss.Latitude": (POSITION, 0),
    "Gnss.Longitude": (POSITION, 1),
    "Vehicle.CurrentLocation.Latitude": (POSITION, 2),
    "Vehicle.CurrentLocation.Longitude": (POSITION, 3),
}
USE: Final = np.dtype([("kind", "<i8"), ("index", "<i8"), ("low", "<f8"), ("high", "<f8")])


def uses() -> npt.NDArray[Any]:
    """Return the table from channel number to what this kernel does with it."""
    table = np.zeros(max(c.number for c in CHANNELS) + 1, USE)
    for c in CHANNELS:
        table[c.number] = (*_USES.get(c.name, (IGNORED, 0)), c.low, c.high)
    return table


SOURCES: Final = SPEED_SOURCES + 1  # and the course
GROUPS: Final = 5  # accelerometer, gyroscope, car's longitudinal, lateral, yaw
STREAM: Final = np.dtype(
    [
        ("started", "<i8"),
        ("last", "<i8"),  # time of the newest sample
        ("before_gap", "<i8"),
        ("heard", "<i8"),  # time of the newest sample not after the row
        ("row", "<i8"),  # next row's number
        ("restart", "<i8"),
        ("heard_cell", "<i8", (CELLS, 2)),
        # rings of speeds and of the course
        ("head", "<i8", SOURCES),
        ("first", "<i8", SOURCES),  # of the samples averaged into the newest update
        ("merged", "<i8", SOURCES),
        ("ring_t", "<i8", (SOURCES, RING)),
        ("ring", "<f8", (SOURCES, RING)),
        ("raw", "<f8", SOURCES),
        ("seen", "<i8", SOURCES),
        ("changed", "<i8", SOURCES),
        ("doubt", "<f8", SOURCES),  # a value that looks like a jump
        ("doubt_t", "<i8", SOURCES),
        ("doubt_since", "<i8", SOURCES),
        ("doubts", "<i8", SOURCES),
        ("step", "<f8"),  # last change of the OBD speed
        ("period", "<f8"),  # s, how often the OBD speed is really refreshed
        ("periods", "<i8"),
        # wheels and axes being put together
        ("wheel", "<f8", 4),
        ("wheel_set", "<i8"),
        ("wheel_t", "<i8"),
        ("wheel_seen", "<i8"),
        ("axis", "<f8", (2, 3)),
        ("axis_set", "<i8", 2),
        ("axis_t", "<i8", 2),
        # the last two values of each group, for the median
        ("past", "<f8", (GROUPS, 2, 3)),
        ("past_t", "<i8", (GROUPS, 2)),
        ("past_n", "<i8", GROUPS),
        ("same_since", "<i8"),
        ("bin", "<i8", BINS),
        ("sums", "<f8", (BINS, GROUPS, 3)),
        ("counts", "<f8", (BINS, GROUPS)),
        ("shock", "<f8", BINS),
        ("up", "<f8", 3),
        ("up_s", "<f8"),
        # held values
        ("held", "<f8", HELD_COUNT),
        ("held_t", "<i8", HELD_COUNT),
        ("cell", "<f8", (HELD_COUNT, CELLS)),
        ("cell_row", "<i8", (HELD_COUNT, CELLS)),
        ("latest", "<f8", HELD_COUNT),
        ("latest_t", "<i8", HELD_COUNT),
        ("fix", "<f8", 4),
        ("fix_t", "<i8", 4),
        ("fix_jumps", "<i8", 2),
    ]
)


def new_stream() -> npt.NDArray[Any]:
    """Return the state of a stream that has seen nothing."""
    stream = np.zeros(1, STREAM)
    stream["before_gap"] = -1
    stream["bin"] = -1
    for name in ("heard_cell", "cell_row"):
        stream[name] = -1
    for name in ("held", "latest", "fix"):
        stream[name] = np.nan
    return stream
