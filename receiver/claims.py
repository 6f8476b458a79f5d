"""Claims: a crash record opens one by itself, once, whoever receives it and however often it comes.

What a claim is worth and how it is judged is nobody's business here: `opened` is where that begins.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, update

from agent.records import Crash
from receiver import db
from receiver.claiming import history
from receiver.projections import Known

log = logging.getLogger(__name__)

BY_DEVICE: Final = "device"
REPORTED: Final = "reported"
EVIDENCE: Final = "evidence"


class Claim(NamedTuple):
    """A claim as it is opened."""

    id: str
    device: str
    incident: str
    opened_utc_ns: int
    suspected: bool


def claim_id(device: str, incident: str) -> str:
    """Name the claim of an incident: 16 hex digits, the same for everyone who opens it."""
    return hashlib.sha256(f"{device}:{incident}".encode()).hexdigest()[:16]


def opened(connection: Connection, claim: Claim) -> None:
    """Take a claim that was just opened, in the transaction that opened it; called once for each incident."""
    log.info("claim %s opened by device %s for incident %s", claim.id, claim.device, claim.incident)
    history.append(connection, claim.opened_utc_ns, claim.id, claim.device, "opened", states=("", REPORTED))


def report(connection: Connection, known: Mapping[str, Sequence[Known]], now_ns: int) -> list[Claim]:
    """Open the claims of crash records that were just stored, by their devices, and return those that are new.

    A later record of the same incident decides whether it is still only suspected.
    """
    new = []
    table = db.claim
    for device, those in known.items():
        for record in (r for _, r, _ in those if isinstance(r, Crash)):
            suspected = record.kind == "suspected"
            claim = Claim(claim_id(device, record.id), device, record.id, now_ns, suspected)
            values = {**claim._asdict(), "opened_by": BY_DEVICE, "state": REPORTED, "state_utc_ns": now_ns}
            statement = db.upsert(connection, table, values, [], {})  # id, or device and incident
            # the other receiver's insert is waited for, so that exactly one of two sees its own row
            if connection.execute(statement.returning(table.c.id)).scalar() is not None:  # type: ignore[attr-defined]
                new.append(claim)
            else:
                connection.execute(update(table).where(table.c.id == claim.id).values(suspected=suspected))
    for claim in new:  # last: the history has one lock for all claims, and who holds it waits for no claim any more
        opened(connection, claim)
    return new


def prove(connection: Connection, device: str, incident: str, now_ns: int) -> None:
    """Note that the evidence of an incident's claim is whole and proved."""
    table = db.claim
    mine = (table.c.id == claim_id(device, incident), table.c.state == REPORTED)
    if connection.execute(update(table).where(*mine).values(state=EVIDENCE, state_utc_ns=now_ns)).rowcount:
        states = (REPORTED, EVIDENCE)
        history.append(connection, now_ns, claim_id(device, incident), "verifier", "proved", states=states)
