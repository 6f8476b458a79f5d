"""What an owner's car did: trips, tracks, events and their disputes, and everything as a file. For the owner alone."""

import io
import tempfile
from collections.abc import Iterator
from typing import IO, Annotated, Any, BinaryIO, Final, Literal, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from sqlalchemy import select

from agent.errors import ConfigError
from receiver import db, disputes
from receiver.api.answers import answer
from receiver.api.here import Here
from receiver.api.once import once
from receiver.api.paging import After, Limit, Order, page
from receiver.api.problems import missing, wrong
from receiver.api.shapes import Device, Done, Given, Number, of_columns, of_item
from receiver.exports import columns, geojson, gpx, source
from receiver.exports.files import WHAT, parse_moment, write
from receiver.exports.source import Exported, Span
from receiver.exports.tables import write_csv
from receiver.people import reach
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.queries import with_clock_columns

Reader = Annotated[Person, Depends(needs("trips.read"))]
Exporter = Annotated[Person, Depends(needs("trips.export"))]
Disputer = Annotated[Person, Depends(needs("events.dispute"))]
TrackFormat = Literal["gpx", "geojson", "csv"]
Format = Literal["gpx", "geojson", "csv", "parquet"]

Trip: Final = of_columns("Trip", columns.TRIPS)
Event: Final = of_columns("Event", columns.EVENTS)
MEDIA: Final = {
    "gpx": "application/gpx+xml",
    "geojson": "application/geo+json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
_PIECE: Final = 64 * 1024
_IN_MEMORY: Final = 1 << 20  # beyond it a file is on the disk until it was sent


class Trips(BaseModel):
    """A piece of the list of trips."""

    items: list[Trip]  # type: ignore[valid-type]
    next: str | None


class Events(BaseModel):
    """A piece of the list of events."""

    items: list[Event]  # type: ignore[valid-type]
    next: str | None


class Why(Given):
    """Why something is disputed."""

    why: str = Field(min_length=1, max_length=2000, examples=["The lorry ahead braked; I kept my distance."])


_BYTES: Final = {"schema": {"type": "string", "format": "binary"}}
_FEATURES: Final = {"schema": {"type": "object", "required": ["type", "features"]}}
_FILES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {m.partition(";")[0]: _FEATURES if f == "geojson" else _BYTES for f, m in MEDIA.items()}}
}


def add(router: APIRouter, site: Here) -> None:
    """Add the routes."""

    @router.get("/devices/{device}/trips", tags=["driving"], response_model=Trips)
    def trips(request: Request, who: Reader, device: Device, limit: Limit = 50, after: After = None) -> Response:
        """List a device's trips, the last received first."""
        reach.device(site.engine, who, device)
        site.note(request, "page", device, name="trips")
        return _listed(request, site, db.trip, columns.TRIPS, device, limit, after)

    @router.get("/devices/{device}/trips/{trip}", tags=["driving"], response_model=Trip)
    def trip(request: Request, who: Reader, device: Device, trip: Number) -> Response:
        """Tell one trip."""
        reach.device(site.engine, who, device)
        found = _trip(site, device, trip)
        site.note(request, "page", device, name=f"trip {trip}")
        return answer(request, of_item(columns.TRIPS, found))

    @router.get("/devices/{device}/trips/{trip}/track", tags=["driving"], response_class=Response, responses=_FILES)
    def track(request: Request, who: Reader, device: Device, trip: Number, format: TrackFormat = "geojson") -> Response:
        """Give the track of one trip as GPX, GeoJSON or CSV, in WGS-84."""
        reach.device(site.engine, who, device)
        found = _trip(site, device, trip)
        site.note(request, "export", device, name=f"track {trip} {format}")
        out = io.BytesIO()
        with db.reading(site.engine) as connection:
            drives = iter([source.Drive(found, source.fixes(connection, found.row))])
        if format == "gpx":
            gpx.write_gpx(out, drives)
        elif format == "geojson":
            geojson.write_drives(out, drives)
        else:
            write_csv(out, columns.POINTS, columns.points(drives))
        return Response(out.getvalue(), headers=_named(device, f"trip-{trip}", format), media_type=MEDIA[format])

    @router.get("/devices/{device}/events", tags=["driving"], response_model=Events)
    def events(request: Request, who: Reader, device: Device, limit: Limit = 50, after: After = None) -> Response:
        """List a device's events, the last received first."""
        reach.device(site.engine, who, device)
        site.note(request, "page", device, name="events")
        return _listed(request, site, db.harsh_event, columns.EVENTS, device, limit, after)

    @router.post("/devices/{device}/events/{event}/disputes", tags=["driving"], status_code=201, response_model=Done)
    def dispute(request: Request, who: Disputer, device: Device, event: Number, why: Why) -> Response:
        """Dispute an event: it weighs nothing until somebody decides."""
        reach.device(site.engine, who, device)
        e = db.harsh_event
        with db.reading(site.engine) as connection:
            of = (e.c.device == device, e.c.id == event)
            row = connection.execute(select(e.c.lineage, e.c.lane, e.c.seq).where(*of)).one_or_none()
        if row is None:
            raise missing()

        def do() -> Response:
            number = disputes.dispute_entry(site.engine, device, tuple(row), who.name, why.why, site.now_ns())
            return answer(request, Done(id=str(number)), 201)

        return once(site.engine, request, who.id, site.now_ns(), do)

    @router.get("/devices/{device}/export", tags=["driving"], response_class=Response, responses=_FILES)
    def export(
        request: Request,
        who: Exporter,
        device: Device,
        what: Literal["tracks", "trips", "events"] = "tracks",
        format: Format = "csv",
        since: Annotated[str, Query(alias="from", max_length=40, examples=["2026-11-01"])] = "1970-01-01",
        until: Annotated[str, Query(alias="to", max_length=40, examples=["2026-12-01"])] = "2200-01-01",
    ) -> Response:
        """Give tracks, trips or events of a range of time as one file; times without a zone are UTC."""
        reach.device(site.engine, who, device)
        if format not in WHAT[what]:
            raise wrong("format", f"{what} can be written as {', '.join(WHAT[what])}", WHAT[what])
        span = Span(_moment("from", since), _moment("to", until))
        site.note(request, "export", device, name=f"{what} {format}")
        # whole before it is sent: what goes wrong half-way is an answer, and no file that looks whole
        file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed when it was sent
        try:
            write(cast(BinaryIO, file), site.engine, device, span, what, format)
            headers = {**_named(device, what, format), "Content-Length": str(file.tell())}
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return StreamingResponse(_pieces(cast(IO[bytes], file)), headers=headers, media_type=MEDIA[format])


def _listed(
    request: Request, site: Here, table: Any, shape: Any, device: str, limit: int, after: str | None
) -> Response:
    order = Order((table.c.id,), (int,), down=True)
    if table is db.trip:
        query = with_clock_columns(table)
    else:
        query = source.with_trip(with_clock_columns(table))
    query = query.where(table.c.device == device, *order.beyond(after)).order_by(*order.by).limit(limit + 1)
    with db.reading(site.engine) as connection:
        rows = connection.execute(query).all()
    given, following = page(request, rows, limit, lambda r: (r.id,))
    items = [of_item(shape, Exported(r, r.offset_ns, r.quality or "none")) for r in given]
    return answer(request, {"items": items, "next": following})


def _trip(site: Here, device: str, trip: int) -> Exported:
    query = with_clock_columns(db.trip).where(db.trip.c.device == device, db.trip.c.id == trip)
    with db.reading(site.engine) as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        raise missing()
    return Exported(row, row.offset_ns, row.quality or "none")


def _moment(field: str, text: str) -> int:
    try:
        return parse_moment(field, text)
    except (ConfigError, OverflowError) as e:
        raise wrong(field, "write e.g. 2026-11-01 or 2026-11-01T08:00:00+08:00") from e


def _named(device: str, what: str, format: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{device}-{what}.{format}"'}


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(_PIECE):
            yield piece
