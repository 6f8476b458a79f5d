"""Cut the power of agent and dashcam around a collision, switch it on again, and say what is left: JSON in, JSON out.

Each line on stdin is one car: folder, kill_s (when, of the clock that begins 4 s before time zero), again ("boot": a
new boot, "process": the same one), film (a folder of films by the second at which they begin), samples (a .npy block)
and torn (a seed for what the last write left). Each line on stdout says what happened to one, and for
how long at most this machine let a process wait that wanted to run (late_s). Everything is imported
and warm before the first car; agent and dashcam of a car are forked from here and live on one clock, which runs in real
time until the power is cut and `AGAIN` times as fast after that.

For the cuts of a real disk (tests/kernel): `tell` drives without a cut and says meanwhile what is durable; `found` goes
on with what such a cut at kill_s left in the folder, `speed` times as fast. With `broker` (a URL) all is sent to a
receiver as well.
"""

import json
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent import clock

real_ns, real_wait = clock.monotonic_ns, clock.wait
AGAIN = 8.0
TIME = [mmap.mmap(-1, 64)]  # real ns at which the clock began, clock ns, speed; then the newest sample of both devices


SAYS: list[bool] = []  # not empty: what is durable is told


def set_clock(began_ns: int, clock_ns: int, speed: float) -> None:
    struct.pack_into("qqd", TIME[0], 0, began_ns, clock_ns, speed)


def scaled_ns() -> int:
    began_ns, clock_ns, speed = struct.unpack_from("qqd", TIME[0], 0)
    return int(clock_ns + (real_ns() - began_ns) * speed) if began_ns else int(clock_ns)  # stands until all are ready


def scaled_wait(event: threading.Event, seconds: float) -> bool:
    return real_wait(event, seconds / struct.unpack_from("d", TIME[0], 16)[0])


if __name__ == "__main__":  # a test that only wants the names below keeps its own clock
    clock.monotonic_ns, clock.wait = scaled_ns, scaled_wait

import cv2  # noqa: E402 — the clock is set before anybody imports it by name
import numpy as np  # noqa: E402

from agent.blocks import Block, empty_block  # noqa: E402
from agent.clip import clipper  # noqa: E402
from agent.clip.__main__ import main as cut_clip  # noqa: E402
from agent.daemon import Daemon, Place  # noqa: E402
from agent.dashcam.process import Dashcam  # noqa: E402
from agent.dashcam.segments import frame_times, segments  # noqa: E402
from agent.dashcam.settings import CameraSettings, DashcamConfig  # noqa: E402
from agent.dashcam.watch import VIDEO  # noqa: E402
from agent.incident.settings import IncidentSettings  # noqa: E402
from agent.link import BrokerSettings  # noqa: E402
from agent.records import Crash, Package  # noqa: E402
from agent.settings import AgentConfig  # noqa: E402
from agent.spine import Spine  # noqa: E402
from agent.store import Store  # noqa: E402
from agent.sync import SyncSettings  # noqa: E402
from agent.upload.settings import UploadSettings  # noqa: E402
from tests.agreed import AGREED  # noqa: E402
from tests.crashing import S  # noqa: E402
from tests.durable_said import say, speak_of_what_is_durable  # noqa: E402

START_S = 66
ZERO_S = 70
VIDEO_S = (3.0, 2.0)  # before and after time zero
BOOT = "b" * 32
AXES = range(60, 70)
PATIENCE_S = 90.0
EMULATED_S = 400.0  # the same in a guest on a busy machine
SETTINGS = AgentConfig(
    consent=AGREED,
    broker=BrokerSettings(url="mqtt://127.0.0.1:1"),  # nobody listens there
    incident=IncidentSettings(video_before_s=VIDEO_S[0], video_after_s=VIDEO_S[1]),
)
SYNC = SyncSettings(retry_s=0.1, retry_cap_s=0.3)
UPLOAD_BYTES_PER_S = 100_000  # so that a clip is under way for seconds
NEVER = threading.Event()


class Device:
    """Hands over its channels' samples as the clock passes them, and notes how far it came."""

    def __init__(self, name: str, samples: Block, slot: int) -> None:
        self.name = name
        self._samples, self._slot, self._at = samples, slot, 0
        self._closing = threading.Event()

    def open(self) -> None:
        self._at = int(np.searchsorted(self._samples["t"], scaled_ns()))
        struct.pack_into("q", TIME[0], 48, 1)

    def read(self, timeout_s: float) -> Block:
        clock.wait(self._closing, 0.1)  # as the inertial sensor's batches
        upto = int(np.searchsorted(self._samples["t"], scaled_ns()))
        block = self._samples[self._at : upto].copy() if upto > self._at else empty_block()
        self._at = max(upto, self._at)
        if len(block):
            struct.pack_into("q", TIME[0], 24 + 8 * self._slot, int(block["t"][-1]))
        return block

    def close(self) -> None:
        self._closing.set()


def cut_in_fork(command: list[str], *, input: str, **_: Any) -> "subprocess.CompletedProcess[str]":
    """Do what `python -m agent.clip` does, without its imports."""
    if SAYS:
        say("clip begins")
    child = os.fork()
    if not child:
        reads, writes = os.pipe()
        os.write(writes, input.encode())
        os.close(writes)
        os.dup2(reads, 0)
        sys.stdin = os.fdopen(0)
        code = 1
        try:
            cut_clip()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if SAYS:
        say("clip ends")
    return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(status), "", "it failed")


def forked(work: Any) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        running = work()
        signal.signal(signal.SIGTERM, lambda *_: running.stop())
        running.run()
        code = 0
    except BaseException as bug:
        sys.stderr.write(f"{bug!r}\n")
    finally:
        os._exit(code)


def settings(broker: str | None, bytes_per_s: int) -> AgentConfig:
    if broker is None:
        return SETTINGS
    upload = UploadSettings(max_bytes_per_s=bytes_per_s)
    return replace(SETTINGS, broker=BrokerSettings(url=broker), sync=SYNC, upload=upload)


def agent(given: dict[str, Any], boot: str, samples: Block) -> Daemon:
    slowly = UPLOAD_BYTES_PER_S if given.get("tell") else 0
    inertial = np.isin(samples["channel"], AXES)
    makers = [lambda: Device("imu", samples[inertial], 0), lambda: Device("rest", samples[~inertial], 1)]
    return Daemon(settings(given.get("broker"), slowly), Place(Path(given["folder"]), boot=boot), makers)


def dashcam(folder: Path, boot: str, films: Path, second: int) -> Dashcam:
    film = str(films / f"{second}.mp4")
    camera = CameraSettings(source=film, start_ns=(START_S + second) * S, width=128, height=72)
    return Dashcam(DashcamConfig(min_free_bytes=0, cameras={"front": camera}), folder / VIDEO, boot=boot)


def both(given: dict[str, Any], boot: str, samples: Block, second: int, clock_ns: int, speed: float) -> list[int]:
    """Start agent and dashcam, and the clock when both are ready."""
    folder, films = Path(given["folder"]), Path(given["film"])
    TIME[0][:] = bytes(64)
    set_clock(0, clock_ns, speed)
    pids = [
        forked(lambda: agent(given, boot, samples)),
        forked(lambda: dashcam(folder, boot, films, second)),
    ]
    state = folder / VIDEO / "front" / "health.json"
    begun = state.stat().st_mtime_ns if state.exists() else 0
    until_ns = real_ns() + 240 * S  # an emulated processor takes its time
    while real_ns() < until_ns and not struct.unpack_from("q", TIME[0], 48)[0]:
        real_wait(NEVER, 0.005)
    while real_ns() < until_ns and not (state.exists() and state.stat().st_mtime_ns > begun):
        real_wait(NEVER, 0.005)
    set_clock(real_ns(), clock_ns, speed)
    return pids


def end(pids: list[int], how: int) -> list[int]:
    for pid in pids:
        os.kill(pid, how)
    return [os.waitpid(pid, 0)[1] for pid in pids]


def tear(folder: Path, seed: int) -> None:
    """Leave behind what a last write that never came to its end leaves: half a page of log, a film without its end."""
    chance = random.Random(seed)
    wal = folder / "store.db-wal"
    if wal.exists() and chance.random() < 0.5:
        with wal.open("ab") as file:
            file.write(chance.randbytes(chance.randrange(1, 5000)))
    for part in (folder / VIDEO / "front").glob("*.part"):
        os.truncate(part, max(0, part.stat().st_size - chance.randrange(0, 2000)))


def left(folder: Path, kill_ns: int) -> dict[str, float]:
    """Say what the disk holds of the time before the cut, in s that are missing."""
    with Store.open(folder, read_only=True) as store:
        kept = store.read_block(START_S * S, kill_ns, BOOT)["t"]  # without what came after the cut
    shown = [t for s in segments(folder / VIDEO, "front", BOOT, 0, kill_ns) for t in frame_times(s).tolist()]
    newest = max(struct.unpack_from("qq", TIME[0], 24))  # that a device had handed over
    return {
        "telemetry_s": (newest - int(kept.max(initial=START_S * S))) / S if newest else 0.0,
        "video_s": (kill_ns - max((t for t in shown if t <= kill_ns), default=START_S * S)) / S,
        "newest_s": newest / S,
    }


def whole(folder: Path) -> bool:
    """Say whether every crash that is known has a package that expects no more."""
    with Store.open(folder, read_only=True) as store:
        crashes = {s.record.id for s in store.records(Crash)}
        packed = {s.record.incident for s in store.records(Package) if s.record.complete}
    return crashes <= packed


def sent(folder: Path) -> bool:
    """Say whether the receiver holds every record and every file of every package."""
    with Store.open(folder, read_only=True) as store:
        return store.positions() == store.heads() and all(p.acknowledged for p in store.uploads.packages())


def done(given: dict[str, Any]) -> bool:
    folder = Path(given["folder"])
    return whole(folder) and ("broker" not in given or sent(folder))


def car(given: dict[str, Any], samples: Block) -> dict[str, Any]:
    TIME[0] = mmap.mmap(-1, 64)
    folder, kill_ns = Path(given["folder"]), round(given["kill_s"] * S)
    pids = both(given, BOOT, samples, 0, START_S * S, 1.0)
    late_ns, woke_ns = 0, real_ns()
    while scaled_ns() < kill_ns:
        real_wait(NEVER, 0.002)
        before_ns, woke_ns = woke_ns, real_ns()
        late_ns = max(late_ns, woke_ns - before_ns)
    statuses = end(pids, signal.SIGKILL)
    kill_ns = scaled_ns()
    newest = struct.unpack_from("qq", TIME[0], 24)
    tear(folder, given["torn"])
    boot = BOOT if given["again"] == "process" else "c" * 32
    again_ns = kill_ns + S
    second = int(again_ns / S - START_S) + 1
    pids = both(given, boot, samples, second, again_ns, AGAIN)
    began_ns, least_ns = real_ns(), max(again_ns, ZERO_S * S) + 4 * S
    while scaled_ns() < least_ns or (not whole(folder) and real_ns() - began_ns < PATIENCE_S * S):
        real_wait(NEVER, 0.1)
    took_s = (scaled_ns() - again_ns) / S
    ended = end(pids, signal.SIGTERM)
    struct.pack_into("qq", TIME[0], 24, *newest)
    return {
        "given": given,
        "killed": statuses,
        "ended": ended,
        "kill_s": kill_ns / S,
        "whole": whole(folder),
        "whole_after_s": took_s,
        "late_s": late_ns / S,
        **left(folder, kill_ns),
    }


def told(given: dict[str, Any], samples: Block) -> dict[str, Any]:
    """Drive into the collision and on to `kill_s`, and until all is done; say what is durable; end well."""
    TIME[0] = mmap.mmap(-1, 64)
    SAYS.append(True)
    speak_of_what_is_durable()
    pids = both(given, BOOT, samples, 0, START_S * S, 1.0)
    folder, limit_ns = Path(given["folder"]), round((given["kill_s"] + EMULATED_S) * S)
    told_whole = False
    while scaled_ns() < given["kill_s"] * S or (scaled_ns() < limit_ns and not done(given)):
        real_wait(NEVER, 0.05)
        say(f"now {scaled_ns()} {max(struct.unpack_from('qq', TIME[0], 24))}")
        if scaled_ns() >= given["kill_s"] * S and not told_whole and whole(folder):
            told_whole = True
            say("whole")
    return {"given": given, "ended": end(pids, signal.SIGTERM), "whole": whole(folder)}


def found(given: dict[str, Any], samples: Block) -> dict[str, Any]:
    """Boot with what a cut left, and live on until all is done."""
    TIME[0] = mmap.mmap(-1, 64)
    again_ns = round(given["kill_s"] * S) + S
    second = min(int(again_ns / S - START_S) + 1, given["films"] - 1)
    pids = both(given, "c" * 32, samples, second, again_ns, given["speed"])
    began_ns, least_ns = real_ns(), max(again_ns, ZERO_S * S) + 4 * S
    while scaled_ns() < least_ns or (not done(given) and real_ns() - began_ns < EMULATED_S * S):
        real_wait(NEVER, 0.1)
    return {
        "given": given,
        "done": done(given),
        "ended": end(pids, signal.SIGTERM),
        "whole": whole(Path(given["folder"])),
    }


def main() -> None:
    cv2.setNumThreads(0)
    clipper.subprocess = SimpleNamespace(  # type: ignore[attr-defined]
        run=cut_in_fork, TimeoutExpired=subprocess.TimeoutExpired
    )
    samples: dict[str, Block] = {}
    cars: list[int] = []
    most = int(sys.argv[1])
    for line in sys.stdin:
        given = json.loads(line)
        if given["samples"] not in samples:
            samples[given["samples"]] = drive = np.load(given["samples"])
            s = SETTINGS
            Spine(s.fusion, s.detection, s.trips, crash=s.crash, boot=BOOT).step(drive)
        if len(cars) >= most:
            cars.remove(os.wait()[0])
        child = os.fork()
        if not child:
            said = {"given": given, "error": "the test itself failed"}
            try:
                work = told if given.get("tell") else found if given.get("found") else car
                said = work(given, samples[given["samples"]])
            except BaseException as bug:
                said["error"] = repr(bug)
            os.write(1, json.dumps(said).encode() + b"\n")
            os._exit(0)
        cars.append(child)
    for child in cars:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
