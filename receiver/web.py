"""The owner's pages: server-rendered, read only, no outside address, readable without scripts.

There is no sign-in yet, so `loopback` refuses every address but this machine's own, and a request under any other
host name is refused too: a page of a stranger could otherwise reach in by DNS rebinding.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import cache, partial
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import Receive, Scope, Send

from agent import clock
from agent.errors import ConfigError
from receiver import askedwords, commands, crashes, crashpages, crashwords, fleet, queries, views
from receiver.filestore import FileStore
from receiver.settings import ZONE
from receiver.texts import LANGUAGES, choose, text
from receiver.words import Words, time_zone

log = logging.getLogger(__name__)

REFRESH_S: Final = 5  # of the live state
COOKIE: Final = "language"
YEAR_S: Final = 365 * 86400
HOSTS: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self';"
        " connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), camera=(), microphone=()",
}
_HERE: Final = Path(__file__).parent

Next = Callable[[Request], Awaitable[Response]]


def loopback(host: str) -> str:
    """Return `host` when only this machine can reach it; raise ConfigError otherwise."""
    try:
        own = host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        own = False
    if not own:
        raise ConfigError(
            f"pages on {host}: they have no sign-in yet and show where people were; use 127.0.0.1 and a tunnel"
        )
    return host


def create_app(
    engine: Engine,
    zone: str = ZONE,
    now_ns: Callable[[], int] = clock.wall_ns,
    refresh_s: float = REFRESH_S,
    files: FileStore | None = None,
) -> FastAPI:
    """Build the pages over a database and the store of packages; times are shown in `zone`.

    Raise ConfigError for an unknown zone.
    """
    local = time_zone(zone)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_Gzip, minimum_size=2000, compresslevel=5)
    app.mount("/static", StaticFiles(directory=_HERE / "static"))
    templates = Environment(
        loader=PackageLoader("receiver"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals["asset"] = _asset

    def words_of(request: Request) -> Words:
        query, header = request.query_params.get("lang"), request.headers.get("accept-language", "")
        return Words(text(choose(query, request.cookies.get(COOKIE), header)), local, now_ns())

    def page(request: Request, name: str, status: int = 200, /, **values: Any) -> Response:
        words = values.pop("words", None) or words_of(request)
        language = words.text.language
        other = next(each for each in LANGUAGES if each != language)
        switch = request.url.include_query_params(lang=other)
        body = templates.get_template(name).render(
            w=words,
            t=words.text,
            trip_name=partial(views.when, words),
            switch=f"{switch.path}?{switch.query}",
            refresh_s=refresh_s,
            **values,
        )
        response = HTMLResponse(body, status)
        response.headers["Content-Language"] = words.text.tag
        if request.query_params.get("lang") == language:
            response.set_cookie(COOKIE, language, max_age=YEAR_S, samesite="lax", httponly=True)
        return response

    def problem(request: Request, status: int, key: str) -> Response:
        return page(request, "problem.html", status, key=key)

    @app.middleware("http")
    async def guard(request: Request, go_on: Next) -> Response:
        host = request.headers.get("host", "")
        name, _, port = host.rpartition(":")
        if (name if port.isdigit() else host) not in HOSTS:
            return _guarded(request, Response("wrong host", 421))
        return _guarded(request, await go_on(request))

    @app.exception_handler(HTTPException)
    async def _refused(request: Request, error: HTTPException) -> Response:
        return problem(request, error.status_code, "not_found" if error.status_code == 404 else "refused")

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, _: RequestValidationError) -> Response:
        return problem(request, 404, "not_found")

    @app.exception_handler(DBAPIError)
    async def _database(request: Request, error: DBAPIError) -> Response:
        log.error("pages: the database does not answer: %s", str(error.orig).strip().splitlines()[:1])
        return problem(request, 503, "database")

    @app.exception_handler(queries.Altered)
    async def _altered(request: Request, _: queries.Altered) -> Response:
        return problem(request, 500, "altered")

    @app.exception_handler(Exception)
    async def _broken(request: Request, _: Exception) -> Response:
        # stands outside the guard; Starlette raises the error again, so that the server logs it
        return _guarded(request, problem(request, 500, "broken"))

    @app.api_route("/", methods=["GET", "HEAD"])
    def vehicles(request: Request, page_number: views.PageNumber = 1) -> Response:
        words = words_of(request)
        rows, shown = fleet.vehicles(engine, words.week_start_ns(), words.month_start_ns(), page_number)
        waiting, total = fleet.pending(engine)
        last = queries.last_trips(engine, [v.id for v in rows])
        return page(
            request,
            "vehicles.html",
            words=words,
            vehicles=rows,
            last=last,
            shown=shown,
            pending=waiting,
            waiting=total,
        )

    @app.api_route("/vehicles/{device}", methods=["GET", "HEAD"])
    def vehicle(request: Request, device: str, page_number: views.PageNumber = 1) -> Response:
        words = words_of(request)
        found = fleet.vehicle(engine, device, words.week_start_ns(), words.month_start_ns())
        if found is None:
            raise HTTPException(404)
        rows, shown = queries.trips(engine, device, page_number)
        running = views.told(words, queries.open_events(engine, device), None)
        crashed, _ = crashes.crashes(engine, device)
        return page(
            request,
            "vehicle.html",
            words=words,
            vehicle=found,
            live=views.live(words, found.live, fleet.newest(engine, device)),
            days=views.days(words, rows),
            shown=shown,
            running=running,
            crashes=[crashwords.line(words, row) for row in crashed],
            asked=[askedwords.line(words, one) for one in commands.asked(engine, device, words.now_ns)],
        )

    @app.api_route("/vehicles/{device}/live.json", methods=["GET", "HEAD"])
    def live(request: Request, device: str) -> Response:
        if not fleet.known(engine, device):
            return JSONResponse({}, 404)
        now = views.live(words_of(request), fleet.live(engine, device), fleet.newest(engine, device))
        return JSONResponse(views.live_json(now))

    @app.api_route("/vehicles/{device}/events", methods=["GET", "HEAD"])
    def events(request: Request, device: str, page_number: views.PageNumber = 1) -> Response:
        words = words_of(request)
        if not fleet.known(engine, device):
            raise HTTPException(404)
        rows, shown = queries.events(engine, device, page_number)
        return page(
            request, "events.html", words=words, device=device, events=views.told(words, rows, None), shown=shown
        )

    @app.api_route("/vehicles/{device}/trips/{trip_id}", methods=["GET", "HEAD"])
    def trip(request: Request, device: str, trip_id: views.Id) -> Response:
        found = queries.trip(engine, device, trip_id)
        if found is None:
            raise HTTPException(404)
        words = words_of(request)
        return page(request, "trip.html", words=words, trip=found, view=views.trip(words, found))

    crashpages.add(app, engine, files, page, words_of, now_ns)
    return app


class _Gzip(GZipMiddleware):
    """Compresses pages; files are given as they are, or the bytes of a range would be those of another thing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        whole = "/crashes/" in path and ("/files/" in path or path.endswith(".zip"))
        if whole:
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _guarded(request: Request, response: Response) -> Response:
    """Set what every answer carries."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    if request.url.path.startswith("/static/") and response.status_code == 200:
        # the address holds a digest of the content
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    else:
        response.headers["Cache-Control"] = "no-store"
        response.headers["Vary"] = "Accept-Language, Cookie"
    return response


@cache
def _asset(name: str) -> str:
    """Return the address of a static file; it changes with the content."""
    digest = sha256((_HERE / "static" / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?{digest}"
