"""A gpsd that is none: gpsd's JSON protocol on 127.0.0.1, fed by the simulator, with the faults of real receivers.

It answers what clients ask (gpsd_json(5)) and sends, for every fix, what gpsd 3.22 sends: PPS, TOFF, SKY and TPV.
Stamps come from this machine's wall clock, as gpsd's do.
"""

import json
import selectors
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Literal, Self, get_args

from agent.clock import NS_PER_S, iso_utc, monotonic_ns, wall_minus_monotonic_ns

DEVICE: Final = "/dev/ttyACM0"
Fault = Literal["no_fix", "jump", "wrong_week", "stall", "garbage", "jammed", "antenna", "clock_step"]
FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)
JUMP_DEG: Final = 0.05  # about 5.6 km
WEEKS_1024_NS: Final = 1024 * 7 * 86_400 * NS_PER_S
JAMMED_DB: Final = 22.0
STEP_NS: Final = 20 * 365 * 86_400 * NS_PER_S
GARBAGE: Final = b'\x00\xff{"class":"TPV","mode":3,"lat":\n$GPRMC,1234\xb5b\n[[[\n{"class":7}\n'


@dataclass(frozen=True, slots=True)
class Report:
    """What the receiver knows at `t_ns` (monotonic): where, how fast, at what UTC, under which satellites."""

    t_ns: int
    utc_ns: int
    latitude: float
    longitude: float
    altitude_m: float = 50.0
    speed_mps: float = 0.0
    track_deg: float = 0.0
    accuracy_m: float = 4.0
    mode: int = 3
    strengths_dbhz: tuple[float, ...] = field(default=(45.0, 44.0, 42.0, 41.0, 38.0, 36.0, 33.0, 30.0))


class FakeGpsd:
    """Serve one receiver at `address`; `delay_s` is its own delay before the first byte, `pps` its pulse."""

    def __init__(self, port: int = 0, *, pps: bool = True, toff: bool = True, delay_s: float = 0.0) -> None:
        self.address = ("127.0.0.1", port)
        self.watched = threading.Event()  # somebody watches
        self._pps, self._toff, self._delay_ns = pps, toff, round(delay_s * NS_PER_S)
        self._faults: set[Fault] = set()
        self._lock = threading.Lock()
        self._watchers: dict[socket.socket, bool] = {}  # -> wants PPS and TOFF
        self._thread: threading.Thread | None = None
        self._waker: socket.socket | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; a port of 0 becomes a free one, kept over restarts."""
        listener = socket.create_server(self.address)
        self.address = listener.getsockname()[:2]
        woken, self._waker = socket.socketpair()
        waiting = selectors.DefaultSelector()  # here, so that all that is open is so on return
        asked = (waiting, listener, woken)
        self._thread = threading.Thread(target=self._serve, args=asked, name="fake gpsd", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close every connection and the port."""
        if self._waker is not None and self._thread is not None:
            self._waker.close()
            self._thread.join()
            self._waker = self._thread = None

    def fault(self, name: Fault, on: bool = True) -> None:
        """Switch a fault on or off: one of FAULTS."""
        if name not in FAULTS:
            raise ValueError(f"fault '{name}' is none of {', '.join(FAULTS)}")
        if on:
            self._faults.add(name)
        else:
            self._faults.discard(name)

    def plug(self, plugged: bool) -> None:
        """Pull the receiver out of its socket, or put it back."""
        activated: str | int = iso_utc(monotonic_ns() + wall_minus_monotonic_ns()) if plugged else 0
        self.say({"class": "DEVICE", "path": DEVICE, "activated": activated})

    def report(self, report: Report) -> None:
        """Send what gpsd would send for one fix, as the faults leave it."""
        faults = set(self._faults)
        if "stall" in faults:
            return
        if "garbage" in faults:
            self.send(GARBAGE)
        wall_ns = report.t_ns + wall_minus_monotonic_ns() + (STEP_NS if "clock_step" in faults else 0)
        utc_ns = report.utc_ns - (WEEKS_1024_NS if "wrong_week" in faults else 0)
        if self._pps and utc_ns % NS_PER_S == 0:
            self.say({"class": "PPS", "device": DEVICE, **_pair(utc_ns, wall_ns), "precision": -20}, timing=True)
        if self._toff:
            self.say({"class": "TOFF", "device": DEVICE, **_pair(utc_ns, wall_ns + self._delay_ns)}, timing=True)
        self.say(_sky(report, faults))
        self.say(_tpv(report, utc_ns, faults))

    def say(self, message: dict[str, Any], *, timing: bool = False) -> None:
        """Send one message to every watcher, or to those that asked for PPS."""
        self.send(_line(message), timing=timing)

    def send(self, raw: bytes, *, timing: bool = False) -> None:
        """Send bytes as they are; a watcher that does not read is dropped, as gpsd does."""
        with self._lock:
            for client, wants_timing in list(self._watchers.items()):
                if timing and not wants_timing:
                    continue
                try:
                    client.sendall(raw)
                except OSError:
                    del self._watchers[client]
                    with suppress(OSError):
                        client.shutdown(socket.SHUT_RDWR)

    def _serve(self, waiting: selectors.BaseSelector, listener: socket.socket, woken: socket.socket) -> None:
        clients: dict[socket.socket, bytes] = {}
        with waiting, listener, woken:
            waiting.register(listener, selectors.EVENT_READ)
            waiting.register(woken, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in waiting.select()]
                if woken in ready:
                    break
                for source in ready:
                    assert isinstance(source, socket.socket)
                    if source is listener:
                        client, _ = listener.accept()
                        client.settimeout(1.0)
                        clients[client] = b""
                        waiting.register(client, selectors.EVENT_READ)
                        self._answer(client, _VERSION)
                    elif not self._asked(source, clients):
                        waiting.unregister(source)
                        del clients[source]
                        self._drop(source)
        for client in clients:
            self._drop(client)
        self.watched.clear()

    def _asked(self, client: socket.socket, clients: dict[socket.socket, bytes]) -> bool:
        """Answer the whole commands that a client has sent; say whether it is still there."""
        try:
            received = client.recv(4096)
        except OSError:
            return False
        *commands, clients[client] = (clients[client] + received).replace(b"\n", b";").split(b";")
        for command in commands:
            if command.strip():
                self._command(client, command.strip().decode("ascii", "replace"))
        return bool(received)

    def _command(self, client: socket.socket, command: str) -> None:
        name, _, argument = command.partition("=")
        if name == "?WATCH":
            try:
                asked = json.loads(argument or "{}")
            except ValueError:
                return self._answer(client, {"class": "ERROR", "message": f"Invalid WATCH: {argument}"})
            self._answer(client, _DEVICES)
            self._answer(client, {"class": "WATCH", "enable": True, "json": True, "pps": bool(asked.get("pps"))})
            with self._lock:
                self._watchers[client] = bool(asked.get("pps"))
            self.watched.set()
        elif name == "?DEVICES":
            self._answer(client, _DEVICES)
        elif name == "?VERSION":
            self._answer(client, _VERSION)
        else:
            self._answer(client, {"class": "ERROR", "message": f"Unrecognized request '{name[1:]}'"})
        return None

    def _answer(self, client: socket.socket, message: dict[str, Any]) -> None:
        with suppress(OSError):  # gone: reading from it says so
            client.sendall(_line(message))

    def _drop(self, client: socket.socket) -> None:
        with self._lock:
            self._watchers.pop(client, None)
        client.close()


_VERSION: Final = {"class": "VERSION", "release": "3.22", "rev": "3.22", "proto_major": 3, "proto_minor": 14}
_DEVICES: Final = {
    "class": "DEVICES",
    "devices": [{"class": "DEVICE", "path": DEVICE, "driver": "u-blox", "bps": 9600}],
}


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\r\n"


def _pair(real_ns: int, clock_ns: int) -> dict[str, int]:
    return {
        "real_sec": real_ns // NS_PER_S,
        "real_nsec": real_ns % NS_PER_S,
        "clock_sec": clock_ns // NS_PER_S,
        "clock_nsec": clock_ns % NS_PER_S,
    }


def _sky(report: Report, faults: set[Fault]) -> dict[str, Any]:
    weaker = JAMMED_DB if "jammed" in faults else 0.0
    heard = [max(ss - weaker, 0.0) for ss in report.strengths_dbhz] if "antenna" not in faults else []
    satellites = [
        {"PRN": n + 1, "el": 40.0, "az": 30.0 * n, "ss": round(ss, 1), "used": ss > 15.0, "gnssid": 0, "svid": n + 1}
        for n, ss in enumerate(heard)
    ]
    used = sum(ss > 15.0 for ss in heard)
    return {"class": "SKY", "device": DEVICE, "hdop": 1.0, "nSat": len(heard), "uSat": used, "satellites": satellites}


def _tpv(report: Report, utc_ns: int, faults: set[Fault]) -> dict[str, Any]:
    if report.mode < 2 or faults & {"no_fix", "jammed", "antenna"}:
        return {"class": "TPV", "device": DEVICE, "mode": 1}
    tpv: dict[str, Any] = {
        "class": "TPV",
        "device": DEVICE,
        "mode": report.mode,
        "time": iso_utc(utc_ns),
        "ept": 0.005,
        "lat": round(report.latitude + (JUMP_DEG if "jump" in faults else 0.0), 9),
        "lon": round(report.longitude, 9),
        "track": round(report.track_deg, 4),
        "speed": round(report.speed_mps, 3),
        "eps": 0.3,
        "eph": report.accuracy_m,
    }
    if report.mode == 3:
        tpv |= {"altHAE": report.altitude_m, "altMSL": report.altitude_m - 40.0, "epv": 2 * report.accuracy_m}
    return tpv
