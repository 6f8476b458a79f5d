"""The owner's prices: what the next year costs and why, what it would cost otherwise, and offers that were kept.

Asking changes nothing and is a GET, so that a price can be printed, sent and asked for again; keeping one is a POST.
"""

from datetime import date
from functools import cache
from typing import Annotated, Final

import msgspec
import zstandard
from fastapi import Depends, FastAPI, Path, Request, Response
from fastapi.responses import RedirectResponse
from msgspec.structs import replace
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from agent.known import known
from receiver import db
from receiver.claiming.assessing import local_day
from receiver.fields import Field, Typed, typed
from receiver.pages import owner_quote_form as form
from receiver.pages import owner_quote_view as view
from receiver.pages.owner_cars import Car, cars
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.policies import Policy
from receiver.pricing import Quote, QuoteError, QuoteRequest, RateBook, load_book, quote
from receiver.pricing.book import RegimeRates
from receiver.pricing.perkm import at_distance
from receiver.pricing.scored import telematics_of
from receiver.pricing.whatif import compare
from receiver.rating import periods, quotes, scores
from receiver.registry import bindings, consents
from receiver.registry.vehicles import Vehicle
from receiver.scoring.model import model as model_named
from receiver.scoring.result import ScoreResult
from receiver.site import Site
from receiver.texts import Text
from receiver.words import Words

Maker = Annotated[Person, Depends(needs("quotes.make"))]
Reader = Annotated[Person, Depends(needs("quotes.read"))]
QuoteId = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
SAME_KM: Final = 100  # a year: the form is filled with the measured distance in whole hundreds
MOST_KNOWN: Final = 12  # of what would be understood, named behind a refusal


@cache
def _book() -> RateBook:
    return load_book()


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""

    @app.api_route("/quote", methods=["GET", "HEAD"])
    def ask(request: Request, person: Maker) -> Response:
        return _answer(site, request, person, typed(request.query_params.multi_items()))

    @app.post("/quote")
    async def keep(request: Request, person: Maker) -> Response:
        given = typed((await request.form()).multi_items())
        return await run_in_threadpool(_keep, site, request, person, given)

    @app.api_route("/quote/{name}", methods=["GET", "HEAD"])
    def kept(request: Request, person: Reader, name: QuoteId) -> Response:
        words = site.words_of(request)
        with db.reading(site.engine) as connection:
            found = quotes.quote_of(connection, name)
            if found is None or not _reaches(connection, person, found):
                raise HTTPException(404)
            told = quotes.answer(connection, name)
        return site.page(
            request, "owner_quote_kept.html", words=words, kept=found, view=view.quote(words, told), today=_today(words)
        )


def _reaches(connection: Connection, person: Person, found: quotes.KeptQuote) -> bool:
    return not person.owner or found.owner == person.owner or found.given_by == person.name


def _today(words: Words) -> date:
    return local_day(words.now_ns, words.zone.key)


class Calculation:
    """One asking: whose car, what is known of it, what was typed, and what came of it."""

    def __init__(self, connection: Connection, words: Words, person: Person, given: Typed) -> None:
        self.words = words
        self.today = _today(words)
        self.cars = cars(connection, person)
        wanted = given.text("device")
        self.car = next((c for c in self.cars if c.device and c.device == wanted), None)
        if wanted and self.car is None:
            raise HTTPException(404)
        self.car = self.car or next(iter(self.cars), None)
        self.device = self.car.device if self.car else ""
        self.score, consent, self.no_score = _score(connection, self.device, words.now_ns)
        self.telematics = None if self.score is None else telematics_of(self.score, model_named(), consent)
        self.base = Typed(form.defaults(*_known(self.car), _km_year(self.score), self.today))
        self.asked = given.checked(form.ASKED)
        self.form = given if self.asked else self.base
        self.rates: RegimeRates = form.regime_of(self.form, _book(), self.today)
        self.errors: dict[str, str] = {}
        self.request: QuoteRequest | None = None
        self.told: Quote | None = None

    def run(self) -> None:
        """Price what was typed; what is wrong with it stands in `errors` by field."""
        text = self.words.text
        try:
            self.request = form.request_of(self.form, self.rates, self.telematics)
            if self.request is not None:
                self.told = quote(self.request, _book(), self.today)
        except QuoteError as e:
            self.errors[e.field] = refusal(text, e)
        self.errors |= {name: text(f"my_quote.wrong.{key}") for name, key in self.form.errors.items()}

    def before(self) -> Quote | None:
        """Return the price as things are now; what is not known of the car is taken as it was typed."""
        now = Typed({**self.form.values, **self.base.values})
        try:
            request = form.request_of(now, form.regime_of(now, _book(), self.today), self.telematics)
            return None if request is None else quote(request, _book(), self.today)
        except QuoteError:
            return None

    def driven(self) -> tuple[int, int, Quote] | None:
        """Return the measured and the typed distance, and the price if the box had measured the typed one."""
        asked = self.request
        if asked is None or asked.telematics is None or asked.telematics.mileage is None or asked.km_per_year is None:
            return None
        measured = asked.telematics.mileage.km_per_year
        moved = replace(asked, telematics=at_distance(asked.telematics, asked.km_per_year))
        if abs(asked.km_per_year - measured) <= SAME_KM or moved.telematics == asked.telematics:
            return None
        return measured, asked.km_per_year, quote(moved, _book(), self.today)


def refusal(text: Text, e: QuoteError) -> str:
    """Say why there is no price, and what would be understood."""
    reason = e.reason if text.language == "en" else e.reason_zh
    known = text("score.and").join(e.known[:MOST_KNOWN])
    return text("my_quote.refused_known", reason=reason, known=known) if e.known else reason


def _answer(site: Site, request: Request, person: Person, given: Typed, status: int = 200) -> Response:
    words = site.words_of(request)
    with db.reading(site.engine) as connection:
        made = Calculation(connection, words, person, given)
        kept = quotes.quotes(connection, owner=person.owner)[0][:10] if person.owner else []
    made.run()
    before = made.before() if made.asked and made.told is not None else None
    changes = []
    if before is not None and made.told is not None:
        changes = view.changes(words, compare(before, made.told))
    groups = form.groups(
        words.text, made.form, made.errors, _book(), made.rates, made.telematics is not None, made.today
    )
    shown = [f for group in groups for f in group.fields]
    driven = None if made.told is None else made.driven()
    return site.page(
        request,
        "owner_quote.html",
        422 if made.errors and made.asked else status,  # what was not asked cannot be wrong, only missing
        words=words,
        car=made.car,
        cars=made.cars,
        device=made.device,
        asked=made.asked,
        groups=groups,
        wrong=_wrong(words.text, made.errors, shown),
        view=None if made.told is None else view.quote(words, made.told),
        changes=changes,
        before=None if before is None else view.yuan(words, before.total_yuan),
        driven="" if driven is None else _if_driven(words, *driven),
        no_score=made.no_score,
        kept=[(one, view.yuan(words, one.total_yuan), one.valid_on(made.today)) for one in kept],
        regime=getattr(made.rates.regime, words.text.language),
        typed_again=[(name, value) for name, values in made.form.values.items() for value in values],
    )


def _if_driven(words: Words, measured: int, typed_km: int, told: Quote) -> str:
    amount = view.yuan(words, told.total_yuan)
    return words.text("my_quote.if_driven", measured=f"{measured:,}", km=f"{typed_km:,}", amount=amount)


def _wrong(text: Text, errors: dict[str, str], shown: list[Field]) -> list[Field]:
    """Return a line for each error, with the field that it is about, or that lies nearest above it in the request."""
    told = []
    for name, said in errors.items():
        path = name
        found = None
        while path and found is None:
            found = next((f for f in shown if path in (f.name, _cover_of(f))), None)
            path = path.rpartition(".")[0]
        told.append(Field(found.name if found else "", found.label if found else "", error=said))
    return told


def _cover_of(field: Field) -> str:
    return f"covers.{field.options[0][0]}" if field.kind == "cover" else ""


def _known(car: Car | None) -> tuple[str, Vehicle | None, Policy | None]:
    return ("", None, None) if car is None else (car.plate, car.vehicle, car.policy)


def _keep(site: Site, request: Request, person: Person, given: Typed) -> Response:
    words = site.words_of(request)
    with site.engine.begin() as connection:
        made = Calculation(connection, words, person, given)
        made.run()
        if made.errors or made.request is None or not made.asked:
            connection.rollback()
            return _answer(site, request, person, given, 422)
        policy = made.car.policy if made.car else None
        asked = quotes.Asked(
            request=replace(made.request, telematics=None),
            device=made.device if made.request.telematics is not None else "",
            policy=policy.id if policy is not None else "",
            owner=person.owner,
        )
        kept = quotes.quote(connection, asked, _book(), words.now_ns, person.name)
    return RedirectResponse(f"/quote/{kept.id}", 303)


def _score(connection: Connection, device: str, now_ns: int) -> tuple[ScoreResult | None, str, str]:
    """Return the score of the last month that ended and the consent to use it, or why there is none.

    The same that a kept quote stands on (receiver.rating.quotes), without keeping anything.
    """
    if not device:
        return None, "", "no_device"
    agreed = consents.in_force(connection, device, scores.PURPOSE, now_ns)
    if agreed is None:
        return None, "", "no_consent"
    if bindings.mismatches(connection, device):
        return None, "", "other_car"
    model = model_named()
    period = periods.last_ended(now_ns, model.zone)
    kept = scores.of_month(connection, device, period, model.id)
    if kept is not None and kept.final and kept.vin == agreed.vin:
        found = scores.result(connection, kept)
    else:
        row = scores.computed(connection, device, period, model, now_ns)
        found = msgspec.json.decode(zstandard.decompress(row["result"]), type=known(ScoreResult))
    return (None, "", "not_driven") if found.score is None else (found, agreed.id, "")


def _km_year(score: ScoreResult | None) -> float | None:
    return None if score is None or score.period is None else score.period.km_year
