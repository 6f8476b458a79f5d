"""Kill a machine in the middle of its work, look at its disk, and let the car live on: here, or on the machine."""

import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine

from agent.incident.folder import PACKAGES
from tests.crashing import S
from tests.kernel.cache import CHECKOUT
from tests.kernel.channel import Process
from tests.kernel.driving import GUEST_BROKER, PYTHON, RELAY, Moment, Run
from tests.kernel.errors import GuestError
from tests.kernel.judging import CAR, FILM_S, Found, Told, Truth, entries_of, look
from tests.kernel.moving import judge_box, judge_migrated
from tests.kernel.receiving import files_of, held, receiving
from tests.kernel.recording import MOUNT, MOUNTED, mounted
from tests.power_cuts import AGAIN, START_S, ZERO_S

# how many of a hundred kills begin at which moment
SHARES: Final = {"driving": 18, "blow": 20, "clip": 18, "upload": 20, "migration": 12, "upgrade": 12}
LIMIT_S: Final = 600.0
GUEST_SPEED: Final = 1.0
# from when to when of the car's clock a kill of these moments comes
CAR_S: Final = {"driving": (START_S + 1.0, ZERO_S - 0.4), "blow": (ZERO_S, ZERO_S + 1.0)}


@dataclass
class Kill:
    """One of them."""

    moment: str
    found: Found
    met: str  # what the machine was really at
    kill_s: float = 0.0  # of the car's clock
    car: Path | None = None  # a copy of what the car's folder held
    receiver: Path | None = None  # the receiver as it was then
    said: dict[str, Any] = field(default_factory=dict)  # of the boot after it


def chosen(count: int) -> list[str]:
    """Return the moments of so many kills, each at least once."""
    names = list(SHARES)
    whole = [name for name in names for _ in range(max(1, count * SHARES[name] // 100))]
    return sorted(whole + [names[n % len(names)] for n in range(count - len(whole))], key=names.index)


def kill(run: Run, truth: Truth, name: str, chance: random.Random, workplace: Path, keep: Path | None = None) -> Kill:
    """Go on from a moment, kill the machine at random, and judge its disk; `keep` copies of car and receiver there."""
    moment = run.moments[name]
    told = Told.by(moment.told)
    receiver = keep / "receiver" if keep else workplace / "receiver"
    shutil.rmtree(receiver, ignore_errors=True)
    run.past.begin(receiver)
    run.broker.start()
    try:
        with receiving(receiver, run.broker) as engine:
            at_ns = chance.uniform(*CAR_S.get(name, (0.0, 0.0))) * S
            begun = {"upload": lambda: bool(held(engine))}.get(name, lambda: told.now_ns >= at_ns)
            _live_and_die(run, moment, told, chance, begun)
    finally:
        run.broker.stop()
    received, (file_bytes, packages) = held(engine), files_of(engine)
    if keep:
        shutil.copy(run.disk.disk, keep / "data.img")
    with mounted(run.disk.disk, workplace / "cut") as wrong:
        if wrong:
            found = Found("unmountable", wrong)
        elif moment.line:
            found = _judge_moved(workplace / "cut", name)
        else:
            if keep:
                shutil.copytree(workplace / "cut" / CAR, keep / CAR, ignore=shutil.ignore_patterns("*.sock"))
            found = look(workplace / "cut" / CAR, told, truth, received)
    met = _met(name, told, file_bytes, packages)
    return Kill(name, found, met, told.now_ns / S, keep / CAR if keep else None, receiver if keep else None)


def _live_and_die(run: Run, moment: Moment, told: Told, chance: random.Random, begun: Callable[[], bool]) -> None:
    """Wake it, wait until what the moment is about has begun, and kill it some time later."""
    moment.asleep.wake(run.guest)
    rest = b""

    def hear(output: bytes) -> None:
        nonlocal rest
        *lines, rest = (rest + output).split(b"\n")
        for line in lines:
            told.hear(line.decode(errors="replace"))

    process: Process = run.guest.adopt(moment.process, hear)
    if moment.line:
        process.write(moment.line)
        process.until(lambda: bool(told.begun), 60.0)
    process.until(begun, 60.0)
    process.until(lambda: process.code is not None, chance.uniform(0.0, moment.lasts_s))
    run.guest.cut()


def _judge_moved(at: Path, name: str) -> Found:
    wrong = judge_migrated(at / "old-0") if name == "migration" else judge_box(at / "box-0")
    outcome, _, detail = wrong.partition(": ")
    return Found("whole" if not wrong else outcome if name == "migration" else "lost", detail)


def _met(name: str, told: Told, file_bytes: int, packages: int) -> str:
    """Say what the machine was at, as far as anybody outside knows."""
    if name in ("migration", "upgrade"):
        return f"{name} {'over' if told.over else 'under way'}"
    if packages:
        return "after the upload"
    if told.whole or file_bytes:  # the receiver has heard the car by then
        return "upload under way"
    if told.clip == "begins":
        return "clip under way"
    if told.now_ns < ZERO_S * S:
        return "driving before the blow"
    return "second after the blow" if told.now_ns < (ZERO_S + 1) * S else "seconds after it"


def boot_again(run: Run, killed: Kill, folder: Path, workplace: Path) -> Found:
    """Boot the machine from the disk that the kill left, and let the car live on until all is sent; judge its disk."""
    shutil.copy(folder / "data.img", run.disk.disk)
    assert killed.receiver is not None
    run.broker.start()
    try:
        with receiving(killed.receiver, run.broker) as engine:
            run.guest.boot()
            run.guest.run(MOUNT)
            run.guest.start(RELAY.format(port=run.broker.port))
            again = {
                "folder": f"{MOUNTED}/{CAR}", "kill_s": killed.kill_s, "film": "/root/films", "films": FILM_S,
                "samples": "/root/drive.npy", "found": True, "speed": GUEST_SPEED, "broker": GUEST_BROKER,
            }  # fmt: skip
            lived = run.guest.start("exec python3 -W ignore -m tests.power_cuts 1", cwd="/root", env=PYTHON)
            lived.write(json.dumps(again).encode() + b"\n", eof=True)
            ended = lived.wait(LIMIT_S)
            if not ended.out:
                raise GuestError(f"no car lives on: {ended.err[-2000:]}")
            killed.said = json.loads(ended.out.splitlines()[-1])
            killed.said["err"] = ended.err[-1000:]
            run.guest.cut()
            with mounted(run.disk.disk, workplace / "cut") as wrong:
                if wrong:
                    return Found("unmountable", wrong)
                return sent_once(workplace / "cut" / CAR, engine, killed)
    finally:
        run.guest.cut()
        run.broker.stop()


def live_on_here(run: Run, killed: Kill) -> Found:
    """Boot the car on this machine, with what the kill left it, until all is sent; judge it."""
    assert killed.car is not None
    assert killed.receiver is not None
    run.broker.start()
    try:
        with receiving(killed.receiver, run.broker) as engine:
            given = run.given(
                found=True, speed=AGAIN, broker=run.broker.url, folder=str(killed.car), kill_s=killed.kill_s
            )
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "tests.power_cuts", "1"],
                cwd=CHECKOUT, input=json.dumps(given) + "\n", capture_output=True, text=True, check=True,
            )  # fmt: skip
            killed.said = json.loads(done.stdout.splitlines()[-1]) | {"err": done.stderr[-1000:]}
            return sent_once(killed.car, engine, killed)
    finally:
        run.broker.stop()


def sent_once(car: Path, engine: Engine, killed: Kill) -> Found:
    """Hold what car and receiver have in the end to each other."""
    if not (killed.said.get("done") and killed.said.get("whole")):
        return Found("lost", f"not all was sent: {killed.said}")
    received, kept = held(engine), entries_of(car)
    if other := [key for key, value in received.items() if kept.get(key) != value]:
        return Found("lost", f"the receiver has other records: {other[:3]}")
    packages = list((car / PACKAGES).glob("*.acknowledged"))
    if len(packages) != files_of(engine)[1]:
        return Found("lost", f"{len(packages)} packages were acknowledged, {files_of(engine)[1]} are whole")
    return Found("whole")


def counted(kills: list[Kill]) -> str:
    """Say how many kills met what."""
    return ", ".join(f"{n} {met}" for met, n in sorted(Counter(k.met for k in kills).items()))
