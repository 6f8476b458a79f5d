"""Rows a second from Mosquitto into SQLite and PostgreSQL: verified, projected, acknowledged; beside bare loops.

A process of its own sends, one or two receive; each receiver's own CPU time is what a row costs a core. The bare loops
verify nothing, project nothing and acknowledge nothing to the device: paho, one JSON message an entry, executemany or
COPY for each 500 rows (as such receivers usually are); and the same over our batches of a few entries. The limit is one
Ed25519 verification an entry.

"backlog": 100 devices come back with 200 entries each. "driving": 1,000 devices send 20 entries each, 5 at a time.
"""

import os
import resource
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import psycopg
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import create_engine, insert, text

from agent import chain, messages
from receiver import db
from receiver.mqtt import Reception
from receiver.settings import ReceiverBrokerSettings
from tests.sample_records import some
from tests.syncing import ListSource, Mosquitto, postgresql, until

AT_ONCE = 500
IN_FLIGHT = 256
PACED = 400  # messages for the latency
PACE_S = 0.01
Sent = list[tuple[str, bytes]]
Receive = Callable[[int], None]  # is given the pipe by which to tell that it listens
Done = Callable[[], bool]
Put = Callable[[list[tuple[Any, ...]]], None]


class Load(NamedTuple):
    """What is sent, and when it has all been acknowledged."""

    name: str
    sources: list[ListSource]
    sent: Sent
    rows: int

    @property
    def plain(self) -> Sent:
        """The same entries as one JSON message each."""
        return [("bare", e.body) for s in self.sources for those in s.lanes.values() for e in those]


def _load(name: str, devices: int, entries: int, at_once: int) -> Load:
    sources, by_device = [], []
    for n in range(devices):
        source = ListSource(1)
        source.key = chain.Ed25519PrivateKey.from_private_bytes((n + 1).to_bytes(32, "big"))
        source.public_key = chain.public_bytes(source.key)
        source.device = chain.device_id(source.public_key)
        records = [r for r in some(3 * entries) if type(r[1]).__name__ != "Clock"][:entries]
        source.append(records)
        sources.append(source)
        batches: Sent = []
        for lane, those in source.lanes.items():
            topic = messages.topic(source.device, "up", lane)
            parts = (those[i : i + at_once] for i in range(0, len(those), at_once))
            batches += [(topic, messages.encode_batch(part)) for part in parts]
        by_device.append(batches)
    longest = max(map(len, by_device))
    sent = [b[i] for i in range(longest) for b in by_device if i < len(b)]
    return Load(name, sources, sent, devices * entries)


def _forked(work: Callable[[], None]) -> int:
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def _client(port: int) -> Client:
    client = Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(100)
    client.connect("127.0.0.1", port)
    client.loop_start()
    return client


def _send(port: int, sent: Sent) -> None:
    client = _client(port)
    last = [client.publish(topic, payload, qos=1) for topic, payload in sent][-1]
    last.wait_for_publish(600)
    client.disconnect()


class Cost(NamedTuple):
    """What a run took: wall time, CPU time of all receivers, the largest memory of one."""

    wall_s: float
    cpu_s: float
    memory_mb: float


def _measure(port: int, sent: Sent, receivers: list[Receive], watch: Callable[[], Done]) -> Cost:
    """Start receivers (each tells by its pipe when it listens), send, and stop the time when all is received.

    Everything is forked before `watch` starts a thread of ours.
    """
    pids = [_listening(receive) for receive in receivers]
    wait, go = os.pipe()

    def send() -> None:
        os.read(wait, 1)
        _send(port, sent)

    sender = _forked(send)
    done = watch()
    began = time.perf_counter()
    os.write(go, b"g")
    until(done, "all is received", 300.0)
    wall = time.perf_counter() - began
    cpu, memory = 0.0, 0.0
    for pid in pids:
        peak = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmHWM"))
        memory = max(memory, int(peak.split()[1]) / 1024)
        os.kill(pid, signal.SIGKILL)
        used: resource.struct_rusage = os.wait4(pid, 0)[2]
        cpu += used.ru_utime + used.ru_stime
    os.waitpid(sender, 0)
    os.close(wait)
    os.close(go)
    return Cost(wall, cpu, memory)


def _listening(receive: Receive) -> int:
    """Fork a receiver and wait until it listens."""
    hear, tell = os.pipe()
    pid = _forked(lambda: receive(tell))
    os.close(tell)
    os.read(hear, 1)
    os.close(hear)
    return pid


def _ours(url: str, port: int) -> Receive:
    def receive(tell: int) -> None:
        reception = Reception(db.open_database(url), ReceiverBrokerSettings(url=f"mqtt://127.0.0.1:{port}"))
        reception.start()
        reception.connected.wait(30)
        os.write(tell, b"c")
        reception.join()

    return receive


def _bare(
    store: Callable[[], Callable[[list[tuple[Any, ...]]], None]], port: int, batches: bool
) -> Callable[[int], None]:
    def receive(tell: int) -> None:
        put, rows = store(), []
        client = Client(CallbackAPIVersion.VERSION2)

        def take(_: Any, __: Any, message: Any) -> None:
            if batches:
                where, batch = messages.address(message.topic), messages.decode_batch(message.payload)
                rows.extend((where.device, r.t_ns, r.kind, r.body) for r in batch.rows)
            else:
                value = msgspec.json.decode(message.payload)
                rows.append(("rw", value.get("t_ns", 0), value.get("kind", ""), message.payload))
            if len(rows) >= AT_ONCE:
                put(rows)
                rows.clear()

        client.on_message = take
        client.on_subscribe = lambda *_: os.write(tell, b"c")
        client.connect("127.0.0.1", port)
        client.subscribe("rw/v1/+/up/+" if batches else "bare", qos=1)
        client.loop_forever()

    return receive


_TABLE = "CREATE TABLE bare (device TEXT, t_ns BIGINT, kind TEXT, body {})"


def _sqlite_store(path: str) -> Put:
    database = sqlite3.connect(path, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")

    def put(rows: list[tuple[Any, ...]]) -> None:
        with database:
            database.executemany("INSERT INTO bare VALUES (?, ?, ?, ?)", rows)

    return put


def _postgresql_store(url: str) -> Put:
    connection = psycopg.connect(url.replace("+psycopg", ""))

    def put(rows: list[tuple[Any, ...]]) -> None:
        with connection.transaction(), connection.cursor() as cursor, cursor.copy("COPY bare FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

    return put


@contextmanager
def _broker() -> Iterator[int]:
    with tempfile.TemporaryDirectory() as folder:
        broker = Mosquitto(Path(folder), "max_queued_messages 0", f"max_inflight_messages {IN_FLIGHT}")
        broker.start()
        try:
            yield broker.port
        finally:
            broker.stop()


def _database(kind: str, cluster: str, folder: Path, number: int) -> str:
    if kind == "SQLite":
        return f"sqlite:///{folder / f'{number}.db'}"
    admin = create_engine(cluster, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE b{number}"))
    admin.dispose()
    return cluster.replace("/postgres?", f"/b{number}?")


def _enrol(url: str, sources: list[ListSource]) -> None:
    engine = db.open_database(url)
    row = {"enrolled_utc_ns": 0, "state": "accepted", "greeted": True, "lineage": "", "session": ""}
    with engine.begin() as connection:
        connection.execute(
            insert(db.device), [{**row, "id": s.device, "public_key": s.public_key.hex()} for s in sources]
        )
    engine.dispose()


def _run_ours(url: str, load: Load, receivers: int) -> Cost:
    _enrol(url, load.sources)
    heads = {(s.device, lane): seq for s in load.sources for lane, seq in s.heads().items()}
    behind = dict(heads)
    listeners = []

    def hear(_: Any, __: Any, message: Any) -> None:
        ack = messages.decode_ack(message.payload)
        for lane, seq in ack.lanes.items():
            if seq >= heads[ack.device, lane]:
                behind.pop((ack.device, lane), None)

    with _broker() as port:

        def watch() -> Done:
            listener = _client(port)
            listener.on_message = hear
            listener.subscribe("rw/v1/+/ack", qos=1)
            listeners.append(listener)
            return lambda: not behind

        cost = _measure(port, load.sent, [_ours(url, port)] * receivers, watch)
        for listener in listeners:
            listener.disconnect()
            listener.loop_stop()
    engine = db.open_database(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM entry")).scalar_one() == load.rows
    engine.dispose()
    return cost


def _run_bare(kind: str, url: str, load: Load, batches: bool) -> Cost:
    engine = create_engine(url)
    postgres = kind == "PostgreSQL"
    with engine.begin() as connection:
        connection.execute(text(_TABLE.format("BYTEA" if postgres else "BLOB")))
    engine.dispose()
    rows = load.rows - AT_ONCE  # what does not fill the last 500 is never stored: a fault of the usual way

    def done() -> bool:
        with engine.connect() as connection:
            return int(connection.execute(text("SELECT count(*) FROM bare")).scalar_one()) >= rows

    def store() -> Put:
        return _postgresql_store(url) if postgres else _sqlite_store(str(engine.url.database))

    with _broker() as port:
        cost = _measure(port, load.sent if batches else load.plain, [_bare(store, port, batches)], lambda: done)
    engine.dispose()
    return cost


def _latency(url: str, load: Load) -> tuple[float, float]:
    """Return median and 99th percentile of ms from publishing a message to the acknowledgement after its commit."""
    _enrol(url, load.sources)
    source = load.sources[0]
    entries = source.lanes["event"]
    began, took = {}, []
    with _broker() as port, ExitStack() as stack:
        pid = _listening(_ours(url, port))
        client = _client(port)
        stack.callback(client.loop_stop)

        def take(_: Any, __: Any, message: Any) -> None:
            seq = messages.decode_ack(message.payload).lanes.get("event", 0)
            for n in [n for n in began if n <= seq]:
                took.append((time.perf_counter() - began.pop(n)) * 1e3)

        client.on_message = take
        client.subscribe(f"rw/v1/{source.device}/ack", qos=1)
        for e in entries[:PACED]:
            began[e.seq] = time.perf_counter()
            client.publish(messages.topic(source.device, "up", "event"), messages.encode_batch([e]), qos=1)
            time.sleep(PACE_S)
        until(lambda: len(took) >= len(entries[:PACED]), "all is acknowledged", 60.0)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return float(np.median(took)), float(np.percentile(took, 99))


def _verification_us(load: Load) -> float:
    source = load.sources[0]
    some_entries = [e for those in source.lanes.values() for e in those] * 10
    began = time.process_time()
    for e in some_entries:
        assert chain.signed_by(source.public_key, e)
    return (time.process_time() - began) / len(some_entries) * 1e6


def _line(name: str, rows: int, cost: Cost, bare: Cost | None = None) -> None:
    wall = f"{bare.wall_s / cost.wall_s:8.2f}" if bare else "    1.00"
    core = f"{bare.cpu_s / cost.cpu_s:8.2f}" if bare else "    1.00"
    per_core = rows / cost.cpu_s
    print(f"  {name:52}{rows / cost.wall_s:10,.0f}{wall}{per_core:12,.0f}{core}{cost.memory_mb:8.0f} MB", flush=True)


def main() -> None:
    """Print a table for each database and load."""
    loads = [_load("backlog", 100, 200, 200), _load("driving", 1000, 20, 5)]
    paced = _load("paced", 1, 3000, 1)
    number = count()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cluster = stack.enter_context(postgresql())
        limit = _verification_us(loads[0])
        print(f"limit: one Ed25519 verification takes {limit:.0f} us: {1e6 / limit:,.0f} rows/s a core")
        for kind, way in (("SQLite", "executemany"), ("PostgreSQL", "COPY")):
            fresh = partial(_database, kind, cluster, folder)
            for load in loads:
                print(f"\n{kind}, {load.name}: {load.rows:,} rows in {len(load.sent):,} messages")
                print(f"  {'':52}{'rows/s':>10}{'ratio':>8}{'rows/core-s':>12}{'ratio':>8}{'memory':>11}")
                bare = _run_bare(kind, fresh(next(number)), load, False)
                _line(f"bare paho + {way}, one JSON message an entry", load.rows, bare)
                same = _run_bare(kind, fresh(next(number)), load, True)
                _line(f"bare paho + {way}, our batches, nothing verified", load.rows, same, bare)
                for receivers in (1, 2) if kind == "PostgreSQL" else (1,):
                    ours = _run_ours(fresh(next(number)), load, receivers)
                    _line(f"ours, {receivers}: verified, projected, acknowledged", load.rows, ours, bare)
            median, p99 = _latency(fresh(next(number)), paced)
            print(f"  {kind}, {1 / PACE_S:.0f} messages/s, published to stored and acknowledged: ", end="")
            print(f"median {median:.1f} ms, p99 {p99:.1f} ms")


if __name__ == "__main__":
    main()
