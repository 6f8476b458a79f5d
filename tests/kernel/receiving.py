"""A receiver beside a guest: a broker, the real reception, and a past that can be begun anew for each life of a car."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import Engine, func, select

from agent.link import BrokerSettings
from agent.messages import decode_ack, topic
from receiver import db, devices, packages
from receiver.mqtt import Reception
from tests.syncing import Mosquitto
from tests.uploading import file_store

Key = tuple[str, str, int]  # lineage, lane, sequence


class Past:
    """The database of a receiver that has enrolled one device and heard nothing yet."""

    def __init__(self, folder: Path, public_key: bytes) -> None:
        self._file = folder / "past.db"
        engine = db.open_database(f"sqlite:///{self._file}")
        self.device = devices.enrol(engine, public_key.hex())
        engine.dispose()

    def begin(self, folder: Path) -> None:
        """Lay a receiver with this past down in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(self._file, folder / "receiver.db")


@contextmanager
def receiving(folder: Path, broker: Mosquitto) -> Iterator[Engine]:
    """Run the receiver of a folder at a broker."""
    engine = db.open_database(f"sqlite:///{folder / 'receiver.db'}")
    reception = Reception(engine, BrokerSettings(url=broker.url), files=file_store(folder / "files"))
    reception.start()
    try:
        yield engine
    finally:
        reception.stop(30.0)
        engine.dispose()


@contextmanager
def acknowledgements(broker: Mosquitto, hear: Callable[[dict[str, int]], None]) -> Iterator[None]:
    """Call `hear` with the position of each lane that the receiver tells the device."""

    def came(client: Client, data: object, message: MQTTMessage) -> None:
        hear(dict(decode_ack(message.payload).lanes))

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_message = came
    client.connect("127.0.0.1", broker.port)
    client.subscribe(topic("+", "ack"))
    client.loop_start()
    try:
        yield
    finally:
        client.loop_stop()
        client.disconnect()


def held(engine: Engine) -> dict[Key, bytes]:
    """Return the hash of each entry that the receiver holds; fail where one is there twice or a lane has a gap."""
    entry, lane = db.entry.c, db.lane_state.c
    with db.reading(engine) as connection:
        rows = list(connection.execute(select(entry.lineage, entry.lane, entry.seq, entry.hash)))
        stands = {(r.lineage, r.lane): r.seq for r in connection.execute(select(lane.lineage, lane.lane, lane.seq))}
        assert connection.execute(select(func.count()).select_from(db.hole)).scalar_one() == 0, "the chain has a hole"
    assert max(Counter((r.lineage, r.lane, r.seq) for r in rows).values(), default=1) == 1, "an entry is there twice"
    assert len(rows) == sum(stands.values()), "a lane has a gap"
    return {(r.lineage, r.lane, r.seq): bytes(r.hash) for r in rows}


def files_of(engine: Engine) -> tuple[int, int]:
    """Return how many bytes of packages' files have come, and how many packages are whole."""
    there = packages.progress(engine)
    return sum(p.received for p in there), sum(p.whole for p in there)
