"""Tell what a store holds of a boot's samples, as JSON: for each channel how many, and UTC of the first and the last.

Usage: stored.py FOLDER BOOT
"""

import json
import sys
from pathlib import Path

import numpy as np

from agent.channels import BY_NUMBER
from agent.store.store import Store

folder, boot = sys.argv[1:]
with Store.open(Path(folder), read_only=True) as store:
    samples = store.read_block(0, 1 << 62, boot)
    utc = store.utc_of(boot, 0)
offset_ns = utc.utc_ns if utc else 0
channels = {}
for channel in np.unique(samples["channel"]):
    t = samples["t"][samples["channel"] == channel]
    channels[BY_NUMBER[int(channel)].name] = [len(t), (int(t[0]) + offset_ns) / 1e9, (int(t[-1]) + offset_ns) / 1e9]
falls = int((np.diff(samples["t"]) < 0).sum())
print(json.dumps({"time_quality": utc.quality if utc else "none", "falls": falls, "channels": channels}))
