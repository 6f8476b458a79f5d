"""The whole daemon in virtual time: its threads run one at a time, and time passes only when all of them wait.

`clock.wait` is where threads take turns, so a run depends on nothing but its inputs. Devices are fakes that obey a
schedule of faults; what the queue took of them is noted, so that a test can ask for every sample again.
"""

import functools
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent import clock, feed
from agent.blocks import Block, empty_block, make_block
from agent.channels import number
from agent.clerk import Clerk
from agent.daemon import Daemon, Place
from agent.errors import DriverError
from agent.feed import Feed
from agent.intake import Intake
from agent.records import Health
from agent.settings import AgentConfig
from agent.store import Store
from agent.timekeeping import Timekeeper
from tests.agreed import AGREED

S = 1_000_000_000
START_NS = 1000 * S
STUCK_S = 30.0  # of real time


@dataclass
class _Waiting:
    until_ns: int
    name: str
    event: threading.Event
    gate: threading.Event = field(default_factory=threading.Event)


class VirtualTime:
    """Takes the place of `agent.clock` for the thread that makes it, all feeds and the clerk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> None:
        self.now_ns = START_NS
        self._lock = threading.Lock()
        self._running = 1
        self._waiting: list[_Waiting] = []
        self.at: list[tuple[int, Callable[[], object]]] = []  # what happens when, in order
        monkeypatch.setattr(clock, "monotonic_ns", lambda: self.now_ns)
        monkeypatch.setattr(clock, "wait", self.wait)
        seeds = itertools.count(seed * 1000)
        monkeypatch.setattr(feed, "random", SimpleNamespace(Random=lambda: random.Random(next(seeds))))
        for kind in (Feed, Clerk):  # the daemon's threads that wait for time; sync is a fake here
            self._take_turns(monkeypatch, kind)

    def _take_turns(self, monkeypatch: pytest.MonkeyPatch, kind: type[threading.Thread]) -> None:
        start, run, join = kind.start, kind.run, kind.join

        def started(one: threading.Thread) -> None:
            with self._lock:
                self._running += 1
            start(one)

        def ran(one: threading.Thread) -> None:
            try:
                self.wait(threading.Event(), 0.0)
                run(one)
            finally:
                self._leave()

        def joined(one: threading.Thread, timeout: float | None = None) -> None:
            self._leave()
            join(one, timeout)
            with self._lock:
                self._running += 1

        monkeypatch.setattr(kind, "start", started)
        monkeypatch.setattr(kind, "run", ran)
        monkeypatch.setattr(kind, "join", joined)

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return (self.now_ns - START_NS) / S

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        """Let something happen at a time of the run."""
        self.at.append((START_NS + round(seconds * S), act))
        self.at.sort(key=lambda planned: planned[0])

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Give the turn to others until `event` is set or the time has come."""
        mine = _Waiting(self.now_ns + max(round(seconds * S), 0), threading.current_thread().name, event)
        with self._lock:
            self._waiting.append(mine)
            self._running -= 1
            self._next()
        assert mine.gate.wait(STUCK_S), "somebody waits for what is not time"
        return event.is_set()

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1
            self._next()

    def _next(self) -> None:
        """Let one thread go on: one whose event is set, else the one whose time comes first."""
        if self._running or not self._waiting:
            return
        woken = [w for w in self._waiting if w.event.is_set()]
        chosen = min(woken or self._waiting, key=lambda w: (w.until_ns, w.name))
        if not woken:
            while self.at and self.at[0][0] <= chosen.until_ns:
                at_ns, act = self.at.pop(0)
                self.now_ns = max(self.now_ns, at_ns)
                act()
            self.now_ns = max(self.now_ns, chosen.until_ns)
        self._waiting.remove(chosen)
        self._running += 1
        chosen.gate.set()


# What each device gives: channel -> value at t seconds. The car goes round between 5 and 25 m/s.
Gives = dict[int, Callable[[float], float]]
_SPEED: Callable[[float], float] = lambda t: 15.0 + 10.0 * float(np.sin(t / 20.0))  # noqa: E731
DEVICES: dict[str, tuple[float, Gives]] = {
    "canbus:can0": (10.0, {number("Vehicle.Speed"): _SPEED, number("Obd.EngineSpeed"): lambda t: 2000.0}),
    "elm327:/dev/rfcomm0": (4.0, {number("Obd.Speed"): _SPEED}),
    "gps:127.0.0.1:2947": (
        1.0,
        {
            number("Gnss.FixType"): lambda t: 3.0,
            number("Gnss.Latitude"): lambda t: 48.0 + t * 1e-4,
            number("Gnss.Longitude"): lambda t: 11.0,
            number("Gnss.Speed"): _SPEED,
        },
    ),
    "imu:first": (
        20.0,
        {
            number("Imu.Acceleration.X"): lambda t: 0.1,
            number("Imu.Acceleration.Y"): lambda t: 0.0,
            number("Imu.Acceleration.Z"): lambda t: 9.81,
        },
    ),
}


@dataclass(frozen=True)
class Fault:
    """What is wrong with which device (or "store", "clock"), from when to when, in seconds of the run."""

    device: str
    kind: str  # unplugged, silent, hangs, flaps, floods, late; full, read-only; or years that the wall clock steps
    start_s: float
    end_s: float


class World:
    """The devices of one run, their faults, the machine's wall clock, and what the queue took of each device."""

    def __init__(self, time: VirtualTime, faults: Sequence[Fault] = (), names: Sequence[str] = tuple(DEVICES)) -> None:
        self.time = time
        self.faults = list(faults)
        self.names = names
        self.accepted: Counter[str] = Counter()
        self.came_s: dict[str, list[float]] = {name: [] for name in names}  # when samples were accepted
        self.opened: Counter[str] = Counter()
        self.wall_ns = WALL_NS
        self.store: Store | None = None

    def now(self, device: str) -> set[str]:
        """Return the faults of a device at this moment."""
        now_s = self.time.now_s
        return {f.kind for f in self.faults if f.device == device and f.start_s <= now_s < f.end_s}

    def fault_end_s(self, device: str, kind: str) -> float:
        """Return when the present fault is over."""
        now_s = self.time.now_s
        return max(
            f.end_s for f in self.faults if (f.device, f.kind) == (device, kind) and f.start_s <= now_s < f.end_s
        )

    def calm_s(self, device: str) -> float:
        """Return when the last fault of a device is over."""
        return max((f.end_s for f in self.faults if f.device == device), default=0.0)

    def makers(self) -> list[Callable[[], Any]]:
        """Return what the daemon makes its drivers with."""
        return [functools.partial(Device, self, name) for name in self.names]

    def plan(self) -> None:
        """Let the faults of the store and of the clock happen when it is time."""
        for f in self.faults:
            if f.device == "store":
                begin, end = _STORE_FAULTS[f.kind]
                self.time.after(f.start_s, functools.partial(self._pragma, begin))
                self.time.after(f.end_s, functools.partial(self._pragma, end))
            elif f.device == "clock":
                self.time.after(f.start_s, functools.partial(self._step, float(f.kind)))
                self.time.after(f.end_s, functools.partial(self._step, -float(f.kind)))

    def _pragma(self, sql: str) -> None:
        assert self.store is not None
        self.store._database.connection.execute(sql)

    def _step(self, years: float) -> None:
        self.wall_ns += int(years * 365.25 * 86_400) * S


WALL_NS = 1_795_000_000 * S  # of the wall clock, in November 2026, at monotonic 0
# SQLite then fails as it does on such a disk: SQLITE_FULL, SQLITE_READONLY
_STORE_FAULTS = {
    "full": ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 100000"),
    "read-only": ("PRAGMA query_only = 1", "PRAGMA query_only = 0"),
}


class Device:
    """A driver: gives what has happened since it was last asked, misses what happens while it is closed."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self._world = world
        self._rate_hz, self._gives = DEVICES[name]
        self._closing = threading.Event()
        self._next = 0

    def open(self) -> None:
        self._world.opened[self.name] += 1
        self._check()
        self._next = int(self._world.time.now_s * self._rate_hz) + 1

    def read(self, timeout_s: float) -> Block:
        time, faults = self._world.time, self._world.now(self.name)
        if "hangs" in faults:
            time.wait(self._closing, self._world.fault_end_s(self.name, "hangs") - time.now_s)
        due_s = self._next / self._rate_hz - time.now_s
        time.wait(self._closing, min(max(due_s, 0.2), timeout_s))
        self._check()
        faults = self._world.now(self.name)
        ticks = range(self._next, int(time.now_s * self._rate_hz) + 1)
        self._next = max(self._next, ticks.stop)
        if "silent" in faults or not ticks:
            return empty_block()
        back_ns = 3 * S if "late" in faults else 0
        times = np.repeat(START_NS + (np.array(ticks) * S / self._rate_hz).astype(np.int64), len(self._gives))
        if "floods" in faults:
            times = np.sort(np.concatenate([times] * 400))
        block = make_block([(0, 1, 0.0)] * len(times))
        block["t"] = times - back_ns
        block["channel"] = np.resize(np.array(list(self._gives), np.uint16), len(times))
        t_s = (times - START_NS) / S
        for channel, value in self._gives.items():
            mine = block["channel"] == channel
            block["value"][mine] = [value(t) for t in t_s[mine].tolist()]
        return block

    def close(self) -> None:
        self._closing.clear()

    def _check(self) -> None:
        faults, now_s = self._world.now(self.name), self._world.time.now_s
        if "unplugged" in faults or ("flaps" in faults and int(now_s * 2) % 2):
            raise DriverError(f"{self.name}: unplugged")


class _Quiet:
    """In place of sync, which has a clock of its own and tests of its own."""

    stopped, heard = True, False

    def tell(self, output: object) -> None:
        pass

    def wake(self) -> None:
        pass

    def stop(self) -> None:
        pass


def drive(
    world: World,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    end_s: float,
    settings: AgentConfig | None = None,
    boot: str = "b" * 32,
) -> Daemon:
    """Run the daemon with the world's devices until `end_s`."""
    put, into = Intake.put, Daemon._drive

    def noted(intake: Intake, name: str, block: Block, now_ns: int, **how: Any) -> None:
        if not how["unless"].is_set():
            world.accepted[name] += len(block)
            world.came_s[name].append(world.time.now_s)
        put(intake, name, block, now_ns, **how)

    def kept(daemon: Daemon, store: Store, *rest: Any) -> None:
        world.store = store
        into(daemon, store, *rest)

    monkeypatch.setattr(Intake, "put", noted)
    monkeypatch.setattr(Daemon, "_drive", kept)
    monkeypatch.setattr(Daemon, "_send", lambda *_: _Quiet())
    keeper = functools.partial(Timekeeper, wall_minus_monotonic_ns=lambda: world.wall_ns, kernel_error_ns=lambda: None)
    monkeypatch.setattr("agent.daemon.Timekeeper", keeper)
    daemon = Daemon(settings or AgentConfig(consent=AGREED), Place(folder, boot=boot), world.makers())
    world.plan()
    world.time.after(end_s, daemon.stop)
    daemon.run()
    return daemon


def check_nothing_lost(world: World, daemon: Daemon, folder: Path, boot: str = "b" * 32) -> list[Health]:
    """Assert that every sample that was accepted is stored or counted, and the chain whole; return what was told."""
    with Store.open(folder, read_only=True) as store:
        block = store.read_block(0, START_NS * 1000, boot)
        told = [kept.record for kept in store.records(Health, boot)]
        report = store.verify()
    assert report.ok, report
    assert np.all(np.diff(block["t"]) >= 0)
    for name in world.names:
        mine = np.isin(block["channel"], list(DEVICES[name][1]))
        counted = daemon._intake.counts(name)
        assert int(mine.sum()) + sum(counted.values()) == world.accepted[name], (name, counted)
    return told
