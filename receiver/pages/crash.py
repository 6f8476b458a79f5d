"""The routes of a crash: its page, its progress, its files, its package, and a check on demand.

Every look at contents is written into the log first: where that fails, nothing is shown. Names of files come from the
table of what the device's signed record names, never from the address alone.
"""

import logging
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from receiver import checks, contents, crashes, crashviews, crashwords, delivery
from receiver.access import Row as Look
from receiver.access import latest
from receiver.contents import Contents
from receiver.crashes import CrashPage
from receiver.crashviews import MOST_LOOKS
from receiver.people import reach
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.site import Site
from receiver.words import Words

log = logging.getLogger(__name__)

Reader = Annotated[Person, Depends(needs("crashes.read"))]
Checker = Annotated[Person, Depends(needs("crashes.check"))]
Incident = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
Name = Annotated[str, Path(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class AwayError(Exception):
    """A file that should be in the store cannot be read there."""


def shown(site: Site, words: Words, found: CrashPage, before: Sequence[Look]) -> dict[str, Any]:
    """Return what _crash.html is given; whoever calls has noted the look at it, `before` are those before."""
    device, incident, files = found.row.device, found.row.incident, site.files
    read = Contents() if files is None else contents.read(files, device, incident, found.files)
    view = crashviews.crash(words, found, read, before, files is not None)
    return {"crash": found, "view": view, "version": crashes.version(site.engine, device, incident)}


def add(app: FastAPI, site: Site) -> None:
    """Add the routes. Without a store of packages only the reports are shown."""
    engine, files = site.engine, site.files
    base = "/vehicles/{device}/crashes/{incident}"

    def note(request: Request, device: str, incident: str, what: str, name: str = "") -> None:
        site.note(request, what, device, incident, name, part=delivery.ranged(request))

    @app.api_route(base, methods=["GET", "HEAD"])
    def crash(request: Request, person: Reader, device: str, incident: Incident) -> Response:
        reach.incident(engine, person, device, incident)
        found = crashes.crash(engine, device, incident)
        if found is None:
            raise HTTPException(404)
        words = site.words_of(request)
        before = latest(engine, device, incident, MOST_LOOKS)
        note(request, device, incident, "page")
        return site.page(request, "crash.html", words=words, **shown(site, words, found, before))

    @app.api_route(base + "/progress.json", methods=["GET", "HEAD"])
    def progress(request: Request, person: Reader, device: str, incident: Incident) -> Response:
        reach.incident(engine, person, device, incident)
        if not crashes.known(engine, device, incident):
            raise HTTPException(404)
        words = site.words_of(request)
        now = crashwords.package(words, crashes.package_now(engine, device, incident), files is not None)
        return JSONResponse(crashviews.progress(words, now, crashes.version(engine, device, incident)))

    @app.api_route(base + "/files/{name}", methods=["GET", "HEAD"])
    def file(request: Request, person: Reader, device: str, incident: Incident, name: Name) -> Response:
        reach.incident(engine, person, device, incident)
        found = crashes.held_file(engine, device, incident, name)
        if files is None or found is None:
            raise HTTPException(404)
        note(request, device, incident, "file", name)
        try:
            return delivery.file_response(request, files, device, incident, found)
        except OSError as e:
            log.error("package %s of device %s: %s; check the store", incident, device, e)
            raise AwayError from e

    @app.api_route(base + "/package.zip", methods=["GET", "HEAD"])
    def package(request: Request, person: Reader, device: str, incident: Incident) -> Response:
        reach.incident(engine, person, device, incident)
        listed = crashes.held_files(engine, device, incident)
        if files is None or not listed:
            raise HTTPException(404)
        note(request, device, incident, "package")
        return delivery.zip_response(request, files, device, incident, listed)

    @app.post(base + "/check")
    def check(request: Request, person: Checker, device: str, incident: Incident) -> Response:
        reach.incident(engine, person, device, incident)
        if files is None or not crashes.known(engine, device, incident):
            raise HTTPException(404)
        note(request, device, incident, "check")
        try:
            found = checks.check(engine, files, device, incident, site.now_ns())
        except OSError as e:
            log.error("package %s of device %s cannot be checked: %s; check the store", incident, device, e)
            raise AwayError from e
        said: dict[str, Any] = {} if found is None else {"exit_code": found.exit_code, "verdict": found.verdict}
        return JSONResponse(said, 200 if found else 409)

    @app.exception_handler(AwayError)
    async def _away(request: Request, _: AwayError) -> Response:
        return site.page(request, "problem.html", 503, key="away")
