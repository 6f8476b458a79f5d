"""A video file as a camera: its pictures come when a camera would have given them, again from the start where asked."""

import threading
from typing import Any, Final

from agent import clock
from agent.clock import NS_PER_S
from drivers.camera import Wish

_NEVER: Final = threading.Event()  # waited on where only time passes


class Pace:
    """The time line of a file that is played; `waiting` is the picture whose time has not come."""

    def __init__(self, wish: Wish) -> None:
        self._pace = wish.pace
        self._begun_ns = clock.monotonic_ns()
        self._start_ns = wish.start_ns or self._begun_ns
        self._first_ns: int | None = None  # the file's own time of its first picture
        self._round_ns = 0  # what earlier rounds took
        self._end_ns = 0
        self.waiting: Any = None

    def times(self, pts_ns: int, dts_ns: int, length_ns: int) -> tuple[int, int]:
        """Return presentation and decoding time of a picture that lasts `length_ns`, on the monotonic clock."""
        if self._first_ns is None:
            self._first_ns = pts_ns
        base_ns = self._start_ns + self._round_ns - self._first_ns
        self._end_ns = max(self._end_ns, pts_ns + length_ns - self._first_ns)
        return base_ns + pts_ns, base_ns + dts_ns

    def again(self) -> None:
        """Go on with the beginning of the file."""
        self._round_ns += self._end_ns
        self._end_ns = 0

    def due(self, t_ns: int, timeout_s: float) -> bool:
        """Wait, no longer than `timeout_s`, until the picture of time `t_ns` is due; say whether it is."""
        if self._pace <= 0:
            return True
        due_ns = self._begun_ns + round((t_ns - self._begun_ns) / self._pace)
        wait_s = (due_ns - clock.monotonic_ns()) / NS_PER_S
        if wait_s > 0:
            clock.wait(_NEVER, min(wait_s, timeout_s))
        return wait_s <= timeout_s
