"""The thread that runs sync: it steps when something happened, when something is new, and when a time has come."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent import clock, messages
from agent.clock import NS_PER_S
from agent.uplink import SyncStatus, Uplink

if TYPE_CHECKING:
    from agent.sync import Sync


class SyncThread(threading.Thread):
    """Runs a `Sync` until stopped; `wake` says that there is something new to send."""

    def __init__(self, sync: "Sync", uplink: Uplink, on_bug: Callable[[BaseException], None] | None = None) -> None:
        super().__init__(name="sync", daemon=True)
        self._sync = sync
        self._on_bug = on_bug
        self._woken = threading.Event()
        self._stopping = False
        uplink.on_happening(self.wake)

    @property
    def status(self) -> SyncStatus:
        """What sync is doing."""
        return self._sync.status

    def wake(self) -> None:
        """Look at once for something to do."""
        self._woken.set()

    def show(self, live: messages.Live) -> None:
        """Tell where the car is."""
        self._sync.show(live)
        self._woken.set()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop and disconnect; return when it is done or after `timeout_s`."""
        self._stopping = True
        self._woken.set()
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        """Step until stopped."""
        try:
            while not self._stopping:
                self._woken.clear()
                now_ns = clock.monotonic_ns()
                due_ns = self._sync.step(now_ns)
                if not self._stopping:
                    clock.wait(self._woken, max(0.0, (due_ns - now_ns) / NS_PER_S))
        except BaseException as bug:
            if self._on_bug is None:
                raise
            self._on_bug(bug)
        finally:
            self._sync.close()
