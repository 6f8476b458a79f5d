"""What the understanding kernel believes about the vehicle and the box: its constants and persistent state."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agent.fuse.measured import SPEED_SOURCES
from agent.state import STEP_NS

DT: Final = STEP_NS * 1e-9
STANDARD_G: Final = 9.80665
STILL_ROWS: Final = 20
ROWS_PER_CHECK: Final = 10  # the mount is worked out once a second
CORRELATED_ROWS: Final = 30.0  # 10 Hz rows of 1 s windows on a rolling road: one independent value in about 3 s
LEARN_MPS: Final = 1.0
LEARN_LIMIT: Final = 7.0  # m/s², beyond which a row is a knock rather than driving
RECENT_S: Final = 180.0  # memory of the second opinion that notices a box turned about the vertical
TURNED_COS: Final = 0.9063  # 25°
# Satellite speed has no scale error; wheels, bus and PID 0x0D read up to a few per cent wrong (D2, WAHL). The ratio is
# learned at a steady speed, where a lag of the satellites does no harm, and comes into use over a minute.
SCALE_MPS: Final = 8.0
SCALE_LIMIT: Final = 0.1
SCALE_S: Final = 300.0
SCALE_ROWS: Final = 600.0
STUCK_S: Final = 2.0
NOTE_MOUNT: Final = 1.0
NOTE_MOVED: Final = 2.0

NOTE: Final = np.dtype(
    [("kind", "<f8"), ("t", "<i8"), ("up", "<f8", 3), ("forward", "<f8", 3), ("confidence", "<f8"), ("angle", "<f8")]
)
# Evidence for forward, decayed: box acceleration against slope on straights, against speed × yaw rate in turns.
EVIDENCE: Final = np.dtype(
    [("xs", "<f8", 3), ("ss", "<f8"), ("aa", "<f8"), ("n", "<f8"), ("xc", "<f8", 3), ("cc", "<f8")]
)
VEHICLE: Final = np.dtype(
    [
        ("up", "<f8", 3),
        ("g", "<f8"),  # size of the rest reading
        ("up_s", "<f8"),  # how much driving and standing it rests on; 0 before gravity is known
        ("first", "<f8", 3),  # sum for the first gravity
        ("first_s", "<f8"),
        ("slow", "<f8", 3),  # 10 s mean of the accelerometer: how the box sits now
        ("slow_s", "<f8"),
        ("tilted_rows", "<i8"),
        ("suspect_rows", "<i8"),
        ("residual", "<f8", 2),  # 3 s mean of box minus speed: forward, left
        ("forward", "<f8", 3),
        ("confidence", "<f8"),
        ("noted", "<f8"),  # confidence and direction last told
        ("noted_forward", "<f8", 3),
        ("noted_up", "<f8", 3),
        ("evidence", EVIDENCE, 2),  # whole memory, recent
        ("average", "<f8", 5),  # 10 s means: box acceleration, slope, speed × yaw rate
        ("average_n", "<f8"),
        ("gyro_bias", "<f8", 3),
        ("gyro_n", "<f8"),
        ("yaw_bias", "<f8"),  # what a straight course leaves about the vertical, after gyro_bias
        ("car_yaw_bias", "<f8"),
        ("level", "<f8", 3),
        ("road", "<f8", 2),  # bias of lon: box, car
        ("road_n", "<f8", 2),
        ("roll", "<f8", 2),  # bias of lat: box, car
        ("roll_n", "<f8", 2),
        ("scale", "<f8", SPEED_SOURCES),  # relative error of each speed against the satellites
        ("scale_n", "<f8", SPEED_SOURCES),
        ("unsure_s", "<f8"),  # time without any slope
        ("still_rows", "<i8"),
        ("rows", "<i8"),
    ]
)


def new_vehicle() -> npt.NDArray[Any]:
    """Return the state of a vehicle of which nothing is known."""
    return np.zeros(1, VEHICLE)
