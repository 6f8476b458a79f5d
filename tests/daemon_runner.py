"""Run the real daemon as a process, with a car whose samples come as time passes; for tests that kill it.

Argument: JSON with folder, boot, samples (a .npy block from t = 0), start_ns (of the clock), base_ns (when the car's
t = 0 is), speed (of the clock), daemon (settings), power_until_s (of the car; then it kills itself) and fault. The
clock runs `speed` times as fast as the machine's for every thread alike; it stands still until the car is first
opened, or moves at once with `at_once`. "car at <s>" on stderr says how far it came.
"""

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from agent import clock

GIVEN = json.loads(sys.argv[1])
SPEED = GIVEN.get("speed", 1.0)
real_ns, real_wait = clock.monotonic_ns, clock.wait
START_NS, REAL_START_NS = GIVEN["start_ns"], []


def scaled_ns() -> int:
    if not REAL_START_NS:
        return START_NS
    return START_NS + int((real_ns() - REAL_START_NS[0]) * SPEED)


def scaled_wait(event: threading.Event, seconds: float) -> bool:
    return real_wait(event, seconds / SPEED)


clock.monotonic_ns, clock.wait = scaled_ns, scaled_wait

import numpy as np  # noqa: E402 — the clock is set before anybody imports it by name

from agent.blocks import Block, empty_block  # noqa: E402
from agent.clock import NS_PER_S  # noqa: E402
from agent.config import build  # noqa: E402
from agent.daemon import Daemon, Place  # noqa: E402
from agent.link import BrokerSettings  # noqa: E402
from agent.settings import AgentConfig, DaemonSettings  # noqa: E402
from agent.watchdog import Watchdog  # noqa: E402
from tests.agreed import AGREED  # noqa: E402


class Car:
    """A device that gives what the car did since it was last asked, and misses what happens while nobody asks."""

    name = "car"

    def __init__(self) -> None:
        self._samples = np.load(GIVEN["samples"])
        self._at = 0
        self._said: int | str = -1
        self._closing = threading.Event()

    def open(self) -> None:
        if not REAL_START_NS:
            REAL_START_NS.append(real_ns())  # how long a start takes must not count SPEED times
        self._at = int(np.searchsorted(self._samples["t"], scaled_ns() - GIVEN["base_ns"]))

    def read(self, timeout_s: float) -> Block:
        clock.wait(self._closing, min(timeout_s, 0.1))
        if GIVEN.get("fault") == "bug":
            raise ZeroDivisionError("a bug in a driver")
        if GIVEN.get("fault") == "hang":
            real_wait(self._closing, 3600)
        if scaled_ns() - GIVEN["base_ns"] >= GIVEN.get("power_until_s", float("inf")) * NS_PER_S:
            os.kill(os.getpid(), signal.SIGKILL)
        upto = int(np.searchsorted(self._samples["t"], scaled_ns() - GIVEN["base_ns"]))
        block = self._samples[self._at : upto].copy() if upto > self._at else empty_block()
        block["t"] += GIVEN["base_ns"]
        self._at = max(upto, self._at)
        at_s = "over" if self._at == len(self._samples) else (scaled_ns() - GIVEN["base_ns"]) // 10_000_000_000 * 10
        if at_s != self._said:
            self._said = at_s
            sys.stderr.write(f"car at {at_s}\n")  # in one piece, beside the log's lines
        return block

    def close(self) -> None:
        self._closing.clear()


def main() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    # nobody listens at port 1
    settings = AgentConfig(
        broker=BrokerSettings(url="mqtt://127.0.0.1:1"),
        consent=AGREED,
        daemon=build(DaemonSettings, GIVEN.get("daemon", {}), "test"),
    )
    place = Place(Path(GIVEN["folder"]), boot=GIVEN["boot"], watchdog=Watchdog(GIVEN.get("notify", "")))
    daemon = Daemon(settings, place, [Car])
    if GIVEN.get("at_once"):
        REAL_START_NS.append(real_ns())
    signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
    daemon.run()


if __name__ == "__main__":
    main()
