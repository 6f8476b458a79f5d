"""Ask the receiver as the technician who stands at the car: by his own token, over HTTPS, through its API.

A box may not end its binding by itself: what the owner agreed to ends with it, and a thief must not bring that about.
The token is used and forgotten.
"""

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from agent.errors import ConfigError, RoadwitnessError

TIMEOUT_S: Final = 20.0  # a mobile network that has just come up
MOST_ANSWER: Final = 64 * 1024
HERE: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class DeskError(RoadwitnessError):
    """The receiver cannot be asked, or refuses."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where the receiver's pages are, and as whom they are asked."""

    url: str  # https://…; http only to this machine itself
    token: str
    ca: str = ""  # PEM file; "" trusts the system's authorities

    def __post_init__(self) -> None:
        """Refuse an address that would tell the token to everybody."""
        parts = urlsplit(self.url)
        if parts.scheme == "https" and parts.hostname:
            return
        if parts.scheme == "http" and parts.hostname in HERE:
            return
        raise ConfigError(f"{self.url}: must begin with https://, as in https://receiver.example.org")

    def unbind(self, device: str, reason: str) -> None:
        """End a device's binding; raise DeskError."""
        self._post(f"devices/{device}/unbinding", {"reason": reason})

    def _post(self, path: str, body: dict[str, str]) -> dict[str, Any]:
        url = f"{self.url.rstrip('/')}/api/v1/{path}"
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
        opener = urllib.request.build_opener(
            _NoRedirect, urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._context())
        )
        try:
            with opener.open(request, timeout=TIMEOUT_S) as answer:
                said = json.loads(answer.read(MOST_ANSWER))
        except urllib.error.HTTPError as e:
            raise DeskError(f"{self.url}: {_refusal(e)}") from e
        except (OSError, ValueError) as e:
            reason = getattr(e, "reason", e)
            raise DeskError(f"{self.url}: the receiver cannot be asked: {reason}; check the network") from e
        return said if isinstance(said, dict) else {}

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca or None)
        except OSError as e:
            raise DeskError(f"{self.ca}: cannot be read as PEM: {e}") from e


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the token somewhere else."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""
        return


def token_of(path: str) -> str:
    """Return the token in a file; raise ConfigError."""
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: the token cannot be read: {e}") from e
    if not token.isprintable() or not 8 <= len(token) <= 512:
        raise ConfigError(f"{path}: holds no token; write the one from the receiver's page 'Account' there")
    return token


def _refusal(error: urllib.error.HTTPError) -> str:
    """Return what the receiver says, for people."""
    told = {401: "does not know this token", 403: "this token may not bind boxes; it takes a technician's"}
    try:
        said = json.loads(error.read(MOST_ANSWER))
        detail = str(said.get("detail") or said.get("title") or "") if isinstance(said, dict) else ""
    except (OSError, ValueError):
        detail = ""
    words = told.get(error.code) or detail or f"answers {error.code}"
    return f"the receiver refuses: {words[:300]}"
