"""Sync and reception over real brokers: Mosquitto (MQTT 5) and the embedded amqtt (3.1.1)."""

import datetime
import ipaddress
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from sqlalchemy import Engine, func, select

from agent.errors import ConfigError, UplinkError
from agent.link import Broker, BrokerSettings, parse_url
from agent.mqtt import MqttUplink
from agent.sync import Sync, SyncSettings, SyncStatus, SyncThread
from receiver import db, devices
from receiver.broker import EmbeddedBroker
from receiver.mqtt import Reception
from tests.command_line import ran
from tests.sample_records import some
from tests.syncing import ListSource, Mosquitto, free_port, mosquitto, until

QUICK = SyncSettings(answer_s=2.0, retry_s=0.05, retry_cap_s=0.4, refused_s=0.3)


@contextmanager
def device(source: ListSource, broker: BrokerSettings | str, settings: SyncSettings = QUICK) -> Iterator[SyncThread]:
    uplink = MqttUplink(BrokerSettings(url=broker) if isinstance(broker, str) else broker, source.device)
    thread = SyncThread(Sync(source, uplink, settings, boot="boot-1"), uplink)
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()
        assert not thread.is_alive()


@contextmanager
def receiver(engine: Engine, broker: BrokerSettings | str) -> Iterator[Reception]:
    reception = Reception(engine, BrokerSettings(url=broker) if isinstance(broker, str) else broker)
    reception.start()
    try:
        yield reception
    finally:
        reception.stop()
        assert not reception.is_alive()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = db.open_database(f"sqlite:///{tmp_path / 'receiver.db'}")
    yield engine
    engine.dispose()


def enrolled(engine: Engine, records: int) -> ListSource:
    source = ListSource()
    source.append(some(records))
    devices.enrol(engine, source.public_key.hex())
    return source


def held(engine: Engine) -> list[tuple[object, ...]]:
    c = db.entry.c
    with db.reading(engine) as connection:
        rows = connection.execute(select(c.lane, c.seq, c.hash, c.body, c.signature))
        return sorted(tuple(row) for row in rows)


def written(source: ListSource) -> list[tuple[object, ...]]:
    return sorted((e.lane, e.seq, e.hash, e.body, e.signature) for lane in source.lanes.values() for e in lane)


def settled(status: SyncStatus) -> bool:
    return status.phase == "sending" and status.behind == 0


def test_what_the_device_wrote_arrives_whole_and_is_acknowledged(broker: str, engine: Engine) -> None:
    source = enrolled(engine, 300)
    with receiver(engine, broker) as reception, device(source, broker) as sync:
        until(lambda: settled(sync.status), "everything is acknowledged")
        source.append(some(20))
        sync.wake()
        until(lambda: settled(sync.status) and source.positions()["event"] > 100, "the rest is acknowledged")
        assert held(engine) == written(source)
        assert reception.ingest.counts.duplicates == 0
        with db.reading(engine) as connection:
            assert connection.execute(select(db.live.c.online)).scalar_one() in (True, 1)
    assert source.positions() == source.heads()


def test_the_embedded_broker_is_spoken_to_in_3_1_1_and_that_is_said_once(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    embedded = EmbeddedBroker()
    url = embedded.open()
    try:
        with caplog.at_level(logging.INFO), receiver(engine, url) as reception:
            until(reception.connected.is_set, "the receiver is connected")
        said = [r.getMessage() for r in caplog.records]
        assert sum("refuses MQTT 5; using MQTT 3.1.1" in text for text in said) == 1
        assert any("(MQTT 3.1.1)" in text for text in said)
        with pytest.raises(UplinkError, match="choose another port"):
            EmbeddedBroker(int(url.rpartition(":")[2])).open()
    finally:
        embedded.close()


def test_a_broker_that_goes_and_comes_back_loses_nothing(tmp_path: Path, engine: Engine) -> None:
    source = enrolled(engine, 60)
    broker = Mosquitto(tmp_path)
    with receiver(engine, broker.url), device(source, broker.url) as sync:
        until(lambda: sync.status.trouble == "offline", "the missing broker is noticed")
        for _ in range(2):
            broker.start()
            until(lambda: settled(sync.status), "everything is acknowledged")
            broker.stop()
            until(lambda: sync.status.trouble == "offline", "the lost broker is noticed")
            source.append(some(30))
        broker.start()
        sync.wake()
        until(lambda: settled(sync.status), "the rest is acknowledged")
        broker.stop()
    assert held(engine) == written(source)


def test_wrong_credentials_are_a_refusal_and_deliver_nothing(tmp_path: Path, engine: Engine) -> None:
    source = enrolled(engine, 12)
    (tmp_path / "password").write_text("wrong\n")
    settings = BrokerSettings(url="", username="car", password_file=tmp_path / "password")
    with mosquitto(tmp_path, anonymous=False) as broker:
        settings = BrokerSettings(url=broker.url, username="car", password_file=tmp_path / "password")
        with device(source, settings) as sync:
            until(lambda: sync.status.trouble == "refused", "the refusal is noticed")
            assert "not authori" in sync.status.reason
    assert source.positions() == {}


def test_a_message_that_the_broker_does_not_allow_is_a_refusal_and_not_delivered(
    tmp_path: Path, engine: Engine
) -> None:
    source = enrolled(engine, 12)
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite rw/v1/+/birth\ntopic readwrite rw/v1/+/status\ntopic readwrite rw/v1/+/ack\n")
    acl.chmod(0o644)
    tmp_path.chmod(0o755)
    with (
        mosquitto(tmp_path, f"acl_file {acl}", "user root") as broker,
        receiver(engine, broker.url),
        device(source, broker.url) as sync,
    ):
        until(lambda: sync.status.trouble == "refused", "the refusal is noticed")
        assert "message refused: not authorized" in sync.status.reason
    assert source.positions() == {}


def test_a_stranger_is_welcomed_soon_after_it_is_enrolled(broker: str, engine: Engine) -> None:
    source = ListSource()
    source.append(some(12))
    with receiver(engine, broker), device(source, broker, SyncSettings(refused_s=600.0)) as sync:
        until(lambda: sync.status.trouble == "refused", "the device learns that it is unknown")
        assert source.device in sync.status.reason
        devices.enrol(engine, source.device)
        until(lambda: settled(sync.status), "everything is acknowledged")
    assert held(engine) == written(source)


def test_a_receiver_killed_in_the_middle_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'receiver.db'}"
    engine = db.open_database(url)
    source = enrolled(engine, 3000)
    code = "from agent.cli import main; main()"
    with mosquitto(tmp_path) as broker:
        command = [sys.executable, "-c", code, "receiver", "serve", "--db", url, "--broker", broker.url, "--no-pages"]
        settings = SyncSettings(batch_bytes=2048, answer_s=1.0, retry_s=0.05, retry_cap_s=0.2)
        with device(source, broker.url, settings) as sync:
            for kills in range(4):
                process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
                before = sum(source.positions().values())
                if kills < 3:
                    until(lambda seen=before: sum(source.positions().values()) > seen + 150, "some is acknowledged")  # type: ignore[misc]
                    process.kill()
                    process.wait()
                    acknowledged = source.positions()
                    with db.reading(engine) as connection:
                        c = db.entry.c
                        newest = connection.execute(select(c.lane, func.max(c.seq)).group_by(c.lane))
                        stored = {lane: seq for lane, seq in newest}  # noqa: C416
                    assert all(seq <= stored.get(lane, 0) for lane, seq in acknowledged.items())
            until(lambda: settled(sync.status), "everything is acknowledged", 60.0)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    assert held(engine) == written(source)
    engine.dispose()


def test_two_receivers_share_the_work_on_one_broker(tmp_path: Path, engine: Engine) -> None:
    source = enrolled(engine, 600)
    with mosquitto(tmp_path) as broker, receiver(engine, broker.url) as one, receiver(engine, broker.url) as two:
        until(lambda: one.connected.is_set() and two.connected.is_set(), "both are connected")
        with device(source, broker.url, SyncSettings(batch_bytes=1024, answer_s=2.0)) as sync:
            until(lambda: settled(sync.status), "everything is acknowledged")
        assert one.ingest.counts.entries > 0
        assert two.ingest.counts.entries > 0
    assert held(engine) == written(source)


# TLS


def _certificate(
    folder: Path, name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=365 * 50))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{name}.key").write_bytes(private)
    return certificate, key


# paho leaves the socket of a failed handshake to the garbage collector
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_tls_with_a_certificate_per_device_works_and_without_trust_it_is_a_refusal(
    tmp_path: Path, engine: Engine
) -> None:
    authority = _certificate(tmp_path, "ca", None)
    for name in ("broker", "car"):
        _certificate(tmp_path, name, authority)
    _certificate(tmp_path, "stranger", None)
    source = enrolled(engine, 12)
    files = [f"cafile {tmp_path}/ca.pem", f"certfile {tmp_path}/broker.pem", f"keyfile {tmp_path}/broker.key"]
    with mosquitto(tmp_path, *files, "require_certificate true", "user root") as broker:
        url = broker.url.replace("mqtt://", "mqtts://")
        pair = {"certificate": tmp_path / "car.pem", "key": tmp_path / "car.key"}
        good = BrokerSettings(url=url, ca=tmp_path / "ca.pem", **pair)
        with receiver(engine, good), device(source, good) as sync:
            until(lambda: settled(sync.status), "everything is acknowledged")
        with device(ListSource(2), BrokerSettings(url=url, ca=tmp_path / "stranger.pem", **pair)) as sync:
            until(lambda: sync.status.trouble == "refused", "the untrusted broker is refused")
            assert "certificate is not trusted" in sync.status.reason
    with pytest.raises(ConfigError, match="no-such"):
        MqttUplink(BrokerSettings(url=url, ca=tmp_path / "no-such.pem"), source.device)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtts://broker.example", Broker("broker.example", 8883, True)),
        ("mqtts://broker.example:1234/", Broker("broker.example", 1234, True)),
        ("mqtt://127.1.2.3", Broker("127.1.2.3", 1883, False)),
        ("mqtt://[::1]:1884", Broker("::1", 1884, False)),
        ("mqtt://localhost:1", Broker("localhost", 1, False)),
    ],
)
def test_broker_addresses(url: str, expected: Broker) -> None:
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("mqtt://broker.example", "use mqtts://broker.example"),
        ("mqtt://10.0.0.1:1883", "use mqtts://10.0.0.1"),
        ("mqtt://localhost.example", "use mqtts://"),
        ("http://127.0.0.1", "write mqtts://host:8883"),
        ("broker.example:8883", "write mqtts://host:8883"),
        ("mqtts://", "write mqtts://host:8883"),
        ("mqtts://h:99999", "write mqtts://host:8883"),
        ("mqtts://h/topic", "write mqtts://host:8883"),
        ("mqtts://user:pw@h", "set username and password_file"),
    ],
)
def test_wrong_broker_addresses_say_what_to_write(url: str, advice: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url(url)
    assert advice in str(caught.value)
    assert "pw" not in str(caught.value).replace("password", "")


# the command


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from agent.cli import main; main()", "receiver", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_devices_are_listed_enrolled_and_blocked_by_command(tmp_path: Path) -> None:
    database = ("--db", f"sqlite:///{tmp_path / 'r.db'}")
    source = ListSource()
    assert run("devices", *database).stdout == "No device has been heard of yet.\n"
    done = run("enrol", source.public_key.hex(), *database, "--json")
    assert json.loads(done.stdout) == {"device": source.device, "state": "accepted"}
    assert run("block", source.device, *database).stdout == f"{source.device} is blocked.\n"
    listed = json.loads(run("devices", *database, "--json").stdout)
    assert [(d["id"], d["state"]) for d in listed["devices"]] == [(source.device, "blocked")]
    assert listed["pending"] == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["enrol", "rw-nobody", "--db", "sqlite:///{}/r.db"], "does not wait for enrolment"),
        (["devices", "--config", "{}/none.toml"], "no such file"),
        (["devices", "--config", "{}/typo.toml"], "unknown key 'databse' (near names: database)"),
        (["devices", "--config", "{}/nested.toml"], "unknown key 'ulr' (near names: url)"),
        (["devices", "--config", "{}/kind.toml"], "Expected `int`"),
        (["serve", "--db", "sqlite:///{}/r.db", "--broker", "mqtt://broker.example", "--no-pages"], "use mqtts://"),
        (["serve", "--broker", "mqtts://h", "--embedded-broker", "0"], "exclude each other"),
        (["serve", "--http", "nonsense"], "write HOST:PORT"),
        (["serve", "--http", "127.0.0.1:²"], "write HOST:PORT"),
    ],
)
def test_expected_trouble_is_one_line_and_exit_code_1(
    tmp_path: Path,
    arguments: list[str],
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "typo.toml").write_text('databse = "x"\n')
    (tmp_path / "nested.toml").write_text('[broker]\nulr = "x"\n')
    (tmp_path / "kind.toml").write_text('[broker]\nin_flight = "x"\n')
    done = ran(capsys, monkeypatch, "receiver", *(a.format(tmp_path) for a in arguments))
    assert done.returncode == 1, done.stderr
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_with_its_own_broker_serves_a_device_and_ends_in_good_order(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'r.db'}"
    engine = db.open_database(url)
    source = enrolled(engine, 12)
    port = free_port()
    code = "from agent.cli import main; main()"
    options = ["--db", url, "--embedded-broker", str(port), "--no-pages"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "receiver", "serve", *options], stderr=subprocess.PIPE, text=True
    )
    with device(source, f"mqtt://127.0.0.1:{port}") as sync:
        until(lambda: settled(sync.status), "everything is acknowledged")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert held(engine) == written(source)
    engine.dispose()
