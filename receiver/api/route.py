"""How each request comes in: its body is bounded before anything reads it, and has the type that its route takes."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from receiver.api.answers import JSON
from receiver.api.here import enter
from receiver.api.paces import Paces
from receiver.api.problems import ProblemError, of_exception, response, wrong

MOST_JSON: Final = 64 * 1024
BODY_LIMIT: Final = "x-most-bytes"  # in a route's openapi_extra
TAKES: Final = "x-takes"  # media types, in a route's openapi_extra; JSON without it


_NUL: Final = "holds the character NUL, which no text has and PostgreSQL does not keep"
paces: Final = Paces()


class Bounded(APIRoute):
    """A route whose body is read here, up to its limit, and kept in `request.state.body`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        go_on = super().get_route_handler()
        extra = self.openapi_extra or {}
        most = int(extra.get(BODY_LIMIT, MOST_JSON))
        takes = tuple(extra.get(TAKES, (JSON,)))
        reads = self.body_field is not None or TAKES in extra

        async def answered(request: Request) -> Response:
            enter(request)
            try:
                return await bounded(request)
            except Exception as e:
                told = of_exception(e)
                if told is None:
                    raise  # the server's own handler answers it, and logs it
                return response(told)

        async def bounded(request: Request) -> Response:
            if request.state.person is not None:
                paces.take(request.state.person.id)
            if b"%00" in request.scope["query_string"]:
                raise wrong("query", _NUL)
            if request.headers.get("content-encoding", "identity").lower() != "identity":
                detail = "send the body as it is: packed ones are not unpacked here"
                raise ProblemError(415, "unsupported-media-type", detail, headers={"Accept-Encoding": "identity"})
            body = await _body(request, most if reads else 0)
            request.state.body = request._body = body
            if reads and body:
                kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if kind not in takes and not any(t == "*/*" for t in takes):
                    detail = f"{kind[:60] or 'a body without a type'} is not taken here; send {', '.join(takes)}"
                    raise ProblemError(415, "unsupported-media-type", detail, headers={"Accept": ", ".join(takes)})
                if kind == JSON and b"\\u0000" in body:
                    raise wrong("body", _NUL)
            return await go_on(request)

        return answered


async def _body(request: Request, most: int) -> bytes:
    told = request.headers.get("content-length", "0")
    if not told.isdigit() or len(told) > 18 or int(told) > most:
        raise _too_large(most)
    held = bytearray()
    try:
        async for piece in request.stream():
            held += piece
            if len(held) > most:
                raise _too_large(most)
    except ClientDisconnect as e:
        raise ProblemError(400, "cut-off", "the body ended early") from e
    return bytes(held)


def _too_large(most: int) -> ProblemError:
    detail = f"the body may have {most:,} bytes" if most else "this address takes no body"
    return ProblemError(413, "too-large", detail, headers={"Connection": "close"})
