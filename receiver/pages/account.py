"""The own account of whoever is signed in: sessions, and the way out."""

from typing import Annotated

from fastapi import Depends, FastAPI, Form, Request, Response
from fastapi.responses import RedirectResponse

from receiver.people import gate, nav, sessions
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.site import Site

Anybody = Annotated[Person, Depends(needs("account.use"))]


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""
    engine = site.engine

    @app.api_route(nav.ACCOUNT, methods=["GET", "HEAD"])
    def account(request: Request, person: Anybody) -> Response:
        listed = sessions.of_person(engine, person.id, site.now_ns())
        return site.page(request, "account.html", sessions=listed, own=request.state.session.id)

    @app.post("/account/sessions")
    def end(person: Anybody, session: Annotated[str, Form(max_length=64)]) -> Response:
        with engine.begin() as connection:
            sessions.end(connection, person.id, session)
        return RedirectResponse(nav.ACCOUNT, 303)

    @app.post("/sign-out")
    def sign_out(request: Request, person: Anybody) -> Response:
        with engine.begin() as connection:
            sessions.end(connection, person.id, request.state.session.id)
        answer = RedirectResponse(gate.SIGN_IN, 303)
        gate.take_cookie(request, answer)
        return answer
