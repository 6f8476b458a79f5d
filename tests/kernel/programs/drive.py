"""Drive a car of the kernel's own wires: two CAN buses at a real car's rate, and a satellite receiver on a pty.

Usage: drive.py SECONDS. It prints the receiver's line, stands until it is told a line, drives, tells in JSON what it
sent, and ends with another line. The receiver says where it is while it stands, too. can0 carries what comma2k19's
Toyota RAV4 sends (897 frames a second, of which 364 mean something to the profile), can1 the 750 of its radar, which no
profile knows. The car goes between 10 and 22 m/s.
"""

import contextlib
import json
import math
import os
import select
import socket
import struct
import sys
import time
import tty

SLOT_S = 0.01
DECODED = {0x024: 83, 0x025: 83, 0x0AA: 83, 0x1C4: 42, 0x224: 41, 0x2C1: 32}  # Hz, as recorded
UNDECODED = {0x230 + n: 41 for n in range(13)}  # the rest of the bus, in few identifiers
RADAR = {0x210 + n: 20 for n in range(35)} | {0x3D0 + n: 10 for n in range(5)}
DEGREE_M = 111_320.0


def bus(name: str) -> socket.socket:
    """Open a raw socket that only sends."""
    out = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
    out.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER, b"")
    out.bind((name,))
    return out


def speed_at(t_s: float) -> tuple[float, float]:
    """Return m/s and m/s²: a sine between 10 and 22 m/s with a period of 30 s, at most 1.3 m/s²."""
    turn = 2 * math.pi / 30
    return 16 - 6 * math.cos(turn * t_s), 6 * turn * math.sin(turn * t_s)


def kinematics(a_mps2: float) -> bytes:
    """0x024: no yaw, no side force; ACCEL_X points backwards, 0.03589 m/s² a count above 512 (opendbc)."""
    counts = 512 - round(a_mps2 / 0.03589)
    return struct.pack(">HHHH", 0x0200, counts & 0x3FF, 0x0200, 0)


def frames_at(t_s: float, identifier: int) -> bytes:
    """Return what a message says now."""
    speed, change = speed_at(t_s)
    if identifier == 0x0AA:
        return struct.pack(">H", round((speed * 3.6 + 67.67) * 100)) * 4
    if identifier == 0x1C4:
        return struct.pack(">H6x", 2000)
    if identifier == 0x024:
        return kinematics(change)
    return b"\0\0\0\0\0\0\x28\0" if identifier == 0x2C1 else bytes(8)


def nmea(body: str) -> bytes:
    """Return a sentence with its checksum."""
    total = 0
    for letter in body.encode():
        total ^= letter
    return f"${body}*{total:02X}\r\n".encode()


def angle(degrees: float, digits: int) -> str:
    whole = int(degrees)
    return f"{whole:0{digits}d}{(degrees - whole) * 60:09.6f}"


def fix_at(utc_s: float, metres: float, speed: float) -> bytes:
    """Return one second of a receiver at 1 Hz: the road leads north from 40° N 116° E."""
    now = time.gmtime(utc_s)
    clock = f"{now.tm_hour:02d}{now.tm_min:02d}{now.tm_sec:02d}.00"
    where = f"{angle(40 + metres / DEGREE_M, 2)},N,{angle(116.0, 3)},E"
    day = f"{now.tm_mday:02d}{now.tm_mon:02d}{now.tm_year % 100:02d}"
    heard = ",".join(f"{n:02d},{40 + n},{30 * n:03d},{44 - n}" for n in range(1, 5))
    return b"".join(
        (
            nmea(f"GPRMC,{clock},A,{where},{speed / 0.514444:.2f},0.00,{day},,,A"),
            nmea(f"GPGGA,{clock},{where},1,08,1.0,50.0,M,-8.0,M,,"),
            nmea("GPGSA,A,3,01,02,03,04,05,06,07,08,,,,,1.8,1.0,1.5"),
            nmea(f"GPGSV,1,1,04,{heard}"),
        )
    )


def main() -> None:
    """Drive."""
    seconds = int(sys.argv[1])
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    wires = [(bus("can0"), DECODED), (bus("can0"), UNDECODED), (bus("can1"), RADAR)]
    print(os.ttyname(slave), flush=True)
    while not select.select([sys.stdin], [], [], 1.0)[0]:
        with contextlib.suppress(BlockingIOError):  # nobody has opened the line yet
            os.write(master, fix_at(time.time(), 0.0, 0.0))
    sys.stdin.readline()
    sent = {"decoded": 0, "undecoded": 0, "radar": 0, "fixes": 0, "late_ms": 0.0}
    began, wall, metres, slot = time.monotonic(), math.ceil(time.time()), 0.0, 0
    while slot * SLOT_S < seconds:
        at = slot * SLOT_S
        wait = began + at - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        sent["late_ms"] = max(sent["late_ms"], -wait * 1000)
        speed, _ = speed_at(at)
        metres += speed * SLOT_S
        for (out, rates), name in zip(wires, sent, strict=False):
            for identifier, rate in rates.items():
                if int((slot + 1) * SLOT_S * rate) > int(slot * SLOT_S * rate):
                    data = frames_at(at, identifier) if name == "decoded" else b"\0\1\2\3\4\5\6\7"
                    out.send(struct.pack("=IB3x8s", identifier, 8, data))
                    sent[name] += 1
        if slot % 100 == 0:
            os.write(master, fix_at(wall + slot // 100, metres, speed))
            sent["fixes"] += 1
        slot += 1
    print(json.dumps(sent | {"s": time.monotonic() - began, "m": metres}), flush=True)
    sys.stdin.readline()  # the receiver's line stays until the readers have closed it


main()
