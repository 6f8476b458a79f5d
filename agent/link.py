"""One MQTT connection: its URL, TLS, protocol version and the causes of trouble. Both ends connect through this file.

MQTT 5 is spoken unless the broker refuses it by its CONNACK; then, said once, 3.1.1. A `Link` never retries by
itself and keeps no message: who owns it decides when to try again and holds what is not acknowledged.
"""

import ipaddress
import logging
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from agent import tcp
from agent.errors import ConfigError
from agent.tls import Moment, client_context

if TYPE_CHECKING:
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

log = logging.getLogger(__name__)

DEFAULT_PORTS: Final = {"mqtts": 8883, "mqtt": 1883}
# Incoming packets beyond this end the connection; the largest of ours is a 64 KiB batch and its header.
MAX_PACKET: Final = 128 * 1024
# CONNACK and DISCONNECT reasons that waiting a little does not cure: client id, credentials, authorisation, ban,
# authentication method, session taken over by another client of the same name (MQTT 5, 2.4).
REFUSALS: Final = frozenset({133, 134, 135, 138, 140, 142})
UNSUPPORTED_VERSION: Final = 132


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Where the broker is and how to be let in; files are PEM."""

    url: str = "mqtts://localhost:8883"  # plain mqtt:// only to this machine itself
    ca: Path | None = None  # who signed the broker's certificate; the system's authorities when absent
    certificate: Path | None = None  # this side's certificate …
    key: Path | None = None  # … and its key
    username: str = ""
    password_file: Path | None = None  # a file, so that no secret stands in a configuration
    keepalive_s: int = 30  # a dead connection is noticed after 1.5 times this
    session_expiry_s: int = 86_400  # how long the broker keeps what it could not deliver to us
    in_flight: int = 16  # messages without PUBACK, both ways
    connect_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        """Check the numbers; raise ValueError."""
        if not 4 <= self.in_flight <= 1000:
            raise ValueError("in_flight must be 4 to 1000 (one at a time halves the throughput of a mobile link)")
        if not 5 <= self.keepalive_s <= 3600:
            raise ValueError("keepalive_s must be 5 to 3600")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")


@dataclass(frozen=True, slots=True)
class Broker:
    """A parsed broker URL."""

    host: str
    port: int
    tls: bool


def parse_url(url: str) -> Broker:
    """Parse mqtts://host[:port], or mqtt://host[:port] on this machine; raise ConfigError saying what to write."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as e:
        raise ConfigError(f"broker {url!r}: {e}; write mqtts://host:8883") from e
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ConfigError(f"broker {url!r}: not a broker address; write mqtts://host:8883")
    if parts.username or parts.password:
        raise ConfigError(f"broker at {parts.hostname}: no credentials in the address; set username and password_file")
    tls = parts.scheme == "mqtts"
    if not tls and not _is_loopback(parts.hostname):
        raise ConfigError(
            f"broker {url!r}: plain mqtt:// leaves this machine unencrypted; use mqtts://{parts.hostname}"
        )
    return Broker(parts.hostname, port or DEFAULT_PORTS[parts.scheme], tls)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Up:
    """The connection stands and every subscription was granted."""

    version: Literal["5", "3.1.1"]


@dataclass(frozen=True, slots=True)
class Down:
    """The connection could not be made, or is lost: the network's or the broker's trouble, worth retrying."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker does not want us: somebody has to change something."""

    reason: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """The broker has taken one more of our messages; it says nothing about the receiver."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message; `token` goes back to `Link.acknowledge` where acknowledgements are manual."""

    topic: str
    payload: bytes
    retained: bool = False
    token: object = None


Happening = Up | Down | Refused | Delivered | Arrived


class Link:
    """Connects, publishes and reports what happens to `sink`, which is called from the connection's own thread.

    `now` judges the dates of certificates in place of the machine's clock (agent.tls).
    """

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        sink: Callable[[Happening], None],
        *,
        filters: Sequence[str],
        shared_filters: Sequence[str] = (),
        group: str = "",
        will: tuple[str, bytes] | None = None,
        content_types: dict[str, str] | None = None,
        keep_session: bool = False,
        manual_ack: bool = False,
        now: Callable[[], Moment] | None = None,
    ) -> None:
        self._settings = settings
        self._broker = parse_url(settings.url)
        self._now = now
        self._tls = self._read_tls() if self._broker.tls else None
        self._password = _password(settings)
        self._client_id = client_id
        self._sink = sink
        self._filters = filters
        self._shared_filters = shared_filters
        self._group = group
        self._will = will
        self._content_types = content_types or {}
        self._keep_session = keep_session
        self._manual_ack = manual_ack
        self._version: Literal["5", "3.1.1"] = "5"
        self._client: Client | None = None
        self._awaited: set[int] = set()  # message ids of subscriptions not yet granted
        self._lock = threading.Lock()
        self._of_kind: dict[str, Properties] = {}  # by content type: there are three

    @property
    def name(self) -> str:
        """Return host:port for messages to people."""
        return f"{self._broker.host}:{self._broker.port}"

    def connect(self) -> None:
        """Begin one attempt and return at once; Up, Down or Refused follows."""
        self.close()
        if self._tls is not None:
            try:
                self._tls = self._read_tls()  # the certificate may have been renewed
            except ConfigError as e:
                log.warning("%s; what was read before is used", e)
        client = self._make_client()
        with self._lock:
            self._client = client
        threading.Thread(target=self._attempt, args=(client,), name=f"mqtt {self.name}", daemon=True).start()

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> bool:
        """Hand a message (QoS 1) to the connection; False when there is none."""
        client = self._client
        if client is None:
            return False
        properties = None
        if self._version == "5":
            kind = self._content_types.get(topic.split("/")[3], "application/json")
            properties = self._of_kind.get(kind)
            if properties is None:  # making them takes longer than sending the message
                properties = self._of_kind[kind] = _properties("PUBLISH", ContentType=kind)
        return client.publish(topic, payload, qos=1, retain=retain, properties=properties).rc == 0

    def road(self) -> tcp.Road | None:
        """Return what was published and is still on its way; None without a connection, or where that is not known."""
        client = self._client
        connection: Any = None if client is None else client.socket()
        told = None if connection is None else tcp.road(connection)
        if client is None or told is None:
            return None
        unwritten = sum(packet["to_process"] for packet in list(client._out_packet))
        return told._replace(undelivered=told.undelivered + unwritten)

    def acknowledge(self, arrived: Arrived) -> None:
        """Send the PUBACK of a message that came over the present connection; drop it for an earlier one."""
        if isinstance(arrived.token, tuple):
            client, message_id = arrived.token
            present = self._client
            if present is not None and client is present:
                present.ack(message_id, 1)

    def close(self) -> None:
        """End the connection in good order, or the attempt; nothing is reported about it any more."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def _read_tls(self) -> ssl.SSLContext:
        s = self._settings
        return client_context(s.ca, (s.certificate, s.key) if s.certificate and s.key else None, self._now)

    def _make_client(self) -> "Client":
        from paho.mqtt.client import MQTTv5, MQTTv311
        from paho.mqtt.enums import CallbackAPIVersion

        five = self._version == "5"
        client = _bounded_client()(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=MQTTv5 if five else MQTTv311,
            clean_session=None if five else not self._keep_session,
            manual_ack=self._manual_ack,
            reconnect_on_failure=False,
        )
        client.connect_timeout = self._settings.connect_timeout_s
        client.max_inflight_messages_set(self._settings.in_flight)
        if self._settings.username:
            client.username_pw_set(self._settings.username, self._password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        if self._will is not None:
            client.will_set(self._will[0], self._will[1], qos=1, retain=True)
        client.on_socket_open = _opened
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def _attempt(self, client: "Client") -> None:
        options: dict[str, Any] = {}
        if self._version == "5":
            properties = _properties(
                "CONNECT",
                ReceiveMaximum=self._settings.in_flight,
                MaximumPacketSize=MAX_PACKET,
                SessionExpiryInterval=self._settings.session_expiry_s if self._keep_session else 0,
            )
            options = {"clean_start": not self._keep_session, "properties": properties}
        try:
            client.connect(self._broker.host, self._broker.port, self._settings.keepalive_s, **options)
            client.loop_start()  # needs a pair of sockets
        except ssl.SSLCertVerificationError as e:
            self._report(client, Refused(f"broker {self.name}: its certificate is not trusted: {e.verify_message}"))
        except ssl.SSLError as e:
            refused = "ALERT" in (e.reason or "")
            self._report(client, (Refused if refused else Down)(f"broker {self.name}: TLS: {e.reason or e}"))
        except OSError as e:
            self._report(client, Down(f"broker {self.name}: {e.strerror or e}"))

    def _report(self, client: "Client", happening: Happening) -> None:
        if client is self._client:
            if isinstance(happening, Down | Refused):
                self._client = None
                client.disconnect()  # a refused message or subscription leaves the connection standing
            self._sink(happening)

    def _on_connect(
        self, client: "Client", _: Any, __: "ConnectFlags", reason: "ReasonCode", properties: "Properties | None"
    ) -> None:
        if client is not self._client:  # closed while it was connecting
            client.disconnect()
            return
        if reason.value == UNSUPPORTED_VERSION and self._version == "5":
            self._fall_back(client)
            return
        if reason.is_failure:
            kind = Refused if reason.value in REFUSALS else Down
            self._report(client, kind(f"broker {self.name}: {str(reason).lower()}"))
            return
        shares = self._version == "5" and getattr(properties, "SharedSubscriptionAvailable", 1) == 1
        prefix = f"$share/{self._group}/" if shares else ""
        wanted = [*self._filters, *(prefix + f for f in self._shared_filters)]
        self._awaited = set()
        for wish in wanted:
            _, message_id = client.subscribe(wish, qos=1)
            if message_id is not None:
                self._awaited.add(message_id)

    def _fall_back(self, client: "Client") -> None:
        with self._lock:
            if client is not self._client:
                return
            log.warning("broker %s refuses MQTT 5; using MQTT 3.1.1 with it from now on", self.name)
            self._version = "3.1.1"
            self._client = older = self._make_client()
        threading.Thread(target=self._attempt, args=(older,), name=f"mqtt {self.name}", daemon=True).start()

    def _on_subscribe(
        self, client: "Client", _: Any, message_id: int, reasons: "list[ReasonCode]", __: "Properties | None"
    ) -> None:
        failed = [r for r in reasons if r.is_failure]
        if failed:
            self._report(client, Refused(f"broker {self.name}: subscription refused: {str(failed[0]).lower()}"))
            return
        self._awaited.discard(message_id)
        if not self._awaited:
            self._report(client, Up(self._version))

    def _on_publish(self, client: "Client", _: Any, __: int, reason: "ReasonCode", ___: "Properties | None") -> None:
        if reason.is_failure:
            self._report(client, Refused(f"broker {self.name}: message refused: {str(reason).lower()}"))
        else:
            self._report(client, Delivered())

    def _on_message(self, client: "Client", _: Any, message: "MQTTMessage") -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        token = (client, message.mid) if message.qos else None
        self._report(client, Arrived(topic, bytes(message.payload), message.retain, token))

    def _on_disconnect(
        self, client: "Client", _: Any, __: "DisconnectFlags", reason: "ReasonCode", ___: "Properties | None"
    ) -> None:
        kind = Refused if reason.value in REFUSALS else Down
        self._report(client, kind(f"broker {self.name}: {str(reason).lower()}"))


@cache
def _bounded_client() -> "type[Client]":
    """Return paho's client, which ends the connection before it reads a packet beyond MAX_PACKET.

    It tells the broker of that bound (MQTT 5) and does not hold it to it: 256 MiB would end a small box.
    """
    from paho.mqtt.client import Client

    class Bounded(Client):
        def _sock_recv(self, bufsize: int) -> bytes:
            if bufsize > MAX_PACKET:
                raise ConnectionError(f"a packet of {bufsize} bytes")
            return super()._sock_recv(bufsize)

    return Bounded


def _opened(_: "Client", __: Any, connection: Any) -> None:
    tcp.suit(connection)


def _properties(packet: str, **values: Any) -> "Properties":
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(getattr(PacketTypes, packet))  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _password(settings: BrokerSettings) -> str | None:
    if settings.password_file is None:
        return None
    try:
        return settings.password_file.read_text(encoding="utf-8").strip()
    except OSError as e:
        raise ConfigError(f"{settings.password_file}: cannot be read: {e.strerror or e}") from e
