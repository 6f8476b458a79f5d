"""The description of the API: OpenAPI 3.1, made from the routes; structs of prices and scores describe themselves."""

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from receiver.api.problems import MEDIA, Problem
from receiver.api.route import TAKES
from receiver.people.rights import RIGHTS

PREFIX: Final = "/api/v1"
VERSION: Final = "1.0.0"
RIGHT: Final = "x-right"
REF: Final = "#/components/schemas/"
_structs: Final[dict[str, Any]] = {}
_ABOUT: Final = """Scores, prices, policies, claims and evidence of one insurer; trips for their owner alone.

Send a token of yours as `Authorization: Bearer …`; it carries rights, named at each address as `x-right`. Lists are
given in pieces: follow `next`. Answers have a strong `ETag`. A POST with an `Idempotency-Key` has one effect a day.
Errors are problem details (RFC 9457)."""
PROBLEMS: Final = {
    "400": "No JSON, or cut off",
    "401": "No token, or one that does not hold",
    "403": "The token carries no such right",
    "404": "Not there, or not yours",
    "409": "Does not fit what is there",
    "412": "Changed since it was read",
    "413": "Body too large",
    "415": "Body of another type",
    "422": "A field is wrong; it is named",
    "429": "Too many requests",
    "503": "The database is away",
}
_OF_CHANGES: Final = frozenset({"400", "409", "412", "415"})


def of_struct(kind: Any, status: int = 200) -> dict[str, Any]:
    """Return what a route says that answers a struct."""
    _structs[kind.__name__] = kind
    said = {"description": "Successful Response", "content": {"application/json": {"schema": _ref(kind)}}}
    return {"responses": {status: said}, "response_model": None}


def takes_struct(kind: Any) -> dict[str, Any]:
    """Return what a route says that takes a struct and reads its body itself, exact to the last decimal."""
    _structs[kind.__name__] = kind
    body = {"required": True, "content": {"application/json": {"schema": _ref(kind)}}}
    return {"openapi_extra": {"requestBody": body, TAKES: ["application/json"]}}


def document(routes: Sequence[Any]) -> dict[str, Any]:
    """Return the whole description."""
    made = get_openapi(
        title="Roadwitness", version=VERSION, openapi_version="3.1.0", description=_ABOUT, routes=list(routes)
    )
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    _, components = msgspec.json.schema_components(list(_structs.values()), ref_template=REF + "{name}")
    twice = schemas.keys() & components.keys()
    if twice:
        raise ValueError(f"schemas {', '.join(sorted(twice))}: two things have one name; rename one")
    schemas.update(components)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    own = Problem.model_json_schema(ref_template=REF + "{model}")
    schemas |= {**own.pop("$defs"), "Problem": own}
    made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"token": []}]
    rights = {(r.path, m.lower()): _right(r) for r in routes for m in getattr(r, "methods", ())}
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            _finish(operation, rights.get((path, method), ""), method == "get")
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


def _finish(operation: dict[str, Any], right: str, reads: bool) -> None:
    """Name the right, give problems their media type, and remove what only our own routes read, or cannot happen."""
    problem = {MEDIA: {"schema": {"$ref": REF + "Problem"}}}
    for status, said in PROBLEMS.items():
        if not (reads and status in _OF_CHANGES):
            operation["responses"][status] = {"description": said, "content": problem}
    operation[RIGHT] = right
    operation.pop(TAKES, None)
    operation.pop("x-most-bytes", None)
    roles = ", ".join(sorted(RIGHTS[right])) if right else "everybody"
    operation["description"] = f"{operation.get('description', '')}\n\nRight `{right}`: {roles}.".strip()


def _ref(kind: Any) -> dict[str, str]:
    return {"$ref": REF + kind.__name__}


def _right(route: Any) -> str:
    def find(dependant: Any) -> str:
        own = getattr(dependant.call, "right", None)
        return str(own) if own else next(filter(None, map(find, dependant.dependencies)), "")

    return find(route.dependant) if isinstance(route, APIRoute) else ""
