"""What pages and commands show of claims: the queue, and one claim with all that belongs to it. Plain and read only."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Engine, Row, func, select

from agent.errors import RoadwitnessError
from receiver import db, disputes, fleet
from receiver.claiming import assessing, documents, history, reporting, states, tables
from receiver.claiming.assessing import Reserve
from receiver.claiming.documents import Document
from receiver.claiming.fasttrack import FastTrack
from receiver.claiming.history import Step
from receiver.claiming.reporting import Car
from receiver.claiming.rules import Finding
from receiver.claiming.settlement import Proposal
from receiver.disputes import Dispute
from receiver.policies import Policy
from receiver.pricing.book import RateBook
from receiver.queries import Page, paged

PAGE: Final = 100


class Queued(NamedTuple):
    """One claim of the queue; `flags` are the names of the checks that flagged something."""

    id: str
    device: str
    incident: str
    state: str
    state_utc_ns: int
    opened_utc_ns: int
    opened_by: str
    suspected: bool
    accident_utc_ns: int | None
    checked_utc_ns: int | None
    flags: list[str]


class Declared(NamedTuple):
    """What was reported."""

    number: int
    reported_utc_ns: int
    by: str
    loss_utc_ns: int
    latitude: float | None
    longitude: float | None
    said: str
    injured: bool


class LossRow(NamedTuple):
    """One loss, yuan; `assessed` None until somebody assessed it."""

    number: int
    head: str
    party: int
    person: int
    estimated: Decimal
    assessed: Decimal | None
    paid_by_others: Decimal


@dataclass(frozen=True, slots=True)
class ClaimPage:
    """Everything about one claim but its package, which receiver.crashes shows."""

    id: str
    device: str
    incident: str
    state: str
    state_utc_ns: int
    opened_utc_ns: int
    opened_by: str
    suspected: bool
    accident_utc_ns: int | None
    reports: list[Declared]
    cars: list[Car]
    losses: list[LossRow]
    findings: list[Finding]
    checked_utc_ns: int | None
    policies: list[Policy]
    fast_track: FastTrack | None
    proposal: Proposal | None
    reserve: Reserve
    paid: Decimal
    documents: list[Document]
    disputes: list[Dispute]
    history: list[Step]
    moves: list[str]  # states that it can move to


def queue(
    engine: Engine,
    *,
    state: str | None = None,
    device: str | None = None,
    devices: Collection[str] | None = None,
    only: Sequence[ColumnElement[bool]] = (),
    page: int = 1,
    size: int = PAGE,
) -> tuple[list[Queued], Page]:
    """Return one page of claims, the latest first, of all devices, one or some, of which `only` is true.

    Raise RoadwitnessError for a state that there is not.
    """
    if state is not None and state not in states.STATES:
        raise RoadwitnessError(f"claims: state {state!r} is unknown; known: {', '.join(states.STATES)}")
    c, f = db.claim, tables.claim_finding
    wanted = [*only, *([c.c.state == state] if state is not None else [])]
    wanted += [c.c.device == device] if device is not None else []
    with db.reading(engine) as connection:
        wanted += [fleet.among(connection, c.c.device, devices)] if devices is not None else []
        total = connection.execute(select(func.count()).select_from(c).where(*wanted)).scalar_one()
        shown = paged(page, total, size)
        chosen = select(c).where(*wanted).order_by(c.c.opened_utc_ns.desc(), c.c.id)
        rows = connection.execute(chosen.offset((shown.number - 1) * size).limit(size)).all()
        found: dict[str, list[Row[Any]]] = {}
        for finding in connection.execute(select(f).where(f.c.claim.in_([r.id for r in rows]))):
            found.setdefault(finding.claim, []).append(finding)
        queued = []
        for row in rows:
            of = found.get(row.id, [])
            flags = sorted(x.rule for x in of if x.result == "flag")
            checked = max((x.checked_utc_ns for x in of), default=None)
            queued.append(Queued(*_head(row), assessing.accident_utc_ns(connection, row.id), checked, flags))
        return queued, shown


def claim(engine: Engine, book: RateBook, claim: str) -> ClaimPage:
    """Return one claim; raise ClaimError where there is none of that name."""
    with db.reading(engine) as connection:
        row = states.row_of(connection, claim)
        r, n, f = tables.claim_report, tables.claim_loss, tables.claim_finding
        reports = connection.execute(select(r).where(r.c.claim == claim).order_by(r.c.number)).all()
        losses = connection.execute(select(n).where(n.c.claim == claim).order_by(n.c.number)).all()
        checked = connection.execute(select(func.max(f.c.checked_utc_ns)).where(f.c.claim == claim)).scalar()
        return ClaimPage(
            *_head(row),
            accident_utc_ns=assessing.accident_utc_ns(connection, claim),
            reports=[_reported(x) for x in reports],
            cars=[_car(x) for x in reporting.cars(connection, claim)],
            losses=[_loss(x) for x in losses],
            findings=assessing.findings(connection, claim),
            checked_utc_ns=checked,
            policies=assessing.policies_of(connection, claim),
            fast_track=assessing.fast(connection, book, claim),
            proposal=assessing.latest(connection, claim),
            reserve=assessing.reserve(connection, book, claim),
            paid=assessing.paid(connection, claim),
            documents=documents.listed(connection, claim),
            disputes=disputes.of_claim(connection, claim),
            history=history.of_claim(connection, claim),
            moves=[s for s in states.STATES if s in states.MOVES[row.state]],
        )


def _head(row: Row[Any]) -> tuple[str, str, str, str, int, int, str, bool]:
    return (
        row.id,
        row.device,
        row.incident,
        row.state,
        row.state_utc_ns,
        row.opened_utc_ns,
        row.opened_by,
        bool(row.suspected),
    )


def _reported(row: Row[Any]) -> Declared:
    values = {name: getattr(row, name) for name in Declared._fields}
    return Declared(**{**values, "injured": bool(row.injured)})


def _car(row: Row[Any]) -> Car:
    values = {name: getattr(row, name) for name in Car.__slots__}
    return Car(**{**values, **{name: bool(values[name]) for name in ("compulsory", "agrees", "injured")}})


def _loss(row: Row[Any]) -> LossRow:
    return LossRow(
        row.number,
        row.head,
        row.party,
        row.person,
        Decimal(row.estimated_fen) / 100,
        None if row.assessed_fen is None else Decimal(row.assessed_fen) / 100,
        Decimal(row.paid_by_others_fen) / 100,
    )
