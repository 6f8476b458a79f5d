"""A car's engine unit on INTERFACE, by the kernel's own ISO-TP: answers OBD-II on 7E8, longer answers in many frames.

Usage: ecu.py INTERFACE VIN   tells `ready`, then each request in hex
"""

import select
import socket
import sys

FUNCTIONAL, PHYSICAL, ANSWERS = 0x7DF, 0x7E0, 0x7E8  # ISO 15765-4
SPEED_KMH, REVOLUTIONS, COOLANT_C = 72, 2000, 90
VALUES = {
    0x0C: (REVOLUTIONS * 4).to_bytes(2, "big"),
    0x0D: bytes([SPEED_KMH]),
    0x05: bytes([COOLANT_C + 40]),
    0x04: bytes([0x80]),
    0x11: bytes([0x40]),
}  # SAE J1979
VALUES[0x00] = sum(1 << (32 - pid) for pid in VALUES).to_bytes(4, "big")


def answer(request: bytes, vin: bytes) -> bytes:
    """Return what the unit says to a request; nothing to what it does not know."""
    service, rest = request[0], request[1:]
    if service == 0x01:
        parts = [bytes([pid]) + VALUES[pid] for pid in rest if pid in VALUES]
        return b"\x41" + b"".join(parts) if parts else b""
    if service == 0x09 and rest == b"\x02":
        return b"\x49\x02\x01" + vin
    if service in (0x03, 0x07, 0x0A):
        return bytes([service + 0x40, 0])  # no trouble codes
    return b""


def channel(interface: str, from_tester: int) -> socket.socket:
    made = socket.socket(socket.AF_CAN, socket.SOCK_DGRAM, socket.CAN_ISOTP)
    made.bind((interface, from_tester, ANSWERS))
    return made


physical, functional = channel(sys.argv[1], PHYSICAL), channel(sys.argv[1], FUNCTIONAL)
print("ready", flush=True)
while True:
    for heard in select.select([physical, functional], [], [])[0]:
        request = heard.recv(4095)
        said = answer(request, sys.argv[2].encode())
        print(request.hex(), flush=True)
        if said:
            physical.send(said)  # its flow control comes on the unit's own identifier
