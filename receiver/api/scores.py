"""Scores and kilometres: what an insurer's program may know of how a car is driven. Never where (T-PRIV-4)."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathParameter
from pydantic import Field
from sqlalchemy import select

from receiver import db
from receiver.api.answers import answer
from receiver.api.here import Here
from receiver.api.openapi import of_struct
from receiver.api.paging import After, Items, Limit, Order, page
from receiver.api.problems import missing, wrong
from receiver.api.shapes import Device, Shape, Utc
from receiver.people import reach
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.rating import periods, scores
from receiver.rating.tables import kept_score
from receiver.scoring.model import DEFAULT_MODEL
from receiver.scoring.result import ScoreResult
from receiver.words import time_zone

Reader = Annotated[Person, Depends(needs("scores.read"))]
Measurer = Annotated[Person, Depends(needs("exposure.read"))]
Model = Annotated[str, Query(max_length=32, description="Name and version of a score model.", examples=[DEFAULT_MODEL])]
Month = Annotated[str | None, Query(pattern="^[0-9]{4}-[0-9]{2}$", examples=["2026-10"])]
PathMonth = Annotated[str, PathParameter(pattern="^[0-9]{4}-[0-9]{2}$", examples=["2026-10"])]
MOST_MONTHS: Final = 36


class Score(Shape):
    """The score of a car as it stood at the end of a month."""

    device: str
    vin: str = Field(description="Empty where the device was bound to no car.")
    model: str = Field(examples=["relativity/1"])
    period: str = Field(examples=["2026-10"])
    revision: int = Field(description="Above 1 where a late trip or a dispute changed the score of a month that ended.")
    final: bool = Field(description="The month had ended.")
    score: int | None = Field(description="0 to 100; null where nothing was driven that can be scored.")
    relativity: float = Field(description="Expected claims against the average car.")
    credibility: float
    km: float
    km_year: float | None
    quality: float | None = Field(description="Share of the kilometres that could be scored.")
    trips: int
    computed: Utc = Field(validation_alias="computed_utc_ns")


class Scores(Shape):
    """The scores of a car, the last month first."""

    items: list[Score]


class Kilometres(Shape):
    """How much a car was driven: no place and no time of day."""

    device: str
    period: str
    km: float
    km_year: float | None
    trips: int


def add(router: APIRouter, site: Here) -> None:
    """Add the routes."""
    t = kept_score
    columns = [t.c[name] for name in scores.KeptScore._fields]
    order = Order((t.c.period, t.c.device), (str, str), down=True)

    @router.get("/scores", tags=["scores"], response_model=Items[Score])
    def listed(
        request: Request,
        who: Reader,
        model: Model = DEFAULT_MODEL,
        period: Month = None,
        limit: Limit = 50,
        after: After = None,
    ) -> Response:
        """List the newest score of every car and month, the last month first."""
        reached = reach.reached(site.engine, who)
        of: list[Any] = [t.c.model == model, t.c.newest.is_(True), *order.beyond(after)]
        of += [t.c.period == period] if period is not None else []
        of += [t.c.device.in_(sorted(reached))] if reached is not None else []
        with db.reading(site.engine) as connection:
            query = select(*columns).where(*of).order_by(*order.by).limit(limit + 1)
            rows = connection.execute(query).all()
        given, following = page(request, rows, limit, lambda r: (r.period, r.device))
        return answer(request, Items[Score](items=[Score.model_validate(r) for r in given], next=following))

    @router.get("/devices/{device}/scores", tags=["scores"], response_model=Scores)
    def history(
        request: Request,
        who: Reader,
        device: Device,
        model: Model = DEFAULT_MODEL,
        months: Annotated[int, Query(ge=1, le=MOST_MONTHS)] = 12,
    ) -> Response:
        """List the scores of one car, the last month first."""
        reach.device(site.engine, who, device)
        site.note(request, "page", device, name="scores")
        with db.reading(site.engine) as connection:
            found = scores.history(connection, device, months, model)
        return answer(request, Scores(items=[Score.model_validate(s) for s in found]))

    @router.get("/devices/{device}/scores/{period}", tags=["scores"], **of_struct(ScoreResult))
    def explained(
        request: Request, who: Reader, device: Device, period: PathMonth, model: Model = DEFAULT_MODEL
    ) -> Response:
        """Explain the score of one month: every point lost, by trip and event."""
        reach.device(site.engine, who, device)
        _month(period)
        site.note(request, "page", device, name=f"score {period}")
        with db.reading(site.engine) as connection:
            kept = scores.of_month(connection, device, period, model)
            if kept is None:
                raise missing()
            return answer(request, scores.result(connection, kept))

    @router.get("/devices/{device}/exposure/{period}", tags=["scores"], response_model=Kilometres)
    def exposure(request: Request, who: Measurer, device: Device, period: PathMonth) -> Response:
        """Tell the kilometres of one car as they stood at the end of a month."""
        reach.device(site.engine, who, device)
        _month(period)
        with db.reading(site.engine) as connection:
            kept = scores.of_month(connection, device, period)
        if kept is None:
            raise missing()
        return answer(request, Kilometres.model_validate(kept))


def _month(period: str) -> None:
    try:
        periods.bounds(period, time_zone("UTC").key)
    except periods.RatingError as e:
        raise wrong("period", str(e).partition(": ")[2]) from e
