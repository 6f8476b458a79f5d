"""The log of who looked at what and who decided what: append-only and chained (receiver.chained).

`roadwitness receiver audit verify` checks it and prints its head.
"""

from threading import Lock
from typing import Final, NamedTuple

from sqlalchemy import Connection, Engine, select

from agent.clock import NS_PER_S
from receiver import db
from receiver.chained import Audit, Chained, Head, read_head

LOCAL: Final = "local"  # whoever sits at the insurer's own machine
# Looks: page, trip, file, package, check, export. Deeds: command, binding, enrolment (or its end), consent, erasure,
# decision. People: sign_in, refused (a sign-in), sign_out, password, factor, account, token (its first use of a day, or
# its making).
WHAT: Final = (
    "page",
    "trip",
    "file",
    "package",
    "check",
    "export",
    "command",
    "binding",
    "enrolment",
    "consent",
    "erasure",
    "decision",
    "sign_in",
    "refused",
    "sign_out",
    "password",
    "factor",
    "account",
    "token",
)
# A player asks for a video in dozens of ranges: those of one look are one row.
LOOK_NS: Final = 300 * NS_PER_S
MOST_LOOKS: Final = 10_000
__all__ = ["Audit", "Head", "read_head"]


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


_LOG: Final = Chained(db.access_log, Row._fields, 7238)


def append(engine: Engine, look: Look, now_ns: int) -> int:
    """Write one row, durable on return, and return its number."""
    with engine.begin() as connection:
        return write(connection, look, now_ns)


def write(connection: Connection, look: Look, now_ns: int) -> int:
    """Write one row in the caller's transaction, so that a deed and its row stand or fall together."""
    row = look._replace(who=look.who[:64], address=look.address[:64])
    return _LOG.append(connection, {**row._asdict(), "utc_ns": now_ns})


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
    return _LOG.verify(engine, expected)
