"""Mosquitto by the files that `receiver broker-config` writes, over TLS: who is let in, and what each may touch.

Everything here waits for an answer of the broker, or for a message that was sent after the one that must not come.
"""

import datetime
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent import clock
from agent.answers import Belief
from agent.enrolment.enrol import signer_of
from agent.enrolment.folder import TlsFolder
from agent.enrolment.renewal import KEPT_OUT_NS, Renewal
from agent.enrolment.settings import EnrolmentSettings
from agent.errors import UplinkError
from agent.link import BrokerSettings, Down, Happening, Link, Refused, Up
from agent.messages import PROBE, topic
from agent.mqtt import MqttUplink
from agent.records import Clock, Health
from agent.sending import Sending
from agent.store import Store
from agent.sync import Sync, SyncSettings, SyncThread
from agent.tls import Moment, client_context
from receiver import commands, devices
from receiver.authority import enrolling, folder, revoking
from receiver.authority.brokerconfig import MOST_PACKET, RECEIVERS
from receiver.mqtt import Reception
from tests.enrolling import DAY_NS, Insurer, broker_of
from tests.sample_records import some
from tests.syncing import until

# paho leaves the socket of a failed handshake to the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
)
ONE, OTHER = "rw-00000000000000a1", "rw-00000000000000b2"
NOT_AUTHORIZED = 135


@pytest.fixture(scope="module")
def insurer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Insurer]:
    made = Insurer(tmp_path_factory.mktemp("insurer"))
    made.start_broker()
    yield made
    made.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Insurer]:
    (tmp_path / "insurer").mkdir()
    made = Insurer(tmp_path / "insurer")
    yield made
    made.close()


@dataclass
class Peer:
    """A client that keeps what it is sent and what its messages were answered."""

    client: Client
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    answered: dict[int, int] = field(default_factory=dict)
    granted: dict[int, list[int]] = field(default_factory=dict)
    up: threading.Event = field(default_factory=threading.Event)
    down: threading.Event = field(default_factory=threading.Event)

    def publish(self, name: str, payload: bytes = b"x", retain: bool = False) -> int:
        """Publish and return the broker's reason."""
        sent = self.client.publish(name, payload, qos=1, retain=retain)
        until(lambda: sent.mid in self.answered, f"{name} is answered")
        return self.answered[sent.mid]

    def subscribe(self, name: str) -> int:
        mid = self.client.subscribe(name, options=SubscribeOptions(qos=1))[1]
        assert mid is not None
        until(lambda: mid in self.granted, f"{name} is answered")
        return self.granted[mid][0]


@contextmanager
def peer(insurer: Insurer, pair: dict[str, Path], name: str, will: str = "") -> Iterator[Peer]:
    client = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTv5, reconnect_on_failure=False)
    one = Peer(client)
    root = insurer.path / "authority" / "root.crt"
    client.tls_set_context(client_context(root, (pair["certificate"], pair["key"])))
    if will:
        client.will_set(will, b"gone", qos=1, retain=True)
    client.on_connect = lambda *a: one.up.set() if a[3].value == 0 else None
    client.on_disconnect = lambda *_: one.down.set()
    client.on_message = lambda _, __, m: one.heard.append((m.topic, m.payload))
    client.on_publish = lambda _, __, mid, reason, ___: one.answered.update({mid: reason.value})
    client.on_subscribe = lambda _, __, mid, reasons, ___: one.granted.update({mid: [r.value for r in reasons]})
    client.connect("127.0.0.1", insurer.port)
    client.loop_start()
    try:
        assert one.up.wait(60)
        yield one
    finally:
        client.disconnect()
        client.loop_stop()


def outcome(insurer: Insurer, **pair: Path) -> Happening:
    """Return what comes of an attempt to connect with a certificate and key, or without."""
    happened: list[Happening] = []
    over = threading.Event()

    def take(happening: Happening) -> None:
        happened.append(happening)
        over.set()

    settings = BrokerSettings(url=insurer.broker, ca=insurer.path / "authority" / "root.crt", **pair)  # type: ignore[arg-type]
    link = Link(settings, "probe", take, filters=[topic(ONE, "ack")])
    link.connect()
    assert over.wait(60)
    link.close()
    return happened[0]


def test_a_device_touches_its_own_topics_alone(insurer: Insurer) -> None:
    one, other = insurer.pair("device", ONE), insurer.pair("device", OTHER)
    receiver = insurer.pair("receiver", RECEIVERS[0])
    file = f"file/{'0' * 64}"
    mine = [topic(ONE, "up", "event"), *(topic(ONE, w) for w in ("birth", "status", "live", f"{file}/init"))]
    mine += [topic(ONE, f"{file}/0/{'1' * 64}"), topic(ONE, f"{file}/fin/1/{'0' * 64}")]
    others = [name.replace(ONE, OTHER) for name in (*mine, topic(ONE, PROBE))]
    answers = [topic(name, what) for name in (ONE, OTHER) for what in ("ack", "command", "consent", "files")]
    odd = [
        "rw/v1",
        f"rw/v1/{ONE}",
        topic(ONE, "up", "event/x"),
        "rw/v2/x",
        "$SYS/broker/x",
        "x",
        "/",
        f"rw/v1//{ONE}/up/event",
    ]
    with peer(insurer, one, "a") as a, peer(insurer, other, "b") as b, peer(insurer, receiver, "r") as r:
        for name in (
            "rw/v1/+/birth",
            "rw/v1/+/status",
            "rw/v1/+/live",
            "$share/g/rw/v1/+/up/+",
            "$share/g/rw/v1/+/file/#",
        ):
            assert r.subscribe(name) in (0, 1)
        for spy in ("#", f"rw/v1/{ONE}/#", "rw/v1/+/ack", "+/+/+/up/+", "$share/g/rw/v1/+/up/+", "$SYS/#"):
            b.subscribe(spy)  # Mosquitto grants it and filters what comes
        a.subscribe(f"rw/v1/{ONE}/+")
        assert all(a.publish(n) in (0, 16) for n in (*mine, topic(ONE, PROBE)))  # 16: taken, though nobody listens
        assert {n: a.publish(n) for n in (*others, *answers, *odd)} == dict.fromkeys(
            (*others, *answers, *odd), NOT_AUTHORIZED
        )
        assert {n: a.publish(n, retain=True) for n in others} == dict.fromkeys(others, NOT_AUTHORIZED)
        assert all(r.publish(n) in (0, 16) for n in answers)
        assert all(r.publish(n) == NOT_AUTHORIZED for n in mine)  # nor does a receiver speak as a device
        until(lambda: len([t for t, _ in b.heard if t in answers]) >= 4, "b heard what is for it")
        until(
            lambda: {t for t, _ in a.heard} >= {topic(ONE, PROBE), *(n for n in answers if ONE in n)},
            "a heard what is for it",
        )
        until(lambda: set(mine) <= {t for t, _ in r.heard}, "the receiver heard the device")
    assert {t for t, _ in b.heard} == {n for n in answers if OTHER in n}
    assert {t for t, _ in a.heard} == {topic(ONE, PROBE), *(n for n in answers if ONE in n)}
    assert {t for t, _ in r.heard} == set(mine)


def test_the_last_will_of_another_cannot_be_left(insurer: Insurer) -> None:
    one, receiver = insurer.pair("device", ONE), insurer.pair("receiver", RECEIVERS[0])
    with peer(insurer, receiver, "r") as r:
        r.subscribe("rw/v1/+/status")
        for will in (topic(OTHER, "status"), topic(ONE, "status")):
            before = len(r.heard)
            try:
                with peer(insurer, one, "same", will=will) as a, peer(insurer, one, "same"):
                    a.client.loop_stop()  # taken over: the broker publishes the will of who was there before
            except AssertionError:
                assert OTHER in will  # it may refuse the connection as well
        until(lambda: topic(ONE, "status") in {t for t, _ in r.heard[before:]}, "the own will came")
        assert topic(OTHER, "status") not in {t for t, _ in r.heard}


def test_a_device_under_the_name_of_another_throws_nobody_out(insurer: Insurer) -> None:
    one, other = insurer.pair("device", ONE), insurer.pair("device", OTHER)
    with peer(insurer, other, OTHER) as b, peer(insurer, one, OTHER) as a:  # it asks for the client id of the other
        assert a.publish(topic(ONE, "birth")) in (0, 16)
        assert b.publish(topic(OTHER, "birth")) in (0, 16)
        assert a.publish(topic(ONE, "birth")) in (0, 16)


def test_a_packet_beyond_every_message_of_ours_ends_the_connection(insurer: Insurer) -> None:
    with peer(insurer, insurer.pair("device", ONE), "a") as a:
        assert a.publish(topic(ONE, "birth"), bytes(MOST_PACKET - 100)) in (0, 16)
        a.client.publish(topic(ONE, "birth"), bytes(MOST_PACKET + 1), qos=1)
        until(a.down.is_set, "it is thrown out")


def test_a_device_that_asks_for_the_receivers_share_gets_none_of_it(insurer: Insurer, tmp_path: Path) -> None:
    """Mosquitto grants every subscription, deals each message to one of the group, and then finds that it may not."""
    box = Box(tmp_path / "box", insurer, insurer.pages())
    other = insurer.pair("device", OTHER)
    reception = Reception(insurer.engine, insurer.as_receiver(), key=commands.command_key(insurer.settings))
    with peer(insurer, other, "thief") as thief:
        thief.subscribe("$share/roadwitness/rw/v1/+/up/+")
        reception.start()
        try:
            until(reception.connected.is_set, "the receiver is connected")
            with box.sending(answer_s=1000.0) as (store, _):  # nothing that vanishes is sent again
                until(lambda: store.positions() == store.heads(), "everything is acknowledged")
        finally:
            reception.stop()
    assert thief.heard == []


def test_who_has_no_certificate_in_force_gets_nothing(insurer: Insurer, fresh: Insurer, tmp_path: Path) -> None:
    assert isinstance(outcome(insurer, **insurer.pair("device", ONE)), Up)
    ended = insurer.pair("device", ONE, days=1, at_ns=clock.wall_ns() - 2 * DAY_NS)
    strangers: dict[str, dict[str, Path]] = {
        "none": {},
        "of another authority, under the same name": fresh.pair("device", ONE),
        "ended": ended,
        "of a server": insurer.pair("server", ONE, (ONE,)),
        "made by himself": _self_signed(tmp_path),
    }
    for what, pair in strangers.items():
        assert isinstance(outcome(insurer, **pair), Down | Refused), what


def _self_signed(path: Path) -> dict[str, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ONE)])
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(start).not_valid_after(start + datetime.timedelta(days=9999))
    (path / "own.crt").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (path / "own.key").write_bytes(folder.pem_of(key))
    return {"certificate": path / "own.crt", "key": path / "own.key"}


class Box:
    """A box with a store, enrolled at an insurer, that sends what it has."""

    def __init__(self, path: Path, insurer: Insurer, receiver: str) -> None:
        self.path, self.insurer = path, insurer
        self.done = insurer.enrol(path, receiver, insurer.code())
        self.health: list[Health] = []
        self.settings = EnrolmentSettings(receiver=receiver)
        with Store.open(path) as store:
            store.begin_boot("b1")
            store.append(some(30))

    @contextmanager
    def sending(self, answer_s: float = 2.0) -> Iterator[tuple[Store, SyncThread]]:
        quick = SyncSettings(answer_s=answer_s, retry_s=0.05, retry_cap_s=0.4, refused_s=0.3)
        keys = self.done.settings["commands"]["keys"]
        with Store.open(self.path) as store:
            store.begin_boot("b1")
            uplink = MqttUplink(broker_of(self.done), store.device, lambda: Moment(clock.wall_ns(), True))
            thread = SyncThread(Sync(store, uplink, quick, boot="b1", belief=Belief(self.path, keys)), uplink)
            thread.start()
            try:
                yield store, thread
            finally:
                thread.stop()

    def renewal(self, now_ns: int, sure: bool = True, connected: bool = True) -> Renewal:
        return Renewal(
            TlsFolder(self.path),
            signer_of(self.path),
            self.settings,
            broker_of(self.done),
            lambda: Moment(now_ns, sure),
            lambda: connected,
            self.health.append,
        )

    @property
    def certificate(self) -> str:
        return (self.path / "tls" / "device.crt").read_text()


def test_enrolled_sent_renewed_revoked_and_enrolled_again(insurer: Insurer, tmp_path: Path) -> None:
    address = insurer.pages()
    box = Box(tmp_path / "box", insurer, address)
    key = commands.command_key(insurer.settings)
    reception = Reception(insurer.engine, insurer.as_receiver(), key=key)
    reception.start()
    try:
        with box.sending() as (store, _):
            until(lambda: store.positions() == store.heads(), "everything is acknowledged")
        first, now_ns = box.certificate, clock.wall_ns()
        assert not box.renewal(now_ns + 17 * DAY_NS).look(0)  # of 30 days
        assert box.renewal(now_ns + 21 * DAY_NS).look(0)
        second = box.certificate
        assert second != first
        with box.sending() as (store, _):
            store.append(some(9))
            until(lambda: store.positions() == store.heads(), "the new certificate is let in")
        # a clock that nobody set cannot tell that it is time: being kept out for long does
        lost = box.renewal(0, sure=False, connected=False)
        assert not lost.look(0)
        assert lost.look(3600 * 10**9)
        # stolen: its certificates are revoked, the broker reads the list at its reload signal
        with insurer.engine.begin() as connection:
            assert enrolling.revoke(connection, box.done.device, "stolen", clock.wall_ns()) == 3
        assert revoking.Revocations(insurer.engine, insurer.settings).look(clock.wall_ns())
        insurer.reload_broker()
        pair = dict(zip(("certificate", "key"), TlsFolder(box.path).pair, strict=True))
        until(lambda: not isinstance(outcome(insurer, **pair), Up), "the revoked certificate is kept out")
        kept_out = box.renewal(now_ns + 21 * DAY_NS)
        assert not kept_out.look(0)
        assert "revoked; enrol it with a new code" in box.health[-1].detail
        box.done = insurer.enrol(box.path, address, insurer.code(device=box.done.device))
        with box.sending() as (store, _):
            store.append(some(9))
            until(lambda: store.positions() == store.heads(), "the box is back")
        devices.block(insurer.engine, box.done.device)
        assert revoking.Revocations(insurer.engine, insurer.settings).look(clock.wall_ns())
        with pytest.raises(UplinkError, match="is blocked"):
            insurer.enrol(box.path, address, insurer.code())
    finally:
        reception.stop()


def test_a_next_certificate_that_the_broker_does_not_take_leaves_the_old_one_in_force(
    fresh: Insurer, tmp_path: Path
) -> None:
    box = Box(tmp_path / "box", fresh, fresh.pages())
    first, now_ns = box.certificate, clock.wall_ns()
    renewal = box.renewal(now_ns + 21 * DAY_NS)
    assert not renewal.look(0)  # there is no broker at all
    assert box.certificate == first
    granted = (box.path / "tls" / "next" / "device.crt").read_text()
    assert not renewal.look(1)  # not again at once
    fresh.start_broker()
    assert renewal.look(10**15)
    assert box.certificate == granted
    # where the old one has ended there is nothing to keep
    fresh.stop_broker()
    assert box.renewal(now_ns + 40 * DAY_NS).look(0)
    assert box.certificate != granted


def test_an_issuing_key_that_leaked_is_replaced_and_boxes_that_are_kept_out_fetch_another(
    fresh: Insurer, tmp_path: Path
) -> None:
    fresh.start_broker()
    box = Box(tmp_path / "box", fresh, fresh.pages())
    stolen = fresh.pair("device", ONE)
    assert isinstance(outcome(fresh, **stolen), Up)
    (fresh.path / "authority" / "issuing.key").unlink()
    folder.renew(fresh.path / "authority", "Test", clock.wall_ns())
    revoking.write(fresh.engine, fresh.settings, clock.wall_ns())
    fresh.reload_broker()
    until(lambda: not isinstance(outcome(fresh, **stolen), Up), "what the old key made is kept out")
    again = box.renewal(clock.wall_ns(), connected=False)
    assert not again.look(0)
    assert again.look(2 * KEPT_OUT_NS)  # long before it would have ended
    own = dict(zip(("certificate", "key"), TlsFolder(box.path).pair, strict=True))
    assert isinstance(outcome(fresh, **own), Up)


def test_what_sends_in_the_car_renews_meanwhile(insurer: Insurer, tmp_path: Path) -> None:
    box = Box(tmp_path / "box", insurer, insurer.pages())
    first = box.certificate
    with Store.open(box.path) as store:
        store.begin_boot("b2")
        t_ns = clock.monotonic_ns()
        ahead_ns = clock.wall_minus_monotonic_ns() + 21 * DAY_NS  # by satellites it is three weeks later
        store.append([(t_ns, Clock(t_ns=t_ns, offset_ns=ahead_ns, quality="gnss", uncertainty_ns=1))])
        keys = box.done.settings["commands"]["keys"]
        sending = Sending(store, broker_of(box.done), SyncSettings(), "b2", trusted=keys, enrolment=box.settings)
        try:
            until(lambda: box.certificate != first, "another certificate is in force")
        finally:
            sending.stop()
