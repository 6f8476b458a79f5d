"""The promise for files: whatever the network and both ends do, packages end whole, once, and little is sent twice.

Real stores, files and receiver databases, an unreliable network in memory, virtual time. Hypothesis chooses
the troubles.
"""

import json
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from agent.clock import NS_PER_S
from agent.incident.folder import PACKAGES, marker
from agent.messages import address
from agent.store import Store
from agent.sync import Sync, SyncSettings
from agent.upload.settings import UploadSettings
from agent.upload.uploads import Uploads
from receiver import db, devices, packages
from receiver.ingest import Ingest
from receiver.transfers import FileMessage
from tests.sample_records import some
from tests.test_sync_property import Network, NetworkUplink
from tests.uploading import add_package, file_store, kept, some_files

STEP_NS = NS_PER_S // 20


class World:
    """One device with packages, one receiver, one network that may be bad."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.network = Network(self.rng)
        self.boots = 0
        self.wholes: list[packages.Arrival] = []
        self.sent = self.again = 0
        self.url = f"sqlite:///{folder / 'receiver.db'}"
        self.open_device()
        self.open_receiver()
        devices.enrol(self.engine, self.store.public_key.hex())

    def open_device(self) -> None:
        self.boots += 1
        self.store = Store.open(self.folder / "agent")
        self.store.begin_boot(f"boot-{self.boots}")
        self.uplink = NetworkUplink(self.network)
        quick = SyncSettings(answer_s=8.0, retry_s=0.5, retry_cap_s=10.0, refused_s=20.0)
        self.uploads = Uploads(
            self.store.device,
            self.store.folder / PACKAGES,
            self.store.uploads,
            UploadSettings(chunk_bytes=16_384, answer_s=8.0, busy_s=5.0, refused_s=20.0),
        )
        rng = random.Random(self.rng.random())
        self.sync = Sync(self.store, self.uplink, quick, boot="b", rng=rng, uploads=self.uploads)

    def open_receiver(self) -> None:
        self.ends: list[tuple[str, str]] = []
        self.engine = db.open_database(self.url)
        self.ingest = Ingest(self.engine, file_store(self.folder / "files"))
        self.network.subscribe(lambda topic: topic.endswith(("/birth", "/status")))

    def close_device(self) -> None:
        self.sent += self.uploads.status.sent
        self.again += self.uploads.status.again
        self.store.close()

    def restart_device(self) -> None:
        self.close_device()
        self.open_device()

    def restart_receiver(self) -> None:
        self.engine.dispose()
        self.open_receiver()

    def lose_partials(self) -> None:
        for path in (self.folder / "files" / ".partial").iterdir():
            path.unlink()

    def cut_partials(self) -> None:
        for path in (self.folder / "files" / ".partial").iterdir():
            with path.open("r+b") as file:
                file.truncate(self.rng.randrange(1 + path.stat().st_size))

    def receive(self, trouble: float) -> None:
        now_ns = self.network.now_ns
        for topic, payload, _ in self.network.due(lambda t: not t.endswith(("/ack", "/files"))):
            where = address(topic)
            if where.what == "file":  # as the receiver's threads do it: answered now, durable and whole later
                received = self.ingest.receive_files([FileMessage(where.device, where.lane, payload)], now_ns)
                outgoing, self.ends = received.outgoing, self.ends + received.ends
            else:
                outgoing = self.ingest.take(topic, payload, now_ns)
            if self.rng.random() < trouble:
                self.restart_receiver()  # it died after the commit, before it could answer
                return
            for o in outgoing:
                self.network.send(o.topic, o.payload, True)

    def work(self) -> None:
        """Do what the receiver's other threads do."""
        if self.rng.random() < 0.1:
            self.ingest.settle(self.network.now_ns)
        for key in self.ends:
            told = self.ingest.finish_file(key, self.network.now_ns)
            self.network.send(told.topic, told.payload, True)
        self.ends = []
        for arrival in packages.untold(self.engine):
            packages.told(self.engine, arrival)
            self.wholes.append(arrival)

    def power_cut(self) -> None:
        """Lose what is not durable of unfinished files: the length stays, the bytes become zeros."""
        with db.reading(self.engine) as connection:
            rows = connection.execute(select(db.transfer.c.partial, db.transfer.c.ranges)).all()
        for partial, held in rows:
            path = self.folder / "files" / ".partial" / partial
            if partial and path.exists():
                was = path.read_bytes()
                now = bytearray(len(was))
                for low, high in json.loads(held):
                    now[low:high] = was[low:high]
                path.write_bytes(now)
        self.restart_receiver()

    def turn(self, trouble: float = 0.0) -> None:
        self.network.now_ns += STEP_NS
        self.sync.step(self.network.now_ns)
        self.receive(trouble)
        self.work()

    def settled(self) -> bool:
        done = all(p.acknowledged for p in self.store.uploads.packages())
        return done and self.store.positions() == self.store.heads()

    def settle(self, most: int = 6000) -> None:
        self.network.bad = False
        for _ in range(most):
            if self.settled():
                return
            self.turn()
        pytest.fail(f"not settled: {self.sync.status}")

    def close(self) -> None:
        self.close_device()
        self.engine.dispose()


TROUBLES = ("nothing", "drop", "device", "receiver", "power", "lose", "cut", "package", "record")


@settings(
    max_examples=14, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate)
)  # a world is slow to shrink
@given(st.integers(0, 2**32), st.lists(st.sampled_from(TROUBLES), min_size=5, max_size=60))
def test_whatever_happens_packages_end_whole_and_their_folders_equal(seed: int, troubles: list[str]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="rw-upload-"))
    try:
        world = World(seed, folder)
        made = {"00000000000000aa": some_files(1)}
        add_package(world.store, "00000000000000aa", made["00000000000000aa"])
        for trouble in troubles:
            match trouble:
                case "drop":
                    world.uplink.drop()
                case "device":
                    world.restart_device()
                case "receiver":
                    world.restart_receiver()
                case "power":
                    world.power_cut()
                case "lose":
                    world.lose_partials()
                case "cut":
                    world.cut_partials()
                case "record":
                    world.store.append(some(2))
                case "package" if len(made) < 3:
                    incident = f"{len(made):016x}"
                    made[incident] = some_files(len(made) % 2 + 1, 120_000)  # shares small files with the first
                    add_package(world.store, incident, made[incident])
            for _ in range(8):
                world.turn(trouble=0.02)
        world.settle()
        for incident, files in made.items():
            assert kept(folder / "files", world.store.device, incident) == files
            assert marker(world.store.folder / PACKAGES / incident).exists()
        assert {a.incident for a in world.wholes} == set(made)
        assert len(world.wholes) == len(made), "each package became whole once"
        assert all(p.acknowledged for p in world.store.uploads.packages())
        world.close()
    finally:
        shutil.rmtree(folder)


def test_over_a_good_network_nothing_is_sent_twice(tmp_path: Path) -> None:
    world = World(1, tmp_path)
    world.network.bad = False
    add_package(world.store, "00000000000000aa", some_files(1, 2_000_000))
    world.settle()
    assert world.uploads.status.again == 0
    assert world.uploads.status.sent == sum(map(len, some_files(1, 2_000_000).values()))
    world.close()


def test_when_the_link_drops_again_and_again_little_is_sent_twice(tmp_path: Path) -> None:
    world = World(2, tmp_path)
    world.network.bad = False
    files = some_files(1, 12_000_000)
    add_package(world.store, "00000000000000aa", files)
    turns = 0
    while not world.settled():
        world.turn()
        turns += 1
        if turns % 60 == 0:  # every 3 s
            world.uplink.drop()
            lost = [m for m in world.network.under_way if address(m[2]).what == "file"]
            for message in lost:  # what was on the wire is gone
                world.network.under_way.remove(message)
        assert turns < 2_000
    total = sum(map(len, files.values()))
    assert kept(tmp_path / "files", world.store.device, "00000000000000aa") == files
    assert turns > 120, "the link was cut at least twice"
    assert world.uploads.status.sent >= total
    assert world.uploads.status.again <= 0.05 * total
    world.close()
