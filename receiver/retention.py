"""Retention: what is kept no longer is deleted, months at once where PostgreSQL has them, else in small steps.

Three sorts, each with its own days: tracks and curves; health; trips and events. Crashes, packages and claims are
evidence and stay. So does everything of a device that has a claim which is not settled: what a month holds of such
devices is put back into it. On PostgreSQL tracks and health go when all of their month is past its days.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, Engine, Table, and_, delete, select, text

from agent.clock import NS_PER_S
from receiver import access, db, migrations, partitions
from receiver.access import Look
from receiver.settings import RetentionSettings

BY: Final = "retention"
DAY_NS: Final = 86_400 * NS_PER_S
STEP: Final = 2000  # rows of one transaction: a receiver waits some 20 ms for it on SQLite
SETTLED: Final = "settled"


class Sort(NamedTuple):
    """What goes together: lanes of `entry`, and the tables that show them."""

    name: str
    lanes: tuple[str, ...]
    tables: tuple[Table, ...]


SORTS: Final = (
    Sort("track", ("track",), (db.track, db.curve)),
    Sort("health", ("health",), (db.health, db.mount)),
    Sort("trip", ("trip", "event"), (db.trip, db.harsh_event)),
)


def run(
    engine: Engine, settings: RetentionSettings, now_ns: int, stopped: Callable[[], bool] = lambda: False
) -> dict[str, int]:
    """Delete what is past its days, and return how many rows of each table went; one row of the log of looks says so.

    Raise sqlalchemy's DBAPIError when the database fails: what was done stays done, and the rest is done next time.
    """
    gone: dict[str, int] = {}
    for sort in SORTS:
        days = getattr(settings, f"{sort.name}_days")
        if days:
            for table, rows in _steps(engine, sort, now_ns - days * DAY_NS):
                gone[table] = gone.get(table, 0) + rows
                if stopped():
                    break
    if gone:
        told = ", ".join(f"{table} {rows}" for table, rows in sorted(gone.items()))
        access.append(engine, Look(BY, "", "", "", "erasure", told[:100]), now_ns)
    return gone


def held(connection: Connection) -> list[str]:
    """Return the devices with a claim that is not settled."""
    found = select(db.claim.c.device).where(db.claim.c.state != SETTLED).distinct()
    return list(connection.execute(found.order_by(db.claim.c.device)).scalars())


def _steps(engine: Engine, sort: Sort, before_ns: int) -> Iterator[tuple[str, int]]:
    with db.reading(engine) as connection:
        kept = held(connection)
        monthly = partitions.parents(connection) if sort.name in partitions.BULK else ()
    for parent in monthly:
        if parent == partitions.BULK_ENTRIES or parent in {t.name for t in sort.tables}:
            yield from _months(engine, parent, sort.lanes, before_ns, kept)
            yield from _rest(engine, parent, sort.lanes, before_ns, kept)
    for table in sort.tables:
        if table.name not in monthly:
            yield from _rows(engine, table, before_ns, kept)
    if not monthly:
        yield from _entries(engine, sort.lanes, before_ns, kept)


def _months(
    engine: Engine, parent: str, lanes: Sequence[str], before_ns: int, kept: list[str]
) -> Iterator[tuple[str, int]]:
    """Empty the months of a split table that are wholly past, but for `kept` devices; drop those that are then empty.

    Two lanes share the months of entries.
    """
    with db.reading(engine) as connection:
        past = [m for m in partitions.months(connection, parent) if m.ends_ns <= before_ns]
    for month in past:
        with engine.begin() as connection:
            migrations.lock(connection)
            mine = {"kept": kept, "lanes": list(lanes)}
            stays = "device = ANY(:kept) OR NOT lane = ANY(:lanes)"
            total, staying = connection.execute(
                text(f"SELECT count(*), count(*) FILTER (WHERE {stays}) FROM {month.name}"), mine
            ).one()
            if not staying:
                connection.execute(text(f"DROP TABLE {month.name}"))
            elif staying < total:
                aside = "CREATE TEMPORARY TABLE staying ON COMMIT DROP AS SELECT * FROM"
                connection.execute(text(f"{aside} {month.name} WHERE {stays}"), mine)
                connection.execute(text(f"TRUNCATE {month.name}"))
                connection.execute(text(f"INSERT INTO {month.name} SELECT * FROM staying"))
        if total > staying:
            yield parent, total - staying


def _rest(
    engine: Engine, parent: str, lanes: Sequence[str], before_ns: int, kept: list[str]
) -> Iterator[tuple[str, int]]:
    """Delete, a few at a time, what is past its days and lies in no month."""
    past = "received_utc_ns < :before AND lane = ANY(:lanes) AND NOT device = ANY(:kept)"
    some = f"SELECT ctid FROM {parent}_rest WHERE {past} LIMIT {STEP}"
    rows = STEP
    while rows == STEP:
        with engine.begin() as connection:
            mine = {"before": before_ns, "lanes": list(lanes), "kept": kept}
            rows = connection.execute(text(f"DELETE FROM {parent}_rest WHERE ctid IN ({some})"), mine).rowcount
        if rows:
            yield parent, rows


def _rows(engine: Engine, table: Table, before_ns: int, kept: list[str]) -> Iterator[tuple[str, int]]:
    """Delete rows of a projection, a few at a time, along its index of arrival."""
    old = and_(table.c.received_utc_ns < before_ns, table.c.device.not_in(kept))
    some = select(table.c.id).where(old).order_by(table.c.received_utc_ns).limit(STEP)
    while True:
        with engine.begin() as connection:
            ids = list(connection.execute(some).scalars())
            connection.execute(delete(table).where(table.c.id.in_(ids)))
        if ids:
            yield table.name, len(ids)
        if len(ids) < STEP:
            return


def _entries(engine: Engine, lanes: Sequence[str], before_ns: int, kept: list[str]) -> Iterator[tuple[str, int]]:
    """Delete signed entries, lane by lane from its beginning: that is the order of their index and of their arrival."""
    stand, e = db.lane_state, db.entry
    with db.reading(engine) as connection:
        found = select(stand).where(stand.c.lane.in_(lanes), stand.c.device.not_in(kept))
        every = [(r.device, r.lineage, r.lane) for r in connection.execute(found)]
    for device, lineage, lane in every:
        mine = and_(e.c.device == device, e.c.lineage == lineage, e.c.lane == lane)
        first = select(e.c.seq, e.c.received_utc_ns).where(mine).order_by(e.c.seq).limit(STEP)
        more = True
        while more:
            with db.reading(engine) as connection:
                rows = connection.execute(first).all()
            old = [r.seq for r in rows if r.received_utc_ns < before_ns]
            if old:
                with engine.begin() as connection:
                    past = and_(e.c.seq <= max(old), e.c.received_utc_ns < before_ns)
                    gone = connection.execute(delete(e).where(mine, past)).rowcount
                yield "entry", gone
            more = len(old) == STEP
