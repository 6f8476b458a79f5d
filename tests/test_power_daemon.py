"""The whole daemon on a car that parks, in virtual time: polling, trip, sync, rest, cut-off, waking."""

import functools
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent import clock
from agent.blocks import BLOCK, Block
from agent.channels import number
from agent.daemon import Daemon, Place
from agent.power.settings import PowerRules
from agent.records import Health, Trip
from agent.settings import AgentConfig
from agent.store import Store
from agent.timekeeping import Timekeeper
from tests.agreed import AGREED
from tests.virtual import START_NS, WALL_NS, S, VirtualTime

DRIVE_S = 150.0
BOOT = "b" * 32


class Car:
    """Drives until `off_s`, stands until `on_s`, drives again; its control units sleep once nobody asks."""

    def __init__(self, time: VirtualTime, off_s: float, on_s: float) -> None:
        self.time, self.off_s, self.on_s = time, off_s, on_s
        self.asked: list[float] = []  # when control units were asked
        self.knock_s = -1.0
        self.resting_v = 12.6

    def driving(self, t: float) -> bool:
        return t < self.off_s or t >= self.on_s

    def obd(self, t: float) -> list[tuple[str, float]]:
        self.asked.append(t)
        if self.driving(t):
            return [("Obd.Speed", 15.0 if t > 5 else 0.0), ("Obd.EngineSpeed", 1900.0)]
        return [("Obd.Speed", 0.0), ("Obd.EngineSpeed", 0.0)]

    def gps(self, t: float) -> list[tuple[str, float]]:
        east = 11.0 + 2e-4 * min(t, self.off_s)
        speed = 15.0 if self.driving(t) and t > 5 else 0.05
        fix = [("Gnss.FixType", 3.0), ("Gnss.Latitude", 48.0), ("Gnss.Longitude", east), ("Gnss.Speed", speed)]
        return [*fix, ("Gnss.HorizontalAccuracy", 3.0)]

    def imu(self, t: float) -> list[tuple[str, float]]:
        hit = 6.0 if 0 <= t - self.knock_s < 0.15 else 0.0
        shake = 0.5 if self.driving(t) and int(t * 25) % 2 else -0.0
        return [("Imu.Acceleration.X", shake + hit), ("Imu.Acceleration.Y", 0.0), ("Imu.Acceleration.Z", 9.81)]

    def supply(self, t: float) -> list[tuple[str, float]]:
        return [("Power.Voltage", 14.2 if self.driving(t) else self.resting_v)]


class Wire:
    """One of the car's devices; one that can be paused asks the car's control units."""

    def __init__(self, car: Car, name: str, rate_hz: float, gives: Any) -> None:
        self.name, self.car, self.rate_hz, self.gives = name, car, rate_hz, gives
        self.opened = self.closed = 0
        self._closing = threading.Event()
        self._next = 0

    def open(self) -> None:
        self.opened += 1
        self._next = int(self.car.time.now_s * self.rate_hz) + 1

    def close(self) -> None:
        self.closed += 1

    def read(self, timeout_s: float) -> Block:
        time = self.car.time
        time.wait(self._closing, min(max(self._next / self.rate_hz - time.now_s, 0.1), timeout_s))
        samples = []
        while self._next <= time.now_s * self.rate_hz:
            t = self._next / self.rate_hz
            samples += [(START_NS + int(t * S), number(name), value) for name, value in self.said(t)]
            self._next += 1
        return np.array(samples, BLOCK)

    def said(self, t: float) -> list[tuple[str, float]]:
        return self.gives(t)  # type: ignore[no-any-return]


class Polled(Wire):
    paused = False

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def said(self, t: float) -> list[tuple[str, float]]:
        return [] if self.paused else super().said(t)


class Receiver:
    """In place of sync: holds everything `slow_s` after it was connected, or never."""

    slow_s: float | None = 3.0
    connections: list["Receiver"] = []  # noqa: RUF012 — made anew for every test

    def __init__(self, store: Store, *rest: Any) -> None:
        self.store, self.begun_ns, self.ended_ns = store, clock.monotonic_ns(), 0
        self.connections.append(self)

    @property
    def caught_up(self) -> bool:
        if self.slow_s is None or clock.monotonic_ns() - self.begun_ns < self.slow_s * S:
            return False
        self.store.acknowledge(self.store.heads())
        return True

    @property
    def heard(self) -> bool:
        return self.slow_s is not None

    @property
    def progress(self) -> int:
        return sum(self.store.positions().values())

    def tell(self, output: object) -> None:
        pass

    def wake(self) -> None:
        pass

    def stop(self) -> None:
        self.ended_ns = clock.monotonic_ns()


class Night:
    """A daemon, its car, and what came of a run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, rules: PowerRules, on_s: float = 1e9) -> None:
        self.time = VirtualTime(monkeypatch)
        self.car = Car(self.time, DRIVE_S, on_s)
        car = self.car
        self.wires: dict[str, Wire] = {
            "elm": Polled(car, "elm327:/dev/rfcomm0", 5.0, car.obd),
            "gps": Wire(car, "gps:127.0.0.1:2947", 1.0, car.gps),
            "imu": Wire(car, "imu:first", 25.0, car.imu),
            "power": Wire(car, "power", 1.0, car.supply),
        }
        self.folder, self.ticks = folder, 0
        Receiver.connections = []
        monkeypatch.setattr(Daemon, "_send", Receiver)
        keeper = functools.partial(Timekeeper, wall_minus_monotonic_ns=lambda: WALL_NS, kernel_error_ns=lambda: None)
        monkeypatch.setattr("agent.daemon.Timekeeper", keeper)
        config = AgentConfig(consent=AGREED, power=rules)
        self.lines: list[str] = []
        line = SimpleNamespace(
            **{word: lambda *_: None for word in ("ready", "starting", "stopping")},
            status=self.lines.append,
            fed=self._fed,
        )
        place = Place(folder, boot=BOOT, watchdog=line)  # type: ignore[arg-type]
        self.daemon = Daemon(config, place, [functools.partial(lambda w: w, w) for w in self.wires.values()])
        self.ticked: list[float] = []

    def _fed(self, now_ns: int) -> None:
        self.ticked.append((now_ns - START_NS) / S)

    def runs(self, until_s: float) -> "Night":
        self.time.after(until_s, self.daemon.stop)
        self.daemon.run()
        return self

    @property
    def told(self) -> list[tuple[float, str, str]]:
        """When the daemon said what about its power."""
        with Store.open(self.folder, read_only=True) as store:
            health = [kept.record for kept in store.records(Health, BOOT)]
        return [((h.t_ns - START_NS) / S, h.state, h.detail) for h in health if h.source == "power:state"]

    def trips(self) -> list[Trip]:
        with Store.open(self.folder, read_only=True) as store:
            return [kept.record for kept in store.records(Trip, BOOT)]

    def block(self) -> Block:
        with Store.open(self.folder, read_only=True) as store:
            return store.read_block(0, START_NS * 1000, BOOT)


@pytest.fixture
def night(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    Receiver.slow_s = 3.0
    return functools.partial(Night, monkeypatch, tmp_path)


def test_a_parked_car_is_left_alone_with_its_trip_closed_everything_sent_and_the_spine_resting(night: Any) -> None:
    one = night(PowerRules()).runs(1100.0)
    (parked_s, state, why), *rest = one.told
    assert rest == []
    assert parked_s == pytest.approx(DRIVE_S + 10 + 180, abs=15)
    assert (state, "0 rpm" in why, "12.6 V" in why) == ("ok", True, True)
    assert max(one.car.asked) <= parked_s + 1.2  # polling stopped at once
    (trip,) = one.trips()
    assert (trip.end_ns - START_NS) / S == pytest.approx(DRIVE_S, abs=15)
    assert trip.distance_m > 1500
    first, *beats = Receiver.connections
    assert (first.ended_ns - START_NS) / S < parked_s + 20  # all was acknowledged: sync rests
    assert len(beats) == 0 or (beats[0].begun_ns - START_NS) / S > parked_s + 880
    asleep = [t for t in one.ticked if parked_s + 60 < t < parked_s + 660]
    assert len(asleep) == pytest.approx(600, abs=5)  # once a second
    driving = [t for t in one.ticked if 100 < t < 200]
    assert len(driving) >= 900
    assert any(line.startswith("parked: ") for line in one.lines)


def test_waking_polls_within_seconds_and_begins_the_next_trip(night: Any) -> None:
    one = night(PowerRules(), on_s=700.0).runs(740.0)
    parked, woken = one.told
    assert woken[0] == pytest.approx(700.0, abs=4.5)
    assert any(part in woken[2] for part in ("rose", "moves", "shaken"))
    assert min(t for t in one.car.asked if t > parked[0] + 2) <= woken[0] + 1.0
    assert len(one.trips()) == 2
    assert sum(t.distance_m for t in one.trips()) > 1500 + 300


def test_a_heartbeat_connects_now_and_then_and_something_urgent_at_once(night: Any) -> None:
    one = night(PowerRules(heartbeat_s=300.0))
    one.time.after(1000.0, lambda: None)
    one.runs(2000.0)
    parked_s = one.told[0][0]
    times = [(c.begun_ns - START_NS) / S for c in Receiver.connections[1:]]
    assert 3 <= len(times) <= 6
    assert np.diff(times) == pytest.approx(310, abs=15)
    assert all(10 <= (c.ended_ns - c.begun_ns) / S <= 13 for c in Receiver.connections[1:-1])
    assert times[0] >= parked_s + 300


def test_without_a_network_it_rests_all_the_same(night: Any) -> None:
    Receiver.slow_s = None
    one = night(PowerRules(flush_s=60.0)).runs(1200.0)
    parked_s = one.told[0][0]
    first, *beats = Receiver.connections
    assert (first.ended_ns - START_NS) / S == pytest.approx(parked_s + 60, abs=25)
    assert beats[:-1]
    assert {round((b.ended_ns - b.begun_ns) / S) for b in beats[:-1]} <= {30, 31}  # nobody answers: no longer
    assert len(one.trips()) == 1  # durable, and sent when there is a network


def test_a_knock_at_night_is_kept_at_full_rate_and_the_rest_of_the_night_is_not(night: Any) -> None:
    one = night(PowerRules())
    one.car.knock_s = 1000.0
    one.runs(1200.0)
    block = one.block()
    t_s = (block["t"] - START_NS) / S
    inertial = np.isin(block["channel"], [number(f"Imu.Acceleration.{a}") for a in "XYZ"])
    around = inertial & (t_s >= 999.0) & (t_s < 1001.0)
    assert around.sum() == 150  # two seconds of three axes at 25 Hz
    assert (inertial & (t_s > 1010)).sum() <= 3 * 10  # once a minute
    fixes = (block["channel"] == number("Gnss.Speed")) & (t_s > 700) & (t_s < 1100)
    assert fixes.sum() == pytest.approx(400, abs=3)
    assert np.all(np.diff(block["t"]) >= 0)


def test_at_cut_off_the_command_runs_once_everything_is_durable_and_health_says_why(night: Any, tmp_path: Path) -> None:
    mark = tmp_path / "off"
    argv = (sys.executable, "-c", f"open({str(mark)!r}, 'a').write('x')")
    one = night(PowerRules(shutdown=argv))
    one.car.resting_v = 12.0

    def seen() -> None:
        assert not mark.exists()  # not before the supply was low for five minutes asleep

    one.time.after(DRIVE_S + 250, seen)
    one.runs(900.0)
    (_, parked_state, _), (cut_s, cut_state, why) = one.told
    assert (parked_state, cut_state) == ("ok", "degraded")
    assert "cut off: the supply has been at 12.2 V or less for 300 s" in why
    assert cut_s >= DRIVE_S + 300
    last = Receiver.connections[-1]
    assert last.ended_ns > START_NS + cut_s * S  # the receiver holds the reason, too
    process = one.daemon._parking._command if one.daemon._parking else None
    if process is not None:
        process.wait(20)
    assert mark.read_text() == "x"
    assert len(one.trips()) == 1


def test_a_command_that_fails_is_told_in_one_line_and_tried_again(night: Any) -> None:
    one = night(PowerRules(shutdown=("/does/not/exist",)))
    one.car.resting_v = 12.0
    one.runs(1300.0)
    failed = [h for h in one.told if "shutdown command" in h[2]]
    assert len(failed) == 2
    assert failed[1][0] - failed[0][0] == pytest.approx(600, abs=2)
    assert "/does/not/exist: No such file or directory" in failed[0][2]


def test_devices_may_be_closed_while_parked_and_are_opened_when_it_wakes(night: Any) -> None:
    one = night(PowerRules(turn_off=("gps",)), on_s=700.0)
    one.runs(730.0)
    assert one.wires["gps"].opened == 2
    assert one.wires["imu"].opened == 1
    block = one.block()
    fixes = (block["t"][block["channel"] == number("Gnss.Speed")] - START_NS) / S
    parked_s, woken_s = (h[0] for h in one.told)
    assert not len(fixes[(fixes > parked_s + 3) & (fixes < woken_s)])
    assert fixes[fixes > woken_s].min() < woken_s + 3


@pytest.mark.parametrize("stop_s", [151.0, 300.0, 339.0, 345.0, 420.0])
def test_ending_at_any_time_around_parking_loses_no_trip(night: Any, stop_s: float) -> None:
    one = night(PowerRules()).runs(stop_s)
    (trip,) = one.trips()
    assert (trip.end_ns - START_NS) / S == pytest.approx(DRIVE_S, abs=15)
