"""The whole agent: two saturated buses, 200 Hz inertial sensor, satellites and OBD; then an hour of driving.

The kernel here has no CAN, so each bus is a loopback datagram socket that another process fills with the frames of a
simulated drive at the rate of a full 500 kbit/s bus; the other devices are the simulator's wires. The alternative
receives the same two buses with python-can, decodes with cantools and writes rows to SQLite: no other device, no
fusion, no detection, no signatures, no chain.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.config import config_dir
from benchmarks.livecan import FRAME, ROOT, _bus, _pair, _rows, _write
from drivers.decode.profile import load_profile
from sim.car import play
from sim.drive import Drive, simulate
from sim.encode import take
from sim.tape import drive_tape
from sim.wires import Wires
from sim.wiring import driver_tables

RATE, SECONDS, SETTLED_S = 4_000, 60.0, 15.0
THEIR_SECONDS = 20.0
HOUR_MIN, PACE = 60.0, 90
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Used:
    """What a process had used at one moment."""

    t: float
    cpu_s: float
    rss: int
    written: int


def main() -> None:
    """Print the share of a core, memory, disk and queue of the agent, beside the alternative's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drive = simulate("commute", 22, 15.0)
        packets = folder / "packets"
        _write(packets, _saturated(drive))
        _live(folder, drive, packets)
        _hour(folder)


def _live(folder: Path, drive: Drive, packets: Path) -> None:
    print(f"two buses of {RATE:,} frames/s, all of them mapped; IMU 200 Hz, satellites 10 Hz, ELM327; {SECONDS:.0f} s")
    ours, high_water, first_s = _agent(folder, drive, packets)
    theirs = _script(folder, packets)
    share, other = _share(ours), _share(theirs)
    print(f"  {'':36}{'agent':>12}{'alternative':>14}")
    print(f"  {'share of one core':36}{share:>12.1%}{other:>14.1%}   1/{other / share:.1f}")
    print(f"  {'resident memory at most, MB':36}{_rss(ours):>12.0f}{_rss(theirs):>14.0f}")
    print(f"  {'the same at the end, MB':36}{ours[-1].rss / 1e6:>12.0f}{theirs[-1].rss / 1e6:>14.0f}")
    print(f"  {'written to disk, MB per hour':36}{_written(ours):>12.0f}{_written(theirs):>14.0f}")
    print(f"  {'queue, most samples that waited':36}{high_water:>12,}   of 400,000")
    print(f"  {'start of the process to first sample':36}{first_s:>11.1f}s   stored on disk")


def _agent(folder: Path, drive: Drive, packets: Path) -> tuple[list[Used], int, float]:
    store, config = folder / "store", folder / "agent.toml"
    tape = drive_tape(drive, config_dir(), load_profile("simcar", config_dir()))
    pairs = [_pair(), _pair()]
    with Wires(folder / "car", tape) as wires:
        tables = {k: v for k, v in driver_tables(wires).items() if ".canbus." not in k}
        tables["drivers.imu.box"] |= {"rate_hz": 200}
        tables["broker"] = {"url": "mqtt://127.0.0.1:1"}  # nobody there: what a car without coverage does
        tables["consent"] = {"sheet": "a virtual car"}
        text = (f"[{n}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in t.items()) for n, t in tables.items())
        config.write_text("".join(text), encoding="utf-8")
        stop = threading.Event()
        car = threading.Thread(target=play, args=(tape, wires, stop))
        car.start()
        fds = [inner.fileno() for inner, _ in pairs]
        began = time.monotonic()
        agent = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._agent", str(config), str(store), *map(str, fds)],
            cwd=ROOT,
            pass_fds=fds,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        buses = [_bus(outer.fileno(), packets, RATE, SECONDS + SETTLED_S) for _, outer in pairs]
        first_s = _first_sample(store / "store.db") - began
        used = _watched(agent.pid, SECONDS)
        agent.send_signal(signal.SIGTERM)
        assert agent.stdout is not None
        said = json.loads(agent.stdout.read())
        agent.wait()
        stop.set()
        car.join()
        for bus in buses:
            bus.communicate()
    tape.close()
    return used, said["high_water"], first_s


def _script(folder: Path, packets: Path) -> list[Used]:
    pairs = [_pair(), _pair()]
    fds = [inner.fileno() for inner, _ in pairs]
    script = subprocess.Popen(
        [sys.executable, "-m", "benchmarks._script", str(folder / "rows.db"), *map(str, fds)],
        cwd=ROOT,
        pass_fds=fds,
        stderr=subprocess.DEVNULL,
    )
    buses = [_bus(outer.fileno(), packets, RATE, THEIR_SECONDS + 5) for _, outer in pairs]
    time.sleep(3.0)
    used = _watched(script.pid, THEIR_SECONDS)
    script.terminate()
    script.wait()
    for bus in buses:
        bus.communicate()
    return used


def _hour(folder: Path) -> None:
    """Let the daemon take an hour of driving many times as fast; print how its memory grew while the car drove."""
    from sim.record import write_drive

    log = write_drive(simulate("commute", 3, HOUR_MIN), folder / "hour")[0]
    config, store = folder / "hour.toml", folder / "hour-store"
    recording = f'[drivers.replay.hour]\nfiles = ["{log}"]\nprofile = "simcar"\npace = {PACE}\n'
    config.write_text(f'[broker]\nurl = "mqtt://127.0.0.1:1"\n{recording}', encoding="utf-8")
    agent = subprocess.Popen(
        [sys.executable, "-m", "benchmarks._agent", str(config), str(store)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    seen: list[tuple[float, int]] = []
    written = 0
    while agent.poll() is None:
        with suppress(OSError, sqlite3.Error):
            now = _used(agent.pid)
            written = now.written
            seen.append((_stored_s(store / "store.db"), now.rss))
        time.sleep(0.05)
    if agent.returncode:
        sys.exit(f"the agent ended: {agent.stderr.read() if agent.stderr else ''}")
    print(f"an hour of driving through the daemon, {PACE} times as fast")
    for share in (0.1, 0.25, 0.5, 0.75, 0.95):
        at = [rss for reached, rss in seen if reached >= share * HOUR_MIN * 60]
        print(f"  resident memory after {share * HOUR_MIN:4.0f} min: {at[0] / 1e6:6.1f} MB")
    print(f"  written to disk: {written / 1e6:.1f} MB")


def _saturated(drive: Drive) -> list[bytes]:
    """Return the frames of half a minute of driving, each as often as fills the bus."""
    half_minute = (drive.frames.t > 60e9) & (drive.frames.t < 90e9)
    ids = [e.message.id for e in load_profile("simcar", config_dir()).entries if e.takes]
    rows = np.flatnonzero(half_minute & np.isin(drive.frames.id, ids))
    part = take(drive.frames, slice(int(rows[0]), int(rows[-1]) + 1))
    keep = np.flatnonzero(np.isin(part.id, ids))
    often = max(1, round(RATE * 30 / len(keep)))
    packed = [FRAME.pack(*f) for f in _rows(part._replace(**{n: getattr(part, n)[keep] for n in part._fields}))]
    return [p for p in packed for _ in range(often)]


def _watched(pid: int, seconds: float) -> list[Used]:
    found = [_used(pid)]
    while found[-1].t < found[0].t + seconds:
        time.sleep(1.0)
        found.append(_used(pid))
    return found


def _used(pid: int) -> Used:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    io = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    cpu_s = (int(fields[11]) + int(fields[12])) / TICKS
    return Used(time.monotonic(), cpu_s, int(fields[21]) * PAGE, int(io["write_bytes"]))


def _share(used: list[Used]) -> float:
    return (used[-1].cpu_s - used[0].cpu_s) / (used[-1].t - used[0].t)


def _rss(used: list[Used]) -> float:
    return max(u.rss for u in used) / 1e6


def _written(used: list[Used]) -> float:
    return (used[-1].written - used[0].written) / (used[-1].t - used[0].t) * 3600 / 1e6


def _first_sample(database: Path) -> float:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            if connection.execute("SELECT COUNT(*) FROM piece").fetchone()[0]:
                return time.monotonic()
        time.sleep(0.01)
    sys.exit("the agent stored nothing within 30 s")


def _stored_s(database: Path) -> float:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        newest = "SELECT MAX(end_ns) FROM (SELECT end_ns FROM block UNION ALL SELECT end_ns FROM piece)"
        (end_ns,) = connection.execute(newest).fetchone()
    return (end_ns or 0) / 1e9
