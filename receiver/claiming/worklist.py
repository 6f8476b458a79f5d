"""The adjusters' queue: which claim needs a person next, and what can be said of each without saying where."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, and_, case, exists, func, select

from agent.clock import NS_PER_S
from agent.known import known
from receiver import db, disputes
from receiver.claiming import assessing, facts, reporting, states, tables
from receiver.claiming.assessing import Reserve
from receiver.claiming.rules import Finding
from receiver.pricing.book import RateBook
from receiver.queries import Page, paged
from receiver.registry import bindings

SIZE: Final = 25
OPEN: Final = "open"
ALL: Final = "all"
CHOICES: Final = (OPEN, *states.STATES, ALL)
# What a claim needs next, the most pressing first: somebody waits for a decision, money waits to be paid, a loss to be
# assessed; then what a person can only hasten.
NEEDS: Final = ("dispute", "again", "settle", "assess", "overdue", "documents", "evidence", "nothing")
WAITS_FOR_OTHERS: Final = frozenset({"documents", "evidence", "nothing"})


@dataclass(frozen=True, slots=True)
class Waiting:
    """One claim of the queue; `need` is one of NEEDS."""

    id: str
    device: str
    plate: str  # empty where it is not known
    state: str
    state_utc_ns: int
    opened_utc_ns: int
    opened_by: str
    accident_utc_ns: int | None
    need: str
    kind: str  # of the crash, empty where no device measured one
    delta_v_mps: float | None
    clipped: bool
    notice_h: float | None  # from the impact to the insured's report
    device_notice_s: float | None  # from the impact to the device's first record
    flags: int
    disputes: int  # open ones
    reserve: Reserve
    paid: Decimal


def queue(
    engine: Engine, book: RateBook, now_ns: int, *, choice: str = OPEN, page: int = 1, size: int = SIZE
) -> tuple[list[Waiting], Page, dict[str, int]]:
    """Return one page of claims, what needs a person first, then the longest waiting; and how many each choice has.

    Raise ValueError for a choice that is none of CHOICES.
    """
    if choice not in CHOICES:
        raise ValueError(f"choice {choice!r} is none of: {', '.join(CHOICES)}")
    c = db.claim.c
    of = {OPEN: [c.state != "settled"], ALL: []}.get(choice, [c.state == choice])
    rank = _rank(now_ns)
    with db.reading(engine) as connection:
        counts = _counts(connection)
        shown = paged(page, counts[choice], size)
        chosen = select(db.claim, rank.label("rank")).where(*of).order_by(rank, c.state_utc_ns, c.id)
        rows = connection.execute(chosen.offset((shown.number - 1) * size).limit(size)).all()
        flags, notices = _findings(connection, [row.id for row in rows])
        open_ = _open_disputes(connection, [row.id for row in rows])
        crashes = _crashes(connection, rows)
        found = []
        for row in rows:
            crash = crashes.get((row.device, row.incident))
            notice_h, device_s = notices.get(row.id, (None, None))
            found.append(
                Waiting(
                    id=row.id,
                    device=row.device,
                    plate=plate(connection, row.id, row.device),
                    state=row.state,
                    state_utc_ns=row.state_utc_ns,
                    opened_utc_ns=row.opened_utc_ns,
                    opened_by=row.opened_by,
                    accident_utc_ns=assessing.accident_utc_ns(connection, row.id),
                    need=NEEDS[row.rank],
                    kind="" if crash is None else crash.kind,
                    delta_v_mps=None if crash is None else crash.delta_v_mps,
                    clipped=crash is not None and bool(crash.clipped),
                    notice_h=notice_h,
                    device_notice_s=device_s,
                    flags=flags.get(row.id, 0),
                    disputes=open_.get(row.id, 0),
                    reserve=assessing.reserve(connection, book, row.id),
                    paid=assessing.paid(connection, row.id),
                )
            )
        return found, shown, counts


def need(connection: Connection, claim: str, now_ns: int) -> str:
    """Return what a claim needs next, one of NEEDS; raise ClaimError where there is none of that name."""
    states.row_of(connection, claim)
    return NEEDS[connection.execute(select(_rank(now_ns)).where(db.claim.c.id == claim)).scalar_one()]


def plate(connection: Connection, claim: str, device: str) -> str:
    """Return the plate of the insured car: as told for the claim, else as registered, else as insured; "" for none."""
    told = next((car.plate for car in reporting.cars(connection, claim) if car.number == 1 and car.plate), "")
    if told:
        return str(told)
    vehicle = bindings.vehicle_of(connection, device)
    if vehicle is not None and vehicle.plate:
        return vehicle.plate
    return next((p.plate for p in assessing.policies_of(connection, claim) if p.plate), "")


def _rank(now_ns: int) -> ColumnElement[int]:
    """Return the place of a claim's need in NEEDS."""
    c, d, h = db.claim.c, tables.dispute.c, tables.claim_history.c
    disputed = exists(select(d.id).where(d.claim == c.id, d.state == disputes.OPEN))

    def last(*what: str) -> ColumnElement[int]:
        steps = select(func.max(h.seq)).where(h.claim == c.id, h.what.in_(what)).scalar_subquery()
        return func.coalesce(steps, 0)

    late_ns = now_ns - round(facts.limits().package_h * 3600 * NS_PER_S)
    cases: list[tuple[ColumnElement[bool], str]] = [
        (disputed, "dispute"),
        (c.state == "settled", "nothing"),
        (c.state == "assessed", "settle"),
        (last("asked") > last("document", "reported"), "documents"),
        (c.state == "disputed", "again"),
        (c.state == "evidence", "assess"),
        (c.opened_by == reporting.OWNER, "assess"),  # no device that would tell more
        (c.opened_utc_ns <= late_ns, "overdue"),
    ]
    return case(*((when, NEEDS.index(name)) for when, name in cases), else_=NEEDS.index("evidence"))


def _counts(connection: Connection) -> dict[str, int]:
    c = db.claim.c
    by_state = dict.fromkeys(states.STATES, 0)
    for state, n in connection.execute(select(c.state, func.count()).group_by(c.state)):
        by_state[state] = n
    whole = sum(by_state.values())
    return {OPEN: whole - by_state["settled"], **by_state, ALL: whole}


def _findings(
    connection: Connection, claims: list[str]
) -> tuple[dict[str, int], dict[str, tuple[float | None, float | None]]]:
    """Return the number of flags, and both delays of the notice, by claim."""
    t = tables.claim_finding
    flags: dict[str, int] = {}
    notices: dict[str, tuple[float | None, float | None]] = {}
    for row in connection.execute(select(t.c.claim, t.c.rule, t.c.result, t.c.body).where(t.c.claim.in_(claims))):
        if row.result == "flag":
            flags[row.claim] = flags.get(row.claim, 0) + 1
        if row.rule == "report_delay":
            notices[row.claim] = notice(msgspec.json.decode(row.body, type=known(Finding)))
    return flags, notices


def notice(finding: Finding) -> tuple[float | None, float | None]:
    """Return the delay of the insured's report, hours, and of the device's first record, seconds; None: not known."""
    told = [finding.figures.get(name) for name in ("notice_delay_h", "device_notice_s")]
    hours, seconds = (float(v) if isinstance(v, int | float) and not isinstance(v, bool) else None for v in told)
    return hours, seconds


def _open_disputes(connection: Connection, claims: list[str]) -> dict[str, int]:
    t = tables.dispute.c
    of = (t.claim.in_(claims), t.state == disputes.OPEN)
    rows = connection.execute(select(t.claim, func.count().label("n")).where(*of).group_by(t.claim))
    return {row.claim: row.n for row in rows}


def _crashes(connection: Connection, rows: Any) -> dict[tuple[str, str], Any]:
    """Return the last record of each incident."""
    t = db.crash.c
    if not rows:
        return {}
    of = and_(t.device.in_([r.device for r in rows]), t.incident.in_([r.incident for r in rows]))
    columns = (t.device, t.incident, t.kind, t.delta_v_mps, t.clipped)
    found = connection.execute(select(*columns).where(of).order_by(t.complete, t.id))
    return {(row.device, row.incident): row for row in found}
