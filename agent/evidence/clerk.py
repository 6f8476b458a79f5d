"""The thread that packs and stamps beside the spine: a package of video takes a second to read on a small computer."""

import threading
from collections.abc import Callable
from typing import Final

from agent import clock
from agent.evidence.packager import Packager
from agent.evidence.timestamp import Stamper

PERIOD_S: Final = 1.0  # between two looks at the folders, which cost microseconds where nothing changed


class Clerk(threading.Thread):
    """Tends the packager and the stamper once a second until `stop`.

    `on_told` is called when a `Package` record was stored, so that sync wakes; `on_bug` with what ended the thread.
    """

    def __init__(
        self,
        packager: Packager,
        stamper: Stamper,
        on_told: Callable[[], None],
        on_bug: Callable[[BaseException], None],
    ) -> None:
        super().__init__(name="evidence", daemon=True)
        self._packager = packager
        self._stamper = stamper
        self._on_told = on_told
        self._on_bug = on_bug
        self._stopping = threading.Event()

    def run(self) -> None:
        """Work until `stop`."""
        try:
            while not clock.wait(self._stopping, PERIOD_S):
                self.tend(clock.monotonic_ns())
        except BaseException as bug:  # the top of this thread
            self._on_bug(bug)

    def tend(self, now_ns: int) -> None:
        """Do one round; also what a replay calls in place of the thread, for it has no time to wait."""
        if self._packager.tend(now_ns):
            self._on_told()
        self._stamper.tend(now_ns)

    def stop(self, seconds: float = 5.0) -> None:
        """End after the work under way, before the store is closed; legal also where it was never started."""
        self._stopping.set()
        if self.is_alive():
            self.join(seconds)
        self._stamper.close()
