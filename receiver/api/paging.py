"""Lists are given in pieces: a cursor names the last item, so that what comes meanwhile moves nothing.

Lists run from the newest to the oldest, or by name; an item is given once, however many are added while a caller reads.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar

from fastapi import Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import ColumnElement, and_, or_

from receiver.api.problems import wrong

MOST: Final = 200
_LARGEST: Final = 2**63

T = TypeVar("T")
Row = TypeVar("Row")
Key = int | str

Limit = Annotated[int, Query(ge=1, le=MOST, description="How many items at most.")]
After = Annotated[
    str | None, Query(max_length=300, description="Cursor of the page before: take it from `next`, it has no meaning.")
]


class Items(BaseModel, Generic[T]):
    """A piece of a list."""

    items: list[T]
    next: str | None = Field(description="Address of the next piece; null at the end.")


class Order(NamedTuple):
    """By which columns a list runs: ascending or descending, together unique."""

    columns: Sequence[ColumnElement[Any]]
    kinds: Sequence[type[int] | type[str]]
    down: bool

    def beyond(self, after: str | None) -> list[ColumnElement[bool]]:
        """Return what is true of rows after a cursor."""
        if after is None:
            return []
        key = decode(after, self.kinds)
        ways = []
        for n, (column, value) in enumerate(zip(self.columns, key, strict=True)):
            same = [c == v for c, v in zip(self.columns[:n], key[:n], strict=True)]
            ways.append(and_(*same, column < value if self.down else column > value))
        return [or_(*ways)]

    @property
    def by(self) -> list[ColumnElement[Any]]:
        """Return what to order by."""
        return [c.desc() if self.down else c.asc() for c in self.columns]


def page(
    request: Request, rows: Sequence[Row], limit: int, key: Callable[[Row], tuple[Key, ...]]
) -> tuple[Sequence[Row], str | None]:
    """Cut what was read, one more than is given, and return it with the address of the next piece."""
    if len(rows) <= limit:
        return rows, None
    given = rows[:limit]
    return given, address(request, encode(key(given[-1])))


def address(request: Request, after: str) -> str:
    """Return this request's own path and parameters with another cursor."""
    url = request.url.include_query_params(after=after)
    return f"{url.path}?{url.query}"


def encode(key: tuple[Key, ...]) -> str:
    """Return a cursor."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def decode(after: str, kinds: Sequence[type[int] | type[str]]) -> list[Key]:
    """Return the key in a cursor of ours; raise ProblemError for anything else."""
    try:
        key = json.loads(base64.urlsafe_b64decode(after.encode() + b"=" * (-len(after) % 4)))
    except (binascii.Error, ValueError, RecursionError) as e:
        raise wrong("after", "is no cursor; take it from `next`") from e
    fits = isinstance(key, list) and len(key) == len(kinds)
    if not fits or any(type(value) is not kind for value, kind in zip(key, kinds, strict=True)):
        raise wrong("after", "is no cursor of this list; take it from `next`")
    if any(isinstance(v, int) and not -_LARGEST <= v < _LARGEST for v in key) or any("\0" in str(v) for v in key):
        raise wrong("after", "is no cursor of this list; take it from `next`")
    return [*key]
