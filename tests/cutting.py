"""A TCP proxy in front of a broker whose connections can be cut, and whose rate can be bounded."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from agent.clock import monotonic_ns


class Cutter:
    """Forwards connections on a free port of 127.0.0.1 to `port`; counts bytes from the client.

    `bytes_per_s` bounds what comes from the client; 0 does not.
    """

    def __init__(self, port: int, bytes_per_s: int = 0) -> None:
        self._to = port
        self._bytes_per_s = bytes_per_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._never = threading.Event()
        self._threads: list[threading.Thread] = []
        self.port = self._listener.getsockname()[1]
        self.cuts = 0
        self.from_client = 0

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._never.set()
        self._end()
        for thread in self._threads:
            thread.join(5.0)

    def cut(self) -> None:
        """Reset every connection: what is on the way is gone."""
        self.cuts += 1
        self._end()

    def _end(self) -> None:
        with self._lock:
            ending, self._open = self._open, []
        for one in ending:
            _close(one)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                client.close()
                continue
            if self._bytes_per_s:  # a slow link's own buffer, not this machine's large one
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
            with self._lock:
                self._open += [client, broker]
            self._start(self._forward, client, broker, True)
            self._start(self._forward, broker, client, False)

    def _forward(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        bytes_per_s = self._bytes_per_s if up else 0
        began_ns, passed = monotonic_ns(), 0
        with suppress(OSError):  # cut
            while data := source.recv(16_384):
                target.sendall(data)
                if up:
                    self.from_client += len(data)
                passed += len(data)
                if bytes_per_s:
                    self._never.wait(max(0.0, passed / bytes_per_s - (monotonic_ns() - began_ns) / 1e9))
        with self._lock:
            both = [s for s in (source, target) if s in self._open]
            self._open = [s for s in self._open if s not in both]
        for one in both:
            _close(one)


def _close(one: socket.socket) -> None:
    with suppress(OSError):  # the other side was faster
        one.shutdown(socket.SHUT_RDWR)
    one.close()
