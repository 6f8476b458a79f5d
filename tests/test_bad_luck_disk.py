"""The disk fills up, or its file system turns read-only, under the running daemon: all waits in memory.

Recovery, in the daemon's time: records are tried again every RETRY_NS (5 s), samples every second. Where a card has
turned read-only the agent goes on in memory; the start after its repair has all that was stored until then.
"""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from agent.blocks import make_block
from agent.channels import number
from agent.patience import RETRY_NS
from agent.records import Health
from agent.store import Store
from tests.test_daemon import BASE_NS, Running, S
from tests.virtual import START_NS, Fault, VirtualTime, World, check_nothing_lost, drive

SPEED = 60.0
BOOT = "b" * 32
DRIVE_S = 900


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drive.npy: a quarter of an hour, ten samples a second."""
    folder = tmp_path_factory.mktemp("drive")
    speed = number("Vehicle.Speed")
    block = make_block([(t * S // 10, speed, 12.0 + 8.0 * np.sin(t / 300)) for t in range(DRIVE_S * 10)])
    np.save(folder / "drive.npy", block)
    return folder


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A place to mount on; unmounted at the end."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    place = tmp_path / "disk"
    place.mkdir()
    yield place
    subprocess.run(["umount", str(place)], capture_output=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_for_ever(file)


def write_for_ever(file: IO[bytes]) -> None:
    while True:
        file.write(bytes(4096))


def check_whole(folder: Path, samples: Path) -> list[Health]:
    """Assert that the store has all samples from its first to its last; return what was told."""
    with Store.open(folder, read_only=True) as store:
        span = store.span(BOOT)
        assert span is not None
        stored = store.read_block(0, span[1] + 1, BOOT)
        assert store.verify().ok
        told = [kept.record for kept in store.records(Health)]
    given = np.load(samples / "drive.npy")
    given["t"] += BASE_NS
    expected = given[(given["t"] >= span[0]) & (given["t"] <= span[1])]
    assert np.array_equal(stored["t"], expected["t"])
    return told


def test_a_disk_that_fills_up_and_is_freed_costs_the_running_daemon_nothing(mounted: Path, samples: Path) -> None:
    mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mounted))
    one = Running(mounted / "store", samples, BASE_NS, speed=SPEED)
    try:
        one.until_at(60)
        fill(mounted / "ballast")
        assert "disk or store is full" in one.until("records wait in memory")
        one.until_at(240)
        (mounted / "ballast").unlink()
        one.until("the store takes records again after")
        one.until_at(330)
        assert one.stop() == 0, one.said
    finally:
        with suppress(ProcessLookupError, ValueError):
            one.process.kill()
        one.process.wait(timeout=60)
    told = check_whole(mounted / "store", samples)
    ours = [h for h in told if h.source == "store"]
    assert [h.state for h in ours] == ["lost", "ok"]
    assert "ended with everything stored" in one.said


def test_a_card_that_turns_read_only_is_told_the_agent_goes_on_and_the_next_start_has_all_that_was_stored(
    mounted: Path, samples: Path, tmp_path: Path
) -> None:
    program = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin")
    if program is None:
        pytest.skip("Debian package e2fsprogs (mkfs.ext4) is absent")
    image = tmp_path / "card"
    image.write_bytes(bytes(16 << 20))
    subprocess.run([program, "-q", str(image)], check=True)
    mount("-o", "loop", str(image), str(mounted))
    one = Running(mounted / "store", samples, BASE_NS, speed=SPEED)
    try:
        one.until_at(60)
        mount("-o", "remount,abort", str(mounted))  # what the kernel does when the card fails
        assert "check the card with dmesg" in one.until("records wait in memory")
        one.until_at(240)  # the car drives on, and so does the agent
        assert one.stop() == 1
        assert "StoreError" in one.said
    finally:
        with suppress(ProcessLookupError, ValueError):
            one.process.kill()
        one.process.wait(timeout=60)
    refused = Running(mounted / "store", samples, BASE_NS + 500 * S, speed=SPEED)
    assert refused.end() == 1  # systemd starts it again every two seconds, until the card can be written
    assert "StoreError" in refused.said
    subprocess.run(["umount", str(mounted)], check=True)
    mount("-o", "loop", str(image), str(mounted))
    two = Running(mounted / "store", samples, BASE_NS + 300 * S, speed=SPEED)
    two.until_at(330)
    assert two.stop() == 0, two.said
    with Store.open(mounted / "store", read_only=True) as store:
        block = store.read_block(0, BASE_NS + 1000 * S, BOOT)
        trips = store.trips()
        assert store.verify().ok
    assert int(block["t"][0]) <= BASE_NS + S
    before = block[block["t"] < BASE_NS + 50 * S]
    assert np.all(np.diff(before["t"]) == S // 10)  # all until a second before the card failed
    assert len(trips) == 1


@pytest.mark.parametrize(("kind", "word"), [("full", "disk or store is full"), ("read-only", "cannot be written")])
def test_samples_and_records_of_minutes_wait_and_come_in_order_within_five_seconds(
    kind: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_s, end_s = 10.0, 190.0
    world = World(VirtualTime(monkeypatch), [Fault("store", kind, begin_s, end_s)])
    world.faults.append(Fault("gps:127.0.0.1:2947", "unplugged", 60.0, 80.0))  # told while nothing can be stored
    daemon = drive(world, tmp_path, monkeypatch, 200.0)
    told = check_nothing_lost(world, daemon, tmp_path)
    ours = [h for h in told if h.source == "store"]
    # pages that a block freed may take a few records more while all is full
    assert [h.state for h in ours] == ["lost", "ok"] * (len(ours) // 2)
    assert len(ours) <= 8
    assert word in ours[0].detail
    back = ours[-1]
    assert (back.t_ns - START_NS) / S - end_s <= RETRY_NS / S + 0.2
    assert [h.state for h in told if h.source.startswith("gps")] == ["ok", "lost", "ok"]
