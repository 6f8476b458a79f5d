"""The trips and events behind the points of a score: signed entries turned into rows that a page can link to."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row, Table, and_, func, select

from receiver import db
from receiver.queries import BootClock, clock_of
from receiver.scoring.result import EntryId

_AT_ONCE: Final = 400  # a statement takes no more parameters than that for sure


@dataclass(frozen=True, slots=True)
class Behind:
    """One trip, or one event in it. `mark` is the event's number on its trip's page, 0 for a trip."""

    trip_id: int | None
    mark: int
    kind: str  # of the event, "" for a trip
    severity: str
    confirmed: bool
    clock: BootClock
    t_ns: int
    received_utc_ns: int
    distance_m: float  # of the trip, 0 for an event


def behind(engine: Engine, device: str, entries: Iterable[EntryId]) -> dict[EntryId, Behind]:
    """Return what stands behind signed entries of a device; one that is neither trip nor event is left out."""
    wanted = set(entries)
    found: dict[EntryId, Behind] = {}
    with db.reading(engine) as connection:
        for table, read in ((db.trip, _trip), (db.harsh_event, _event)):
            lane = "trip" if table is db.trip else "event"
            numbers = sorted({e.seq for e in wanted if e.lane == lane})
            for first in range(0, len(numbers), _AT_ONCE):
                for row in _rows(connection, table, device, numbers[first : first + _AT_ONCE]):
                    entry = EntryId(row.lineage, row.lane, row.seq)
                    if entry in wanted:
                        found[entry] = read(row)
    return found


def _rows(connection: Connection, table: Table, device: str, numbers: list[int]) -> Iterable[Row[Any]]:
    clock = db.boot_clock.c
    times = (clock.offset_ns.label("offset_ns"), clock.quality, clock.uncertainty_ns)
    of = (table.c.device == device, table.c.seq.in_(numbers))
    if table is db.trip:
        return connection.execute(select(table, *times).select_from(db.with_clock(table)).where(*of)).all()
    # numbered as the page of the trip numbers them: by time
    whose = (table.c.device, table.c.boot, table.c.trip_t_ns)
    mark = func.row_number().over(partition_by=whose, order_by=(table.c.t_ns, table.c.id)).label("mark")
    marked = select(table.c.id, mark).where(table.c.device == device).subquery()
    same_trip = and_(
        db.trip.c.device == table.c.device, db.trip.c.boot == table.c.boot, db.trip.c.t_ns == table.c.trip_t_ns
    )
    joined = db.with_clock(table).join(marked, marked.c.id == table.c.id).outerjoin(db.trip, same_trip)
    chosen = select(table, *times, marked.c.mark, db.trip.c.id.label("trip_id")).select_from(joined)
    return connection.execute(chosen.where(*of)).all()


def _trip(row: Row[Any]) -> Behind:
    return Behind(row.id, 0, "", "", True, clock_of(row), row.t_ns, row.received_utc_ns, row.distance_m)


def _event(row: Row[Any]) -> Behind:
    sure, clock = bool(row.confirmed), clock_of(row)
    return Behind(row.trip_id, row.mark, row.kind, row.severity, sure, clock, row.t_ns, row.received_utc_ns, 0.0)
