"""A driver that hangs while it reads, opens or closes: given up in time, not heard again, freed."""

import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from agent import clock
from agent.blocks import Block, make_block
from agent.channels import number
from agent.errors import DriverError
from agent.feed import Feed, FeedSettings
from agent.feeds import DeviceHangsError, Feeds
from agent.intake import Intake
from agent.ladder import Ladder
from agent.settings import AgentConfig

S = 1_000_000_000
SPEED = number("Vehicle.Speed")
SETTINGS = FeedSettings()
PATIENCE_S = 60.0


class Port:
    """A serial port: one thread at a time may have it. `hang` names the step in which its first user hangs."""

    def __init__(self, hang: str = "", fault: Exception | None = None) -> None:
        self.hang, self.fault = hang, fault
        self.hangs, self.go_on = threading.Event(), threading.Event()
        self.user: Device | None = None
        self.touched: list[tuple[int, str]] = []  # which user did what
        self.users = 0


class Device:
    """One opening of the port."""

    name = "fake:tty"

    def __init__(self, port: Port) -> None:
        self.port = port
        port.users += 1
        self.number = port.users

    def open(self) -> None:
        self._step("open")
        if self.port.user not in (None, self):
            raise DriverError("fake:tty: device is busy")
        self.port.user = self

    def read(self, timeout_s: float) -> Block:
        clock.wait(threading.Event(), 0.1)
        self._step("read")
        if self.number == 1 and self.port.hang == "close":
            raise DriverError("fake:tty: unplugged")
        return make_block([(clock.monotonic_ns(), SPEED, float(self.number))])

    def close(self) -> None:
        self._step("close")
        if self.port.user is self:
            self.port.user = None

    def _step(self, step: str) -> None:
        port = self.port
        port.touched.append((self.number, step))
        if self.number == 1 and step == port.hang and not port.go_on.is_set():
            port.hangs.set()
            assert port.go_on.wait(PATIENCE_S)
            if port.fault is not None:
                raise port.fault


class Time:
    """A clock that the test moves; `wait` returns at once and moves it while `running`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 1000 * S
        monkeypatch.setattr(clock, "monotonic_ns", lambda: self.now_ns)
        monkeypatch.setattr(clock, "wait", self.wait)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.now_ns += int(seconds * S)
        return event.is_set()


def given_up(time: Time, port: Port, intake: Intake) -> tuple[Feed, Feed]:
    """Let a feed hang; return it and its successor, not started."""
    feed = Feed(lambda: Device(port), intake, SETTINGS)
    feed.start()
    assert port.hangs.wait(PATIENCE_S)
    limit_s = SETTINGS.open_s if port.hang == "open" else SETTINGS.hang_s
    since_ns = time.now_ns
    time.now_ns = since_ns + int((limit_s - 1) * S)
    assert feed.hanging(time.now_ns) is None
    time.now_ns = since_ns + int((limit_s + 1) * S)
    assert feed.hanging(time.now_ns) == port.hang
    return feed, feed.replace(time.now_ns, port.hang)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


@pytest.mark.parametrize("fault", [None, DriverError("gone"), TypeError("bad descriptor")], ids=["", "lost", "bug"])
@pytest.mark.parametrize("step", ["open", "read", "close"])
def test_a_thread_that_was_given_up_and_comes_back_closes_and_is_never_heard_again(
    step: str, fault: Exception | None, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    port, intake = Port(step, fault), Intake(100_000, S)
    feed, successor = given_up(time, port, intake)
    told_before = len(intake.take(time.now_ns, everything=True)[1])
    port.go_on.set()
    feed.join(PATIENCE_S)
    assert not feed.is_alive()
    block, told = intake.take(time.now_ns, everything=True)
    assert (len(block), len(told)) == (0, 0)
    assert told_before <= 2  # gives samples, lost
    intake.raise_bug()
    after = port.touched[port.touched.index((1, step)) + 1 :]
    assert set(after) <= {(1, "close")}  # it releases what it has and does no more
    assert port.user is None or fault is not None
    port.user = None
    ended_ns = time.now_ns + 12 * S
    original = time.wait

    def wait(event: threading.Event, seconds: float) -> bool:
        if time.now_ns >= ended_ns:
            successor.stop()
        return original(event, seconds)

    clock.wait = wait  # undone by the fixture's monkeypatch
    began_ns = time.now_ns
    successor.run()
    block, told = intake.take(time.now_ns, everything=True)
    assert set(block["value"].tolist()) == {2.0}
    assert [h.state for h in told] == ["ok"]
    assert told[0].t_ns - began_ns <= 2 * S  # recovery: at once, for the port is free


class _Late(Intake):
    """A queue that is reached a moment too late: the feed is given up between its own look and `put`."""

    feed: Feed | None = None

    def put(self, name: str, block: Block, now_ns: int, **how: Any) -> None:
        if self.feed is not None:
            self.feed.replace(now_ns, "read")
        super().put(name, block, now_ns, **how)


def test_what_is_just_being_put_when_the_thread_is_given_up_is_not_taken(time: Time) -> None:
    intake = _Late(1000, S)
    feed = intake.feed = Feed(lambda: Device(Port()), intake, SETTINGS)
    feed.run()
    assert len(intake.take(time.now_ns, everything=True)[0]) == 0


def test_a_device_that_a_hanging_thread_keeps_is_told_apart_from_one_that_is_merely_away(time: Time) -> None:
    port = Port("read")
    feed, successor = given_up(time, port, Intake(1000, S))
    assert not successor.barred(time.now_ns + 1000 * S)  # it has not tried yet
    successor._lost(DriverError("device is busy"))
    assert not successor.barred(time.now_ns + int((SETTINGS.retry_cap_s - 1) * S))
    assert successor.barred(time.now_ns + int((SETTINGS.retry_cap_s + 1) * S))
    port.go_on.set()
    feed.join(PATIENCE_S)
    assert not successor.barred(time.now_ns + int((SETTINGS.retry_cap_s + 1) * S))


class _Feed:
    """A feed whose device is barred."""

    name = "fake:tty"

    def barred(self, now_ns: int) -> bool:
        return True

    def hanging(self, now_ns: int) -> str | None:
        return None


def test_a_barred_device_ends_the_process_once_and_not_again_and_again(tmp_path: Path) -> None:
    feeds = Feeds([], Intake(1000, S), SETTINGS, patient=False)
    held: list[Any] = [_Feed()]
    feeds._feeds = held
    first = Ladder(tmp_path, "b", AgentConfig().daemon.crashes)
    first.begin(0)
    with pytest.raises(DeviceHangsError, match="fake:tty is still held by a thread that hangs in it"):
        feeds.watch(S, first.crashes)
    first.crashed(S, "fake:tty is still held")
    second = Ladder(tmp_path, "b", AgentConfig().daemon.crashes)
    second.begin(2 * S)
    feeds.watch(3 * S, second.crashes)  # the others go on
