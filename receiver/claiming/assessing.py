"""From evidence and losses to a payment: checks kept, the proposal made, accepted by a person, paid.

No check moves a claim or changes an amount: `check` writes findings, `propose` does not read them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection, Engine, func, insert, select, update

from agent.clock import NS_PER_S
from agent.known import known
from receiver import db, policies
from receiver.claiming import facts, gathering, reporting, rules, settlement, states, tables
from receiver.claiming.fasttrack import FastTrack, Party, fast_track
from receiver.claiming.rules import Finding
from receiver.claiming.settlement import Case, Held, Loss, Proposal
from receiver.claiming.states import ClaimError
from receiver.filestore import FileStore
from receiver.policies import Policy
from receiver.pricing.book import Fault, RateBook
from receiver.pricing.money import ZERO
from receiver.pricing.refusals import QuoteError
from receiver.settings import ZONE

SYSTEM: Final = "receiver"
LEAST_CLAIMS: Final = 30  # below, an average of own claims says nothing


@dataclass(frozen=True, slots=True)
class Reserve:
    """What a claim may still cost: by its losses, by the average of own settled claims, or not known."""

    amount: Decimal | None
    basis: str  # losses, losses_full_fault, average, unknown
    claims: int = 0  # behind an average


def check(engine: Engine, claim: str, now_ns: int, files: FileStore | None = None) -> list[Finding]:
    """Check a claim against the evidence and keep what was found; raise ClaimError where there is no such claim."""
    limits = facts.limits()
    gathered = gathering.facts(engine, claim, now_ns, limits, files)
    if gathered is None:
        raise ClaimError(claim[:16], "there is none of that name; see `roadwitness receiver claims list`")
    found = rules.check(gathered, limits)
    t = tables.claim_finding
    with engine.begin() as connection:
        states.locked(connection, claim)
        before = {r.rule: (r.result, r.reason) for r in connection.execute(select(t).where(t.c.claim == claim))}
        for finding in found:
            row = {
                "claim": claim,
                "rule": finding.name,
                "result": finding.result,
                "reason": finding.reason,
                "body": msgspec.json.encode(finding).decode(),
                "checked_utc_ns": now_ns,
            }
            connection.execute(db.upsert(connection, t, row, ["claim", "rule"]))
        changed = {f.name: f"{f.result}: {f.reason}" for f in found if before.get(f.name) != (f.result, f.reason)}
        if changed:
            states.note(connection, claim, now_ns, who=SYSTEM, what="checked", detail=changed)
    return found


def look_again(engine: Engine, files: FileStore, device: str, incident: str, now_ns: int) -> None:
    """Check the claim of an incident whose package has come, where there is one."""
    with db.reading(engine) as connection:
        t = db.claim
        of = (t.c.device == device, t.c.incident == incident)
        claim = connection.execute(select(t.c.id).where(*of)).scalar()
    if claim is not None:
        check(engine, claim, now_ns, files)


def findings(connection: Connection, claim: str) -> list[Finding]:
    """Return what the last check found, in the order of the rules."""
    t = tables.claim_finding
    rows = connection.execute(select(t.c.rule, t.c.body).where(t.c.claim == claim))
    found = {row.rule: msgspec.json.decode(row.body, type=known(Finding)) for row in rows}
    return [found[name] for name in rules.RULES if name in found]


def check_open(engine: Engine, now_ns: int, files: FileStore | None = None, older_s: float = 3600.0) -> list[str]:
    """Check every claim that is not settled and was not checked lately: what is missing is told by time alone."""
    t, c = tables.claim_finding, db.claim
    last = select(func.max(t.c.checked_utc_ns)).where(t.c.claim == c.c.id).scalar_subquery()
    due = func.coalesce(last, 0) <= now_ns - round(older_s * NS_PER_S)
    with db.reading(engine) as connection:
        wanted = select(c.c.id).where(c.c.state != "settled", due).order_by(c.c.opened_utc_ns, c.c.id)
        ids = list(connection.execute(wanted).scalars())
    for claim in ids:
        check(engine, claim, now_ns, files)
    return ids


def accident_utc_ns(connection: Connection, claim: str) -> int | None:
    """Return the moment of the accident: as it was measured, else as it was declared last."""
    row = states.row_of(connection, claim)
    utc_ns = gathering.zero_utc_ns(connection, row.device, row.incident)
    if utc_ns is not None:
        return utc_ns
    t = tables.claim_report
    said = select(t.c.loss_utc_ns).where(t.c.claim == claim).order_by(t.c.number.desc()).limit(1)
    declared: int | None = connection.execute(said).scalar()
    return declared


def policies_of(connection: Connection, claim: str) -> list[Policy]:
    """Return the policies of the insured car that were in force at the accident."""
    utc_ns = accident_utc_ns(connection, claim)
    if utc_ns is None:
        return []
    insured = next((c for c in reporting.cars(connection, claim) if c.number == 1), None)
    vin, plate = ("", "") if insured is None else (insured.vin, insured.plate)
    device = states.row_of(connection, claim).device
    return policies.on(connection, local_day(utc_ns), device=device, vin=vin, plate=plate)


def fast(connection: Connection, book: RateBook, claim: str) -> FastTrack | None:
    """Check the conditions of fast settlement; None where the moment is not known, or is before the first law."""
    utc_ns = accident_utc_ns(connection, claim)
    if utc_ns is None:
        return None
    losses = _losses(connection, claim)
    parties = []
    for car in reporting.cars(connection, claim):
        own = [r for r in losses if r.party == car.number and r.head in ("vehicle", "property")]
        share: Fault | None = car.fault or None
        loss = sum((_yuan(_known(r)) for r in own), ZERO)
        parties.append(Party(bool(car.compulsory), share, bool(car.agrees), bool(car.injured), loss))
    hurt = any(r.head in ("death", "medical", "driver", "passenger") for r in losses) or _injured(connection, claim)
    if hurt:
        parties = [Party(p.compulsory, p.fault, p.agrees, True, p.loss) for p in parties]
    numbers = {car.number for car in reporting.cars(connection, claim)}
    outside = any(r.head == "property" and (r.party == 1 or r.party not in numbers) for r in losses)
    try:
        limit = book.compulsory.amounts(_moment(utc_ns), at_fault=True).property
    except QuoteError:  # declared for a day before the law, as anybody may who fills in a form
        return None
    return fast_track(parties, limit, outside_damage=outside)


def propose(connection: Connection, book: RateBook, claim: str, *, assumed: Fault | None = None) -> Proposal:
    """Calculate what the claim pays on what is known: assessed losses, else estimated ones. Raise ClaimError.

    `assumed` is the insured car's fault where nobody has said yet.
    """
    utc_ns = accident_utc_ns(connection, claim)
    if utc_ns is None:
        raise ClaimError(claim, "the moment of the accident is not known; have it reported first", "loss_utc_ns")
    held = policies_of(connection, claim)
    if not held:
        raise ClaimError(claim, f"no policy of this car was in force on {local_day(utc_ns)}", "policy")
    insured = next((c for c in reporting.cars(connection, claim) if c.number == 1), None)
    fault: Fault | None = insured.fault if insured is not None and insured.fault else assumed
    if fault is None:
        raise ClaimError(claim, "the fault of the insured car is not decided", "fault")
    said = insured.share_percent if insured is not None and insured.fault else None
    commercial = next((p for p in held if p.covers), held[0])
    quick = fast(connection, book, claim)
    case = Case(
        accident_at=_moment(utc_ns),
        fault=fault,
        losses=[
            Loss(r.head, _yuan(_known(r)), _yuan(r.paid_by_others_fen), r.person) for r in _losses(connection, claim)
        ],
        regime=commercial.regime,
        covers={
            c.code: Held(
                None if c.sum_fen is None else _yuan(c.sum_fen), c.waived, _paid_before(connection, claim, p.id, c.code)
            )
            for p in held
            for c in p.covers
        },
        share=None if said is None else Decimal(said) / 100,
        compulsory_here=any(p.compulsory for p in held),
        use_class=commercial.use_class,
        fast_track=quick is not None and quick.fast_track,
    )
    try:
        return settlement.settle(case, book)
    except (ValueError, QuoteError) as e:
        raise ClaimError(claim, str(e)) from e


def assess(
    engine: Engine | Connection,
    book: RateBook,
    claim: str,
    amounts: Mapping[int, Decimal],
    who: str,
    why: str,
    now_ns: int,
) -> Proposal:
    """Fix the losses by number (yuan), keep the proposal that follows and move to assessed. Raise ClaimError."""
    with states.deed(engine) as connection:
        states.locked(connection, claim)
        t = tables.claim_loss
        known = {row.number for row in _losses(connection, claim)}
        for number, amount in amounts.items():
            if number not in known:
                raise ClaimError(claim, f"has no loss number {number}", "amounts")
            value = reporting.fen(claim, amount, f"loss {number}")
            connection.execute(update(t).where(t.c.claim == claim, t.c.number == number).values(assessed_fen=value))
        waiting = [row.number for row in _losses(connection, claim) if row.assessed_fen is None]
        if waiting:
            raise ClaimError(claim, f"loss {waiting[0]} is not assessed yet", "amounts")
        proposal = propose(connection, book, claim)
        number = _keep(connection, claim, proposal, who, now_ns)
        detail = {"proposal": number, "total_fen": _fen(proposal.total)}
        states.move(connection, claim, "assessed", now_ns, who=who, what="assessed", why=why, detail=detail)
    return proposal


def settle(engine: Engine | Connection, claim: str, who: str, why: str, now_ns: int) -> Decimal:
    """Pay the last proposal, less what was paid before, and move to settled; return what is paid now in yuan."""
    with states.deed(engine) as connection:
        states.locked(connection, claim)
        proposal = latest(connection, claim)
        if proposal is None:
            raise ClaimError(claim, "has no proposal; assess it first", "state")
        t = tables.claim_payment
        paid: dict[tuple[str, str], int] = {}
        for row in connection.execute(select(t).where(t.c.claim == claim)):
            paid[row.cover, row.head] = paid.get((row.cover, row.head), 0) + row.amount_fen
        wanted: dict[tuple[str, str], int] = {}
        for line in proposal.lines:
            wanted[line.cover, line.head] = wanted.get((line.cover, line.head), 0) + _fen(line.paid)
        held = policies_of(connection, claim)
        number = connection.execute(select(func.max(t.c.number)).where(t.c.claim == claim)).scalar() or 0
        total = 0
        for cover, head in sorted({*paid, *wanted}):
            # after a dispute only the difference moves; it may be negative where too much was paid
            amount = wanted.get((cover, head), 0) - paid.get((cover, head), 0)
            if amount == 0:
                continue
            number += 1
            total += amount
            row_of = {"claim": claim, "number": number, "policy": _payer(held, cover), "cover": cover, "head": head}
            connection.execute(insert(t).values(**row_of, amount_fen=amount, paid_utc_ns=now_ns, by=who.strip()[:64]))
        detail = {"paid_fen": total, "total_fen": _fen(proposal.total)}
        states.move(connection, claim, "settled", now_ns, who=who, what="settled", why=why, detail=detail)
    return _yuan(total)


def latest(connection: Connection, claim: str) -> Proposal | None:
    """Return the proposal that was made last."""
    t = tables.claim_proposal
    query = select(t.c.body).where(t.c.claim == claim).order_by(t.c.number.desc()).limit(1)
    body = connection.execute(query).scalar()
    return None if body is None else msgspec.json.decode(body, type=known(Proposal))


def paid(connection: Connection, claim: str) -> Decimal:
    """Return what was paid for a claim, in yuan."""
    t = tables.claim_payment
    return _yuan(int(connection.execute(select(func.sum(t.c.amount_fen)).where(t.c.claim == claim)).scalar() or 0))


def reserve(connection: Connection, book: RateBook, claim: str) -> Reserve:
    """Estimate what a claim may still cost; the insured's fault counts as full until somebody decides."""
    state = states.row_of(connection, claim).state
    if state == "settled":
        return Reserve(ZERO, "losses")
    if _losses(connection, claim):
        try:
            proposal = propose(connection, book, claim, assumed="full")
        except ClaimError:
            return Reserve(None, "unknown")
        insured = next((c for c in reporting.cars(connection, claim) if c.number == 1), None)
        basis = "losses" if insured is not None and insured.fault else "losses_full_fault"
        return Reserve(max(ZERO, proposal.total - paid(connection, claim)), basis)
    t, c = tables.claim_payment, db.claim
    count = select(func.count()).select_from(c).where(c.c.state == "settled")
    of_settled = select(func.sum(t.c.amount_fen)).join(c, c.c.id == t.c.claim).where(c.c.state == "settled")
    settled, spent = connection.execute(count).scalar_one(), connection.execute(of_settled).scalar() or 0
    if settled < LEAST_CLAIMS:
        return Reserve(None, "unknown", settled)
    return Reserve(_yuan(round(int(spent) / settled)), "average", settled)


def local_day(utc_ns: int, zone: str = ZONE) -> date:
    """Return the insurer's calendar day of a moment."""
    return datetime.fromtimestamp(utc_ns // NS_PER_S, ZoneInfo(zone)).date()


def _moment(utc_ns: int) -> datetime:
    return datetime.fromtimestamp(utc_ns // NS_PER_S, UTC)


def _losses(connection: Connection, claim: str) -> list[Any]:
    t = tables.claim_loss
    return list(connection.execute(select(t).where(t.c.claim == claim).order_by(t.c.number)))


def _known(row: Any) -> int:
    return int(row.estimated_fen if row.assessed_fen is None else row.assessed_fen)


def _injured(connection: Connection, claim: str) -> bool:
    t = tables.claim_report
    query = select(t.c.number).where(t.c.claim == claim, t.c.injured.is_(True)).limit(1)
    return connection.execute(query).first() is not None


def _paid_before(connection: Connection, claim: str, policy: str, cover: str) -> Decimal:
    t = tables.claim_payment
    of = (t.c.policy == policy, t.c.cover == cover, t.c.claim != claim)
    return _yuan(int(connection.execute(select(func.sum(t.c.amount_fen)).where(*of)).scalar() or 0))


def _payer(held: list[Policy], cover: str) -> str:
    for policy in held:
        if policy.compulsory if cover == settlement.JQX else policy.cover(cover) is not None:
            return policy.id
    return ""


def _keep(connection: Connection, claim: str, proposal: Proposal, who: str, now_ns: int) -> int:
    t = tables.claim_proposal
    number = 1 + (connection.execute(select(func.max(t.c.number)).where(t.c.claim == claim)).scalar() or 0)
    body = msgspec.json.encode(proposal).decode()
    row = {"claim": claim, "number": number, "made_utc_ns": now_ns, "by": who.strip()[:64], "body": body}
    connection.execute(insert(t).values(**row, total_fen=_fen(proposal.total)))
    return number


def _yuan(fen: int) -> Decimal:
    return Decimal(fen) / 100


def _fen(yuan: Decimal) -> int:
    return int(yuan * 100)
