"""The gate: who asks, whether he may, and whether a form is our own.

Whatever is not listed as open is refused to nobody-knows-who before a byte of it is read. A route names the one right
that it needs; an app with a route that does not, does not start.
"""

import re
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from typing import Any, Final
from urllib.parse import quote, urlsplit

from fastapi import FastAPI, Request
from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from agent import enrolmentmessages, fittingmessages
from receiver import access
from receiver.access import Look
from receiver.people import secrets, sessions, tokens
from receiver.people.person import Person
from receiver.people.rights import RIGHTS

SIGN_IN: Final = "/sign-in"
API: Final = "/api/"
STATIC: Final = "/static/"
# Paths, as routes write them, that anybody may ask for.
OPEN: Final = frozenset(
    {
        SIGN_IN,
        "/sign-in/factor",
        "/sign-in/enrol",
        "/enter/{secret}",
        "/health",
        *enrolmentmessages.PATHS,
        fittingmessages.PATH,
    }
)
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
FIELD: Final = "csrf"  # of a form
HEADER: Final = "x-csrf"  # of a script that posts without a form
_COOKIE: Final = "session"
_HOST_COOKIE: Final = "__Host-session"  # browsers take it over https only, for this host and the whole of it
_OPEN_PATH: Final = re.compile("|".join(re.sub(r"\{\w+\}", "[^/]+", path) for path in sorted(OPEN)))


class StaleFormError(Exception):
    """A form without the token of the session under which it is sent."""


class UnguardedError(RuntimeError):
    """A route that names no right and is not listed as open."""


@cache
def needs(right: str) -> Callable[[Request], Awaitable[Person]]:
    """Return the dependency of a route that needs a right: it gives the person; KeyError for an unknown right."""
    known = RIGHTS[right]

    async def allowed(request: Request) -> Person:
        person: Person | None = request.state.person
        if person is None:
            raise HTTPException(401)
        if person.role not in known or not person.may(right):
            raise HTTPException(403)
        if request.method not in SAFE and request.state.session is not None:
            await own_form(request)
        return person

    allowed.right = right  # type: ignore[attr-defined]
    return allowed


async def own_form(request: Request) -> None:
    """Check that a form, or a script's request, carries the token of its session; raise StaleFormError."""
    said: Any = request.headers.get(HEADER)
    if said is None:
        said = (await request.form()).get(FIELD, "")
    if isinstance(said, UploadFile) or not secrets.same(said, request.state.session.csrf):
        raise StaleFormError


def is_open(path: str) -> bool:
    """Say whether anybody may ask for a path."""
    return path.startswith(STATIC) or _OPEN_PATH.fullmatch(path) is not None


def own_origin(request: Request) -> bool:
    """Say whether a page of our own sends this, as far as the browser tells; who tells nothing is not believed."""
    origin = request.headers.get("origin")
    if origin is not None:
        return origin == f"{request.url.scheme}://{request.headers.get('host', '')}"
    return request.headers.get("sec-fetch-site") == "same-origin"


async def recognise(request: Request, engine: Engine, now_ns: int) -> None:
    """Set `request.state.person` and `.session`, None for nobody."""
    request.state.person = request.state.session = None
    if request.url.path.startswith(API):  # no cookie counts there: a page of a stranger could send it along
        token = await run_in_threadpool(tokens.find, engine, request.headers.get("authorization", ""), now_ns)
        if token is not None:
            request.state.person, first = token
            if first:
                look = Look(request.state.person.name, client(request), "", "", "token")
                await run_in_threadpool(access.append, engine, look, now_ns)
        return
    if cookie := request.cookies.get(cookie_name(request)):
        found = await run_in_threadpool(sessions.find, engine, cookie, now_ns)
        request.state.session = found
        if found is not None and found.stage == sessions.WHOLE:
            request.state.person = found.person


def client(request: Request) -> str:
    """Return the address from which somebody asks."""
    return request.client.host if request.client else ""


def turned_away(request: Request) -> Response | None:
    """Return the way to the sign-in for a page that somebody asks for; None where only a refusal helps."""
    mode = request.headers.get("sec-fetch-mode", "navigate")
    if request.url.path.startswith(API) or request.url.path.endswith(".json") or mode != "navigate":
        return None
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(with_next(SIGN_IN, asked if request.method in SAFE else "/"), 303)


def with_next(path: str, wish: str) -> str:
    """Return an address of the sign-in that leads to a page afterwards."""
    return path if wish == "/" else f"{path}?next={quote(wish, safe='/')}"


def safe_next(text: str) -> str:
    """Return the page of ours that a link names, the first page for anything else."""
    parts = urlsplit(text) if text.isprintable() and len(text) <= 1000 else None
    inside = parts is not None and not parts.scheme and not parts.netloc
    return text if inside and re.match(r"/(?![/\\])", text) and "\\" not in text else "/"


def cookie_name(request: Request) -> str:
    """Return the name of the session's cookie."""
    return _HOST_COOKIE if request.url.scheme == "https" else _COOKIE


def give_cookie(request: Request, response: Response, token: str) -> None:
    """Give a session to the browser, until it is closed or the session ends.

    Lax, not Strict: a link in a letter leads to the page it names and not to the sign-in; forms have their token.
    """
    secure = request.url.scheme == "https"
    response.set_cookie(cookie_name(request), token, path="/", secure=secure, httponly=True, samesite="lax")


def take_cookie(request: Request, response: Response) -> None:
    """Take a session from the browser."""
    secure = request.url.scheme == "https"
    response.delete_cookie(cookie_name(request), path="/", secure=secure, httponly=True, samesite="lax")


def routes(app: FastAPI) -> Iterator[tuple[str, frozenset[str], str | None]]:
    """Yield path, methods and right of every route, those of routers that were included too."""
    try:
        from fastapi.routing import iter_route_contexts
    except ImportError:  # an older FastAPI puts them all into the app's own list
        listed: Any = app.routes
    else:
        listed = iter_route_contexts(app.routes)
    for route in listed:
        methods = frozenset(getattr(route, "methods", None) or ())
        yield str(route.path), methods, _right(getattr(route, "dependant", None))


def check(app: FastAPI) -> None:
    """Raise UnguardedError for a route that names no right and is not open."""
    for path, methods, right in routes(app):
        if right is None and path not in OPEN and not (path + "/").startswith(STATIC):
            raise UnguardedError(f"{', '.join(sorted(methods))} {path}: names no right; add Depends(needs(…))")


def _right(dependant: Any) -> str | None:
    if dependant is None:
        return None
    own = getattr(dependant.call, "right", None)
    return own if own is not None else next(filter(None, map(_right, dependant.dependencies)), None)
