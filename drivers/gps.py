"""The satellite receiver through gpsd: its JSON stream over a socket of our own, every wait with a time-out.

gpsd speaks every receiver's language and shares the receiver with other programs; we read what it says (gpsd_json(5)).
Samples of one fix share one time: that of the fix on our monotonic clock where PPS or TOFF reports tell it
(drivers.gnss.timing), else its arrival. Only gpsd's socket is used, no library of gpsd's (docs/decisions/0120).
"""

import socket
from typing import Any, Final

import msgspec

from agent.blocks import Block, empty_block, make_block
from agent.channels import BY_NAME, Channel
from agent.clock import NS_PER_S, monotonic_ns, wall_minus_monotonic_ns
from agent.errors import DriverError
from agent.records import Health
from drivers.facts import Facts
from drivers.gnss.judge import Judge
from drivers.gnss.messages import FIX_2D, NO_FIX, TIME_ONLY, fix_of, number, parse, pulse_of, sky_of
from drivers.gnss.timing import Timing

PORT: Final = 2947  # IANA: gpsd
LONGEST_LINE: Final = 65_536  # gpsd's own limit for a response is 10,240 bytes
PROTOCOL: Final = 3  # gpsd 2.90 (2009) and later
OPEN_S: Final = 3.0
HELD_NS: Final = 4 * NS_PER_S // 10  # the daemon waits 0.5 s for a feed (`hold_s`): what is stamped earlier is dropped
_CHANNELS: Final[dict[str, Channel]] = {
    name: BY_NAME[f"Gnss.{name}"]
    for name in (
        "FixType",
        "Satellites",
        "Latitude",
        "Longitude",
        "HorizontalAccuracy",
        "Altitude",
        "Speed",
        "SpeedAccuracy",
        "Heading",
        "Time",
        "TimeAccuracy",
    )
}


class Gps:
    """Read fixes from gpsd at `host`:`port`.

    `device` restricts to one receiver where gpsd has several. No report for `stale_s` is a fact; nothing sensible from
    gpsd for `silent_s` is trouble. `receiver_delay_s` is the receiver's own delay from fix to first byte (data sheet;
    u-blox NMEA about 0.05), which TOFF cannot see.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = PORT,
        device: str | None = None,
        *,
        stale_s: float = 5.0,
        silent_s: float = 30.0,
        receiver_delay_s: float = 0.0,
    ) -> None:
        self.name = f"gps:{host}:{port}"
        self._address = (host, port)
        self._device = device
        self._silent_ns = round(silent_s * NS_PER_S)
        self._facts = Facts()
        self._judge = Judge(self._facts, self.name, round(stale_s * NS_PER_S))
        self._timing = Timing(round(receiver_delay_s * NS_PER_S))
        self._socket: socket.socket | None = None
        self._buffer = bytearray()
        self._skipping = False
        self._sensible_ns = 0
        self._last_ns = 0
        self._satellites: int | None = None
        self._samples: list[tuple[int, int, float]] = []
        self._counts = dict.fromkeys(("reports", "bad_lines", "long_lines", "out_of_range", "errors"), 0)

    def open(self) -> None:
        """Connect to gpsd and ask for reports."""
        self.close()
        watch: dict[str, Any] = {"enable": True, "json": True, "pps": True}
        if self._device is not None:
            watch["device"] = self._device
        try:
            connection = socket.create_connection(self._address, timeout=OPEN_S)
        except OSError as error:
            raise DriverError(f"{self.name}: connect: {error}; is gpsd running? (systemctl status gpsd)") from None
        try:
            connection.sendall(b"?WATCH=%s;\n" % msgspec.json.encode(watch))
        except OSError as error:
            connection.close()
            raise DriverError(f"{self.name}: ask for reports: {error}") from None
        self._socket = connection
        self._buffer.clear()
        self._skipping = False
        self._satellites = None
        self._sensible_ns = monotonic_ns()
        self._judge.begin(self._sensible_ns)

    def read(self, timeout_s: float) -> Block:
        """Return the samples of the next reports, an empty block after `timeout_s`."""
        if self._socket is None:
            raise DriverError(f"{self.name}: read: not open")
        deadline_ns = monotonic_ns() + round(timeout_s * NS_PER_S)
        while True:
            now_ns = monotonic_ns()
            self._judge.passing(now_ns)
            if now_ns - self._sensible_ns > self._silent_ns:
                raise DriverError(
                    f"{self.name}: nothing sensible from gpsd for {self._silent_ns / NS_PER_S:g} s; "
                    "is the receiver plugged in? (gpspipe -w shows what gpsd says)"
                )
            self._receive(self._socket, max(deadline_ns - now_ns, 0) / NS_PER_S)
            if self._samples:
                block, self._samples = make_block(self._samples), []
                return block
            if monotonic_ns() >= deadline_ns:
                return empty_block()

    def close(self) -> None:
        """Release the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def health(self) -> list[Health]:
        """Return what stands: receiver, fix, position, time, signal; each with all counters."""
        return self._facts.standing(self.counts)

    @property
    def counts(self) -> dict[str, int]:
        """What was met since the driver was made."""
        return self._counts | {
            "jumps": self._judge.jumps,
            "wrong_dates": self._judge.wrong_dates,
            "refused_times": self._timing.refused,
            "uncorrected_times": self._timing.uncorrected,
        }

    def _receive(self, connection: socket.socket, wait_s: float) -> None:
        connection.settimeout(wait_s)
        try:
            received = connection.recv(LONGEST_LINE)
        except (TimeoutError, BlockingIOError):
            return
        except OSError as error:
            raise DriverError(f"{self.name}: receive: {error}") from None
        if not received:
            raise DriverError(f"{self.name}: gpsd closed the connection; it was stopped or restarted")
        now_ns = monotonic_ns()
        self._buffer += received
        *lines, rest = self._buffer.split(b"\n")
        for line in lines:
            if self._skipping or len(line) > LONGEST_LINE:
                self._counts["long_lines"] += not self._skipping
                self._skipping = False
            elif line.strip():
                self._line(bytes(line), now_ns)
        if len(rest) > LONGEST_LINE:
            self._counts["long_lines"] += not self._skipping
            self._skipping = True
        self._buffer = bytearray() if self._skipping else rest

    def _line(self, line: bytes, now_ns: int) -> None:
        message = parse(line)
        if message is None:
            self._counts["bad_lines"] += 1
            return
        self._sensible_ns = now_ns
        kind = message["class"]
        if self._device is not None and message.get("device", self._device) != self._device:
            return
        if kind == "TPV":
            self._fix(message, now_ns)
        elif kind == "SKY":
            sky = sky_of(message)
            if sky is not None:
                self._satellites = sky.used
                if isinstance(message.get("satellites"), list):
                    self._judge.sky(now_ns, sky)
        elif kind in {"TOFF", "PPS"}:
            pulse = pulse_of(message)
            if pulse is None:
                self._counts["bad_lines"] += 1
            else:
                self._timing.take(kind, pulse, now_ns, wall_minus_monotonic_ns())
        elif kind in {"DEVICES", "DEVICE"}:
            self._devices(kind, message, now_ns)
        elif kind == "ERROR":
            self._counts["errors"] += 1
            self._judge.trouble(now_ns, "degraded", f"gpsd says: {str(message.get('message'))[:200]}")
        elif kind == "VERSION" and number(message, "proto_major") != PROTOCOL:
            raise DriverError(
                f"{self.name}: gpsd speaks protocol {message.get('proto_major')}, not {PROTOCOL}; update gpsd"
            )

    def _devices(self, kind: str, message: dict[str, Any], now_ns: int) -> None:
        """Learn that gpsd lost its receiver, or never had one."""
        if kind == "DEVICES" and message.get("devices") == []:
            self._judge.trouble(now_ns, "lost", "gpsd has no receiver: plug one in, or name it in /etc/default/gpsd")
        elif kind == "DEVICE" and message.get("activated") == 0:
            self._judge.trouble(now_ns, "lost", f"gpsd lost the receiver {message.get('path')}")

    def _fix(self, message: dict[str, Any], now_ns: int) -> None:
        self._counts["reports"] += 1
        fix = fix_of(message)
        true_ns, accuracy_s = self._timing.stamp(fix.utc_ns if fix.fix_type != NO_FIX else None, now_ns)
        t_ns = self._last_ns = max(true_ns, self._last_ns, now_ns - HELD_NS)
        self._judge.fix(t_ns, now_ns, fix)
        self._put(t_ns, "FixType", float(fix.fix_type))
        self._put(t_ns, "Satellites", self._satellites)
        self._satellites = None  # said once for each list of satellites
        if fix.fix_type == NO_FIX:
            return
        utc_ns = self._judge.usable_utc(now_ns, fix)
        if utc_ns is not None:
            self._put(t_ns, "Time", (utc_ns + t_ns - true_ns) / NS_PER_S)
            self._put(t_ns, "TimeAccuracy", accuracy_s)
        if fix.fix_type == TIME_ONLY:
            return
        if fix.latitude is not None and fix.longitude is not None:
            self._put(t_ns, "Latitude", fix.latitude)
            self._put(t_ns, "Longitude", fix.longitude)
            self._put(t_ns, "HorizontalAccuracy", fix.accuracy_m)
        if fix.fix_type != FIX_2D:
            self._put(t_ns, "Altitude", fix.altitude_m)
        self._put(t_ns, "Speed", fix.speed_mps)
        self._put(t_ns, "SpeedAccuracy", fix.speed_accuracy_mps)
        self._put(t_ns, "Heading", fix.track_deg)

    def _put(self, t_ns: int, name: str, value: float | None) -> None:
        if value is None:
            return
        channel = _CHANNELS[name]
        if channel.low <= value <= channel.high:
            self._samples.append((t_ns, channel.number, value))
        else:
            self._counts["out_of_range"] += 1
