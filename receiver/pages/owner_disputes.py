"""Disputing an event or a trip: the page that asks why, and what lists of events say of disputes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from receiver import db, disputes, queries, views
from receiver.disputes import OPEN, REJECTED, Dispute, DisputeError, Entry
from receiver.explain import tell
from receiver.fields import Typed, typed
from receiver.pages.owner_claims_view import dispute as in_words
from receiver.people import reach
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.queries import EventRow, TripRow
from receiver.site import Site
from receiver.words import Words

Disputer = Annotated[Person, Depends(needs("events.dispute"))]
MOST_WHY = 2000


@dataclass(frozen=True, slots=True)
class Contested:
    """What was disputed of the events on a page and of its trip, in words."""

    by_event: dict[int, list[Dispute]]
    words: Words
    of_trip: list[str]
    trip_open: bool  # a dispute of the trip may be begun

    def weightless(self, event: int) -> bool:
        """Say whether an event weighs nothing for being disputed."""
        return any(d.state != REJECTED for d in self.by_event.get(event, ()))

    def label(self, event: int) -> str:
        """Return the state of an event's last dispute in a word, "" without any."""
        found = self.by_event.get(event)
        return self.words.text(f"my_dispute.state.{found[-1].state}") if found else ""

    def lines(self, event: int) -> list[str]:
        """Return what was said about an event and decided."""
        return [in_words(self.words, d) for d in self.by_event.get(event, ())]

    def open(self, event: int) -> bool:
        """Say whether a dispute of an event may be begun."""
        return not any(d.state == OPEN for d in self.by_event.get(event, ()))


def contested(
    engine: Engine, words: Words, device: str, events: Sequence[EventRow], trip: TripRow | None = None
) -> Contested:
    """Return what was disputed of these events, and of the trip that they are of."""
    with db.reading(engine) as connection:
        found = disputes.of_device(connection, device)
    by_event = {e.id: found[_entry(e)] for e in events if _entry(e) in found}
    own = found.get(_entry(trip), []) if trip is not None else []
    lines = [in_words(words, d) for d in own]
    return Contested(by_event, words, lines, trip is not None and not any(d.state == OPEN for d in own))


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""

    @app.api_route("/vehicles/{device}/events/{event_id}/dispute", methods=["GET", "HEAD"])
    def ask_event(request: Request, person: Disputer, device: str, event_id: views.Id) -> Response:
        return _page(site, request, device, *_event(site, request, person, device, event_id))

    @app.post("/vehicles/{device}/events/{event_id}/dispute")
    async def event(request: Request, person: Disputer, device: str, event_id: views.Id) -> Response:
        form = typed((await request.form()).multi_items())
        found = await run_in_threadpool(_event, site, request, person, device, event_id)
        return await run_in_threadpool(_dispute, site, request, person, device, form, *found)

    @app.api_route("/vehicles/{device}/trips/{trip_id}/dispute", methods=["GET", "HEAD"])
    def ask_trip(request: Request, person: Disputer, device: str, trip_id: views.Id) -> Response:
        return _page(site, request, device, *_trip(site, request, person, device, trip_id))

    @app.post("/vehicles/{device}/trips/{trip_id}/dispute")
    async def trip(request: Request, person: Disputer, device: str, trip_id: views.Id) -> Response:
        form = typed((await request.form()).multi_items())
        found = await run_in_threadpool(_trip, site, request, person, device, trip_id)
        return await run_in_threadpool(_dispute, site, request, person, device, form, *found)


def _entry(row: EventRow | TripRow) -> Entry:
    return row.lineage, row.lane, row.seq


def _event(site: Site, request: Request, person: Person, device: str, event_id: int) -> tuple[Entry, str, str, Any]:
    """Return an event's entry, the page it stands on, its name and its account; raise 404."""
    reach.device(site.engine, person, device)
    row = queries.event(site.engine, device, event_id)
    if row is None:
        raise HTTPException(404)
    told = tell(site.words_of(request), row, 1, None)
    back = f"/vehicles/{device}/events" if row.trip_id is None else f"/vehicles/{device}/trips/{row.trip_id}#events"
    return _entry(row), back, told.kind, told


def _trip(site: Site, request: Request, person: Person, device: str, trip_id: int) -> tuple[Entry, str, str, Any]:
    reach.device(site.engine, person, device)
    found = queries.trip(site.engine, device, trip_id)
    if found is None:
        raise HTTPException(404)
    words = site.words_of(request)
    return _entry(found.row), f"/vehicles/{device}/trips/{trip_id}", views.when(words, found.row), None


def _page(
    site: Site,
    request: Request,
    device: str,
    _: Entry,
    back: str,
    name: str,
    told: Any,
    status: int = 200,
    wrong: str = "",
    why: str = "",
) -> Response:
    values = {"device": device, "back": back, "name": name, "event": told, "wrong": wrong, "why": why}
    return site.page(request, "owner_dispute.html", status, most_why=MOST_WHY, **values)


def _dispute(
    site: Site,
    request: Request,
    person: Person,
    device: str,
    form: Typed,
    entry: Entry,
    back: str,
    name: str,
    told: Any,
) -> Response:
    text, why = site.words_of(request).text, form.text("why", MOST_WHY)
    if not why:
        return _page(site, request, device, entry, back, name, told, 422, text("my_claims.wrong.why"))
    try:
        disputes.dispute_entry(site.engine, device, entry, person.name, why, site.now_ns())
    except DisputeError:
        return _page(site, request, device, entry, back, name, told, 422, text("my_dispute.refused"), why)
    return RedirectResponse(back, 303)
