"""Quotes: priced with the kept score of the last month that ended, where its owner agreed, and kept as they were told.

Nobody hands in a score: it comes from the records of the device, or not at all, and the quote says why not.
"""

import hashlib
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection, Row, Select, func, select

from agent.known import known
from receiver import db, policies
from receiver.claiming.assessing import local_day
from receiver.pricing import Quote, QuoteError, QuoteRequest, RateBook
from receiver.pricing import quote as price
from receiver.pricing.money import HUNDRED
from receiver.pricing.request import Telematics
from receiver.pricing.scored import telematics_of
from receiver.queries import Page, paged
from receiver.rating import periods, scores
from receiver.rating.periods import RatingError
from receiver.rating.scores import KeptScore
from receiver.rating.tables import kept_quote
from receiver.registry import bindings, consents
from receiver.scoring.model import DEFAULT_MODEL
from receiver.scoring.model import model as model_named

PAGE: Final = 50  # quotes on a page
NO_SCORE: Final = ("no_device", "no_consent", "other_car", "not_for_price", "not_driven")
_answers: Final = msgspec.json.Decoder(known(Quote))


class Asked(Struct, frozen=True, kw_only=True):
    """What a price is asked for; `request` without a score, which comes from `device`."""

    request: QuoteRequest
    device: str = ""  # empty: a car without a box
    policy: str = ""  # that it would renew
    owner: str = ""  # the insurer's own reference; empty: that of the vehicle or the policy
    model: str = DEFAULT_MODEL


class KeptQuote(NamedTuple):
    """A quote as it is kept; `answer` gives every factor and reason."""

    id: str
    device: str
    vin: str
    owner: str
    policy: str
    regime: str
    region: str
    starts: date
    total_fen: int
    plain_fen: int
    per_km_fen: int | None
    consent: str
    score_model: str
    score_period: str
    score_revision: int
    no_score: str
    given_utc_ns: int
    given_by: str
    valid_until: date

    @property
    def total_yuan(self) -> Decimal:
        """Return the price of the year."""
        return yuan(self.total_fen)

    @property
    def plain_yuan(self) -> Decimal:
        """Return the same without the score."""
        return yuan(self.plain_fen)

    def valid_on(self, day: date) -> bool:
        """Say whether the insurer stands by it on a day."""
        return day <= self.valid_until


def quote(connection: Connection, asked: Asked, book: RateBook, now_ns: int, by: str) -> KeptQuote:
    """Price what is asked for as of now and keep the answer; the same question at the same moment is one quote.

    Raise QuoteError naming the field that has no row or is wrong, RatingError for an unknown device or policy.
    """
    if asked.request.telematics is not None:
        raise QuoteError("not_used", "telematics", why="the score comes from the device's own records")
    renewed = _policy(connection, asked)
    car = bindings.vehicle_of(connection, asked.device) if asked.device else None
    told, kept, why_not = _score(connection, asked, now_ns)
    answer = price(replace(asked.request, telematics=told), book, local_day(now_ns))
    text = msgspec.json.encode(answer)
    owner = asked.owner or (car.owner if car else renewed.owner if renewed else "")
    row: dict[str, Any] = {
        "device": asked.device,
        "vin": car.vin if car else renewed.vin if renewed else "",
        "owner": owner,
        "policy": asked.policy,
        "regime": answer.regime,
        "region": answer.region,
        "starts": answer.starts,
        "total_fen": _fen(answer.total_yuan),
        "plain_fen": _fen(answer.without_telematics_yuan),
        "per_km_fen": None if answer.per_km is None else _fen(answer.per_km.total_yuan),
        "consent": answer.consent or "",
        "score_model": kept.model if kept else "",
        "score_period": kept.period if kept else "",
        "score_revision": kept.revision if kept else 0,
        "no_score": why_not,
        "given_utc_ns": now_ns,
        "given_by": by,
        "valid_until": answer.valid_until,
    }
    name = hashlib.sha256(msgspec.json.encode([asked.device, asked.policy, owner, by, now_ns]) + text).hexdigest()[:16]
    connection.execute(db.upsert(connection, kept_quote, {"id": name, **row, "answer": text.decode()}, ["id"], {}))
    return KeptQuote(name, **row)


def quote_of(connection: Connection, name: str) -> KeptQuote | None:
    """Return a kept quote by its id."""
    row = connection.execute(_rows().where(kept_quote.c.id == name)).one_or_none()
    return None if row is None else _kept(row)


def answer(connection: Connection, name: str) -> Quote:
    """Return the whole answer of a kept quote; raise RatingError where it is gone or damaged."""
    text = connection.execute(select(kept_quote.c.answer).where(kept_quote.c.id == name)).scalar()
    if text is None:
        raise RatingError(f"quote {name[:16]!r}: there is none of that name")
    try:
        return _answers.decode(text)
    except msgspec.DecodeError as e:
        raise RatingError(f"quote {name}: its row is damaged; ask for the price again") from e


def quotes(
    connection: Connection,
    *,
    devices: Sequence[str] | None = None,
    owner: str | None = None,
    policy: str | None = None,
    page: int = 1,
) -> tuple[list[KeptQuote], Page]:
    """Return one page of the kept quotes, the latest first: of some devices, an owner, a policy, or all."""
    q = kept_quote.c
    of = [column == value for column, value in ((q.owner, owner), (q.policy, policy)) if value is not None]
    if devices is not None:
        of.append(q.device.in_(list(devices)))
    total = connection.execute(select(func.count()).select_from(kept_quote).where(*of)).scalar_one()
    shown = paged(page, total, PAGE)
    ordered = _rows().where(*of).order_by(q.given_utc_ns.desc(), q.id)
    rows = connection.execute(ordered.offset((shown.number - 1) * PAGE).limit(PAGE))
    return [_kept(row) for row in rows], shown


def yuan(fen: int) -> Decimal:
    """Return an amount of whole fen in yuan."""
    return Decimal(fen).scaleb(-2)


def _policy(connection: Connection, asked: Asked) -> policies.Policy | None:
    if not asked.policy:
        return None
    found = policies.get(connection, asked.policy)
    if found is None or (asked.device and found.device not in ("", asked.device)):
        raise RatingError(f"quote: policy {asked.policy[:32]!r}: {'is of another car' if found else 'there is none'}")
    return found


def _score(connection: Connection, asked: Asked, now_ns: int) -> tuple[Telematics | None, KeptScore | None, str]:
    """Return what enters the price and the kept score behind it, or why nothing does."""
    if not asked.device:
        return None, None, "no_device"
    if connection.execute(select(db.device.c.id).where(db.device.c.id == asked.device)).scalar() is None:
        raise RatingError(f"quote: device {asked.device[:64]!r}: not enrolled here; see: roadwitness receiver devices")
    consent = consents.in_force(connection, asked.device, scores.PURPOSE, now_ns)
    if consent is None:
        return None, None, "no_consent"
    if bindings.mismatches(connection, asked.device):
        return None, None, "other_car"  # the box drives in another car than the one that it was bound to
    model = model_named(asked.model)
    if not model.for_price:
        return None, None, "not_for_price"
    period = periods.last_ended(now_ns, model.zone)
    kept = scores.of_month(connection, asked.device, period, model.id)
    if kept is None or not kept.final:
        kept = scores.score_device(connection, asked.device, period, model, now_ns)
    if kept.score is None or kept.vin != consent.vin:
        return None, None, "not_driven"
    return telematics_of(scores.result(connection, kept), model, consent.id), kept, ""


def _fen(amount: Decimal) -> int:
    return int(amount * HUNDRED)  # to_fen rounded it already


def _rows() -> Select[Any]:
    return select(*(kept_quote.c[name] for name in KeptQuote._fields))


def _kept(row: Row[Any]) -> KeptQuote:
    return KeptQuote(*(getattr(row, name) for name in KeptQuote._fields))
