"""How a feed rests while the car is parked: the vehicle is left alone, the device is read less often or not at all."""

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
        self._pause_s = 0.0
        self.closed = False  # the device is to be closed

    def begin(self, driver: Any, pause_s: float, *, closed: bool) -> None:
        """Rest: wait `pause_s` after each read (0 for devices that are silent by themselves), or close."""
        self._pause_s, self.closed = pause_s, closed
        self._awake.clear()
        self.apply(driver)

    def end(self, driver: Any) -> None:
        """Work again, at once."""
        self.closed = False
        self._awake.set()
        self.apply(driver)

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

    def while_closed(self, stopping: threading.Event) -> None:
        """Wait until the device may be opened."""
        while self.closed and not stopping.is_set():
            clock.wait(self._awake, OPEN_S)

    def interrupt(self) -> None:
        """End every wait: the feed stops."""
        self._awake.set()
