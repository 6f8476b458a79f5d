"""What the kernels hand to the detector: one row for each event found, and the codes used in it."""

from typing import Final

import numpy as np

from agent.records import EventKind
from agent.state import CAN, GNSS, IMU, OBD, SOURCE_NAMES, WHEEL

KINDS: Final[tuple[EventKind, ...]] = (
    "harsh_braking",
    "harsh_acceleration",
    "harsh_cornering",
    "speeding",
    "idling",
    "over_rev",
    "fatigue",
)
BRAKING: Final = 0
ACCELERATION: Final = 1
CORNERING: Final = 2
SPEEDING: Final = 3
IDLING: Final = 4
OVER_REV: Final = 5
FATIGUE: Final = 6

# Bits of FOUND.sources beyond those of STATE.sources.
VEHICLE: Final = 32  # the vehicle's own accelerometer
YAW: Final = 64  # speed × yaw rate
BRAKE: Final = 128  # brake pedal
ENGINE: Final = 256  # engine speed
IGNITION: Final = 512
EVIDENCE_NAMES: Final[dict[int, str]] = {
    **SOURCE_NAMES,
    VEHICLE: "vehicle",
    YAW: "yaw",
    BRAKE: "brake",
    ENGINE: "engine",
    IGNITION: "ignition",
}
SPEED_BITS: Final = (WHEEL, CAN, OBD, GNSS, IMU)

FOUND: Final = np.dtype(
    [
        ("kind", "<i8"),  # index into KINDS
        ("open", "<i8"),  # 1: the event has begun (its window is cut then), 0: it is over and complete
        ("level", "<i8"),  # 0 minor, 1 moderate, 2 severe
        ("confirmed", "<i8"),
        ("oriented", "<i8"),  # 0: found by the rule that knows neither orientation nor speed
        ("start", "<i8"),  # ns
        ("end", "<i8"),  # ns
        ("at", "<i8"),  # ns, time of the row at which this was known
        ("peak", "<f8"),
        ("speed_before", "<f8"),  # m/s
        ("limit", "<f8"),  # m/s, speeding only
        ("latitude", "<f8"),
        ("longitude", "<f8"),
        ("sources", "<i8"),  # bits of EVIDENCE_NAMES
    ]
)
