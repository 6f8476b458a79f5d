"""One version apart: an agent with a receiver that is older or newer than it, and a store that changes hands.

The version before is taken from the repository and runs in its own folder, with the libraries of this checkout.
"""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.packaging.root import CHECKOUT
from tests.syncing import free_port, until

BEFORE = "1ca3e80"  # what was landed last before packages and updates


def roadwitness(tree: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a version's command in its own folder."""
    command = [sys.executable, "-m", "agent", *words]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=1500, check=False)


@pytest.fixture(scope="module")
def before(work: Path) -> Path:
    """Return the version before, laid beside this one."""
    tree = work / "before"
    tree.mkdir()
    archive = subprocess.run(["git", "-C", CHECKOUT, "archive", BEFORE], capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"commit {BEFORE} is not in this clone")
    subprocess.run(["tar", "-C", tree, "-x"], input=archive.stdout, check=True)
    return tree


@pytest.fixture(scope="module")
def drive(work: Path) -> Path:
    """Return a recorded drive of the virtual car."""
    assert roadwitness(CHECKOUT, "sim", "record", str(work / "drive"), "--minutes", "2").returncode == 0
    return work / "drive" / "commute-1.log"


@contextmanager
def receiver(tree: Path, database: str, log: Path) -> Iterator[int]:
    """Let a version's receiver serve, with a broker of its own; give the broker's port."""
    port = free_port()
    command = [sys.executable, "-m", "agent", "receiver", "serve", "--embedded-broker", str(port), "--no-pages"]
    with log.open("w+") as file, subprocess.Popen([*command, "--db", database], cwd=tree, stderr=file) as process:
        try:
            until(lambda: "broker on" in log.read_text() or process.poll() is not None, "the broker listens")
            assert process.poll() is None, log.read_text()
            yield port
        finally:
            process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("older", ["agent", "receiver"])
def test_neighbouring_versions_understand_each_other(before: Path, drive: Path, work: Path, older: str) -> None:
    box, desk = (before, CHECKOUT) if older == "agent" else (CHECKOUT, before)
    folder = work / f"older-{older}"
    store, database = folder / "store", f"sqlite:///{folder / 'receiver.db'}"
    folder.mkdir()
    replay = ("replay", str(drive), "--profile", "simcar", "--store", str(store), "--json")
    began = time.perf_counter()
    assert roadwitness(box, *replay).returncode == 0  # makes the device's key
    key = f"import pathlib, agent.store as s; print(s.Store.open(pathlib.Path({str(store)!r})).public_key.hex())"
    public = subprocess.run([sys.executable, "-c", key], cwd=box, capture_output=True, text=True, check=True)
    enrolled = roadwitness(desk, "receiver", "enrol", public.stdout.strip(), "--db", database)
    assert enrolled.returncode == 0, enrolled.stderr
    with receiver(desk, database, folder / "receiver.log") as port:
        sent = roadwitness(box, *replay, "--uplink", f"mqtt://127.0.0.1:{port}", "--wait", "120")
    assert sent.returncode == 0, sent.stderr
    with closing(sqlite3.connect(store / "store.db")) as kept, closing(sqlite3.connect(folder / "receiver.db")) as held:
        count = "SELECT COUNT(*) FROM entry"
        assert kept.execute(count).fetchone() == held.execute(count).fetchone()
        assert kept.execute(count).fetchone()[0] > 5
    print(f"\nolder {older}: {time.perf_counter() - began:.0f} s")


def test_a_store_goes_to_the_newer_version_and_back(before: Path, drive: Path, work: Path) -> None:
    store = work / "changing"
    replay = ("replay", str(drive), "--profile", "simcar", "--store", str(store), "--json")
    assert roadwitness(before, *replay).returncode == 0
    assert roadwitness(CHECKOUT, *replay).returncode == 0  # opens it to write, with all migrations
    trips = json.loads(roadwitness(CHECKOUT, "trips", "--store", str(store), "--json").stdout)
    assert len(trips) == 2
    back = roadwitness(before, "store", "verify", "--store", str(store))
    if back.returncode:  # then it has to say so in one line, and touch nothing
        assert "newer version of roadwitness" in back.stderr
    assert len(json.loads(roadwitness(CHECKOUT, "trips", "--store", str(store), "--json").stdout)) == 2
    assert roadwitness(CHECKOUT, "store", "verify", "--store", str(store)).returncode == 0
