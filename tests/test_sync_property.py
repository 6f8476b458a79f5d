"""The promise: under drop, duplication, reordering and restarts of either side, the rows are equal, once each.

Real stores and real receiver databases, an unreliable network in memory, virtual time.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from agent.clock import NS_PER_S
from agent.link import Arrived, Delivered, Down, Happening, Up
from agent.records import LANES
from agent.store import Store
from agent.sync import Sync, SyncSettings
from agent.tcp import Road
from receiver import db, devices
from receiver.ingest import Ingest, Outgoing
from tests.sample_records import some

STEP_NS = NS_PER_S // 20


class Network:
    """Carries messages late, twice, out of order or not at all; keeps retained ones as a broker does."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.bad = True
        self.now_ns = 0
        self.retained: dict[str, bytes] = {}
        self.under_way: list[tuple[int, int, str, bytes, bool]] = []
        self._number = 0

    def send(self, topic: str, payload: bytes, retain: bool) -> None:
        if retain:
            self.retained[topic] = payload
        copies = 1
        if self.bad:
            copies = self.rng.choices([0, 1, 2, 3], [15, 70, 12, 3])[0]
        for _ in range(copies):
            self.carry(topic, payload)

    def carry(self, topic: str, payload: bytes, retained: bool = False) -> None:
        late_ns = self.rng.randrange(1, 5 * NS_PER_S) if self.bad else 1
        self._number += 1
        self.under_way.append((self.now_ns + late_ns, self._number, topic, payload, retained))

    def due(self, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes, bool]]:
        ready = sorted(m for m in self.under_way if m[0] <= self.now_ns and wanted(m[2]))
        for message in ready:
            self.under_way.remove(message)
            yield message[2:]

    def subscribe(self, wanted: Callable[[str], bool]) -> None:
        for topic, payload in self.retained.items():
            if wanted(topic):
                self.carry(topic, payload, True)


def _for_device(topic: str) -> bool:
    return topic.endswith(("/ack", "/files"))


def _for_receiver(topic: str) -> bool:
    return not _for_device(topic)


class NetworkUplink:
    def __init__(self, network: Network) -> None:
        self.network = network
        self.up = False
        self.happened: list[Happening] = []

    def on_happening(self, wake: Callable[[], None]) -> None:
        """Time is virtual: nobody waits."""

    def connect(self) -> None:
        if self.network.bad and self.network.rng.random() < 0.3:
            self.happened.append(Down("no route to host"))
            return
        self.up = True
        self.happened.append(Up("5"))
        self.network.subscribe(_for_device)

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> bool:
        if self.up:
            self.network.send(topic, payload, retain)
            self.happened.append(Delivered())
        return self.up

    def road(self) -> Road | None:
        return None

    def happenings(self) -> list[Happening]:
        arrived = [Arrived(*m) for m in self.network.due(_for_device)]
        found = self.happened + (arrived if self.up else [])
        self.happened = []
        return found

    def drop(self) -> None:
        if self.up:
            self.up = False
            self.happened.append(Down("connection lost"))

    def close(self) -> None:
        self.up = False


class World:
    """One device, one receiver, one bad network."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.network = Network(self.rng)
        self.stack = ExitStack()
        self.written = 0
        self.restarts = 0
        self.url = f"sqlite:///{folder / 'receiver.db'}"
        self.start_device()
        self.start_receiver()
        devices.enrol(self.engine, self.store.public_key.hex())

    def start_device(self) -> None:
        self.store = Store.open(self.folder / "agent")
        self.store.begin_boot(f"boot-{self.restarts}")
        self.uplink = NetworkUplink(self.network)
        settings = SyncSettings(window=4, batch_bytes=2048, answer_s=8.0, retry_s=0.5, retry_cap_s=10.0, refused_s=20.0)
        rng = random.Random(self.rng.random())
        self.sync = Sync(self.store, self.uplink, settings, boot=f"boot-{self.restarts}", rng=rng)

    def start_receiver(self) -> None:
        self.engine: Engine = db.open_database(self.url)
        self.ingest = Ingest(self.engine)
        self.network.subscribe(lambda topic: topic.endswith(("/birth", "/status")))

    def restart_device(self) -> None:
        self.restarts += 1
        self.store.close()
        self.start_device()

    def restart_receiver(self) -> None:
        self.restarts += 1
        self.engine.dispose()
        self.start_receiver()

    def write(self, n: int) -> None:
        for i in range(self.written, self.written + n):
            self.store.append([some(i % 24 + 1)[-1]])
        self.written += n

    def receive(self) -> None:
        for topic, payload, _ in self.network.due(_for_receiver):
            outgoing: list[Outgoing] = self.ingest.take(topic, payload, self.network.now_ns)
            if self.network.bad and self.rng.random() < 0.05:
                self.restart_receiver()  # it died after the commit, before it could acknowledge
                return
            for o in outgoing:
                self.network.send(o.topic, o.payload, True)

    def turn(self) -> None:
        self.network.now_ns += STEP_NS
        if self.network.bad:
            luck = self.rng.random()
            if luck < 0.10 and self.written < 150:
                self.write(self.rng.randrange(1, 6))
            elif luck < 0.12:
                self.uplink.drop()
            elif luck < 0.13:
                self.restart_device()
            elif luck < 0.14:
                self.restart_receiver()
        self.sync.step(self.network.now_ns)
        self.receive()

    def device_rows(self) -> list[tuple[object, ...]]:
        entries = [e for lane in LANES for e in self.store.pending(lane, 0, 1 << 40)]
        return sorted((e.lane, e.seq, e.boot, e.t_ns, e.kind, e.body, e.hash, e.signature) for e in entries)

    def receiver_rows(self) -> list[tuple[object, ...]]:
        c = db.entry.c
        columns = (c.lane, c.seq, c.boot, c.t_ns, c.kind, c.body, c.hash, c.signature)
        with db.reading(self.engine) as connection:
            return sorted(tuple(row) for row in connection.execute(select(*columns)))

    def close(self) -> None:
        self.store.close()
        self.engine.dispose()


@pytest.mark.parametrize("seed", range(25))
def test_whatever_the_network_does_the_receiver_ends_with_the_devices_rows_once_each(seed: int, tmp_path: Path) -> None:
    world = World(seed, tmp_path)
    lineage = world.store.lineage
    for _ in range(900):
        world.turn()
    world.network.bad = False
    turns = 0
    while world.store.positions() != world.store.heads() or world.network.under_way:
        world.turn()
        turns += 1
        assert turns < 6000, f"not settled: {world.sync.status}"
    assert world.written >= 100
    assert world.restarts > 3
    assert world.store.lineage == lineage, "no restart made a new life of the store"
    rows = world.device_rows()
    assert len(rows) == world.written
    assert world.receiver_rows() == rows
    with db.reading(world.engine) as connection:
        tables = (db.harsh_event, db.trip, db.health, db.track, db.mount)
        projected = sum(len(connection.execute(select(t.c.id)).all()) for t in tables)
    clocks = sum(row[4] == "clock" for row in rows)
    assert projected == len(rows) - clocks
    world.close()


def test_a_device_restored_from_an_older_copy_loses_nothing_that_it_wrote_since(tmp_path: Path) -> None:
    world = World(99, tmp_path)
    world.network.bad = False
    world.write(20)
    world.store.close()
    copy = {p.name: p.read_bytes() for p in (tmp_path / "agent").iterdir() if p.is_file()}
    world.start_device()
    world.write(20)
    for _ in range(200):
        world.turn()
    assert len(world.receiver_rows()) == 40
    world.store.close()
    for path in (tmp_path / "agent").iterdir():
        path.unlink()
    for name, content in copy.items():
        path = tmp_path / "agent" / name
        path.write_bytes(content)
        path.chmod(0o600)
    world.start_device()
    world.written = 100
    world.write(30)
    lineage = world.store.lineage
    for _ in range(400):
        world.turn()
    assert world.store.lineage != lineage
    assert world.sync.status.behind == 0
    bodies = [bytes(row[5]) for row in world.receiver_rows()]
    assert set(bodies) >= {e.body for lane in LANES for e in world.store.pending(lane, 0, 1 << 40)}
    assert len(bodies) >= 70
    world.close()
