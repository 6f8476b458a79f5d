"""The wish that a process ends, which a signal handler may utter.

An Event may not be set in a handler: the handler runs in between two steps of the main thread, which may hold the lock
of the Event just then. A byte into a socket has no such lock.
"""

import signal
import socket
from contextlib import suppress
from types import FrameType


class Ending:
    """Wakes the thread that waits for the end; `asked` stays true."""

    def __init__(self) -> None:
        self.asked = False
        self._out, self._in = socket.socketpair()
        self._in.setblocking(False)

    def ask(self) -> None:
        """Ask for the end, from any thread or a signal handler."""
        self.asked = True
        with suppress(OSError):  # one byte that is not read yet is enough; after `close` nobody waits
            self._in.send(b"x")

    def wait(self) -> None:
        """Wait until the end is asked for."""
        if not self.asked:
            self._out.recv(1)

    def on_signals(self) -> None:
        """Let SIGTERM and SIGINT ask for the end."""

        def handle(_number: int, _frame: FrameType | None) -> None:
            self.ask()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, handle)

    def close(self) -> None:
        """Give the sockets back."""
        self._in.close()
        self._out.close()
