"""What our TCP connections are told beyond Python's defaults, for a car's radio link, and what they tell of it."""

import socket
import struct
from contextlib import suppress
from typing import Final, NamedTuple

# Ways of congestion control for links that lose packets without being full, best first; of the kernel's, those that
# are loaded and allowed count (systemd/roadwitness-agent.service). Cubic takes every loss for a full link and leaves
# half of it and more unused (docs/decisions/0325-hybla-on-a-lossy-link.md).
CONGESTION: Final = ("hybla", "bbr")
# With nothing acknowledged for so long a connection is dead. Otherwise TCP asks more and more rarely: after a cut of a
# minute it may stay silent for another. Four losses in a row at 800 ms, a matter of 1 in 10 000 at 10 %, take 17 s.
GIVEN_UP_MS: Final = 20_000
# struct tcp_info of linux/tcp.h, of which: snd_mss, unacked, sacked (packets), notsent_bytes, min_rtt (µs)
INFO: Final = struct.Struct("=16xI4xII112xII")
UNKNOWN_US: Final = 0xFFFF_FFFF


class Road(NamedTuple):
    """What the kernel knows of a connection's way."""

    undelivered: int  # bytes handed over that the other end does not have, in whatever order it got the others
    round_trip_s: float  # the shortest of the last minutes; 0 while unknown


def suit(connection: socket.socket) -> None:
    """Suit a connected socket to small urgent messages beside large ones on a poor link."""
    # small packets go without waiting for the answer to those before (RFC 896): acknowledgements are small
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GIVEN_UP_MS)
    for name in CONGESTION:
        with suppress(OSError):  # not in this kernel, or not allowed: the next, or what the machine is set to
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
            break


def road(connection: socket.socket) -> Road | None:
    """Return what is on the way; None where the kernel does not tell."""
    try:
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO.size)
    except OSError:
        return None
    if len(told) < INFO.size:  # before Linux 4.6
        return None
    segment, unacknowledged, selectively, unsent, shortest_us = INFO.unpack(told)
    shortest_s = 0.0 if shortest_us == UNKNOWN_US else shortest_us / 1e6
    return Road(max(0, unacknowledged - selectively) * segment + unsent, shortest_s)
