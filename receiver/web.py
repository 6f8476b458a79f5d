"""The web application: its pages, what every answer carries, who gets in. No outside address; works without scripts.

A request under a host name that is not ours is refused: a page of a stranger could otherwise reach in by DNS rebinding.
"""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import Receive, Scope, Send

from agent import clock
from receiver import exposure, queries
from receiver.api import app as api
from receiver.filestore import FileStore
from receiver.pages import (
    account,
    bindings,
    claims,
    crash,
    devices,
    health,
    owner_consent,
    owner_disputes,
    owner_policies,
    owner_quote,
    owner_score,
    portfolio,
    regimes,
    renewals,
    service,
    signin,
    vehicles,
)
from receiver.people import gate
from receiver.settings import ReceiverSettings
from receiver.site import Site

log = logging.getLogger(__name__)

# The families of pages; each has `add(app, site)`.
PAGES: Final = (
    health,
    signin,
    account,
    vehicles,
    crash,
    devices,
    bindings,
    owner_score,
    owner_quote,
    owner_policies,
    claims,
    owner_disputes,
    owner_consent,
    portfolio,
    regimes,
    renewals,
    service,
)
MOST_FORM: Final = 64 * 1024  # bytes; every form but those with a file
MOST_UPLOAD: Final = 64 << 20  # a page tells what it takes of them; more than this is not even read
REFRESH_S: Final = 5  # of the live state
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self';"
        " connect-src 'self';"
        " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # to others nothing; to ourselves, or forms would come without their origin
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), camera=(), microphone=()",
}
# what the pages of problems say, by status
PROBLEMS: Final = {401: "unknown", 403: "forbidden", 404: "not_found"}
_HERE: Final = Path(__file__).parent

Next = Callable[[Request], Awaitable[Response]]


def create_app(
    engine: Engine,
    settings: ReceiverSettings | None = None,
    now_ns: Callable[[], int] = clock.wall_ns,
    refresh_s: float = REFRESH_S,
    files: FileStore | None = None,
) -> FastAPI:
    """Build the pages over a database and the store of packages. Without `files` no package is shown.

    Raise ConfigError for an unknown zone, UnguardedError for a route that names no right.
    """
    site = Site(engine, files, settings or ReceiverSettings(), now_ns, refresh_s)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    names = frozenset(name.lower() for name in site.settings.http.hosts)
    app.add_middleware(_Gzip, minimum_size=2000, compresslevel=5)
    app.mount("/static", StaticFiles(directory=_HERE / "static"))

    @app.middleware("http")
    async def guard(request: Request, go_on: Next) -> Response:
        secure = request.url.scheme == "https"
        if not exposure.admitted(request.headers.get("host", ""), secure, names):
            return _guarded(request, Response("wrong host", 421))
        return _guarded(request, await _admitted(request, site, go_on))

    @app.exception_handler(HTTPException)
    async def _refused(request: Request, error: HTTPException) -> Response:
        answer = site.problem(request, error.status_code, PROBLEMS.get(error.status_code, "refused"))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        if any(one["loc"][0] == "body" for one in error.errors()):
            return site.problem(request, 422, "refused")
        return site.problem(request, 404, "not_found")

    @app.exception_handler(gate.StaleFormError)
    async def _stale(request: Request, _: gate.StaleFormError) -> Response:
        return site.problem(request, 403, "stale")

    @app.exception_handler(DBAPIError)
    async def _database(request: Request, error: DBAPIError) -> Response:
        return _no_database(request, site, error)

    @app.exception_handler(queries.Altered)
    async def _altered(request: Request, _: queries.Altered) -> Response:
        return site.problem(request, 500, "altered")

    @app.exception_handler(Exception)
    async def _broken(request: Request, _: Exception) -> Response:
        # stands outside the guard; Starlette raises the error again, so that the server logs it
        return _guarded(request, site.problem(request, 500, "broken"))

    for family in PAGES:
        family.add(app, site)
    api.add(app, site)
    gate.check(app)
    site.paths = frozenset(path for path, methods, _ in gate.routes(app) if "GET" in methods)
    return app


async def _admitted(request: Request, site: Site, go_on: Next) -> Response:
    """Go on with a request of somebody who is known, or for what is open to all; refuse forms of other pages."""
    path = request.url.path
    request.state.person = request.state.session = None
    if path.startswith(gate.STATIC):
        return await go_on(request)
    try:
        await gate.recognise(request, site.engine, site.now_ns())
    except DBAPIError as e:
        return _no_database(request, site, e)
    if request.method not in gate.SAFE and not path.startswith(gate.API) and not gate.own_origin(request):
        return site.problem(request, 403, "stranger")
    if request.method not in gate.SAFE and not path.startswith(gate.API) and not _bounded(request):
        return site.problem(request, 413, "too_large")
    if request.state.person is None and not gate.is_open(path):
        return gate.turned_away(request) or site.problem(request, 401, "unknown")
    return await go_on(request)


def _bounded(request: Request) -> bool:
    """Say whether a form tells its size and is no larger than its page takes; nothing of it was read yet."""
    said = request.headers.get("content-length")
    if said is None:
        return "transfer-encoding" not in request.headers  # a request without a body, as far as HTTP/1.1 goes
    most = MOST_UPLOAD if request.state.person and request.url.path.endswith("/documents") else MOST_FORM
    return said.isdecimal() and int(said[:18]) <= most


def _no_database(request: Request, site: Site, error: DBAPIError) -> Response:
    log.error("pages: the database does not answer: %s", str(error.orig).strip().splitlines()[:1])
    return site.problem(request, 503, "database")


class _Gzip(GZipMiddleware):
    """Compresses pages; files are given as they are, or the bytes of a range would be those of another thing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        whole = path.endswith(".zip") or ("/crashes/" in path and "/files/" in path) or "/documents/" in path
        whole = whole or path.startswith(gate.API)  # its strong ETags are of bytes as they are
        if whole:
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _guarded(request: Request, response: Response) -> Response:
    """Set what every answer carries."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    if request.url.scheme == "https":
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    if request.url.path.startswith("/static/") and response.status_code == 200:
        # the address holds a digest of the content
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    elif request.url.path.startswith(gate.API):
        response.headers.setdefault("Cache-Control", "no-store")  # an answer with an ETag says what it allows
        response.headers["Vary"] = "Authorization"
    else:
        response.headers["Cache-Control"] = "no-store"
        response.headers["Vary"] = "Accept-Language, Cookie"
    return response
