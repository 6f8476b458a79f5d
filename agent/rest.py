"""How a feed rests: the vehicle is left alone, the device is read less often or not at all.

Two may ask for it, each of its own: power management while the car is parked (`begin`, `end`), and a technician who
needs the device (`lend`, `take_back`; agent.local.loans). A device is open only when neither wants it closed.
"""

import threading
from typing import Any, Final, Protocol, runtime_checkable

from agent import clock

READ_S: Final = 1.0  # longest read while resting: a driver notices so soon that it may ask again
OPEN_S: Final = 60.0  # a closed device's thread looks up so often


@runtime_checkable
class Pausing(Protocol):
    """A driver that asks the vehicle something, and can leave that."""

    def pause(self) -> None:
        """Ask nothing more, at once."""

    def resume(self) -> None:
        """Ask again."""


class Rest:
    """Set by the spine's thread, kept to by the feed's."""

    def __init__(self) -> None:
        self._awake = threading.Event()
        self._awake.set()
        self._may_open = threading.Event()
        self._may_open.set()
        self._called = threading.Event()
        self._pause_s = 0.0
        self._parked = False  # closed because the car is parked
        self.lent = False  # closed for a technician

    @property
    def closed(self) -> bool:
        """Say whether the device is to be closed."""
        return self._parked or self.lent

    @property
    def awake(self) -> bool:
        """Say whether the car is not parked."""
        return self._awake.is_set()

    def begin(self, driver: Any, pause_s: float, *, closed: bool) -> None:
        """Rest: wait `pause_s` after each read (0 for devices that are silent by themselves), or close."""
        self._pause_s, self._parked = pause_s, closed
        self._awake.clear()
        self._changed()
        self.apply(driver)

    def end(self, driver: Any) -> None:
        """Work again, at once; a device that is lent stays closed."""
        self._parked = False
        self._awake.set()
        self._changed()
        self.apply(driver)

    def lend(self) -> None:
        """Close the device, whatever the car does."""
        self.lent = True
        self._called.set()
        self._changed()

    def take_back(self) -> None:
        """Open the device again, unless it is closed because the car is parked."""
        self.lent = False
        self._called.clear()
        self._changed()

    def apply(self, driver: Any) -> None:
        """Let the driver ask the vehicle or not."""
        if isinstance(driver, Pausing):
            if self._awake.is_set():
                driver.resume()
            else:
                driver.pause()

    def read_s(self, usual_s: float) -> float:
        """Return how long a read may take."""
        return usual_s if self._awake.is_set() else READ_S

    def between_reads(self) -> None:
        """Wait as long as resting asks for; working again and `interrupt` end it."""
        if not self._awake.is_set() and self._pause_s:
            clock.wait(self._awake, self._pause_s)

    def between_attempts(self, seconds: float) -> None:
        """Wait before a lost device is tried again; lending it and `interrupt` end that."""
        clock.wait(self._called, seconds)

    def while_closed(self, stopping: threading.Event) -> None:
        """Wait until the device may be opened."""
        while self.closed and not stopping.is_set():
            clock.wait(self._may_open, OPEN_S)

    def interrupt(self) -> None:
        """End every wait: the feed stops."""
        self._awake.set()
        self._may_open.set()
        self._called.set()

    def _changed(self) -> None:
        if self.closed:
            self._may_open.clear()
        else:
            self._may_open.set()
