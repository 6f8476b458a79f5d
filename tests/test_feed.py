"""Feeds in virtual time: outages, waits, hangs, facts; each told once."""

import itertools
import logging
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agent import clock
from agent.blocks import Block, empty_block, make_block
from agent.channels import number
from agent.errors import DriverError
from agent.feed import Feed, FeedSettings
from agent.intake import Intake
from agent.records import Health

S = 1_000_000_000
SPEED = number("Vehicle.Speed")


class Time:
    """A clock that moves when somebody waits; ends the feed at `end_ns`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, end_s: float = 1e9) -> None:
        self.now_ns = 1000 * S
        self.end_ns = self.now_ns + int(end_s * S)
        self.waits: list[float] = []
        self.over: Callable[[], None] = lambda: None
        monkeypatch.setattr(clock, "monotonic_ns", lambda: self.now_ns)
        monkeypatch.setattr(clock, "wait", self.wait)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self.pass_s(seconds)
        return event.is_set()

    def pass_s(self, seconds: float) -> None:
        self.now_ns += int(seconds * S)
        if self.now_ns >= self.end_ns:
            self.over()


class Device:
    """A driver that works except while `broken`, whose spans count from the start; it gives a sample every 0.1 s."""

    name = "fake:0"

    def __init__(self, time: Time, broken: list[tuple[float, float]]) -> None:
        self.time, self.begun_ns = time, time.now_ns
        self.broken = broken
        self.opened = 0
        self.facts: list[Health] = []

    def _check(self) -> None:
        at_s = (self.time.now_ns - self.begun_ns) / S
        if any(a <= at_s < b for a, b in self.broken):
            raise DriverError("fake:0: unplugged")

    def open(self) -> None:
        self.opened += 1
        self._check()

    def read(self, timeout_s: float) -> Block:
        self.time.pass_s(0.1)
        self._check()
        return make_block([(self.time.now_ns, SPEED, 1.0)])

    def close(self) -> None:
        pass

    def health(self) -> list[Health]:
        return self.facts


def run(time: Time, device: Any, **settings: float) -> tuple[Intake, list[Health]]:
    """Feed in this thread until the time is over; return the queue and what was told."""
    intake = Intake(1_000_000, S)
    feed = Feed(lambda: device, intake, FeedSettings(**settings), rng=random.Random(1))
    time.over = feed.stop
    feed.run()
    intake.raise_bug()
    _, told = intake.take(time.now_ns, everything=True)
    return intake, told


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "agent.feed"]


def test_an_outage_is_two_lines_and_two_records_however_often_it_is_tried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    time = Time(monkeypatch, 900)
    device = Device(time, [(20, 300), (500, 560)])
    _, told = run(time, device)
    said = lines(caplog)
    assert len(said) == 4
    assert said[0] == "fake:0: unplugged; it is tried again until it works"
    assert "works again after" in said[1]
    assert "attempts" in said[1]
    assert [h.state for h in told] == ["ok", "lost", "ok", "lost", "ok"]
    assert device.opened > 10


def test_waits_grow_to_the_cap_with_jitter_and_start_small_after_a_steady_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time = Time(monkeypatch, 3000)
    run(time, Device(time, [(0, 1000), (2000, 2000.3)]), retry_s=1.0, retry_cap_s=60.0)
    first, last = time.waits[:-1], time.waits[-1]
    assert all(0.5 * 2**i <= w <= 2**i for i, w in enumerate(first[:6]))
    assert all(30 <= w <= 60 for w in first[7:])
    assert len({round(w, 3) for w in first[7:]}) > 5
    assert last <= 1.0


def test_a_device_that_flaps_is_not_tried_in_a_tight_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time(monkeypatch, 600)
    device = Device(time, [(i + 0.15, i + 1.0) for i in range(600)])
    run(time, device)
    assert device.opened < 40


def test_a_silent_device_that_opens_counts_as_recovered_when_it_was_steady(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    time = Time(monkeypatch, 100)

    class Silent(Device):
        def read(self, timeout_s: float) -> Block:
            super().read(timeout_s)
            return empty_block()

    run(time, Silent(time, [(10, 20)]))
    assert len(lines(caplog)) == 2


def test_facts_are_told_when_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time(monkeypatch, 60)

    class Gps(Device):
        def read(self, timeout_s: float) -> Block:
            lost = 20 <= (self.time.now_ns - self.begun_ns) / S < 40
            state = "lost" if lost else "ok"
            self.facts = [Health(t_ns=self.time.now_ns, source="fix", state=state, detail=state)]  # type: ignore[arg-type]
            return super().read(timeout_s)

    _, told = run(time, Gps(time, []))
    assert [(h.source, h.state) for h in told] == [("fake:0", "ok"), ("fix", "lost"), ("fix", "ok")]


def test_a_hang_is_noticed_after_its_limit_and_the_successor_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    time = Time(monkeypatch)
    device = Device(time, [])
    hung, go_on = threading.Event(), threading.Event()

    class Hanging(Device):
        def read(self, timeout_s: float) -> Block:
            hung.set()
            go_on.wait(20)
            return make_block([(7, SPEED, 1.0)])

    made: list[Device] = [device, Hanging(time, [])]
    intake = Intake(1000, S)
    feed = Feed(made.pop, intake, FeedSettings(hang_s=15.0))
    feed.start()
    assert hung.wait(20)
    time.now_ns += 14 * S
    assert feed.hanging(time.now_ns) is None
    time.now_ns += 2 * S
    assert feed.hanging(time.now_ns) == "read"
    successor = feed.replace(time.now_ns, "read")
    go_on.set()
    feed.join(20)
    assert not len(intake.take(time.now_ns, everything=True)[0])  # what a given-up thread still reads is not believed
    time.end_ns, time.over = time.now_ns + 5 * S, successor.stop
    successor.run()
    said = lines(caplog)
    assert len(said) == 2
    assert "hangs in read for 15 s" in said[0]
    assert "works again" in said[1]


def test_a_bug_is_handed_over_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time(monkeypatch, 60)

    class Buggy(Device):
        def read(self, timeout_s: float) -> Block:
            raise ZeroDivisionError

    device = Buggy(time, [])
    with pytest.raises(ZeroDivisionError):
        run(time, device)
    assert device.opened == 1


@pytest.mark.parametrize("seed", range(20))
def test_any_schedule_of_faults_ends_with_the_device_working_and_every_outage_told_in_pairs(
    seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(seed)
    edges = sorted(chance.uniform(0, 3000) for _ in range(2 * chance.randint(1, 12)))
    broken = list(zip(edges[::2], edges[1::2], strict=True))
    time = Time(monkeypatch, 3000 + 61)  # the cap, and one read
    intake, told = run(time, Device(time, broken))
    said = lines(caplog)
    assert len(said) % 2 == 0
    assert all("tried again" in line for line in said[::2])
    assert all("works again" in line for line in said[1::2])
    assert told[-1].state == "ok"
    states = [h.state for h in told]
    assert all(a != b for a, b in itertools.pairwise(states))
    assert intake.counts("fake:0") == {}
