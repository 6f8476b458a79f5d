"""The owner's claims: the list, one claim with all that was found and calculated, reporting, documents, disputes."""

from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import Depends, FastAPI, Path, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from agent.clock import NS_PER_S
from receiver import crashes, crashwords, db, disputes, gcj02
from receiver.claiming import documents, facts, reading, reporting, states
from receiver.claiming.documents import KINDS, MOST_BYTES
from receiver.claiming.facts import Place
from receiver.claiming.reporting import MOST_SAID, Declared
from receiver.claiming.rules import RULES
from receiver.claiming.states import ClaimError
from receiver.disputes import DisputeError
from receiver.fields import Field, Typed, typed
from receiver.pages import owner_claims_view as view
from receiver.pages.owner_cars import Car, cars
from receiver.people import reach
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.pricing import RateBook, load_book
from receiver.site import Site
from receiver.words import Words

Reporter = Annotated[Person, Depends(needs("claims.report"))]
Reader = Annotated[Person, Depends(needs("claims.read"))]
Sender = Annotated[Person, Depends(needs("claims.document"))]
Disputer = Annotated[Person, Depends(needs("claims.dispute"))]
ClaimId = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
Refuse = Callable[[Site, Request, Person, str, str, str], Response]
PAGE: Final = 50  # claims on a page
MOST_WHY: Final = 2000
ACCEPT: Final = "image/jpeg,image/png,image/webp,image/heic,application/pdf,video/mp4"
GCJ02: Final = "gcj02"
# part of what receiver.claiming.documents finds -> key of the words
FAULTS: Final = {"none of": "type", "cut off": "cut", "too many": "pixels", "by itself": "active"}
# field of a refusal -> field of the form
FIELDS: Final = {"device": "device", "loss_utc_ns": "when", "place": "latitude", "by": ""}


@cache
def _book() -> RateBook:
    return load_book()


def add(app: FastAPI, site: Site, refuse: Refuse) -> None:
    """Add the owners' routes, and those of documents, which adjusters have too: `refuse` answers who asks."""

    @app.api_route("/claims/report", methods=["GET", "HEAD"])
    def report(request: Request, person: Reporter) -> Response:
        return _report_page(site, request, person, typed(request.query_params.multi_items()), {})

    @app.post("/claims/report")
    async def reported(request: Request, person: Reporter) -> Response:
        form = typed((await request.form()).multi_items())
        return await run_in_threadpool(_report, site, request, person, form)

    @app.post("/claims/{claim}/documents")
    async def upload(request: Request, person: Sender, claim: ClaimId) -> Response:
        data, name = b"", ""
        async with request.form() as sent:
            kind, file = str(sent.get("kind", "")), sent.get("file")
            if isinstance(file, UploadFile):
                data, name = await file.read(MOST_BYTES + 1), file.filename or ""
        return await run_in_threadpool(_upload, site, request, person, claim, kind, name, data, refuse)

    @app.api_route("/claims/{claim}/documents/{sha256}", methods=["GET"])
    def document(request: Request, person: Reader, claim: ClaimId, sha256: Sha256) -> Response:
        device = _reached(site, person, claim)
        with db.reading(site.engine) as connection:
            found = next((d for d in documents.listed(connection, claim) if d.sha256 == sha256), None)
        if found is None or site.files is None:
            raise HTTPException(404)
        site.note(request, "file", device=device, name=f"{claim} {sha256[:16]}")
        try:
            data = documents.read(site.files, found)
        except OSError:
            return site.problem(request, 503, "away")
        named = f"attachment; filename=\"document\"; filename*=UTF-8''{quote(found.name)}"
        return Response(data, media_type=found.media, headers={"Content-Disposition": named})

    @app.post("/claims/{claim}/dispute")
    async def dispute(request: Request, person: Disputer, claim: ClaimId) -> Response:
        form = typed((await request.form()).multi_items())
        return await run_in_threadpool(_dispute, site, request, person, claim, form)


def listed(site: Site, request: Request, person: Person, page_number: int) -> Response:
    """Answer with a page of an owner's claims."""
    words = site.words_of(request)
    with db.reading(site.engine) as connection:
        own = cars(connection, person)
    names = {car.device: car.name for car in own if car.device}
    found, shown = reading.queue(site.engine, devices=names, only=reach.claims(person), page=page_number, size=PAGE)
    lines = [view.line(words, one, names) for one in found]
    return site.page(request, "owner_claims.html", words=words, claims=lines, shown=shown)


def one(site: Site, request: Request, person: Person, claim: str) -> Response:
    """Answer with one claim."""
    return _page(site, request, person, claim)


def _reached(site: Site, person: Person, claim: str) -> str:
    """Return the device of a claim that a person reaches; raise 404 for another."""
    try:
        with db.reading(site.engine) as connection:
            row = states.row_of(connection, claim)
    except ClaimError as e:
        raise HTTPException(404) from e
    return reach.incident(site.engine, person, row.device, row.incident)


def _page(
    site: Site, request: Request, person: Person, claim: str, status: int = 200, wrong: tuple[str, str] = ("", "")
) -> Response:
    words = site.words_of(request)
    device = _reached(site, person, claim)
    page = reading.claim(site.engine, _book(), claim)
    with db.reading(site.engine) as connection:
        names = {car.device: car.name for car in cars(connection, person)}
    crashed = crashes.known(site.engine, device, page.incident)
    package = (
        crashwords.package(words, crashes.package_now(site.engine, device, page.incident), site.files is not None)
        if crashed
        else None
    )
    site.note(request, "page", device=device, name=f"claim {claim}")
    return site.page(
        request,
        "owner_claim.html",
        status,
        words=words,
        view=view.claim(words, page, names.get(device, device)),
        device=device,
        crash=f"/vehicles/{quote(device, safe='')}/crashes/{page.incident}" if crashed else "",
        package=package,
        kinds=[(kind, words.text(f"my_claims.kind.{kind}")) for kind in KINDS],
        accept=ACCEPT,
        most_mb=MOST_BYTES >> 20,
        most_why=MOST_WHY,
        wrong=wrong,
        kept=site.files is not None,
    )


def _upload(
    site: Site,
    request: Request,
    person: Person,
    claim: str,
    kind: str,
    name: str,
    data: bytes,
    refuse: Refuse,
) -> Response:
    _reached(site, person, claim)
    words = site.words_of(request)
    if site.files is None:
        raise HTTPException(404)
    try:
        documents.add(site.engine, site.files, claim, kind, name, data, person.name, site.now_ns())
    except ClaimError as e:
        return refuse(site, request, person, claim, "file", _said_of_file(words, e, data))
    return RedirectResponse(f"/claims/{claim}#documents", 303)


def _said_of_file(words: Words, e: ClaimError, data: bytes) -> str:
    text = words.text
    if not data:
        return text("my_claims.wrong.no_file")
    if len(data) > MOST_BYTES:
        return text("my_claims.wrong.large", mb=MOST_BYTES >> 20)
    if e.field == "kind":
        return text("my_claims.wrong.kind")
    _, fault = documents.look(data)
    if not fault:
        return text("my_claims.wrong.full")
    key = next((key for part, key in FAULTS.items() if part in fault), "damaged")
    return text(f"my_claims.wrong.{key}")


def _dispute(site: Site, request: Request, person: Person, claim: str, form: Typed) -> Response:
    _reached(site, person, claim)
    words, rule = site.words_of(request), form.text("rule")
    if rule not in RULES and rule != view.SETTLEMENT:
        raise HTTPException(404)
    why = form.text("why", MOST_WHY)
    if not why:
        return refused(site, request, person, claim, rule, words.text("my_claims.wrong.why"))
    try:
        disputes.dispute_flag(site.engine, claim, rule, person.name, why, site.now_ns())
    except (ClaimError, DisputeError):
        return refused(site, request, person, claim, rule, words.text("my_claims.wrong.dispute"))
    return RedirectResponse(f"/claims/{claim}#flag-{rule}", 303)


def refused(site: Site, request: Request, person: Person, claim: str, field: str, said: str) -> Response:
    """Answer with one claim, and beside a field what is wrong."""
    return _page(site, request, person, claim, 422, (field, said))


# reporting


def _report_page(site: Site, request: Request, person: Person, form: Typed, errors: dict[str, str]) -> Response:
    words = site.words_of(request)
    with db.reading(site.engine) as connection:
        own = [car for car in cars(connection, person) if car.device]
    fields = _fields(words, own, form, errors)
    wrong = [f for f in fields if f.error]
    if "" in errors:
        wrong.append(Field("", "", error=errors[""]))
    return site.page(
        request,
        "owner_claim_report.html",
        422 if errors else 200,
        words=words,
        fields={f.name: f for f in fields},
        wrong=wrong,
        own=own,
    )


def _fields(words: Words, own: list[Car], form: Typed, errors: dict[str, str]) -> list[Field]:
    text = words.text
    now = f"{words.local(words.now_ns):%Y-%m-%dT%H:%M}"

    def field(name: str, kind: str, hint: str = "", **given: object) -> Field:
        hinted = text(f"my_claims.hint.{hint}") if hint else ""
        label, error = text(f"my_claims.field.{name}"), errors.get(name, "")
        return Field(name, label, kind, form.text(name, MOST_SAID), hint=hinted, error=error, **given)  # type: ignore[arg-type]

    datums = [("wgs84", "WGS-84"), (GCJ02, "GCJ-02")]
    return [
        field("device", "select", options=[(car.device, car.name) for car in own]),
        field("when", "time", high=now, required=True),
        field("where", "text", "where", most=300, required=True),
        field("what", "area", "what", most=MOST_SAID - 400, required=True),
        field("injured", "check"),
        field("latitude", "number", "place"),
        field("longitude", "number"),
        field("datum", "select", "datum", options=datums),
    ]


def _report(site: Site, request: Request, person: Person, form: Typed) -> Response:
    words = site.words_of(request)
    text = words.text
    device = reach.device(site.engine, person, form.text("device"))
    loss_ns = _moment(words, form)
    place = _place(form)
    for name in ("where", "what"):
        if not form.text(name):
            form.errors[name] = "missing"
    errors = {name: text(f"my_claims.wrong.{key}") for name, key in form.errors.items()}
    if errors or loss_ns is None:
        return _report_page(site, request, person, form, errors)
    said = f"{form.text('where', 300)}\n{form.text('what', MOST_SAID - 400)}"
    declared = Declared(device, loss_ns, person.name, said, place, form.checked("injured"))
    try:
        claim = reporting.report(site.engine, declared, site.now_ns(), facts.limits())
    except ClaimError as e:
        field = FIELDS.get(e.field, "")
        key = {"when": "future", "latitude": "no_place"}.get(field, "refused")
        return _report_page(site, request, person, form, {field: text(f"my_claims.wrong.{key}")})
    return RedirectResponse(f"/claims/{claim}", 303)


def _moment(words: Words, form: Typed) -> int | None:
    """Return the time that was typed, local time of the pages, as UTC ns; note what is none."""
    said = form.text("when")
    try:
        at = datetime.fromisoformat(said).replace(tzinfo=words.zone)
        return round(at.timestamp()) * NS_PER_S
    except (ValueError, OverflowError):
        form.errors["when"] = "time" if said else "missing"
        return None


def _place(form: Typed) -> Place | None:
    """Return the place in WGS-84; note half a place."""
    latitude, longitude = form.number("latitude"), form.number("longitude")
    if latitude is None and longitude is None:
        return None
    if latitude is None or longitude is None:
        if not form.errors:
            form.errors["latitude" if latitude is None else "longitude"] = "half"
        return None
    if abs(latitude) > 90 or abs(longitude) > 180:
        form.errors["latitude"] = "no_place"
        return None
    place = Place(float(latitude), float(longitude))
    return Place(*gcj02.to_wgs84(*place)) if form.text("datum") == GCJ02 else place
