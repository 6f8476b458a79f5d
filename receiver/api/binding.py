"""Where a box binds itself to the car in which it was just fitted: by the insurer's one-time code and its own key."""

from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request, Response

from agent.fittingmessages import MOST_BYTES, PATH, decode_binding
from agent.messages import MessageError
from receiver.api.answers import JSON
from receiver.api.here import Here
from receiver.api.openapi import PREFIX
from receiver.api.problems import ProblemError
from receiver.api.route import BODY_LIMIT, TAKES
from receiver.people import gate, limits
from receiver.people.limits import Limit
from receiver.registry import bindings

# Many boxes are fitted in one yard behind one address; a code ends after five tries of its own, whoever tries.
TRIES: Final = Limit(20, 600)
_EXTRA: Final[dict[str, Any]] = {BODY_LIMIT: MOST_BYTES, TAKES: (JSON,)}


def add(router: APIRouter, site: Here) -> None:
    """Add the route; it stands in receiver.people.gate.OPEN and, being for boxes alone, not in the description."""

    @router.post(PATH.removeprefix(PREFIX), include_in_schema=False, openapi_extra=_EXTRA)
    def bind(request: Request) -> Response:
        """Bind a box to a car."""
        address, now_ns = gate.client(request), site.now_ns()
        key = f"binding {limits.of_address(address)}"
        tried = limits.attempt(site.engine, [(key, TRIES)], now_ns)
        if tried.wait_ns > 0:
            wait_s = str(-(-tried.wait_ns // 1_000_000_000))
            raise ProblemError(429, "too-many-requests", "too many attempts in vain", headers={"Retry-After": wait_s})
        try:
            asked = decode_binding(request.state.body)
        except MessageError as e:
            raise ProblemError(422, "not-valid", str(e)) from e
        made = bindings.bind(site.engine, asked.device, asked.vin, asked.code, now_ns, by=asked.device, address=address)
        with site.engine.begin() as connection:
            limits.forgive_one(connection, key)
        return Response(msgspec.json.encode({"device": made.device, "vin": made.vin}), 201, media_type=JSON)
