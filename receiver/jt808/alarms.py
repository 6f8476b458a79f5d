"""Which alarm bit of a 0x0200 each of our events and crashes sets: the whole rule, in tables.

Bits by JT/T 808-2019, table of alarm flags (docs/sources.md, J1). The base standard knows no harsh driving; what is not
in a table is not told to the platform.
"""

from typing import Final

from agent.records import CrashKind

OVERSPEED: Final = 1 << 1
FATIGUE: Final = 1 << 2
ANTENNA_OPEN: Final = 1 << 5
UNDERVOLTAGE: Final = 1 << 7
POWER_CUT: Final = 1 << 8
CAMERA_FAULT: Final = 1 << 11
OVERSPEED_WARNING: Final = 1 << 13
FATIGUE_WARNING: Final = 1 << 14
ILLEGAL_MOVE: Final = 1 << 28
COLLISION: Final = 1 << 29
ROLLOVER: Final = 1 << 30

# What an event means when two instruments agree …
CONFIRMED: Final[dict[str, int]] = {
    "speeding": OVERSPEED,
    "fatigue": FATIGUE,
    "gnss_lost": ANTENNA_OPEN,  # a box that has seen satellites drives where none is in sight for longer than a tunnel
    "low_battery": UNDERVOLTAGE,
    "power_lost": POWER_CUT,
    "camera_lost": CAMERA_FAULT,
    "camera_frozen": CAMERA_FAULT,
    "camera_blind": CAMERA_FAULT,
    "towed": ILLEGAL_MOVE,
    "parked_impact": COLLISION,
}
# … and when only one says so: where the standard has a warning beside the alarm, that.
UNCONFIRMED: Final[dict[str, int]] = {
    **CONFIRMED,
    "speeding": OVERSPEED_WARNING,
    "fatigue": FATIGUE_WARNING,
}
CRASH: Final[dict[CrashKind, int]] = {"impact": COLLISION, "suspected": COLLISION, "rollover": ROLLOVER}
KINDS: Final = tuple(sorted({*CONFIRMED, *UNCONFIRMED}))


def of_event(kind: str, confirmed: bool) -> int:
    """Return the alarm bits of an event, 0 for one that a platform is not told."""
    return (CONFIRMED if confirmed else UNCONFIRMED).get(kind, 0)
