"""The API as a family of routes beside the pages: `add(app, site)` mounts it under /api/v1."""

import json
from functools import cache
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Response

from receiver.api import (
    binding,
    claims,
    decisions,
    devices,
    driving,
    enrolment,
    evidence,
    insurance,
    quotes,
    registry,
    scores,
    service,
)
from receiver.api.answers import JSON
from receiver.api.here import Here, belong
from receiver.api.openapi import PREFIX, document
from receiver.api.route import Bounded
from receiver.people.gate import needs
from receiver.pricing import load_book
from receiver.site import Site


def add(app: FastAPI, site: Site) -> None:
    """Add the routes of the API, and its description at /api/v1/openapi.json."""
    belong(app, site)
    app.include_router(router())


@cache
def router() -> APIRouter:
    """Return the routes of the API; they are the same for every receiver of a process."""
    here, book = Here(), load_book()
    made = APIRouter(prefix=PREFIX, route_class=Bounded)
    for family in (devices, driving, scores, evidence, service, registry, enrolment, binding):
        family.add(made, here)
    for priced in (quotes, insurance, claims, decisions):
        priced.add(made, here, book)

    @made.get("/openapi.json", include_in_schema=False, dependencies=[Depends(needs("account.use"))])
    def describe() -> Response:
        """Give the description of the API."""
        return Response(json.dumps(described(), ensure_ascii=False).encode(), media_type=JSON)

    return made


@cache
def described() -> dict[str, Any]:
    """Return the description of the API."""
    return document(router().routes)
