"""The fake ELM327 in the simulated car: faults begin and end in the adapter's own thread."""

from collections import deque
from collections.abc import Callable
from typing import Final

from agent.clock import monotonic_ns
from sim.elm327 import FakeElm, Latency
from sim.elm_car import Car

LOOK_NS: Final = 50_000_000  # how soon a fault begins when nobody asks anything


class ElmInCar(FakeElm):
    """A fake adapter whose state may be changed from another thread."""

    def __init__(self, car: Car, latency: Latency) -> None:
        super().__init__(car, latency)
        self._model = self.name
        self._changes: deque[Callable[[], None]] = deque()

    def begin(self, fault: str) -> None:
        """Let a fault of sim.elm_faults begin soon."""
        self._changes.append(lambda: self.inject(fault))

    def end(self, fault: str) -> None:
        """End a fault soon."""
        self._changes.append(lambda: self._mend(fault))

    def next_ns(self) -> int:
        """Return when it says something, or looks for changes, next."""
        self._change()
        look_ns = monotonic_ns() + LOOK_NS
        said_ns = super().next_ns()
        return look_ns if said_ns is None else min(said_ns, look_ns)

    def receive(self, data: bytes, now_ns: int) -> None:
        """Take what the host writes."""
        self._change()
        super().receive(data, now_ns)

    def _change(self) -> None:
        while self._changes:
            self._changes.popleft()()

    def _mend(self, fault: str) -> None:
        self.clear(fault)
        self.name = self._model
