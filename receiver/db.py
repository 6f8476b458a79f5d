"""The receiver's database: SQLite by default, PostgreSQL by its URL; one schema, plain SQLAlchemy Core.

`entry` holds every lane entry as the device signed it and is the truth; the other tables are projections of it, made
in the same transaction, so that pages need not decode bodies. Times of records are monotonic ns of one boot; UTC is
what the best clock record of that boot says, also backwards: `utc_ns` computes it when it is read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import ColumnElement, FromClause

from agent import clock
from agent.errors import StoreError
from receiver import upserts
from receiver.engine import engine_of, parse
from receiver.settings import DEFAULT_URL

# What programs from before receiver.migrations read; they leave a database alone whose number is above 1.
SCHEMA: Final = 2
# Modules that add further tables, or parts of them, to `metadata`: what is about something else than receiving.
_PACKAGES: Final = ("claiming", "jt808", "webhooks", "registry", "rating", "people", "api", "authority")
FURTHER: Final = ("receiver.partitions", *(f"receiver.{name}.tables" for name in _PACKAGES))

metadata = MetaData()

# SQLite numbers rows only in a column of type INTEGER.
_ID = BigInteger().with_variant(Integer(), "sqlite")
_NAME = String(64)
ONLY_POSTGRESQL: Final = {"dialect": "postgresql"}  # what the SQLite half of a revision must not make

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))
revision = Table("alembic_version", metadata, Column("version_num", String(32), primary_key=True))  # Alembic's own

device = Table(
    "device",
    metadata,
    Column("id", _NAME, primary_key=True),
    Column("public_key", String(64), nullable=False),
    Column("enrolled_utc_ns", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),  # accepted, blocked
    Column("greeted", Boolean, nullable=False),  # told so since it was enrolled
    Column("lineage", String(12), nullable=False),  # of the last birth; empty before the first
    Column("session", _NAME, nullable=False),  # of the last birth
    Column("birth", LargeBinary),  # the last birth as it was signed
    Column("birth_utc_ns", BigInteger),
)

pending_device = Table(
    "pending_device",
    metadata,
    Column("id", _NAME, primary_key=True),
    Column("public_key", String(64), nullable=False),
    Column("birth", LargeBinary, nullable=False),
    Column("first_utc_ns", BigInteger, nullable=False),
    Column("last_utc_ns", BigInteger, nullable=False, index=True),
)

lane_state = Table(
    "lane_state",
    metadata,
    Column("device", _NAME),
    Column("lineage", String(12)),
    Column("lane", String(16)),
    Column("seq", BigInteger, nullable=False),  # highest contiguous sequence number stored
    Column("hash", LargeBinary, nullable=False),  # of that entry; 32 zero bytes before the first
    PrimaryKeyConstraint("device", "lineage", "lane"),
)


def _identity() -> list[Any]:
    return [
        Column("device", _NAME, nullable=False),
        Column("lineage", String(12), nullable=False),
        Column("lane", String(16), nullable=False),
        Column("seq", BigInteger, nullable=False),
    ]


def _one_each(name: str, *key: str) -> list[Any]:
    """Return what keeps an entry from being stored twice, where PostgreSQL splits the table by time.

    There a unique index holds the month too. That an entry does not come again in another month is kept by lane_state,
    whose row is locked while a lane is written.
    """
    split = UniqueConstraint("device", "lineage", "lane", "seq", "received_utc_ns", name=name, info=ONLY_POSTGRESQL)
    return [PrimaryKeyConstraint(*key).ddl_if(dialect="sqlite"), split.ddl_if(dialect="postgresql")]


# Split by month on PostgreSQL: receiver.partitions (decision 0249).
entry = Table(
    "entry",
    metadata,
    *_identity(),
    Column("boot", _NAME, nullable=False),
    Column("t_ns", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    # '' or why it has no projection: unknown_kind, invalid_body; unlinked: stands after a hole in the chain
    Column("flag", String(16), nullable=False),
    Column("received_utc_ns", BigInteger, nullable=False),
    *_one_each("entry_once", "device", "lineage", "lane", "seq"),
    postgresql_partition_by="LIST (lane)",
)

# Batches that came before the one they follow: another process holds it, or it was reordered on the way.
parked = Table(
    "parked",
    metadata,
    Column("device", _NAME),
    Column("lineage", String(12)),
    Column("lane", String(16)),
    Column("first_seq", BigInteger),
    Column("payload", LargeBinary, nullable=False),
    PrimaryKeyConstraint("device", "lineage", "lane", "first_seq"),
)

# Entries that neither the device nor the receiver holds: the receiver lost them after it had acknowledged them.
hole = Table(
    "hole",
    metadata,
    Column("device", _NAME),
    Column("lineage", String(12)),
    Column("lane", String(16)),
    Column("first_seq", BigInteger),
    Column("last_seq", BigInteger, nullable=False),
    Column("noted_utc_ns", BigInteger, nullable=False),
    PrimaryKeyConstraint("device", "lineage", "lane", "first_seq"),
)

boot_clock = Table(
    "boot_clock",
    metadata,
    Column("device", _NAME),
    Column("boot", _NAME),
    Column("offset_ns", BigInteger, nullable=False),  # utc_ns = t_ns + offset_ns
    Column("quality", String(16), nullable=False),
    Column("uncertainty_ns", BigInteger, nullable=False),
    PrimaryKeyConstraint("device", "boot"),
)


def _projection(name: str, *columns: Any, split: bool = False) -> Table:
    """Make a table with one row per entry of a kind; `t_ns` is the time by which lists are ordered.

    `split`: PostgreSQL splits it by month, as it does the entries that it shows.
    """
    once = UniqueConstraint("device", "lineage", "lane", "seq", name=f"{name}_entry")
    keys = [once.ddl_if(dialect="sqlite"), *_one_each(f"{name}_once", "id")] if split else [once]
    return Table(
        name,
        metadata,
        Column("id", _ID, primary_key=True, autoincrement=True),
        *_identity(),
        Column("boot", _NAME, nullable=False),
        Column("t_ns", BigInteger, nullable=False),
        Column("received_utc_ns", BigInteger, nullable=False),
        *columns,
        *keys,
        Index(f"{name}_time", "device", "boot", "t_ns"),
        Index(f"{name}_received", "received_utc_ns"),
        postgresql_partition_by="RANGE (received_utc_ns)" if split else None,
    )


trip = _projection(
    "trip",  # t_ns is the start
    Column("end_ns", BigInteger, nullable=False),
    Column("start_latitude", Float(53)),
    Column("start_longitude", Float(53)),
    Column("end_latitude", Float(53)),
    Column("end_longitude", Float(53)),
    Column("distance_m", Float(53), nullable=False),
    Column("moving_s", Float(53), nullable=False),
    Column("idle_s", Float(53), nullable=False),
    Column("stops", BigInteger, nullable=False),
    Column("max_speed_mps", Float(53), nullable=False),
    Column("night_s", Float(53), nullable=False),
    Column("events", BigInteger, nullable=False),  # confirmed ones, by the trip's own count
)

harsh_event = _projection(
    "event",
    Column("trip_t_ns", BigInteger),  # with device and boot: the trip's t_ns
    Column("kind", String(32), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("confirmed", Boolean, nullable=False),
    Column("duration_ns", BigInteger, nullable=False),
    Column("peak", Float(53), nullable=False),
    Column("unit", String(16), nullable=False),
    Column("speed_before_mps", Float(53)),
    Column("rule", String(64), nullable=False),
    Column("latitude", Float(53)),
    Column("longitude", Float(53)),
)
Index("event_trip", harsh_event.c.device, harsh_event.c.boot, harsh_event.c.trip_t_ns)

track = _projection(
    "track",  # t_ns is the first point
    Column("trip_t_ns", BigInteger, nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("error_m", Float(53), nullable=False),
    split=True,
)
Index("track_trip", track.c.device, track.c.boot, track.c.trip_t_ns)

curve = _projection(
    "curve",  # t_ns is the first second
    Column("trip_t_ns", BigInteger, nullable=False),
    Column("step_ms", BigInteger, nullable=False),
    split=True,
)
Index("curve_trip", curve.c.device, curve.c.boot, curve.c.trip_t_ns)

mount = _projection(
    "mount",
    Column("gravity_x", Float(53), nullable=False),
    Column("gravity_y", Float(53), nullable=False),
    Column("gravity_z", Float(53), nullable=False),
    Column("forward_x", Float(53), nullable=False),
    Column("forward_y", Float(53), nullable=False),
    Column("forward_z", Float(53), nullable=False),
    Column("confidence", Float(53), nullable=False),
)

health = _projection(
    "health",
    Column("source", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("detail", Text, nullable=False),
    split=True,
)

crash = _projection(
    "crash",  # an incident has two rows: when it was known, and when it was measured
    Column("incident", String(16), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("locked", Boolean, nullable=False),
    Column("delta_v_mps", Float(53)),
    Column("direction_clock", BigInteger),
    Column("clipped", Boolean, nullable=False),
    Column("speed_before_mps", Float(53)),
    Column("latitude", Float(53)),
    Column("longitude", Float(53)),
    Column("trip_t_ns", BigInteger),
)
Index("crash_incident", crash.c.device, crash.c.incident)

package = _projection(
    "package",
    Column("incident", String(16), nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)
Index("package_incident", package.c.device, package.c.incident)

reply = _projection(
    "reply",  # a command has two where it was taken up, else one
    Column("command_id", String(32), nullable=False),
    Column("command", String(32), nullable=False),
    Column("state", String(16), nullable=False),  # accepted, done, refused, failed
    Column("detail", Text, nullable=False),
    Column("actor", _NAME, nullable=False),
    Column("reason", Text, nullable=False),
    Column("expires_utc_ns", BigInteger, nullable=False),
    Column("incident", String(16)),
)
Index("reply_command", reply.c.device, reply.c.command_id)

# What was asked of devices, as it was signed; no process needs the key to send it again.
command = Table(
    "command",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("device", _NAME, nullable=False),
    Column("command", String(32), nullable=False),
    Column("arguments", Text, nullable=False),  # JSON
    Column("reason", Text, nullable=False),
    Column("actor", _NAME, nullable=False),
    Column("issued_utc_ns", BigInteger, nullable=False),
    Column("expires_utc_ns", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("sent_utc_ns", BigInteger),  # first, NULL before
    Column("state", String(16), nullable=False),  # waiting, then what the device's replies say
    Column("state_utc_ns", BigInteger, nullable=False),
    Column("detail", Text, nullable=False),
    Column("incident", String(16)),
    Index("command_device", "device", "issued_utc_ns"),
)
Index("command_unsent", command.c.sent_utc_ns, command.c.issued_utc_ns)

# What the newest Package record of an incident says, and how far its files are.
package_state = Table(
    "package_state",
    metadata,
    Column("device", _NAME),
    Column("incident", String(16)),
    Column("digest", String(64), nullable=False),  # of the record's body (agent.filemessages.record_digest)
    Column("lineage", String(12), nullable=False),
    Column("lane", String(16), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("complete", Boolean, nullable=False),  # nothing will be added
    Column("whole", Boolean, nullable=False),  # every file is in the store
    Column("whole_utc_ns", BigInteger),
    Column("told", Boolean, nullable=False),  # receiver.packages.arrived has dealt with it
    PrimaryKeyConstraint("device", "incident"),
)
Index("package_untold", package_state.c.told, package_state.c.whole)

package_file = Table(
    "package_file",
    metadata,
    Column("device", _NAME),
    Column("incident", String(16)),
    Column("name", String(100)),
    Column("file", String(64), nullable=False),  # SHA-256
    Column("size", BigInteger, nullable=False),
    Column("held", Boolean, nullable=False),  # stands in the store under this name
    PrimaryKeyConstraint("device", "incident", "name"),
    Index("package_file_file", "device", "file"),
)

# One file on its way, however many packages name it.
transfer = Table(
    "transfer",
    metadata,
    Column("device", _NAME),
    Column("file", String(64)),
    Column("size", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),  # waiting, open, done
    Column("partial", String(32), nullable=False),  # name of the unfinished file; empty unless open
    Column("ranges", Text, nullable=False),  # bytes held, as JSON [[start, end], …]
    Column("received", BigInteger, nullable=False),  # their number
    Column("revision", BigInteger, nullable=False),  # grows with every change
    Column("updated_utc_ns", BigInteger, nullable=False),
    PrimaryKeyConstraint("device", "file"),
)
Index("transfer_state", transfer.c.device, transfer.c.state)

# What the verifier found in a whole package, and in which edition of it.
package_check = Table(
    "package_check",
    metadata,
    Column("device", _NAME),
    Column("incident", String(16)),
    Column("digest", String(64), nullable=False),  # of the Package record that named the files
    Column("exit_code", Integer, nullable=False),  # of agent.evidence.verify_package
    Column("edition", BigInteger),  # as the manifest says; NULL where it could not be read
    Column("files", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("report", Text, nullable=False),  # sentences, faults, notes and what is missing, as JSON
    Column("checked_utc_ns", BigInteger, nullable=False),
    PrimaryKeyConstraint("device", "incident"),
)
Index("package_check_time", package_check.c.device, package_check.c.checked_utc_ns)

claim = Table(
    "claim",
    metadata,
    Column("id", String(16), primary_key=True),  # receiver.claims.claim_id
    Column("device", _NAME, nullable=False),
    Column("incident", String(16), nullable=False),
    Column("opened_utc_ns", BigInteger, nullable=False),
    Column("opened_by", String(16), nullable=False),  # device
    Column("suspected", Boolean, nullable=False),  # the newest record of the crash only suspects one
    Column("state", String(16), nullable=False),  # reported; evidence: its package is whole and proved
    Column("state_utc_ns", BigInteger, nullable=False),
    UniqueConstraint("device", "incident", name="claim_incident"),
    Index("claim_device", "device", "opened_utc_ns"),
    Index("claim_opened", "opened_utc_ns"),
)

# Who looked at what of a crash: rows are added and never changed, each hash covers the row before it.
access_log = Table(
    "access_log",
    metadata,
    Column("seq", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False),
    Column("utc_ns", BigInteger, nullable=False),
    Column("who", _NAME, nullable=False),
    Column("address", _NAME, nullable=False),
    Column("device", _NAME, nullable=False),
    Column("incident", String(16), nullable=False),
    Column("what", String(16), nullable=False),  # receiver.access.WHAT
    Column("name", String(100), nullable=False),  # of the file, or empty
    Column("hash", LargeBinary, nullable=False),
    Index("access_log_of", "device", "incident", "seq"),
)

live = Table(
    "live",
    metadata,
    Column("device", _NAME, primary_key=True),
    Column("online", Boolean, nullable=False),
    Column("since_utc_ns", BigInteger, nullable=False),  # of `online`
    Column("seen_utc_ns", BigInteger, nullable=False),  # last message of any sort
    Column("position_boot", _NAME),  # newest known position: its boot and time …
    Column("position_t_ns", BigInteger),
    Column("latitude", Float(53)),
    Column("longitude", Float(53)),
    Column("speed_mps", Float(53)),  # … and the speed there, where known
)

refused = Table(
    "refused",
    metadata,
    Column("device", _NAME),  # empty for devices that are not enrolled, so that strangers cannot fill the table
    Column("reason", String(64)),
    Column("count", BigInteger, nullable=False),
    Column("last_utc_ns", BigInteger, nullable=False),
    PrimaryKeyConstraint("device", "reason"),
)


insert, upsert = upserts.insert, upserts.upsert


def load_tables() -> None:
    """Complete `metadata` by the tables of all packages."""
    for module in FURTHER:
        import_module(module)


def open_database(url: str = DEFAULT_URL) -> Engine:
    """Open the database at `url`, making its tables when it is empty and upgrading it when it is older.

    Raise ConfigError for a URL that cannot be used and StoreError for a database that cannot be opened or is newer.
    """
    from receiver import migrations, partitions

    with opening(url) as (engine, connection):
        migrations.bring_up(connection)
        partitions.make_months(connection, clock.wall_ns())
    return engine


@contextmanager
def opening(url: str) -> Iterator[tuple[Engine, Connection]]:
    """Open a database as it is, in one transaction; raise as `open_database` does, naming the database."""
    load_tables()
    parsed = parse(url)
    shown = f"database {parsed.render_as_string(hide_password=True)}"
    engine = engine_of(parsed)
    try:
        with engine.begin() as connection:
            yield engine, connection
    except SQLAlchemyError as e:
        engine.dispose()
        cause = str(getattr(e, "orig", None) or e).strip().splitlines()[0]
        raise StoreError(f"{shown}: cannot be opened: {cause}; check the address and that it runs") from e
    except StoreError as e:
        engine.dispose()
        raise StoreError(f"{shown}: {e}") from e


def reading(engine: Engine) -> Connection:
    """Open a connection whose transactions only read: on SQLite they neither wait for a writer nor block one."""
    return engine.connect().execution_options(reading=True)


def utc_ns(table: FromClause, column: str = "t_ns") -> ColumnElement[int]:
    """Return the UTC of a projection's time column, NULL while its boot's clock is unknown; needs `with_clock`."""
    return (table.c[column] + boot_clock.c.offset_ns).label("utc_ns")


def with_clock(table: FromClause) -> FromClause:
    """Join a projection with the clocks of its boots."""
    same_boot = (boot_clock.c.device == table.c.device) & (boot_clock.c.boot == table.c.boot)
    return table.outerjoin(boot_clock, same_boot)
