"""Claims: one address for owners and adjusters; what stands there is chosen by role, here and nowhere else."""

from typing import Annotated, Final, Protocol

from fastapi import Depends, FastAPI, Path, Request, Response
from starlette.exceptions import HTTPException

from receiver.pages import owner_claims
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.people.rights import OWNER
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


VIEWS: Final[dict[str, View]] = {OWNER: owner_claims}


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""
    owner_claims.add(app, site)

    @app.api_route("/claims", methods=["GET", "HEAD"])
    def listed(request: Request, person: Reader, page_number: PageNumber = 1) -> Response:
        return _view(person).listed(site, request, person, page_number)

    @app.api_route("/claims/{claim}", methods=["GET", "HEAD"])
    def one(request: Request, person: Reader, claim: ClaimId) -> Response:
        return _view(person).one(site, request, person, claim)


def _view(person: Person) -> View:
    found = VIEWS.get(person.role)
    if found is None:
        raise HTTPException(404)
    return found
