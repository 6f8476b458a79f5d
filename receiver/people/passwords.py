"""Passwords: Argon2id with the second recommended parameters of RFC 9106 §4 (t=3, p=4, 64 MiB); docs/sources.md P1."""

import unicodedata
from threading import BoundedSemaphore
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

LEAST: Final = 12  # characters; NIST SP 800-63B asks for 8 beside a second factor, 15 alone
MOST: Final = 128
LEAST_DIFFERENT: Final = 5
_HASHER: Final = PasswordHasher(3, 65_536, 4, 32, 16, type=Type.ID)
# Of a password that nobody knows: a name that is not there takes as long as one that is.
_NOBODY: Final = "$argon2id$v=19$m=65536,t=3,p=4$2LSNvRgVhgghl7QvF6tJ0A$jFXn9m+V+6pwQp8Cr3CyxPrzu1TllSj8qlOmE9EXDlc"
_AT_ONCE: Final = BoundedSemaphore(2)  # each takes 64 MiB: a flood of sign-ins must not take the machine's memory


def hashed(password: str) -> str:
    """Return what is kept of a password, with its own salt."""
    with _AT_ONCE:
        return _HASHER.hash(_plain(password))


def matches(kept: str, password: str) -> bool:
    """Say whether a password is the one that was kept; without one it takes as long and is never so."""
    with _AT_ONCE:
        try:
            return _HASHER.verify(kept or _NOBODY, _plain(password)) and bool(kept)
        except (VerificationError, InvalidHashError):
            return False


def outdated(kept: str) -> bool:
    """Say whether a password was kept with other parameters than today's."""
    return _HASHER.check_needs_rehash(kept)


def fault(password: str, name: str) -> str:
    """Return what is wrong with a new password: the key of the words for it, empty where it will do."""
    plain = _plain(password)
    if len(plain) < LEAST:
        return "door.password_short"
    if len(plain) > MOST:
        return "door.password_long"
    if len(set(plain)) < LEAST_DIFFERENT or name.lower() in plain.lower() or "roadwitness" in plain.lower():
        return "door.password_simple"
    return ""


def _plain(password: str) -> str:
    # one form for what different keyboards send (RFC 8265 §4.2.2)
    return unicodedata.normalize("NFC", password[: 4 * MOST]).encode("utf-8", "replace").decode()
