"""Drive on can0: away from a standstill to 20 m/s, along, and to a stop with 6 m/s2; tell in lines of JSON when.

They hold the monotonic times of the first frame, the brake and the last frame, and how many frames were sent.

Usage: drive_can.py SPEED   a file that gets the speed in m/s, for the satellite receiver of the same car
"""

import json
import os
import socket
import struct
import sys
import time

RATE_HZ = 20
SPEEDS = [(0.0, 2.0), (2.0, 10.0), (0.0, 5.0), (-6.0, 20 / 6), (0.0, 4.0)]  # acceleration in m/s2, for seconds
out = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
out.bind(("can0",))
speed, due, sent = 0.0, time.monotonic(), 0
print(json.dumps({"begin": due}), flush=True)
for acceleration, seconds in SPEEDS:
    if acceleration < 0:
        print(json.dumps({"brake": time.monotonic()}), flush=True)
    for n in range(round(seconds * RATE_HZ)):
        speed = max(speed + acceleration / RATE_HZ, 0.0)
        wheel = round((speed * 3.6 + 67.67) * 100).to_bytes(2, "big")
        out.send(struct.pack("=IB3x8s", 0x0AA, 8, wheel * 4))
        if n % 5 == 0:
            with open(f"{sys.argv[1]}.new", "w") as told:
                told.write(str(speed))
            os.replace(f"{sys.argv[1]}.new", sys.argv[1])
        sent, last = sent + 1, time.monotonic()
        due += 1 / RATE_HZ
        time.sleep(max(0.0, due - time.monotonic()))
print(json.dumps({"end": last, "sent": sent}), flush=True)
