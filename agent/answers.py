"""Answers of a receiver that a device can believe: who runs the broker must not make it forget what nobody stored.

An answer (`ack`, `files`) is JSON; a receiver adds its key and its signature as the last two members, so that devices
and receivers of before read it as they did. The signature is Ed25519, by the key that signs commands, over a prefix of
its own and the bytes that stand before those members.
"""

import logging
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.chain import public_bytes
from agent.durable import sync_folder
from agent.messages import MessageError, check_signature

log = logging.getLogger(__name__)

PREFIXES: Final = {"ack": b"roadwitness ack\n", "files": b"roadwitness files\n"}
FILE: Final = "answers-are-signed"  # in the store's folder: a signed answer was had
UNBELIEVED: Final = "answer is not signed by a receiver that is trusted here"

_SEAL: Final = re.compile(rb',"key":"([0-9a-f]{64})","signature":"([0-9a-f]{128})"\}')
_SEAL_BYTES: Final = 217
_SAID: Final = b"A receiver signed its answers: unsigned ones are not believed. Remove this file to begin anew.\n"


def sign(what: str, payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return an encoded answer with the key and its signature; `what` is one of PREFIXES."""
    said = payload[:-1]  # without the brace
    signature = key.sign(PREFIXES[what] + said).hex()
    return said + f',"key":"{public_bytes(key).hex()}","signature":"{signature}"}}'.encode()


def signer(what: str, payload: bytes, trusted: Collection[str]) -> str:
    """Return which of `trusted` (raw public keys in hex) signed an answer; raise MessageError where none did."""
    found = _SEAL.fullmatch(payload, max(0, len(payload) - _SEAL_BYTES))
    if found is None or (key := found[1].decode()) not in trusted:
        raise MessageError(UNBELIEVED)
    check_signature(key, found[2].decode(), PREFIXES[what] + payload[: found.start()], UNBELIEVED)
    return key


def begin(folder: Path) -> None:
    """Believe only signed answers from now on, durable on return; raise OSError."""
    partial = folder / f".{FILE}.tmp"
    with open(partial, "wb") as file:
        file.write(_SAID)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, folder / FILE)
    sync_folder(folder)


class Belief:
    """Says which answers count: signed ones, and unsigned ones while no trusted receiver has ever signed any.

    Without a trusted key everything counts: then whoever runs the broker is believed. A receiver of before signs
    nothing; from its first signed answer on, also after a restart, nothing else moves a position or frees a file.
    """

    def __init__(self, folder: Path, trusted: Collection[str]) -> None:
        self._folder = folder
        self._trusted = frozenset(trusted)
        self._kept = self.strict = bool(self._trusted) and (folder / FILE).exists()

    def check(self, what: str, payload: bytes) -> None:
        """Raise MessageError for an answer that does not count."""
        if not self._trusted:
            return
        try:
            signer(what, payload, self._trusted)
        except MessageError:
            if self.strict:
                raise
            return
        self.strict = True
        if not self._kept:
            self._keep()

    def _keep(self) -> None:
        try:
            begin(self._folder)
        except OSError as trouble:
            log.warning("%s: cannot be written: %s; tried again", self._folder / FILE, trouble.strerror)
        else:
            self._kept = True
