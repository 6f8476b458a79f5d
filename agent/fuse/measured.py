"""The row between fusion's two kernels: what every sensor said about one instant, not yet in vehicle axes."""

from typing import Final

import numpy as np

SPEED_SOURCES: Final = 4  # wheel, can, obd, gnss, in order of preference
WHEEL_I, CAN_I, OBD_I, GNSS_I, COURSE_I = range(5)

# What fusion counts, in the order of its counter array.
COUNTS: Final = (
    "late_samples",
    "not_finite",
    "out_of_range",
    "wheel_jumps",
    "can_jumps",
    "obd_jumps",
    "gnss_jumps",
    "position_jumps",
    "gnss_inaccurate",
    "obd_repeats",
    "gaps",
    "imu_stuck_rows",
    "handled_rows",
    "frozen_speed_rows",
    "box_moved",
)
(
    LATE,
    NOT_FINITE,
    OUT_OF_RANGE,
    JUMPS,  # + speed source
    _,
    _,
    _,
    POSITION_JUMPS,
    INACCURATE,
    REPEATS,
    GAPS,
    STUCK,
    HANDLED,
    FROZEN,
    MOVED,
) = range(len(COUNTS))

MEASURED: Final = np.dtype(
    [
        ("t", "<i8"),
        ("quiet_ns", "<i8"),
        ("restart", "<i8"),  # 1 on the first row after a gap
        ("speed", "<f8", SPEED_SOURCES),  # m/s at t
        ("slope", "<f8", SPEED_SOURCES),  # m/s²
        ("same_s", "<f8", SPEED_SOURCES),  # how long the value has not changed
        ("course_rate", "<f8"),  # deg/s clockwise
        ("accel_1s", "<f8", 3),  # m/s², box axes, centred mean
        ("accel_half", "<f8", 3),
        ("gyro_1s", "<f8", 3),  # deg/s
        ("gyro_half", "<f8", 3),
        ("imu_same_s", "<f8"),
        ("vertical", "<f8"),
        ("car_lon", "<f8"),  # the vehicle's own sensors: 1 s mean, and 0.5 s means
        ("car_lat", "<f8"),
        ("car_yaw", "<f8"),
        ("gnss_accuracy", "<f8"),  # m/s
        ("rpm", "<f8"),
        ("throttle", "<f8"),
        ("brake", "<f8"),
        ("steering", "<f8"),
        ("latitude", "<f8"),
        ("longitude", "<f8"),
        ("accuracy", "<f8"),
        ("heading", "<f8"),
        ("limit", "<f8"),
        ("ignition", "<f8"),
    ]
)
