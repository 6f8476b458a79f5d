"""What an owner disputes: an event or trip by its signed entry, or a flag of a claim; a person decides, with a reason.

A disputed entry weighs nothing in a score while nobody has decided, and nothing for ever once it was upheld:
`disputed_entries` is what the score reads.
"""

from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, Row, insert, select, update

from agent.errors import RoadwitnessError
from receiver import db
from receiver.claiming import history, states, tables
from receiver.claiming.rules import RULES

OPEN: Final = "open"
UPHELD: Final = "upheld"  # the owner is right
REJECTED: Final = "rejected"
MOST_OPEN: Final = 200  # of one device: more is no dispute but a flood

Entry = tuple[str, str, int]  # lineage, lane, sequence number


class DisputeError(RoadwitnessError):
    """A dispute that cannot be opened or decided."""


class Dispute(NamedTuple):
    """One dispute; either the entry or claim and rule are empty."""

    id: int
    device: str
    lineage: str
    lane: str
    seq: int
    claim: str
    rule: str
    by: str
    why: str
    opened_utc_ns: int
    state: str
    decided_by: str
    decided_utc_ns: int | None
    decision: str


def dispute_entry(engine: Engine, device: str, entry: Entry, by: str, why: str, now_ns: int) -> int:
    """Dispute a signed entry of a device and return the dispute's number; raise DisputeError."""
    lineage, lane, seq = entry
    e = db.entry
    of = (e.c.device == device, e.c.lineage == lineage, e.c.lane == lane, e.c.seq == seq)
    with engine.begin() as connection:
        if connection.execute(select(e.c.kind).where(*of)).scalar() is None:
            raise DisputeError(f"dispute: device {device[:64]} has no entry {lineage}/{lane}/{seq}")
        row = {"device": device, "lineage": lineage, "lane": lane, "seq": seq, "claim": "", "rule": ""}
        number = _open(connection, row, by, why, now_ns)
        detail = {"dispute": number, "entry": f"{device}/{lineage}/{lane}/{seq}"}
        history.append(connection, now_ns, "", by, "disputed", states=("", ""), why=why, detail=detail)
    return number


def dispute_flag(engine: Engine | Connection, claim: str, rule: str, by: str, why: str, now_ns: int) -> int:
    """Dispute what a check found, or with rule "settlement" the payment; the claim becomes disputed.

    Raise DisputeError or ClaimError.
    """
    if rule not in RULES and rule != "settlement":
        raise DisputeError(f"dispute: rule {rule[:32]!r} is unknown; known: {', '.join(RULES)}, settlement")
    with states.deed(engine) as connection:
        own = states.locked(connection, claim)
        row = {"device": own.device, "lineage": "", "lane": "", "seq": 0, "claim": claim, "rule": rule}
        number = _open(connection, row, by, why, now_ns)
        detail = {"dispute": number, "rule": rule}
        if own.state == "disputed":
            states.note(connection, claim, now_ns, who=by, what="disputed", why=why, detail=detail)
        else:
            states.move(connection, claim, "disputed", now_ns, who=by, what="disputed", why=why, detail=detail)
    return number


def decide(engine: Engine | Connection, number: int, upheld: bool, who: str, why: str, now_ns: int) -> None:
    """Decide a dispute; raise DisputeError. A disputed claim moves on by being assessed again."""
    if not who.strip() or not why.strip():
        raise DisputeError("dispute: say who decides, and why")
    t = tables.dispute
    with states.deed(engine) as connection:
        row = connection.execute(select(t).where(t.c.id == number).with_for_update()).one_or_none()
        if row is None or row.state != OPEN:
            raise DisputeError(f"dispute {number}: {'there is none' if row is None else f'is {row.state} already'}")
        state = UPHELD if upheld else REJECTED
        values = {"state": state, "decided_by": history.plain(who)[:64], "decided_utc_ns": now_ns}
        decision = history.plain(why)[: history.MOST_WHY]
        connection.execute(update(t).where(t.c.id == number).values(**values, decision=decision))
        detail = {"dispute": number, "state": state}
        if row.claim:
            states.note(connection, row.claim, now_ns, who=who, what="decided", why=why, detail=detail)
        else:
            history.append(connection, now_ns, "", who, "decided", states=("", ""), why=why, detail=detail)


def disputed_entries(connection: Connection, device: str) -> frozenset[Entry]:
    """Return the entries of a device that must not weigh: disputed and not rejected."""
    t = tables.dispute
    of = (t.c.device == device, t.c.claim == "", t.c.state != REJECTED)
    return frozenset((r.lineage, r.lane, r.seq) for r in connection.execute(select(t).where(*of)))


def get(connection: Connection, number: int) -> Dispute | None:
    """Return one dispute; None where there is none of that number."""
    row = connection.execute(select(tables.dispute).where(tables.dispute.c.id == number)).one_or_none()
    return None if row is None else _dispute(row)


def of_claim(connection: Connection, claim: str) -> list[Dispute]:
    """Return the disputes of a claim, the first opened first."""
    t = tables.dispute
    return [_dispute(r) for r in connection.execute(select(t).where(t.c.claim == claim).order_by(t.c.id))]


def of_device(connection: Connection, device: str) -> dict[Entry, list[Dispute]]:
    """Return the disputes of a device's entries, by entry, the first opened first."""
    t = tables.dispute
    told: dict[Entry, list[Dispute]] = {}
    for row in connection.execute(select(t).where(t.c.device == device, t.c.claim == "").order_by(t.c.id)):
        told.setdefault((row.lineage, row.lane, row.seq), []).append(_dispute(row))
    return told


def waiting(connection: Connection, device: str | None = None) -> list[Dispute]:
    """Return the disputes that nobody has decided, the oldest first, of one device or of all."""
    t = tables.dispute
    query = select(t).where(t.c.state == OPEN)
    if device is not None:
        query = query.where(t.c.device == device)
    return [_dispute(r) for r in connection.execute(query.order_by(t.c.opened_utc_ns, t.c.id))]


def _dispute(row: Row[Any]) -> Dispute:
    return Dispute(*(getattr(row, name) for name in Dispute._fields))


def _open(connection: Connection, row: dict[str, Any], by: str, why: str, now_ns: int) -> int:
    if not by.strip() or not why.strip():
        raise DisputeError("dispute: say who disputes, and why")
    t = tables.dispute
    same = [t.c[name] == value for name, value in row.items()]
    if connection.execute(select(t.c.id).where(*same, t.c.state == OPEN).limit(1)).scalar() is not None:
        raise DisputeError("dispute: this is disputed already")
    mine = select(t.c.id).where(t.c.device == row["device"], t.c.state == OPEN).limit(MOST_OPEN)
    if len(connection.execute(mine).all()) >= MOST_OPEN:
        raise DisputeError(f"dispute: {MOST_OPEN} disputes of this car wait for a decision")
    values = {
        **row,
        "by": history.plain(by)[:64],
        "why": history.plain(why)[: history.MOST_WHY],
        "opened_utc_ns": now_ns,
        "state": OPEN,
        "decided_by": "",
        "decision": "",
    }
    return int(connection.execute(insert(t).values(**values).returning(t.c.id)).scalar_one())
