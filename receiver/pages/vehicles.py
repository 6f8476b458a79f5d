"""The cars of an owner: all of them, one with its live state and trips, its events, one trip."""

from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from sqlalchemy import Engine
from starlette.exceptions import HTTPException

from receiver import askedwords, commands, crashes, crashwords, db, fleet, queries, views
from receiver.pages import owner_disputes
from receiver.people import reach
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.rating import scores
from receiver.site import Site

Anybody = Annotated[Person, Depends(needs("account.use"))]
Reader = Annotated[Person, Depends(needs("trips.read"))]


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""
    engine = site.engine

    @app.api_route("/", methods=["GET", "HEAD"])
    def vehicles(request: Request, person: Anybody, page_number: views.PageNumber = 1) -> Response:
        start = site.home(person).path
        if start != "/":
            return RedirectResponse(start, 303)
        words, own = site.words_of(request), reach.reached(engine, person)
        rows, shown = fleet.vehicles(engine, words.week_start_ns(), words.month_start_ns(), page_number, own)
        last = queries.last_trips(engine, [v.id for v in rows])
        return site.page(request, "vehicles.html", words=words, vehicles=rows, last=last, shown=shown)

    @app.api_route("/vehicles/{device}", methods=["GET", "HEAD"])
    def vehicle(request: Request, person: Reader, device: str, page_number: views.PageNumber = 1) -> Response:
        words = site.words_of(request)
        reach.device(engine, person, device)
        found = fleet.vehicle(engine, device, words.week_start_ns(), words.month_start_ns())
        if found is None:
            raise HTTPException(404)
        rows, shown = queries.trips(engine, device, page_number)
        unended = queries.open_events(engine, device)
        running = views.told(words, unended, None)
        since = reach.since_ns(engine, person, device)
        crashed, _ = crashes.crashes(engine, device, only=reach.claims(person))
        return site.page(
            request,
            "vehicle.html",
            words=words,
            vehicle=found,
            live=views.live(words, found.live, fleet.newest(engine, device)),
            days=views.days(words, rows),
            shown=shown,
            running=running,
            contested=owner_disputes.contested(engine, words, device, unended),
            score=_kept_score(engine, device),
            crashes=[crashwords.line(words, row) for row in crashed],
            asked=[askedwords.line(words, one) for one in commands.asked(engine, device, words.now_ns, since_ns=since)],
        )

    @app.api_route("/vehicles/{device}/live.json", methods=["GET", "HEAD"])
    def live(request: Request, person: Reader, device: str) -> Response:
        reach.device(engine, person, device)
        if not fleet.known(engine, device):
            raise HTTPException(404)
        now = views.live(site.words_of(request), fleet.live(engine, device), fleet.newest(engine, device))
        return JSONResponse(views.live_json(now))

    @app.api_route("/vehicles/{device}/events", methods=["GET", "HEAD"])
    def events(request: Request, person: Reader, device: str, page_number: views.PageNumber = 1) -> Response:
        words = site.words_of(request)
        reach.device(engine, person, device)
        if not fleet.known(engine, device):
            raise HTTPException(404)
        rows, shown = queries.events(engine, device, page_number)
        told = views.told(words, rows, None)
        contested = owner_disputes.contested(engine, words, device, rows)
        values = {"device": device, "events": told, "shown": shown, "contested": contested}
        return site.page(request, "events.html", words=words, **values)

    @app.api_route("/vehicles/{device}/trips/{trip_id}", methods=["GET", "HEAD"])
    def trip(request: Request, person: Reader, device: str, trip_id: views.Id) -> Response:
        reach.device(engine, person, device)
        found = queries.trip(engine, device, trip_id)
        if found is None:
            raise HTTPException(404)
        site.note(request, "trip", device, name=str(trip_id))
        words = site.words_of(request)
        values = {"trip": found, "view": views.trip(words, found)}
        contested = owner_disputes.contested(engine, words, device, found.events, found.row)
        return site.page(request, "trip.html", words=words, contested=contested, **values)


def _kept_score(engine: Engine, device: str) -> int | None:
    """Return the score that was kept last; a page of a car does not wait for a new one."""
    with db.reading(engine) as connection:
        kept = scores.latest(connection, device)
    return None if kept is None else kept.score
