"""What an underwriter does about policies that end, and the insurer's figures with what each of them means."""

from datetime import timedelta
from decimal import Decimal
from functools import cache
from typing import Annotated, Final, Literal, NamedTuple

from fastapi import Depends, FastAPI, Query, Request, Response

from agent.errors import RoadwitnessError
from receiver import db
from receiver.claiming.assessing import local_day
from receiver.fields import Field, typed
from receiver.figures import kpi
from receiver.pages.owner_quote_view import day, signed
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.pricing import RateBook, load_book
from receiver.renewals import exporting
from receiver.renewals.due import Due, due
from receiver.renewals.schedule import schedules
from receiver.site import Site
from receiver.words import Words

Reader = Annotated[Person, Depends(needs("renewals.read"))]
Counter = Annotated[Person, Depends(needs("figures.read"))]
Schedule = Annotated[Literal["V1", "V2", "V3", "V4"], Query(alias="schedule")]
MOST_ROWS: Final = 200  # on the page; the files have all
YEAR_DAYS: Final = 365


class Line(NamedTuple):
    """One policy that ends, in words."""

    due: Due
    ends: str
    left: str
    next: str
    score: str
    price: str


@cache
def _book() -> RateBook:
    return load_book()


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""

    def found(words: Words, schedule: str) -> list[Due]:
        with db.reading(site.engine) as connection:
            return due(connection, local_day(words.now_ns, words.zone.key), schedule)

    @app.api_route("/renewals", methods=["GET", "HEAD"])
    def renewals(request: Request, person: Reader, schedule: Schedule = "V2") -> Response:
        words = site.words_of(request)
        rows = found(words, schedule)
        return site.page(
            request,
            "renewals.html",
            words=words,
            lines=[_line(words, one) for one in rows[:MOST_ROWS]],
            total=len(rows),
            urgent=sum(one.escalated for one in rows),
            today=sum(bool(one.today) for one in rows),
            schedule=schedule,
            schedules=[(name, one.zh if words.text.language == "zh" else one.en) for name, one in schedules().items()],
        )

    @app.api_route("/renewals/due.{kind}", methods=["GET", "HEAD"])
    def file(request: Request, person: Reader, kind: Literal["csv", "ics"], schedule: Schedule = "V2") -> Response:
        words = site.words_of(request)
        rows = found(words, schedule)
        site.note(request, "export", name=f"renewals.{kind}")
        headers = {"Content-Disposition": f'attachment; filename="renewals.{kind}"'}
        if kind == "csv":
            return Response(exporting.to_csv(rows), headers=headers, media_type="text/csv")
        body = exporting.to_ics(rows, words.now_ns, words.text.language)
        return Response(body, headers=headers, media_type="text/calendar")

    @app.api_route("/figures", methods=["GET", "HEAD"])
    def figures(request: Request, person: Counter) -> Response:
        words = site.words_of(request)
        form = typed(request.query_params.multi_items())
        today = local_day(words.now_ns, words.zone.key)
        last, first = form.day("to") or today, form.day("from") or today - timedelta(YEAR_DAYS - 1)
        errors = {name: words.text("figures.no_day") for name in form.errors}
        if not errors and first > last:
            errors["from"] = words.text("figures.order")
        shown: list[kpi.Figure] = []
        if not errors:
            try:
                shown = kpi.figures(site.engine, _book(), first, last, today, words.zone.key)
            except RoadwitnessError:  # a day of another age
                errors["from"] = words.text("figures.no_day")
        fields = [
            Field(
                name,
                words.text(f"figures.{name}"),
                "date",
                form.text(name) or at.isoformat(),
                error=errors.get(name, ""),
            )
            for name, at in (("from", first), ("to", last))
        ]
        return site.page(
            request,
            "figures.html",
            422 if errors else 200,
            words=words,
            period="" if errors else words.text("figures.period", first=day(words, first), last=day(words, last)),
            fields=fields,
            wrong=[field for field in fields if field.error],
            told=[_figure(words, one) for one in shown],
        )


def _line(words: Words, one: Due) -> Line:
    text = words.text
    left = (
        text.many("renewals.left", one.days_left) if one.days_left >= 0 else text.many("renewals.over", -one.days_left)
    )
    step = one.next
    score = "" if one.score is None else f"{one.score.then:.0f} → {one.score.now:.0f}"
    return Line(
        one,
        day(words, one.policy.ends),
        left,
        "" if step is None else f"{day(words, step.day)}: {text(f'renewals.step.{step.kind}')}",
        score,
        "" if one.price_difference is None else signed(words, one.price_difference),
    )


class Told(NamedTuple):
    """One figure in words."""

    name: str
    value: str
    unit: str
    cases: str
    note: str
    meaning: str
    verified: bool


def _figure(words: Words, one: kpi.Figure) -> Told:
    of = kpi.definitions()[one.name]
    language = words.text.language
    digits = Decimal("0.0001") if of.unit == "per_year" else Decimal("0.01")
    value = "–" if one.value is None else f"{one.value.quantize(digits):,}"
    return Told(
        of.zh if language == "zh" else of.en,
        value,
        words.text(f"figures.unit.{of.unit}"),
        words.text.many("figures.cases", one.cases),
        one.note,
        kpi.meaning(one.name, language),
        of.verified,
    )
