"""The insurer's figures over a period; definitions in both languages stand in definitions.toml.

Every figure says what it was divided by and how many cases are behind it, and is None where there is nothing to divide.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection, Engine, Row, func, select

from agent.clock import NS_PER_S
from agent.known import known
from receiver import db, policies
from receiver.claiming import assessing, tables
from receiver.moments import checked
from receiver.policies import Policy
from receiver.pricing.book import RateBook
from receiver.queries import with_clock_columns
from receiver.renewals import rate
from receiver.settings import ZONE

DEFINITIONS: Final = Path(__file__).with_name("definitions.toml")
SURVEY_H: Final = 24  # proposed: the founding documents name the figure and no limit
_H: Final = 3600 * NS_PER_S
_YEAR_DAYS: Final = 365


class Definition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a figure means."""

    en: str
    zh: str
    unit: str  # per_year, percent, h, s, yuan
    meaning_en: str
    meaning_zh: str
    verified: bool


class Figure(NamedTuple):
    """One figure; `cases` is how many claims or policies are behind it, `note` what is missing from it."""

    name: str
    value: Decimal | None
    cases: int
    of: Decimal | None = None  # what was divided by
    note: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What the figures need of one claim; times are UTC ns, amounts fen."""

    id: str
    device: str
    opened_ns: int
    state: str
    state_ns: int
    accident_ns: int | None = None  # measured, else declared
    measured_ns: int | None = None
    noticed_ns: int | None = None
    reported_ns: int | None = None
    dispatched_ns: int | None = None
    surveyed_ns: int | None = None
    paid_fen: int = 0
    outstanding_fen: int | None = None
    vins: frozenset[str] = field(default_factory=frozenset)


@cache
def definitions() -> dict[str, Definition]:
    """Return the figures by name, in the order in which they are shown."""
    return msgspec.toml.decode(DEFINITIONS.read_bytes(), type=known(dict[str, Definition]))


def meaning(name: str, language: str) -> str:
    """Say what a figure means, "en" or "zh"."""
    said: str = getattr(definitions()[name], f"meaning_{language}")
    return said.format(survey_h=SURVEY_H)


def figures(engine: Engine, book: RateBook, first: date, last: date, today: date, zone: str = ZONE) -> list[Figure]:
    """Return all figures of the days `first` to `last`, both included, as they stand at the start of `today`."""
    for day in (first, last, today):
        checked("day", day)
    start_ns, end_ns = day_ns(first, zone), day_ns(last + timedelta(1), zone)
    with db.reading(engine) as connection:
        told = claims(connection, book)
        insured = policies.overlapping(connection, first, last)
        begun = [p for p in insured if first <= p.starts <= last]
        renewed = rate.between(connection, first, last)
    happened = [c for c in told if c.accident_ns is not None and start_ns <= c.accident_ns < end_ns]
    opened = [c for c in told if start_ns <= c.opened_ns < end_ns]
    settled = [c for c in told if c.state == "settled" and start_ns <= c.state_ns < end_ns]
    return [
        frequency(len(happened), insured, first, last),
        _mean("report_delay_h", [(c.reported_ns, c.measured_ns) for c in happened], _H),
        _mean("device_notice_s", [(c.noticed_ns, c.measured_ns) for c in happened], NS_PER_S),
        _surveys(opened),
        _mean("survey_time_h", [(c.surveyed_ns, c.dispatched_ns) for c in opened], _H),
        share("closing_rate", sum(c.state == "settled" for c in opened), len(opened)),
        _mean("closing_time_h", [(c.state_ns, c.opened_ns) for c in settled], _H),
        average("average_claim", sum(c.paid_fen for c in settled), len(settled)),
        average("average_incurred", sum(map(_incurred, happened)), len(happened), _unknown(happened)),
        _loss_ratio(begun, told, today, zone),
        Figure("renewal_rate", renewed.rate_percent, renewed.renewable, Decimal(renewed.renewable)),
    ]


def matured_premium(policy: Policy, today: date) -> Decimal:
    """Return the part of the premium whose time has passed: premium × elapsed / days, yuan exact."""
    elapsed = min(policy.days, max(0, (today - policy.starts).days))
    return Decimal(policy.premium_fen) / 100 * elapsed / policy.days


def loss_ratio(matured: Decimal, incurred: Decimal, cases: int, note: str = "") -> Figure:
    """Return (paid + outstanding) / matured premium in percent."""
    value = None if matured <= 0 else _rounded(Decimal(100) * incurred / matured)
    return Figure("matured_loss_ratio", value, cases, matured, note)


def frequency(claims: int, insured: Iterable[Policy], first: date, last: date) -> Figure:
    """Return claims by insured vehicle-years; a car with two policies at once is one car."""
    days = 0
    until: dict[str, date] = {}  # by car: the last day that is counted
    for p in sorted(insured, key=lambda p: p.starts):
        car = p.vin or p.plate
        start, end = max(first, p.starts, until.get(car, first - timedelta(1)) + timedelta(1)), min(last, p.ends)
        if end >= start:
            days += (end - start).days + 1
            until[car] = end
    years = Decimal(days) / _YEAR_DAYS
    value = None if not years else (Decimal(claims) / years).quantize(Decimal("0.0001"), ROUND_HALF_UP)
    return Figure("claim_frequency", value, claims, _rounded(years))


def average(name: str, fen: int, cases: int, note: str = "") -> Figure:
    """Return an amount by cases, yuan."""
    value = None if not cases else _rounded(Decimal(fen) / 100 / cases)
    return Figure(name, value, cases, Decimal(cases), note)


def share(name: str, part: int, whole: int) -> Figure:
    """Return a part of a whole in percent."""
    return Figure(name, None if not whole else _rounded(Decimal(100) * part / whole), whole, Decimal(whole))


def claims(connection: Connection, book: RateBook) -> list[Told]:
    """Return what the figures need of every claim; a crash that is only suspected counts when somebody reports it."""
    c, r, h, p = db.claim, tables.claim_report, tables.claim_history, tables.claim_payment
    crash, noticed = _crashes(connection), {}
    first_row = select(db.crash.c.device, db.crash.c.incident, func.min(db.crash.c.received_utc_ns))
    for device, incident, at in connection.execute(first_row.group_by(db.crash.c.device, db.crash.c.incident)):
        noticed[device, incident] = int(at)
    reported: dict[str, int] = {}
    declared: dict[str, int] = {}
    for row in connection.execute(select(r).order_by(r.c.claim, r.c.number)):
        reported.setdefault(row.claim, row.reported_utc_ns)
        declared[row.claim] = row.loss_utc_ns
    steps: dict[tuple[str, str], int] = {}
    wanted = select(h.c.claim, h.c.what, func.min(h.c.utc_ns)).where(h.c.what.in_(("dispatched", "surveyed")))
    for claim, what, at in connection.execute(wanted.group_by(h.c.claim, h.c.what)):
        steps[claim, what] = int(at)
    sums = select(p.c.claim, func.sum(p.c.amount_fen)).group_by(p.c.claim)
    paid = {claim: int(amount) for claim, amount in connection.execute(sums)}
    vins: dict[str, frozenset[str]] = {}
    found = []
    for row in connection.execute(select(c).order_by(c.c.opened_utc_ns, c.c.id)).all():
        if row.suspected and row.id not in reported:
            continue  # the device only guesses, and nobody says that there was one
        measured = crash.get((row.device, row.incident))
        outstanding = assessing.reserve(connection, book, row.id).amount
        if row.device not in vins:
            vins[row.device] = frozenset(policies.vins_of(connection, row.device))
        found.append(
            Told(
                id=row.id,
                device=row.device,
                opened_ns=row.opened_utc_ns,
                state=row.state,
                state_ns=row.state_utc_ns,
                accident_ns=declared.get(row.id) if measured is None else measured,
                measured_ns=measured,
                noticed_ns=noticed.get((row.device, row.incident)),
                reported_ns=reported.get(row.id),
                dispatched_ns=steps.get((row.id, "dispatched")),
                surveyed_ns=steps.get((row.id, "surveyed")),
                paid_fen=paid.get(row.id, 0),
                outstanding_fen=None if outstanding is None else int(outstanding * 100),
                vins=vins[row.device],
            )
        )
    return found


def day_ns(day: date, zone: str = ZONE) -> int:
    """Return when a day of the insurer begins, UTC ns."""
    return int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).timestamp()) * NS_PER_S


def _crashes(connection: Connection) -> dict[tuple[str, str], int]:
    t = db.crash
    rows: Sequence[Row[Any]] = connection.execute(with_clock_columns(t).order_by(t.c.complete, t.c.id)).all()
    return {(row.device, row.incident): int(row.t_ns + row.offset_ns) for row in rows if row.offset_ns is not None}


def _loss_ratio(begun: Sequence[Policy], told: Sequence[Told], today: date, zone: str) -> Figure:
    matured = sum((matured_premium(p, today) for p in begun), Decimal(0))
    theirs = [c for c in told if any(_of_policy(c, p, zone) for p in begun)]
    return loss_ratio(matured, Decimal(sum(map(_incurred, theirs))) / 100, len(theirs), _unknown(theirs))


def _of_policy(c: Told, p: Policy, zone: str) -> bool:
    if c.accident_ns is None or not (p.device == c.device or p.vin in c.vins):
        return False
    return p.starts <= assessing.local_day(c.accident_ns, zone) <= p.ends


def _surveys(opened: Sequence[Told]) -> Figure:
    sent = [c for c in opened if c.dispatched_ns is not None]
    in_time = sum(c.surveyed_ns is not None and c.surveyed_ns - (c.dispatched_ns or 0) <= SURVEY_H * _H for c in sent)
    return share("survey_in_time", in_time, len(sent))


def _mean(name: str, pairs: Iterable[tuple[int | None, int | None]], unit_ns: int) -> Figure:
    spans = [later - earlier for later, earlier in pairs if later is not None and earlier is not None]
    value = _rounded(Decimal(sum(spans)) / len(spans) / unit_ns) if spans else None
    return Figure(name, value, len(spans), Decimal(len(spans)))


def _incurred(c: Told) -> int:
    return c.paid_fen + (c.outstanding_fen or 0)


def _unknown(found: Sequence[Told]) -> str:
    missing = sum(c.outstanding_fen is None for c in found)
    return f"{missing} without a reserve" if missing else ""


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.01"), ROUND_HALF_UP)
