"""The API as a family of routes beside the pages: `add(app, site)` mounts it under /api/v1."""

import json
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Response

from receiver.api import claims, decisions, devices, driving, evidence, insurance, quotes, registry, scores
from receiver.api.openapi import PREFIX, PROBLEMS, document
from receiver.api.route import Bounded
from receiver.people.gate import needs
from receiver.pricing import load_book
from receiver.site import Site


def add(app: FastAPI, site: Site) -> None:
    """Add the routes of the API, and its description at /api/v1/openapi.json."""
    made = router(site)
    text = json.dumps(document(made.routes), ensure_ascii=False).encode()

    @made.get("/openapi.json", include_in_schema=False, dependencies=[Depends(needs("account.use"))])
    def describe() -> Response:
        return Response(text, media_type="application/json")

    app.include_router(made)


def router(site: Site) -> APIRouter:
    """Return the routes of the API."""
    book = load_book()
    made = APIRouter(prefix=PREFIX, route_class=Bounded, responses=PROBLEMS)
    for family in (devices, driving, scores, evidence, registry):
        family.add(made, site)
    for priced in (quotes, insurance, claims, decisions):
        priced.add(made, site, book)
    return made


def described(site: Site) -> dict[str, Any]:
    """Return the description of the API."""
    return document(router(site).routes)
