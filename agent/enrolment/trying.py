"""Is a certificate let in by the broker? Asked without becoming anybody there, so that who is connected stays so.

A broker that takes the client's name from its certificate ends the connection that stands when the same certificate
connects again. So an MQTT CONNECT of a version that does not exist is sent: TLS has judged the certificate by then, and
the broker answers that it does not know the version.
"""

import socket
import ssl
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from agent.errors import ConfigError
from agent.link import BrokerSettings, parse_url
from agent.tls import Moment, client_context

# CONNECT, protocol name MQTT, version 127, no flags, keep-alive 10 s, no properties, client id "?" (MQTT 5, 3.1).
_CONNECT: Final = b"\x10\x0e\x00\x04MQTT\x7f\x02\x00\x0a\x00\x00\x01?"
_TIMEOUT_S: Final = 20.0


class Tried(NamedTuple):
    """What came of it: `away` says nothing about the certificate."""

    outcome: Literal["let in", "refused", "away"]
    reason: str = ""


def try_out(broker: BrokerSettings, now: Callable[[], Moment]) -> Tried:
    """Connect once with the pair of `broker`."""
    where = parse_url(broker.url)
    if not where.tls:
        return Tried("let in")  # on this machine itself, where no certificate is asked for
    try:
        pair = (broker.certificate, broker.key) if broker.certificate and broker.key else None
        context = client_context(broker.ca, pair, now)
        with (
            socket.create_connection((where.host, where.port), _TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=where.host) as secured,
        ):
            secured.sendall(_CONNECT)
            answer = secured.recv(1)  # with TLS 1.3 a certificate is refused only now
    except (ssl.SSLError, ConfigError) as e:
        reason = getattr(e, "verify_message", "") or getattr(e, "reason", "") or str(e)
        return Tried("refused", f"broker {where.host}:{where.port}: {reason}")
    except OSError as e:
        return Tried("away", f"broker {where.host}:{where.port}: {e.strerror or e}")
    return Tried("let in") if answer else Tried("away", f"broker {where.host}:{where.port}: hangs up")
