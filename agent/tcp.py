"""What our TCP connections are told beyond Python's defaults: for a car's radio link, not for a cable."""

import socket
from contextlib import suppress
from typing import Final

# Ways of congestion control for links that lose packets without being full, best first; of the kernel's, those that
# are loaded and allowed count (systemd/roadwitness-agent.service). Cubic takes every loss for a full link and leaves
# half of it and more unused (docs/decisions/0325-hybla-on-a-lossy-link.md).
CONGESTION: Final = ("hybla", "bbr")
# With nothing acknowledged for so long a connection is dead. Otherwise TCP asks more and more rarely: after a cut of a
# minute it may stay silent for another. Four losses in a row at 800 ms, a matter of 1 in 10 000 at 10 %, take 17 s.
GIVEN_UP_MS: Final = 20_000


def suit(connection: socket.socket) -> None:
    """Suit a connected socket to small urgent messages beside large ones on a poor link."""
    # small packets go without waiting for the answer to those before (RFC 896): acknowledgements are small
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GIVEN_UP_MS)
    for name in CONGESTION:
        with suppress(OSError):  # not in this kernel, or not allowed: the next, or what the machine is set to
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
            break
