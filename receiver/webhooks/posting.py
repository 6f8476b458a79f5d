"""One signed post: to the configured address and nowhere else, with a secret that is read when it is used.

The signature covers the time and the body, so that the other side can refuse what is old or was changed
(docs/api.md says how). Redirects are not followed: they would lead to addresses that nobody configured.
"""

import hashlib
import hmac
import http.client
import ssl
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agent.clock import NS_PER_S
from agent.errors import ConfigError

SIGNATURE: Final = "Roadwitness-Signature"  # t=SECONDS,v1=HEX of HMAC-SHA256(secret, "SECONDS." + body)
TIMEOUT_S: Final = 10.0
LEAST_SECRET: Final = 16
_AGAIN: Final = frozenset({408, 425, 429})  # of 4xx, those that may end


class RefusedError(Exception):
    """The other side will never take it."""


def check_address(url: str, named: str = "webhook.url") -> None:
    """Raise ValueError for an address that is not https, except on this machine."""
    at = urlsplit(url)
    if at.scheme not in ("http", "https") or not at.hostname or at.username or at.password:
        raise ValueError(f"{named} must be https://HOST/PATH, without a user or a password in it")
    if at.scheme == "http" and not here(at.hostname):
        raise ValueError(f"{named} must be https unless it is on this machine")


def here(host: str) -> bool:
    """Say whether a host is this machine itself."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def signature(secret: bytes, seconds: int, body: bytes) -> str:
    """Return what stands in the header: the other side computes the same and compares times and digests."""
    digest = hmac.new(secret, f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def secret_of(path: str, least: int = LEAST_SECRET) -> bytes:
    """Read a secret, never shown; raise ConfigError naming the file only."""
    try:
        found = Path(path).read_bytes().strip()
    except OSError as e:
        raise ConfigError(f"{path or 'secret file'}: cannot be read: {e.strerror}; check its owner") from e
    if len(found) < least:
        raise ConfigError(f"{path}: holds fewer than {least} bytes; make one with `openssl rand -hex 32`")
    return found


def post(url: str, secret: bytes, body: bytes, now_ns: int, headers: Mapping[str, str]) -> None:
    """Post JSON once; raise RefusedError where it will never be taken, OSError or HTTPException where it may."""
    at = urlsplit(url)
    if not at.hostname:
        raise RefusedError("no webhook is configured any more")
    sent = {
        "Content-Type": "application/json",
        "User-Agent": "roadwitness",
        **headers,
        SIGNATURE: signature(secret, now_ns // NS_PER_S, body),
    }
    target = (at.path or "/") + (f"?{at.query}" if at.query else "")
    connection: http.client.HTTPConnection
    if at.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(at.hostname, at.port, timeout=TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(at.hostname, at.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", target, body, sent)
        answer = connection.getresponse()
        answer.read(1000)
    finally:
        connection.close()
    if 200 <= answer.status < 300:
        return
    if 400 <= answer.status < 500 and answer.status not in _AGAIN:
        raise RefusedError(f"answered {answer.status}")
    raise OSError(f"answered {answer.status}")  # redirects too: it goes nowhere else
