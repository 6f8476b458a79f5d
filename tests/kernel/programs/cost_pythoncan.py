"""Decode COUNT frames of can0 with python-can and cantools; tell CPU seconds for all of them, as JSON."""

import json
import sys
import time

import can
import cantools

count = int(sys.argv[1])
database = cantools.database.load_file("/mnt/product/config/dbc/toyota-rav4.dbc", strict=False)
bus = can.Bus("can0", interface="socketcan", can_filters=[{"can_id": 0x0AA, "can_mask": 0x7FF}])
print("ready", flush=True)
bus.recv()
began, frames, samples = time.process_time(), 0, 0
while frames < count - 1:
    message = bus.recv(5.0)
    if message is None:
        break
    samples += len(database.decode_message(message.arbitration_id, message.data))
    frames += 1
spent = time.process_time() - began
bus.shutdown()
print(json.dumps({"frames": frames, "samples": samples, "cpu_s": spent}))
