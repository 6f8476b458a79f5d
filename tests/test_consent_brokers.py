"""From the owner's page to the box and back, over real brokers: withdrawn, erased on both sides, agreed again."""

import threading
from pathlib import Path
from typing import Any

from agent import clock
from agent.blocks import Block, make_block
from agent.channels import number
from agent.commands.settings import CommandSettings
from agent.consent.consent import FILE
from agent.daemon import Daemon, Place
from agent.link import BrokerSettings
from agent.records import Event, Track, Trip
from agent.settings import AgentConfig
from agent.store import Store
from agent.uplink import SyncSettings
from receiver import commands, db, devices
from receiver.mqtt import GREET_S, Reception
from receiver.registry import consents, erasing, gate
from receiver.settings import ReceiverSettings
from tests import sample_records
from tests.registering import bound
from tests.syncing import until
from tests.uploading import file_store

QUICK = SyncSettings(answer_s=5.0, retry_s=0.05, retry_cap_s=0.4, refused_s=0.3)
S = 1_000_000_000
BEFORE, NOW = "a" * 32, "b" * 32
WAIT_S = 90.0  # how long a condition may take on a machine that is busy; it takes seconds


class Car:
    """A device whose samples come as time passes."""

    name = "fake:car"

    def __init__(self) -> None:
        self._closing = threading.Event()

    def open(self) -> None:
        pass

    def read(self, timeout_s: float) -> Block:
        clock.wait(self._closing, min(timeout_s, 0.2))
        return make_block([(clock.monotonic_ns(), number("Vehicle.Speed"), 12.0)])

    def close(self) -> None:
        self._closing.set()


class World:
    """A receiver, its database, and a box that drove before and drives now."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.engine = db.open_database(f"sqlite:///{folder / 'receiver.db'}")
        self.files, self.agent = file_store(folder / "files"), folder / "agent"
        key = commands.command_key(ReceiverSettings(database=f"sqlite:///{folder / 'receiver.db'}"))
        self.reception = Reception(self.engine, BrokerSettings(url=broker), files=self.files, key=key)
        trusted = (key.public_key().public_bytes_raw().hex(),)
        with Store.open(self.agent) as store:
            store.begin_boot(BEFORE)
            store.append([(S, getattr(sample_records, kind)(1)) for kind in ("clock_record", "trip", "event", "track")])
            self.device = store.device
            devices.enrol(self.engine, store.public_key.hex())
        settings = AgentConfig(broker=BrokerSettings(url=broker), sync=QUICK, commands=CommandSettings(keys=trusted))
        self.daemon = Daemon(settings, Place(self.agent, boot=NOW), [Car])
        self.ended: list[BaseException | None] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.daemon.run()
            self.ended.append(None)
        except BaseException as bug:
            self.ended.append(bug)
            raise

    def start(self) -> None:
        self.reception.start()
        self._thread.start()

    def stop(self) -> None:
        self.daemon.stop()
        self._thread.join(60)
        self.reception.stop()
        self.engine.dispose()
        assert self.ended == [None]

    def recorded(self) -> tuple[int, int] | None:
        """Return the first and last time of this boot's samples in the box."""
        with Store.open(self.agent, read_only=True) as store:
            return store.span(NOW)

    def box_holds(self) -> int:
        """Return how many records in the box tell of driving; its lanes are whole."""
        with Store.open(self.agent, read_only=True) as store:
            assert store.verify().ok
            return sum(len(store.records(kind)) for kind in (Trip, Event, Track))

    def count(self, table: Any) -> int:
        with db.reading(self.engine) as connection:
            return len(connection.execute(table.select()).all())


def test_withdrawn_it_stops_and_is_erased_everywhere_and_agreed_again_it_records(tmp_path: Path, broker: str) -> None:
    world = World(tmp_path, broker)
    bound(world.engine, world.device, now_ns=clock.wall_ns())
    consents.give(world.engine, world.device, "recording", clock.wall_ns(), by="K-1")
    world.start()
    try:
        until(lambda: world.recorded() is not None, "it records what was agreed to", WAIT_S)
        until(lambda: world.count(db.trip) == world.count(db.track) == 1, "the receiver has the trip", WAIT_S)

        consents.withdraw(world.engine, world.device, "recording", clock.wall_ns(), by="K-1")
        until(lambda: world.recorded() is None, "the samples are erased in the box", WAIT_S)
        until(lambda: world.box_holds() == 0, "the trips are erased in the box", WAIT_S)
        assert (world.agent / FILE).exists()  # it outlives the store
        until(lambda: erasing.run(world.engine, world.files, clock.wall_ns()) != [], "the receiver erases", WAIT_S)
        assert world.count(db.trip) == world.count(db.track) == world.count(db.harsh_event) == 0
        with db.reading(world.engine) as connection:
            flags = [row.flag for row in connection.execute(db.entry.select()) if row.kind in gate.DRIVING]
        assert flags == [gate.ERASED] * 3

        again_ns = clock.monotonic_ns()
        consents.give(world.engine, world.device, "recording", clock.wall_ns(), by="K-1")
        until(lambda: world.recorded() is not None, "it records again", WAIT_S)
        span = world.recorded()
        assert span is not None
        assert span[0] >= again_ns - S  # nothing of the time between
    finally:
        world.stop()


def test_a_receiver_tells_in_good_time() -> None:
    assert GREET_S + 1.0 < 10.0  # with the second that the box takes (T-PRIV-2 in test_consent_device)
