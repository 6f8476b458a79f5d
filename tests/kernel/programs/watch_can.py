"""Read one CAN bus as the daemon's feed does, opening it anew after trouble; tell of changes in lines of JSON.

Usage: watch_can.py [KEY=VALUE ...]   keys of CanSettings, and `kind` (canbus or obdcan)
"""

import json
import signal
import sys
import threading
from pathlib import Path

from agent.channels import BY_NUMBER
from agent.errors import DriverError
from drivers import driver_class
from drivers.can.wire import CanSettings


def main() -> None:
    """Run until SIGTERM."""
    asked = dict(word.split("=", 1) for word in sys.argv[1:])
    kind = asked.pop("kind", "canbus")
    given = {name: int(value) if value.isdigit() else value for name, value in asked.items()}
    given["transmit"] = bool(given.get("transmit"))
    driver = driver_class(kind)(CanSettings(**given), Path("/mnt/product/config"))
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    last, told, opened, trouble, samples = {}, "", False, "", 0
    while not over.is_set():
        try:
            if not opened:
                driver.open()
                opened, trouble = True, ""
            block = driver.read(0.1)
            samples += len(block)
            for channel, value in zip(block["channel"].tolist(), block["value"].tolist(), strict=True):
                last[BY_NUMBER[channel].name] = value
        except DriverError as error:
            driver.close()
            opened, trouble = False, str(error)
            over.wait(0.2)
        state = {
            "open": opened,
            "trouble": trouble,
            "samples": samples,
            "last": dict(last),
            "notes": driver.notes,
            "bit_rate": driver.bit_rate,
            "counts": driver.counts,
            "health": {health.source: [health.state, health.detail] for health in driver.health()},
            "vehicle": {name: value for name, value in driver.vehicle_info.items() if isinstance(value, str)},
        }
        line = json.dumps(state)
        if line != told:
            told = line
            print(line, flush=True)
    driver.close()


main()
