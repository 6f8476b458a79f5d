"""The owner's score: of each car, with its course, what it lost and to what, and what would raise it."""

from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException

from agent.errors import ConfigError
from receiver import db, fleet
from receiver.behind import behind
from receiver.pages import owner_score_view as view
from receiver.pages.owner_cars import cars, page_of
from receiver.people import reach
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.rating import scores
from receiver.registry import bindings, consents
from receiver.scoring import telling
from receiver.scoring.model import DEFAULT_MODEL, Model, models
from receiver.scoring.model import model as model_named
from receiver.scoring.result import ScoreResult
from receiver.scoring.score import DAY_NS, last_drive_utc_ns, score_vehicle
from receiver.scoring.trend import trend
from receiver.site import Site
from receiver.views import PageNumber

Reader = Annotated[Person, Depends(needs("scores.read"))]
ModelName = Annotated[str, Query(max_length=64)]


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""
    engine = site.engine

    @app.api_route("/score", methods=["GET", "HEAD"])
    def all_scores(request: Request, person: Reader, page_number: PageNumber = 1) -> Response:
        with db.reading(engine) as connection:
            own = [car for car in cars(connection, person) if car.device]
        if len(own) == 1:
            return RedirectResponse(f"/score/{own[0].device}", 303)
        own, shown = page_of(own, page_number)
        told = [(car, _scored(site, car.device, model_named())) for car in own]
        return site.page(request, "owner_scores.html", told=told, shown=shown)

    @app.api_route("/score/{device}", methods=["GET", "HEAD"])
    def score(
        request: Request, person: Reader, device: str, model: ModelName = DEFAULT_MODEL, beside: ModelName = ""
    ) -> Response:
        reach.device(engine, person, device)
        if not fleet.known(engine, device):
            raise HTTPException(404)
        words, chosen = site.words_of(request), _model(model)
        site.note(request, "page", device, name="score")
        result = _scored(site, device, chosen)
        if result is None:
            return site.page(request, "owner_score_none.html", words=words, device=device)
        found = behind(engine, device, view.entries(result))
        course = trend(engine, device, chosen, "month", since_utc_ns=_since(site, device))
        other = _model(beside) if beside else None
        second = None if other is None else _scored(site, device, other)
        return site.page(
            request,
            "owner_score.html",
            words=words,
            device=device,
            view=view.score(words, result, chosen, course, found, person.may("trips.read")),
            start=result.start,
            lost=telling.points(result.lost),
            models=[(name, view.name_of(words, model_named(name))) for name in models()],
            chosen=chosen.id,
            other="" if other is None else other.id,
            beside=[] if second is None else view.beside(words, result, second),
            beside_name="" if other is None else view.name_of(words, other),
            beside_score=None if second is None else second.score,
        )


def _scored(site: Site, device: str, model: Model) -> ScoreResult | None:
    """Score a device as of its last drive in its present car; None where its owner has not agreed to a score."""
    with db.reading(site.engine) as connection:
        if consents.in_force(connection, device, scores.PURPOSE, site.now_ns()) is None:
            return None
    end = last_drive_utc_ns(site.engine, device)
    start = 0 if end is None else max(end - model.window_days * DAY_NS, _since(site, device))
    return score_vehicle(site.engine, device, model, start, end)


def _since(site: Site, device: str) -> int:
    with db.reading(site.engine) as connection:
        present = bindings.of_device(connection, device)
        return 0 if present is None else scores.moved_in_ns(connection, device, present.vin)


def _model(name: str) -> Model:
    """Return a model by the name in an address; raise 404 for one that there is not."""
    try:
        return model_named(name)
    except ConfigError as e:
        raise HTTPException(404) from e
