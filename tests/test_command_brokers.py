"""From the receiver's command line to a proved package and back, over real brokers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent import clock
from agent.blocks import Block, make_block
from agent.channels import number
from agent.clerk import Clerk
from agent.clip.clipper import LATE_NS
from agent.commandmessages import UNTRUSTED
from agent.commands import commands as judged
from agent.commands.inbox import Inbox
from agent.commands.settings import CommandSettings
from agent.consent.settings import ConsentSettings
from agent.daemon import Daemon, Place
from agent.link import BrokerSettings, Link, Up
from agent.records import Clock, Health, Reply
from agent.sending import Sending
from agent.settings import AgentConfig
from agent.store import Store
from agent.uplink import SyncSettings
from receiver import commands, db, devices, packages
from receiver.cli import app
from receiver.mqtt import Reception
from tests.commanding import OTHER_KEY, command, film_drive, signed, with_video
from tests.dashcam_making import BOOT, S
from tests.syncing import Mosquitto, mosquitto, until
from tests.uploading import file_store

QUICK = SyncSettings(answer_s=2.0, retry_s=0.05, retry_cap_s=0.4, refused_s=0.3)
NOW_BOOT = "nowboot"
AGREED = ConsentSettings(sheet="sheet 17", purposes=("recording", "video", "clip"))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film_drive(tmp_path_factory.mktemp("drive"))


class World:
    """A receiver with its database and a device that has filmed an hour ago, each to be started and stopped."""

    def __init__(self, folder: Path, video: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder / 'receiver.db'}"
        self.engine = db.open_database(self.url)
        self.files = file_store(folder / "files")
        self.agent = with_video(folder / "agent", video)
        self.filmed_utc_ns = (clock.wall_ns() // S - 3600) * S  # of the first picture
        self.health: list[Health] = []
        self.bugs: list[BaseException] = []
        self.cli = CliRunner()
        key = self.run("command-key")
        self.settings = AgentConfig(commands=CommandSettings(keys=(key,)), consent=AGREED)
        offset_ns = self.filmed_utc_ns - 1000 * S
        with Store.open(self.agent) as store:
            store.begin_boot(BOOT)
            store.append([(S, Clock(t_ns=S, offset_ns=offset_ns, quality="gnss", uncertainty_ns=S))])
            self.device = store.device
            devices.enrol(self.engine, store.public_key.hex())

    def run(self, *words: str) -> str:
        done = self.cli.invoke(app, [*words, "--db", self.url])
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    def ask(self, from_s: float = 2, to_s: float = 6) -> None:
        span = [clock.iso_utc(self.filmed_utc_ns + round(s * S)) for s in (from_s, to_s)]
        self.run(
            "clip", self.device, "--from", span[0], "--to", span[1], "--reason", "claim 4711", "--actor", "adjuster"
        )

    @contextmanager
    def receiver(self, broker: str) -> Iterator[Reception]:
        arrived = partial(packages.arrived, self.engine, self.files)
        reception = Reception(self.engine, BrokerSettings(url=broker), files=self.files, on_package=arrived)
        reception.start()
        try:
            yield reception
        finally:
            reception.stop()

    @contextmanager
    def vehicle(self, broker: str, know_time: bool = True) -> Iterator[tuple[Store, Clerk, Sending]]:
        inbox, sending = Inbox(), None
        with Store.open(self.agent) as store:
            store.begin_boot(NOW_BOOT)
            if know_time:
                self.know_time(store)
            sending = Sending(store, BrokerSettings(url=broker), QUICK, NOW_BOOT, on_command=inbox.put)
            now_ns = clock.monotonic_ns() - LATE_NS  # the dashcam has ended what was torn when it started
            clerk = Clerk.of(
                store,
                self.agent,
                NOW_BOOT,
                self.settings,
                now_ns,
                sending.wake,
                self.bugs.append,
                inbox,
                self.health.append,
                lambda _: True,
            )
            clerk.start()
            try:
                yield store, clerk, sending
            finally:
                clerk.stop()
                sending.stop()
        assert self.bugs == []

    def know_time(self, store: Store) -> None:
        t_ns = clock.monotonic_ns()
        offset_ns = clock.wall_minus_monotonic_ns()
        store.append([(t_ns, Clock(t_ns=t_ns, offset_ns=offset_ns, quality="ntp", uncertainty_ns=10_000_000))])

    def states(self) -> list[str]:
        return [a.state for a in commands.asked(self.engine, self.device, clock.wall_ns())]

    def whole(self) -> bool:
        return any(p.whole for p in packages.progress(self.engine, self.device))

    def close(self) -> None:
        self.engine.dispose()


@pytest.fixture
def world(tmp_path: Path, video: Path) -> Iterator[World]:
    world = World(tmp_path, video)
    yield world
    world.close()


def test_what_the_command_line_asks_for_comes_as_a_proved_package(broker: str, world: World) -> None:
    with world.receiver(broker), world.vehicle(broker) as (store, _, _sending):
        until(lambda: store.positions() == store.heads(), "the device is known")
        world.ask()
        until(lambda: world.states() == ["done"], "the command is done", 90.0)
        until(world.whole, "the package is whole", 90.0)
    (asked,) = commands.asked(world.engine, world.device, clock.wall_ns())
    assert (asked.actor, asked.reason, asked.detail) == (
        "adjuster",
        "claim 4711",
        "4.0 s of video, its time right within 1.00 s",
    )
    with world.files.folder(world.device, str(asked.incident)) as folder:
        names = {p.name for p in folder.iterdir()}
    assert {"clip-front.mp4", "manifest.json", "manifest.sig", "request.json"} <= names
    assert world.health == []


def test_a_broker_and_a_car_that_are_away_find_the_command_later_and_obey_it_once(tmp_path: Path, world: World) -> None:
    broker = Mosquitto(tmp_path)
    world.ask()
    with world.receiver(broker.url):
        broker.start()
        until(lambda: world.states() == ["sent"], "it is sent to nobody")
        for know_time in (False, True, True):  # without the time it waits, and a restart forgets it
            with world.vehicle(broker.url, know_time) as (store, clerk, sending):
                if know_time:
                    until(lambda: world.states() == ["done"], "the command is done", 90.0)
                    assert sending.finish(40.0)["packages_left"] == 0
                else:
                    until(partial(waits, clerk), "the command is heard")
                    assert store.records(Reply) == []
        until(world.whole, "the package is whole", 90.0)
    broker.stop()
    with Store.open(world.agent, read_only=True) as store:
        assert [r.record.state for r in store.records(Reply)] == ["accepted", "done"]


def waits(clerk: Clerk) -> bool:
    """Say whether a command was heard and cannot be judged yet."""
    assert clerk._commands is not None
    return bool(clerk._commands._waiting)


def test_what_anybody_else_puts_on_the_topic_changes_nothing(tmp_path: Path, world: World) -> None:
    with mosquitto(tmp_path) as broker, world.vehicle(broker.url) as (store, clerk, sending):
        until(lambda: sending._thread.status.phase == "asking", "the device has subscribed")
        connected: list[object] = []
        stranger = Link(BrokerSettings(url=broker.url), "stranger", connected.append, filters=["x"])
        stranger.connect()
        until(lambda: any(isinstance(c, Up) for c in connected), "the stranger is connected")
        topic = f"rw/v1/{world.device}/command"
        for payload in (b"", b"{}", b"x" * 60_000, signed(command(world.device), OTHER_KEY)):
            assert stranger.publish(topic, payload)
        heard = clerk._commands
        assert heard is not None
        until(lambda: sum(heard.counts.values()) == 4, "all four are counted")
        assert heard.counts[UNTRUSTED] == 1
        assert judged.REPEATED not in heard.counts
        assert store.records(Reply) == []
        stranger.close()


class Sky:
    """A device that gives satellite time and nothing else."""

    name = "sky"

    def open(self) -> None:
        pass

    def read(self, timeout_s: float) -> Block:
        clock.wait(threading.Event(), min(timeout_s, 0.1))
        t_ns = clock.monotonic_ns()
        return make_block([(t_ns, number("Gnss.Time"), clock.wall_ns() / S)])

    def close(self) -> None:
        pass


def test_the_daemon_heeds_commands_beside_its_drive(tmp_path: Path, world: World) -> None:
    with mosquitto(tmp_path) as broker, world.receiver(broker.url):
        settings = replace(world.settings, broker=BrokerSettings(url=broker.url), sync=QUICK)
        daemon = Daemon(settings, Place(world.agent, boot=NOW_BOOT), [Sky])
        thread = threading.Thread(target=daemon.run)
        thread.start()
        try:
            world.ask(600, 610)
            until(lambda: world.states() == ["failed"], "the command is answered", 90.0)
        finally:
            daemon.stop()
            thread.join(30)
    (asked,) = commands.asked(world.engine, world.device, clock.wall_ns())
    assert asked.detail == "nothing was filmed then"
