"""Where boxes get their certificates: outside the sign-in, as a box has nothing yet but its key and a code.

A box is told what is wrong in one sentence. Who guesses codes waits longer each time, whatever process he asks.
"""

from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request, Response

from agent.enrolmentmessages import AUTHORITY_PATH, MOST_BYTES, PATH, RENEWAL_PATH, Granted
from receiver.api.answers import JSON
from receiver.api.here import Here
from receiver.api.openapi import PREFIX
from receiver.api.problems import ProblemError
from receiver.api.route import BODY_LIMIT, TAKES
from receiver.authority import enrolling, folder
from receiver.authority.enrolling import RefusedError
from receiver.authority.folder import AuthorityError
from receiver.people import gate, limits
from receiver.people.limits import Limit

# Many boxes are fitted in one yard behind one address, and a code has 80 bits: this is against load, not guessing.
WRONG: Final = Limit(20, 600)
_EXTRA: Final[dict[str, Any]] = {BODY_LIMIT: MOST_BYTES, TAKES: (JSON,)}


def add(router: APIRouter, site: Here) -> None:
    """Add the routes; they stand in receiver.people.gate.OPEN and, being for boxes alone, not in the description."""

    def limited(request: Request, what: str) -> str:
        key = f"{what} {limits.of_address(gate.client(request))}"
        tried = limits.attempt(site.engine, [(key, WRONG)], site.now_ns())
        if tried.wait_ns > 0:
            wait_s = str(-(-tried.wait_ns // 1_000_000_000))
            raise ProblemError(429, "too-many-requests", "too many attempts in vain", headers={"Retry-After": wait_s})
        return key

    def answered(request: Request, renewal: bool) -> Response:
        key = limited(request, "renewal" if renewal else "enrolment")
        try:
            if renewal:
                granted: Granted = enrolling.renew(site.engine, site.settings, request.state.body, site.now_ns())
            else:
                address = gate.client(request)
                granted = enrolling.enrol(site.engine, site.settings, request.state.body, address, site.now_ns())
        except RefusedError as e:
            raise ProblemError(e.status, "no-certificate", str(e)) from e
        except AuthorityError as e:
            raise ProblemError(503, "no-authority", "this receiver gives no certificates at present") from e
        with site.engine.begin() as connection:
            limits.forgive_one(connection, key)
        return Response(msgspec.json.encode(granted), 201, media_type=JSON)

    @router.post(PATH.removeprefix(PREFIX), include_in_schema=False, openapi_extra=_EXTRA)
    def enrol(request: Request) -> Response:
        """Give a certificate for a code."""
        return answered(request, renewal=False)

    @router.post(RENEWAL_PATH.removeprefix(PREFIX), include_in_schema=False, openapi_extra=_EXTRA)
    def renew(request: Request) -> Response:
        """Give the next certificate."""
        return answered(request, renewal=True)

    @router.get(AUTHORITY_PATH.removeprefix(PREFIX), include_in_schema=False)
    def authority() -> Response:
        """Give the root's certificate, which is public: a box compares it with the fingerprint in its code."""
        try:
            return Response(folder.root_pem(folder.folder_of(site.settings)), media_type="application/x-pem-file")
        except AuthorityError as e:
            raise ProblemError(404, "no-authority", "this receiver has no authority of its own") from e
