"""Read one inertial sensor as the daemon's feed does, opening it anew after trouble; a line of JSON for each batch.

Usage: watch_imu.py [KEY=VALUE ...]   arguments of drivers.imu.Imu
"""

import json
import signal
import sys
import threading

import numpy as np

from agent.channels import BY_NUMBER
from agent.errors import DriverError
from drivers.imu import Imu


def main() -> None:
    """Run until SIGTERM."""
    imu = Imu(**dict(word.split("=", 1) for word in sys.argv[1:]))
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    opened, first_ns = False, 0
    last: dict[str, float] = {}
    while not over.is_set():
        told: dict[str, object] = {"open": opened}
        try:
            if not opened:
                imu.open()
                opened = True
                told |= {"open": True, "rate_hz": imu.rate_hz}
            block = imu.read(1.0)
            if len(block):
                times = np.unique(block["t"])
                first_ns = first_ns or int(times[0])
                for channel in np.unique(block["channel"]):
                    last[BY_NUMBER[int(channel)].name] = float(block["value"][block["channel"] == channel][-1])
                told |= {"scans": len(times), "spanned_s": (int(times[-1]) - first_ns) / 1e9}
        except DriverError as error:
            imu.close()
            opened = False
            told["trouble"] = str(error)
            over.wait(0.5)
        told |= {"last": last, "counts": imu.counts}
        told["health"] = {health.source: [health.state, health.detail] for health in imu.health()}
        print(json.dumps(told), flush=True)
    imu.close()


main()
