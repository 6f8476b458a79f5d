"""The daemon as a process: killed, stopped, broken; and beside `replay` on the same recording."""

import json
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.config import config_dir
from agent.replay import run as replay
from agent.settings import AgentConfig
from agent.spine import Spine
from agent.store import Store
from agent.watchdog import Watchdog
from drivers.decode.decode import Decode
from drivers.decode.profile import load_profile
from drivers.replay import Replay
from sim.drive import simulate
from sim.record import write_drive

S = 1_000_000_000
ROOT = Path(__file__).resolve().parents[1]
SPEED = 60.0  # the car's 6 minutes pass in 6 s
BASE_NS = 1000 * S


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drive.log and drive.npy, its samples."""
    folder = tmp_path_factory.mktemp("drive")
    write_drive(simulate("commute", 3, 4), folder / "drive.log")
    source = Replay([folder / "drive.log"], Decode(load_profile("simcar", config_dir()), config_dir()))
    source.open()
    blocks = []
    while (block := source.read(1.0)) is not None:
        blocks.append(block)
    source.close()
    np.save(folder / "drive.npy", np.concatenate(blocks))
    return folder


class Running:
    """The daemon in a process of its own."""

    def __init__(self, folder: Path, drive: Path, start_ns: int, boot: str = "b" * 32, **given: Any) -> None:
        given |= {"folder": str(folder), "boot": boot, "samples": str(drive / "drive.npy"), "start_ns": start_ns}
        given |= {"base_ns": given.get("base_ns", BASE_NS)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.daemon_runner", json.dumps(given)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""

    def until(self, pattern: str) -> str:
        """Wait until the process says something with `pattern` in it; return the line."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            if re.search(pattern, line):
                return line
        raise AssertionError(self.said)

    def until_at(self, seconds: float) -> None:
        """Wait until the car is so far into its drive."""
        while (at := self.until(r"^car at (\d+|over)$").split()[-1]) != "over" and float(at) < seconds - 10:
            pass

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        assert self.process.stderr is not None
        with self.process.stderr:
            self.said += self.process.stderr.read()
        return self.process.wait(timeout=60)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.end()


@pytest.fixture
def running(drive: Path) -> Iterator[Any]:
    started: list[Running] = []

    def start(folder: Path, start_ns: int = BASE_NS, **given: Any) -> Running:
        started.append(Running(folder, drive, start_ns, **given))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.kill()


def whole(drive: Path) -> tuple[list[Any], list[Any]]:
    """Return the trips and events of the undisturbed drive."""
    s = AgentConfig()
    spine = Spine(s.fusion, s.detection, s.trips)
    block = np.load(drive / "drive.npy")
    block["t"] += BASE_NS
    first, last = spine.step(block), spine.finish()
    return first.trips + last.trips, first.events + last.events


def kept(folder: Path, boot: str = "b" * 32) -> tuple[tuple[int, int] | None, list[Any], list[Any]]:
    with Store.open(folder, read_only=True) as store:
        return store.span(boot), [s.record for s in store.trips()], [s.record for s in store.events()]


def test_killed_again_and_again_it_loses_nothing_accepted_and_goes_on_with_the_trip(
    tmp_path: Path, drive: Path, running: Any
) -> None:
    chance = random.Random(5)
    duration_ns = int(np.load(drive / "drive.npy")["t"][-1])
    start_ns, gaps = BASE_NS, 0
    many = {"crashes": {"minimal_after": 50, "hold_after": 60}}
    seen: list[Any] = []
    for part in (0.3, 0.55, 0.8):
        one = running(tmp_path, start_ns, speed=SPEED, daemon=many)
        one.until_at((part + chance.uniform(-0.1, 0.1)) * duration_ns / S)
        one.kill()
        span, trips, events = kept(tmp_path)
        assert span is not None
        assert not trips
        assert [e for e in seen if e not in events] == []
        seen = events
        start_ns = span[1] + 2 * S  # of the car's time: systemd starts it again
        gaps += 1
    one = running(tmp_path, start_ns, speed=SPEED, daemon=many)
    one.until("car at over")
    assert one.stop() == 0, one.said
    true_trips, true_events = whole(drive)
    _, trips, events = kept(tmp_path)
    assert len(trips) == len(true_trips) == 1
    trip, true = trips[0], true_trips[0]
    # each kill costs the second that was not durable yet and the two until the restart
    assert abs(trip.start_ns - true.start_ns) <= S
    assert abs(trip.distance_m - true.distance_m) <= gaps * 3.5 * true.max_speed_mps
    assert [e for e in seen if e not in events] == []
    assert len({(e.kind, e.t_ns // (3 * S)) for e in events}) == len(events)  # found twice, kept once
    far = [e for e in true_events if e.confirmed and not any(k.kind == e.kind for k in events)]
    assert far == []
    with Store.open(tmp_path, read_only=True) as store:
        report = store.verify()
    assert report.ok, report


def test_a_drive_cut_by_a_power_loss_is_a_trip_after_the_next_boot(tmp_path: Path, drive: Path, running: Any) -> None:
    one = running(tmp_path, speed=SPEED, power_until_s=140)  # it drives 35 km/h and more for 10 s before and after
    assert one.end() == -signal.SIGKILL, one.said
    span, trips, _ = kept(tmp_path)
    assert span is not None
    assert trips == []
    two = running(tmp_path, 50 * S, boot="c" * 32, speed=SPEED, base_ns=10**9 * S)
    two.until("recovered 1 trip")
    two.until("reads car")
    assert two.stop() == 0, two.said
    _, trips, events = kept(tmp_path)
    assert len(trips) == 1
    assert trips[0].end_ns == pytest.approx(span[1], abs=2 * S)
    assert sum(e.kind == "power_lost" for e in events) == 1
    assert len({(e.kind, e.t_ns) for e in events}) == len(events)


def test_sigterm_in_mid_drive_closes_the_trip_and_ends_within_seconds(
    tmp_path: Path, drive: Path, running: Any
) -> None:
    one = running(tmp_path, speed=SPEED)
    one.until_at(120)
    assert one.stop() == 0, one.said
    _, trips, _ = kept(tmp_path)
    assert len(trips) == 1
    assert "ended with everything stored" in one.said
    assert json.loads((tmp_path / "crashes.json").read_text())["running"] is False


def test_a_bug_in_a_driver_ends_the_process_with_its_traceback(tmp_path: Path, running: Any) -> None:
    one = running(tmp_path, fault="bug")
    assert one.end() == 1
    assert "ZeroDivisionError: a bug in a driver" in one.said
    assert re.search(r'File ".*daemon_runner.py", line \d+, in read', one.said)
    assert "ZeroDivisionError" in json.loads((tmp_path / "crashes.json").read_text())["reason"]


def test_a_driver_that_hangs_in_read_is_noticed_reopened_and_at_last_ends_the_process(
    tmp_path: Path, running: Any
) -> None:
    one = running(tmp_path, fault="hang", speed=SPEED)
    assert one.end() == 1
    assert one.said.count("car: hangs in read for 15 s") == 1
    assert "DeviceHangsError: car hung 4 times" in one.said


def test_the_replay_driver_gives_what_replay_gives_at_any_pace(tmp_path: Path, drive: Path) -> None:
    expected = replay([drive / "drive.log"], profile="simcar")
    for pace in ("0", "150"):
        config = tmp_path / "agent.toml"
        config.write_text(
            f'[broker]\nurl = "mqtt://127.0.0.1:1"\n[drivers.replay.drive]\nfiles = ["{drive / "drive.log"}"]\n'
            f'profile = "simcar"\npace = {pace}\n'
        )
        folder = tmp_path / f"at{pace}"
        done = subprocess.run(
            [sys.executable, "-m", "agent", "agent", "--config", str(config), "--store", str(folder)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        _, trips, events = kept(folder)
        assert events == expected.events
        assert trips == expected.trips


def test_sighup_takes_thresholds_between_trips_and_leaves_a_broken_file_alone(tmp_path: Path, drive: Path) -> None:
    config = tmp_path / "agent.toml"
    good = (
        f'[broker]\nurl = "mqtt://127.0.0.1:1"\n[drivers.replay.drive]\nfiles = ["{drive / "drive.log"}"]\n'
        'profile = "simcar"\npace = 1\n'
    )
    config.write_text(good)
    command = [sys.executable, "-m", "agent", "agent", "--config", str(config), "--store", str(tmp_path / "store")]
    one = Running.__new__(Running)
    one.process, one.said = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True), ""
    try:
        one.until("reads replay:drive.log")
        config.write_text("[broker\n")
        one.process.send_signal(signal.SIGHUP)
        assert "not valid TOML" in one.until("the configuration in use stays")
        config.write_text(
            good.replace("pace = 1", "pace = 2") + "[detection.harsh]\nhold_s = 0.2\n[sync]\nwindow = 2\n"
        )
        one.process.send_signal(signal.SIGHUP)
        assert "drivers wait for a restart" in one.until("configuration read again")
        one.until("new thresholds apply")
        assert one.stop() == 0, one.said
    finally:
        if one.process.poll() is None:
            one.kill()


def test_without_devices_it_says_what_to_configure(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "agent", "agent", "--config", str(config), "--store", str(tmp_path / "s")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 78  # EX_CONFIG: systemd leaves it at that
    assert done.stderr.count("\n") == 1
    assert "[drivers.gps.main]" in done.stderr


def test_the_watchdog_is_fed_three_times_in_its_timeout(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        line = Watchdog.of_systemd({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"})
        line.ready()
        for tenth in range(31):
            line.fed(tenth * S // 10)
        line.status("a")
        line.status("a")
        heard = []
        while True:
            try:
                heard.append(systemd.recv(4096).decode())
            except BlockingIOError:
                break
    assert heard == ["READY=1", *["WATCHDOG=1"] * 4, "STATUS=a"]
    line.fed(100 * S)  # nobody listens any more: no trouble
    Watchdog.of_systemd({}).ready()
