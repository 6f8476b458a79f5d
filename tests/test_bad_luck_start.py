"""Starts that go wrong: a broken configuration, crash after crash up the ladder and down again, a first start.

Recovery: within a second of the daemon's time after the crashes have left the window, or after the hold.
"""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.blocks import make_block
from agent.channels import number
from agent.records import Health
from agent.store import Store
from tests.test_daemon import BASE_NS, Running, S

ROOT = Path(__file__).resolve().parents[1]
SPEED = 60.0
LADDER = {"crashes": {"window_s": 60.0, "minimal_after": 2, "hold_after": 4, "hold_s": 30.0}}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drive")
    np.save(folder / "drive.npy", make_block([(t * S, number("Vehicle.Speed"), 10.0) for t in range(3600)]))
    return folder


@pytest.fixture
def start(samples: Path, tmp_path: Path) -> Iterator[Any]:
    """Start the agent; `at_s` is what the clock says."""
    started: list[Running] = []

    def begin(at_s: float, **given: Any) -> Running:
        given = {"daemon": LADDER, "speed": SPEED} | given
        started.append(Running(tmp_path / "store", samples, BASE_NS + int(at_s * S), **given))
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            one.kill()


def test_after_crashes_it_goes_minimal_and_back_then_holds_and_back_and_says_why_each_time(
    start: Any, tmp_path: Path
) -> None:
    for at_s in (0, 1):
        assert start(at_s, fault="bug").end() == 1
    one = start(2, at_once=True)
    said = one.until("runs without its devices")
    assert "ZeroDivisionError: a bug in a driver" in said
    one.until("no crash for a while: reading the devices again")
    one.until("car at")
    assert one.stop() == 0, one.said
    for at_s in (100, 101, 102, 103):
        two = start(at_s, fault="bug")
        if at_s >= 102:
            two.until("runs without its devices")
            two.kill()
        else:
            assert two.end() == 1
    three = start(104, at_once=True)
    said = three.until("holds after too many crashes")
    assert "the agent was killed, or ended without a word" in said
    assert json.loads((tmp_path / "store" / "crashes.json").read_text())["reason"] in said
    assert three.end() == 0  # after hold_s, by itself; systemd starts it again
    four = start(170)
    four.until("reads car")
    four.until("car at")
    assert four.stop() == 0, four.said
    with Store.open(tmp_path / "store", read_only=True) as store:
        told = [(k.record.state, k.record.detail) for k in store.records(Health) if k.record.source == "agent"]
        assert store.verify().ok
    assert [state for state, _ in told][:2] == ["degraded", "ok"]
    assert "ZeroDivisionError" in told[0][1]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("[broker\n", "not valid TOML"),
        ("[drivers.canbus.a]\n[drivers.obdcan.b]\ntransmit = true\n", "both read socketcan can0"),
        (b"\xff\xfe\x00", "agent.toml"),
    ],
)
def test_a_broken_configuration_at_the_start_is_one_line_and_leaves_the_store_alone(
    text: str | bytes, cause: str, tmp_path: Path
) -> None:
    config = tmp_path / "agent.toml"
    config.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = subprocess.run(
        [sys.executable, "-m", "agent", "agent", "--config", str(config), "--store", str(tmp_path / "s")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert cause in done.stderr
    assert not (tmp_path / "s").exists()


def test_a_first_start_loads_no_tables_for_people_and_asks_systemd_for_time_before_the_store_is_opened(
    tmp_path: Path,
) -> None:
    code = (
        "import sys; from pathlib import Path; from agent.store import Store\n"
        "with Store.open(Path(sys.argv[1])): pass\n"
        "assert 'sqlite_utils' in sys.modules\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules} & {'pandas', 'pyarrow'}))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stdout + done.stderr
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        run = (
            "import sys; from pathlib import Path; from agent.daemon import Daemon, Place\n"
            "from agent.settings import AgentConfig; from agent.watchdog import Watchdog\n"
            "folder = Path(sys.argv[1]); place = Place(folder, boot='b' * 32, watchdog=Watchdog(sys.argv[2]))\n"
            "folder.write_text('no folder')\n"
            "try: Daemon(AgentConfig(), place, [object]).run()\n"
            "except Exception as e: print(type(e).__name__)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", run, str(tmp_path / "b"), str(tmp_path / "notify")],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.stdout.split() == ["StoreError"], done.stderr
        assert systemd.recv(4096).decode() == "EXTEND_TIMEOUT_USEC=60000000"
