"""A store of an older version brought up to date, and an update with real packages: made, done in a guest, judged.

    python -m tests.kernel.moving FOLDER      in the guest: each line of input, "migrate N" or "upgrade N", is done

`prepare` fills the folder: `old-N` are stores, `box-N` roots of boxes with dpkg's own database and roadwitness 1.0.0,
and version 1.1.0 as a package. The updater is the product's; systemd and the agent it asks are stood for.
"""

import hashlib
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import numpy as np

from agent.blocks import BLOCK
from agent.channels import number
from agent.clock import wait
from agent.errors import StoreError
from agent.local.messages import Status, StoreState, Utc
from agent.records import Event
from agent.store import Store
from agent.store.database import SUSPECT_FILE
from agent.store.schema import MIGRATIONS
from agent.update import trees
from agent.update.place import Place, Ran, run_program
from agent.update.settings import UpdateSettings
from agent.update.state import load, save
from agent.update.updater import Updater
from tests.store_inputs import event, health

S: Final = 1_000_000_000
Seen = TypeVar("Seen")
OLD_BOOT: Final = "a" * 32
SAMPLES: Final = 3000
EVENTS: Final = 12
# tables that the migrations from this one on brought, and so what an older store lacks
FIRST_MISSING: Final = ("0004_dropped", "0006_uploads", "0008_ahead")
VERSIONS: Final = ("1.0.0", "1.1.0")
UNITS: Final = "usr/lib/systemd/system"
PROGRAM: Final = """#!/bin/sh
case "$1 $2" in
"--version ") echo roadwitness {version} ;;
"store format") echo 0001_lanes ;;
esac
"""


def prepare(folder: Path, arch: str, times: int) -> None:
    """Make what is migrated and upgraded, `times` of each."""
    for turn in range(times):
        _old_store(folder / f"old-{turn}", FIRST_MISSING[turn % len(FIRST_MISSING)])
    packages = folder / "packages"
    packages.mkdir()
    for version in VERSIONS:
        _package(packages, version, arch)
    box = folder / "box-0"
    for part in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", UNITS):
        (box / part).mkdir(parents=True)
    (box / "var/lib/dpkg/status").touch()
    (box / "var/lib/dpkg/available").touch()
    place = Place(box)
    subprocess.run(
        ["dpkg", f"--root={box}", "--install", str(packages / "1.0.0.deb")], check=True, stdout=subprocess.DEVNULL
    )
    trees.point(place, trees.ACTIVE, "1.0.0")
    trees.point(place, trees.GOOD, "1.0.0")
    for turn in range(1, times):
        shutil.copytree(box, folder / f"box-{turn}", symlinks=True)


def _old_store(folder: Path, first_missing: str) -> None:
    """Make a store as the version before a migration left it: the same, without what came later."""
    with Store.open(folder) as store:
        store.begin_boot(OLD_BOOT)
        store.append_block(samples(), last=True)
        for n in range(EVENTS):
            store.append([(n * S, event(n * S)), (n * S, health(n * S))])
    names = [name for name, _ in MIGRATIONS]
    later = names[names.index(first_missing) :]
    with closing(sqlite3.connect(folder / "store.db")) as connection:
        for name, statements in reversed(MIGRATIONS):
            if name not in later:
                continue
            for statement in reversed([s for s in statements.split(";") if "CREATE" in s]):
                what, called = statement[statement.index("CREATE") :].split()[1:3]
                connection.execute(f"DROP {what} IF EXISTS {called}")
            connection.execute("DELETE FROM _sqlite_migrations WHERE name = ?", (name,))
        connection.commit()


def samples() -> "np.ndarray[tuple[int], np.dtype[np.void]]":
    """Return the samples of every old store."""
    block = np.zeros(SAMPLES, BLOCK)
    block["t"] = np.arange(SAMPLES) * (S // 50)
    block["channel"] = number("Imu.Acceleration.X")
    block["value"] = np.sin(np.arange(SAMPLES) / 20)
    return block


def _package(folder: Path, version: str, arch: str) -> None:
    work = folder / "work"
    tree = work / f"opt/roadwitness-{version}"
    (tree / "bin").mkdir(parents=True)
    program = tree / "bin/roadwitness"
    program.write_text(PROGRAM.format(version=version))
    program.chmod(0o755)
    for n in range(60):  # as files of a library
        file = tree / f"lib/package{n % 6}/module{n}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(hashlib.shake_256(f"{version} {n}".encode()).digest(500 + 400 * n))
    for name in ("roadwitness-agent.service", f"roadwitness-of-{version}.timer"):
        unit = tree / "share/roadwitness/system" / UNITS / name
        unit.parent.mkdir(parents=True, exist_ok=True)
        unit.write_text(f"# {name} of {version}\n" + "#\n" * 400)
        (work / UNITS).mkdir(parents=True, exist_ok=True)
        shutil.copy2(unit, work / UNITS / name)
    (work / "DEBIAN").mkdir()
    (work / "DEBIAN/control").write_text(
        f"Package: roadwitness\nVersion: {version}\nArchitecture: {arch}\nMaintainer: bench <bench@localhost>\n"
        "Description: stands for the package\n"
    )
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(work), str(folder / f"{version}.deb")],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    shutil.rmtree(work)


# done in the guest


class Machine:
    """What is around the updater of a box below a folder."""

    def __init__(self, box: Path, boot: str) -> None:
        self.place = Place(box)
        self._now_ns = 0
        self.updater = Updater(
            self.place,
            UpdateSettings(trial_s=100, steady_s=4),
            boot,
            metered=False,
            run=self._run,
            ask=lambda _: self._status(),
            clock_ns=lambda: self._now_ns,
            pause=self._pause,
        )

    def _pause(self, seconds: float) -> None:
        self._now_ns += round(seconds * S)

    def _run(self, command: Sequence[str]) -> Ran:
        words = list(command)
        if words[0].startswith("systemd-") or words[0] == "systemctl":
            return Ran(0, "")
        if words[0] == "runuser":
            words = words[-2:]
        if words[0] == "dpkg" and words[1] in ("--install", "--configure"):
            words.insert(1, f"--root={self.place.root}")
        return run_program(words)

    def _status(self) -> Status:
        return Status(
            t_ns=0,
            version=trees.at(self.place, trees.ACTIVE),
            device="rw-0",
            pid=1,
            boot="b",
            started_ns=0,
            level="normal",
            config="",
            config_sha256="",
            recording=False,
            utc=Utc(quality="gnss"),
            devices=[],
            store=StoreState(path="store.db", bytes=1, free_bytes=1, read_only=False, waiting=0),
        )


def upgrade(folder: Path, turn: str) -> None:
    """Install 1.1.0 on a box, and let the new version tell dpkg."""
    box = folder / f"box-{turn}"
    package = box / "var/lib/roadwitness-update/download/roadwitness_1.1.0.deb"
    package.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "packages/1.1.0.deb", package)
    machine = Machine(box, "first")
    print(machine.updater.install(package, "1.1.0").verdict, flush=True)
    machine.updater.settle()


def main() -> None:
    """Do what the lines of standard input say; tell of each what begins and what is over."""
    folder = Path(sys.argv[1])
    Store.open(folder / "warm").close()  # imports what the first opening imports
    print("ready", flush=True)
    for line in sys.stdin:
        what, turn = line.split()
        print("begins", what, turn, flush=True)
        if what == "migrate":
            Store.open(folder / f"old-{turn}").close()
        else:
            upgrade(folder, turn)
        print("over", what, turn, flush=True)


# judged where the disk is looked at


def judge_migrated(store: Path) -> str:
    """Open a store that was to be migrated, again where that was told to help; return what is wrong, or ""."""
    wrong = _opened(store)
    if wrong.startswith("refused") and (store / SUSPECT_FILE).exists():
        again = started_again(lambda: _opened(store), str)
        return again if again.startswith("refused") else wrong.replace("refused", "told", 1)
    return wrong


def started_again(look: Callable[[], Seen], words: Callable[[Seen], str]) -> Seen:
    """Look until nobody holds the store: for a moment a program that another thread starts has its lock, too."""
    never = threading.Event()
    for _ in range(200):
        if "another roadwitness process" not in words(seen := look()):
            break
        wait(never, 0.05)
    return seen


def _opened(store: Path) -> str:
    try:
        with Store.open(store) as opened:
            report = opened.verify()
            events = opened.records(Event, OLD_BOOT)
            kept = opened.read_block(0, 1 << 62, OLD_BOOT)
            if opened.moved_aside:
                return f"quarantined: {opened.moved_aside}"
    except StoreError as trouble:
        return f"refused: {trouble}"
    if not report.ok:
        return f"told: {report.faults}"
    wanted = samples()
    same = np.array_equal(kept["t"], wanted["t"]) and np.allclose(kept["value"], wanted["value"], atol=0.01)
    if len(events) != EVENTS or not same:
        return f"lost: {len(events)} events, {len(kept)} samples"
    return ""


def judge_box(box: Path) -> str:
    """Let a box boot after the cut and finish what it was at; return what is wrong, or ""."""
    before = Machine(box, "second")
    state = load(before.place.state)
    phase = state.phase
    if state.package:  # the disk is mounted elsewhere than in the guest
        package = before.place.state / "download" / Path(state.package).name
        save(before.place.state, msgspec.structs.replace(state, package=str(package)))
    before.updater.begin_boot()
    if wrong := _torn(before.place):  # what systemd starts now
        return f"{phase}: at the boot {wrong}"
    for _ in range(3):
        if before.updater.settle() is None:
            break
    if (left := load(before.place.state).phase) != "idle":
        return f"{phase}: still {left}"
    if wrong := _torn(before.place):
        return f"{phase}: settled, {wrong}"
    audit = before.updater.run(["dpkg", f"--root={box}", "--audit"])
    if audit.code or audit.output.strip():
        return f"{phase}: dpkg says {audit.output.strip()}"
    return ""


def _torn(place: Place) -> str:
    """Return what of the version that runs is not as it was packed, or ""."""
    active = trees.at(place, trees.ACTIVE)
    if active not in VERSIONS or trees.at(place, trees.GOOD) not in VERSIONS:
        return f"the links point to {active!r} and {trees.at(place, trees.GOOD)!r}"
    tree = place.tree(active)
    for n in range(60):
        file = tree / f"lib/package{n % 6}/module{n}.py"
        wanted = hashlib.shake_256(f"{active} {n}".encode()).digest(500 + 400 * n)
        if not file.is_file() or file.read_bytes() != wanted:
            return f"{file.relative_to(place.root)} is not whole"
    if (tree / "bin/roadwitness").read_text() != PROGRAM.format(version=active):
        return "its program is not whole"
    phase = load(place.state).phase
    for name in ("roadwitness-agent.service", f"roadwitness-of-{active}.timer"):
        unit = place.root / UNITS / name
        if not unit.is_file() or unit.read_text() != f"# {name} of {active}\n" + "#\n" * 400:
            found = f"{unit.stat().st_size} bytes" if unit.is_file() else "missing"
            return f"unit {name} of {active} is {found} in phase {phase}"
    return ""


if __name__ == "__main__":
    main()
