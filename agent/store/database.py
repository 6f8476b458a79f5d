"""The SQLite file itself: one writer, transactions that are durable when they return, damage moved aside, plain errors.

One connection with `synchronous=FULL` serves lanes and samples alike (docs/decisions/0060). Every use of it holds
`lock`, so that a second thread of the same process (sync) may acknowledge and read. Other processes open read-only.
"""

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.durable import sync_folder
from agent.errors import ConfigError, StoreError
from agent.store.schema import contradiction, migrate, up_to_date

STORE_FILE: Final = "store.db"
LOCK_FILE: Final = "store.lock"
SUSPECT_FILE: Final = "store.suspect"  # exists after SQLite met damage: the next opening checks every page

_MIB: Final = 1 << 20
# Tables checked at every opening: everything but the samples, which are large and carry their own checksums.
_CHECKED: Final = ("meta", "lineage", "boot", "lane", "entry", "event", "trip", "track", "clock", "mount", "health")

_log = logging.getLogger("agent.store")

# SQLite's primary result code -> cause and what to do
_TROUBLES: Final[dict[int, str]] = {
    sqlite3.SQLITE_FULL: "disk or store is full; free space on that disk or raise store.max_bytes",
    sqlite3.SQLITE_IOERR: "the disk reports an error; check the card with dmesg",
    sqlite3.SQLITE_READONLY: "it cannot be written; check the owner of the folder and that the disk is mounted rw",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that the folder exists and its owner",
    sqlite3.SQLITE_PERM: "access is denied; check the owner of the folder",
    sqlite3.SQLITE_BUSY: "another program is writing to it; close that program",
    sqlite3.SQLITE_CORRUPT: "it is damaged; restart the agent, which moves it aside and begins a new one",
    sqlite3.SQLITE_NOTADB: "it is damaged; restart the agent, which moves it aside and begins a new one",
}
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Bounds and retention of the store."""

    max_bytes: int = 512 * _MIB  # whole file; appending fails with StoreError rather than growing beyond it
    block_bytes: int = 384 * _MIB  # stored samples; oldest dropped first. 1.1 MB an hour for trip164: 350 hours
    block_days: float = 30.0  # stored samples, where their date is known
    acknowledged_days: float = 90.0  # records that the receiver holds; others stay for ever
    block_s: float = 60.0  # samples in one stored block: 10 s costs 13 to 28 % more bytes (benchmarks/storage.py)
    # a sample that comes live is durable this long after it was measured, 0.2 s after the one before at the soonest:
    # less than a second is lost with the power (docs/sources.md T-EVID-6)
    piece_s: float = 0.7

    def __post_init__(self) -> None:
        """Refuse bounds that contradict each other."""
        if self.block_bytes > self.max_bytes * 0.9:
            raise ConfigError(
                f"store.block_bytes is {self.block_bytes}, but at most nine tenths of store.max_bytes "
                f"({self.max_bytes}) may be samples; lower it so that events always find room"
            )
        if min(self.block_bytes, self.block_days, self.acknowledged_days, self.block_s, self.piece_s) <= 0:
            raise ConfigError("store: every size, age and duration must be more than 0")


class Database:
    """An open store file: its connection, its lock, and its errors in words."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock_descriptor: int | None) -> None:
        self.path = path
        self.lock = threading.RLock()
        self.read_only = lock_descriptor is None
        self._connection: sqlite3.Connection | None = connection
        self._lock_descriptor = lock_descriptor

    @property
    def connection(self) -> sqlite3.Connection:
        """The open connection; StoreError once closed."""
        if self._connection is None:
            raise StoreError(f"{self.path}: store is closed")
        return self._connection

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with self.lock, self.in_words("reading"):
            return self.connection.execute(sql, parameters).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write all or nothing; durable when the block has ended."""
        if self.read_only:
            raise StoreError(f"{self.path}: store was opened for reading only")
        with self.lock, self.in_words("writing"):
            connection = self.connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def in_words(self, step: str) -> Iterator[None]:
        """Turn SQLite's errors into StoreError; note damage for the next opening."""
        try:
            yield
        except sqlite3.Error as e:
            if _code(e) in _DAMAGE and not self.read_only:
                (self.path.parent / SUSPECT_FILE).touch()
            raise StoreError(f"{self.path}: {step} failed: {_TROUBLES.get(_code(e), str(e))}") from e

    def close(self) -> None:
        """Close the file and let others write; legal twice."""
        with self.lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if self._lock_descriptor is not None:
                os.close(self._lock_descriptor)
                self._lock_descriptor = None


def open_for_writing(directory: Path, max_bytes: int) -> tuple[Database, str | None]:
    """Open or begin the store in `directory` as its only writer; also return what was moved aside, if anything.

    Raise StoreError when another process writes to it, or it cannot be opened.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as e:
        raise StoreError(f"{directory}: store folder cannot be used: {e.strerror}; check its path and owner") from e
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(descriptor)
        raise StoreError(
            f"{directory}: another roadwitness process writes to this store; stop it first, or choose another folder"
        ) from e
    try:
        path = directory / STORE_FILE
        damage = _damage(path)
        aside = _move_aside(path, damage) if damage else None
        return Database(path, _connect(path, max_bytes), descriptor), aside
    except BaseException:
        os.close(descriptor)
        raise


def reading_uri(path: Path) -> str:
    """Return how SQLite opens a file beside its writer; on a read-only disk, where nobody writes, without a lock file.

    What only the write-ahead log holds is not seen there.
    """
    try:
        frozen = bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
    except OSError:
        frozen = False  # opening it says what is wrong
    return f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if frozen else ''}"


def open_for_reading(directory: Path) -> Database:
    """Open the store in `directory` beside its writer; raise StoreError when there is none or it needs migration."""
    path = directory / STORE_FILE
    if not path.exists():
        raise StoreError(f"{directory}: no store here; give the folder that the agent or replay wrote")
    try:
        connection = sqlite3.connect(reading_uri(path), uri=True, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA busy_timeout = 5000")
        if not up_to_date(connection, str(path)):
            connection.close()
            raise StoreError(f"{path}: store was made by an older version; start the agent once to bring it up to date")
    except sqlite3.Error as e:
        raise StoreError(f"{path}: opening failed: {_TROUBLES.get(_code(e), str(e))}") from e
    return Database(path, connection, None)


def _connect(path: Path, max_bytes: int) -> sqlite3.Connection:
    begun = path.exists()
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA busy_timeout = 5000")
        if not begun:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # pruned space goes back to the disk
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {4 * _MIB}")
        page_size = connection.execute("PRAGMA page_size").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {max_bytes // page_size}")
        if not up_to_date(connection, str(path)):
            migrate(connection)
        if not begun:
            sync_folder(path.parent)
    except sqlite3.Error as e:
        connection.close()
        raise StoreError(f"{path}: opening failed: {_TROUBLES.get(_code(e), str(e))}") from e
    except BaseException:
        connection.close()
        raise
    return connection


def _damage(path: Path) -> str | None:
    """Return what SQLite finds wrong with the file, or None; only damage counts, never trouble that may pass."""
    if not path.exists():
        return None
    suspect = path.parent / SUSPECT_FILE
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        checks = [""] if suspect.exists() else [f"('{name}')" for name in _CHECKED if name in tables]
        for check in checks:
            result = connection.execute(f"PRAGMA quick_check{check}").fetchone()[0]
            if result != "ok":
                return str(result)
        if wrong := contradiction(connection):
            return wrong
    except sqlite3.Error as e:
        if _code(e) not in _DAMAGE:
            raise StoreError(f"{path}: check failed: {_TROUBLES.get(_code(e), str(e))}") from e
        return str(e)
    finally:
        connection.close()
    suspect.unlink(missing_ok=True)
    return None


def _move_aside(path: Path, damage: str) -> str:
    """Rename the damaged file and its log to store.db.damaged-N; return the sentence that says so."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    (path.parent / SUSPECT_FILE).unlink(missing_ok=True)
    sync_folder(path.parent)
    sentence = f"{path} was damaged ({damage.splitlines()[-1].strip()}): kept as {aside.name}, a new store is begun"
    _log.error(sentence)
    return sentence


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code, -1 when the error is not SQLite's."""
    code: int = getattr(error, "sqlite_errorcode", -1)
    return code & 0xFF if code >= 0 else -1
