"""What one record becomes for the pages: the row of its projection, its place in the world, its clock.

A body that does not fit its type is not an error of the lane: the entry is stored as it was signed and flagged.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Table, and_, or_, select

from agent.chain import Entry
from agent.records import DRIVING_KINDS, KINDS, Clock, Crash, Event, Record, Track, Trip
from receiver import db

QUALITIES: Final = ("none", "restored", "ntp", "gnss")  # worst first

UNKNOWN_KIND: Final = "unknown_kind"
INVALID_BODY: Final = "invalid_body"
INCIDENT: Final = re.compile(r"[0-9a-f]{16}")
COMMAND_ID: Final = re.compile(r"[0-9a-f]{32}")

Row = dict[str, Any]

_LARGEST: Final = 2**62 - 1  # so that a time and its clock's offset still add up to 64 bits
_decoders: Final = {kind: msgspec.json.Decoder(record) for kind, record in KINDS.items()}


class Known(NamedTuple):
    """An entry whose body was understood, and the columns that its kind shows."""

    entry: Entry
    record: Record
    row: Row


def read(entry: Entry) -> tuple[Known | None, str]:
    """Return what an entry says, or None and the flag that tells why nobody can say."""
    decoder = _decoders.get(entry.kind)
    if decoder is None:
        return None, UNKNOWN_KIND
    try:
        record = decoder.decode(entry.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, INVALID_BODY
    row = _ROWS[entry.kind](record) if entry.kind in _ROWS else _clock_row(record)
    return (Known(entry, record, row), "") if all(map(_storable, row.values())) else (None, INVALID_BODY)


def _storable(value: object) -> bool:
    """Say whether both databases can hold the value: 63-bit integers, finite numbers, text without NUL."""
    if isinstance(value, int):
        return -_LARGEST <= value <= _LARGEST
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, str) or ("\0" not in value and len(value) <= 2000)


def _trip_row(r: Any) -> Row:
    told = ((name.partition("."), n) for name, n in r.event_counts.items())
    confirmed = (n for (kind, _, severity), n in told if severity != "unconfirmed" and kind in DRIVING_KINDS)
    same = "end_ns start_latitude start_longitude end_latitude end_longitude distance_m moving_s idle_s stops"
    return {**_same(r, same + " max_speed_mps night_s"), "t_ns": r.start_ns, "events": sum(confirmed)}


def _event_row(r: Any) -> Row:
    same = "trip_t_ns kind severity confirmed duration_ns peak unit speed_before_mps rule latitude longitude"
    row = {**_same(r, same), "t_ns": r.t_ns}
    return {**row, "unit": row["unit"][:16], "rule": row["rule"][:64]}


def _track_row(r: Any) -> Row:
    return {"trip_t_ns": r.trip_start_ns, "t_ns": r.start_ns, "points": len(r.dt_ms), "error_m": r.error_m}


def _curve_row(r: Any) -> Row:
    return {"trip_t_ns": r.trip_start_ns, "t_ns": r.start_ns, "step_ms": r.step_ms}


def _mount_row(r: Any) -> Row:
    axes = {
        f"{name}_{axis}": v for name in ("gravity", "forward") for axis, v in zip("xyz", getattr(r, name), strict=True)
    }
    return {**axes, "confidence": r.confidence, "t_ns": r.t_ns}


def _health_row(r: Any) -> Row:
    return _same(r, "source state detail t_ns")


def _crash_row(r: Any) -> Row:
    same = "kind complete locked delta_v_mps direction_clock clipped speed_before_mps latitude longitude trip_t_ns t_ns"
    return {**_same(r, same), "incident": _incident(r.id)}


def _package_row(r: Any) -> Row:
    row = {"t_ns": r.t_ns, "incident": _incident(r.incident), "complete": r.complete}
    return {**row, "files": len(r.files), "bytes": sum(f.size for f in r.files)}


def _reply_row(r: Any) -> Row:
    row = {**_same(r, "t_ns state detail reason expires_utc_ns"), "command_id": _fitting(COMMAND_ID, r.id)}
    row["incident"] = None if r.incident is None else _incident(r.incident)
    return {**row, "command": r.command[:32], "actor": r.actor[:64]}


def _fitting(pattern: re.Pattern[str], text: str) -> str | float:
    return text if pattern.fullmatch(text) else math.nan  # not storable


def _incident(text: str) -> str | float:
    return _fitting(INCIDENT, text)


def _clock_row(r: Any) -> Row:
    return _same(r, "t_ns offset_ns quality uncertainty_ns")


def _same(record: Record, names: str) -> Row:
    return {name: getattr(record, name) for name in names.split()}


_ROWS: Final[dict[str, Callable[[Any], Row]]] = {
    "trip": _trip_row,
    "event": _event_row,
    "track": _track_row,
    "curve": _curve_row,
    "mount": _mount_row,
    "health": _health_row,
    "crash": _crash_row,
    "package": _package_row,
    "reply": _reply_row,
}
_TABLES: Final[dict[str, Table]] = {
    "trip": db.trip,
    "event": db.harsh_event,
    "track": db.track,
    "curve": db.curve,
    "mount": db.mount,
    "health": db.health,
    "crash": db.crash,
    "package": db.package,
    "reply": db.reply,
}


def project(connection: Connection, device: str, known: Sequence[Known], now_ns: int) -> None:
    """Write the projections of entries that were just stored."""
    rows: dict[str, list[Row]] = {}
    place: Place | None = None
    for entry, record, columns in known:
        if isinstance(record, Clock):
            _learn_clock(connection, device, entry.boot, record)
            continue
        identity = {"device": device, "lineage": entry.lineage, "lane": entry.lane, "seq": entry.seq}
        rows.setdefault(entry.kind, []).append({**identity, "boot": entry.boot, "received_utc_ns": now_ns, **columns})
        place = _place(entry.boot, record) or place
    for kind, those in rows.items():
        connection.execute(_TABLES[kind].insert(), those)
    if place is not None:
        move_to(connection, device, place)


class Place(NamedTuple):
    """Where a device was, at `t_ns` of `boot`."""

    boot: str
    t_ns: int
    latitude: float
    longitude: float
    speed_mps: float | None


def _place(boot: str, record: Record) -> Place | None:
    """Return the last place that a record tells of."""
    match record:
        case (
            Event(latitude=float(latitude), longitude=float(longitude))
            | Crash(latitude=float(latitude), longitude=float(longitude))
        ):
            return Place(boot, record.t_ns, latitude, longitude, record.speed_before_mps)
        case Trip(end_latitude=float(latitude), end_longitude=float(longitude)):
            return Place(boot, record.end_ns, latitude, longitude, 0.0)
        case Track() if record.dt_ms and len(record.dt_ms) == len(record.dlat_e7) == len(record.dlon_e7):
            latitude, longitude = sum(record.dlat_e7) / 1e7, sum(record.dlon_e7) / 1e7
            t_ns = record.start_ns + 1_000_000 * sum(record.dt_ms)
            if abs(latitude) > 90 or abs(longitude) > 180 or abs(t_ns) > _LARGEST:
                return None
            speed = record.speed_cmps[-1] / 100 if record.speed_cmps and record.speed_cmps[-1] >= 0 else None
            return Place(boot, t_ns, latitude, longitude, speed)
    return None


def move_to(connection: Connection, device: str, place: Place) -> None:
    """Show the place unless a later one of the same boot is known; a boot that was not shown yet is a later one."""
    live = db.live
    later = or_(live.c.position_boot.is_(None), live.c.position_boot != place.boot, live.c.position_t_ns <= place.t_ns)
    connection.execute(
        live.update()
        .where(and_(live.c.device == device, later))
        .values(
            position_boot=place.boot,
            position_t_ns=place.t_ns,
            latitude=place.latitude,
            longitude=place.longitude,
            speed_mps=place.speed_mps,
        )
    )


def _learn_clock(connection: Connection, device: str, boot: str, said: Clock) -> None:
    """Keep the best clock of a boot: better quality, then less uncertainty; the newer of equals."""
    table = db.boot_clock
    here = and_(table.c.device == device, table.c.boot == boot)
    known = connection.execute(select(table).where(here)).one_or_none()
    values = {"offset_ns": said.offset_ns, "quality": said.quality, "uncertainty_ns": said.uncertainty_ns}
    if known is None:
        connection.execute(db.upsert(connection, table, {"device": device, "boot": boot, **values}, ["device", "boot"]))
    elif _worth(said.quality, said.uncertainty_ns) >= _worth(known.quality, known.uncertainty_ns):
        connection.execute(table.update().where(here).values(**values))


def _worth(quality: str, uncertainty_ns: int) -> tuple[int, int]:
    return QUALITIES.index(quality), -uncertainty_ns
