"""Disputes for adjusters: those that wait for a person, the longest waiting first, and one with what it is about.

An event is shown as its record tells it, without its place: its owner disputes how he drove, not where.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection, Table, func, select
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from receiver import access, db, disputes, queries
from receiver.access import Look
from receiver.claiming import tables, wording
from receiver.claiming.history import MOST_WHY
from receiver.claiming.rules import RULES
from receiver.disputes import Dispute, DisputeError
from receiver.explain import Told, tell
from receiver.fields import Typed, typed
from receiver.pages.owner_claims_view import dispute as in_words
from receiver.people import gate, reach
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.registry import bindings
from receiver.site import Site
from receiver.views import Id, PageNumber
from receiver.words import Words

Judge = Annotated[Person, Depends(needs("disputes.decide"))]
Choice = Annotated[Literal["open", "decided"], Query(alias="state")]
SIZE: Final = 25
VERDICTS: Final = ("upheld", "rejected")


@dataclass(frozen=True, slots=True)
class DisputeLine:
    """One dispute of the list in words."""

    id: int
    what: str
    car: str
    claim: str
    by: str
    why: str
    opened_ns: int
    waiting: str
    state: str
    label: str


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""

    @app.api_route("/disputes", methods=["GET", "HEAD"])
    def listed(request: Request, _: Judge, state: Choice = "open", page_number: PageNumber = 1) -> Response:
        words = site.words_of(request)
        t = tables.dispute
        of = t.c.state == disputes.OPEN if state == "open" else t.c.state != disputes.OPEN
        order = (t.c.opened_utc_ns, t.c.id) if state == "open" else (t.c.decided_utc_ns.desc(), t.c.id.desc())
        with db.reading(site.engine) as connection:
            total = connection.execute(select(func.count()).select_from(t).where(of)).scalar_one()
            shown = queries.paged(page_number, total, SIZE)
            chosen = select(t).where(of).order_by(*order).offset((shown.number - 1) * SIZE).limit(SIZE)
            found = [Dispute(*(getattr(row, n) for n in Dispute._fields)) for row in connection.execute(chosen)]
            lines = [_line(connection, words, one) for one in found]
        return site.page(request, "adjuster_disputes.html", words=words, disputes=lines, shown=shown, choice=state)

    @app.api_route("/disputes/{number}", methods=["GET", "HEAD"])
    def one(request: Request, person: Judge, number: Id) -> Response:
        return _page(site, request, person, _found(site, person, number))

    @app.post("/disputes/{number}")
    async def decide(request: Request, person: Judge, number: Id) -> Response:
        form = typed((await request.form()).multi_items())
        return await run_in_threadpool(_decide, site, request, person, number, form)


def _decide(site: Site, request: Request, person: Person, number: int, form: Typed) -> Response:
    found = _found(site, person, number)
    text = site.words_of(request).text
    verdict, why = form.text("verdict"), form.text("why", MOST_WHY)
    if verdict not in VERDICTS:
        form.errors["verdict"] = "verdict"
    if not why:
        form.errors["why"] = "why"
    if form.errors:
        errors = {field: text(f"desk.wrong.{key}") for field, key in form.errors.items()}
        return _page(site, request, person, found, 422, form, errors)
    try:
        with site.engine.begin() as connection:
            disputes.decide(connection, number, verdict == "upheld", person.name, why, site.now_ns())
            look = Look(person.name, gate.client(request), found.device, "", "decision", f"dispute {number} {verdict}")
            access.write(connection, look, site.now_ns())
    except DisputeError:  # somebody else was first: what he decided is shown
        errors = {"": text("desk.wrong.decided")}
        return _page(site, request, person, _found(site, person, number), 409, form, errors)
    return RedirectResponse(f"/claims/{found.claim}#check-{found.rule}" if found.claim else "/disputes", 303)


def _found(site: Site, person: Person, number: int) -> Dispute:
    """Return a dispute within reach; raise 404."""
    with db.reading(site.engine) as connection:
        found = disputes.get(connection, number)
    if found is None:
        raise HTTPException(404)
    reach.device(site.engine, person, found.device)
    return found


def _page(
    site: Site,
    request: Request,
    person: Person,
    found: Dispute,
    status: int = 200,
    form: Typed | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    words = site.words_of(request)
    with db.reading(site.engine) as connection:
        line = _line(connection, words, found)
    told = _event(site, words, found)
    site.note(request, "page", found.device, name=f"dispute {found.id}")
    return site.page(
        request,
        "adjuster_dispute.html",
        status,
        words=words,
        line=line,
        said=in_words(words, found),
        event=told,
        trip=None if told is not None else _trip(site, words, found),
        verdicts=VERDICTS,
        verdict="" if form is None else form.text("verdict"),
        why="" if form is None else form.text("why", MOST_WHY),
        most_why=MOST_WHY,
        errors=errors or {},
    )


def _event(site: Site, words: Words, found: Dispute) -> Told | None:
    """Return the account of a disputed event."""
    if found.lane != "event":
        return None
    number = _row(site, db.harsh_event, found)
    row = None if number is None else queries.event(site.engine, found.device, number)
    return None if row is None else tell(words, row, 1, None)


def _trip(site: Site, words: Words, found: Dispute) -> list[tuple[str, str]]:
    """Return when, how far and how long a disputed trip was, as pairs of name and value."""
    number = _row(site, db.trip, found) if found.lane == "trip" else None
    trip = None if number is None else queries.trip(site.engine, found.device, number)
    if trip is None:
        return []
    record, text = trip.record, words.text
    utc_ns = trip.row.clock.utc_ns(record.start_ns)
    return [
        (text("desk.trip.begin"), text("time.unknown") if utc_ns is None else words.stamp(utc_ns)),
        (text("desk.trip.distance"), words.distance(record.distance_m)),
        (text("desk.trip.duration"), words.duration((record.end_ns - record.start_ns) / 1e9)),
    ]


def _row(site: Site, table: Table, found: Dispute) -> int | None:
    of = [table.c[name] == getattr(found, name) for name in ("device", "lineage", "lane", "seq")]
    with db.reading(site.engine) as connection:
        number: int | None = connection.execute(select(table.c.id).where(*of)).scalar()
    return number


def _kind(connection: Connection, one: Dispute) -> str | None:
    e = db.harsh_event.c
    of = (e.device == one.device, e.lineage == one.lineage, e.lane == one.lane, e.seq == one.seq)
    kind: str | None = connection.execute(select(e.kind).where(*of)).scalar()
    return kind


def _car(connection: Connection, device: str) -> str:
    vehicle = bindings.vehicle_of(connection, device)
    return device if vehicle is None or not vehicle.plate else vehicle.plate


def _line(connection: Connection, words: Words, one: Dispute) -> DisputeLine:
    text, own = words.text, wording.text(words.text.language)
    if one.rule in RULES:
        what = text("desk.of_check", name=own(f"check.{one.rule}.name"))
    else:
        what = text(f"desk.of.{one.rule or one.lane}")
        kind = _kind(connection, one) if one.lane == "event" else None
        what = what if kind is None else text.among("kind", kind)
    return DisputeLine(
        id=one.id,
        what=what,
        car=_car(connection, one.device),
        claim=one.claim,
        by=one.by,
        why=one.why,
        opened_ns=one.opened_utc_ns,
        waiting=words.duration(max(0, words.now_ns - one.opened_utc_ns) // 1_000_000_000),
        state=one.state,
        label=text(f"desk.verdict.{one.state}"),
    )
