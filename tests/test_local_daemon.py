"""The real daemon with devices that obey, asked, watched and lent from through its local socket."""

import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent import clock
from agent.blocks import Block, empty_block, make_block
from agent.channels import number
from agent.daemon import Daemon, Place
from agent.errors import DriverError
from agent.ladder import LADDER_FILE
from agent.local import client, loans, server
from agent.local.client import NoDaemonError, RefusedError
from agent.local.loans import Loans
from agent.local.messages import AskLend, Ended, Lent, Refusal, Status
from agent.local.standing import Car
from agent.power.machine import PowerState
from agent.power.settings import PowerRules
from agent.records import Health
from agent.settings import AgentConfig
from agent.store import Store
from tests.agreed import AGREED
from tests.test_local_socket import until
from tests.test_parking import Asking, feed  # noqa: F401 — a fixture

S = 1_000_000_000
LONG_S = 100.0
ROOT = Path(__file__).resolve().parents[1]
RPM, SPEED, VOLTS = number("Obd.EngineSpeed"), number("Obd.Speed"), number("Power.Voltage")


class Obedient:
    """A device that says what it is told to, ten times a second, and notes how it is used."""

    def __init__(self, name: str, says: dict[int, float], lost: str = "") -> None:
        self.name, self.says, self.lost = name, says, lost
        self.steps: list[str] = []
        self.counts = {"asked": 0}
        self._never = threading.Event()

    def open(self) -> None:
        if self.lost:
            raise DriverError(self.lost)
        self.steps.append("open")

    def read(self, timeout_s: float) -> Block:
        clock.wait(self._never, 0.1)
        self.counts["asked"] += 1
        now_ns = clock.monotonic_ns()
        return (
            make_block([(now_ns, channel, value) for channel, value in self.says.items()])
            if self.says
            else empty_block()
        )

    def close(self) -> None:
        self.steps.append("close")

    @property
    def opened(self) -> bool:
        return self.steps[-1:] == ["open"]


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A daemon in a thread with three devices, one of them lost; its broker is not there.

    It may take long on a machine that is busy, or has no compiled kernels yet.
    """
    for phase in server._PATIENCE_NS:
        monkeypatch.setitem(server._PATIENCE_NS, phase, 100 * S)
    monkeypatch.setattr(loans, "CLOSE_NS", 100 * S)
    obd = Obedient("elm327:fake", {SPEED: 0.0, RPM: 0.0})
    power = Obedient("power:fake", {VOLTS: 12.4})
    lost = Obedient("gps:fake", {}, "gps:fake: no such device; is it plugged in?")
    config = tmp_path / "agent.toml"
    config.write_text("[drivers]\n")
    daemon = Daemon(
        AgentConfig(consent=AGREED),
        Place(tmp_path / "store", config, boot="b" * 32),
        [lambda: obd, lambda: power, lambda: lost],
    )
    bugs: list[BaseException] = []

    def run() -> None:
        try:
            daemon.run()
        except BaseException as bug:
            bugs.append(bug)

    thread = threading.Thread(target=run)
    thread.start()
    until((tmp_path / "store" / "agent.sock").exists)
    yield SimpleNamespace(folder=tmp_path / "store", config=config, daemon=daemon, obd=obd, power=power)
    daemon.stop()
    thread.join(60.0)
    assert bugs == []
    with pytest.raises(NoDaemonError):
        client.status(tmp_path / "store")


def works(folder: Path) -> Status:
    """Wait until the devices have spoken; return the status."""
    found: list[Status] = []

    def spoken() -> bool:
        found.append(client.status(folder, LONG_S))
        return {d.name for d in found[-1].devices if d.samples} == {"elm327:fake", "power:fake"}

    until(spoken)
    return found[-1]


def status_of(running: Any) -> Status:
    return client.status(running.folder, LONG_S)


def lends(folder: Path) -> list[Health]:
    with Store.open(folder, read_only=True) as store:
        return [s.record for s in store.records(Health) if s.record.source.startswith("lend:")]


def test_it_says_how_it_is_shows_what_happens_and_lends_its_devices(running: Any) -> None:
    status = works(running.folder)
    assert (status.level, status.boot, status.recording, status.trip) == ("normal", "b" * 32, False, False)
    assert status.config == str(running.config)
    assert len(status.config_sha256) == 64
    assert status.consent is not None
    assert status.consent.purposes == ["recording", "video"]
    assert status.store is not None
    assert status.store.bytes > 0
    assert {lane.name: lane.head > 0 for lane in status.lanes}["health"]
    devices = {d.name: d for d in status.devices}
    assert devices["gps:fake"].error == "gps:fake: no such device; is it plugged in?"
    assert devices["gps:fake"].state == "lost"
    assert devices["elm327:fake"].state == "open"
    assert devices["elm327:fake"].newest_ns is not None

    ticks = client.watch(running.folder, LONG_S)
    first = next(ticks)
    assert "is it plugged in" in " ".join(line.text for line in first.happened)
    seen: dict[int, float] = {}
    while not {SPEED, RPM, VOLTS} <= seen.keys():
        seen = {v.channel: v.value for v in next(ticks).values}
    assert seen[VOLTS] == 12.4

    with client.lend(running.folder, "elm327:fake", "doctor", 600.0, LONG_S, about="looks") as borrowed:
        assert not running.obd.opened
        borrowed.check()
        until(lambda: [d.state for d in status_of(running).devices if d.name == "elm327:fake"] == ["lent"])
        assert [(a.device, a.purpose) for a in status_of(running).loans] == [("elm327:fake", "doctor")]
        for device, why in (
            ("elm327:fake", "is lent to user"),
            ("canbus:can7", "no device canbus:can7; it reads elm327"),
        ):
            with (
                pytest.raises(RefusedError, match=why),
                client.lend(running.folder, device, "monitor", timeout_s=LONG_S),
            ):
                pass
        assert not running.obd.opened
    until(lambda: running.obd.opened)
    until(lambda: len(lends(running.folder)) == 2)
    given, back = lends(running.folder)
    assert (given.state, given.facts["purpose"], given.facts["about"]) == ("degraded", "doctor", "looks")
    assert (back.source, back.state) == ("lend:elm327:fake", "ok")
    while not any("taken back" in line.text for line in next(ticks).happened):
        pass


def test_a_killed_client_gives_back_and_a_loan_ends_in_time(running: Any) -> None:
    works(running.folder)
    code = (
        "import sys; from pathlib import Path; from agent.local.client import lend\n"
        "with lend(Path(sys.argv[1]), 'power:fake', 'doctor', 600.0, 100.0):\n"
        "    print('lent', flush=True); sys.stdin.read()"
    )
    borrower = subprocess.Popen(
        [sys.executable, "-c", code, running.folder], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with borrower:
        assert borrower.stdout is not None
        assert borrower.stdout.readline() == b"lent\n"
        assert not running.power.opened
        borrower.kill()
    until(lambda: running.power.opened)
    with client.lend(running.folder, "power:fake", "doctor", 0.3, LONG_S) as borrowed:
        until(lambda: running.power.opened)  # its time is over, although nobody went
        with pytest.raises(RefusedError, match="is over"):
            borrowed.check()


def test_an_agent_that_holds_after_crashes_says_so(tmp_path: Path) -> None:
    now_ns = clock.monotonic_ns()
    kept = {"boot": "b", "crashes": [now_ns] * 6, "running": False, "reason": "canbus:can0 hung"}
    (tmp_path / LADDER_FILE).write_text(json.dumps(kept))
    daemon = Daemon(AgentConfig(), Place(tmp_path, boot="b"), [lambda: Obedient("elm327:fake", {})])
    thread = threading.Thread(target=daemon.run)
    thread.start()
    until((tmp_path / "agent.sock").exists)
    status = client.status(tmp_path, LONG_S)
    assert (status.level, status.level_reason, status.devices) == ("hold", "canbus:can0 hung", [])
    daemon.stop()
    thread.join(60.0)


# who closes a device: parking, a loan, or both


@pytest.mark.parametrize("parked_first", [True, False])
@pytest.mark.parametrize("woken_first", [True, False])
@pytest.mark.parametrize("closed", [True, False])
def test_neither_parking_nor_a_loan_opens_what_the_other_has_closed(
    feed: Any,  # noqa: F811
    parked_first: bool,
    woken_first: bool,
    closed: bool,
) -> None:
    one, driver = feed.feed, feed.driver
    park, wake = (lambda: one.rest(0.0, closed=closed)), one.wake
    feed.at |= dict(zip((10.0, 20.0), (park, one.lend) if parked_first else (one.lend, park), strict=True))
    feed.at |= dict(zip((300.0, 400.0), (wake, one.take_back) if woken_first else (one.take_back, wake), strict=True))
    opened: list[bool] = []
    feed.at |= {299.0: lambda: opened.append(driver.steps[-1] != "close")}
    feed.at |= {399.0: lambda: opened.append(driver.steps[-1] != "close")}
    feed.at |= {500.0: lambda: opened.append(driver.steps[-1] != "close"), 510.0: one.stop}
    one.run()
    assert opened == [False, not woken_first and not closed, True]
    assert asked_between(driver, 25.0, 299.0) == []
    assert asked_between(driver, 450.0, 500.0) != []


def asked_between(driver: Asking, start_s: float, end_s: float) -> list[float]:
    return [t for t in (ns / S - 1000 for ns in driver.asked) if start_s < t < end_s]


def test_a_lost_device_is_lent_at_once_and_not_touched_meanwhile(feed: Any) -> None:  # noqa: F811
    one, tries = feed.feed, []

    def fails() -> None:
        tries.append(clock.monotonic_ns() / S - 1000)
        raise DriverError("elm327:fake: unplugged")

    feed.driver.open = fails
    states: list[str] = []
    feed.at |= {100.0: one.lend, 101.0: lambda: states.append(one.account.state), 500.0: one.take_back, 700.0: one.stop}
    one.run()
    assert states == ["closed"]
    assert not [t for t in tries if 100.0 < t < 500.0]
    assert [t for t in tries if t >= 500.0]
    assert one.account.error == "elm327:fake: unplugged"


# what is refused


class FakeFeed:
    """A feed that closes at once."""

    name = "obd"

    def __init__(self) -> None:
        self.account = SimpleNamespace(state="open", error="it hangs")
        self.hangs: str | None = None

    def lend(self) -> None:
        self.account.state = "closed"

    def take_back(self) -> None:
        self.account.state = "open"

    def hanging(self, now_ns: int) -> str | None:
        return self.hangs

    def barred(self, now_ns: int) -> bool:
        return False


class Counter:
    """Loans of one device of a car that `power` and `spine` describe."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.healths: list[Health] = []
        self.power = PowerState(PowerRules(), 0)
        self.spine = SimpleNamespace(speed=None)
        self.recorder = SimpleNamespace(growing=False)
        self.parking: Any = SimpleNamespace(power=self.power)
        self.feed = FakeFeed()
        self.board: Any = SimpleNamespace(
            wishes=deque(), gone=deque(), tell=lambda client, answer, last=False: self.told.append(answer)
        )
        pipeline: Any = SimpleNamespace(spine=self.spine, incidents=SimpleNamespace(recorder=self.recorder))
        car = Car(pipeline, lambda: self.parking, 300.0)
        feeds: Any = [self.feed]
        self.loans = Loans(self.board, feeds, car, self.healths.append)

    def ask(self, t_s: float, purpose: str = "doctor", device: str = "obd", seconds: float = 60.0, who: int = 1) -> Any:
        asked = AskLend(device=device, purpose=purpose, seconds=seconds)
        self.board.wishes.append(SimpleNamespace(client=who, asked=asked, uid=1000))
        self.step(t_s)
        return self.told[-1]

    def step(self, t_s: float) -> None:
        self.loans.step(int(t_s * S))

    def hears(self, t_s: float, **says: float) -> None:
        names = {"rpm": RPM, "speed": SPEED, "volts": VOLTS, "ignition": number("Power.Ignition")}
        self.power.take(make_block([(int(t_s * S), names[n], v) for n, v in says.items()]))
        self.power.step(int(t_s * S))


@pytest.mark.parametrize(
    ("says", "fused_mps", "why"),
    [
        ({"rpm": 800.0, "speed": 0.0}, None, "the engine turns at 800 rpm"),
        ({"rpm": 0.0, "speed": 12.0}, None, "the car moves"),
        ({"rpm": 0.0, "speed": 0.0}, 3.0, "the car moves at 11 km/h"),
        ({"rpm": 0.0, "speed": 0.0, "volts": 14.2}, None, "the supply is charged at 14.2 V"),
        ({"speed": 0.0}, None, "no engine speed is heard"),
        ({}, None, "no engine speed is heard"),
        ({"rpm": 0.0}, None, "neither a speed nor shaking is measured"),
        ({"rpm": 0.0, "speed": 0.0, "volts": 12.5}, 0.1, ""),
        ({"ignition": 0.0, "speed": 0.0}, None, ""),
    ],
)
def test_something_in_the_vehicle_is_changed_only_while_it_is_known_to_stand(
    says: dict[str, float], fused_mps: float | None, why: str
) -> None:
    counter = Counter()
    counter.hears(100.0, **says)
    counter.spine.speed = None if fused_mps is None else (100 * S, fused_mps)
    answer = counter.ask(100.5, "clear")
    if why:
        assert isinstance(answer, Refusal)
        assert why in answer.reason
        assert counter.feed.account.state == "open"
        assert isinstance(counter.ask(100.6), Lent)  # to look does not change anything
    else:
        assert isinstance(answer, Lent)
        counter.hears(110.0, rpm=900.0)
        counter.step(110.1)
        assert counter.told[-1] == Ended(device="obd", reason="the engine turns at 900 rpm")
        assert counter.feed.account.state == "open"


def _grows(counter: Counter) -> None:
    counter.recorder.growing = True


def _hangs(counter: Counter) -> None:
    counter.feed.hangs = "read"


def _replays(counter: Counter) -> None:
    counter.parking = None


@pytest.mark.parametrize(
    ("given", "why"),
    [(_grows, "a crash is being recorded"), (_hangs, "obd hangs: it hangs"), (_replays, "a recording is replayed")],
)
def test_a_device_is_not_lent_when_it_is_needed_or_cannot_be_had(given: Callable[[Counter], None], why: str) -> None:
    counter = Counter()
    given(counter)
    assert why in counter.ask(1.0).reason
    assert counter.healths == []


def test_a_crash_takes_every_device_back_and_a_device_that_is_not_closed_is_not_lent() -> None:
    counter = Counter()
    assert isinstance(counter.ask(1.0), Lent)
    counter.recorder.growing = True
    counter.step(2.0)
    assert counter.told[-1] == Ended(device="obd", reason=loans.CRASH)
    assert [h.state for h in counter.healths] == ["degraded", "ok"]
    counter.recorder.growing = False
    counter.feed.lend = lambda: None  # type: ignore[method-assign]
    told = len(counter.told)
    counter.ask(3.0)
    counter.step(20.0)
    assert len(counter.told) == told
    counter.step(24.0)
    assert counter.told[-1] == Refusal(reason="obd hangs: it was not closed within 20 s")


def test_more_loans_than_a_technician_needs_are_refused() -> None:
    counter = Counter()
    for n in range(loans.MOST):
        assert isinstance(counter.ask(1.0 + n, who=n), Lent)
        counter.board.gone.append(n)
    assert "wait a little" in counter.ask(100.0, who=999).reason
    assert isinstance(counter.ask(700.0, who=1000), Lent)


def test_a_car_at_which_somebody_works_is_not_taken_for_parked() -> None:
    counter = Counter()
    counter.hears(1.0, rpm=800.0, volts=12.2)
    counter.ask(2.0, seconds=900.0)
    for t_s in range(3, 800):
        counter.step(t_s)
        counter.hears(t_s, volts=12.2)
    assert not counter.power.asleep
