"""What the pages ask of the database about vehicles: sums, live state, how far their records have come."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ARRAY, ColumnElement, Connection, Engine, Row, String, any_, case, func, literal, select, true

from agent import messages
from receiver import db
from receiver.queries import Page, paged, when

PAGE: Final = 20  # vehicles on a page
MOST_PENDING: Final = 20
MOST_NAMED: Final = 100  # in a statement


@dataclass(frozen=True, slots=True)
class Sums:
    """What a set of trips adds up to."""

    trips: int = 0
    distance_m: float = 0.0
    events: int = 0  # confirmed ones


@dataclass(frozen=True, slots=True)
class Live:
    """What is known of a device now; `position_t_ns` is monotonic time of `position_boot`."""

    online: bool
    since_utc_ns: int
    seen_utc_ns: int
    position_boot: str | None
    position_utc_ns: int | None
    latitude: float | None
    longitude: float | None
    speed_mps: float | None


@dataclass(frozen=True, slots=True)
class Vehicle:
    """One enrolled device with its sums: in all, since the week began, since the month began."""

    id: str
    state: str
    birth_utc_ns: int | None
    live: Live | None
    total: Sums
    week: Sums
    month: Sums
    waiting: int  # records that were still on the device when it last connected
    lost: int  # records that neither side holds
    refused: int  # messages that failed the check of signature or chain


@dataclass(frozen=True, slots=True)
class Pending:
    """A device that waits for enrolment."""

    id: str
    first_utc_ns: int
    last_utc_ns: int


def vehicles(
    engine: Engine, week_ns: int, month_ns: int, page: int, only: Collection[str] | None = None
) -> tuple[list[Vehicle], Page]:
    """Return the vehicles of one page, by name, all or `only` those; weeks and months begin at the given UTC."""
    table = db.device
    with db.reading(engine) as connection:
        chosen = true() if only is None else among(connection, table.c.id, only)
        total = connection.execute(select(func.count()).select_from(table).where(chosen)).scalar_one()
        shown = paged(page, total, PAGE)
        ordered = select(table).where(chosen).order_by(table.c.id)
        rows = connection.execute(ordered.offset((shown.number - 1) * PAGE).limit(PAGE)).all()
        return _vehicles(connection, rows, week_ns, month_ns), shown


def vehicle(engine: Engine, device: str, week_ns: int, month_ns: int) -> Vehicle | None:
    """Return one vehicle, or None for a device that is not enrolled."""
    with db.reading(engine) as connection:
        rows = connection.execute(select(db.device).where(db.device.c.id == device)).all()
        return next(iter(_vehicles(connection, rows, week_ns, month_ns)), None)


def pending(engine: Engine) -> tuple[list[Pending], int]:
    """Return the devices that asked last to be enrolled, and how many there are in all."""
    table = db.pending_device
    with db.reading(engine) as connection:
        total = connection.execute(select(func.count()).select_from(table)).scalar_one()
        columns = select(table.c.id, table.c.first_utc_ns, table.c.last_utc_ns)
        rows = connection.execute(columns.order_by(table.c.last_utc_ns.desc(), table.c.id).limit(MOST_PENDING))
        return [Pending(*row) for row in rows], total


def live(engine: Engine, device: str) -> Live | None:
    """Return what is known of a device now, or None when it was never heard."""
    with db.reading(engine) as connection:
        return _live(connection, [device]).get(device)


def known(engine: Engine, device: str) -> bool:
    """Say whether a device is enrolled."""
    with db.reading(engine) as connection:
        return connection.execute(select(db.device.c.id).where(db.device.c.id == device)).scalar() is not None


def newest(engine: Engine, device: str) -> tuple[int, ...]:
    """Return what is the newest of trips, events, crashes and packages, 0 for none: when it changes, a page is old."""
    s = db.package_state
    newest = [(t, t.c.id) for t in (db.trip, db.harsh_event, db.crash)]
    newest += [(s, s.c.whole_utc_ns), (db.package_check, db.package_check.c.checked_utc_ns)]
    with db.reading(engine) as connection:
        columns = (select(func.max(column)).where(t.c.device == device) for t, column in newest)
        return tuple(connection.execute(c).scalar() or 0 for c in columns)


def among(connection: Connection, column: ColumnElement[str], names: Collection[str]) -> ColumnElement[bool]:
    """Say that a column is one of `names`; many of them are one parameter, as thousands take a second to bind."""
    if len(names) <= MOST_NAMED:
        return column.in_(names)
    if connection.dialect.name == "postgresql":
        return column == any_(literal(sorted(names), ARRAY(String)))
    listed = func.json_each(json.dumps(sorted(names))).table_valued("value")
    return column.in_(select(listed.c.value))


def _vehicles(connection: Connection, rows: Sequence[Row[Any]], week_ns: int, month_ns: int) -> list[Vehicle]:
    names = [row.id for row in rows]
    sums = _sums(connection, names, week_ns, month_ns)
    states = _live(connection, names)
    waiting, lost, refused = waiting_of(connection, rows), lost_of(connection, names), refused_of(connection, names)
    return [
        Vehicle(
            id=row.id,
            state=row.state,
            birth_utc_ns=row.birth_utc_ns,
            live=states.get(row.id),
            total=sums.get(row.id, (Sums(),) * 3)[0],
            week=sums.get(row.id, (Sums(),) * 3)[1],
            month=sums.get(row.id, (Sums(),) * 3)[2],
            waiting=waiting[row.id],
            lost=lost.get(row.id, 0),
            refused=refused.get(row.id, 0),
        )
        for row in rows
    ]


def _sums(connection: Connection, names: list[str], week_ns: int, month_ns: int) -> dict[str, tuple[Sums, ...]]:
    table, began = db.trip, when(db.trip)
    columns: list[ColumnElement[Any]] = []
    for since in (None, week_ns, month_ns):
        for value in (1, table.c.distance_m, table.c.events):
            columns.append(func.sum(value if since is None else case((began >= since, value), else_=0)))
    grouped = select(table.c.device, *columns).select_from(db.with_clock(table)).where(table.c.device.in_(names))
    sums = {}
    for name, *values in connection.execute(grouped.group_by(table.c.device)):
        sums[name] = tuple(Sums(int(values[i]), float(values[i + 1]), int(values[i + 2])) for i in (0, 3, 6))
    return sums


def _live(connection: Connection, names: list[str]) -> dict[str, Live]:
    table, clock = db.live, db.boot_clock
    of_position = (clock.c.device == table.c.device) & (clock.c.boot == table.c.position_boot)
    utc = (table.c.position_t_ns + clock.c.offset_ns).label("position_utc_ns")
    rows = connection.execute(select(table, utc).outerjoin(clock, of_position).where(table.c.device.in_(names)))
    return {
        r.device: Live(
            online=bool(r.online),
            since_utc_ns=r.since_utc_ns,
            seen_utc_ns=r.seen_utc_ns,
            position_boot=r.position_boot,
            position_utc_ns=r.position_utc_ns,
            latitude=r.latitude,
            longitude=r.longitude,
            speed_mps=r.speed_mps,
        )
        for r in rows
    }


def waiting_of(connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, int]:
    """Return for each device how many records of its present lineage it held, and we do not, when it last connected."""
    table = db.lane_state
    found = connection.execute(select(table).where(table.c.device.in_([row.id for row in rows])))
    held = {(r.device, r.lineage, r.lane): r.seq for r in found}
    waiting = {}
    for row in rows:
        heads = messages.decode_birth(bytes(row.birth)).heads if row.birth else {}
        waiting[row.id] = sum(max(0, head - held.get((row.id, row.lineage, lane), 0)) for lane, head in heads.items())
    return waiting


def lost_of(connection: Connection, names: list[str]) -> dict[str, int]:
    table = db.hole
    missing = func.sum(table.c.last_seq - table.c.first_seq + 1)
    rows = connection.execute(select(table.c.device, missing).where(table.c.device.in_(names)).group_by(table.c.device))
    return {name: int(n) for name, n in rows}


def refused_of(connection: Connection, names: list[str]) -> dict[str, int]:
    table = db.refused
    total = func.sum(table.c.count)
    rows = connection.execute(select(table.c.device, total).where(table.c.device.in_(names)).group_by(table.c.device))
    return {name: int(n) for name, n in rows}
