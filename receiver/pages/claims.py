"""Claims: one address for owners and adjusters; what stands there is chosen by role, here and nowhere else."""

from typing import Annotated, Final, Protocol

from fastapi import Depends, FastAPI, Path, Request, Response
from starlette.exceptions import HTTPException

from receiver.pages import adjuster, adjuster_deeds, adjuster_disputes, owner_claims
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.people.rights import ADJUSTER, OWNER
from receiver.site import Site
from receiver.views import PageNumber

Reader = Annotated[Person, Depends(needs("claims.read"))]
ClaimId = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]


class View(Protocol):
    """What a role is shown; both answer 404 for what is beyond its reach."""

    def listed(self, site: Site, request: Request, person: Person, page_number: int) -> Response:
        """Answer with the list."""

    def one(self, site: Site, request: Request, person: Person, claim: str) -> Response:
        """Answer with one claim."""

    def refused(self, site: Site, request: Request, person: Person, claim: str, field: str, said: str) -> Response:
        """Answer 422 with one claim, and beside the field what is wrong."""


VIEWS: Final[dict[str, View]] = {OWNER: owner_claims, ADJUSTER: adjuster}


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""
    owner_claims.add(app, site, _refused)
    adjuster_deeds.add(app, site)
    adjuster_disputes.add(app, site)

    @app.api_route("/claims", methods=["GET", "HEAD"])
    def listed(request: Request, person: Reader, page_number: PageNumber = 1) -> Response:
        return _view(person).listed(site, request, person, page_number)

    @app.api_route("/claims/{claim}", methods=["GET", "HEAD"])
    def one(request: Request, person: Reader, claim: ClaimId) -> Response:
        return _view(person).one(site, request, person, claim)


def _refused(site: Site, request: Request, person: Person, claim: str, field: str, said: str) -> Response:
    return _view(person).refused(site, request, person, claim, field, said)


def _view(person: Person) -> View:
    found = VIEWS.get(person.role)
    if found is None:
        raise HTTPException(404)
    return found
