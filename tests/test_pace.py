"""How full uploads keep a radio link: the pace against a link that loses packets, in virtual time."""

import heapq
import random
from typing import Final

import pytest

from agent.upload.pace import Pace
from agent.upload.settings import UploadSettings

S: Final = 1_000_000_000
SEGMENT, HEADERS = 1448, 66  # of a full Ethernet frame of 1514 bytes
TOPIC = 250  # beside each chunk: its topic, MQTT's and TLS's headers
ANSWERING_S = 0.03


def goodput(round_trip_s: float, loss: float, kbit_s: int, seed: int) -> float:
    """Return which share of a minute's link time a clip gets, where TCP is never the limit.

    TCP gives what it got in order only: behind a lost packet all waits for its repetition, a round trip and a quarter.
    """
    rnd, pace = random.Random(seed), Pace(UploadSettings())
    pace.begin(0)
    rate = kbit_s * 125
    size = left = rate * 60
    now = busy_until = delivered = answered = 0.0
    under_way: list[tuple[float, int, int, int]] = []

    def repeated() -> float:
        more = 0.0
        while rnd.random() < loss:
            more += 1.25 * round_trip_s
        return more

    while left or under_way:
        while left and len(under_way) < pace.window():
            chunk = min(pace.chunk(), left)
            left -= chunk
            for at in range(0, chunk + TOPIC, SEGMENT):
                busy_until = max(busy_until, now) + (min(SEGMENT, chunk + TOPIC - at) + HEADERS) / rate
                delivered = max(delivered, busy_until + round_trip_s / 2 + repeated())
            answered = max(answered, delivered + ANSWERING_S + round_trip_s / 2 + repeated())
            heapq.heappush(under_way, (answered, chunk, round(now * S), pace.acknowledged))
        now, chunk, sent_ns, then = heapq.heappop(under_way)
        pace.arrived(chunk, sent_ns, then, round(now * S))
    return size / now / (rate * SEGMENT / (SEGMENT + HEADERS))


@pytest.mark.parametrize(
    ("round_trip_s", "loss", "kbit_s", "least"),
    [
        (0.1, 0.01, 512, 0.95),
        (0.1, 0.10, 512, 0.95),
        (0.1, 0.10, 32, 0.95),
        (0.3, 0.02, 256, 0.95),
        (0.4, 0.05, 128, 0.94),
        (0.8, 0.01, 512, 0.92),  # the first seconds, until the rate is known, are 5 % of this minute
        (0.8, 0.10, 32, 0.93),
        (0.8, 0.10, 512, 0.40),  # a packet in ten waits for a second round trip, and half a megabyte behind it
    ],
)
def test_a_link_that_loses_packets_is_kept_full(round_trip_s: float, loss: float, kbit_s: int, least: float) -> None:
    shares = [goodput(round_trip_s, loss, kbit_s, seed) for seed in range(3)]
    assert sum(shares) / len(shares) >= least
