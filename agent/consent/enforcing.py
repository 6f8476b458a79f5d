"""The owner's word made true on the device: what is recorded, what is filmed, and what must go (decision 0258).

Recording stops at once, with the next block of samples. Erasing needs the store to itself: sync and the clerk pause for
the fraction of a second that it takes, and it is begun again after a power cut, as long as anything is left.
"""

import logging
from pathlib import Path
from typing import Final, Protocol

from agent.clock import NS_PER_S
from agent.consent.consent import Consent
from agent.errors import StoreError
from agent.incident.folder import folders
from agent.incident.retention import removable, withdraw
from agent.store import Store

log = logging.getLogger(__name__)

# Crashes go when the receiver has them; a look costs a query and a folder.
LOOK_NS: Final = 60 * NS_PER_S
RETRY_NS: Final = 5 * NS_PER_S


class Worker(Protocol):
    """What the consent governs: the daemon."""

    def record(self, on: bool) -> None:
        """Record from now on, or no more."""

    def film(self, on: bool) -> None:
        """Let the cameras film, or not."""

    def pause(self) -> bool:
        """Stop what else writes or sends; say whether it has stopped."""

    def go_on(self) -> None:
        """Begin again what `pause` stopped."""

    def told(self, detail: str, *, wanting: bool = False) -> None:
        """Tell people; `wanting` says that somebody has to act."""


class Enforcing:
    """Holds the daemon to the consent; `step` belongs to the spine's thread."""

    def __init__(self, consent: Consent, store: Store, packages: Path, worker: Worker) -> None:
        self._consent = consent
        self._store = store
        self._packages = packages
        self._worker = worker
        self._look_ns = 0

    def begin(self, now_ns: int) -> None:
        """Apply what is known at the start."""
        self._worker.record(self._consent.allows("recording"))
        self._worker.film(self._consent.allows("video"))
        self._look_ns = now_ns + LOOK_NS
        if not self._consent.allows("recording"):
            self._worker.told(self._consent.reference, wanting=self._consent.awaited)

    def step(self, now_ns: int) -> None:
        """Heed what came; look once a minute for what must go."""
        if self._consent.step(now_ns):
            self._worker.record(self._consent.allows("recording"))
            self._worker.film(self._consent.allows("video"))
            self._look_ns = now_ns
        if self._consent.withdrawn and now_ns >= self._look_ns:
            self._look_ns = now_ns + (LOOK_NS if self._erase() else RETRY_NS)

    def _erase(self) -> bool:
        """Erase what is left; say whether that is done."""
        if not is_left(self._store, self._packages):
            return True
        try:
            if not self._worker.pause():
                return False
            detail = erase(self._store, self._packages)
        except StoreError as trouble:
            log.error("%s; the owner's data cannot be erased now and is tried again", trouble)
            return False
        finally:
            self._worker.go_on()
        self._worker.told(detail)
        return True


def clear(consent: Consent, store: Store, packages: Path) -> None:
    """Say what may be done, and erase what an erasure left that was cut, before anything else sees it."""
    log.info("%s", consent.reference)
    if consent.withdrawn and is_left(store, packages):
        try:
            erase(store, packages)
        except StoreError as trouble:
            log.error("%s; tried again", trouble)


def is_left(store: Store, packages: Path) -> bool:
    """Say whether anything is here that the owner does not agree to any more."""
    return store.to_erase() or removable(packages)


def erase(store: Store, packages: Path) -> str:
    """Erase all that tells of driving but crashes that the receiver does not hold; nobody else may use the store.

    Return one sentence. Raise StoreError where the disk refuses: legal again at any time.
    """
    withdraw(packages)
    standing = {folder.name for folder in folders(packages)}
    gone = {p.package.incident for p in store.uploads.packages()} - standing
    erased = store.erase(gone)
    detail = f"the owner agrees no more: erased {erased.records} records and {erased.samples} samples"
    log.warning("%s", detail)
    return detail
