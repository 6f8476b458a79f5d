"""POST with an Idempotency-Key: the first request has the effect, the same again the same answer, for a day.

As draft-ietf-httpapi-idempotency-key-header-07 has it: another request under the same key is 422, one that comes while
the first is still worked on is 409.
"""

import json
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

from fastapi import Request, Response
from sqlalchemy import Engine, delete, select, update

from agent.clock import NS_PER_S
from receiver import db
from receiver.api.problems import ProblemError, wrong
from receiver.api.tables import answered

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
KEPT_NS: Final = 24 * 3600 * NS_PER_S
ABANDONED_NS: Final = 60 * NS_PER_S  # a request that is open so long died with its process
MOST_BODY: Final = 256 * 1024
_KEY: Final = re.compile(r"[\x21-\x7e]{1,128}")
_KEPT_HEADERS: Final = ("location", "etag", "content-type")


def once(engine: Engine, request: Request, who: str, now_ns: int, do: Callable[[], Response]) -> Response:
    """Do something unless this key has done it; raise ProblemError for a key that was used otherwise."""
    key = request.headers.get(HEADER)
    if key is None:
        return do()
    if not _KEY.fullmatch(key):
        raise wrong(HEADER, "use 1 to 128 visible ASCII characters")
    asked = _digest(request)
    mine = (answered.c.who == who, answered.c.key == key)
    before = _begin(engine, who, key, asked, now_ns)
    if before is not None:
        return _again(before, asked)
    try:
        answer = do()
    except BaseException:
        with engine.begin() as connection:  # nothing was done, or nobody knows: the same request may be tried again
            connection.execute(delete(answered).where(*mine, answered.c.state == "open"))
        raise
    headers = {n: v for n, v in answer.headers.items() if n.lower() in _KEPT_HEADERS}
    said = {"state": "done", "status": answer.status_code, "headers": json.dumps(headers), "body": bytes(answer.body)}
    with engine.begin() as connection:
        connection.execute(update(answered).where(*mine).values(**said))
    return answer


def _begin(engine: Engine, who: str, key: str, asked: str, now_ns: int) -> Any:
    """Take a key; return None where it is now ours, else the row that holds it."""
    t = answered
    row = {"who": who, "key": key, "request": asked, "state": "open", "made_utc_ns": now_ns}
    with engine.begin() as connection:
        abandoned = (t.c.state == "open") & (t.c.made_utc_ns <= now_ns - ABANDONED_NS)
        connection.execute(delete(t).where((t.c.made_utc_ns <= now_ns - KEPT_NS) | abandoned))
        taken: Any = db.upsert(connection, t, {**row, "status": 0, "headers": "{}", "body": b""}, ["who", "key"], {})
        if connection.execute(taken.returning(t.c.key)).scalar() is not None:
            return None
        return connection.execute(select(t).where(t.c.who == who, t.c.key == key)).one()


def _again(row: Any, asked: str) -> Response:
    if row.request != asked:
        raise ProblemError(422, "key-used-otherwise", f"{HEADER}: another request came under this key before")
    if row.state == "open":
        detail = "the first request with this key is still being answered"
        raise ProblemError(409, "still-being-answered", detail, headers={"Retry-After": "1"})
    headers = {**json.loads(row.headers), REPLAYED: "true"}
    return Response(bytes(row.body), row.status, headers)


def _digest(request: Request) -> str:
    told = sha256()
    for part in (request.method, request.url.path, request.url.query):
        told.update(part.encode() + b"\n")
    told.update(request.state.body)
    return told.hexdigest()
