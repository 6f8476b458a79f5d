"""What is done about the power state: feeds that rest, and the trip, whatever the order of the signs."""

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import clock
from agent.blocks import Block, empty_block, make_block
from agent.channels import number
from agent.errors import ConfigError
from agent.feed import Feed, FeedSettings
from agent.intake import Intake
from agent.power.parking import TICK_S, Parking
from agent.power.settings import PowerRules
from agent.rest import Pausing
from agent.trips import TripSettings
from drivers.can.wire import CanSettings
from drivers.elm.settings import Elm327Settings
from drivers.elm327 import Elm327
from drivers.obdcan import ObdCan
from tests.power_cars import DRIVING, OFF, Life, S

SPEED = number("Obd.Speed")


class Asking:
    """A driver that asks the vehicle ten times a second, and notes when."""

    name = "elm327:fake"

    def __init__(self) -> None:
        self.paused = False
        self.asked: list[int] = []
        self.steps: list[str] = []
        self.closing = threading.Event()

    def open(self) -> None:
        self.steps.append("open paused" if self.paused else "open")

    def read(self, timeout_s: float) -> Block:
        clock.wait(self.closing, timeout_s if self.paused else 0.1)
        if self.paused:
            return empty_block()
        self.asked.append(clock.monotonic_ns())
        return make_block([(clock.monotonic_ns(), SPEED, 0.0)])

    def close(self) -> None:
        self.steps.append("close")

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A feed that lives in this thread, whose waits do what is planned: `at` (seconds -> act)."""
    driver = Asking()
    plan: dict[float, Any] = {}
    now = [1000 * S]

    def wait(event: threading.Event, seconds: float) -> bool:
        until = now[0] + int(seconds * S)
        while plan and (due := 1000 * S + int(min(plan) * S)) <= until:
            now[0] = max(now[0], due)
            plan.pop(min(plan))()
            if event.is_set():
                return True
        now[0] = until
        return event.is_set()

    monkeypatch.setattr(clock, "monotonic_ns", lambda: now[0])
    monkeypatch.setattr(clock, "wait", wait)
    return SimpleNamespace(feed=Feed(lambda: driver, Intake(1000, S), FeedSettings()), driver=driver, at=plan)


def asked_s(driver: Asking) -> list[float]:
    return [t / S - 1000 for t in driver.asked]


def test_a_resting_feed_asks_nothing_and_goes_on_within_a_second(feed: Any) -> None:
    feed.at |= {10.05: lambda: feed.feed.rest(0.0), 60.0: feed.feed.wake, 70.0: feed.feed.stop}
    feed.feed.run()
    asked = asked_s(feed.driver)
    assert max(t for t in asked if t < 50) <= 10.2
    assert 60.0 <= min(t for t in asked if t > 50) <= 61.2
    assert feed.driver.steps == ["open", "close"]


def test_a_device_that_is_turned_off_is_closed_and_opened_again_in_its_own_time(feed: Any) -> None:
    feed.at |= {10.0: lambda: feed.feed.rest(1.0, closed=True), 400.0: feed.feed.wake, 410.0: feed.feed.stop}
    feed.feed.run()
    assert feed.driver.steps == ["open", "close", "open", "close"]
    assert not [t for t in asked_s(feed.driver) if 10.2 < t < 400.0]


def test_a_feed_that_rests_or_is_closed_ends_at_once(feed: Any) -> None:
    feed.at |= {10.0: lambda: feed.feed.rest(1.0, closed=True), 20.0: feed.feed.stop}
    feed.feed.run()
    assert clock.monotonic_ns() == 1020 * S


def test_an_adapter_that_is_lost_while_parked_comes_back_paused(feed: Any) -> None:
    feed.feed.rest(0.0)
    feed.at |= {5.0: feed.feed.stop}
    feed.feed.run()
    assert feed.driver.steps == ["open paused", "close"]
    assert feed.driver.asked == []


def test_both_drivers_that_ask_can_leave_it(tmp_path: Any) -> None:
    assert isinstance(Elm327(Elm327Settings("/dev/null")), Pausing)
    assert isinstance(ObdCan(CanSettings(transmit=True), tmp_path), Pausing)


class Car:
    """Parking on fakes: a trip is open once the car was driven, until somebody closes it."""

    def __init__(self) -> None:
        self.spine = SimpleNamespace(driving=False)
        self.opened = self.closed = self.flushed = 0
        self.kept: list[Block] = []
        self.rested = False
        self.refusals = self.attempts = 0
        feed = SimpleNamespace(name="elm327:x", rest=lambda *_, **__: self._rest(True), wake=lambda: self._rest(False))
        store = SimpleNamespace(heads=dict, positions=dict)
        receiver = SimpleNamespace(progress=0, caught_up=True, wake=lambda: None, stop=lambda: None)
        keeper = SimpleNamespace(append=lambda *_: None, append_block=self.kept.append, flush=self._flush)
        self.pipeline = SimpleNamespace(spine=self.spine, sending=None, thin=None, park=self._park)
        self.life = Life()
        self.parking = Parking(
            PowerRules(budget_wh=0.5),
            TripSettings(),
            self.pipeline,  # type: ignore[arg-type]
            keeper,  # type: ignore[arg-type]
            store,  # type: ignore[arg-type]
            self.life.now_s * S,
            feeds=lambda: [feed],  # type: ignore[list-item]
            linger=lambda _: None,
            connect=lambda: self.connect(receiver),
            status=lambda _: None,
        )
        self.life.power = self.parking.power

    def connect(self, receiver: Any) -> Any:
        self.attempts += 1
        if self.attempts <= self.refusals:
            raise ConfigError("broker.key: cannot be read")
        return receiver

    def _rest(self, rested: bool) -> None:
        self.rested = rested

    def _flush(self) -> None:
        self.flushed += 1

    def _park(self) -> None:
        assert self.spine.driving
        assert self.parking.power.asleep
        self.spine.driving = False
        self.closed += 1

    def goes_on(self, seconds: int, wires: dict[str, Any]) -> None:
        for _ in range(seconds):
            block = self.life.samples(**({"shake": None} | wires))
            self.life.now_s += 1
            self.parking.take(block)
            if (wires.get("gnss") or 0.0) > 5.0 and not self.spine.driving:
                self.spine.driving = True
                self.opened += 1
            self.pipeline.thin(block)  # type: ignore[misc]
            self.parking.step(self.life.now_s * S)
            assert self.rested == self.parking.power.asleep
            assert self.parking.tick_s == (1.0 if self.rested else TICK_S)


LIVES: dict[str, dict[str, Any]] = {
    "drives": {**DRIVING, "volts": 14.2},
    "waits": {"rpm": 0.0, "speed": 0.0, "gnss": 0.1, "volts": 12.2, "shake": 0.03},
    "idles": {"rpm": 800.0, "speed": 0.0, "gnss": 0.1, "volts": 14.2, "shake": 0.12},
    "off": OFF,
    "key off": {**OFF, "ignition": 0.0},
    "dead": {},
    "shakes": {**OFF, "shake": 0.5},
    "starter": {**OFF, "volts": 8.0},
    "bus": {**OFF, "frames": 0.0},
}


def test_a_key_that_cannot_be_read_just_now_ends_nothing_and_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    car = Car()
    car.refusals = 3
    car.goes_on(150, {})
    assert car.pipeline.sending is None
    assert car.attempts == 3
    car.goes_on(60, {})
    assert car.pipeline.sending is not None
    assert [r.getMessage() for r in caplog.records].count("broker.key: cannot be read; tried again in 60 s") == 3


@settings(max_examples=16, deadline=None)
@given(lived=st.lists(st.tuples(st.sampled_from(sorted(LIVES)), st.integers(1, 300)), max_size=10))
def test_no_order_of_signs_loses_an_open_trip_or_keeps_the_car_awake_for_ever(lived: list[tuple[str, int]]) -> None:
    car = Car()
    for what, seconds in lived:
        car.goes_on(seconds, LIVES[what])
    car.goes_on(970, OFF)
    assert car.parking.power.asleep
    assert not car.spine.driving
    assert car.opened == car.closed
    assert car.flushed


@settings(max_examples=16, deadline=None)
@given(cuts=st.lists(st.integers(1, 1499), max_size=30) | st.just(list(range(25, 1500, 25))), hit=st.integers(5, 50))
def test_what_is_kept_of_a_night_is_in_order_once_and_whole_around_a_knock(cuts: list[int], hit: int) -> None:
    from agent.power.quiet import Quiet

    t = np.arange(60 * 25) * (S // 25)
    night = np.empty((len(t), 2), empty_block().dtype)
    night["t"], night["channel"] = t[:, None], [number("Imu.Acceleration.X"), number("Power.Voltage")]
    night["value"] = 0.0
    night["value"][hit * 25 : hit * 25 + 3, 0] = 8.0
    quiet = Quiet(20.0)
    quiet.begin()
    kept = [quiet.keep(part.ravel()) for part in np.split(night, sorted(cuts)) if len(part)]
    kept.append(quiet.end())
    whole = np.concatenate(kept)
    assert np.all(np.diff(whole["t"]) >= 0)
    assert (whole["channel"] == number("Power.Voltage")).sum() == len(t)
    inertial = whole[whole["channel"] == number("Imu.Acceleration.X")]
    assert len(np.unique(inertial["t"])) == len(inertial)
    assert (inertial["value"] == 8.0).sum() == 3
    around = (t >= (hit - 1) * S) & (t <= hit * S)
    if np.max(np.diff([0, *sorted(cuts), len(t)])) <= 25:  # as feeds bring them
        assert np.isin(t[around], inertial["t"]).all()
        assert len(inertial) < 8 * 25
