"""Entries a second from Mosquitto into SQLite, verified and acknowledged, beside a bare loop; bytes on the wire.

The bare loop is what such receivers usually are: paho subscriber, one JSON message an entry, executemany each 500
messages, synchronous=FULL as ours, nothing verified, nothing acknowledged. The limit is the signature: one Ed25519
verification per entry, on one core.
"""

import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from agent import chain, messages
from agent.chain import START, Entry
from agent.link import BrokerSettings
from agent.mqtt import MqttUplink
from agent.sync import Sync, SyncSettings, SyncThread
from receiver import db, devices
from receiver.mqtt import Reception
from tests.sample_records import event, track, trip
from tests.syncing import ListSource, Mosquitto

ENTRIES = 20_000


@contextmanager
def _broker(folder: Path) -> Iterator[str]:
    folder.mkdir()
    broker = Mosquitto(folder, "max_queued_messages 0", "max_inflight_messages 0")
    broker.start()
    try:
        yield broker.url
    finally:
        broker.stop()


def _source(n: int) -> ListSource:
    source = ListSource()
    source.append([(i, event(i % 500)) for i in range(1, n + 1)])
    return source


def _ours(folder: Path, source: ListSource) -> float:
    engine = db.open_database(f"sqlite:///{folder / 'ours.db'}")
    devices.enrol(engine, source.public_key.hex())
    with _broker(folder / "a") as url:
        reception = Reception(engine, BrokerSettings(url=url))
        reception.start()
        reception.connected.wait(10)
        uplink = MqttUplink(BrokerSettings(url=url), source.device)
        thread = SyncThread(Sync(source, uplink, SyncSettings(), boot="b"), uplink)
        began = time.perf_counter()
        thread.start()
        while source.positions() != source.heads():
            time.sleep(0.002)
        took = time.perf_counter() - began
        thread.stop()
        reception.stop()
    engine.dispose()
    return took


def _bare(folder: Path, source: ListSource) -> float:
    database = sqlite3.connect(folder / "bare.db", check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE event (device, t_ns, kind, body)")
    rows: list[tuple[object, ...]] = []
    done = threading.Event()
    count = 0

    def store(_: object, __: object, message: object) -> None:
        nonlocal count
        value = msgspec.json.decode(message.payload)  # type: ignore[attr-defined]
        rows.append((source.device, value["t_ns"], value["kind"], message.payload))  # type: ignore[attr-defined]
        count += 1
        if len(rows) == 500 or count == ENTRIES:
            with database:
                database.executemany("INSERT INTO event VALUES (?, ?, ?, ?)", rows)
            rows.clear()
        if count == ENTRIES:
            done.set()

    with _broker(folder / "b") as url:
        port = int(url.rpartition(":")[2])
        subscribed = threading.Event()
        receiver = Client(CallbackAPIVersion.VERSION2)
        receiver.on_message = store
        receiver.on_subscribe = lambda *_: subscribed.set()
        receiver.connect("127.0.0.1", port)
        receiver.loop_start()
        receiver.subscribe("bare", qos=1)
        subscribed.wait(10)
        sender = Client(CallbackAPIVersion.VERSION2)
        sender.max_inflight_messages_set(100)
        sender.connect("127.0.0.1", port)
        sender.loop_start()
        began = time.perf_counter()
        for e in source.lanes["event"]:
            sender.publish("bare", e.body, qos=1)
        done.wait(120)
        took = time.perf_counter() - began
        for client in (sender, receiver):
            client.disconnect()
            client.loop_stop()
    database.close()
    return took


def _verify(source: ListSource) -> float:
    some = source.lanes["event"][:3000]
    began = time.perf_counter()
    previous = START
    for e in some:
        assert chain.linked(source.device, previous, e)
        assert chain.signed_by(source.public_key, e)
        previous = e.hash
    return (time.perf_counter() - began) / len(some)


def _wire(name: str, entries: list[Entry]) -> None:
    signed = [len(_json(e)) for e in entries]
    plain = sum(len(e.body) for e in entries) / len(entries)
    alone = sum(len(messages.encode_batch([e])) for e in entries) / len(entries)
    together = len(messages.encode_batch(entries)) / len(entries)
    deflated = sum(len(zlib.compress(_json(e), 9)) for e in entries) / len(entries)
    json_signed = sum(signed) / len(signed)
    print(
        f"{name:8} {plain:10.0f} {json_signed:12.0f} {deflated:10.0f} {alone:9.0f} {together:12.0f}"
        f" {json_signed / alone:9.1f}x {json_signed / together:9.1f}x"
    )


def _json(e: Entry) -> bytes:
    """Return the usual form: the record and its envelope as JSON, hash and signature in hex."""
    names = ("lineage", "lane", "seq", "boot", "t_ns", "kind")
    header = {name: getattr(e, name) for name in names}
    return msgspec.json.encode(
        {**header, "body": msgspec.json.decode(e.body), "hash": e.hash.hex(), "signature": e.signature.hex()}
    )


def main() -> None:
    """Print both tables."""
    source = _source(ENTRIES)
    folder = Path(tempfile.mkdtemp(prefix="rw-bench-sync-"))
    try:
        ours, bare = _ours(folder, source), _bare(folder, source)
        sizes = subprocess.run(["du", "-sk", str(folder)], capture_output=True, text=True, check=True).stdout.split()[0]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    limit = _verify(source)
    print(f"{ENTRIES:,} events, Mosquitto -> SQLite (WAL, FULL)             entries/s   ratio to bare loop")
    print(f"ours: verified, projected, acknowledged end to end      {ENTRIES / ours:12,.0f}   {bare / ours:.2f}")
    print(f"bare paho + executemany: one JSON message an entry      {ENTRIES / bare:12,.0f}   1.00")
    print(f"limit: chain hash and Ed25519 verification on one core  {1 / limit:12,.0f}   {bare / ENTRIES / limit:.2f}")
    print(f"(both databases together {int(sizes) // 1024} MB)\n")
    print("bytes an entry, mean of 100")
    print("kind      JSON body  JSON signed   deflated  ours, 1  ours, batch   ratio 1  ratio batch")
    for name, make in (("event", event), ("trip", trip), ("track", track)):
        lanes = ListSource()
        lanes.append([(i, make(i)) for i in range(1, 101)])  # type: ignore[operator]
        _wire(name, next(iter(lanes.lanes.values())))


if __name__ == "__main__":
    main()
