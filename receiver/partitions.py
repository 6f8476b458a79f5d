"""Months: how PostgreSQL splits the tables that grow with every kilometre, so that old months are dropped, not deleted.

`entry` is split by lane first: those of `BULK` by the month in which they were received, all others are one table. The
projections `track`, `curve` and `health` are split by the same months. What belongs to no month that exists, since a
clock was wrong or nobody made the month in time, goes into a table `…_rest` and is found there as anywhere.
"""

from datetime import UTC, datetime
from typing import Final, NamedTuple

from sqlalchemy import DDL, Connection, event, text

from agent.clock import NS_PER_S
from receiver import db

BULK: Final = ("track", "health")  # lanes whose entries are many and are not kept long
BULK_ENTRIES: Final = "entry_bulk"
SPLIT: Final = (BULK_ENTRIES, "track", "curve", "health")
AHEAD: Final = 2  # months that are made before they begin, so that a day of trouble at the turn of a month harms nobody

_LANES: Final = ", ".join(f"'{lane}'" for lane in BULK)
# What stands below the tables of db.metadata, by the table that must be there first.
PARTS: Final = {
    "entry": (
        f"CREATE TABLE {BULK_ENTRIES} PARTITION OF entry FOR VALUES IN ({_LANES}) PARTITION BY RANGE (received_utc_ns)",
        "CREATE TABLE entry_kept PARTITION OF entry DEFAULT",
        f"CREATE TABLE {BULK_ENTRIES}_rest PARTITION OF {BULK_ENTRIES} DEFAULT",
    ),
    **{name: (f"CREATE TABLE {name}_rest PARTITION OF {name} DEFAULT",) for name in ("track", "curve", "health")},
}


class Month(NamedTuple):
    """One partition: UTC of its first ns and of the first ns after it."""

    name: str
    begins_ns: int
    ends_ns: int


def month_of(parent: str, utc_ns: int, later: int = 0) -> Month:
    """Return the partition of the month in which a moment lies, or of one some months later."""
    day = datetime.fromtimestamp(utc_ns // NS_PER_S, UTC)
    number = day.year * 12 + day.month - 1 + later
    return Month(f"{parent}_{number // 12:04d}{number % 12 + 1:02d}", _first_ns(number), _first_ns(number + 1))


def parents(connection: Connection) -> tuple[str, ...]:
    """Return the tables that are split by month; none on SQLite."""
    return SPLIT if connection.dialect.name == "postgresql" else ()


def months(connection: Connection, parent: str) -> list[Month]:
    """Return the partitions of a table that are there, the oldest first; none on SQLite."""
    if connection.dialect.name != "postgresql":
        return []
    query = (
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass(:p)"
    )
    names = (str(n) for n in connection.execute(text(query), {"p": parent}).scalars())
    stamps = sorted(n.rpartition("_")[2] for n in names)
    numbers = [int(s[:4]) * 12 + int(s[4:]) - 1 for s in stamps if s.isdigit()]
    return [Month(f"{parent}_{n // 12:04d}{n % 12 + 1:02d}", _first_ns(n), _first_ns(n + 1)) for n in numbers]


def make_months(connection: Connection, now_ns: int) -> list[str]:
    """Make the partitions of this month and the next ones where they are missing; return their names.

    A month is not made any more once rows of it lie in the rest: those are found and deleted there.
    """
    made = []
    for parent in parents(connection):
        there = {m.name for m in months(connection, parent)}
        for month in (month_of(parent, now_ns, later) for later in range(AHEAD + 1)):
            if month.name not in there and not _in_rest(connection, parent, month):
                make(connection, parent, month)
                made.append(month.name)
    return made


def make(connection: Connection, parent: str, month: Month) -> None:
    """Make the partition of one month."""
    bounds = f"FROM ({month.begins_ns}) TO ({month.ends_ns})"
    connection.exec_driver_sql(f"CREATE TABLE {month.name} PARTITION OF {parent} FOR VALUES {bounds}")


def _in_rest(connection: Connection, parent: str, month: Month) -> bool:
    found = f"SELECT EXISTS (SELECT 1 FROM {parent}_rest WHERE received_utc_ns >= :b AND received_utc_ns < :e)"
    return bool(connection.execute(text(found), {"b": month.begins_ns, "e": month.ends_ns}).scalar())


def _first_ns(number: int) -> int:
    return int(datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC).timestamp()) * NS_PER_S


for _name, _statements in PARTS.items():
    for _statement in _statements:
        _below: DDL = DDL(_statement)  # type: ignore[no-untyped-call]
        event.listen(db.metadata.tables[_name], "after_create", _below.execute_if(dialect="postgresql"))
