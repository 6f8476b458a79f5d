"""Random secrets that are shown once and kept as hashes: cookies, links, tokens."""

import hmac
import secrets
from hashlib import sha256
from typing import Final

BYTES: Final = 32  # 256 bits: nobody guesses one, so a plain hash keeps it


def make() -> str:
    """Return a new secret of 256 bits, safe in an address and in a cookie."""
    return secrets.token_urlsafe(BYTES)


def name() -> str:
    """Return a new name for a row, 64 bits."""
    return secrets.token_hex(8)


def hashed(secret: str) -> str:
    """Return what is kept of a secret: SHA-256 in hex."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def derived(secret: str, purpose: str) -> str:
    """Return a secret that only the holder of another can know: HMAC-SHA-256 in hex."""
    return hmac.new(secret.encode(), purpose.encode(), sha256).hexdigest()


def same(one: str, other: str) -> bool:
    """Compare without telling by time where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))
