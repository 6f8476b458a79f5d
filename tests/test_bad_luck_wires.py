"""The simulator's clock step, full queue and full disk: what they do on the wires, and to the agent that reads them.

Recovery: the queue keeps up again and the store takes records again within RECOVER_S of each fault's end, in real time.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.clock import NS_PER_S, monotonic_ns
from agent.config import config_dir
from agent.errors import ConfigError
from agent.records import Health
from agent.store import Store
from drivers.can.slcan import Slcan
from drivers.can.wire import CanSettings
from drivers.decode.profile import load_profile
from drivers.gps import Gps
from sim import disk
from sim.car import play
from sim.drive import simulate
from sim.elm327 import Latency
from sim.tape import Tape, drive_tape
from sim.wire_faults import FAULTS, FLOOD, plan
from sim.wires import Wires
from sim.wiring import agent_toml

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 30.0
RECOVER_S = 30.0


@pytest.fixture
def tape() -> Iterator[Tape]:
    made = drive_tape(simulate("calm-city", 3, 2.0), config_dir(), load_profile("simcar", config_dir()))
    yield made
    made.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 32 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], capture_output=True)


class Playing:
    """The car playing in a thread, with faults switched by the test."""

    def __init__(self, tape: Tape, wires: Wires, **how: Any) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=play, args=(tape, wires, self._stop), kwargs=how)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def until(found: Callable[[], bool], step: Callable[[], object]) -> None:
    deadline_ns = monotonic_ns() + round(PATIENCE_S * NS_PER_S)
    while not found():
        assert monotonic_ns() < deadline_ns, "it did not come"
        step()


def test_a_large_disk_is_never_filled_and_the_fault_needs_a_folder(tmp_path: Path, tape: Tape) -> None:
    with pytest.raises(ConfigError, match="at most 256 are filled; mount a small one"):
        disk.Disk(tmp_path)
    with pytest.raises(ConfigError, match="No such file"):
        disk.Disk(tmp_path / "none")
    with Wires(tmp_path, tape) as wires, pytest.raises(ConfigError, match="say with --disk"):
        play(tape, wires, threading.Event(), faults=plan(["disk-full@1"]))


def test_a_disk_is_filled_to_the_last_byte_and_freed_also_when_the_car_stops_meanwhile(small: Path, tape: Tape) -> None:
    with Wires(small / "car", tape, disk=small) as wires:
        FAULTS["disk-full"].switch(wires, True)
        with pytest.raises(OSError, match="No space left"):
            (small / "more").write_bytes(bytes(4096))
        FAULTS["disk-full"].switch(wires, False)
        (small / "more").write_bytes(bytes(4096))
        FAULTS["disk-full"].switch(wires, True)
    assert not (small / disk.BALLAST).exists()


def test_a_flood_is_more_than_a_bus_carries(tmp_path: Path, tape: Tape) -> None:
    with Wires(tmp_path, tape, latency=Latency()) as wires:
        (adapter,) = wires.can.values()
        wire = Slcan(CanSettings("slcan", str(adapter.path), bit_rate=500_000))  # type: ignore[union-attr]
        wire.open([])
        times: list[np.ndarray] = []
        with Playing(tape, wires):
            until(lambda: sum(map(len, times)) > 50, lambda: times.append(wire.read(0.1).t.copy()))
            calm = adapter.sent
            FAULTS["queue-full"].switch(wires, True)
            until(lambda: adapter.sent + adapter.lost > calm + 100 * FLOOD, lambda: wire.read(0.01))
            FAULTS["queue-full"].switch(wires, False)
        wire.close()


def test_a_gpsd_whose_clock_was_set_is_not_believed_and_fixes_go_on(tmp_path: Path, tape: Tape) -> None:
    with Wires(tmp_path, tape, latency=Latency()) as wires:
        assert wires.gpsd is not None
        gps = Gps(port=wires.gpsd.address[1])
        gps.open()
        assert wires.gpsd.watched.wait(PATIENCE_S)
        with Playing(tape, wires, speed=10.0):
            until(lambda: gps.counts["reports"] > 5, lambda: gps.read(0.2))
            assert gps.counts["refused_times"] == 0
            FAULTS["clock-step"].switch(wires, True)
            until(lambda: gps.counts["refused_times"] > 3, lambda: gps.read(0.2))
            block = gps.read(1.0)
            assert len(block) == 0 or abs(int(block["t"][0]) - monotonic_ns()) < 20 * NS_PER_S
        gps.close()


def test_the_agent_on_the_wires_recovers_from_a_flood_a_full_disk_and_a_stepped_clock(
    small: Path, tmp_path: Path, tape: Tape
) -> None:
    store, config = small / "store", tmp_path / "agent.toml"
    with Wires(tmp_path / "car", tape, disk=small) as wires:
        config.write_text(agent_toml(wires, "mqtt://127.0.0.1:1") + "\n[daemon]\nqueue_samples = 3000\n")
        agent = subprocess.Popen(
            [sys.executable, "-m", "agent", "agent", "--config", str(config), "--store", str(store)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert agent.stderr is not None
        said = agent.stderr
        try:
            with Playing(tape, wires):
                _line(said, "gives|reads")
                FAULTS["clock-step"].switch(wires, True)
                FAULTS["queue-full"].switch(wires, True)
                _line(said, "more than 3000 samples wait for the spine")
                FAULTS["queue-full"].switch(wires, False)
                calm_ns = monotonic_ns()
                _line(said, "the spine keeps up again")
                FAULTS["disk-full"].switch(wires, True)
                _line(said, "disk or store is full; .*records wait in memory")
                FAULTS["disk-full"].switch(wires, False)
                FAULTS["clock-step"].switch(wires, False)
                freed_ns = monotonic_ns()
                _line(said, "the store takes records again")
                assert monotonic_ns() - freed_ns < RECOVER_S * NS_PER_S
                agent.send_signal(signal.SIGTERM)
                assert agent.wait(timeout=30) == 0
        finally:
            if agent.poll() is None:
                agent.kill()
            agent.wait(timeout=20)
            said.close()
    with Store.open(store, read_only=True) as kept:
        assert kept.verify().ok
        told = [one.record for one in kept.records(Health)]
    queue = [h for h in told if h.source == "queue"]
    assert {h.state for h in queue} == {"degraded", "ok"}
    assert queue[-1].state == "ok"
    assert queue[-1].t_ns - calm_ns < RECOVER_S * NS_PER_S
    assert [h.state for h in told if h.source == "store"] == ["lost", "ok"]


def _line(said: Any, pattern: str) -> str:
    heard = ""
    for line in said:
        heard += line
        if re.search(pattern, line):
            return str(line)
    raise AssertionError(heard)
