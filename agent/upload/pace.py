"""How much may be under way: the link's measured rate times its delay, and not more than was allowed.

A chunk's rate sample is what was acknowledged between its sending and its acknowledgement (the estimator of BBR,
draft-ietf-ccwg-bbr, 4.1); the window is a multiple of the usual rate times the shortest delay lately seen.
"""

import math
import statistics
from collections import deque
from typing import Final

from agent.clock import NS_PER_S
from agent.upload.settings import LEAST_CHUNK, UploadSettings

# With this many times rate x shortest delay under way a link stays full while TCP repeats what was lost: twice, as
# BBR has it, is enough only where nothing is lost …
GAIN: Final = 2.5
AT_LEAST_S: Final = 1.0  # … and so much at any rate; a crash record waits behind it
SMALL_CHUNK: Final = 2 * LEAST_CHUNK  # its topic and checksum, 200 bytes, are 2.5 % of it
EPOCH_NS: Final = 30 * NS_PER_S  # a shortest delay older than this is measured again …
DRAINED: Final = 4  # … by so many chunks with little under way, since a full window shows its own queue as delay
# The median of so many rate samples counts: one good one says little where losses come in bursts, and a link that has
# just become slower is noticed after four.
SAMPLES: Final = 7
FIRST_WINDOW: Final = 2  # before anything is known


class Pace:
    """Measures one connection; `begin` forgets what was known of the one before."""

    def __init__(self, settings: UploadSettings) -> None:
        self._settings = settings
        self._acknowledged = 0  # bytes since the connection began
        self._rates: deque[float] = deque(maxlen=SAMPLES)
        self._floors_ns = [0, 0]  # shortest delay of the last epoch and of this one; 0 while unknown
        self._epoch_ns = 0
        self._drain = 0
        self._credit = 0.0
        self._credit_ns = 0

    def begin(self, now_ns: int) -> None:
        """Forget what was measured."""
        self._rates.clear()
        self._floors_ns = [0, 0]
        self._epoch_ns = now_ns
        self._drain = 0
        self._credit_ns = now_ns

    @property
    def acknowledged(self) -> int:
        """Bytes acknowledged so far: noted with each chunk that is sent."""
        return self._acknowledged

    def arrived(self, size: int, sent_ns: int, acknowledged_then: int, now_ns: int) -> None:
        """Take the acknowledgement of `size` bytes sent at `sent_ns`, when `acknowledged_then` were acknowledged."""
        self._acknowledged += size
        took_ns = max(1, now_ns - sent_ns)
        if now_ns - self._epoch_ns > EPOCH_NS:
            self._floors_ns = [self._floors_ns[1], 0]
            self._epoch_ns = now_ns
            self._drain = DRAINED
        self._drain = max(0, self._drain - 1)
        self._floors_ns[1] = min(took_ns, self._floors_ns[1] or took_ns)
        self._rates.append((self._acknowledged - acknowledged_then) / (took_ns / NS_PER_S))

    @property
    def rate(self) -> float:
        """Bytes a second that the link was lately seen to carry; 0 while unknown."""
        return statistics.median(self._rates) if self._rates else 0.0

    def chunk(self) -> int:
        """Return how large a chunk should be, in bytes."""
        fitting = int(self.rate * self._settings.chunk_s) // LEAST_CHUNK * LEAST_CHUNK
        return min(self._settings.chunk_bytes, max(SMALL_CHUNK, fitting))

    def window(self) -> int:
        """Return how many chunks may be under way."""
        if not self._rates or self._drain:
            return min(FIRST_WINDOW, self._settings.window)
        floor_s = min(floor for floor in self._floors_ns if floor) / NS_PER_S
        in_a_second = int(self.rate * AT_LEAST_S / self.chunk())
        in_the_delay = math.ceil(self.rate * GAIN * floor_s / self.chunk())
        return min(self._settings.window, max(FIRST_WINDOW, in_a_second, in_the_delay))

    def wait_ns(self, size: int, now_ns: int) -> int:
        """Return for how long `size` more bytes must wait for `max_bytes_per_s`; 0 when they may go."""
        cap = self._settings.max_bytes_per_s
        if not cap:
            return 0
        most = float(max(cap, self._settings.chunk_bytes))
        self._credit = min(most, self._credit + cap * (now_ns - self._credit_ns) / NS_PER_S)
        self._credit_ns = now_ns
        return 0 if self._credit >= size else math.ceil((size - self._credit) / cap * NS_PER_S)

    def sent(self, size: int) -> None:
        """Count bytes against `max_bytes_per_s`."""
        if self._settings.max_bytes_per_s:
            self._credit -= size
