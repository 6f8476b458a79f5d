"""Run the real daemon through a collision and kill it: one child for each line of JSON on stdin, an answer for each.

A line holds folder, boot, start_s (of the clock and of the car), speed (of the clock), kill_s (when, null to let the
drive end) and samples (a .npy block). The answer is JSON: newest_ns, the last sample that a device had handed over
when the child was killed, latest_ns, that of either device, and late_s, for how long of the clock this machine let a
process wait that wanted to run. Children are forked, so that a start costs no imports; the clock is set before anybody
imports it by name.
"""

import json
import mmap
import os
import signal
import struct
import sys
import threading
from pathlib import Path
from typing import Any

from agent import clock

real_ns, real_wait = clock.monotonic_ns, clock.wait
BEGUN: dict[str, float] = {"real_ns": 0, "clock_ns": 0, "speed": 1.0}


def scaled_ns() -> int:
    """Return the clock, which stands still until the first device is opened: a start must not count `speed` times."""
    return (
        int(BEGUN["clock_ns"])
        if not BEGUN["real_ns"]
        else int(BEGUN["clock_ns"] + (real_ns() - BEGUN["real_ns"]) * BEGUN["speed"])
    )


def scaled_wait(event: threading.Event, seconds: float) -> bool:
    return real_wait(event, seconds / BEGUN["speed"])


clock.monotonic_ns, clock.wait = scaled_ns, scaled_wait

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

from agent.blocks import Block, empty_block  # noqa: E402
from agent.daemon import Daemon, Place  # noqa: E402
from agent.link import BrokerSettings  # noqa: E402
from agent.settings import AgentConfig  # noqa: E402
from agent.spine import Spine  # noqa: E402
from tests.agreed import AGREED  # noqa: E402
from tests.crashing import S  # noqa: E402

AXES = range(60, 70)


class Device:
    """Hands over its channels' samples as the clock passes them, and notes how far it came."""

    def __init__(self, name: str, samples: Block, noted: mmap.mmap, slot: int) -> None:
        self.name = name
        self._samples, self._noted, self._slot = samples, noted, slot
        self._at = 0
        self._closing = threading.Event()

    def open(self) -> None:
        BEGUN["real_ns"] = BEGUN["real_ns"] or real_ns()
        self._at = int(np.searchsorted(self._samples["t"], scaled_ns()))

    def read(self, timeout_s: float) -> Block:
        clock.wait(self._closing, 0.05)
        upto = int(np.searchsorted(self._samples["t"], scaled_ns()))
        block = self._samples[self._at : upto].copy() if upto > self._at else empty_block()
        self._at = max(upto, self._at)
        if len(block):
            struct.pack_into("q", self._noted, self._slot * 8, int(block["t"][-1]))
        return block

    def close(self) -> None:
        self._closing.set()


def child(given: dict[str, Any], noted: mmap.mmap, samples: Block) -> None:
    inertial: npt.NDArray[np.bool_] = np.isin(samples["channel"], AXES)
    settings = AgentConfig(broker=BrokerSettings(url="mqtt://127.0.0.1:1"), consent=AGREED)  # nobody listens there
    makers = [
        lambda: Device("imu", samples[inertial], noted, 0),
        lambda: Device("rest", samples[~inertial], noted, 1),
    ]
    BEGUN.update(clock_ns=given["start_s"] * S, speed=given["speed"])
    daemon = Daemon(settings, Place(Path(given["folder"]), boot=given["boot"]), makers)
    signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
    daemon.run()


def answer(given: dict[str, Any], samples: Block) -> dict[str, Any]:
    noted = mmap.mmap(-1, 16)
    pid = os.fork()
    if not pid:
        try:
            child(given, noted, samples)
            os._exit(0)
        except BaseException as bug:
            sys.stderr.write(f"{bug!r}\n")
            os._exit(1)
    never = threading.Event()
    until_ns = (given["kill_s"] if given["kill_s"] is not None else given["end_s"]) * S
    newest, late_ns, woke_ns = 0, 0, real_ns()
    while newest < until_ns and os.waitpid(pid, os.WNOHANG) == (0, 0):
        real_wait(never, 0.001)
        before_ns, woke_ns = woke_ns, real_ns()
        late_ns = max(late_ns, woke_ns - before_ns)
        both = struct.unpack_from("qq", noted, 0)
        newest = min(both) if given["kill_s"] is None else both[0]  # an end waits for the slower device, too
    if given["kill_s"] is None:
        os.kill(pid, signal.SIGTERM)
    else:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    newest, other = struct.unpack_from("qq", noted, 0)
    return {
        "newest_ns": newest,
        "latest_ns": max(newest, other),
        "status": status,
        "late_s": late_ns / S * given["speed"],
    }


def main() -> None:
    s = AgentConfig()
    Spine(s.fusion, s.detection, s.trips).step(empty_block())  # everything that is imported late
    samples: dict[str, Block] = {}
    for line in sys.stdin:
        given = json.loads(line)
        if given["samples"] not in samples:
            samples[given["samples"]] = np.load(given["samples"])
        print(json.dumps(answer(given, samples[given["samples"]])), flush=True)


if __name__ == "__main__":
    main()
