"""Drive at 14 m/s on can0 and collide: the LIS3DH on the stub says -8 g for 0.12 s, and the camera turns red.

Usage: collide.py SECONDS-BEFORE SECONDS-AFTER. Tells in JSON when the collision began, monotonic ns.
"""

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
import time
from pathlib import Path

SPEED_MPS, CHANGE_MPS, PULSE_S = 14.0, 9.4, 0.12
COUNTS = -667  # of 12 mg: 8 g against the way that the car goes
TEST_PATTERN, RED = 0x00F0F000, 7  # vivid-core.h, v4l2-tpg.h
VIDIOC_S_CTRL, I2C_SLAVE_FORCE, I2C_SMBUS = 0xC008561C, 0x0706, 0x0720


class Smbus(ctypes.Structure):
    """Struct i2c_smbus_ioctl_data."""

    _fields_ = (
        ("write", ctypes.c_uint8),
        ("command", ctypes.c_uint8),
        ("size", ctypes.c_uint32),
        ("data", ctypes.POINTER(ctypes.c_uint8 * 34)),
    )


def stub() -> int:
    """Open the bus of the stub."""
    folder = next(p for p in Path("/sys/class/i2c-adapter").iterdir() if "stub" in (p / "name").read_text())
    bus = os.open(f"/dev/{folder.name}", os.O_RDWR)
    fcntl.ioctl(bus, I2C_SLAVE_FORCE, 0x18)
    return bus


def push(bus: int, counts: int) -> None:
    """Let the x axis say so many counts, left-justified in two registers and their auto-incremented names."""
    low, high = (counts << 4).to_bytes(2, "little", signed=True)
    for register, value in ((0x29, high), (0xA9, high), (0x28, low), (0xA8, low)):
        said = (ctypes.c_uint8 * 34)(value)
        fcntl.ioctl(bus, I2C_SMBUS, Smbus(0, register, 2, ctypes.pointer(said)))


def main() -> None:
    """Drive."""
    before, after = float(sys.argv[1]), float(sys.argv[2])
    bus, camera = stub(), os.open("/dev/video0", os.O_RDWR)
    out = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
    out.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER, b"")
    out.bind(("can0",))
    began, zero_ns, over = time.monotonic(), 0, False
    while (at := time.monotonic() - began - before) < after:
        if at >= 0 and not zero_ns:
            zero_ns = time.monotonic_ns()
            push(bus, COUNTS)
            fcntl.ioctl(camera, VIDIOC_S_CTRL, struct.pack("Ii", TEST_PATTERN, RED))
        if at >= PULSE_S and not over:
            push(bus, 0)
            over = True
        speed = SPEED_MPS if at < 0 else max(SPEED_MPS - CHANGE_MPS * min(at / PULSE_S, 1) - 3 * at, 0.0)
        out.send(struct.pack("=IB3x8s", 0x0AA, 8, struct.pack(">H", round((speed * 3.6 + 67.67) * 100)) * 4))
        out.send(struct.pack("=IB3x8s", 0x1C4, 8, struct.pack(">H6x", 2000)))
        time.sleep(0.012)
    print(json.dumps({"zero_ns": zero_ns}), flush=True)


main()
