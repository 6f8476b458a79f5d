"""The boxes, for the technician: those that wait for enrolment."""

from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response

from receiver import fleet
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.site import Site

Reader = Annotated[Person, Depends(needs("devices.read"))]


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""

    @app.api_route("/devices", methods=["GET", "HEAD"])
    def devices(request: Request, person: Reader) -> Response:
        waiting, total = fleet.pending(site.engine)
        return site.page(request, "devices.html", pending=waiting, waiting=total)
