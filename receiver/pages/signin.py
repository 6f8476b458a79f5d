"""Signing in: name and password, second factor, its enrolment, one-time links."""

from typing import Annotated, Any, Final

from fastapi import FastAPI, Form, Request, Response
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException

from agent.clock import NS_PER_S
from receiver import db
from receiver.people import accounts, factors, gate, invites, passwords, sessions, signing
from receiver.people.factors import Sealer
from receiver.people.signing import Outcome, Seat
from receiver.site import Site

STEPS: Final = {sessions.FACTOR: "/sign-in/factor", sessions.ENROL: "/sign-in/enrol"}
Typed = Annotated[str, Form(max_length=600)]
Next = Annotated[str, Form(max_length=1000, alias="next")]


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""
    engine, sealer = site.engine, Sealer(site.settings)

    @app.api_route(gate.SIGN_IN, methods=["GET", "HEAD"])
    def door(request: Request) -> Response:
        wish = gate.safe_next(request.query_params.get("next", "/"))
        if request.state.person is not None:
            return RedirectResponse(wish, 303)
        return site.page(request, "signin.html", name="", wish=wish, wrong="")

    @app.post(gate.SIGN_IN)
    def sign_in(request: Request, name: Typed = "", password: Typed = "", wish: Next = "/") -> Response:
        now_ns = site.now_ns()
        outcome = signing.with_password(engine, name.strip(), password, seat(request), now_ns)
        if outcome.token:
            return entered(request, outcome, wish)
        wrong = waiting(site, request, outcome) or site.words_of(request).text("door.wrong")
        values = {"name": name.strip()[:64], "wish": gate.safe_next(wish), "wrong": wrong}
        return refused(site.page(request, "signin.html", 422, **values), outcome)

    @app.api_route(STEPS[sessions.FACTOR], methods=["GET", "HEAD"])
    def factor(request: Request) -> Response:
        if half(request, sessions.FACTOR) is None:
            return RedirectResponse(gate.SIGN_IN, 303)
        return site.page(request, "factor.html", wish=gate.safe_next(request.query_params.get("next", "/")), wrong="")

    @app.post(STEPS[sessions.FACTOR])
    async def show_factor(request: Request, code: Typed = "", wish: Next = "/") -> Response:
        session = half(request, sessions.FACTOR)
        if session is None:
            return RedirectResponse(gate.SIGN_IN, 303)
        await gate.own_form(request)
        outcome = await run(signing.with_factor, engine, sealer, session, code, seat(request), site.now_ns())
        if outcome.token:
            return entered(request, outcome, wish)
        wrong = waiting(site, request, outcome) or site.words_of(request).text("door.code_wrong")
        return refused(site.page(request, "factor.html", 422, wish=gate.safe_next(wish), wrong=wrong), outcome)

    @app.api_route(STEPS[sessions.ENROL], methods=["GET", "HEAD"])
    def enrolment(request: Request) -> Response:
        session = half(request, sessions.ENROL)
        if session is None:
            return RedirectResponse(gate.SIGN_IN, 303)
        wish = gate.safe_next(request.query_params.get("next", "/"))
        return site.page(request, "enrol.html", **offer(site, sealer, session), wish=wish, wrong="")

    @app.post(STEPS[sessions.ENROL])
    async def enrol(request: Request, code: Typed = "", wish: Next = "/") -> Response:
        session = half(request, sessions.ENROL)
        if session is None:
            return RedirectResponse(gate.SIGN_IN, 303)
        await gate.own_form(request)
        outcome = await run(signing.enrol, engine, sealer, session, code, seat(request), site.now_ns())
        if outcome.token:
            return enrolled(site, request, outcome, gate.safe_next(wish))
        wrong = waiting(site, request, outcome) or site.words_of(request).text("door.code_wrong")
        values = {**offer(site, sealer, session), "wish": gate.safe_next(wish), "wrong": wrong}
        return refused(site.page(request, "enrol.html", 422, **values), outcome)

    @app.api_route("/enter/{secret}", methods=["GET", "HEAD"])
    def invited(request: Request, secret: str) -> Response:
        invite = invites.find(engine, secret, site.now_ns())
        if invite is None:
            return site.problem(request, 404, "link")
        return site.page(request, "enter.html", invite=invite, least=passwords.LEAST, wrong="", field="")

    @app.post("/enter/{secret}")
    def enter(request: Request, secret: str, password: Typed = "", again: Typed = "") -> Response:
        invite = invites.find(engine, secret, site.now_ns())
        if invite is None:
            return site.problem(request, 404, "link")
        kept = ""
        if invite.purpose == invites.FIRST:
            if fault := new_password_fault(password, again, invite.person.name):
                field, key = fault
                wrong = site.words_of(request).text(key, least=passwords.LEAST, most=passwords.MOST)
                values = {"invite": invite, "least": passwords.LEAST, "wrong": wrong, "field": field}
                return site.page(request, "enter.html", 422, **values)
            kept = passwords.hashed(password)
        outcome = signing.with_link(engine, secret, kept, seat(request), site.now_ns())
        return site.problem(request, 404, "link") if outcome is None else entered(request, outcome, "/")


async def run(do: Any, *given: Any) -> Any:
    """Do what waits for the database or a hash beside the event loop."""
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(do, *given)


def half(request: Request, stage: str) -> sessions.Session | None:
    """Return the session of somebody who gave his password and stands at this stage."""
    session: sessions.Session | None = request.state.session
    return session if session is not None and session.stage == stage else None


def seat(request: Request) -> Seat:
    """Return where somebody sits."""
    return Seat(gate.client(request), request.headers.get("user-agent", ""))


def offer(site: Site, sealer: Sealer, session: sessions.Session) -> dict[str, Any]:
    """Return what is shown for taking up a second factor."""
    with db.reading(site.engine) as connection:
        row = accounts.secrets_of(connection, session.person.name)
    if row is None:
        raise HTTPException(401)
    secret = sealer.offered(session.token, row.totp_secret)
    return {
        "picture": factors.picture(factors.address(secret, session.person.name)),
        "secret": factors.spaced(secret),
    }


def entered(request: Request, outcome: Outcome, wish: str) -> Response:
    """Give the cookie and go on: to the page that was wished, or to the next step of signing in."""
    wish = gate.safe_next(wish)
    answer = RedirectResponse(gate.with_next(STEPS[outcome.stage], wish) if outcome.stage in STEPS else wish, 303)
    gate.give_cookie(request, answer, outcome.token)
    return answer


def enrolled(site: Site, request: Request, outcome: Outcome, wish: str) -> Response:
    """Give the cookie and show the recovery codes, once."""
    answer = site.page(request, "codes.html", codes=outcome.codes, wish=wish)
    gate.give_cookie(request, answer, outcome.token)
    return answer


def refused(answer: Response, outcome: Outcome) -> Response:
    """Tell programs when to come again."""
    if outcome.wait_ns:
        answer.status_code = 429
        answer.headers["Retry-After"] = str(-(-outcome.wait_ns // NS_PER_S))
    return answer


def waiting(site: Site, request: Request, outcome: Outcome) -> str:
    """Say how long nothing more is tried, empty where it is not so."""
    words = site.words_of(request)
    return words.text("door.wait", duration=words.duration(-(-outcome.wait_ns // NS_PER_S))) if outcome.wait_ns else ""


def new_password_fault(password: str, again: str, name: str) -> tuple[str, str] | None:
    """Return the field that is wrong and the key of the words for it."""
    if fault := passwords.fault(password, name):
        return "password", fault
    return None if password == again else ("again", "door.password_differs")
