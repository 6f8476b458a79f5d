"""What the spine's thread and the local socket's have in common: a snapshot by reference, and two short queues.

Neither waits for the other and no lock is held. The spine shows a snapshot only while somebody asked lately.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from agent.clock import NS_PER_S
from agent.local.messages import Answer, AskLend, Fused, Line, Status, Value

WANTED_NS: Final = 3 * NS_PER_S  # after the last who asked


class Shown(NamedTuple):
    """One snapshot; nothing in it changes any more."""

    status: Status
    values: list[Value]
    fused: Fused | None
    lines: tuple[Line, ...]  # the latest, in order of their numbers


class Wish(NamedTuple):
    """A client asks for a device."""

    client: int
    asked: AskLend
    uid: int


class Told(NamedTuple):
    """An answer for one client."""

    client: int
    answer: Answer
    last: bool  # nothing follows: its connection ends


class Board:
    """`call` wakes the spine's thread, `ring` the socket's; both from any thread."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.ring: Callable[[], None] = _nobody
        self.shown: Shown | None = None
        self.wishes: deque[Wish] = deque()
        self.gone: deque[int] = deque()  # clients that had asked for a device
        self.told: deque[Told] = deque()
        self._wanted_ns: int | None = None

    def want(self, now_ns: int) -> None:
        """Note that somebody asks."""
        self._wanted_ns = now_ns + WANTED_NS

    def wanted(self, now_ns: int) -> bool:
        """Say whether somebody asked lately."""
        return self._wanted_ns is not None and now_ns < self._wanted_ns

    def show(self, shown: Shown) -> None:
        """Show how things stand now."""
        self.shown = shown
        self.ring()

    def tell(self, client: int, answer: Answer, *, last: bool = False) -> None:
        """Answer a client that asked for a device."""
        self.told.append(Told(client, answer, last))
        self.ring()


def _nobody() -> None:
    """Ring for a server that has not begun, or has ended."""
