"""What one record becomes for the pages: the row of its projection, its place in the world, its clock.

A body that does not fit its type is not an error of the lane: the entry is stored as it was signed and flagged.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from math import isfinite, nan
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Table, bindparam, or_, select, tuple_, update

from agent.chain import Entry
from agent.known import known
from agent.records import DRIVING_KINDS, KINDS, Clock, Crash, Event, Record, Track, Trip
from receiver import bulk, db

QUALITIES: Final = ("none", "restored", "ntp", "gnss")  # worst first

UNKNOWN_KIND: Final = "unknown_kind"
INVALID_BODY: Final = "invalid_body"
INCIDENT: Final = re.compile(r"[0-9a-f]{16}")
COMMAND_ID: Final = re.compile(r"[0-9a-f]{32}")
MOST_TEXT: Final = 2000
POSITION: Final = ("position_boot", "position_t_ns", "latitude", "longitude", "speed_mps")  # of db.live, as in Place

Values = tuple[Any, ...]

_LARGEST: Final = 2**62 - 1  # so that a time and its clock's offset still add up to 64 bits
_decoders: Final = {kind: msgspec.json.Decoder(known(record)) for kind, record in KINDS.items()}


class Known(NamedTuple):
    """An entry whose body was understood, and what its kind shows of it (the columns of its `Shown`)."""

    entry: Entry
    record: Record
    values: Values


class Shown(NamedTuple):
    """How a kind of record becomes a row: its table, the columns after those of every entry, and their values."""

    table: Table
    columns: tuple[str, ...]
    values: Callable[[Any], Values]


def read(entry: Entry) -> tuple[Known | None, str]:
    """Return what an entry says, or None and the flag that tells why nobody can say."""
    decoder = _decoders.get(entry.kind)
    if decoder is None:
        return None, UNKNOWN_KIND
    try:
        record = decoder.decode(entry.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, INVALID_BODY
    shown = SHOWN.get(entry.kind)
    values = _clock(record) if shown is None else shown.values(record)
    return (Known(entry, record, values), "") if _storable(values) else (None, INVALID_BODY)


def _storable(values: Values) -> bool:
    """Say whether both databases can hold the values: 63-bit integers, finite numbers, text without NUL."""
    for value in values:
        kind = type(value)
        if kind is int:
            if not -_LARGEST <= value <= _LARGEST:
                return False
        elif kind is float:
            if not isfinite(value):
                return False
        elif kind is str and ("\0" in value or len(value) > MOST_TEXT):
            return False
    return True


def _trip(r: Any) -> Values:
    told = ((name.partition("."), n) for name, n in r.event_counts.items())
    confirmed = (n for (kind, _, severity), n in told if severity != "unconfirmed" and kind in DRIVING_KINDS)
    return (*_of_trip(r), sum(confirmed))


def _event(r: Any) -> Values:
    return (*_of_event(r), r.unit[:16], r.rule[:64])


def _track(r: Any) -> Values:
    return r.start_ns, r.trip_start_ns, len(r.dt_ms), r.error_m


def _mount(r: Any) -> Values:
    return r.t_ns, *r.gravity, *r.forward, r.confidence


def _crash(r: Any) -> Values:
    return (*_of_crash(r), _fitting(INCIDENT, r.id))


def _package(r: Any) -> Values:
    return r.t_ns, _fitting(INCIDENT, r.incident), r.complete, len(r.files), sum(f.size for f in r.files)


def _reply(r: Any) -> Values:
    incident = None if r.incident is None else _fitting(INCIDENT, r.incident)
    return (*_of_reply(r), _fitting(COMMAND_ID, r.id), incident, r.command[:32], r.actor[:64])


def _fitting(pattern: re.Pattern[str], text: str) -> str | float:
    return text if pattern.fullmatch(text) else nan  # not storable


_TRIP: Final = (
    "end_ns", "start_latitude", "start_longitude", "end_latitude", "end_longitude", "distance_m", "moving_s", "idle_s",
    "stops", "max_speed_mps", "night_s",
)  # fmt: skip
_EVENT: Final = (
    "t_ns", "trip_t_ns", "kind", "severity", "confirmed", "duration_ns", "peak", "speed_before_mps", "latitude",
    "longitude",
)  # fmt: skip
_CRASH: Final = (
    "t_ns", "kind", "complete", "locked", "delta_v_mps", "direction_clock", "clipped", "speed_before_mps", "latitude",
    "longitude", "trip_t_ns",
)  # fmt: skip
_REPLY: Final = ("t_ns", "state", "detail", "reason", "expires_utc_ns")
_HEALTH: Final = ("t_ns", "source", "state", "detail")
_AXES: Final = ("gravity_x", "gravity_y", "gravity_z", "forward_x", "forward_y", "forward_z")

_of_trip: Final = attrgetter("start_ns", *_TRIP)
_of_event: Final = attrgetter(*_EVENT)
_of_crash: Final = attrgetter(*_CRASH)
_of_reply: Final = attrgetter(*_REPLY)
_clock: Final = attrgetter("t_ns", "offset_ns", "quality", "uncertainty_ns")

_IDENTITY: Final = ("device", "lineage", "lane", "seq", "boot", "received_utc_ns")
SHOWN: Final[dict[str, Shown]] = {
    "trip": Shown(db.trip, ("t_ns", *_TRIP, "events"), _trip),
    "event": Shown(db.harsh_event, (*_EVENT, "unit", "rule"), _event),
    "track": Shown(db.track, ("t_ns", "trip_t_ns", "points", "error_m"), _track),
    "curve": Shown(db.curve, ("t_ns", "trip_t_ns", "step_ms"), attrgetter("start_ns", "trip_start_ns", "step_ms")),
    "mount": Shown(db.mount, ("t_ns", *_AXES, "confidence"), _mount),
    "health": Shown(db.health, _HEALTH, attrgetter(*_HEALTH)),
    "crash": Shown(db.crash, (*_CRASH, "incident"), _crash),
    "package": Shown(db.package, ("t_ns", "incident", "complete", "files", "bytes"), _package),
    "reply": Shown(db.reply, (*_REPLY, "command_id", "incident", "command", "actor"), _reply),
}
_COLUMNS: Final = {kind: _IDENTITY + shown.columns for kind, shown in SHOWN.items()}


def project(connection: Connection, known: Mapping[str, Sequence[Known]], now_ns: int) -> None:
    """Write the projections of entries that were just stored, by their devices."""
    rows: dict[str, list[Values]] = {}
    places: dict[str, Place] = {}
    clocks: dict[tuple[str, str], Clock] = {}
    for device, those in known.items():
        for e, record, values in those:
            if isinstance(record, Clock):
                before = clocks.get((device, e.boot))
                if before is None or _worth(record) >= _worth(before):
                    clocks[device, e.boot] = record
                continue
            rows.setdefault(e.kind, []).append((device, e.lineage, e.lane, e.seq, e.boot, now_ns, *values))
            place, before_it = _place(e.boot, record), places.get(device)
            if place is not None and (
                before_it is None or place.boot != before_it.boot or place.t_ns >= before_it.t_ns
            ):
                places[device] = place
    for kind, these in rows.items():
        bulk.put(connection, SHOWN[kind].table, _COLUMNS[kind], these)
    if clocks:
        _learn_clocks(connection, clocks)
    if places:
        move_to(connection, places)


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


_SHOW: Final = (
    update(db.live)
    .where(
        db.live.c.device == bindparam("of"),
        or_(
            db.live.c.position_boot.is_(None),
            db.live.c.position_boot != bindparam("position_boot"),
            db.live.c.position_t_ns <= bindparam("position_t_ns"),
        ),
    )
    .values({name: bindparam(name) for name in POSITION})
)


def move_to(connection: Connection, places: Mapping[str, Place]) -> None:
    """Show devices' places unless a later one of the same boot is known; a boot that was not shown yet is later."""
    rows = [{"of": device, **dict(zip(POSITION, place, strict=True))} for device, place in sorted(places.items())]
    connection.execute(_SHOW, rows)


def _learn_clocks(connection: Connection, said: Mapping[tuple[str, str], Clock]) -> None:
    """Keep the best clock of each boot: better quality, then less uncertainty; the newer of equals."""
    table = db.boot_clock
    boots = tuple_(table.c.device, table.c.boot).in_(list(said))
    known = {(row.device, row.boot): _worth(row) for row in connection.execute(select(table).where(boots))}
    for (device, boot), clock in sorted(said.items()):
        if _worth(clock) >= known.get((device, boot), _WORTHLESS):
            row = {n: getattr(clock, n) for n in ("offset_ns", "quality", "uncertainty_ns")}
            row |= {"device": device, "boot": boot}
            connection.execute(db.upsert(connection, table, row, ["device", "boot"]))


def _worth(clock: Any) -> tuple[int, int]:
    return QUALITIES.index(clock.quality), -clock.uncertainty_ns


_WORTHLESS: Final = (-1, 0)
