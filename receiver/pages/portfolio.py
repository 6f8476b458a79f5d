"""The underwriter's view of all cars of a month: how scores lie, car by car, quotes, and what another model would say.

Scores and kilometres only: no place, no track, no name of a person.
"""

from typing import Annotated, Final, NamedTuple

from fastapi import Depends, FastAPI, Query, Request, Response
from sqlalchemy import Connection
from starlette.exceptions import HTTPException

from agent.errors import ConfigError
from receiver import db
from receiver.charts import Bar
from receiver.pages import owner_quote_view
from receiver.pages.owner_score_view import name_of
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.rating import periods, portfolio, quotes
from receiver.rating.periods import RatingError
from receiver.rating.portfolio import Backtest, Distribution
from receiver.scoring.model import DEFAULT_MODEL, Model, models
from receiver.scoring.model import model as model_named
from receiver.site import Site
from receiver.views import PageNumber
from receiver.words import Words

Reader = Annotated[Person, Depends(needs("portfolio.read"))]
Tester = Annotated[Person, Depends(needs("scores.backtest"))]
Quotes = Annotated[Person, Depends(needs("quotes.read"))]
Month = Annotated[str, Query(max_length=16)]
Name = Annotated[str, Query(max_length=64)]
LEAST_SHIFT: Final = 20  # points to either side of the middle that the drawing has at least


class Chosen(NamedTuple):
    """What a page is about: a month under a model, and what else there is to choose."""

    month: str
    months: list[tuple[str, str]]
    model: Model
    models: list[tuple[str, str]]


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""

    @app.api_route("/portfolio", methods=["GET", "HEAD"])
    def all_cars(
        request: Request, person: Reader, month: Month = "", model: Name = DEFAULT_MODEL, page_number: PageNumber = 1
    ) -> Response:
        words = site.words_of(request)
        with db.reading(site.engine) as connection:
            chosen = _chosen(connection, words, month, model)
            spread = portfolio.distribution(connection, chosen.model.id, chosen.month)
            rows, shown = portfolio.listed(connection, chosen.model.id, chosen.month, page_number)
            enrolled = portfolio.enrolled(connection)
        return site.page(
            request,
            "portfolio.html",
            words=words,
            chosen=chosen,
            spread=spread,
            bars=_bars(spread),
            quantiles=_quantiles(words, spread),
            rows=rows,
            shown=shown,
            enrolled=enrolled,
        )

    @app.api_route("/backtest", methods=["GET", "HEAD"])
    def backtest(
        request: Request, person: Tester, month: Month = "", model: Name = DEFAULT_MODEL, beside: Name = ""
    ) -> Response:
        words = site.words_of(request)
        with db.reading(site.engine) as connection:
            chosen = _chosen(connection, words, month, model)
            other = _model(beside or next(name for name in models() if name != chosen.model.id))
            found, lacking = _compared(connection, chosen, other)
        return site.page(
            request,
            "backtest.html",
            words=words,
            chosen=chosen,
            other=other.id,
            names=(name_of(words, chosen.model), name_of(words, other)),
            found=found,
            lacking=lacking,
            bars=None if found is None else [_bars(found.a), _bars(found.b)],
            shifts=[] if found is None else _shifts(found),
        )

    @app.api_route("/quotes", methods=["GET", "HEAD"])
    def given(request: Request, person: Quotes, page_number: PageNumber = 1) -> Response:
        words = site.words_of(request)
        with db.reading(site.engine) as connection:
            rows, shown = quotes.quotes(connection, owner=person.owner or None, page=page_number)
        told = [
            (
                one,
                owner_quote_view.yuan(words, one.total_yuan),
                owner_quote_view.signed(words, one.total_yuan - one.plain_yuan),
            )
            for one in rows
        ]
        return site.page(request, "quotes.html", words=words, told=told, shown=shown)


def _chosen(connection: Connection, words: Words, month: str, model: str) -> Chosen:
    chosen = _model(model)
    kept = portfolio.months(connection, chosen, words.now_ns)
    wanted = month or next(iter(kept), periods.last_ended(words.now_ns, chosen.zone))
    try:
        periods.bounds(wanted, chosen.zone)
    except RatingError as e:
        raise HTTPException(404) from e
    listed = [(each, _month(words, each)) for each in sorted({*kept, wanted}, reverse=True)]
    return Chosen(wanted, listed, chosen, [(name, name_of(words, model_named(name))) for name in models()])


def _model(name: str) -> Model:
    try:
        return model_named(name)
    except ConfigError as e:
        raise HTTPException(404) from e


def _month(words: Words, period: str) -> str:
    year, month = period.split("-")
    return words.text("portfolio.month_of", year=year, month=words.text.listed("time.months")[int(month) - 1])


def _bars(spread: Distribution) -> list[Bar]:
    """Return cars by ten points, as shares of the highest bar."""
    tens = spread.tens()
    highest = max(*tens, 1)
    return [Bar(f"{10 * n}", f"{count:,}", 100.0 * count / highest) for n, count in enumerate(tens)]


def _quantiles(words: Words, spread: Distribution) -> list[tuple[str, int]]:
    return [(words.text("portfolio.quantile", percent=percent), score) for percent, score in spread.quantiles.items()]


def _compared(connection: Connection, chosen: Chosen, other: Model) -> tuple[Backtest | None, str]:
    """Return the comparison, or the id of the model under which nothing is kept of the month."""
    a, b, month = chosen.model.id, other.id, chosen.month
    try:
        return portfolio.compare(connection, a, b, month), ""
    except RatingError:
        return None, next(each for each in (a, b) if not portfolio.distribution(connection, each, month).vehicles)


def _shifts(found: Backtest) -> list[Bar]:
    """Return cars by points gained, in steps of five, with no change in the middle."""
    if not found.shifts:
        return []
    steps: dict[int, int] = {}
    for points, count in found.shifts.items():
        step = round(points / 5) * 5
        steps[step] = steps.get(step, 0) + count
    highest, far = max(steps.values()), max(LEAST_SHIFT, *map(abs, steps))
    span = range(-far, far + 1, 5)
    return [Bar(f"{n:+d}" if n else "0", f"{steps.get(n, 0):,}", 100.0 * steps.get(n, 0) / highest) for n in span]
