"""The doctor on its way to a real broker with TLS, and the receiver behind it: the table of fault, finding, advice."""

import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.clock import wall_ns
from agent.doctor import network
from agent.doctor import seen as seen_module
from agent.local.messages import Lane
from agent.uplink import SyncStatus
from receiver.authority import brokerconfig
from tests.doctoring import Authority, Box, Row, S, check, daemon
from tests.syncing import Mosquitto, free_port

ADDRESS = "127.0.0.1"
AT_REST = SyncStatus(phase="waiting")  # the agent is not connected: the doctor may try for itself


@dataclass
class Brokers:
    """One Mosquitto with a listener for each thing that may be wrong with a broker, and who signed for it."""

    folder: Path
    ours: Authority
    theirs: Authority
    ports: dict[str, int]


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    if shutil.which("mosquitto") is None and not Path("/usr/sbin/mosquitto").exists():
        pytest.skip("Debian package mosquitto is not installed")
    folder = tmp_path_factory.mktemp("brokers")
    if os.geteuid() == 0:  # Mosquitto gives that up before it reads its files
        for part in (folder, *folder.parents[:2]):
            part.chmod(part.stat().st_mode | 0o055)
    ours, theirs = Authority.made(folder, "ours"), Authority.made(folder, "theirs")
    acl, shut, wide = folder / "acl", folder / "shut", folder / "wide"
    acl.write_text(brokerconfig.acl())
    shut.write_text("pattern read rw/v1/%u/ack\n")
    wide.write_text("pattern readwrite #\n")
    certificates = {
        "good": ours.issue("broker", of=ADDRESS),
        "expired": ours.issue("broker", begins_d=-90, ends_d=-1, of=ADDRESS),
        "young": ours.issue("broker", begins_d=2, ends_d=90, of=ADDRESS),
        "ending": ours.issue("broker", ends_d=5, of=ADDRESS),
        "named": ours.issue("elsewhere", of="192.0.2.7"),
        "shut": ours.issue("broker", of=ADDRESS),
        "wide": ours.issue("broker", of=ADDRESS),
    }
    rules = {"shut": shut, "wide": wide}
    ports = {name: free_port() for name in certificates}
    lines = []
    for name, (certificate, key) in certificates.items():
        lines += [
            f"listener {ports[name]} {ADDRESS}",
            "allow_anonymous false",
            "require_certificate true",
            "use_identity_as_username true",
            "use_username_as_clientid true",
            f"cafile {ours.file}",
            f"certfile {certificate}",
            f"keyfile {key}",
            f"acl_file {rules.get(name, acl)}",
        ]
    plain = Mosquitto(folder, *lines, anonymous=False)
    settings = folder / "mosquitto.conf"
    settings.write_text("per_listener_settings true\n" + settings.read_text())
    with socket.create_server((ADDRESS, 0)) as nobody:
        ports |= {"plain": plain.port, "closed": nobody.getsockname()[1]}
    plain.start()
    try:
        yield Brokers(folder, ours, theirs, ports)
    finally:
        plain.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_module, "BETWEEN_S", 0.0)


@dataclass
class Way:
    """A box and the brokers that it may be sent to."""

    box: Box
    brokers: Brokers
    monkeypatch: pytest.MonkeyPatch

    def to(
        self,
        name: str,
        *,
        scheme: str = "mqtts",
        host: str = ADDRESS,
        ca: Authority | None = None,
        pair: tuple[Path, Path] | str | None = "own",
        more: str = "",
    ) -> None:
        """Configure a broker, who vouches for it, and this box's certificate ("own": a good one)."""
        own = self.brokers.ours.issue(self.box.device) if pair == "own" else pair
        lines = [f'url = "{scheme}://{host}:{self.brokers.ports[name]}"']
        if scheme == "mqtts":
            lines.append(f'ca = "{(ca or self.brokers.ours).file}"')
        if isinstance(own, tuple):
            lines += [f'certificate = "{own[0]}"', f'key = "{own[1]}"']
        text = self.box.config.read_text().replace('url = "mqtts://127.0.0.1:8883"', "\n".join([*lines, more]))
        self.box.config.write_text(text)
        hour_ago_ns = wall_ns() - 3600 * S
        os.utime(self.box.config, ns=(hour_ago_ns, hour_ago_ns))

    def own(self, **life: Any) -> None:
        """Give the box a certificate of another life."""
        self.to("good", pair=self.brokers.ours.issue(self.box.device, **life))

    def says(self, **changes: Any) -> None:
        """Let the daemon be connected to a good broker, and say something of sync or lanes."""
        self.to("good")
        self.box.says(**changes)


@pytest.fixture
def way(tmp_path: Path, brokers: Brokers, monkeypatch: pytest.MonkeyPatch) -> Way:
    box = Box(tmp_path)
    box.says(sync=AT_REST)
    return Way(box, brokers, monkeypatch)


def no_name(way: Way) -> None:
    way.to("good", host="broker.invalid")

    def fails(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    way.monkeypatch.setattr(network.socket, "getaddrinfo", fails)


def waiting(n: int, oldest_s: float | None, acknowledged: int = 100) -> Any:
    lanes = [Lane(name="trip", head=acknowledged + n, acknowledged=acknowledged, oldest_s=oldest_s)]
    return lambda way: way.says(lanes=lanes, sync=SyncStatus(phase="sending"))


def sync(**said: Any) -> Any:
    return lambda way: way.says(sync=SyncStatus(**said))


def other_key(way: Way) -> None:
    mine, another = way.brokers.ours.issue(way.box.device), way.brokers.ours.issue("another")
    way.to("good", pair=(mine[0], another[1]))


NO = ("tls_own_refused",)
ROWS = [
    Row("the modem is off", lambda w: (w.to("good"), w.box.put("class/net/eth0/operstate", "down"))[0],
        "fail", "no_network", "SIM"),
    Row("no way to a name server", no_name, "fail", "dns_fails", "getent hosts broker.invalid"),
    Row("nothing listens", lambda w: w.to("closed"), "fail", "broker_refuses", "port"),
    Row("a wrong CA", lambda w: w.to("good", ca=w.brokers.theirs), "fail", "tls_untrusted", "ca file"),
    Row("the broker's certificate has expired", lambda w: w.to("expired"), "fail", "tls_expired", "tell the insurer"),
    Row("it is not valid yet: a slow clock", lambda w: w.to("young"), "fail", "tls_not_yet_valid", "clock first"),
    Row("it ends soon", lambda w: w.to("ending"), "warn", "tls_ends_soon", "renew the broker's certificate"),
    Row("it is another's", lambda w: w.to("named"), "fail", "tls_wrong_name", "not an IP address"),
    Row("the port speaks no TLS", lambda w: w.to("plain"), "fail", "tls_fails", "8883"),
    Row("no certificate is configured", lambda w: w.to("good", pair=None), "warn", "no_identity", "enrol", also=NO),
    Row("not enrolled", lambda w: w.to("good", pair=(Path("/none.crt"), Path("/none.key"))),
        "fail", "no_certificate", "code from the insurer"),
    Row("the box's has expired", lambda w: w.own(begins_d=-60, ends_d=-1),
        "fail", "own_certificate_expired", "fresh code", also=NO),
    Row("the box's was not renewed", lambda w: w.own(begins_d=-60, ends_d=3), "warn", "own_certificate_ends", "online"),
    Row("another authority's box", lambda w: w.to("good", pair=w.brokers.theirs.issue(w.box.device)),
        "fail", "tls_own_refused", "revoked"),
    Row("a key of another", other_key, "fail", "tls_files", "enrol"),
    Row("a wrong password", lambda w: w.to("plain", scheme="mqtt", pair=None, more='username = "box"'),
        "fail", "mqtt_refused", "password_file"),
    Row("the rules shut the box out", lambda w: w.to("shut"), "fail", "broker_acl", "broker-config"),
    Row("the rules let it write anything", lambda w: w.to("wide"), "warn", "broker_open", "broker-config"),
    Row("a plain address abroad", lambda w: w.to("good", scheme="mqtt", host="192.0.2.7"),
        "fail", "broker_address", "mqtts://HOST"),
    # the receiver behind it, as the daemon knows it
    Row("the receiver is dead", sync(phase="sending", trouble="silent"), "fail", "receiver_silent", "receiver runs"),
    Row("the receiver refuses", sync(phase="waiting", trouble="refused", reason="unknown device"),
        "fail", "receiver_refuses", "Enrol the box"),
    Row("the agent is offline", sync(phase="waiting", trouble="offline"), "warn", "agent_offline", "five minutes"),
    Row("parked", lambda w: w.says(sync=None), "unknown", "receiver_not_asked", "Start the engine"),
    Row("an old acknowledgement", waiting(40, 3 * 3600.0), "warn", "backlog_old", "stay online"),
    Row("nothing was ever acknowledged", waiting(4000, None, 0), "fail", "backlog_old", "first line of Network"),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
def test_the_doctor_names_what_is_in_the_way(row: Row, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    row.hurt(way)
    refused = "tls_own_refused" in (row.code, *row.also)
    monkeypatch.setattr(network, "REFUSAL_S", 20.0 if refused else 0.05)  # one that refuses does so at once
    with daemon(way.box):
        findings = way.box.examined("network")
    check(row, findings)


def test_a_way_that_is_well_passes_to_its_end(way: Way) -> None:
    way.to("good")
    way.box.says(sync=AT_REST)
    with daemon(way.box):
        findings = way.box.examined("network")
    told = {f.check: (f.state, f.found) for f in findings}
    assert told["network.tls"][0] == told["network.rights"][0] == "pass"
    assert "there and back in" in told["network.mqtt"][1]
    assert told["network.backlog"] == ("pass", "nothing waits: the receiver has all 49 records")
    assert [f.check for f in findings if f.state != "pass"] == ["network.receiver"]


def test_an_agent_that_is_connected_is_not_thrown_out(way: Way) -> None:
    way.says(sync=SyncStatus(phase="sending"))
    with daemon(way.box):
        findings = way.box.examined("network")
    told = {f.check: f.found for f in findings}
    assert told["network.mqtt"] == "the agent is connected"
    assert told["network.receiver"] == "acknowledges what it is sent"
    assert msgspec.json.encode(findings)
