"""Every error is one kind of answer: problem details (RFC 9457) that name the field and the reason."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from agent.errors import RoadwitnessError
from receiver import queries
from receiver.claiming.states import ClaimError
from receiver.pricing import QuoteError
from receiver.registry.refusals import RegistryError

log = logging.getLogger(__name__)

MEDIA: Final = "application/problem+json"
MOST_SHOWN: Final = 200  # characters of what was sent that an answer repeats


class Fault(BaseModel):
    """One field and what is wrong with it."""

    field: str = Field(description="Path of the field in the body, or the name of the parameter.")
    reason: str
    known: list[str] = Field(default_factory=list, description="What would be understood, where there is a list.")


class Problem(BaseModel):
    """Why a request was not done (RFC 9457)."""

    type: str = Field(description="urn:roadwitness:… or about:blank.", examples=["urn:roadwitness:not-valid"])
    title: str = Field(examples=["Not valid"])
    status: int = Field(examples=[422])
    detail: str = Field(default="", examples=["region: atlantis is no region of the tables"])
    faults: list[Fault] = Field(default_factory=list)


class ProblemError(Exception):
    """An answer that is a problem; `kind` becomes its type."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str = "",
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail = status, kind, detail
        self.faults, self.headers = list(faults), dict(headers or {})


def wrong(field: str, reason: str, known: Sequence[str] = ()) -> ProblemError:
    """Return the problem of one field."""
    return ProblemError(422, "not-valid", f"{field}: {reason}", [Fault(field=field, reason=reason, known=list(known))])


def missing() -> ProblemError:
    """Return the problem of what is not there, or not for this caller: he cannot tell which."""
    return ProblemError(404, "not-found")


def response(problem: ProblemError) -> Response:
    """Return a problem as an answer."""
    told: dict[str, Any] = {
        "type": f"urn:roadwitness:{problem.kind}",
        "title": problem.kind.replace("-", " ").capitalize(),
        "status": problem.status,
    }
    if problem.detail:
        told["detail"] = problem.detail
    if problem.faults:
        told["faults"] = [f.model_dump() for f in problem.faults]
    return Response(msgspec.json.encode(told), problem.status, problem.headers, MEDIA)


def of_exception(e: Exception) -> ProblemError | None:
    """Return what a handler's exception is told as; None for a defect of ours."""
    if isinstance(e, ProblemError):
        return e
    if isinstance(e, RoadwitnessError):
        return of_error(e)
    if isinstance(e, RequestValidationError):
        return of_validation(e)
    if isinstance(e, HTTPException):
        headers = {**(e.headers or {}), **({"WWW-Authenticate": "Bearer"} if e.status_code == 401 else {})}
        kind = HTTPStatus(e.status_code).phrase.lower().replace(" ", "-")
        return ProblemError(e.status_code, kind, headers=headers)
    if isinstance(e, DBAPIError):
        log.error("api: the database does not answer: %s", str(e.orig).strip().splitlines()[:1])
        return ProblemError(503, "database-away", "try again soon", headers={"Retry-After": "5"})
    if isinstance(e, queries.Altered):
        return ProblemError(500, "record-altered", "a stored record is no record any more; tell the insurer")
    return None


def of_error(e: RoadwitnessError) -> ProblemError:
    """Turn a refusal of ours into a problem: what is named by a field is 422, what does not fit its state 409."""
    if isinstance(e, QuoteError):
        fault = Fault(field=e.field, reason=e.reason, known=e.known[:100])
        return ProblemError(422, "not-valid", f"{e.field}: {e.reason}", [fault])
    if isinstance(e, ClaimError):
        if "there is none of that name" in str(e):
            return missing()
        if e.field in ("", "state"):
            return ProblemError(409, "does-not-fit", str(e))
        return ProblemError(422, "not-valid", str(e), [Fault(field=e.field, reason=str(e))])
    if isinstance(e, RegistryError):
        kind = {404: "not-found", 409: "does-not-fit"}.get(e.status, "not-valid")
        return ProblemError(e.status, kind, str(e), [Fault(field=e.field, reason=str(e))] if e.field else [])
    field, colon, reason = str(e).partition(": ")
    faults = [Fault(field=field, reason=reason)] if colon and field.isidentifier() else []
    return ProblemError(422, "not-valid", str(e), faults)


def of_validation(e: RequestValidationError) -> ProblemError:
    """Name each field and the reason; a body that is no JSON at all is 400."""
    errors = e.errors()
    if any(one["type"] == "json_invalid" for one in errors):
        said = errors[0].get("ctx", {}).get("error", "")
        return ProblemError(400, "no-json", f"the body is no JSON: {said}"[:MOST_SHOWN])
    faults = []
    for one in errors[:50]:
        where, *path = [str(part) for part in one["loc"]]
        field = ".".join(path) or where
        faults.append(Fault(field=field[:MOST_SHOWN], reason=one["msg"][:MOST_SHOWN]))
    detail = "; ".join(f"{f.field}: {f.reason}" for f in faults[:3])
    return ProblemError(422, "not-valid", detail, faults)
