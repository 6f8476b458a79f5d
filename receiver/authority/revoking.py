"""The list of revoked certificates beside the authority, kept as the database says, for the broker to read.

It is written anew when something was revoked, blocked or unblocked, by whatever command or page; the broker reads it
at its reload signal (docs/security.md).
"""

import logging
import threading
from pathlib import Path
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from agent import clock
from receiver import db
from receiver.authority import enrolling, folder, issuing
from receiver.authority.folder import AuthorityError
from receiver.settings import ReceiverSettings

log = logging.getLogger(__name__)

LOOK_S: Final = 5.0  # between two looks for what was revoked


def write(engine: Engine, settings: ReceiverSettings, now_ns: int) -> Path:
    """Write the list and return its path; raise AuthorityError."""
    authority = folder.load(folder.folder_of(settings))
    with db.reading(engine) as connection:
        listed = enrolling.revoked(connection, now_ns)
    path = folder.crl_of(settings)
    try:
        folder.write(path, issuing.crl(authority, listed, now_ns))
    except OSError as e:
        raise AuthorityError(f"{path}: cannot be written: {e.strerror}") from e
    return path


class Revocations(threading.Thread):
    """Writes the list whenever it changed, until stopped; does nothing where there is no authority."""

    def __init__(self, engine: Engine, settings: ReceiverSettings) -> None:
        super().__init__(name="revocations", daemon=True)
        self._engine = engine
        self._settings = settings
        self._stopping = threading.Event()
        self._trouble = ""
        self._last: list[str] | None = None  # serial numbers on the list that this process wrote

    def stop(self) -> None:
        """End; legal also where it was never started."""
        self._stopping.set()
        if self.is_alive():
            self.join(5.0)

    def run(self) -> None:
        """Look until stopped."""
        while not self._stopping.is_set():
            self.look(clock.wall_ns())
            clock.wait(self._stopping, LOOK_S)

    def look(self, now_ns: int) -> bool:
        """Write the list if it changed since the last look; say whether it did. Trouble is logged, once."""
        if not folder.exists(folder.folder_of(self._settings)):
            return False
        try:
            with db.reading(self._engine) as connection:
                listed = [r.serial for r in enrolling.revoked(connection, now_ns)]
            if listed == self._last:
                return False
            write(self._engine, self._settings, now_ns)
        except (AuthorityError, DBAPIError) as e:
            if str(e) != self._trouble:
                log.error("the list of revoked certificates is not written: %s", str(e).splitlines()[0])
            self._trouble = str(e)
            return False
        self._trouble, self._last = "", listed
        return True
