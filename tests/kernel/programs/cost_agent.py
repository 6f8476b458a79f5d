"""Decode COUNT frames of can0 as the daemon's feed does; tell CPU seconds for all of them, as JSON."""

import json
import sys
import time
from pathlib import Path

from drivers.can.wire import CanSettings
from drivers.canbus import CanBus

count = int(sys.argv[1])
driver = CanBus(CanSettings(profile="toyota-rav4"), Path("/mnt/product/config"))
driver.open()
print("ready", flush=True)
samples = 0
while driver.frames < 1:
    driver.read(0.2)
began, first = time.process_time(), driver.frames
while driver.frames + driver.counts["lost_in_queue"] < count:
    samples += len(driver.read(0.2))
spent = time.process_time() - began
print(json.dumps({"frames": driver.frames - first, "samples": samples, "cpu_s": spent}))
