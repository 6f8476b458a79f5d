"""A hostile box: its certificate is good, and whatever it sends touches nothing of another and stops nobody.

Broken chains, other lanes, other keys, replays, parked batches: tests/test_ingest.py. Bombs and lying frames:
tests/test_messages.py. Files: tests/test_transfers.py. Other topics, wills, names, shares: tests/test_broker_rules.py.
"""

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, func, select

from agent import chain, messages
from agent.chain import START
from agent.messages import Birth, birth_bytes, encode_batch, encode_birth, encode_live, encode_status, topic
from receiver import commands, db, devices
from receiver.authority.brokerconfig import MOST_PACKET
from receiver.ingest import Ingest
from receiver.mqtt import Reception
from tests.enrolling import Insurer
from tests.sample_records import some
from tests.syncing import ListSource, until
from tests.test_broker_rules import Box, peer

FAR = 2**53 - 1


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = db.open_database(f"sqlite:///{tmp_path / 'receiver.db'}")
    yield engine
    engine.dispose()


def rows_of(engine: Engine, device: str) -> dict[str, list[tuple[object, ...]]]:
    """Return all that every table says of a device."""
    found = {}
    with db.reading(engine) as connection:
        for table in db.metadata.sorted_tables:
            column = table.c.get("device") if table.name != "device" else table.c.id
            if column is not None:
                rows = connection.execute(select(table).where(column == device)).all()
                found[table.name] = sorted((tuple(r) for r in rows), key=repr)
    return found


def birth(source: ListSource, key: Ed25519PrivateKey | None = None, **changed: object) -> bytes:
    fields: dict[str, object] = {
        "device": source.device,
        "public_key": source.public_key.hex(),
        "lineage": source.lineage,
        "session": "s",
        "boot": "b",
        "t_ns": 1,
        "heads": source.heads(),
    }
    made = Birth(**{**fields, **changed})  # type: ignore[arg-type]
    return encode_birth(made, (key or source.key).sign(birth_bytes(made)))


def far_ahead(source: ListSource, anchored: bool) -> bytes:
    """Encode an entry with the last number that there is, well signed."""
    record = chain.canonical(some(1)[0][1])
    kind = next(iter(source.lanes["event"])).kind
    sealed = chain.seal(source.key, source.device, source.lineage, START, "event", FAR, "b", 1, kind, record)
    return encode_batch([sealed], anchored)


def hostile(own: ListSource, victim: ListSource) -> Iterator[tuple[str, bytes]]:
    """Yield what a box may write by the broker's rules, topic and payload."""
    up, theirs = topic(own.device, "up", "event"), victim.lanes["event"]
    rng = random.Random(5)
    yield up, encode_batch(theirs)  # the records of another under one's own name
    yield up, encode_batch([*own.lanes["event"][:1], *theirs[1:2]])
    yield up, far_ahead(own, anchored=False)
    yield up, far_ahead(own, anchored=True)
    yield up, bytes([messages.PROTOCOL]) + zstandard.ZstdCompressor().compress(bytes(64 << 20))
    for size in (0, 1, 2, 1000, messages.MAX_PAYLOAD, messages.MAX_PAYLOAD + 1, MOST_PACKET - 200):
        for what in ("birth", "status", "live"):
            yield topic(own.device, what), rng.randbytes(size)
        yield up, rng.randbytes(size)
        yield up, bytes([messages.PROTOCOL]) + rng.randbytes(size)
    for lane in ("x", "EVENT", "event%20", "..", "\u4e2d", "e" * 60_000):
        yield f"rw/v1/{own.device}/up/{lane}", encode_batch(own.lanes["event"])
    for rest in ("x", "/".join(["0" * 64] * 900), f"{'0' * 64}/{'9' * 16}/{'1' * 64}", f"{'0' * 64}/init/init"):
        yield f"rw/v1/{own.device}/file/{rest}", b"{}"
    yield topic(own.device, "birth"), birth(victim, own.key)  # the name of another
    yield topic(own.device, "birth"), birth(victim)  # even were it played back
    yield topic(own.device, "birth"), birth(own, public_key=victim.public_key.hex())
    yield topic(own.device, "birth"), birth(own, lineage="ffffffffffff", heads={"event": FAR})
    yield topic(own.device, "birth"), birth(own, versions={str(n): "x" * 200 for n in range(300)})
    yield topic(own.device, "birth"), birth(own, capabilities=["\x00<script>", "\u202e"] * 100, session="a" * 64)
    yield topic(own.device, "status"), encode_status(victim.device, "offline")
    yield (
        topic(own.device, "live"),
        encode_live(messages.Live(device=victim.device, boot="b", t_ns=1, latitude=1.0, longitude=1.0)),
    )
    for n in range(60):  # a life for each record
        fresh = ListSource(2, lineage=f"{n:012x}")
        yield up, encode_batch(fresh.append(some(4))[:1])


def test_nothing_that_a_box_sends_touches_another_or_stops_it(engine: Engine) -> None:
    victim, own = ListSource(1), ListSource(2)
    ingest = Ingest(engine)
    for source in (victim, own):
        source.append(some(24))
        devices.enrol(engine, source.public_key.hex())
        ingest.take(topic(source.device, "birth"), birth(source), 1)
    for lane, entries in victim.lanes.items():
        ingest.take(topic(victim.device, "up", lane), encode_batch(entries), 2)
    before = rows_of(engine, victim.device)
    count = 0
    for name, payload in hostile(own, victim):
        count += 1
        for out in ingest.take(name, payload, 3 + count):
            assert f"/{own.device}/" in out.topic
    assert count > 100
    assert rows_of(engine, victim.device) == before
    assert max(map(len, ingest.counts.refused)) <= 64  # reasons are few and fixed
    assert len(ingest.counts.refused) < 25
    with db.reading(engine) as connection:
        largest = connection.execute(select(func.max(func.length(db.entry.c.body)))).scalar_one()
        assert largest <= messages.MAX_BODY
    # it is served as before
    more = victim.append(some(4))
    for entry in more:
        (answer,) = ingest.take(topic(victim.device, "up", entry.lane), encode_batch([entry]), 9000)
        assert messages.decode_ack(answer.payload).lanes[entry.lane] == entry.seq  # type: ignore[index]
    # and so is the hostile one, where it says something true
    (answer,) = ingest.take(topic(own.device, "birth"), birth(own), 9001)
    assert messages.decode_ack(answer.payload).state == "accepted"


def test_while_one_box_floods_the_broker_another_gets_through(tmp_path: Path) -> None:
    (tmp_path / "insurer").mkdir()
    insurer = Insurer(tmp_path / "insurer")
    try:
        insurer.start_broker()
        box = Box(tmp_path / "box", insurer, insurer.pages())
        bad = ListSource(2)
        bad.append(some(24))
        devices.enrol(insurer.engine, bad.public_key.hex())
        pair = insurer.pair("device", bad.device)
        reception = Reception(insurer.engine, insurer.as_receiver(), key=commands.command_key(insurer.settings))
        reception.start()
        stop = threading.Event()
        with peer(insurer, pair, "bad") as hostile_one:

            def flood() -> None:
                rng = random.Random(6)
                for n in range(20_000):
                    if stop.is_set() or not hostile_one.client.is_connected():
                        return
                    what = ("status", "live", "birth", "up/event", "up/track")[n % 5]
                    sent = hostile_one.client.publish(f"rw/v1/{bad.device}/{what}", rng.randbytes(3000), qos=1)
                    if n % 200 == 199:
                        sent.wait_for_publish(60)

            thread = threading.Thread(target=flood, daemon=True)
            thread.start()
            try:
                until(lambda: reception.ingest.counts.messages > 60, "the flood has come")
                with box.sending() as (store, _):
                    until(lambda: store.positions() == store.heads(), "the other box gets through", 100.0)
            finally:
                stop.set()
                thread.join(60)
                reception.stop()
        with db.reading(insurer.engine) as connection:
            c = db.refused.c
            told = connection.execute(select(c.reason).where(c.device == bad.device)).scalars().all()
        assert told
    finally:
        insurer.close()
