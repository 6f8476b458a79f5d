"""A hostile broker: it drops, doubles, reorders, plays back, forges and floods. A box loses nothing and obeys nothing.

Commands played back, altered or by strangers: tests/test_command_device.py; words of consent: test_consent_device.py.
"""

import random
import socket
import struct
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import answers, filemessages, messages
from agent.answers import Belief
from agent.chain import public_bytes
from agent.filemessages import Files, encode_files
from agent.link import MAX_PACKET, Arrived, BrokerSettings, Delivered, Down, Link, Up
from agent.messages import Ack, MessageError
from agent.mqtt import MOST_WAITING_BYTES, MqttUplink
from agent.sync import Sync, SyncSettings
from receiver import db, devices
from receiver.ingest import Ingest
from tests.syncing import ListSource, until
from tests.test_sync import Bench

RECEIVER = Ed25519PrivateKey.from_private_bytes(bytes([9]) * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes([8]) * 32)
TRUSTED = (public_bytes(RECEIVER).hex(),)


class SureBench(Bench):
    """A device that knows its receiver's key, and a broker between them, played by the test."""

    def __init__(self, folder: Path, records: int = 24) -> None:
        super().__init__(records)
        self.belief = Belief(folder, TRUSTED)
        self.sync = Sync(
            self.source,
            self.uplink,
            SyncSettings(),
            boot="boot-1",
            on_health=self.health.append,
            rng=random.Random(1),
            belief=self.belief,
        )

    def signed(self, lanes: dict[str, int], key: Ed25519PrivateKey = RECEIVER, **changes: object) -> Arrived:
        plain = self.ack(lanes, **changes)
        return Arrived(plain.topic, answers.sign("ack", plain.payload, key), plain.retained)


def everything(bench: Bench) -> dict[str, int]:
    return bench.source.heads()


def test_a_forged_acknowledgement_moves_no_position_once_a_receiver_has_signed_one(tmp_path: Path) -> None:
    bench = SureBench(tmp_path)
    bench.step()
    bench.step(Up("5"))
    bench.step(bench.signed({}))
    assert bench.sync.status.phase == "sending"
    bench.step(bench.ack(everything(bench)))  # no signature
    bench.step(bench.signed(everything(bench), STRANGER))
    genuine = bench.signed({"event": 1})
    bench.step(Arrived(genuine.topic, genuine.payload.replace(b'"event":1', b'"event":2')))
    bench.step(Arrived(genuine.topic, genuine.payload[:-2] + b'0"}'))
    moved = answers.sign("files", bench.ack(everything(bench)).payload, RECEIVER)  # signed as something else
    bench.step(Arrived(genuine.topic, moved))
    assert bench.source.positions() == {}
    assert [h.detail for h in bench.health] == [f"ignored a message on {genuine.topic!r}: {answers.UNBELIEVED}"]
    bench.step(genuine)
    assert bench.source.positions() == {"event": 1}


def test_that_answers_are_signed_is_known_after_a_restart(tmp_path: Path) -> None:
    before = SureBench(tmp_path)
    before.step()
    before.step(Up("5"))
    before.answer({})  # a receiver of the version before signs nothing, and is believed so far
    assert before.sync.status.phase == "sending"
    before.step(before.signed({}))
    after = SureBench(tmp_path)
    after.step()
    after.step(Up("5"))
    after.answer(everything(after))
    assert after.sync.status.phase == "asking"
    assert after.source.positions() == {}
    after.step(after.signed({}))
    assert after.sync.status.phase == "sending"
    assert not Belief(tmp_path, ()).strict  # without a key nobody could ever be believed
    (tmp_path / answers.FILE).unlink()
    assert not Belief(tmp_path, TRUSTED).strict


def test_what_was_said_in_another_session_or_of_another_store_or_device_is_not_heeded(tmp_path: Path) -> None:
    bench = SureBench(tmp_path)
    bench.step()
    bench.step(Up("5"))
    bench.step(bench.signed({}))
    other = ListSource(2)
    for changes in ({"session": "earlier"}, {"lineage": "ffffffffffff"}, {"device": other.device}):
        bench.step(bench.signed(everything(bench), **changes))
    assert bench.source.positions() == {}


def test_a_file_is_not_freed_by_who_cannot_sign(tmp_path: Path) -> None:
    device = ListSource().device
    payload = encode_files(Files(device=device, session="s", packages={"0" * 16: "0" * 64}))
    belief = Belief(tmp_path, TRUSTED)
    signed = answers.sign("files", payload, RECEIVER)
    belief.check("files", signed)
    assert filemessages.decode_files(signed) == filemessages.decode_files(payload)  # a box of before reads it as it did
    for forged in (
        payload,
        answers.sign("files", payload, STRANGER),
        answers.sign("ack", payload, RECEIVER),
        b"{}",
        b"",
    ):
        with pytest.raises(MessageError, match="not signed"):
            belief.check("files", forged)


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_no_byte_of_a_signed_answer_can_be_altered(at: int, byte: int) -> None:
    ack = Ack(device=ListSource().device, state="accepted", lineage="0123456789ab", session="s", lanes={"event": 7})
    signed = bytearray(answers.sign("ack", messages.encode_ack(ack), RECEIVER))
    at %= len(signed)
    before, signed[at] = signed[at], byte
    if byte == before:
        assert answers.signer("ack", bytes(signed), TRUSTED) == TRUSTED[0]
        assert messages.decode_ack(bytes(signed)) == ack
    else:
        with pytest.raises(MessageError):
            answers.signer("ack", bytes(signed), TRUSTED)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_it_drops_doubles_reorders_and_plays_back_everything_arrives(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """The receiver is the real one; the broker says that it took everything, which means nothing."""
    rng = random.Random(seed)
    folder = tmp_path_factory.mktemp("hostile")
    engine = db.open_database(f"sqlite:///{folder / 'r.db'}")
    bench, ingest = SureBench(folder, 40), Ingest(engine)
    devices.enrol(engine, bench.source.public_key.hex())
    heard: list[Arrived] = []  # all that the receiver ever answered
    bench.step()
    bench.step(Up("5"))
    for round_ in range(200):
        hostile = round_ < 30
        sent, bench.uplink.published = bench.uplink.published, []
        if hostile:
            sent = [m for m in sent if rng.random() < 0.7] + [m for m in sent if rng.random() < 0.3]
            rng.shuffle(sent)
        for topic, payload, _ in sent:
            for out in ingest.take(topic, payload, round_ + 1):
                heard.append(Arrived(out.topic, answers.sign(topic_of(out.topic), out.payload, RECEIVER)))
        fresh = heard[-len(sent) :] if sent else []
        if hostile:
            fresh = [a for a in fresh if rng.random() < 0.6] + rng.sample(heard, min(3, len(heard)))
            forged = messages.encode_ack(
                Ack(
                    device=bench.source.device,
                    state=rng.choice(["accepted", "blocked", "unknown"]),
                    lineage=bench.source.lineage,
                    session=bench.sync._session,
                    lanes={lane: seq + rng.randrange(2) for lane, seq in everything(bench).items()},  # type: ignore[misc]
                )
            )
            if bench.belief.strict:
                fresh.append(Arrived(messages.topic(bench.source.device, "ack"), forged))
            fresh += [Arrived(messages.topic(bench.source.device, "ack"), rng.randbytes(50))]
        bench.step(*[Delivered()] * len(sent), *fresh)
        stored = {lane: seq for lane, seq in held(engine).items() if seq}
        assert all(seq <= stored.get(lane, 0) for lane, seq in bench.source.positions().items())
        if bench.source.positions() == everything(bench):
            break
        if rng.random() < 0.2 and hostile:
            bench.step(Down("it hangs up"))
        if not bench.uplink.published:
            bench.pass_time()
            if not bench.uplink.up:
                bench.step(Up("5"))
    assert bench.source.positions() == everything(bench)
    engine.dispose()


def topic_of(name: str) -> str:
    return messages.address(name).what


def held(engine: object) -> dict[str, int]:
    from sqlalchemy import func, select

    with db.reading(engine) as connection:  # type: ignore[arg-type]
        rows = connection.execute(select(db.entry.c.lane, func.max(db.entry.c.seq)).group_by(db.entry.c.lane))
        return {lane: seq for lane, seq in rows}  # noqa: C416


def test_a_flood_of_messages_is_dropped_beyond_a_bound() -> None:
    uplink = MqttUplink(BrokerSettings(url="mqtt://127.0.0.1:1"), ListSource().device)
    for n in range(3000):
        uplink._take(Arrived("t", bytes(64 * 1024)) if n % 2 else Arrived("t", b""))
    uplink._take(Down("gone"))
    found = uplink.happenings()
    assert sum(len(h.payload) for h in found if isinstance(h, Arrived)) <= MOST_WAITING_BYTES
    assert uplink.dropped > 2000
    assert found[-1] == Down("gone")  # what happens to the connection is never dropped
    uplink._take(Arrived("t", b"x"))
    assert len(uplink.happenings()) == 1


def test_a_huge_message_ends_the_connection_before_it_is_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sent = threading.Event()

        def broker() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.recv(4096)  # CONNECT
                peer.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK of MQTT 5, no properties
                size = 200 * 1024 * 1024
                length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F | 0x80, size >> 21])
                peer.sendall(b"\x31" + length + struct.pack(">H", 1) + b"t" + bytes(2 * MAX_PACKET))
                sent.set()
                peer.settimeout(60)
                try:
                    while peer.recv(4096):
                        pass
                except OSError:
                    pass

        thread = threading.Thread(target=broker, daemon=True)
        thread.start()
        happened: list[object] = []
        url = f"mqtt://127.0.0.1:{listening.getsockname()[1]}"
        link = Link(BrokerSettings(url=url), "box", happened.append, filters=["t"])
        link.connect()
        until(lambda: any(isinstance(h, Down) for h in happened), "the connection is ended")
        link.close()
        thread.join(60)
        assert not any(isinstance(h, Arrived) for h in happened)
