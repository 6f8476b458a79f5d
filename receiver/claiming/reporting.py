"""What people tell of a claim: the report, the cars in it, the losses, and when somebody went to look."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from sqlalchemy import Connection, Engine, func, insert, select

from agent.clock import NS_PER_S
from receiver import claims, db
from receiver.claiming import gathering, history, states, tables
from receiver.claiming.facts import Limits, Place
from receiver.claiming.settlement import GRADES, HEADS, grade
from receiver.claiming.states import ClaimError
from receiver.registry import bindings

OWNER: Final = "owner"
MOST_SAID: Final = 4000  # characters
MOST_ROWS: Final = 50  # parties or losses of one claim
MOST_FEN: Final = 10**12
_FUTURE_NS: Final = 300 * NS_PER_S  # a clock may be a little ahead


@dataclass(frozen=True, slots=True)
class Declared:
    """A report as it is given; `place` is WGS-84."""

    device: str
    loss_utc_ns: int
    by: str
    said: str = ""
    place: Place | None = None
    injured: bool = False


@dataclass(frozen=True, slots=True)
class Car:
    """A car of the accident: number 1 is the insured one. `share_percent` is what the police gave, if they did."""

    number: int
    vin: str = ""
    plate: str = ""
    device: str = ""
    compulsory: bool = False
    fault: str = ""
    share_percent: int | None = None
    agrees: bool = False
    injured: bool = False


def report(engine: Engine, declared: Declared, now_ns: int, limits: Limits) -> str:
    """Take a report and return its claim: that which the device opened by itself, else a new one. Raise ClaimError.

    A report after the first of a claim corrects time and place; the notice was given by the first.
    """
    _check(declared, now_ns)
    with engine.begin() as connection:
        enrolled = select(db.device.c.id).where(db.device.c.id == declared.device)
        if connection.execute(enrolled).scalar() is None:
            raise ClaimError("new", f"device {declared.device[:64]!r} is not enrolled", "device")
        claim = _claim(connection, declared, now_ns, limits)
        states.locked(connection, claim)
        t = tables.claim_report
        number = 1 + (connection.execute(select(func.max(t.c.number)).where(t.c.claim == claim)).scalar() or 0)
        if number > MOST_ROWS:
            raise ClaimError(claim, f"has been reported {MOST_ROWS} times already")
        row = {
            "claim": claim,
            "number": number,
            "reported_utc_ns": now_ns,
            "by": history.plain(declared.by)[:64],
            "loss_utc_ns": declared.loss_utc_ns,
            "latitude": None if declared.place is None else declared.place.latitude,
            "longitude": None if declared.place is None else declared.place.longitude,
            "said": history.plain(declared.said)[:MOST_SAID],
            "injured": declared.injured,
        }
        connection.execute(insert(t).values(**row))
        states.note(connection, claim, now_ns, who=declared.by, what="reported", detail={"number": number})
    return claim


def put_car(engine: Engine | Connection, claim: str, car: Car, who: str, now_ns: int) -> None:
    """Add a car of the accident or replace what is known of it; raise ClaimError naming the field."""
    if not 1 <= car.number <= MOST_ROWS:
        raise ClaimError(claim, f"cars are numbered from 1 to {MOST_ROWS}", "number")
    if car.share_percent is not None and not 0 <= car.share_percent <= 100:
        raise ClaimError(claim, "the share of fault lies between 0 and 100 %", "share_percent")
    fault = car.fault or ("" if car.share_percent is None else grade(car.share_percent))
    if fault and fault not in GRADES:
        raise ClaimError(claim, f"fault {fault!r} is unknown; known: {', '.join(GRADES)}", "fault")
    if car.share_percent is not None and (car.share_percent == 0) != (fault == "none"):
        raise ClaimError(claim, f"a share of {car.share_percent} % does not go with fault {fault}", "fault")
    for name, most in (("vin", 17), ("plate", 16), ("device", 64)):
        value = getattr(car, name)
        if len(value) > most or not value.isprintable():
            raise ClaimError(claim, f"{name} is too long, or cannot be printed", name)
    row: dict[str, Any] = {name: getattr(car, name) for name in Car.__slots__} | {"claim": claim, "fault": fault}
    with states.deed(engine) as connection:
        _open(connection, claim)
        connection.execute(db.upsert(connection, tables.claim_party, row, ["claim", "number"]))
        detail = {name: row[name] for name in ("number", "fault", "share_percent", "agrees", "injured", "compulsory")}
        states.note(connection, claim, now_ns, who=who, what="party", detail=detail)


def add_loss(
    engine: Engine | Connection,
    claim: str,
    head: str,
    amount: Decimal,
    who: str,
    now_ns: int,
    *,
    party: int = 1,
    person: int = 0,
    paid_by_others: Decimal = Decimal(0),
) -> int:
    """Add an estimated loss in yuan and return its number; raise ClaimError naming the field."""
    if head not in HEADS:
        raise ClaimError(claim, f"head {head[:32]!r} is unknown; known: {', '.join(HEADS)}", "head")
    if not (1 <= party <= MOST_ROWS and 0 <= person <= MOST_ROWS):
        raise ClaimError(claim, "party or person has no such number", "party")
    with states.deed(engine) as connection:
        _open(connection, claim)
        t = tables.claim_loss
        number = 1 + (connection.execute(select(func.max(t.c.number)).where(t.c.claim == claim)).scalar() or 0)
        if number > MOST_ROWS:
            raise ClaimError(claim, f"has {MOST_ROWS} losses already")
        row = {
            "claim": claim,
            "number": number,
            "head": head,
            "party": party,
            "person": person,
            "estimated_fen": fen(claim, amount, "amount"),
            "paid_by_others_fen": fen(claim, paid_by_others, "paid_by_others"),
        }
        connection.execute(insert(t).values(**row))
        detail = {"number": number, "head": head, "estimated_fen": row["estimated_fen"]}
        states.note(connection, claim, now_ns, who=who, what="loss", detail=detail)
    return number


def survey(engine: Engine | Connection, claim: str, step: str, who: str, now_ns: int) -> None:
    """Write down that somebody was sent to look, or has looked; raise ClaimError."""
    if step not in ("dispatched", "surveyed"):
        raise ClaimError(claim, f"step {step!r} is neither dispatched nor surveyed", "step")
    with states.deed(engine) as connection:
        states.note(connection, claim, now_ns, who=who, what=step)


def fen(claim: str, yuan: Decimal, field: str) -> int:
    """Return yuan as whole fen; raise ClaimError for what is no amount, or finer than a fen."""
    try:
        cents = yuan * 100
        whole = int(cents)
    except (InvalidOperation, ValueError, OverflowError) as e:
        raise ClaimError(claim, f"{field} is no amount", field) from e
    if cents != whole or not 0 <= whole <= MOST_FEN:
        raise ClaimError(claim, f"{field} must be yuan with at most two decimals, not negative, not {yuan}", field)
    return whole


def cars(connection: Connection, claim: str) -> Sequence[Any]:
    """Return the rows of the cars of a claim, the insured one first."""
    t = tables.claim_party
    return connection.execute(select(t).where(t.c.claim == claim).order_by(t.c.number)).all()


def _of_others(connection: Connection, device: str, incident: str) -> bool:
    """Say whether an incident is of the time when a device was in another owner's car than now."""
    present, c = bindings.of_device(connection, device), db.claim.c
    if present is None:
        return False
    theirs = bindings.claims_of_others(present.owner)
    return (
        connection.execute(select(c.id).where(c.device == device, c.incident == incident, theirs)).first() is not None
    )


def _check(d: Declared, now_ns: int) -> None:
    if not d.by.strip():
        raise ClaimError("new", "say who reports", "by")
    if not 0 < d.loss_utc_ns <= now_ns + _FUTURE_NS:
        raise ClaimError("new", "the time of the loss lies in the future, or is none", "loss_utc_ns")
    if d.place is not None and not (abs(d.place.latitude) <= 90 and abs(d.place.longitude) <= 180):
        raise ClaimError("new", "the place is not on Earth", "place")


def _open(connection: Connection, claim: str) -> None:
    if states.locked(connection, claim).state == "settled":
        raise ClaimError(claim, "is settled; dispute it before changing what it rests on", "state")


def _claim(connection: Connection, d: Declared, now_ns: int, limits: Limits) -> str:
    """Return the claim that this report belongs to, opening one where the device has told of nothing."""
    incident = gathering.incident_near(connection, d.device, d.loss_utc_ns, limits.same_loss_s)
    t = tables.claim_report
    if incident is not None and not _of_others(connection, d.device, incident):
        return claims.claim_id(d.device, incident)
    span = round(limits.same_loss_s * NS_PER_S)
    near = (t.c.loss_utc_ns >= d.loss_utc_ns - span, t.c.loss_utc_ns <= d.loss_utc_ns + span)
    earlier = (
        select(t.c.claim)
        .join(db.claim, db.claim.c.id == t.c.claim)
        .where(db.claim.c.device == d.device, t.c.by == history.plain(d.by)[:64], *near)
        .order_by(t.c.reported_utc_ns)
        .limit(1)
    )
    found = connection.execute(earlier).scalar()
    if found is not None:
        return str(found)  # told again by the same person: a correction
    # no device's incident: named by what was declared, so that the same report twice is one claim
    named = hashlib.sha256(f"report:{d.device}:{d.by}:{d.loss_utc_ns // 1_000_000}".encode()).hexdigest()[:16]
    claim = claims.claim_id(d.device, named)
    values = {
        "id": claim,
        "device": d.device,
        "incident": named,
        "opened_utc_ns": now_ns,
        "opened_by": OWNER,
        "suspected": False,
        "state": claims.REPORTED,
        "state_utc_ns": now_ns,
    }
    statement = db.upsert(connection, db.claim, values, [], {})
    if connection.execute(statement.returning(db.claim.c.id)).scalar() is not None:  # type: ignore[attr-defined]
        history.append(connection, now_ns, claim, d.by, "opened", states=("", claims.REPORTED))
    return claim
