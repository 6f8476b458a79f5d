"""The own account of whoever is signed in: sessions, password, second factor, and the way out."""

from typing import Annotated, Final

from fastapi import Depends, FastAPI, Form, Request, Response
from fastapi.responses import RedirectResponse

from receiver import db
from receiver.pages.signin import Typed, enrolled, new_password_fault, offer, refused, seat, waiting
from receiver.people import accounts, factors, gate, nav, passwords, sessions, signing
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.people.signing import Outcome
from receiver.site import Site

Anybody = Annotated[Person, Depends(needs("account.use"))]
PASSWORD: Final = "/account/password"
FACTOR: Final = "/account/factor"
# what stands in a browser's User-Agent -> its name; the first that fits, for most of them name others too
BROWSERS: Final = (
    ("MicroMessenger/", "WeChat"),
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
SYSTEMS: Final = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("HarmonyOS", "HarmonyOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""
    engine, sealer = site.engine, factors.Sealer(site.settings)

    def account(request: Request, person: Person, wrong: tuple[str, str] = ("", "")) -> Response:
        with db.reading(engine) as connection:
            row = accounts.secrets_of(connection, person.name)
            left = accounts.codes_left(connection, person.id)
        return site.page(
            request,
            "account.html",
            422 if wrong[0] else 200,
            sessions=sessions.of_person(engine, person.id, site.now_ns()),
            own=request.state.session.id,
            browser=browser,
            factor=row is not None and bool(row.totp_secret),
            obliged=person.role in signing.OBLIGED,
            has_password=row is not None and bool(row.password),
            left=left,
            least=passwords.LEAST,
            field=wrong[0],
            wrong=wrong[1],
        )

    def judged(request: Request, password: str) -> tuple[Outcome, str]:
        """Return the outcome of the present password, and what to say where it is not right."""
        outcome = signing.password_again(engine, request.state.session, password, seat(request), site.now_ns())
        return outcome, waiting(site, request, outcome) or site.words_of(request).text("account.wrong")

    @app.api_route(nav.ACCOUNT, methods=["GET", "HEAD"])
    def show(request: Request, person: Anybody) -> Response:
        return account(request, person)

    @app.post("/account/sessions")
    def end(person: Anybody, session: Annotated[str, Form(max_length=64)] = "") -> Response:
        with engine.begin() as connection:
            sessions.end(connection, person.id, session)
        return RedirectResponse(nav.ACCOUNT, 303)

    @app.post(PASSWORD)
    def change(
        request: Request, person: Anybody, present: Typed = "", password: Typed = "", again: Typed = ""
    ) -> Response:
        if fault := new_password_fault(password, again, person.name):
            said = site.words_of(request).text(fault[1], least=passwords.LEAST, most=passwords.MOST)
            return account(request, person, (fault[0], said))
        outcome, said = judged(request, present)
        if not outcome.token:
            return refused(account(request, person, ("present", said)), outcome)
        kept = passwords.hashed(password)
        return anew(request, signing.change_password(engine, request.state.session, kept, seat(request), site.now_ns()))

    @app.api_route(FACTOR, methods=["GET", "HEAD"])
    def factor(request: Request, _: Anybody) -> Response:
        offered = offer(site, sealer, request.state.session)
        return site.page(request, "account_factor.html", **offered, field="", wrong="")

    @app.post(FACTOR)
    def take(request: Request, _: Anybody, present: Typed = "", code: Typed = "") -> Response:
        outcome, said = judged(request, present)
        field = "present"
        if outcome.token:
            outcome = signing.enrol(engine, sealer, request.state.session, code, seat(request), site.now_ns())
            if outcome.token:
                return enrolled(site, request, outcome, nav.ACCOUNT)
            field, said = "code", waiting(site, request, outcome) or site.words_of(request).text("door.code_wrong")
        offered = offer(site, sealer, request.state.session)
        page = site.page(request, "account_factor.html", 422, **offered, field=field, wrong=said)
        return refused(page, outcome)

    @app.post(FACTOR + "/remove")
    def remove(request: Request, person: Anybody, present: Typed = "") -> Response:
        outcome, said = judged(request, present)
        if not outcome.token or person.role in signing.OBLIGED:
            return refused(account(request, person, ("remove", said)), outcome)
        return anew(request, signing.remove_factor(engine, request.state.session, seat(request), site.now_ns()))

    @app.post("/sign-out")
    def sign_out(request: Request, _: Anybody) -> Response:
        signing.sign_out(engine, request.state.session, seat(request), site.now_ns())
        answer = RedirectResponse(gate.SIGN_IN, 303)
        gate.take_cookie(request, answer)
        return answer


def browser(agent: str) -> str:
    """Name a browser and its system as people call them, or repeat what it says it is."""
    names = [next((shown for sign, shown in table if sign in agent), "") for table in (BROWSERS, SYSTEMS)]
    return " · ".join(names) if all(names) else agent[:60]


def anew(request: Request, outcome: Outcome) -> Response:
    """Go back to the account with the session that replaces the old ones."""
    answer = RedirectResponse(nav.ACCOUNT, 303)
    gate.give_cookie(request, answer, outcome.token)
    return answer
