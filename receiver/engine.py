"""How a database is reached: SQLite in a file, or PostgreSQL, by its URL."""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from agent.errors import ConfigError


def parse(url: str) -> URL:
    """Return the URL of a database that can be used; raise ConfigError for any other."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError) as e:
        raise ConfigError(
            f"database {url!r}: not a database URL; write sqlite:///FILE or postgresql+psycopg://…"
        ) from e
    if backend not in ("sqlite", "postgresql"):
        raise ConfigError(f"database {backend}: not supported; use sqlite or postgresql+psycopg")
    if backend == "sqlite" and parsed.database:
        folder = Path(parsed.database).parent
        if not folder.is_dir():
            raise ConfigError(f"database {url!r}: folder {folder} does not exist; create it first")
    return parsed


def engine_of(url: URL) -> Engine:
    """Return an engine; on SQLite every transaction begins as a writer, unless it only reads (receiver.db.reading).

    Its errors do not show what was to be written: logs must hold neither places nor a platform's code.
    """
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, hide_parameters=True)
    engine = create_engine(url, connect_args={"timeout": 30.0}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        # Transactions are begun by us, as writers (below): sqlite3's own way begins them late and upgrades them,
        # which fails at once when another process writes, whatever the time-out.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # what is acknowledged must survive a power cut

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("reading") else "BEGIN IMMEDIATE")

    return engine


def beside(database: str) -> Path:
    """Return the folder of a SQLite database; the working folder for any other."""
    url = make_url(database)
    named = url.database if url.get_backend_name() == "sqlite" else None
    return Path(named).absolute().parent if named and named != ":memory:" else Path.cwd()
