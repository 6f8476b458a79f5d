"""The far ends of the ELM327 driver: a fake adapter on a pseudo terminal, and one on TCP."""

import socket
import tempfile
import threading
from pathlib import Path

from agent.clock import monotonic_ns
from drivers.elm327 import Elm327, Elm327Settings
from sim.elm327 import FakeElm, Latency, PtyElm
from sim.elm_car import Car

# The search for the protocol takes longer than a short read, as it does on a real adapter.
SEARCHING = Latency(search_s=0.3)


def quiet_fake() -> FakeElm:
    """Make an adapter that has nothing to tell before it has found the vehicle, not even a plausible voltage."""
    fake = FakeElm(Car(), SEARCHING)
    fake.volts = lambda t_ns: 0.0
    return fake


class OnPty:
    """The adapter on a serial device."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.fake = quiet_fake()
        self.pty = PtyElm(self.fake, Path(self._folder.name) / "ttyELM")

    def driver(self) -> Elm327:
        return Elm327(Elm327Settings(port=str(self.pty.path), baud=38400, speed_hz=20.0))

    def speak(self, n: int) -> None:
        """Nothing to do: this device is asked."""

    def garble(self, noise: bytes) -> None:
        self.pty.say(noise)

    def unplug(self) -> None:
        self.pty.unplug()

    def close(self) -> None:
        self.pty.stop()
        self._folder.cleanup()


class OnTcp:
    """The adapter behind Wi-Fi: one connection at a time, as the real ones."""

    def __init__(self) -> None:
        self.fake = quiet_fake()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._host: socket.socket | None = None
        self._gone = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def driver(self) -> Elm327:
        return Elm327(Elm327Settings(port=f"socket://127.0.0.1:{self._listening.getsockname()[1]}", speed_hz=20.0))

    def speak(self, n: int) -> None:
        """Nothing to do: this device is asked."""

    def garble(self, noise: bytes) -> None:
        with self._lock:
            if self._host is not None:
                self._host.sendall(noise)

    def unplug(self) -> None:
        self._gone = True
        with self._lock:
            if self._host is not None:
                self._host.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.unplug()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        while not self._gone:
            try:
                host, _ = self._listening.accept()
            except OSError:
                return
            host.settimeout(0.005)
            self.fake.reset()
            with host:
                with self._lock:
                    self._host = host
                self._talk(host)
                with self._lock:
                    self._host = None

    def _talk(self, host: socket.socket) -> None:
        while True:
            try:
                data = host.recv(4096)
                if not data:
                    return
                self.fake.receive(data, monotonic_ns())
            except TimeoutError:
                pass
            except OSError:
                return
            said = self.fake.take(monotonic_ns())
            if said:
                try:
                    host.sendall(said)
                except OSError:
                    return


RIGS = (OnPty, OnTcp)
