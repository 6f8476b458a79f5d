"""What an owner agreed to, by car and purpose: agree, withdraw, take the own data away, have it erased."""

import logging
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, Any, Final
from urllib.parse import quote

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from receiver import db
from receiver.fields import Typed, typed
from receiver.pages.owner_cars import Car, cars, page_of
from receiver.people import reach
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.registry import consents, erasures, exporting, wording
from receiver.registry.consents import PURPOSES, RESTS_ON, Consent
from receiver.registry.erasures import Erasure
from receiver.registry.refusals import RegistryError
from receiver.site import Site
from receiver.views import PageNumber
from receiver.words import Words

log = logging.getLogger(__name__)

Reader = Annotated[Person, Depends(needs("consents.read"))]
Giver = Annotated[Person, Depends(needs("consents.give"))]
Exporter = Annotated[Person, Depends(needs("data.export"))]
DeviceName = Annotated[str, Query(max_length=64)]
Eraser = Annotated[Person, Depends(needs("data.erase"))]
IN_MEMORY: Final = 8 << 20  # bytes of an export; more goes to disk
PIECE: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Purpose:
    """One purpose of one car: its text, whether it is agreed to, and what may be done."""

    id: str
    key: str
    title: str
    paragraphs: list[str]
    given: bool
    since: str
    older: str  # agreed to another version than the one that is shown
    version: str
    rests: str  # what must be agreed to first
    ends: str  # what ends with it


@dataclass(frozen=True, slots=True)
class CarView:
    """One car with its purposes."""

    car: Car
    purposes: list[Purpose]
    history: list[tuple[int, str]]
    erasures: list[str]


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""

    @app.api_route("/consent", methods=["GET", "HEAD"])
    def show(request: Request, person: Reader, page_number: PageNumber = 1, device: DeviceName = "") -> Response:
        return _page(site, request, person, number=page_number, only=device)

    @app.post("/consent/give")
    async def give(request: Request, person: Giver) -> Response:
        return await run_in_threadpool(_give, site, request, person, await _form(request))

    @app.post("/consent/withdraw")
    async def withdraw(request: Request, person: Giver) -> Response:
        return await run_in_threadpool(_withdraw, site, request, person, await _form(request))

    @app.post("/consent/erase")
    async def erase(request: Request, person: Eraser) -> Response:
        return await run_in_threadpool(_erase, site, request, person, await _form(request))

    @app.api_route("/consent/my-data.zip", methods=["GET"])
    def export(request: Request, person: Exporter) -> Response:
        with db.reading(site.engine) as connection:
            devices = sorted(exporting.devices_ever(connection, person.owner))
        for device in devices or [""]:  # a look is a row, whatever it shows
            site.note(request, "export", device=device, name="my data")
        out: Any = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed when the last piece is given
        try:
            exporting.export_owner(site.engine, site.files, person.owner, out)
        except (RegistryError, OSError) as e:
            out.close()
            if isinstance(e, RegistryError):
                raise HTTPException(e.status) from e
            log.error("data of owner %s: %s; check the store", person.owner, e)
            return site.problem(request, 503, "away")
        size = out.tell()
        out.seek(0)
        headers = {"Content-Disposition": 'attachment; filename="my-data.zip"', "Content-Length": str(size)}
        return StreamingResponse(_pieces(out), media_type="application/zip", headers=headers)


async def _form(request: Request) -> Typed:
    return typed((await request.form()).multi_items())


def _pieces(out: IO[bytes]) -> Iterator[bytes]:
    with out:
        while piece := out.read(PIECE):
            yield piece


def _give(site: Site, request: Request, person: Person, form: Typed) -> Response:
    device, purpose = _named(site, person, form)
    words = site.words_of(request)
    version = form.text("version")
    try:
        if not version:
            raise RegistryError("consent: the version of the text is missing", "version")
        consents.give(
            site.engine,
            device,
            purpose,
            site.now_ns(),
            by=person.name,
            version=version,
            language=words.text.language,
            address=_address(request),
        )
    except RegistryError as e:
        return _page(site, request, person, e.status, (device, purpose, f"my_consent.refused.{e.field}"))
    return RedirectResponse(f"/consent?device={quote(device, safe='')}#{_id(device, purpose)}", 303)


def _withdraw(site: Site, request: Request, person: Person, form: Typed) -> Response:
    device, purpose = _named(site, person, form)
    if not form.checked("sure"):
        return _page(site, request, person, 422, (device, purpose, "my_consent.refused.sure"))
    consents.withdraw(site.engine, device, purpose, site.now_ns(), by=person.name, address=_address(request))
    return RedirectResponse(f"/consent?device={quote(device, safe='')}#{_id(device, purpose)}", 303)


def _erase(site: Site, request: Request, person: Person, form: Typed) -> Response:
    device, _ = _named(site, person, form, PURPOSES[0])
    word = form.text("word").casefold()
    if word not in {str(site.words_of(request).text("my_consent.erase_word")).casefold(), "erase", "删除"}:
        return _page(site, request, person, 422, (device, "erase", "my_consent.refused.word"))
    now = site.now_ns()
    ended = consents.withdraw(site.engine, device, "recording", now, by=person.name, address=_address(request))
    if not ended:  # nothing was agreed to any more, but something may still be kept
        with site.engine.begin() as connection:
            erasures.open_for(connection, device, person.owner, "recording", person.name, now)
    return RedirectResponse(f"/consent?device={quote(device, safe='')}#{_id(device, 'erase')}", 303)


def _named(site: Site, person: Person, form: Typed, purpose: str = "") -> tuple[str, str]:
    """Return the device and purpose of a form; raise 404 for a car of somebody else or a purpose that there is not."""
    device, purpose = form.text("device"), purpose or form.text("purpose")
    reach.device(site.engine, person, device)
    if purpose not in PURPOSES:
        raise HTTPException(404)
    return device, purpose


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _id(device: str, purpose: str) -> str:
    return re.sub(r"[^a-z0-9-]", "-", f"{device}-{purpose}".lower())


def _page(
    site: Site,
    request: Request,
    person: Person,
    status: int = 200,
    wrong: tuple[str, str, str] | None = None,
    *,
    number: int = 1,
    only: str = "",
) -> Response:
    """Answer with a page of the owner's cars, or with the one that something was wrong with or that is asked for."""
    only = wrong[0] if wrong is not None else only
    words = site.words_of(request)
    with db.reading(site.engine) as connection:
        own = [car for car in cars(connection, person) if car.device and only in ("", car.device)]
        own, shown = page_of(own, number)
        told = [_car(connection, words, car, person.owner) for car in own]
    return site.page(
        request,
        "owner_consent.html",
        status,
        words=words,
        told=told,
        shown=shown,
        id_of=_id,
        wrong=None if wrong is None else (_id(wrong[0], wrong[1]), words.text(wrong[2])),
    )


def _car(connection: Connection, words: Words, car: Car, owner: str) -> CarView:
    standing = consents.standing(connection, car.device)
    given = {p for p in PURPOSES if p in standing and standing[p].given}
    rows = [row for row in consents.history(connection, car.device) if row.owner == owner]
    open_now = erasures.listed(connection, device=car.device, owner=owner, most=10)
    return CarView(
        car=car,
        purposes=[_purpose(words, car.device, p, standing.get(p), given) for p in PURPOSES],
        history=[(row.at_utc_ns, _row(words, row)) for row in reversed(rows)],
        erasures=[_erasure(words, one) for one in open_now],
    )


def _purpose(words: Words, device: str, purpose: str, last: Consent | None, given: Collection[str]) -> Purpose:
    text = words.text
    newest = wording.latest(purpose)
    shown = newest.languages[text.language]
    agreed = purpose in given
    lacking = [p for p in RESTS_ON[purpose] if p not in given]
    ending = [p for p in PURPOSES if purpose in RESTS_ON[p] and p in given]
    since = older = ""
    if agreed and last is not None:
        since = text("my_consent.since", time=words.stamp(last.at_utc_ns), version=last.version)
        older = text("my_consent.older", version=newest.version) if last.version != newest.version else ""
    return Purpose(
        id=_id(device, purpose),
        key=purpose,
        title=shown.title,
        paragraphs=[re.sub(r"\s*\n\s*", " " if text.language == "en" else "", p) for p in shown.text.split("\n\n")],
        given=agreed,
        since=since,
        older=older,
        version=newest.version,
        rests=text("my_consent.rests", purposes=_titles(words, lacking)) if lacking and not agreed else "",
        ends=text("my_consent.ends", purposes=_titles(words, ending)) if ending else "",
    )


def _titles(words: Words, purposes: Sequence[str]) -> str:
    titles = [wording.current(p, words.text.language).title for p in purposes]
    return words.text("my_consent.and").join(words.text("my_consent.quoted", title=title) for title in titles)


def _row(words: Words, row: Consent) -> str:
    title = wording.current(row.purpose, words.text.language).title
    if not row.given:
        return words.text("my_consent.withdrew", title=title, by=row.by)
    return words.text("my_consent.gave", title=title, version=row.version, by=row.by)


def _erasure(words: Words, one: Erasure) -> str:
    text = words.text
    values: dict[str, Any] = {"time": words.stamp(one.asked_utc_ns)}
    if one.state == "done":
        values["done"] = words.stamp(one.done_utc_ns or one.asked_utc_ns)
        return text("my_consent.erased", n=f"{sum(one.removed.values()):,}", **values)
    if one.state == "held":
        return text("my_consent.held", n=len(one.kept), **values)
    return text("my_consent.erasing", due=words.date(one.due_utc_ns), **values)
