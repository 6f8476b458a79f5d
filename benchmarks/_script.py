"""The alternative of benchmarks/daemon.py: the usual script that logs two buses and does nothing else.

python-can's receive loop in a thread for each bus, cantools for the same signals, rows into SQLite once a second.
Arguments: database, descriptor of each bus. Ends at SIGTERM.
"""

import signal
import socket
import sqlite3
import sys
import threading
import time
from typing import Any

from benchmarks.livecan import their_decoder


def main() -> None:
    """Log until SIGTERM."""
    import can.interfaces.socketcan.socketcan as theirs

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    rows: list[tuple[float, str, float]] = []
    for number, fd in enumerate(sys.argv[2:]):
        inner = socket.socket(fileno=int(fd))
        theirs.create_socket = lambda inner=inner: inner
        theirs.bind_socket = lambda *_: None
        bus = theirs.SocketcanBus(f"can{number}")
        threading.Thread(target=_receive, args=(bus, rows, stop), daemon=True).start()
    database = sqlite3.connect(sys.argv[1])
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE sample (t REAL, name TEXT, value REAL)")
    while not stop.wait(1.0):
        taken, rows[:] = rows[:], []
        with database:
            database.executemany("INSERT INTO sample VALUES (?, ?, ?)", taken)


def _receive(bus: Any, rows: list[tuple[float, str, float]], stop: threading.Event) -> None:
    decode = their_decoder()
    while not stop.is_set():
        message = bus.recv(0.3)
        if message is not None:
            now = time.time()
            rows.extend((now, name, value) for name, value in decode(message).items())


if __name__ == "__main__":
    main()
