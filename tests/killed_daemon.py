"""Live many short lives of the real daemon on one store; test_bad_luck_kill ends each with `kill -9`.

Everything is imported and warm before the first life; each line of standard input, JSON with boot and start_ns, forks
one. On standard output, each line in one write: "born <pid>" · "seq <lane> <seq>" when records are durable ·
"upto <samples> <t_ns>" when samples of this life are · "gone <status> <t_ns>" when it is over. Clocks run SPEED times
as fast.
"""

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from agent import clock

SPEED = 100.0
S = 1_000_000_000
real_ns, real_wait = clock.monotonic_ns, clock.wait
BEGAN: list[int] = [0, 0]  # of this life: virtual and real ns


def scaled_ns() -> int:
    return BEGAN[0] + int((real_ns() - BEGAN[1]) * SPEED)


def scaled_wait(event: threading.Event, seconds: float) -> bool:
    return real_wait(event, seconds / SPEED)


clock.monotonic_ns, clock.wait = scaled_ns, scaled_wait

import numpy as np  # noqa: E402 — the clock is set before anybody imports it by name

from agent.blocks import BLOCK, Block  # noqa: E402
from agent.channels import number  # noqa: E402
from agent.config import build  # noqa: E402
from agent.daemon import Daemon, Place  # noqa: E402
from agent.link import BrokerSettings  # noqa: E402
from agent.settings import AgentConfig, DaemonSettings  # noqa: E402
from agent.spine import Spine  # noqa: E402
from agent.store import Store  # noqa: E402
from agent.watchdog import Watchdog  # noqa: E402
from tests.agreed import AGREED  # noqa: E402
from tests.durable_said import say, speak_of_what_is_durable  # noqa: E402

SETTINGS = AgentConfig(
    consent=AGREED,
    broker=BrokerSettings(url="mqtt://127.0.0.1:1"),  # nobody listens there
    daemon=build(DaemonSettings, {"crashes": {"minimal_after": 1000, "hold_after": 2000}}, "test"),
)
ROUND_S = 500  # the car drives for 120 s of these and brakes hard twice
SPEED_CHANNEL, RPM, ACCEL = number("Vehicle.Speed"), number("Obd.EngineSpeed"), number("Imu.Acceleration.Z")


def car(ticks: "np.ndarray[Any, np.dtype[np.int64]]") -> Block:
    """Return what the car does at these tenths of a second."""
    t_s = ticks / 10.0
    at_s = t_s % ROUND_S
    driving = at_s < 120.0
    speed = np.where(driving, np.minimum(at_s, 15.0), 0.0)
    for brake_s in (50.0, 90.0):
        speed = np.where((at_s >= brake_s) & (at_s < brake_s + 10), np.abs(at_s - brake_s - 2.0) * 7.0, speed)
    speed = np.clip(np.where(driving & (at_s > 110), (120 - at_s) * 1.5, speed), 0.0, 15.0)
    block = np.zeros(3 * len(ticks), BLOCK)
    block["t"] = np.repeat(ticks * (S // 10), 3)
    block["channel"] = np.tile([SPEED_CHANNEL, RPM, ACCEL], len(ticks))
    block["value"] = np.stack([speed, np.where(driving, 1500.0, 0.0), np.full(len(ticks), 9.81)], axis=1).ravel()
    return block


class Car:
    """The device."""

    name = "car"

    def __init__(self) -> None:
        self._next = 0
        self._closing = threading.Event()

    def open(self) -> None:
        self._next = scaled_ns() * 10 // S + 1

    def read(self, timeout_s: float) -> Block:
        clock.wait(self._closing, min(timeout_s, 0.2))
        upto = scaled_ns() * 10 // S + 1
        ticks, self._next = np.arange(self._next, upto), upto
        return car(ticks)

    def close(self) -> None:
        self._closing.clear()


def live(folder: Path, boot: str) -> None:
    daemon = Daemon(SETTINGS, Place(folder, boot=boot, watchdog=Watchdog("")), [Car])
    signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
    daemon.run()


def main() -> None:
    folder = Path(sys.argv[1])
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR)
    spine = Spine(SETTINGS.fusion, SETTINGS.detection, SETTINGS.trips)
    spine.step(car(np.arange(6000)))
    with Store.open(folder / "warm") as store:
        store.begin_boot("warm")
        store.append_block(car(np.arange(100)), last=True)

    speak_of_what_is_durable()
    for line in sys.stdin:
        given = json.loads(line)
        BEGAN[:] = [given["start_ns"], real_ns()]
        child = os.fork()
        if child == 0:
            code = 1
            try:
                say(f"born {os.getpid()}")
                live(folder, given["boot"])
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        say(f"gone {status} {scaled_ns()}")


if __name__ == "__main__":
    main()
