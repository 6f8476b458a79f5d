"""Let frames wait and compare the gaps that the agent sees with those of the kernel's own stamps, as JSON."""

import json
import socket
import struct
import subprocess
import time

from drivers.can.socketcan import SocketCan
from drivers.can.wire import CanSettings

SO_TIMESTAMPNS = 35  # asm-generic/socket.h
COUNT = 6
wire = SocketCan(CanSettings())
wire.open([])
beside = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
beside.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
beside.bind(("can0",))
for n in range(COUNT):
    subprocess.run(["cansend", "can0", f"123#0{n}"], check=True)
    time.sleep(0.06)
ours = [t / 1e9 for t in wire.read(1.0).t.tolist()]
kernels = []
for _ in range(COUNT):
    control = beside.recvmsg(16, 64)[1]
    seconds, ns = struct.unpack("qq", control[0][2])
    kernels.append(seconds + ns / 1e9)
print(json.dumps([(ours[i + 1] - ours[i], kernels[i + 1] - kernels[i]) for i in range(COUNT - 1)]))
