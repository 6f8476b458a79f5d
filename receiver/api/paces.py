"""How many requests a caller may make: so many at once, then so many a second; 429 says when the next fits."""

import threading
from typing import Final

from agent import clock
from agent.clock import NS_PER_S
from receiver.api.problems import ProblemError

PER_S: Final = 50.0  # of one caller at one process: a program that pages through everything does not slow others
AT_ONCE: Final = 200.0
MOST_CALLERS: Final = 10_000


class Paces:
    """A bucket for each caller (token bucket: RFC 2697's idea without colours)."""

    def __init__(self, per_s: float = PER_S, at_once: float = AT_ONCE) -> None:
        self.per_s, self.at_once = per_s, at_once
        self._lock = threading.Lock()
        self._held: dict[str, tuple[float, int]] = {}

    def take(self, who: str, now_ns: int | None = None) -> None:
        """Count a request; raise ProblemError where there were too many."""
        now = clock.monotonic_ns() if now_ns is None else now_ns
        with self._lock:
            held, since = self._held.get(who, (self.at_once, now))
            held = min(self.at_once, held + (now - since) / NS_PER_S * self.per_s)
            if held < 1.0:
                wait_s = max(1, round((1.0 - held) / self.per_s + 0.5))
                detail = f"more than {self.per_s:g} requests a second"
                raise ProblemError(429, "too-many-requests", detail, headers={"Retry-After": str(wait_s)})
            if len(self._held) >= MOST_CALLERS:
                self._held.clear()
            self._held[who] = (held - 1.0, now)
