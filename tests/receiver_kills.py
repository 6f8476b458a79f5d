"""A device, a broker, and receivers that are killed: what the tests and `python -m benchmarks receiverkills` share."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select

from agent.link import BrokerSettings
from agent.mqtt import MqttUplink
from agent.sync import Sync, SyncSettings, SyncThread
from receiver import db, devices
from receiver.batches import TOO_EARLY
from receiver.projections import SHOWN
from tests.sample_records import some
from tests.syncing import ListSource, Mosquitto, until

ROOT = Path(__file__).resolve().parents[1]
EACH_LIFE = 60  # records that are new when a receiver begins
QUICK = SyncSettings(batch_bytes=4096, answer_s=1.0, retry_s=0.05, retry_cap_s=0.2, refused_s=0.2)


class Receivers:
    """Starts and kills receivers of their own processes."""

    def __init__(self, url: str, broker: str) -> None:
        self._where = {"url": url, "broker": broker}
        command = [sys.executable, "-m", "tests.killed_receiver"]
        pipe = subprocess.PIPE
        # what a killed life logs is nobody's concern; what is left in the database is
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
        )

    def start(self, wait: bool = True) -> int:
        return self._ask(do="start", wait=wait, **self._where)

    def kill(self, pid: int, after_s: float = 0.0) -> None:
        self._ask(do="kill", pid=pid, after_s=after_s)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def _ask(self, **given: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(given) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@dataclass
class World:
    """A device that sends through a broker to receivers at a database."""

    url: str
    broker: Mosquitto
    engine: Engine
    source: ListSource
    receivers: Receivers
    sync: SyncThread
    written: int = 0
    unfinished: int = field(default=0)  # kills that met work under way

    def write(self, records: int) -> None:
        self.source.append(some(records))
        self.written += records
        self.sync.wake()

    def acknowledged(self) -> int:
        return sum(self.source.positions().values())

    def done(self) -> bool:
        return self.source.positions() == self.source.heads()

    def check(self) -> None:
        """Find every acknowledged entry, each once and with its row, and no lane standing where its entries do not."""
        promised = self.source.positions()
        signed = {(e.lane, e.seq): (e.hash, e.body, e.signature) for those in self.source.lanes.values() for e in those}
        entry, lane = db.entry.c, db.lane_state.c
        with db.reading(self.engine) as connection:
            found = select(entry.lane, entry.seq, entry.kind, entry.hash, entry.body, entry.signature)
            kinds: dict[str, int] = {}
            held: dict[tuple[str, int], tuple[bytes, bytes, bytes]] = {}
            for row in connection.execute(found):
                assert (row.lane, row.seq) not in held, f"{row.lane} {row.seq} is stored twice"
                held[row.lane, row.seq] = bytes(row.hash), bytes(row.body), bytes(row.signature)
                kinds[row.kind] = kinds.get(row.kind, 0) + 1
            stands = {r.lane: r.seq for r in connection.execute(select(lane.lane, lane.seq))}
            shown = {
                kind: connection.execute(select(func.count()).select_from(SHOWN[kind].table)).scalar_one()
                for kind in kinds
                if kind in SHOWN
            }
            assert connection.execute(select(func.count()).select_from(db.hole)).scalar_one() == 0
            reasons = connection.execute(select(db.refused.c.reason)).scalars().all()
            assert set(reasons) <= {TOO_EARLY}  # what two receivers overtake may be sent once more
        assert {key: signed[key] for key in held} == held, "an entry is not what the device signed"
        assert stands == {name: max(seq for lane_, seq in held if lane_ == name) for name, _ in held}
        assert len(held) == sum(stands.values()), "a lane has a gap"
        assert all(stands.get(name, 0) >= seq for name, seq in promised.items()), "an acknowledged entry is lost"
        assert shown == {kind: n for kind, n in kinds.items() if kind in SHOWN}, "a row is missing or there twice"


@contextmanager
def world(url: str, folder: Path) -> Iterator[World]:
    """A device with an uplink, a broker, and no receiver yet."""
    engine = db.open_database(url)
    source = ListSource()
    devices.enrol(engine, source.public_key.hex())
    broker = Mosquitto(folder)
    broker.start()
    receivers = Receivers(url, broker.url)
    uplink = MqttUplink(BrokerSettings(url=broker.url), source.device)
    sync = SyncThread(Sync(source, uplink, QUICK, boot="boot-1"), uplink)
    sync.start()
    try:
        yield World(url, broker, engine, source, receivers, sync)
    finally:
        sync.stop()
        receivers.close()
        broker.stop()
        engine.dispose()


def kill_often(here: World, kills: int, seed: int, patience_s: float = 60.0) -> None:
    """Kill receivers at random moments, one after the other; then let one finish, and check what came of it."""
    chance = random.Random(seed)
    for n in range(kills):
        here.write(EACH_LIFE)
        starting = n % 5 == 4  # the moments before it is connected count too
        pid = here.receivers.start(wait=not starting)
        here.receivers.kill(pid, chance.uniform(0.0, 0.1))
        here.unfinished += not here.done()
        if n % 10 == 9:
            here.check()
    pid = here.receivers.start()
    until(here.done, "everything is acknowledged", patience_s)
    here.receivers.kill(pid)
    here.check()
    with db.reading(here.engine) as connection:
        assert connection.execute(select(func.count()).select_from(db.entry)).scalar_one() == here.written
