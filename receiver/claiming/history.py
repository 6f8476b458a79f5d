"""What was done to claims, by whom and why: append-only and chained (receiver.chained).

Rows are numbered over all claims, so that a whole claim cannot be taken out of it either.
"""

from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, select

from agent import chain
from receiver.chained import Audit, Chained, Head
from receiver.claiming import tables

WHAT: Final = (
    "opened",
    "proved",
    "reported",
    "checked",
    "party",
    "loss",
    "document",
    "dispatched",
    "surveyed",
    "assessed",
    "paid",
    "settled",
    "disputed",
    "decided",
    "asked",
    "clip",
)
MOST_WHY: Final = 2000  # characters


class Step(NamedTuple):
    """One row of the history."""

    seq: int
    utc_ns: int
    claim: str
    who: str
    what: str  # one of WHAT
    before: str
    after: str
    why: str
    detail: str  # JSON


_LOG: Final = Chained(tables.claim_history, Step._fields, 7239)


def append(
    connection: Connection,
    now_ns: int,
    claim: str,
    who: str,
    what: str,
    *,
    states: tuple[str, str],
    why: str = "",
    detail: dict[str, Any] | None = None,
) -> int:
    """Write one row in the caller's transaction and return its number; `states` are before and after."""
    said = chain.canonical(detail or {}).decode()
    step = Step(0, now_ns, claim, plain(who)[:64], what, *states, plain(why)[:MOST_WHY], said)
    return _LOG.append(connection, step._asdict())


def of_claim(connection: Connection, claim: str) -> list[Step]:
    """Return what was done to a claim, first things first."""
    table = tables.claim_history
    query = select(*(table.c[name] for name in Step._fields)).where(table.c.claim == claim).order_by(table.c.seq)
    return [Step(*row) for row in connection.execute(query)]


def verify(engine: Engine, expected: Head | None = None) -> Audit:
    """Check the whole history; `expected` is a head noted earlier, which must still stand in it."""
    return _LOG.verify(engine, expected)


def plain(text: str) -> str:
    """Keep what both databases hold and a terminal can show."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text).strip()
