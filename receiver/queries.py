"""What the pages ask of the database about trips and events; every function returns plain dataclasses.

Trips are ordered by their start in UTC; one whose boot never learned the time stands where it was received, because a
box sends its trips in order and soon.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, FromClause, Row, Table, and_, func, select

from agent.known import known
from agent.records import Curve, Event, Track, Trip
from receiver import db
from receiver.drive import unpack_track
from receiver.proof import Proof, entries_behind, prove, record_of

PAGE: Final = 20  # trips on a page
EVENTS_PAGE: Final = 30
MOST_EVENTS: Final = 500  # of one trip; more is a defect of a device, and the page says so

_tracks: Final = msgspec.json.Decoder(known(Track))


@dataclass(frozen=True, slots=True)
class BootClock:
    """What UTC a boot's monotonic clock shows; unknown while `offset_ns` is None."""

    offset_ns: int | None
    quality: str
    uncertainty_ns: int

    def utc_ns(self, t_ns: int) -> int | None:
        """Return the UTC of a monotonic time of this boot."""
        return None if self.offset_ns is None else t_ns + self.offset_ns


@dataclass(frozen=True, slots=True)
class TripRow:
    """One line of a list of trips. `marks` counts its events by (kind, severity, confirmed)."""

    id: int
    device: str
    lineage: str
    lane: str
    seq: int
    boot: str
    clock: BootClock
    start_ns: int
    end_ns: int
    received_utc_ns: int
    distance_m: float
    max_speed_mps: float
    marks: dict[tuple[str, str, bool], int] = field(default_factory=dict)
    places: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is shown; numbers count from 1."""

    number: int
    pages: int
    total: int


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event with the trip it belongs to, where that has arrived."""

    id: int
    device: str
    lineage: str
    lane: str
    seq: int
    boot: str
    clock: BootClock
    received_utc_ns: int
    trip_id: int | None
    record: Event


@dataclass(frozen=True, slots=True)
class TripPage:
    """Everything about one trip."""

    row: TripRow
    record: Trip
    events: list[EventRow]
    events_total: int
    track: list[Track]
    curve: list[Curve]
    proof: Proof
    earlier: int | None
    later: int | None


class Altered(Exception):  # noqa: N818 - what happened to the record, not what the caller did
    """A stored record is no record any more: somebody changed the database."""


def trips(engine: Engine, device: str, page: int) -> tuple[list[TripRow], Page]:
    """Return one page of a vehicle's trips, the latest first, with marks and shape."""
    with db.reading(engine) as connection:
        count = select(func.count()).select_from(db.trip).where(db.trip.c.device == device)
        shown = paged(page, connection.execute(count).scalar_one(), PAGE)
        ids = _latest(connection, device, (shown.number - 1) * PAGE, PAGE)
        found = {row.id: row for row in connection.execute(with_clock_columns(db.trip).where(db.trip.c.id.in_(ids)))}
        rows = [found[n] for n in ids]
        marks, places = _marks(connection, ids), _places(connection, ids)
        return [_trip_row(row, marks.get(row.id, {}), places.get(row.id, [])) for row in rows], shown


def trip(engine: Engine, device: str, trip_id: int) -> TripPage | None:
    """Return one trip with everything that belongs to it, or None; raise Altered when its own record is none."""
    with db.reading(engine) as connection:
        own = and_(db.trip.c.device == device, db.trip.c.id == trip_id)
        row = connection.execute(with_clock_columns(db.trip).where(own)).one_or_none()
        if row is None:
            return None
        key = connection.execute(select(db.device.c.public_key).where(db.device.c.id == device)).scalar()
        events, tracks, curves = (_belonging(connection, t, row) for t in (db.harsh_event, db.track, db.curve))
        every = [row, *events, *tracks, *curves]
        entries = entries_behind(connection, every)
        record = record_of(entries, row)
        if record is None:
            raise Altered
        told = ((r, record_of(entries, r)) for r in events)
        return TripPage(
            row=_trip_row(row, {}, []),
            record=record,
            events=[_event_row(r, clock_of(row), row.id, e) for r, e in told if e is not None],
            events_total=_count_belonging(connection, row) if len(events) == MOST_EVENTS else len(events),
            track=[t for t in (record_of(entries, r) for r in tracks) if t is not None],
            curve=[c for c in (record_of(entries, r) for r in curves) if c is not None],
            proof=prove(device, key or "", row, every, entries),
            earlier=_neighbour(connection, device, row, later=False),
            later=_neighbour(connection, device, row, later=True),
        )


def _of_trip(table: Table, row: Row[Any]) -> ColumnElement[bool]:
    return and_(table.c.device == row.device, table.c.boot == row.boot, table.c.trip_t_ns == row.t_ns)


def _belonging(connection: Connection, table: Table, row: Row[Any]) -> Sequence[Row[Any]]:
    """Return the rows of `table` that belong to a trip, in time order."""
    found = select(table).where(_of_trip(table, row)).order_by(table.c.t_ns, table.c.id)
    return connection.execute(found.limit(MOST_EVENTS)).all()


def _count_belonging(connection: Connection, row: Row[Any]) -> int:
    table = db.harsh_event
    return connection.execute(select(func.count()).select_from(table).where(_of_trip(table, row))).scalar_one()


def last_trips(engine: Engine, devices: Sequence[str]) -> dict[str, TripRow]:
    """Return the latest trip of each device that has one."""
    with db.reading(engine) as connection:
        ids = [n for device in devices for n in _latest(connection, device, 0, 1)]
        rows = connection.execute(with_clock_columns(db.trip).where(db.trip.c.id.in_(ids)))
        return {row.device: _trip_row(row, {}, []) for row in rows}


def _latest(connection: Connection, device: str, offset: int, limit: int) -> list[int]:
    """Return the numbers of a device's trips in the order of the list; only they are sorted, not whole rows."""
    number = db.trip.c.id
    ordered = select(number).select_from(db.with_clock(db.trip)).where(db.trip.c.device == device)
    ordered = ordered.order_by(when(db.trip).desc(), number.desc()).offset(offset).limit(limit)
    return list(connection.execute(ordered).scalars())


def events(engine: Engine, device: str, page: int) -> tuple[list[EventRow], Page]:
    """Return one page of all events of a vehicle, the latest arrival first, whether or not their trip has arrived."""
    with db.reading(engine) as connection:
        count = select(func.count()).select_from(db.harsh_event).where(db.harsh_event.c.device == device)
        shown = paged(page, connection.execute(count).scalar_one(), EVENTS_PAGE)
        return _events(connection, device, (shown.number - 1) * EVENTS_PAGE, EVENTS_PAGE), shown


def event(engine: Engine, device: str, event_id: int) -> EventRow | None:
    """Return one event of a vehicle, or None, also where its record cannot be read any more."""
    with db.reading(engine) as connection:
        return next(iter(_events_of(connection, device, [event_id])), None)


def open_events(engine: Engine, device: str) -> list[EventRow]:
    """Return those of a vehicle's newest events whose trip has not arrived: it still goes on, or there is none."""
    with db.reading(engine) as connection:
        return [e for e in _events(connection, device, 0, EVENTS_PAGE) if e.trip_id is None]


def paged(wanted: int, total: int, size: int) -> Page:
    """Return the page nearest to `wanted` that exists."""
    pages = max(1, -(-total // size))
    return Page(min(max(1, wanted), pages), pages, total)


def when(table: Table) -> ColumnElement[int]:
    return func.coalesce(table.c.t_ns + db.boot_clock.c.offset_ns, table.c.received_utc_ns)


def with_clock_columns(table: Table, source: FromClause | None = None) -> Any:
    clock = db.boot_clock.c
    columns = (clock.offset_ns.label("offset_ns"), clock.quality, clock.uncertainty_ns)
    return select(table, *columns).select_from(db.with_clock(table) if source is None else source)


def clock_of(row: Row[Any]) -> BootClock:
    return BootClock(row.offset_ns, row.quality or "none", row.uncertainty_ns or 0)


def _trip_row(row: Row[Any], marks: dict[tuple[str, str, bool], int], places: list[tuple[float, float]]) -> TripRow:
    return TripRow(
        id=row.id,
        device=row.device,
        lineage=row.lineage,
        lane=row.lane,
        seq=row.seq,
        boot=row.boot,
        clock=clock_of(row),
        start_ns=row.t_ns,
        end_ns=row.end_ns,
        received_utc_ns=row.received_utc_ns,
        distance_m=row.distance_m,
        max_speed_mps=row.max_speed_mps,
        marks=marks,
        places=places,
    )


def _event_row(row: Row[Any], clock: BootClock, trip_id: int | None, record: Event) -> EventRow:
    return EventRow(
        id=row.id,
        device=row.device,
        lineage=row.lineage,
        lane=row.lane,
        seq=row.seq,
        boot=row.boot,
        clock=clock,
        received_utc_ns=row.received_utc_ns,
        trip_id=trip_id,
        record=record,
    )


def _belongs_to(table: Table) -> ColumnElement[bool]:
    """Say that a row of `table` is of the trip joined to it."""
    return and_(table.c.device == db.trip.c.device, table.c.boot == db.trip.c.boot, table.c.trip_t_ns == db.trip.c.t_ns)


def _marks(connection: Connection, ids: list[int]) -> dict[int, dict[tuple[str, str, bool], int]]:
    table = db.harsh_event
    by = (db.trip.c.id, table.c.kind, table.c.severity, table.c.confirmed)
    counted = select(*by, func.count()).select_from(db.trip.join(table, _belongs_to(table)))
    marks: dict[int, dict[tuple[str, str, bool], int]] = {}
    for trip_id, kind, severity, confirmed, n in connection.execute(counted.where(db.trip.c.id.in_(ids)).group_by(*by)):
        marks.setdefault(trip_id, {})[kind, severity, bool(confirmed)] = n
    return marks


def _places(connection: Connection, ids: list[int]) -> dict[int, list[tuple[float, float]]]:
    """Return the tracks of trips, for thumbnails."""
    table, entry = db.track, db.entry
    same = [entry.c[name] == table.c[name] for name in ("device", "lineage", "lane", "seq")]
    joined = db.trip.join(table, _belongs_to(table)).join(entry, and_(*same))
    pieces: dict[int, list[Track]] = {}
    for trip_id, body in connection.execute(
        select(db.trip.c.id, entry.c.body).select_from(joined).where(db.trip.c.id.in_(ids))
    ):
        with suppress(msgspec.DecodeError, UnicodeDecodeError):  # altered since it was stored: the trip's page tells
            pieces.setdefault(trip_id, []).append(_tracks.decode(body))
    return {n: [(f.latitude, f.longitude) for f in unpack_track(those)] for n, those in pieces.items()}


def _events(connection: Connection, device: str, offset: int, limit: int) -> list[EventRow]:
    table = db.harsh_event
    newest = select(table.c.id).where(table.c.device == device).order_by(table.c.id.desc()).offset(offset).limit(limit)
    return _events_of(connection, device, connection.execute(newest).scalars().all())


def _events_of(connection: Connection, device: str, ids: Sequence[int]) -> list[EventRow]:
    table = db.harsh_event
    joined = db.with_clock(table).outerjoin(db.trip, _belongs_to(table))
    chosen = with_clock_columns(table, joined).add_columns(db.trip.c.id.label("trip_id"))
    chosen = chosen.where(table.c.id.in_(ids), table.c.device == device)
    rows = connection.execute(chosen.order_by(table.c.id.desc())).all()
    entries = entries_behind(connection, rows)
    told = ((r, record_of(entries, r)) for r in rows)
    return [_event_row(r, clock_of(r), r.trip_id, record) for r, record in told if record is not None]


def _neighbour(connection: Connection, device: str, row: Row[Any], later: bool) -> int | None:
    """Return the trip next to one in the order of the list."""
    began, number = when(db.trip), db.trip.c.id
    utc = row.t_ns + row.offset_ns if row.offset_ns is not None else row.received_utc_ns
    if later:
        beyond = (began > utc) | ((began == utc) & (number > row.id))
        order = (began, number)
    else:
        beyond = (began < utc) | ((began == utc) & (number < row.id))
        order = (began.desc(), number.desc())  # type: ignore[assignment]
    source = select(number).select_from(db.with_clock(db.trip)).where(db.trip.c.device == device, beyond)
    found: int | None = connection.execute(source.order_by(*order).limit(1)).scalar()
    return found
