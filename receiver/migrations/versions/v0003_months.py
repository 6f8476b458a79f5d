"""Entries, tracks, curves and health split by month on PostgreSQL (decision 0249).

Rows are copied, each month into its partition, in one transaction: nobody receives meanwhile. On SQLite nothing
changes. Programs from before there were revisions leave the database alone from here on.
"""

import sqlalchemy as sa
from alembic import op

from receiver import partitions
from receiver.partitions import PARTS, SPLIT, Month, month_of

revision = "0003"
down_revision = "0002"

_ENTRY = (
    "device VARCHAR(64) NOT NULL, lineage VARCHAR(12) NOT NULL, lane VARCHAR(16) NOT NULL, seq BIGINT NOT NULL, "
    "boot VARCHAR(64) NOT NULL, t_ns BIGINT NOT NULL, "
)
_ROW = f"id BIGSERIAL NOT NULL, {_ENTRY} received_utc_ns BIGINT NOT NULL, "
_COLUMNS = {
    "entry": f"{_ENTRY} kind VARCHAR(32) NOT NULL, body BYTEA NOT NULL, hash BYTEA NOT NULL, "
    "signature BYTEA NOT NULL, flag VARCHAR(16) NOT NULL, received_utc_ns BIGINT NOT NULL, ",
    "track": f"{_ROW} trip_t_ns BIGINT NOT NULL, points BIGINT NOT NULL, error_m DOUBLE PRECISION NOT NULL, ",
    "curve": f"{_ROW} trip_t_ns BIGINT NOT NULL, step_ms BIGINT NOT NULL, ",
    "health": f"{_ROW} source TEXT NOT NULL, state VARCHAR(16) NOT NULL, detail TEXT NOT NULL, ",
}
_INDEXES = {
    "entry": {},
    "track": {"time": "device, boot, t_ns", "received": "received_utc_ns", "trip": "device, boot, trip_t_ns"},
    "curve": {"time": "device, boot, t_ns", "received": "received_utc_ns", "trip": "device, boot, trip_t_ns"},
    "health": {"time": "device, boot, t_ns", "received": "received_utc_ns"},
}
_ONCE = "device, lineage, lane, seq"


def upgrade() -> None:
    """Split the tables."""
    op.execute("DELETE FROM schema_version")
    op.execute("INSERT INTO schema_version VALUES (2)")
    if op.get_bind().dialect.name == "postgresql":
        for name in _COLUMNS:
            _split(name)


def downgrade() -> None:
    """Put the tables together again."""
    op.execute("UPDATE schema_version SET version = 1")
    if op.get_bind().dialect.name == "postgresql":
        for name in _COLUMNS:
            _join(name)


def _split(name: str) -> None:
    connection = op.get_bind()
    _set_aside(name, f"{name}_pkey", *([] if name == "entry" else [f"{name}_entry"]))
    by = "LIST (lane)" if name == "entry" else "RANGE (received_utc_ns)"
    once = f"CONSTRAINT {name}_once UNIQUE ({_ONCE}, received_utc_ns)"
    op.execute(f"CREATE TABLE {name} ({_COLUMNS[name]} {once}) PARTITION BY {by}")
    _index(name)
    for statement in PARTS[name]:
        op.execute(statement)
    parent = next(p for p in SPLIT if p.startswith(name))
    first, last = connection.execute(
        sa.text(f"SELECT min(received_utc_ns), max(received_utc_ns) FROM {name}_old")
    ).one()
    month: Month | None = None if first is None else month_of(parent, first)
    while month is not None and month.begins_ns <= last:
        partitions.make(connection, parent, month)
        month = month_of(parent, month.ends_ns)
    _move(name)


def _join(name: str) -> None:
    _set_aside(name, f"{name}_once")
    key = f"PRIMARY KEY ({_ONCE})" if name == "entry" else f"PRIMARY KEY (id), CONSTRAINT {name}_entry UNIQUE ({_ONCE})"
    op.execute(f"CREATE TABLE {name} ({_COLUMNS[name]} {key})")
    _index(name)
    _move(name)


def _set_aside(name: str, *constraints: str) -> None:
    """Rename a table and free the names of what belongs to it."""
    op.execute(f"ALTER TABLE {name} RENAME TO {name}_old")
    for constraint in constraints:
        op.execute(f"ALTER TABLE {name}_old DROP CONSTRAINT {constraint}")
    for index in _INDEXES[name]:
        op.execute(f"DROP INDEX {name}_{index}")
    if name != "entry":
        op.execute(f"ALTER SEQUENCE {name}_id_seq RENAME TO {name}_old_id_seq")


def _index(name: str) -> None:
    for index, columns in _INDEXES[name].items():
        op.execute(f"CREATE INDEX {name}_{index} ON {name} ({columns})")


def _move(name: str) -> None:
    columns = ", ".join(c.split()[0] for c in _COLUMNS[name].split(", ") if c.strip())
    op.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {name}_old")
    if name != "entry":
        op.execute(f"SELECT setval('{name}_id_seq', greatest(1, max(id) + 1), false) FROM {name}_old")
    op.execute(f"DROP TABLE {name}_old")
