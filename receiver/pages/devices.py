"""The boxes, for the technician: all of them, those that wait for enrolment, one with its health. No trip, no place."""

from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from agent.errors import RoadwitnessError
from receiver import boxes, boxfitting, boxhealth, boxwords, commands, db, fleet, views
from receiver import devices as enrolment
from receiver.fields import Field, Typed, typed
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.site import Site
from receiver.words import Words

Reader = Annotated[Person, Depends(needs("devices.read"))]
Enroller = Annotated[Person, Depends(needs("devices.enrol"))]
DeviceId = Annotated[str, Path(pattern="^rw-[0-9a-f]{16}$")]
Wanted = Annotated[str, Query(alias="q", max_length=64)]
KEY_LENGTH: Final = 64  # hex digits of a public key
DEEDS: Final = ("block", "enrol")


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""

    @app.api_route("/devices", methods=["GET", "HEAD"])
    def devices(
        request: Request,
        person: Reader,
        show: boxes.Shown = "all",
        wanted: Wanted = "",
        page_number: views.PageNumber = 1,
    ) -> Response:
        return _list(site, request, show, wanted.strip(), page_number)

    @app.post("/devices/enrol")
    async def enrol(request: Request, person: Enroller) -> Response:
        form = typed((await request.form()).multi_items())
        return await run_in_threadpool(_enrol, site, request, form)

    @app.api_route("/devices/{device}", methods=["GET", "HEAD"])
    def device(request: Request, person: Reader, device: DeviceId) -> Response:
        return _one(site, request, device)

    @app.post("/devices/{device}/state")
    async def state(request: Request, person: Enroller, device: DeviceId) -> Response:
        form = typed((await request.form()).multi_items())
        return await run_in_threadpool(_change, site, request, device, form)


def _list(
    site: Site,
    request: Request,
    show: boxes.Shown,
    wanted: str,
    number: int,
    status: int = 200,
    key: Field | None = None,
) -> Response:
    words = site.words_of(request)
    waiting, total = fleet.pending(site.engine)
    with db.reading(site.engine) as connection:
        rows, shown = boxes.page(connection, show, wanted, number, words.now_ns)
    return site.page(
        request,
        "devices.html",
        status,
        words=words,
        pending=waiting,
        waiting=total,
        boxes=rows,
        shown=shown,
        show=show,
        choices=boxes.SHOWN,
        wanted=wanted,
        recording=boxwords.recording,
        warning=boxwords.warning,
        key=key or _key(words),
    )


def _key(words: Words, value: str = "", error: str = "") -> Field:
    text = words.text
    return Field(
        "device",
        text("boxes.key"),
        value=value,
        hint=text("boxes.key_help"),
        error=error,
        most=KEY_LENGTH,
        required=True,
    )


def _enrol(site: Site, request: Request, form: Typed) -> Response:
    said, words = form.text("device"), site.words_of(request)
    if not said:
        return _list(site, request, "all", "", 1, 422, _key(words, "", words.text("boxes.refused.empty")))
    site.note(request, "enrolment", device=said[:KEY_LENGTH].lower(), name="enrol")
    try:
        name = enrolment.enrol(site.engine, said)
    except (RoadwitnessError, ValueError):
        return _list(site, request, "all", "", 1, 422, _key(words, said, words.text("boxes.refused.unknown")))
    return RedirectResponse(f"/devices/{name}", 303)


def _change(site: Site, request: Request, device: str, form: Typed) -> Response:
    """Block a box or trust it again."""
    if not fleet.known(site.engine, device):
        raise HTTPException(404)
    deed = form.text("deed")
    if deed not in DEEDS or not form.checked("sure"):
        return _one(site, request, device, 422, wrong=site.words_of(request).text("box.refused.sure"))
    site.note(request, "enrolment", device=device, name=deed)
    if deed == "block":
        enrolment.block(site.engine, device)
    else:
        enrolment.enrol(site.engine, device)
    return RedirectResponse(f"/devices/{device}#trust", 303)


def _one(site: Site, request: Request, device: str, status: int = 200, wrong: str = "") -> Response:
    words = site.words_of(request)
    with db.reading(site.engine) as connection:
        found = boxhealth.report(connection, device, words.now_ns)
    if found is None:
        raise HTTPException(404)
    values: dict[str, Any] = {
        "one": found,
        "box": found.box,
        "told": boxwords.parts(words, boxfitting.others(found.said)),
        "fitting": boxfitting.last(words, found.said),
        "volts": boxwords.volts(words, found.said),
        "clock": boxwords.clock(words, found),
        "vin": boxwords.vin(words, found),
        "recording": boxwords.recording(words, found.box),
        "befell": [boxwords.befell(words, each) for each in found.befell],
        "asked": [boxwords.command(words, each) for each in commands.asked(site.engine, device, words.now_ns)],
        "consents": boxwords.consents(words, found),
        "size": boxwords.size,
        "wrong": wrong,
    }
    return site.page(request, "device.html", status, words=words, **values)
