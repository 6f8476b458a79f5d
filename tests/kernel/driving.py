"""A drive into a collision in a guest, with agent and dashcam, a receiver, store migrations and updates: on a disk
whose writes are recorded, and with the machine kept at the moments that matter, to go on from there and be killed.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agent.blocks import Block
from agent.identity import load_or_create_key
from agent.store import Store
from sim.accident import rest_of
from tests.crashing import S, collision
from tests.dashcam_making import film_h264
from tests.kernel.cache import CHECKOUT
from tests.kernel.channel import Process
from tests.kernel.guest import Guest
from tests.kernel.judging import CAR, FILM_S, entries_of
from tests.kernel.moving import prepare
from tests.kernel.receiving import Key, Past, acknowledgements, held, receiving
from tests.kernel.recording import MOUNT, MOUNTED, RecordedDisk
from tests.kernel.sleeping import Asleep, keep
from tests.kernel.writes import FLUSH, Log
from tests.power_cuts import START_S, ZERO_S
from tests.syncing import Mosquitto

END_S = START_S + 14  # the collision is at 4 s
MOVES = 3  # stores that are migrated and boxes that are upgraded, while it is recorded
PROGRAMS = ("power_cuts", "durable_said", "crashing", "agreed", "store_inputs", "kernel/__init__", "kernel/moving")
RELAY = "exec socat TCP-LISTEN:1883,fork,reuseaddr,bind=127.0.0.1 TCP:10.0.2.2:{port}"
PYTHON = {"PYTHONPATH": "/mnt/product:/root"}
GUEST_BROKER = "mqtt://127.0.0.1:1883"
LIMIT_S = 600.0
TELLS_S = 0.05  # between two times that the car tells
LONGEST_S = 5.0  # that a machine lives on before it is killed; on an idle machine nothing here takes longer


@dataclass
class Moment:
    """The machine, kept when something is about to happen."""

    asleep: Asleep
    process: Process
    told: list[str]  # up to then
    lasts_s: float  # what is about to happen takes, by the host's clock
    line: bytes = b""  # that makes it happen


@dataclass
class Run:
    """What was recorded, and what is needed to go on with it."""

    guest: Guest
    disk: RecordedDisk
    folder: Path
    drive: Block
    past: Past
    broker: Mosquitto
    moments: dict[str, Moment] = field(default_factory=dict)
    held: dict[Key, bytes] = field(default_factory=dict)  # by the receiver in the end
    log: Log | None = None

    @property
    def recorded(self) -> Path:
        """The file of `log`."""
        return self.folder / "recorded.log"

    def given(self, **further: Any) -> dict[str, Any]:
        """Return what tests.power_cuts is given for a car on this machine."""
        films, samples = self.folder / "given/films", self.folder / "given/drive.npy"
        return {"film": str(films), "films": FILM_S, "samples": str(samples), **further}


def record(new_guest: Callable[..., Guest], folder: Path) -> Run:
    """Boot, migrate, upgrade, drive into the collision, send all of it; keep moments on the way; cut."""
    contents, given = folder / "contents", folder / "given"
    films = given / "films"
    for made in (contents / CAR, films):
        made.mkdir(parents=True)
    prepare(contents, "amd64", MOVES)
    key = load_or_create_key(contents / CAR)
    whole = film_h264(films / "0.mp4", FILM_S, gop=30, size=(128, 72))
    for second in range(1, FILM_S):
        rest_of(whole, films / f"{second}.mp4", second)
    drive = collision(imu_hz=100)
    drive = drive[drive["t"] >= (START_S - 1) * S]
    np.save(given / "drive.npy", drive)
    for name in PROGRAMS:
        (given / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / f"tests/{name}.py", given / f"tests/{name}.py")
    disk = RecordedDisk(folder, contents)
    past = Past(folder, key.public_key().public_bytes_raw())
    run = Run(new_guest(devices=disk.devices, icount=1), disk, folder, drive, past, Mosquitto(folder))
    run.guest.boot()
    run.guest.copy(given, "/root")
    run.guest.run("sync")  # a car that lives on after a kill reads them again
    run.guest.run(MOUNT)
    run.guest.start(RELAY.format(port=run.broker.port))
    _move(run)
    _drive(run)
    run.guest.cut()
    disk.log.rename(run.recorded)  # a machine that is woken writes another
    disk.log.touch()
    run.log = Log(run.recorded)
    return run


def _keep(run: Run, name: str, process: Process, line: bytes = b"") -> None:
    asleep = keep(run.guest, run.disk.disk, run.folder / name)
    run.moments[name] = Moment(asleep, process, [said for _, _, said in run.disk.said], 0.0, line)


def _between(run: Run, first: str, last: str) -> float:
    """Return how many seconds passed between two lines."""
    when = {line: t_ns for _, t_ns, line in reversed(run.disk.said)}
    return (when[last] - when[first]) / S


def _move(run: Run) -> None:
    command = f"exec python3 -W ignore -m tests.kernel.moving {MOUNTED}"
    moving = run.guest.start(command, env=PYTHON, on_output=run.disk.hear)
    moving.until_says("ready", LIMIT_S)
    _keep(run, "migration", moving, b"migrate 0\n")
    run.moments["upgrade"] = Moment(run.moments["migration"].asleep, moving, [], 0.0, b"upgrade 0\n")
    for turn in range(MOVES):
        moving.write(f"migrate {turn}\nupgrade {turn}\n".encode())
    moving.until_says(f"over upgrade {MOVES - 1}", LIMIT_S)
    moving.write(b"", eof=True)
    moving.wait()
    for name, what in (("migration", "migrate"), ("upgrade", "upgrade")):
        run.moments[name].lasts_s = min(_between(run, f"begins {what} 0", f"over {what} 0"), LONGEST_S)


def _drive(run: Run) -> None:
    told = {
        "folder": f"{MOUNTED}/{CAR}", "kill_s": END_S, "film": "/root/films", "samples": "/root/drive.npy",
        "tell": True, "broker": GUEST_BROKER,
    }  # fmt: skip
    driven = run.guest.start(
        "exec python3 -W ignore -m tests.power_cuts 1", cwd="/root", env=PYTHON, on_output=run.disk.hear
    )
    driven.write(json.dumps(told).encode() + b"\n", eof=True)
    for name, ready in (
        ("driving", lambda: run.disk.car_ns >= (START_S + 0.7) * S),
        ("blow", lambda: run.disk.car_ns >= (ZERO_S - 0.3) * S),
        ("clip", lambda: b"clip begins" in driven.out),
        ("upload", lambda: b"\nwhole\n" in driven.out),
    ):
        assert driven.until(lambda now=ready: now() or driven.code is not None, LIMIT_S), driven.said[-2000:]
        assert driven.code is None, driven.said[-2000:]
        _keep(run, name, driven)
    run.past.begin(run.folder / "receiver")
    run.broker.start()
    with (
        acknowledgements(run.broker, lambda lanes: [run.disk.say(f"ack {k} {v}") for k, v in lanes.items()] and None),
        receiving(run.folder / "receiver", run.broker) as engine,
    ):
        ended = driven.wait(LIMIT_S)
        run.held = held(engine)
    run.broker.stop()
    last = json.loads(ended.out.splitlines()[-1])
    assert last["ended"] == [0, 0], (last, ended.err[-2000:])
    assert last["whole"], (last, ended.err[-2000:])
    run.moments["driving"].lasts_s = run.moments["blow"].lasts_s = TELLS_S
    run.moments["clip"].lasts_s = min(_between(run, "clip begins", "clip ends"), LONGEST_S)
    run.moments["upload"].lasts_s = LONGEST_S


def wear(run: Run, from_s: float, to_s: float) -> tuple[float, float]:
    """Return bytes written and flushes an hour, between two times of the car's clock."""
    assert run.log is not None
    said = [(at, int(line.split()[1]) / S) for at, _, line in run.disk.said if line.startswith("now ")]
    (first, began_s), *_, (last, ended_s) = [(at, now_s) for at, now_s in said if from_s <= now_s <= to_s]
    writes = [write for write in run.log.writes if first < write.end <= last]
    hours = (ended_s - began_s) / 3600
    return sum(w.size for w in writes) / hours, sum(bool(w.flags & FLUSH) for w in writes) / hours


def last_entries(store: Path) -> dict[Key, bytes]:
    """Return every record that a store ends with, checked."""
    with Store.open(store) as opened:
        assert opened.verify().ok
    return entries_of(store)
