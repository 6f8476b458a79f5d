"""Boxes: whether they are heard, what they still hold, in which car they are. No place, no trip."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field
from sqlalchemy import select

from agent.clock import iso_utc
from receiver import db, fleet
from receiver.api.answers import answer
from receiver.api.here import Here
from receiver.api.paging import After, Items, Limit, Order, page
from receiver.api.problems import missing
from receiver.api.shapes import Device, Shape, Utc
from receiver.people.gate import needs
from receiver.people.person import Person

Reader = Annotated[Person, Depends(needs("devices.read"))]


class DeviceItem(Shape):
    """An enrolled device."""

    id: str = Field(examples=["rw-0123456789abcdef"])
    state: str = Field(description="accepted or blocked")
    enrolled: Utc
    online: bool
    heard: Utc | None = Field(description="When anything came of it last.")


class Source(Shape):
    """What a device said last of one of its sources."""

    source: str = Field(examples=["imu"])
    state: str
    detail: str
    received: Utc


class DeviceHealth(DeviceItem):
    """One device and how it is."""

    backlog: int = Field(description="Records that were still on the device when it last connected.")
    lost: int = Field(description="Records that neither side holds.")
    refused: int = Field(description="Messages that failed the check of signature or chain.")
    sources: list[Source]


def add(router: APIRouter, site: Here) -> None:
    """Add the routes."""
    d, live = db.device, db.live
    joined = d.outerjoin(live, live.c.device == d.c.id)
    columns = (d.c.id, d.c.state, d.c.enrolled_utc_ns, live.c.online, live.c.seen_utc_ns)
    order = Order((d.c.id,), (str,), down=False)

    @router.get("/devices", tags=["devices"], response_model=Items[DeviceItem])
    def devices(request: Request, who: Reader, limit: Limit = 50, after: After = None) -> Response:
        """List the enrolled devices, by id."""
        query = select(*columns).select_from(joined).where(*order.beyond(after)).order_by(*order.by)
        with db.reading(site.engine) as connection:
            rows = connection.execute(query.limit(limit + 1)).all()
        given, following = page(request, rows, limit, lambda r: (r.id,))
        return answer(
            request, Items[DeviceItem](items=[DeviceItem.model_validate(_item(r)) for r in given], next=following)
        )

    @router.get("/devices/{device}", tags=["devices"], response_model=DeviceHealth)
    def device(request: Request, who: Reader, device: Device) -> Response:
        """Tell how one device is."""
        h = db.health
        last = select(h.c.source, h.c.id).where(h.c.device == device).order_by(h.c.id.desc()).limit(1000).subquery()
        with db.reading(site.engine) as connection:
            row = connection.execute(select(*columns).select_from(joined).where(d.c.id == device)).one_or_none()
            newest = select(last.c.id)
            said = connection.execute(select(h).where(h.c.id.in_(newest)).order_by(h.c.id.desc())).all()
        found = None if row is None else fleet.vehicle(site.engine, device, 0, 0)
        if row is None or found is None:
            raise missing()
        sources: dict[str, Source] = {}
        for one in said:
            told = Source(source=one.source, state=one.state, detail=one.detail, received=iso_utc(one.received_utc_ns))
            sources.setdefault(one.source, told)
        counts = {"backlog": found.waiting, "lost": found.lost, "refused": found.refused}
        listed = sorted(sources.values(), key=lambda s: s.source)
        return answer(request, DeviceHealth.model_validate({**_item(row), **counts, "sources": listed}))


def _item(row: Any) -> dict[str, Any]:
    heard = row.seen_utc_ns
    return {
        "id": row.id,
        "state": row.state,
        "enrolled": row.enrolled_utc_ns,
        "online": bool(row.online),
        "heard": heard or None,
    }
