"""What was done to claims, by whom and why: append-only, each row's hash covers the row before it.

hash_i = SHA-256(hash_{i-1} ‖ SHA-256(row_i)), as agent.chain links records and receiver.access links looks; rows are
numbered 1, 2, 3 … over all claims, so that a whole claim cannot be taken out of it either.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, insert, select

from agent import chain
from receiver import db
from receiver.access import Head
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
)
MOST_WHY: Final = 2000  # characters
_ADVISORY: Final = 7239  # PostgreSQL: one appends at a time
_AT_ONCE: Final = 1000


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


@dataclass(frozen=True, slots=True)
class Audit:
    """What the check of the history found; `broken` is the first row that does not follow, with `why`."""

    rows: int
    head: Head
    broken: int | None
    why: str


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
    table = tables.claim_history
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY})")
    last = connection.execute(select(table.c.seq, table.c.hash).order_by(table.c.seq.desc()).limit(1)).first()
    seq, previous = (1, chain.START) if last is None else (last.seq + 1, bytes(last.hash))
    said = chain.canonical(detail or {}).decode()
    step = Step(seq, now_ns, claim, plain(who)[:64], what, *states, plain(why)[:MOST_WHY], said)
    connection.execute(insert(table).values(**step._asdict(), hash=chain.link(previous, _bytes(step))))
    return seq


def of_claim(connection: Connection, claim: str) -> list[Step]:
    """Return what was done to a claim, first things first."""
    table = tables.claim_history
    query = select(*(table.c[name] for name in Step._fields)).where(table.c.claim == claim).order_by(table.c.seq)
    return [Step(*row) for row in connection.execute(query)]


def verify(engine: Engine, expected: Head | None = None) -> Audit:
    """Check the whole history; `expected` is a head noted earlier, which must still stand in it."""
    table = tables.claim_history
    previous, at = chain.START, 0
    met = expected is None or expected.seq == 0
    with db.reading(engine) as connection:
        while found := connection.execute(
            select(table).where(table.c.seq > at).order_by(table.c.seq).limit(_AT_ONCE)
        ).all():
            for row in found:
                if row.seq != at + 1:
                    return Audit(
                        at, Head(at, previous.hex()), at + 1, f"is missing: row {row.seq} comes after row {at}"
                    )
                step = Step(*(getattr(row, name) for name in Step._fields))
                head = bytes(row.hash)
                if chain.link(previous, _bytes(step)) != head:
                    return Audit(at, Head(at, previous.hex()), row.seq, "was altered, or the row before it was")
                if expected is not None and row.seq == expected.seq:
                    met = head.hex() == expected.hash
                    if not met:
                        why = "has another hash than the head that was noted earlier"
                        return Audit(at, Head(at, previous.hex()), row.seq, why)
                previous, at = head, row.seq
    head_now = Head(at, previous.hex())
    return Audit(at, head_now, None, "") if met else Audit(at, head_now, at + 1, "is missing: a later head was noted")


def plain(text: str) -> str:
    """Keep what both databases hold and a terminal can show."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text).strip()


def _bytes(step: Step) -> bytes:
    return chain.canonical(step._asdict())
