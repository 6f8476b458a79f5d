"""Prices: what one would be, and quotes that are kept as they were told. Each names every factor, bound and reason."""

import json
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi import Path as PathParameter
from msgspec import Struct
from pydantic import Field
from sqlalchemy import Connection, select

from agent.clock import iso_utc
from receiver import db, policies
from receiver.api.answers import answer
from receiver.api.here import Here
from receiver.api.once import once
from receiver.api.openapi import of_struct, takes_struct
from receiver.api.paging import After, Items, Limit, Order, page
from receiver.api.problems import ProblemError, missing, wrong
from receiver.api.shapes import Shape, Utc, Yuan
from receiver.claiming.assessing import local_day
from receiver.people import reach
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.people.rights import OWNER
from receiver.pricing import Quote, QuoteRequest, RateBook, parse_request, quote
from receiver.pricing.request import convert_request
from receiver.rating import quotes as rating
from receiver.rating.tables import kept_quote
from receiver.scoring.model import DEFAULT_MODEL
from receiver.scoring.model import model as model_named

Maker = Annotated[Person, Depends(needs("quotes.make"))]
Reader = Annotated[Person, Depends(needs("quotes.read"))]
QuoteId = Annotated[str, PathParameter(pattern="^[0-9a-f]{16}$")]


class QuoteOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a quote is asked for: the score enters by itself, from the records of the device, where its owner agreed."""

    request: QuoteRequest  # without telematics
    device: str = ""  # empty: a car without a box
    policy: str = ""  # that it would renew; empty for none
    model: str = DEFAULT_MODEL


class KeptAnswer(Struct, frozen=True, kw_only=True):
    """A kept quote with its whole answer."""

    id: str
    no_score: str  # why no score entered; empty where one did
    given: str
    quote: Quote


class QuoteItem(Shape):
    """A kept quote in a list."""

    id: str
    device: str
    vin: str
    owner: str
    policy: str
    regime: str
    region: str
    starts: date
    total_yuan: Yuan
    plain_yuan: Yuan
    score_model: str
    score_period: str
    no_score: str = Field(description="Why no score entered; empty where one did.")
    given: Utc = Field(validation_alias="given_utc_ns")
    valid_until: date


def add(router: APIRouter, site: Here, book: RateBook) -> None:
    """Add the routes."""

    @router.post("/prices", tags=["quotes"], **takes_struct(QuoteRequest), **of_struct(Quote))
    def price(request: Request, who: Maker) -> Response:
        """Tell what a price would be, with the score that is handed in, or without. Nothing is kept.

        Days that are over are priced by the tables of their time.
        """
        asked = parse_request(request.state.body)
        return answer(request, quote(asked, book, min(local_day(site.now_ns()), asked.start)))

    @router.post("/quotes", tags=["quotes"], status_code=201, **takes_struct(QuoteOrder), **of_struct(KeptAnswer, 201))
    def order(request: Request, who: Maker) -> Response:
        """Give a quote that is kept; the score comes from the device's own records, with its owner's consent."""
        asked = _order(request.state.body)
        if asked.device:
            reach.device(site.engine, who, asked.device)

        def do() -> Response:
            now_ns = site.now_ns()
            with site.engine.begin() as connection:
                owner = _owner(connection, who, asked)
                wanted = rating.Asked(
                    request=asked.request, device=asked.device, policy=asked.policy, owner=owner, model=asked.model
                )
                kept = rating.quote(connection, wanted, book, now_ns, who.name)
                told = _whole(connection, kept)
            return answer(request, told, 201, {"Location": f"{request.url.path}/{kept.id}"})

        return once(site.engine, request, who.id, site.now_ns(), do)

    @router.get("/quotes", tags=["quotes"], response_model=Items[QuoteItem])
    def quotes(request: Request, who: Reader, limit: Limit = 50, after: After = None) -> Response:
        """List the quotes that were given, the last first; an owner sees his own."""
        q = kept_quote.c
        order = Order((q.given_utc_ns, q.id), (int, str), down=True)
        mine = [q.owner == who.owner] if who.role == OWNER else []
        columns = [q[name] for name in rating.KeptQuote._fields]
        with db.reading(site.engine) as connection:
            query = select(*columns).where(*mine, *order.beyond(after)).order_by(*order.by).limit(limit + 1)
            rows = [rating.KeptQuote(*row) for row in connection.execute(query)]
        given, following = page(request, rows, limit, lambda r: (r.given_utc_ns, r.id))
        return answer(request, Items[QuoteItem](items=[QuoteItem.model_validate(r) for r in given], next=following))

    @router.get("/quotes/{quote}", tags=["quotes"], **of_struct(KeptAnswer))
    def one(request: Request, who: Reader, quote: QuoteId) -> Response:
        """Give a kept quote as it was told."""
        with db.reading(site.engine) as connection:
            kept = rating.quote_of(connection, quote)
            if kept is None or (who.role == OWNER and kept.owner != who.owner):
                raise missing()
            return answer(request, _whole(connection, kept))


def _order(body: bytes) -> QuoteOrder:
    try:
        value = json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError, ArithmeticError) as e:
        raise ProblemError(400, "no-json", "the body is no JSON") from e
    if not isinstance(value, dict) or "request" not in value:
        raise wrong("request", "is needed")
    names = [n for n in QuoteOrder.__struct_fields__ if n != "request"]
    for name, given in value.items():
        if name not in QuoteOrder.__struct_fields__:
            raise wrong(str(name)[:64], "is no field of a quote", list(QuoteOrder.__struct_fields__))
        if name in names and (not isinstance(given, str) or len(given) > 64 or not given.isprintable()):
            raise wrong(name, "write a text of up to 64 characters")
    asked = QuoteOrder(request=convert_request(value["request"]), **{n: value[n] for n in names if n in value})
    model_named(asked.model)
    return asked


def _owner(connection: Connection, who: Person, asked: QuoteOrder) -> str:
    """Return for whom a quote is; an owner gets one for his own policies only."""
    if not asked.policy:
        return who.owner
    policy = policies.get(connection, asked.policy)
    if policy is None or (who.role == OWNER and policy.owner != who.owner):
        raise wrong("policy", f"{asked.policy!r}: there is none")
    return policy.owner


def _whole(connection: Connection, kept: rating.KeptQuote) -> Any:
    told = rating.answer(connection, kept.id)
    return KeptAnswer(id=kept.id, no_score=kept.no_score, given=iso_utc(kept.given_utc_ns), quote=told)
