"""Time-stamps of RFC 3161: a third party signs that a manifest existed at a time. Off until an authority is configured.

The authority sees a hash and nothing else. What it answers is checked at once, by the verifier's own reader, and kept
as `manifest.tsr` beside the manifest; the packager then lists it in the next edition.
"""

import hashlib
import http.client
import logging
import secrets
import urllib.error
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.x509 import Certificate

from agent.clock import NS_PER_S
from agent.errors import ConfigError, StoreError, UplinkError
from agent.evidence import verify_package as verifier
from agent.evidence.packager import read_manifest
from agent.evidence.settings import EvidenceSettings
from agent.evidence.verify_package import CHAIN, EARLIER, MANIFEST, TOKEN
from agent.incident.folder import folders, write_files

SHA256_ALGORITHM: Final = bytes.fromhex("300d06096086480165030402010500")  # AlgorithmIdentifier, NULL parameters
MOST_ANSWER: Final = 1 << 20

log = logging.getLogger("agent.evidence")


def query(data: bytes, nonce: int) -> bytes:
    """Write a TimeStampReq (RFC 3161, 2.4.1): SHA-256 imprint, no policy, nonce, and the wish for certificates."""
    imprint = _der(0x30, SHA256_ALGORITHM + _der(0x04, hashlib.sha256(data).digest()))
    number = nonce.to_bytes(nonce.bit_length() // 8 + 1, "big")
    return _der(0x30, _der(0x02, b"\x01") + imprint + _der(0x02, number) + _der(0x01, b"\xff"))


def stamp(data: bytes, settings: EvidenceSettings, authorities: list[Certificate]) -> bytes:
    """Have `data` stamped; return the authority's answer, checked. Raise UplinkError in one line."""
    where, nonce = settings.tsa_url, secrets.randbits(63)
    request = urllib.request.Request(
        where, query(data, nonce), {"Content-Type": "application/timestamp-query"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=settings.timeout_s) as response:
            answer: bytes = response.read(MOST_ANSWER)
    except (OSError, http.client.HTTPException, ValueError) as e:
        if isinstance(e, urllib.error.HTTPError):
            e.close()  # it holds the connection
        raise UplinkError(f"{where}: no time-stamp: {e}; check evidence.tsa_url and the link") from e
    try:
        token = verifier.read_token(answer, authorities)
        if not verifier.stamps(token, data):
            raise verifier.BadError("is a time-stamp of something else")
        if token.nonce != nonce:
            raise verifier.BadError("answers another question (its nonce differs)")
    except verifier.BadError as e:
        raise UplinkError(f"{where}: its answer {e}; check evidence.tsa_url and evidence.tsa_ca") from e
    return answer


class Stamper:
    """Has every package's manifest stamped once, in the background, for as long as it takes; legal to call often."""

    def __init__(self, packages: Path, settings: EvidenceSettings) -> None:
        """Raise ConfigError when the trusted certificates cannot be read."""
        self._packages = packages
        self._settings = settings
        try:
            self._authorities = verifier.read_authorities(settings.tsa_ca) if settings.tsa_ca else []
        except verifier.UnreadableError as e:
            raise ConfigError(f"evidence.tsa_ca: {e}") from e
        self._asking: tuple[Path, bytes, Future[bytes]] | None = None
        self._done: set[str] = set()
        self._wait_s = settings.retry_s
        self._next_ns = 0
        # one worker of its own: an authority that does not answer holds nobody up
        self._worker = ThreadPoolExecutor(1, "stamp") if settings.tsa_url else None

    def tend(self, now_ns: int) -> str | None:
        """Take what has come, ask for what is missing; return the incident whose token is now beside its manifest."""
        if self._worker is None:
            return None
        if self._asking is not None:
            folder, data, future = self._asking
            if not future.done():
                return None
            self._asking = None
            return self._take(folder, data, future, now_ns)
        if now_ns < self._next_ns:
            return None
        for folder in folders(self._packages):
            try:
                wanting = None if folder.name in self._done else self._wanting(folder)
            except (OSError, verifier.UnreadableError, msgspec.DecodeError) as e:
                log.debug("%s: cannot be looked at: %s", folder, e)  # removed just now, or told by the packager
                continue
            if wanting is not None:
                asked = self._worker.submit(stamp, wanting, self._settings, self._authorities)
                self._asking = (folder, wanting, asked)
                break
        return None

    def close(self) -> None:
        """Stop asking; what is under way ends by its time limit."""
        if self._worker is not None:
            self._worker.shutdown(wait=False, cancel_futures=True)

    def _wanting(self, folder: Path) -> bytes | None:
        """Return the manifest to stamp, None where there is none yet, or a complete one has its token."""
        read = read_manifest(folder)
        if read is None or (folder / TOKEN).exists():
            return None
        if not read[0]["complete"]:
            return None  # the edition that has everything is worth the token
        if self._stamped(folder, read[0]):
            self._done.add(folder.name)
            return None
        return (folder / MANIFEST).read_bytes()

    def _stamped(self, folder: Path, table: dict[str, Any]) -> bool:
        """Say whether an earlier manifest, with the same files, has a token: what lists a token needs none in turn."""
        names = {row["name"] for row in table["files"]}
        for name in names:
            if EARLIER.fullmatch(name) and f"{name[:-5]}.tsr" in names:
                earlier = msgspec.json.decode((folder / name).read_bytes())
                if _measured(earlier) == _measured(table):
                    return True
        return False

    def _take(self, folder: Path, data: bytes, future: "Future[bytes]", now_ns: int) -> str | None:
        try:
            token = future.result()
            if (folder / MANIFEST).read_bytes() != data:
                return None  # another edition has come: it wants its own
            write_files(folder, {TOKEN: token})
        except (UplinkError, StoreError, OSError) as e:
            log.warning("%s: %s; tried again in %.0f s", folder.name, e, self._wait_s)
            self._next_ns = now_ns + round(self._wait_s * NS_PER_S)
            self._wait_s = min(2 * self._wait_s, self._settings.retry_cap_s)
            return None
        self._wait_s = self._settings.retry_s
        return folder.name


def _measured(table: dict[str, Any]) -> dict[str, str]:
    """Return the hashes of the files that no packager writes."""
    ours = [CHAIN, *(row["name"] for row in table["files"] if row["name"].startswith("manifest-"))]
    return {row["name"]: row["sha256"] for row in table["files"] if row["name"] not in ours}


def _der(tag: int, contents: bytes) -> bytes:
    """Write one DER value of less than 128 bytes, which is all that a query needs."""
    assert len(contents) < 128
    return bytes((tag, len(contents))) + contents
