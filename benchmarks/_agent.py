"""The agent of benchmarks/daemon.py: two buses from inherited datagram sockets, the other devices by its configuration.

Arguments: agent.toml, store folder, descriptor of each bus. Ends at SIGTERM and prints what only the process knows.
"""

import json
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path

from agent import devices
from agent.config import config_dir
from agent.daemon import Daemon, Place
from agent.settings import load_agent
from drivers.can.socketcan import SocketCan
from drivers.can.wire import CanSettings, Wire
from drivers.canbus import CanBus


def main() -> None:
    """Run the daemon until SIGTERM."""
    config, store, *buses = sys.argv[1:]
    settings = load_agent(Path(config))
    made = devices.makers(settings.drivers, config_dir())
    made += [partial(_bus, int(fd), f"can{number}") for number, fd in enumerate(buses)]
    daemon = Daemon(settings, Place(Path(store)), made)
    signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
    daemon.run()
    print(json.dumps({"high_water": daemon._intake.high_water}))


def _bus(fd: int, name: str) -> CanBus:
    def wire(settings: CanSettings) -> Wire:
        return SocketCan(settings, lambda interface, filters: socket.socket(fileno=os.dup(fd)))

    return CanBus(CanSettings(channel=name, profile="simcar"), config_dir(), wire)


if __name__ == "__main__":
    main()
