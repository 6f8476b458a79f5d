"""The way to the receiver, step by step: a network, the broker's name, its port, TLS, this box's own certificate."""

import socket
import ssl
import threading
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from agent import clock
from agent.clock import NS_PER_S
from agent.doctor import backlog, probe
from agent.doctor.finding import Facts, Finding, ill, well
from agent.doctor.seen import Seen
from agent.errors import ConfigError
from agent.link import Broker, BrokerSettings, parse_url
from agent.tls import UntimelyError, client_context
from drivers.sysfs import try_text

DNS_S: Final = 5.0
TCP_S: Final = 5.0
REFUSAL_S: Final = 0.7  # TLS 1.3: a broker refuses our certificate only after the handshake, some round trips later
LATE_SHARE: Final = 0.2  # of a certificate's life: it should have been renewed by then
SOON_S: Final = 14 * 86_400  # the broker's certificate, which somebody has to renew
# X509_V_ERR_* of OpenSSL (x509_vfy.h)
_VERIFY: Final = {62: "tls_wrong_name", 64: "tls_wrong_name"}
_NOT_CARS: Final = ("lo", "can", "vcan", "slcan", "docker", "veth", "br-")


def examine(seen: Seen) -> Iterator[Finding]:
    """Go the way to the broker as far as it goes, then judge what waits for the receiver."""
    if seen.settings is None:
        return
    settings = seen.settings.broker
    try:
        broker = parse_url(settings.url)
    except ConfigError as error:
        yield ill("fail", "network.broker", "broker_address", str(error), url=settings.url)
        return
    open_so_far = yield from _as_far_as_it_goes(seen, settings, broker)
    if open_so_far:
        yield from probe.examine(seen, settings, broker)
    yield from backlog.examine(seen)


def _as_far_as_it_goes(seen: Seen, settings: BrokerSettings, broker: Broker) -> Generator[Finding, None, bool]:
    """Judge the network, name, port and TLS; return whether MQTT may be tried."""
    where: Facts = {"host": broker.host, "port": broker.port}
    own_ok = True
    if broker.tls:
        own_ok = yield from _own(seen, settings)
    if broker.tls and not _has_link(seen.context.sysfs):
        yield ill("fail", "network.link", "no_network", "no network interface is up")
        return False
    begun_ns = clock.monotonic_ns()
    address = _resolved(broker, seen)
    if address is None:
        yield ill("fail", "network.name", "dns_fails", f"{broker.host} cannot be resolved", **where)
        return False
    took_ms = (clock.monotonic_ns() - begun_ns) / 1e6
    yield well("network.name", f"{broker.host} is {address[0]}, {took_ms:.0f} ms", **where)
    begun_ns = clock.monotonic_ns()
    try:
        connection = socket.create_connection(address[:2], timeout=min(TCP_S, max(0.5, seen.left_s())))
    except ConnectionRefusedError:
        yield ill("fail", "network.broker", "broker_refuses", f"port {broker.port} is closed", **where)
        return False
    except OSError as error:
        text = "no answer" if isinstance(error, TimeoutError) else str(error.strerror or error)
        yield ill("fail", "network.broker", "broker_unreachable", text, **where)
        return False
    took_ms = (clock.monotonic_ns() - begun_ns) / 1e6
    yield well("network.broker", f"port {broker.port} answers in {took_ms:.0f} ms", **where)
    with connection:
        if not broker.tls:
            return True
        patience_s = REFUSAL_S + 3 * took_ms / 1000
        finding = _tls(seen, settings, broker, connection, address, patience_s) if own_ok else None
    if finding is None:
        return False
    yield finding
    return finding.state in ("pass", "warn")


def _has_link(sysfs: Path) -> bool:
    """Say whether any interface but those of this machine and of cars is up; true where the kernel does not tell."""
    folders = [f for f in (sysfs / "class" / "net").glob("*/") if not f.name.startswith(_NOT_CARS)]
    states = [try_text(folder / "operstate") for folder in folders]
    known = [state for state in states if state is not None]
    return not (sysfs / "class" / "net").is_dir() or any(state in ("up", "unknown") for state in known)


def _resolved(broker: Broker, seen: Seen) -> tuple[str, int] | None:
    """Resolve in a thread of its own: libc's resolver knows no deadline."""
    found: list[tuple[str, int]] = []

    def look() -> None:
        try:
            answers = socket.getaddrinfo(broker.host, broker.port, type=socket.SOCK_STREAM)
        except OSError:
            return
        found.extend((str(answer[4][0]), int(answer[4][1])) for answer in answers)

    looking = threading.Thread(target=look, name="doctor name", daemon=True)
    looking.start()
    looking.join(min(DNS_S, max(0.5, seen.left_s())))
    return found[0] if found else None


# this box's certificate


def _own(seen: Seen, settings: BrokerSettings) -> Generator[Finding, None, bool]:
    """Judge this box's own certificate; return whether TLS can be tried."""
    if settings.certificate is None:
        if settings.username:
            yield well("network.certificate", "none: the box is known by name and password")
        else:
            text = "neither a certificate nor a name and password is configured"
            yield ill("warn", "network.certificate", "no_identity", text)
        return True
    file = str(settings.certificate)
    try:
        own = x509.load_pem_x509_certificate(settings.certificate.read_bytes())
    except FileNotFoundError:
        yield ill("fail", "network.certificate", "no_certificate", f"{file} is missing", file=file)
        return False
    except PermissionError:
        yield ill("unknown", "network.certificate", "not_permitted", f"{file}: permission denied", file=file)
        return False
    except (OSError, ValueError) as error:
        yield ill("fail", "network.certificate", "own_certificate_damaged", f"{file}: {error}", file=file)
        return False
    moment = seen.moment()
    now = datetime.fromtimestamp(moment.utc_ns / NS_PER_S, UTC)
    begins, ends = own.not_valid_before_utc, own.not_valid_after_utc
    left, life = (ends - now).total_seconds(), (ends - begins).total_seconds()
    facts: Facts = {"file": file, "days": round(left / 86_400, 1), "until": ends.strftime("%Y-%m-%d")}
    if moment.sure and now < begins:
        text = f"begins {begins:%Y-%m-%d}, and today is {now:%Y-%m-%d}"
        yield ill("fail", "network.certificate", "tls_not_yet_valid", text, **facts)
    elif left <= 0:
        yield ill("fail", "network.certificate", "own_certificate_expired", f"expired {ends:%Y-%m-%d}", **facts)
    elif left < LATE_SHARE * life:
        text = f"ends in {left / 86_400:.1f} days"
        yield ill("warn", "network.certificate", "own_certificate_ends", text, **facts)
    elif not moment.sure:
        text = f"valid until {ends:%Y-%m-%d}, if the clock is right"
        yield ill("unknown", "network.certificate", "clock_not_set", text, **facts)
    else:
        yield well("network.certificate", f"valid until {ends:%Y-%m-%d}", **facts)
    return True


# TLS


def _tls(
    seen: Seen,
    settings: BrokerSettings,
    broker: Broker,
    connection: socket.socket,
    address: tuple[str, int],
    patience_s: float,
) -> Finding:
    where: Facts = {"host": broker.host, "port": broker.port, "ca": str(settings.ca or "the system's")}
    pair = (settings.certificate, settings.key) if settings.certificate and settings.key else None
    try:
        context = client_context(settings.ca, pair, seen.moment)
    except ConfigError as error:
        return ill("fail", "network.tls", "tls_files", str(error), **where)
    try:
        secured = context.wrap_socket(connection, server_hostname=broker.host)
    except UntimelyError as error:
        code = "tls_expired" if "ended" in error.verify_message else "tls_not_yet_valid"
        return ill("fail", "network.tls", code, f"the broker's certificate: {error.verify_message}", **where)
    except ssl.SSLCertVerificationError as error:
        code = _VERIFY.get(error.verify_code, "tls_untrusted")
        shown = _unverified(address, seen)
        return ill("fail", "network.tls", code, f"{error.verify_message}{shown}", **where)
    except OSError as error:
        reason = (getattr(error, "reason", None) or error.strerror or str(error)).replace("_", " ").lower()
        return ill("fail", "network.tls", "tls_own_refused" if "alert" in reason else "tls_fails", reason, **where)
    with secured:
        ends = _ends(secured.getpeercert(binary_form=True))
        spoken = secured.version() or ""
        refusal = _refusal(secured, patience_s)
    if refusal:
        return ill("fail", "network.tls", "tls_own_refused", refusal, **where)
    if ends is not None:
        left_s = ends.timestamp() - seen.moment().utc_ns / NS_PER_S
        if left_s < SOON_S:
            text = f"the broker's certificate ends in {left_s / 86_400:.1f} days"
            return ill("warn", "network.tls", "tls_ends_soon", text, until=ends.strftime("%Y-%m-%d"), **where)
    until = f", the broker's certificate is valid until {ends:%Y-%m-%d}" if ends else ""
    return well("network.tls", f"{spoken}{until}", **where)


def _refusal(secured: ssl.SSLSocket, patience_s: float) -> str:
    """Return why the broker ends the connection after the handshake, "" where it waits for us to speak."""
    secured.settimeout(patience_s)
    try:
        return "" if secured.recv(1) else "the broker hangs up at once"
    except TimeoutError:
        return ""
    except OSError as error:
        return (getattr(error, "reason", None) or error.strerror or str(error)).replace("_", " ").lower()


def _ends(der: bytes | None) -> datetime | None:
    return None if der is None else x509.load_der_x509_certificate(der).not_valid_after_utc


def _unverified(address: tuple[str, int], seen: Seen) -> str:
    """Say what certificate the broker shows, and what date this machine has: one of the two is wrong."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection(address, timeout=min(TCP_S, max(0.5, seen.left_s()))) as connection,
            context.wrap_socket(connection) as secured,
        ):
            der = secured.getpeercert(binary_form=True)
    except OSError:
        return ""
    if der is None:
        return ""
    shown = x509.load_der_x509_certificate(der)
    today = datetime.fromtimestamp(seen.context.wall_ns() / NS_PER_S, UTC)
    valid = f"valid {shown.not_valid_before_utc:%Y-%m-%d} to {shown.not_valid_after_utc:%Y-%m-%d}"
    return f" ({shown.subject.rfc4514_string() or 'no name'}, {valid}; today is {today:%Y-%m-%d})"
