"""A stretch of the way to the broker that can be cut: a TCP relay on 127.0.0.1 that counts what goes up."""

import socket
import threading
from contextlib import suppress
from typing import Final

from agent.errors import UplinkError

PIECE: Final = 16_384
CONNECT_S: Final = 5.0


class CutLink:
    """Relay connections to (host, port) until `cut`; while it is cut, nobody is let through.

    `cut_after` may be told: so many more bytes upwards, and it cuts itself.
    """

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.bytes_up = 0
        self.is_cut = threading.Event()
        self._limit: int | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, name="cut link", daemon=True).start()

    def cut_after(self, count: int) -> None:
        """Cut when `count` more bytes have gone up."""
        self._limit = self.bytes_up + count

    def cut(self) -> None:
        """End all connections without a word, and refuse new ones."""
        self.is_cut.set()
        self._limit = None
        with self._lock:
            ending, self._open = self._open, set()
        for end in ending:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def mend(self) -> None:
        """Let connections through again."""
        self.is_cut.clear()

    def close(self) -> None:
        """End everything; no more is relayed."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return  # closed
            try:
                if self.is_cut.is_set():
                    raise UplinkError("cut")
                far = socket.create_connection(self._to, CONNECT_S)
            except (OSError, UplinkError):
                near.close()
                continue
            with self._lock:
                self._open |= {near, far}
            for one, other, up in ((near, far, True), (far, near, False)):
                one.settimeout(None)
                threading.Thread(target=self._relay, args=(one, other, up), name="cut link", daemon=True).start()

    def _relay(self, one: socket.socket, other: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while data := one.recv(PIECE):
                if up:
                    self.bytes_up += len(data)
                    if self._limit is not None and self.bytes_up >= self._limit:
                        self.cut()
                        return
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
