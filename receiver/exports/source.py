"""What a device drove in a range of time, read piece by piece: memory does not grow with the range.

A trip or event belongs to a range by its start in UTC; one whose boot never learned the time by when it was received,
and its own times stay empty in the file. Pages are read by key, so no transaction stays open while a file is written.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Engine, Table, and_, bindparam, func, or_, select

from agent.known import known
from agent.records import Track
from receiver import db
from receiver.drive import Fix, unpack_track

_PAGE: Final = 1000  # rows read at a time: finding a page walks over all of the device's
_DRIVES: Final = 20  # trips with their tracks
_MOST_PIECES: Final = 400  # of one trip: 200,000 points of a device that means well
_tracks: Final = msgspec.json.Decoder(known(Track))


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
    for page in _pages(engine, device, span, _query(db.trip)):
        yield from page


def drives(engine: Engine, device: str, span: Span) -> Iterator[Drive]:
    """Yield a device's trips with their tracks, in the order of their starts."""
    for page in _pages(engine, device, span, _query(db.trip)):
        for first in range(0, len(page), _DRIVES):
            with db.reading(engine) as connection:
                some = [Drive(trip, fixes(connection, trip.row)) for trip in page[first : first + _DRIVES]]
            yield from some


def events(engine: Engine, device: str, span: Span) -> Iterator[Exported]:
    """Yield a device's events in the order of their times; `trip_id` is that of their trip, where it arrived."""
    for page in _pages(engine, device, span, with_trip(_query(db.harsh_event))):
        yield from page


def _query(table: Table) -> Any:
    clock = db.boot_clock.c
    when = func.coalesce(table.c.t_ns + clock.offset_ns, table.c.received_utc_ns)
    columns = (table, clock.offset_ns, clock.quality, when.label("when_ns"))
    return select(*columns).select_from(db.with_clock(table))


def _pages(engine: Engine, device: str, span: Span, query: Any) -> Iterator[list[Exported]]:
    column = query.selected_columns
    when, number = column.when_ns.element, column.id
    query = query.where(column.device == device, when < span.to_ns).order_by(when, number).limit(_PAGE)
    at = (span.from_ns, -1)
    while True:
        beyond = or_(when > at[0], and_(when == at[0], number > at[1]))
        with db.reading(engine) as connection:
            rows = connection.execute(query.where(beyond)).all()
        yield [Exported(r, r.offset_ns, r.quality or "none") for r in rows]
        if len(rows) < _PAGE:
            return
        at = (rows[-1].when_ns, rows[-1].id)


def with_trip(query: Any) -> Any:
    """Add the column `trip_id` to a query of events: that of their trip, NULL where it has not arrived."""
    trip, table = db.trip.c, db.harsh_event
    of = and_(trip.device == table.c.device, trip.boot == table.c.boot, trip.t_ns == table.c.trip_t_ns)
    return query.add_columns(select(func.min(trip.id)).where(of).scalar_subquery().label("trip_id"))


def _pieces_query() -> Any:
    table, entry = db.track, db.entry
    same = and_(*(entry.c[name] == table.c[name] for name in ("device", "lineage", "lane", "seq")))
    named = ("device", "boot", "trip_t_ns")
    of = and_(*(table.c[name] == bindparam(f"of_{name}") for name in named))
    query = select(entry.c.body).select_from(table.join(entry, same)).where(of)
    return query.order_by(table.c.t_ns, table.c.id).limit(_MOST_PIECES)


_PIECES: Final = _pieces_query()  # built once: asked for every trip


def fixes(connection: Connection, trip: Any) -> list[Fix]:
    """Return the track of a trip's row."""
    of = {"of_device": trip.device, "of_boot": trip.boot, "of_trip_t_ns": trip.t_ns}
    pieces = []
    for body in connection.execute(_PIECES, of).scalars():
        try:
            pieces.append(_tracks.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # altered since it was stored: the trip's page tells
    return unpack_track(pieces)
