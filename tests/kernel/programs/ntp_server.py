"""An NTP server of the bench on 127.0.0.1 (SNTPv4, RFC 4330): the monotonic clock and what must be added to it.

Usage: ntp_server.py SECONDS   since 1970, when the monotonic clock was 0; a line on standard input sets it anew
"""

import select
import socket
import struct
import sys
import time

SINCE_1900_S = 2_208_988_800
SERVER, STRATUM, POLL, PRECISION = 0x24, 1, 4, -20  # no leap second, version 4, mode 4


def stamp(utc):
    """Write seconds since 1970 as NTP does: seconds since 1900 in 2^-32."""
    return struct.pack("!Q", round((utc + SINCE_1900_S) * (1 << 32)))


offset = float(sys.argv[1])
asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asked.bind(("127.0.0.1", 123))
print("serves", flush=True)
while True:
    ready = select.select([sys.stdin, asked], [], [])[0]
    if sys.stdin in ready:
        offset = float(sys.stdin.readline())
        print("set", flush=True)
    if asked in ready:
        question, who = asked.recvfrom(1024)
        came = time.monotonic() + offset
        head = struct.pack("!BBbbII4s", SERVER, STRATUM, POLL, PRECISION, 0, 0, b"GPS\0")
        asked.sendto(head + stamp(came) + question[40:48] + stamp(came) + stamp(time.monotonic() + offset), who)
        print("answered", flush=True)
