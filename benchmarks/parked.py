"""A parked agent: wake-ups, share of a core and memory, beside the same agent driving and a process that only waits.

The agent is a process of its own on the simulator's wires (slcan, ELM327, gpsd, 100 Hz inertial sensor), which drive
and then stand still with a silent bus. Nothing is the least that Python can do: wait for a second, again and again.
A wake-up is a voluntary context switch of any of the process's threads (/proc/PID/task/*/status).
"""

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.blocks import BLOCK, Block, join_blocks
from agent.channels import number
from agent.clock import monotonic_ns
from agent.config import config_dir
from benchmarks.daemon import PAGE, ROOT, TICKS
from drivers.decode.profile import load_profile
from sim.drive import simulate
from sim.tape import Tape, drive_tape
from sim.wires import Wires
from sim.wiring import driver_tables

DRIVE_S, PARKED_S = 20.0, 60.0
WARM_S, SETTLE_S = 15.0, 30.0
NOTHING = "import threading\ne = threading.Event()\nwhile True: e.wait(1.0)"
# The dwells of [power] shortened, so that nobody waits for three minutes; the parked state itself is the default's.
SHEET = {"sheet": "a virtual car"}
POWER = {"key_off_s": 2.0, "engine_off_s": 4.0, "standing_s": 6.0, "flush_s": 2.0}
STILL = [(number(f"Imu.Acceleration.{axis}"), g) for axis, g in zip("XYZ", (0.0, 0.0, 9.81), strict=True)]


@dataclass(frozen=True)
class Used:
    """What a process had used at one moment."""

    t: float
    wakes: int
    cpu_s: float
    rss: int


def main() -> None:
    """Print wake-ups, share of a core and memory of the agent parked and driving, and of a process that only waits."""
    with tempfile.TemporaryDirectory() as name:
        driving, parked, said = _agent(Path(name))
    waiting = subprocess.Popen([sys.executable, "-c", NOTHING])
    time.sleep(1.0)
    nothing = _watched(waiting.pid, 20.0)
    waiting.kill()
    waiting.wait()
    print(f"CAN (slcan), ELM327, gpsd, IMU 100 Hz; driving {DRIVE_S:.0f} s, parked {PARKED_S:.0f} s")
    print(f"no broker answers; {said}")
    print(f"  {'':24}{'driving':>12}{'parked':>12}{'only waits':>12}")
    rows = [_figures(*pair) for pair in (driving, parked, nothing)]
    for line, form in enumerate(
        (("wake-ups per second", "{:.1f}"), ("share of one core", "{:.2%}"), ("RSS, MB", "{:.0f}"))
    ):
        print(f"  {form[0]:24}" + "".join(f"{form[1].format(row[line]):>12}" for row in rows))
    wakes, share = (rows[0][line] / rows[1][line] for line in (0, 1))
    print(f"  parked wakes 1/{wakes:.0f} as often as driving and uses 1/{share:.0f} of the core")


def _agent(folder: Path) -> tuple[tuple[Used, Used], tuple[Used, Used], str]:
    tape = drive_tape(simulate("commute", 22, 10.0), config_dir(), load_profile("simcar", config_dir()))
    with Wires(folder / "car", tape) as wires:
        tables = driver_tables(wires) | {"broker": {"url": "mqtt://127.0.0.1:1"}, "power": POWER, "consent": SHEET}
        text = (f"[{n}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in t.items()) for n, t in tables.items())
        config = folder / "agent.toml"
        config.write_text("".join(text), encoding="utf-8")
        stop, still = threading.Event(), threading.Event()
        car = threading.Thread(target=_play, args=(tape, wires, stop, still))
        car.start()
        command = [sys.executable, "-m", "agent", "agent", "--config", str(config), "--store", str(folder / "store")]
        agent = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        said: list[str] = []
        assert agent.stderr is not None
        reader = threading.Thread(target=lambda: said.extend(agent.stderr or ()))
        reader.start()
        try:
            time.sleep(WARM_S)
            driving = _watched(agent.pid, DRIVE_S)
            still.set()
            until = time.monotonic() + 60
            while not any("parked: " in line for line in said):
                assert time.monotonic() < until, "".join(said)
                time.sleep(0.5)
            time.sleep(SETTLE_S)
            asked = wires.counts["obd_requests"]
            parked = _watched(agent.pid, PARKED_S)
            asked = wires.counts["obd_requests"] - asked
            threads = len(list(Path(f"/proc/{agent.pid}/task").iterdir()))
        finally:
            agent.send_signal(signal.SIGTERM)
            agent.wait()
            reader.join()
            stop.set()
            car.join()
    tape.close()
    return driving, parked, f"{threads} threads; parked, it sent {asked} requests to control units"


def _play(tape: Tape, wires: Wires, stop: threading.Event, still: threading.Event) -> None:
    """Drive until `still`, then stand: a silent bus, a resting battery, fixes of no speed, the noise of a sensor."""
    rng = np.random.default_rng(1)
    start_ns = monotonic_ns()
    done_ns = 0
    while not stop.wait(0.02):
        now_ns = monotonic_ns() - start_ns
        frames, block = tape.take(now_ns)
        if still.is_set():
            frames, block = [], _standing(done_ns, now_ns, block, rng)
        wires.play(frames, block, now_ns, start_ns, 1.0)
        done_ns = now_ns


def _standing(after_ns: int, until_ns: int, driven: Block, rng: np.random.Generator) -> Block:
    """Return what the sensors of a standing car say: of the drive's own fixes the times, with no speed."""
    fixes = driven[(driven["channel"] >= 40) & (driven["channel"] < 60)].copy()
    fixes["value"][fixes["channel"] == number("Gnss.Speed")] = 0.05
    t = np.arange(after_ns // 10_000_000 + 1, until_ns // 10_000_000 + 1) * 10_000_000
    inertial = np.empty((len(t), 3), BLOCK)
    inertial["t"] = t[:, None]
    inertial["channel"] = [channel for channel, _ in STILL]
    inertial["value"] = rng.normal([g for _, g in STILL], 0.02, (len(t), 3))
    volts = np.array([(until_ns, number("Obd.ControlModuleVoltage"), 12.5)], BLOCK)
    return join_blocks([fixes, inertial.ravel(), volts])


def _watched(pid: int, seconds: float) -> tuple[Used, Used]:
    before = _used(pid)
    time.sleep(seconds)
    return before, _used(pid)


def _used(pid: int) -> Used:
    wakes = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # a thread may end while we look
            text = (task / "status").read_text()
            wakes += int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0])
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Used(time.monotonic(), wakes, (int(stat[11]) + int(stat[12])) / TICKS, int(stat[21]) * PAGE)


def _figures(before: Used, after: Used) -> tuple[float, float, float]:
    """Return wake-ups per second, share of one core, and megabytes."""
    seconds = after.t - before.t
    return (
        (after.wakes - before.wakes) / seconds,
        max(after.cpu_s - before.cpu_s, 0.5 / TICKS) / seconds,
        after.rss / 1e6,
    )
