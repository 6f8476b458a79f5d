"""Policies, what ends soon, and the insurer's figures."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathParameter
from pydantic import Field
from sqlalchemy import select

from agent.errors import ConfigError
from receiver import db, policies
from receiver.api.answers import answer
from receiver.api.here import Here
from receiver.api.paging import After, Items, Limit, Order, decode, page
from receiver.api.problems import missing, wrong
from receiver.api.shapes import Policy, Shape, Yuan
from receiver.claiming import tables
from receiver.claiming.assessing import local_day
from receiver.figures import kpi
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.people.rights import OWNER
from receiver.pricing import RateBook
from receiver.renewals import exporting
from receiver.renewals.due import Due, due

PolicyReader = Annotated[Person, Depends(needs("policies.read"))]
RenewalReader = Annotated[Person, Depends(needs("renewals.read"))]
FigureReader = Annotated[Person, Depends(needs("figures.read"))]
PolicyId = Annotated[str, PathParameter(pattern="^[A-Za-z0-9._-]{1,32}$")]
Schedule = Annotated[str | None, Query(max_length=8, description="V1 to V4; the configured one without it.")]
_EARLIEST, _LATEST = date(2000, 1, 1), date(2200, 1, 1)


class Contact(Shape):
    """Something to be done about a policy that ends."""

    kind: str
    day: date
    until: date | None
    sms: bool


class Renewal(Shape):
    """A policy that ends soon, or ended and was not renewed."""

    policy: Policy
    days_left: int = Field(description="Negative after the end.")
    contacts: list[Contact]
    next: Contact | None
    escalated: bool
    excluded: str = Field(description="Why it does not count: short, unconfirmed; or empty.")
    score_change: float | None
    price_difference: Yuan | None


class Renewals(Shape):
    """A piece of the due list, the earliest end first."""

    items: list[Renewal]
    next: str | None


class Figure(Shape):
    """One figure of the insurer."""

    name: str
    value: Decimal | None = Field(description="In its unit; null where there is nothing to divide.")
    unit: str
    cases: int = Field(description="Claims or policies behind it.")
    note: str = Field(description="What is missing from it.")
    meaning_en: str
    meaning_zh: str


class Figures(Shape):
    """The figures of a period."""

    first: date
    last: date
    items: list[Figure]


def add(router: APIRouter, site: Here, book: RateBook) -> None:
    """Add the routes."""

    @router.get("/policies", tags=["policies"], response_model=Items[Policy])
    def listed(request: Request, who: PolicyReader, limit: Limit = 50, after: After = None) -> Response:
        """List policies by id; an owner sees his own."""
        t = tables.policy
        order = Order((t.c.id,), (str,), down=False)
        mine = [t.c.owner == who.owner] if who.role == OWNER else []
        with db.reading(site.engine) as connection:
            query = select(t.c.id).where(*mine, *order.beyond(after)).order_by(*order.by).limit(limit + 1)
            ids = list(connection.execute(query).scalars())
            given, following = page(request, ids, limit, lambda name: (name,))
            found = [p for p in (policies.get(connection, name) for name in given) if p is not None]
        return answer(request, Items[Policy](items=[Policy.model_validate(p) for p in found], next=following))

    @router.get("/policies/{policy}", tags=["policies"], response_model=Policy)
    def one(request: Request, who: PolicyReader, policy: PolicyId) -> Response:
        """Give one policy."""
        with db.reading(site.engine) as connection:
            found = policies.get(connection, policy)
        if found is None or (who.role == OWNER and found.owner != who.owner):
            raise missing()
        return answer(request, Policy.model_validate(found))

    def due_list(on: date | None, schedule: str | None) -> list[Due]:
        day = _day("on", on, local_day(site.now_ns()))
        with db.reading(site.engine) as connection:
            try:
                return due(connection, day, schedule or site.settings.renewals.schedule)
            except ConfigError as e:
                raise wrong("schedule", str(e)) from e

    @router.get("/renewals", tags=["renewals"], response_model=Renewals)
    def renewals(
        request: Request,
        who: RenewalReader,
        on: date | None = None,
        schedule: Schedule = None,
        limit: Limit = 50,
        after: After = None,
    ) -> Response:
        """List the policies that end within 90 days, or ended a week ago, and are not renewed."""
        rows = due_list(on, schedule)
        if after is not None:
            end, name = decode(after, (str, str))
            rows = [d for d in rows if (str(d.policy.ends), d.policy.id) > (end, name)]
        given, following = page(request, rows, limit, lambda d: (str(d.policy.ends), d.policy.id))
        return answer(request, Renewals(items=[Renewal.model_validate(d) for d in given], next=following))

    files: dict[int | str, dict[str, Any]] = {
        200: {"content": {kind: {"schema": {"type": "string"}} for kind in ("text/csv", "text/calendar")}}
    }

    @router.get("/renewals.{format}", tags=["renewals"], response_class=Response, responses=files)
    def exported(
        request: Request,
        who: RenewalReader,
        format: Annotated[Literal["csv", "ics"], PathParameter()],
        on: date | None = None,
        schedule: Schedule = None,
        lang: Literal["en", "zh"] = "en",
    ) -> Response:
        """Give the due list as a table, or as a calendar."""
        rows = due_list(on, schedule)
        headers = {"Content-Disposition": f'attachment; filename="renewals.{format}"'}
        if format == "csv":
            return Response(exporting.to_csv(rows), headers=headers, media_type="text/csv")
        return Response(exporting.to_ics(rows, site.now_ns(), lang), headers=headers, media_type="text/calendar")

    @router.get("/figures", tags=["figures"], response_model=Figures)
    def figures(
        request: Request,
        who: FigureReader,
        first: Annotated[date | None, Query(alias="from", description="A year ago without it.")] = None,
        last: Annotated[date | None, Query(alias="to", description="Today without it.")] = None,
    ) -> Response:
        """Give claim frequency, delays, closing, average claim, loss ratio and renewal rate of a period."""
        today = local_day(site.now_ns())
        end = _day("to", last, today)
        start = _day("from", first, end - timedelta(364))
        if end < start:
            raise wrong("from", f"{start} lies after {end}")
        told = []
        for f in kpi.figures(site.engine, book, start, end, today):
            known = kpi.definitions()[f.name]
            told.append(
                Figure(
                    name=f.name,
                    value=f.value,
                    unit=known.unit,
                    cases=f.cases,
                    note=f.note,
                    meaning_en=known.meaning_en,
                    meaning_zh=known.meaning_zh,
                )
            )
        return answer(request, Figures(first=start, last=end, items=told))


def _day(field: str, given: date | None, otherwise: date) -> date:
    if given is None:
        return otherwise
    if not _EARLIEST <= given <= _LATEST:
        raise wrong(field, f"must lie between {_EARLIEST} and {_LATEST}")
    return given
