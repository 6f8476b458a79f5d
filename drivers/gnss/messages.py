"""gpsd's JSON lines as values that can be trusted: wrong types, missing fields and impossible numbers become None.

Source of the fields: gpsd_json(5) of gpsd 3.17 to 3.27. gpsd leaves out what it does not know, so a field that is
absent is unknown and never zero.
"""

import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from agent.clock import NS_PER_S

NO_FIX, DEAD_RECKONING, FIX_2D, FIX_3D, FIX_3D_AND_DR, TIME_ONLY = range(6)  # of channel Gnss.FixType
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BY_MODE: Final = {2: FIX_2D, 3: FIX_3D}
# TPV.status: 5 = dead reckoning, 6 = satellites and dead reckoning, 7 = surveyed position, a receiver that gives time
_BY_STATUS: Final = {5: DEAD_RECKONING, 6: FIX_3D_AND_DR, 7: TIME_ONLY}


class Fix(NamedTuple):
    """One TPV report; None is unknown."""

    fix_type: int
    utc_ns: int | None
    latitude: float | None  # deg WGS-84
    longitude: float | None
    altitude_m: float | None  # above the ellipsoid, as VSS has it
    speed_mps: float | None
    track_deg: float | None
    accuracy_m: float | None  # gpsd's estimate as it gives it: its certainty is stated as unknown
    speed_accuracy_mps: float | None


class Sky(NamedTuple):
    """One SKY report."""

    used: int | None  # satellites in the solution
    heard_dbhz: list[float]  # signal strength of every satellite that is heard at all, strongest first


class Pulse(NamedTuple):
    """A TOFF or PPS report: at `clock_ns` of this machine's wall clock it was `real_ns` UTC."""

    real_ns: int
    clock_ns: int


def parse(line: bytes) -> dict[str, Any] | None:
    """Return the message of one line, None when it is not a JSON object with a class."""
    try:
        message = msgspec.json.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and isinstance(message.get("class"), str) else None


def fix_of(tpv: dict[str, Any]) -> Fix:
    """Read a TPV message."""
    mode = _whole(tpv, "mode")
    fix_type = _BY_MODE.get(mode or 0, NO_FIX)
    if fix_type != NO_FIX:
        fix_type = _BY_STATUS.get(_whole(tpv, "status") or 0, fix_type)
    accuracy = number(tpv, "eph")
    if accuracy is None:
        east, north = number(tpv, "epx"), number(tpv, "epy")
        accuracy = math.hypot(east, north) if east is not None and north is not None else None
    return Fix(
        fix_type=fix_type,
        utc_ns=utc_ns_of(tpv.get("time")),
        latitude=number(tpv, "lat"),
        longitude=number(tpv, "lon"),
        altitude_m=number(tpv, "altHAE"),
        speed_mps=number(tpv, "speed"),
        track_deg=number(tpv, "track"),
        accuracy_m=accuracy,
        speed_accuracy_mps=number(tpv, "eps"),
    )


def sky_of(sky: dict[str, Any]) -> Sky | None:
    """Read a SKY message; None for one that only carries dilutions."""
    listed = sky.get("satellites")
    used = _whole(sky, "uSat")
    if not isinstance(listed, list):
        return None if used is None else Sky(used, [])
    satellites = [s for s in listed if isinstance(s, dict)]
    if used is None:
        used = sum(s.get("used") is True for s in satellites)
    heard = [ss for s in satellites if (ss := number(s, "ss")) is not None and ss > 0]
    return Sky(used, sorted(heard, reverse=True))


def pulse_of(message: dict[str, Any]) -> Pulse | None:
    """Read a TOFF or PPS message; None when a part is missing."""
    parts = [_whole(message, name) for name in ("real_sec", "real_nsec", "clock_sec", "clock_nsec")]
    if any(part is None or abs(part) >= 1 << 53 for part in parts):
        return None
    real_s, real_ns, clock_s, clock_ns = (part or 0 for part in parts)
    return Pulse(real_s * NS_PER_S + real_ns, clock_s * NS_PER_S + clock_ns)


def number(message: dict[str, Any], name: str) -> float | None:
    """Return a finite number of a message, None when it is absent or is none."""
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        value = float(value)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def utc_ns_of(text: object) -> int | None:
    """Return ns since 1970 of gpsd's ISO 8601 time, None when it is none."""
    if not isinstance(text, str) or not text.endswith("Z"):
        return None
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1) * 1000
    except ValueError:
        return None


def _whole(message: dict[str, Any], name: str) -> int | None:
    value = message.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
