"""The store's tables as an ordered list of migrations, each recorded in the transaction that applies it.

sqlite-utils applies them, at a first start and after an update alone: `up_to_date` asks first, in plain SQL.
"""

import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from agent.errors import StoreError

_SET: Final = "roadwitness"

_LANES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value);
CREATE TABLE lineage (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, device TEXT NOT NULL, public_key BLOB NOT NULL,
    reason TEXT NOT NULL);
CREATE TABLE boot (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, recorded INTEGER NOT NULL);
-- head: last sequence, position: acknowledged up to here, base: pruned up to here, with the chain hash there
CREATE TABLE lane (
    lineage INTEGER NOT NULL REFERENCES lineage, lane TEXT NOT NULL,
    head INTEGER NOT NULL, head_hash BLOB NOT NULL, position INTEGER NOT NULL,
    base INTEGER NOT NULL, base_hash BLOB NOT NULL,
    PRIMARY KEY (lineage, lane));
CREATE TABLE entry (
    id INTEGER PRIMARY KEY, lineage INTEGER NOT NULL REFERENCES lineage, lane TEXT NOT NULL, seq INTEGER NOT NULL,
    boot INTEGER NOT NULL REFERENCES boot, t_ns INTEGER NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL,
    hash BLOB NOT NULL, signature BLOB NOT NULL, UNIQUE (lineage, lane, seq));
"""

# What people and pages look for, beside the signed bodies; `entry` names the body, `t_ns` is the record's own time.
_PROJECTIONS: Final = """
CREATE TABLE event (
    entry INTEGER PRIMARY KEY, boot INTEGER NOT NULL, t_ns INTEGER NOT NULL, kind TEXT, severity TEXT,
    confirmed INTEGER, duration_ns INTEGER, peak REAL, unit TEXT, speed_before_mps REAL, rule TEXT,
    latitude REAL, longitude REAL, trip_t_ns INTEGER);
CREATE TABLE trip (
    entry INTEGER PRIMARY KEY, boot INTEGER NOT NULL, t_ns INTEGER NOT NULL, end_ns INTEGER, distance_m REAL,
    moving_s REAL, idle_s REAL, stops INTEGER, max_speed_mps REAL);
CREATE TABLE track (
    entry INTEGER PRIMARY KEY, boot INTEGER NOT NULL, t_ns INTEGER NOT NULL, trip_start_ns INTEGER, error_m REAL);
CREATE TABLE curve (
    entry INTEGER PRIMARY KEY, boot INTEGER NOT NULL, t_ns INTEGER NOT NULL, trip_start_ns INTEGER);
-- outlives its entry: it dates the boot's samples
CREATE TABLE clock (
    entry INTEGER PRIMARY KEY, boot INTEGER NOT NULL, t_ns INTEGER NOT NULL, offset_ns INTEGER, quality TEXT,
    uncertainty_ns INTEGER);
CREATE TABLE mount (
    entry INTEGER PRIMARY KEY, boot INTEGER NOT NULL, t_ns INTEGER NOT NULL, confidence REAL);
CREATE TABLE health (
    entry INTEGER PRIMARY KEY, boot INTEGER NOT NULL, t_ns INTEGER NOT NULL, source TEXT, state TEXT, detail TEXT);
CREATE INDEX event_when ON event (boot, t_ns);
CREATE INDEX trip_when ON trip (boot, t_ns);
CREATE INDEX clock_when ON clock (boot, t_ns);
"""

_SAMPLES: Final = """
-- agent.columnar bytes: a block is about a minute, a piece about a second that has not become part of a block yet
CREATE TABLE block (
    id INTEGER PRIMARY KEY, boot INTEGER NOT NULL REFERENCES boot, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
    samples INTEGER NOT NULL, bytes INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE piece (
    id INTEGER PRIMARY KEY, boot INTEGER NOT NULL REFERENCES boot, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
    samples INTEGER NOT NULL, bytes INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX block_when ON block (boot, start_ns);
"""

_DROPPED: Final = """
-- samples that are gone although nothing was wrong with them, and why
CREATE TABLE dropped (
    boot INTEGER NOT NULL REFERENCES boot, reason TEXT NOT NULL, samples INTEGER NOT NULL,
    start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL, PRIMARY KEY (boot, reason));
"""

_CRASHES: Final = """
CREATE TABLE crash (
    entry INTEGER PRIMARY KEY, boot INTEGER NOT NULL, t_ns INTEGER NOT NULL, id TEXT, kind TEXT, complete INTEGER,
    delta_v_mps REAL, direction_clock INTEGER, clipped INTEGER, speed_before_mps REAL, latitude REAL, longitude REAL,
    trip_t_ns INTEGER);
CREATE TABLE package (
    entry INTEGER PRIMARY KEY, boot INTEGER NOT NULL, t_ns INTEGER NOT NULL, incident TEXT, complete INTEGER);
CREATE INDEX crash_when ON crash (boot, t_ns);
"""

_UPLOADS: Final = """
-- packages of which the receiver said that it holds every file, and of which record's body that is the SHA-256
CREATE TABLE uploaded_package (incident TEXT PRIMARY KEY, digest TEXT NOT NULL);
-- bytes of a file, by its SHA-256, that the receiver was last known to hold
CREATE TABLE uploaded_file (file TEXT PRIMARY KEY, acknowledged INTEGER NOT NULL);
-- bytes sent: day counts from 1970-01-01 UTC, kind is a lane or a class of files
CREATE TABLE traffic (day INTEGER NOT NULL, kind TEXT NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (day, kind));
CREATE INDEX package_incident ON package (incident);
"""

_REPLIES: Final = """
-- the commands that were had before, kept beyond their entries until nobody could heed them any more
CREATE TABLE reply (
    entry INTEGER PRIMARY KEY, boot INTEGER NOT NULL, t_ns INTEGER NOT NULL, id TEXT, state TEXT,
    expires_utc_ns INTEGER);
CREATE INDEX reply_id ON reply (id);
"""

_AHEAD: Final = """
-- agent.columnar bytes of the newest samples, written when a blow was felt and gone once they are in a piece
CREATE TABLE ahead (
    id INTEGER PRIMARY KEY, boot INTEGER NOT NULL REFERENCES boot, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
    samples INTEGER NOT NULL, bytes INTEGER NOT NULL, data BLOB NOT NULL);
"""

# Released migrations never change; a new one goes to the end.
MIGRATIONS: Final[tuple[tuple[str, str], ...]] = (
    ("0001_lanes", _LANES),
    ("0002_projections", _PROJECTIONS),
    ("0003_samples", _SAMPLES),
    ("0004_dropped", _DROPPED),
    ("0005_crashes", _CRASHES),
    ("0006_uploads", _UPLOADS),
    ("0007_replies", _REPLIES),
    ("0008_ahead", _AHEAD),
)

# Of MIGRATIONS, those that only add: a version without them reads and writes the store all the same, so that a box can
# go back to it (docs/decisions/0303). What takes away or changes meaning waits for a release after such a one.
ADDITIVE: Final[frozenset[str]] = frozenset()

# kind of record -> the attribute that is its time, and the attributes that its projection keeps
PROJECTIONS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "event": (
        "t_ns",
        (
            "kind",
            "severity",
            "confirmed",
            "duration_ns",
            "peak",
            "unit",
            "speed_before_mps",
            "rule",
            "latitude",
            "longitude",
            "trip_t_ns",
        ),
    ),
    "trip": ("start_ns", ("end_ns", "distance_m", "moving_s", "idle_s", "stops", "max_speed_mps")),
    "track": ("start_ns", ("trip_start_ns", "error_m")),
    "curve": ("start_ns", ("trip_start_ns",)),
    "clock": ("t_ns", ("offset_ns", "quality", "uncertainty_ns")),
    "mount": ("t_ns", ("confidence",)),
    "health": ("t_ns", ("source", "state", "detail")),
    "crash": (
        "t_ns",
        (
            "id",
            "kind",
            "complete",
            "delta_v_mps",
            "direction_clock",
            "clipped",
            "speed_before_mps",
            "latitude",
            "longitude",
            "trip_t_ns",
        ),
    ),
    "package": ("t_ns", ("incident", "complete")),
    "reply": ("t_ns", ("id", "state", "expires_utc_ns")),
}


def up_to_date(connection: sqlite3.Connection, path: str) -> bool:
    """Say whether all migrations are applied; raise StoreError for others that this one cannot live with."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "_sqlite_migrations" not in tables:
        return False
    rows = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ?", (_SET,))
    applied = {name for (name,) in rows}
    known = {name for name, _ in MIGRATIONS}
    foreign = applied - known
    if foreign and "meta" in tables:
        said = connection.execute("SELECT name FROM meta WHERE name LIKE 'additive:%'")
        foreign -= {name.removeprefix("additive:") for (name,) in said}
    if foreign:
        raise StoreError(f"{path}: store was made by a newer version of roadwitness; install that version to use it")
    return known <= applied


def contradiction(connection: sqlite3.Connection) -> str:
    """Return where the tables and the record of migrations contradict each other, or "".

    Both are written in one transaction; only a disk that lost a part of it, e.g. a card that lies about flushes, leaves
    one without the other. Applying the migration would fail then, at every start.
    """
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    applied: set[str] = set()
    if "_sqlite_migrations" in there:
        rows = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ?", (_SET,))
        applied = {name for (name,) in rows}
    if applied - {name for name, _ in MIGRATIONS}:
        return ""  # of a newer version, which may have done away with tables; `up_to_date` judges it
    for migration, statements in MIGRATIONS:
        for made in re.findall(r"^CREATE (?:TABLE|INDEX) (\w+)", statements, re.MULTILINE):
            if (made in there) != (migration in applied):
                is_there = "there" if made in there else "missing"
                return f"{made} is {is_there} and {migration} is {'' if migration in applied else 'not '}applied"
    return ""


def migrate(connection: sqlite3.Connection, stop_before: str | None = None) -> None:
    """Apply what is missing, each migration in one transaction with its record."""
    with _without_pandas():
        from sqlite_utils import Database, Migrations

    migrations = Migrations(_SET)
    for name, statements in MIGRATIONS:
        told = f"; INSERT OR REPLACE INTO meta VALUES ('additive:{name}', 1)" if name in ADDITIVE else ""
        migrations(name=name)(_Script(statements + told))
    migrations.apply(Database(connection, execute_plugins=False), stop_before=stop_before)


@contextmanager
def _without_pandas() -> Iterator[None]:
    """Hide pandas, which sqlite-utils imports where it is installed, for types of columns that no table here has.

    It costs 68 MB for as long as the agent runs, and five sixths of the first opening (docs/decisions/0170).
    """
    if "pandas" in sys.modules:
        yield
        return
    sys.modules["pandas"] = None  # type: ignore[assignment]  # importing it raises ImportError
    try:
        yield
    finally:
        del sys.modules["pandas"]


class _Script:
    """Runs the statements of one migration inside the transaction that is already open."""

    def __init__(self, statements: str) -> None:
        self.__name__ = "script"
        self._statements = statements

    def __call__(self, database: "object") -> None:
        connection: sqlite3.Connection = database.conn  # type: ignore[attr-defined]
        # executescript would commit first
        for statement in self._statements.split(";"):
            if statement.strip():
                connection.execute(statement)
