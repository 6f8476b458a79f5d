"""The owner's policies: what is covered, from when to when, for what sums, and what he bears himself, in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Annotated, Final

from fastapi import Depends, FastAPI, Request, Response

from receiver import db
from receiver.claiming.assessing import local_day
from receiver.pages.owner_quote_view import day, yuan
from receiver.people import reach
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.policies import Cover, Policy, of_owner
from receiver.pricing import RateBook, load_book
from receiver.pricing.book import Fault, RegimeRates
from receiver.pricing.money import plain
from receiver.pricing.refusals import QuoteError
from receiver.pricing.schema import Amounts
from receiver.queries import paged
from receiver.renewals.schedule import Contact, contacts, schedule
from receiver.site import Site
from receiver.views import PageNumber
from receiver.words import Words

Reader = Annotated[Person, Depends(needs("policies.read"))]
SCHEDULE: Final = "V2"
# steps of a schedule that reach the owner -> the word for them; the others are the insurer's own
TOLD: Final = {"sms": "sms", "call": "call", "contact": "contact", "task": "contact"}
MOST_DATES: Final = 5
PAGE: Final = 20  # policies on a page
FAULTS: Final[tuple[Fault, ...]] = ("secondary", "equal", "primary", "full")
SOON_DAYS: Final = 60


@dataclass(frozen=True, slots=True)
class CoverLine:
    """One cover in words."""

    name: str
    sum: str
    bears: list[str]


@dataclass(frozen=True, slots=True)
class PolicyView:
    """One policy in words; `state` is ahead, current or ended."""

    policy: Policy
    car: str
    state: str
    label: str
    period: str
    left: str
    regime: str
    premium: str
    covers: list[CoverLine]
    limits: list[tuple[str, str, str]]
    dates: list[str]


@cache
def _book() -> RateBook:
    return load_book()


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""

    @app.api_route("/policies", methods=["GET", "HEAD"])
    def policies(request: Request, person: Reader, page_number: PageNumber = 1) -> Response:
        words = site.words_of(request)
        with db.reading(site.engine) as connection:
            own = of_owner(connection, person.owner) if person.owner else []
        shown = paged(page_number, len(own), PAGE)
        own = own[(shown.number - 1) * PAGE : shown.number * PAGE]
        today = local_day(words.now_ns, words.zone.key)
        told = [view(words, _book(), policy, today) for policy in own]
        return site.page(
            request,
            "owner_policies.html",
            words=words,
            shown=shown,
            reached=reach.reached(site.engine, person) or frozenset(),
            current=[one for one in told if one.state != "ended"],
            ended=[one for one in told if one.state == "ended"],
        )


def view(words: Words, book: RateBook, policy: Policy, today: date) -> PolicyView:
    """Put one policy into words as of a day."""
    text = words.text
    rates = book.regimes[policy.regime]
    state = "ahead" if policy.starts > today else "ended" if policy.ends < today else "current"
    days = (policy.ends - today).days
    left = ""
    if state == "current":
        left = text.many("my_policies.left", days + 1) if days else text("my_policies.last_day")
    return PolicyView(
        policy=policy,
        car=policy.plate or policy.vin,
        state=state,
        label=text(f"my_policies.state.{state}"),
        period=text("my_policies.period", first=day(words, policy.starts), last=day(words, policy.ends)),
        left=left,
        regime=str(getattr(rates.regime, text.language)),
        premium=yuan(words, Decimal(policy.premium_fen) / 100) if policy.premium_fen else "",
        covers=[_cover(words, rates, policy, cover) for cover in policy.covers],
        limits=_limits(words, book, today) if policy.compulsory else [],
        dates=_dates(words, policy, today) if state == "current" and days <= SOON_DAYS else [],
    )


def _cover(words: Words, rates: RegimeRates, policy: Policy, cover: Cover) -> CoverLine:
    text = words.text
    tariff = cover.code.partition(".")[0]
    name = text.among("my_policies.cover", cover.code.replace(".", "_"))
    amount = "" if cover.sum_fen is None else yuan(words, Decimal(cover.sum_fen) / 100)
    return CoverLine(name, amount, _bears(words, rates, tariff, cover.waived, policy.use_class))


def _bears(words: Words, rates: RegimeRates, tariff: str, waived: bool, use_class: str) -> list[str]:
    """Say what the owner bears himself under a cover."""
    text = words.text
    shares = [rates.fault_deductible(tariff, fault, use_class) for fault in FAULTS]
    told = []
    if any(shares):
        if waived:
            told.append(text("my_policies.waived"))
        else:
            named = {fault: plain(share) for fault, share in zip(FAULTS, shares, strict=True)}
            told.append(text("my_policies.by_fault", **named))
    absolute = rates.absolute_deductible(tariff)
    if absolute:
        told.append(text("my_policies.absolute", percent=plain(absolute)))
    if rates.ends_at_sum(tariff):
        told.append(text("my_policies.ends_at_sum"))
    return told or [text("my_policies.bears_nothing")]


def _limits(words: Words, book: RateBook, today: date) -> list[tuple[str, str, str]]:
    """Return what the compulsory cover pays today by kind of loss: with any fault, and without."""
    at = datetime(today.year, today.month, today.day, 12, tzinfo=UTC)
    try:
        rows: Sequence[Amounts] = [book.compulsory.amounts(at, at_fault=fault) for fault in (True, False)]
    except QuoteError:
        return []
    kinds = ("death", "medical", "property")
    return [
        (words.text(f"my_policies.loss.{kind}"), *(yuan(words, getattr(row, kind)) for row in rows))  # type: ignore[misc]
        for kind in kinds
    ]


def _dates(words: Words, policy: Policy, today: date) -> list[str]:
    """Say when the owner hears of the renewal from now on."""
    text = words.text
    ahead = [c for c in contacts(schedule(SCHEDULE), policy.ends, policy.use_class) if (c.until or c.day) >= today]
    told = [_contact(words, c, today) for c in ahead if c.kind in TOLD or c.sms]
    renewed = text("my_policies.renew_by", day=day(words, policy.ends + timedelta(1)))
    return [*list(dict.fromkeys(told))[:MOST_DATES], renewed]


def _contact(words: Words, contact: Contact, today: date) -> str:
    text = words.text
    key = "sms" if contact.sms else TOLD[contact.kind]
    if contact.until is None:
        return text(f"my_policies.contact.{key}", day=day(words, contact.day))
    first = max(contact.day, today)
    between = text("my_policies.between", first=day(words, first), last=day(words, contact.until))
    return text(f"my_policies.contact.{key}", day=between)
