"""The thread that erases beside reception, also what another process left when it was killed."""

import logging
import threading
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from agent import clock
from receiver.filestore import FileStore
from receiver.registry import erasing

log = logging.getLogger(__name__)

EVERY_S: Final = 60.0  # a look costs one query while nothing is open


class Eraser(threading.Thread):
    """Does what was asked for until stopped; trouble is logged once and tried again."""

    def __init__(self, engine: Engine, files: FileStore | None) -> None:
        super().__init__(name="erasure", daemon=True)
        self._engine = engine
        self._files = files
        self._stopping = threading.Event()
        self._trouble = ""

    def stop(self, timeout_s: float = 5.0) -> None:
        """End after the step at hand."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        """Erase, look again, until stopped."""
        while not self._stopping.is_set():
            trouble = ""
            try:
                erasing.run(self._engine, self._files, clock.wall_ns(), self._stopping.is_set)
            except (DBAPIError, OSError) as e:
                trouble = str(e.orig if isinstance(e, DBAPIError) else e).strip().splitlines()[0]
                if trouble != self._trouble:
                    log.error("erasure: %s; tried again", trouble)
            self._trouble = trouble
            clock.wait(self._stopping, EVERY_S)
