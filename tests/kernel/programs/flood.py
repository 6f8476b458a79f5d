"""Send RATE frames a second on can0 for SECONDS; tell how many and how long it took, as JSON."""

import json
import socket
import struct
import sys
import time

rate, seconds = int(sys.argv[1]), int(sys.argv[2])
out = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
out.bind(("can0",))


def send(n: int) -> None:
    """Send one frame with the speed of four wheels."""
    out.send(struct.pack("=IB3x8s", 0x0AA, 8, (6767 + n % 20000).to_bytes(2, "big") * 4))


began, sent = time.monotonic(), 0
while sent < rate * seconds:
    due = min(int((time.monotonic() - began) * rate) + 1, rate * seconds)
    while sent < due:
        send(sent)
        sent += 1
    time.sleep(0.001)
elapsed = time.monotonic() - began
time.sleep(1)
send(0)  # brings the kernel's count of losses along
print(json.dumps({"sent": sent + 1, "s": elapsed}))
