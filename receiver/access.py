"""The log of who looked at what of a crash: append-only, each row's hash covers the row before it.

hash_i = SHA-256(hash_{i-1} ‖ SHA-256(row_i)), as agent.chain links records; rows are numbered 1, 2, 3 … without gaps. A
row changed, removed, put in or moved is found. Rows cut off the end are found by whoever noted a head before
(`roadwitness receiver audit verify` prints it).
"""

import re
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, NamedTuple

from sqlalchemy import Engine, func, insert, select

from agent import chain
from agent.clock import NS_PER_S
from agent.errors import ConfigError
from receiver import db

LOCAL: Final = "local"  # there is no sign-in yet: whoever sits at this machine
WHAT: Final = ("page", "file", "package", "check", "command", "export", "binding", "consent", "erasure")
_ADVISORY: Final = 7238  # PostgreSQL: one appends at a time
_AT_ONCE: Final = 1000
# A player asks for a video in dozens of ranges: those of one look are one row.
LOOK_NS: Final = 300 * NS_PER_S
MOST_LOOKS: Final = 10_000


class Look(NamedTuple):
    """One look: by whom, from where, at what."""

    who: str
    address: str
    device: str
    incident: str
    what: str  # one of WHAT
    name: str = ""  # of the file, or the id of the command


class Row(NamedTuple):
    """A row of the log."""

    seq: int
    utc_ns: int
    who: str
    address: str
    device: str
    incident: str
    what: str
    name: str


class Head(NamedTuple):
    """The last row of the log and its hash; 0 and 64 zeros before the first."""

    seq: int
    hash: str


_HEAD: Final = re.compile(r"(\d{1,18}):([0-9a-f]{64})")


def read_head(text: str) -> Head:
    """Read ROW:HASH as the check prints it; raise ConfigError."""
    match = _HEAD.fullmatch(text.strip().lower())
    if match is None:
        raise ConfigError(f"--head {text!r}: write ROW:HASH, as roadwitness receiver audit verify prints it")
    return Head(int(match[1]), match[2])


@dataclass(frozen=True, slots=True)
class Audit:
    """What the check of the log found; `broken` is the first row that does not follow, with `why`."""

    rows: int
    head: Head
    broken: int | None
    why: str


def append(engine: Engine, look: Look, now_ns: int) -> int:
    """Write one row, durable on return, and return its number."""
    table = db.access_log
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY})")
        newest = select(func.max(table.c.seq)).scalar_subquery()
        last = connection.execute(select(table.c.seq, table.c.hash).where(table.c.seq == newest)).first()
        seq, previous = (1, chain.START) if last is None else (last.seq + 1, bytes(last.hash))
        row = Row(seq, now_ns, look.who[:64], look.address[:64], *look[2:])
        connection.execute(insert(table).values(**row._asdict(), hash=chain.link(previous, _bytes(row))))
    return seq


class Looks:
    """Writes looks; further ranges of a file within LOOK_NS are the same look. One per process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = Lock()
        self._recent: dict[Look, int] = {}

    def note(self, look: Look, now_ns: int, *, part: bool = False) -> None:
        """Write a look; `part` says that only a range of a file is given."""
        with self._lock:
            since = self._recent.get(look)
            again = part and since is not None and 0 <= now_ns - since < LOOK_NS
        if again:
            return
        append(self._engine, look, now_ns)
        with self._lock:
            if len(self._recent) >= MOST_LOOKS:
                self._recent.clear()
            self._recent[look] = now_ns


def latest(engine: Engine, device: str, incident: str, most: int) -> list[Row]:
    """Return the last looks at an incident, the latest first."""
    table = db.access_log
    of = (table.c.device == device, table.c.incident == incident)
    query = select(*(table.c[name] for name in Row._fields)).where(*of).order_by(table.c.seq.desc()).limit(most)
    with db.reading(engine) as connection:
        return [Row(*row) for row in connection.execute(query)]


def verify(engine: Engine, expected: Head | None = None) -> Audit:
    """Check the whole log; `expected` is a head noted earlier, which must still stand in it."""
    table = db.access_log
    previous, rows, at = chain.START, 0, 0
    met = expected is None or expected.seq == 0
    with db.reading(engine) as connection:
        while True:
            query = select(table).where(table.c.seq > at).order_by(table.c.seq).limit(_AT_ONCE)
            found = connection.execute(query).all()
            if not found:
                break
            for row in found:
                why = _fault(row, at, previous)
                if not why and expected is not None and row.seq == expected.seq:
                    met = bytes(row.hash).hex() == expected.hash
                    why = "" if met else "has another hash than the head that was noted earlier"
                if why:
                    return Audit(rows, Head(at, previous.hex()), at + 1 if row.seq != at + 1 else row.seq, why)
                previous, at, rows = bytes(row.hash), row.seq, rows + 1
    if not met:
        return Audit(rows, Head(at, previous.hex()), at + 1, "is missing: a later head was noted earlier")
    return Audit(rows, Head(at, previous.hex()), None, "")


def _fault(row: Any, before: int, previous: bytes) -> str:
    if row.seq != before + 1:
        return f"is missing: row {row.seq} comes after row {before}"
    plain = Row(*(getattr(row, name) for name in Row._fields))
    if chain.link(previous, _bytes(plain)) != bytes(row.hash):
        return "was altered, or the row before it was"
    return ""


def _bytes(row: Row) -> bytes:
    return chain.canonical(row._asdict())
