"""How full uploads keep a radio link: the pace against a link that loses packets, in virtual time."""

import heapq
import random
from typing import Final

import pytest

from agent.tcp import Road
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
    rnd, settings = random.Random(seed), UploadSettings()
    pace = Pace(settings)
    pace.begin(0)
    rate = kbit_s * 125
    size = left = rate * 60
    now = busy_until = in_order = answered = 0.0
    chunks: list[tuple[float, int, int, int]] = []  # by the time of their answers
    on_the_road: list[tuple[float, int]] = []  # by the time at which the sender learns that they came

    def repeated() -> float:
        more = 0.0
        while rnd.random() < loss:
            more += 1.25 * round_trip_s
        return more

    while left or chunks:
        while on_the_road and on_the_road[0][0] <= now:
            heapq.heappop(on_the_road)
        while chunks and chunks[0][0] <= now:
            _, chunk, sent_ns, then = heapq.heappop(chunks)
            pace.arrived(chunk, sent_ns, then, round(now * S))
        next_s = chunks[0][0] if chunks else now
        while left and len(chunks) < settings.window:
            wait_ns = pace.look_again_ns(Road(sum(packet for _, packet in on_the_road), round_trip_s))
            if wait_ns:
                next_s = min(next_s, now + wait_ns / S)
                break
            chunk = min(pace.chunk(), left)
            left -= chunk
            for at in range(0, chunk + TOPIC, SEGMENT):
                packet = min(SEGMENT, chunk + TOPIC - at)
                busy_until = max(busy_until, now) + (packet + HEADERS) / rate
                came = busy_until + round_trip_s / 2 + repeated()
                heapq.heappush(on_the_road, (came + round_trip_s / 2, packet))
                in_order = max(in_order, came)
            answered = max(answered, in_order + ANSWERING_S + round_trip_s / 2 + repeated())
            heapq.heappush(chunks, (answered, chunk, round(now * S), pace.acknowledged))
            next_s = min(next_s, chunks[0][0])
        now = max(now, next_s)
    return size / now / (rate * SEGMENT / (SEGMENT + HEADERS))


@pytest.mark.parametrize(
    ("round_trip_s", "loss", "kbit_s", "least"),
    [
        (0.1, 0.01, 512, 0.98),
        (0.1, 0.10, 512, 0.98),
        (0.1, 0.10, 32, 0.96),
        (0.3, 0.02, 256, 0.96),
        (0.4, 0.05, 128, 0.94),
        (0.8, 0.01, 512, 0.94),  # the first seconds, until the rate is known, are 5 % of this minute
        (0.8, 0.10, 32, 0.94),
        (0.8, 0.10, 512, 0.85),  # a packet in ten waits for a second round trip
    ],
)
def test_a_link_that_loses_packets_is_kept_full(round_trip_s: float, loss: float, kbit_s: int, least: float) -> None:
    shares = [goodput(round_trip_s, loss, kbit_s, seed) for seed in range(3)]
    assert sum(shares) / len(shares) >= least
