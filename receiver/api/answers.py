"""How a handler answers: JSON with a strong ETag of its bytes; 304 to who has them, 412 to who read others."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, Final

import msgspec
from fastapi import Request, Response
from pydantic import BaseModel
from sqlalchemy import Engine, func, select

from receiver.api.problems import ProblemError

JSON: Final = "application/json"
_ADVISORY: Final = 7241  # PostgreSQL, with a hash of what is changed
_one_at_a_time: Final = threading.Lock()


def encoded(value: Any) -> bytes:
    """Return the bytes of an answer: the same for the same value."""
    if isinstance(value, BaseModel):
        return value.model_dump_json().encode()
    return msgspec.json.encode(value)


def etag(body: bytes) -> str:
    """Return the strong ETag of an answer."""
    return f'"{sha256(body).hexdigest()[:32]}"'


def answer(request: Request, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer a value; a caller who has the same bytes gets 304."""
    body = encoded(value)
    tag = etag(body)
    told = {"ETag": tag, "Cache-Control": "private, no-cache", **(headers or {})}
    if request.method in ("GET", "HEAD") and status == 200 and _named(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=told)
    return Response(body, status, told, JSON)


def unchanged(request: Request, value: Any) -> None:
    """Raise ProblemError where If-Match names another state than the present one."""
    wanted = request.headers.get("if-match")
    if wanted is not None and not _named(wanted, etag(encoded(value)), weak=False):
        raise ProblemError(412, "was-changed", "somebody changed it since you read it; read it again")


@contextmanager
def alone(engine: Engine, what: str) -> Iterator[None]:
    """Keep other requests of the API from changing the same thing between the check of If-Match and the change."""
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(_ADVISORY, func.hashtext(what))))
            yield
    else:
        with _one_at_a_time:
            yield


def _named(header: str, tag: str, weak: bool = True) -> bool:
    """Say whether a list of entity tags holds one (RFC 9110 §13.1): weakly for reading, strongly for changing."""
    tags = [t.strip() for t in header.split(",")]
    return "*" in tags or tag in tags or (weak and f"W/{tag}" in tags)
