"""The vehicle state that fusion gives and detection takes: one row every 100 ms, in vehicle axes.

A row at time t describes t, although it is made from samples up to 1.5 s later (centred windows, and a 1 Hz fix on
both sides; docs/decisions/0040); a value that is not known is NaN. Detection and trips read nothing else, so that what
they see can be stored and shown.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

STEP_NS: Final = 100_000_000  # 10 Hz, the rate of the accident record (49 CFR 563 as amended 2024, GB/T 19056-2021)

# Bits of `sources`, and the order in which `lon_*`/`lat_*` sources are preferred.
WHEEL: Final = 1  # wheel speeds from the bus
CAN: Final = 2  # the vehicle's own speed or acceleration signal from the bus
OBD: Final = 4  # SAE J1979 vehicle speed
GNSS: Final = 8  # satellite receiver
IMU: Final = 16  # the box's own inertial sensor
SOURCE_NAMES: Final[dict[int, str]] = {WHEEL: "wheel", CAN: "can", OBD: "obd", GNSS: "gnss", IMU: "imu"}

STATE: Final = np.dtype(
    [
        ("t", "<i8"),  # ns, a multiple of STEP_NS
        ("speed", "<f8"),  # m/s, fused
        ("sources", "<u2"),  # speed sources that are fresh and agree with the fused speed
        # longitudinal acceleration, m/s², forward positive, by source: least-squares slope over 1 s of that source's
        # speed, or the 1 s mean of an accelerometer with gravity and road slope removed
        ("lon_wheel", "<f8"),
        ("lon_can", "<f8"),  # slope of the bus's vehicle speed
        ("lon_obd", "<f8"),
        ("lon_gnss", "<f8"),
        ("lon_imu", "<f8"),  # box IMU, only once the mount is known
        ("lon_vehicle", "<f8"),  # the vehicle's own accelerometer
        # lateral acceleration, m/s², left positive, 0.5 s mean
        ("lat_imu", "<f8"),  # box IMU, only once the mount is known
        ("lat_yaw", "<f8"),  # speed × yaw rate about the vertical
        ("lat_gnss", "<f8"),  # speed × rate of GNSS course
        ("lat_vehicle", "<f8"),  # the vehicle's own accelerometer
        # without a known mount
        (
            "horizontal",
            "<f8",
        ),  # magnitude of the horizontal box acceleration, gravity removed, 0.5 s mean vector
        ("vertical", "<f8"),  # largest |vertical box acceleration − g| in the last 0.5 s
        ("yaw_rate", "<f8"),  # deg/s about the vertical, left positive
        ("rpm", "<f8"),
        ("throttle", "<f8"),  # %
        ("brake", "<f8"),  # 0..1: pressed, or pedal position / 100
        ("steering", "<f8"),  # deg, left positive
        ("latitude", "<f8"),  # deg WGS-84, NaN without a fix within the last 3 s
        ("longitude", "<f8"),
        ("accuracy", "<f8"),  # m, 1-sigma horizontal
        ("heading", "<f8"),  # deg from north, clockwise
        ("limit", "<f8"),  # m/s, speed limit where a layer gives one
        ("ignition", "<i1"),  # 1 on, 0 off, -1 not known
        ("quiet_ns", "<i8"),  # ns since the last sample of any channel (a data gap when large)
        # m/s, each source's own speed at t (interpolated between its samples), NaN where it is not fresh
        ("speed_wheel", "<f8"),
        ("speed_can", "<f8"),
        ("speed_obd", "<f8"),
        ("speed_gnss", "<f8"),
        ("mount", "<f8"),  # 0..1, confidence in the learned box orientation; 0 or NaN before it is learned
    ]
)

State = npt.NDArray[np.void]


def empty_state(n: int = 0) -> State:
    """Return `n` rows in which nothing is known."""
    rows = np.zeros(n, STATE)
    for name in STATE.names or ():
        if STATE[name].kind == "f":
            rows[name] = np.nan
    rows["ignition"] = -1
    return rows
