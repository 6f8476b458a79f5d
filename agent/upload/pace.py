"""How much may be on the road: the link's measured rate times its delay, and not more than was allowed.

A chunk's rate sample is what was acknowledged between its sending and its acknowledgement (the estimator of BBR,
draft-ietf-ccwg-bbr, 4.1). What is on the road and how long that is the kernel tells (agent.tcp.road): behind a lost
packet all chunks stay unacknowledged while the link is empty, so that counting them would leave it so.
"""

import math
import statistics
from collections import deque
from typing import Final

from agent.clock import NS_PER_S
from agent.tcp import Road
from agent.upload.settings import LEAST_CHUNK, UploadSettings

# With this many times rate x round trip on the road a link stays full while TCP repeats what was lost: twice, as BBR
# has it, is enough only where nothing is lost …
GAIN: Final = 3.0
AT_LEAST_S: Final = 0.5  # … and so much at any rate; a crash record waits for it and the chunk that made it full.
# On a slow link a second's worth: there it holds too few packets for TCP to notice soon that one was lost.
SLOW_S: Final = 1.0
SLOW: Final = 65_536  # … up to so many bytes
# TCP knows a packet lost by three that came behind it (RFC 5681, 3.2), else by a time-out of seconds on a slow link.
LEAST: Final = 4 * 1448
SMALL_CHUNK: Final = 3 * LEAST_CHUNK  # its topic and checksum, 200 bytes, are 1.6 % of it
# Of a round trip that a chunk may take: twelve of them then last for twelve, and TCP holds back what came behind a
# lost packet, its repetition too, and the answers on their way back as well, for four or five.
OF_ROUND_TRIP: Final = 1.0
# Between two looks at the road: there is no sooner news of a slow link, and no later for a rate that was mistaken.
LOOK_NS: Final = (NS_PER_S // 50, NS_PER_S // 4)
# The median of so many rate samples counts: one good one says little where losses come in bursts, and a link that has
# just become slower is noticed after four. Before there are so many the greatest does, as BBR has it: each is bounded
# by what we dared to send, not by the link.
SAMPLES: Final = 7
FIRST: Final = 16_384  # bytes on the road before anything is known


class Pace:
    """Measures one connection; `begin` forgets what was known of the one before."""

    def __init__(self, settings: UploadSettings) -> None:
        self._settings = settings
        self._acknowledged = 0  # bytes since the connection began
        self._rates: deque[float] = deque(maxlen=SAMPLES)
        self._round_trip_s = 0.0
        self._credit = 0.0
        self._credit_ns = 0

    def begin(self, now_ns: int) -> None:
        """Forget what was measured."""
        self._rates.clear()
        self._round_trip_s = 0.0
        self._credit_ns = now_ns

    @property
    def acknowledged(self) -> int:
        """Bytes acknowledged so far: noted with each chunk that is sent."""
        return self._acknowledged

    def arrived(self, size: int, sent_ns: int, acknowledged_then: int, now_ns: int) -> None:
        """Take the acknowledgement of `size` bytes sent at `sent_ns`, when `acknowledged_then` were acknowledged."""
        self._acknowledged += size
        took_ns = max(1, now_ns - sent_ns)
        self._rates.append((self._acknowledged - acknowledged_then) / (took_ns / NS_PER_S))

    @property
    def rate(self) -> float:
        """Bytes a second that the link was lately seen to carry; 0 while unknown."""
        if len(self._rates) < SAMPLES:
            return max(self._rates, default=0.0)
        return statistics.median(self._rates)

    def chunk(self) -> int:
        """Return how large a chunk should be, in bytes."""
        longest_s = max(self._settings.chunk_s, OF_ROUND_TRIP * self._round_trip_s)
        fitting = int(self.rate * longest_s) // LEAST_CHUNK * LEAST_CHUNK
        return min(self._settings.chunk_bytes, max(SMALL_CHUNK, fitting))

    def most(self) -> int:
        """Return with how many bytes the road is full."""
        if not self._rates:
            return FIRST
        slow = min(SLOW, self.rate * SLOW_S)
        return round(max(LEAST, slow, self.rate * max(AT_LEAST_S, GAIN * self._round_trip_s)))

    def look_again_ns(self, road: Road) -> int:
        """Return after how long to look at a full road again; 0 while it has room for a chunk."""
        self._round_trip_s = road.round_trip_s
        over = road.undelivered - self.most()
        if over < 0:
            return 0
        soonest_ns, latest_ns = LOOK_NS
        return min(latest_ns, max(soonest_ns, round(over / self.rate * NS_PER_S))) if self.rate else latest_ns

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
