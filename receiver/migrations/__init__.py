"""How a database gets the tables of this version: made at once where it is empty, else by Alembic, step by step.

Revisions are numbered 0001, 0002 … without branches; each stands in `versions/vNUMBER_name.py` and goes both ways. A
database says in `alembic_version` where it stands. An empty one is given db.metadata and the newest number, which a
test proves equal to all steps. Databases from before there were revisions have version 1 in `schema_version` and any
part of the tables of 0001 and 0002.
"""

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, inspect, select

from agent.errors import StoreError
from receiver import db

if TYPE_CHECKING:
    from alembic.config import Config

HERE: Final = Path(__file__).parent
BASE: Final = "base"
_ADVISORY: Final = 7237  # PostgreSQL: two processes may start at once
_FILE: Final = re.compile(r"v(\d{4})_\w+\.py")


@cache
def revisions() -> tuple[str, ...]:
    """Return the numbers of all revisions that this version knows, the oldest first."""
    return tuple(sorted(m.group(1) for p in (HERE / "versions").iterdir() if (m := _FILE.fullmatch(p.name))))


def head() -> str:
    """Return the newest revision."""
    return revisions()[-1]


def revision_of(connection: Connection) -> str | None:
    """Return where a database stands: a revision, "base" when it is from before them, None when it is empty."""
    seen = inspect(connection)
    if seen.has_table(db.revision.name):
        found = connection.execute(select(db.revision.c.version_num)).scalar()
        return BASE if found is None else str(found)
    return BASE if seen.has_table("schema_version") else None


def bring_up(connection: Connection) -> None:
    """Make the tables of an empty database, or upgrade an older one; raise StoreError for one that is newer."""
    lock(connection)
    found = revision_of(connection)
    if found == head():
        return
    if found is None:
        db.metadata.create_all(connection)
        connection.execute(db.revision.insert().values(version_num=head()))
        connection.execute(db.schema_version.insert().values(version=db.SCHEMA))
    else:
        check_known(found)
        upgrade(connection, head())


def check_known(found: str) -> None:
    """Raise StoreError unless this version knows the revision."""
    if found not in (BASE, *revisions()):
        raise StoreError(f"has schema {found}, this version knows {head()}; install the newer version")


def upgrade(connection: Connection, to: str) -> None:
    """Take a database up to a revision, in the connection's transaction."""
    from alembic import command

    command.upgrade(config(connection), to)


def downgrade(connection: Connection, to: str) -> None:
    """Take a database down to a revision, or "base", in its transaction; what only newer ones hold is dropped."""
    from alembic import command

    command.downgrade(config(connection), to)


def config(connection: Connection) -> "Config":
    """Return Alembic's configuration for a connection."""
    from alembic.config import Config

    made = Config(attributes={"connection": connection})
    made.set_main_option("script_location", str(HERE).replace("%", "%%"))
    made.set_main_option("file_template", "v%%(rev)s_%%(slug)s")
    made.set_main_option("path_separator", "os")
    return made


def lock(connection: Connection) -> None:
    """Keep other processes from changing the schema until the transaction ends; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY})")
