"""What a device drove in a range of time, read piece by piece: memory does not grow with the range.

A trip or event belongs to a range by its start in UTC; one whose boot never learned the time by when it was received,
and its own times stay empty in the file. Pages are read by key, so no transaction stays open while a file is written.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Connection, Engine, Table, and_, func, or_, select

from agent.records import Track
from receiver import db
from receiver.drive import Fix, unpack_track

_PAGE: Final = 500  # rows read at a time
_DRIVES: Final = 25  # trips with their tracks
_MOST_PIECES: Final = 400  # of one trip: 200,000 points of a device that means well
T = TypeVar("T")

_tracks: Final = msgspec.json.Decoder(Track)


class Span(NamedTuple):
    """A range of UTC in ns, the end excluded."""

    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True)
class Exported:
    """A trip or an event: its row, and what UTC its boot's clock shows (`offset_ns` None where it never learned)."""

    row: Any
    offset_ns: int | None
    quality: str

    def utc_ns(self, t_ns: int) -> int | None:
        """Return the UTC of a monotonic time of its boot, None too for what is not in 1970 to 2262."""
        utc_ns = -1 if self.offset_ns is None else t_ns + self.offset_ns
        return utc_ns if 0 <= utc_ns < 2**63 else None


@dataclass(frozen=True, slots=True)
class Drive:
    """A trip with its track."""

    trip: Exported
    fixes: list[Fix]


def trips(engine: Engine, device: str, span: Span) -> Iterator[Exported]:
    """Yield a device's trips in the order of their starts."""
    for page in _pages(engine, device, span, _query(db.trip), lambda _, found: found):
        yield from page


def drives(engine: Engine, device: str, span: Span) -> Iterator[Drive]:
    """Yield a device's trips with their tracks, in the order of their starts."""

    def with_tracks(connection: Connection, found: list[Exported]) -> list[Drive]:
        return [Drive(trip, _fixes(connection, trip.row)) for trip in found]

    for page in _pages(engine, device, span, _query(db.trip), with_tracks, _DRIVES):
        yield from page


def events(engine: Engine, device: str, span: Span) -> Iterator[Exported]:
    """Yield a device's events in the order of their times; `trip_id` is that of their trip, where it arrived."""
    for page in _pages(engine, device, span, _with_trip(_query(db.harsh_event)), lambda _, found: found):
        yield from page


def _query(table: Table) -> Any:
    clock = db.boot_clock.c
    when = func.coalesce(table.c.t_ns + clock.offset_ns, table.c.received_utc_ns)
    columns = (table, clock.offset_ns, clock.quality, when.label("when_ns"))
    return select(*columns).select_from(db.with_clock(table))


def _pages(
    engine: Engine,
    device: str,
    span: Span,
    query: Any,
    load: Callable[[Connection, list[Exported]], list[T]],
    size: int = _PAGE,
) -> Iterator[list[T]]:
    column = query.selected_columns
    when, number = column.when_ns.element, column.id
    query = query.where(column.device == device, when < span.to_ns).order_by(when, number).limit(size)
    at = (span.from_ns, -1)
    while True:
        beyond = or_(when > at[0], and_(when == at[0], number > at[1]))
        with db.reading(engine) as connection:
            rows = connection.execute(query.where(beyond)).all()
            page = load(connection, [Exported(r, r.offset_ns, r.quality or "none") for r in rows])
        yield page
        if len(rows) < size:
            return
        at = (rows[-1].when_ns, rows[-1].id)


def _with_trip(query: Any) -> Any:
    trip, table = db.trip.c, db.harsh_event
    of = and_(trip.device == table.c.device, trip.boot == table.c.boot, trip.t_ns == table.c.trip_t_ns)
    return query.add_columns(select(func.min(trip.id)).where(of).scalar_subquery().label("trip_id"))


def _fixes(connection: Connection, trip: Any) -> list[Fix]:
    table, entry = db.track, db.entry
    same = and_(*(entry.c[name] == table.c[name] for name in ("device", "lineage", "lane", "seq")))
    of = and_(table.c.device == trip.device, table.c.boot == trip.boot, table.c.trip_t_ns == trip.t_ns)
    query = select(entry.c.body).select_from(table.join(entry, same)).where(of)
    pieces = []
    for body in connection.execute(query.order_by(table.c.t_ns, table.c.id).limit(_MOST_PIECES)).scalars():
        try:
            pieces.append(_tracks.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # altered since it was stored: the trip's page tells
    return unpack_track(pieces)
