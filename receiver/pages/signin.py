"""Signing in and out."""

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException

from receiver.people import gate, invites, sessions
from receiver.site import Site


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""
    engine = site.engine

    @app.api_route(gate.SIGN_IN, methods=["GET", "HEAD"])
    def sign_in(request: Request) -> Response:
        if request.state.person is not None:
            return RedirectResponse(gate.safe_next(request.query_params.get("next", "/")), 303)
        return site.page(request, "signin.html")

    @app.api_route("/enter/{secret}", methods=["GET", "HEAD"])
    def invited(request: Request, secret: str) -> Response:
        invite = invites.find(engine, secret, site.now_ns())
        if invite is None:
            raise HTTPException(404)
        return site.page(request, "enter.html", invite=invite)

    @app.post("/enter/{secret}")
    def enter(request: Request, secret: str) -> Response:
        now_ns = site.now_ns()
        client = request.client.host if request.client else ""
        with engine.begin() as connection:
            invite = invites.use(connection, secret, now_ns)
            if invite is None:
                raise HTTPException(404)
            agent = request.headers.get("user-agent", "")
            token = sessions.begin(connection, invite.person.id, now_ns, address=client, agent=agent)
        answer = RedirectResponse("/", 303)
        gate.give_cookie(request, answer, token)
        return answer
