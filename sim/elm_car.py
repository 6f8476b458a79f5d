"""What a simulated car answers to a diagnostic reader: control units, their parameters, codes and VIN.

Formulas are written here once more, from SAE J1979's side (value to bytes), so that a mistake in the reader's table
does not cancel out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

# PID -> name in `Car.values`, bytes, counts per unit, offset in counts
_LINEAR: Final[dict[int, tuple[str, int, float, float]]] = {
    0x04: ("load", 1, 2.55, 0.0),
    0x05: ("coolant", 1, 1.0, 40.0),
    0x0B: ("intake_pressure", 1, 1.0, 0.0),
    0x0C: ("rpm", 2, 4.0, 0.0),
    0x0D: ("speed_kmh", 1, 1.0, 0.0),
    0x0E: ("timing", 1, 2.0, 128.0),
    0x0F: ("intake_air", 1, 1.0, 40.0),
    0x10: ("air_flow", 2, 100.0, 0.0),
    0x11: ("throttle", 1, 2.55, 0.0),
    0x1F: ("run_time", 2, 1.0, 0.0),
    0x21: ("km_with_lamp", 2, 1.0, 0.0),
    0x2F: ("fuel", 1, 2.55, 0.0),
    0x31: ("km_since_clear", 2, 1.0, 0.0),
    0x33: ("barometer", 1, 1.0, 0.0),
    0x42: ("volts", 2, 1000.0, 0.0),
    0x46: ("ambient", 1, 1.0, 40.0),
    0x49: ("pedal", 1, 2.55, 0.0),
    0x5C: ("oil", 1, 1.0, 40.0),
    0xA6: ("odometer", 4, 10.0, 0.0),
}
DEFAULTS: Final[dict[str, float]] = {
    "load": 20.0,
    "coolant": 88.0,
    "intake_pressure": 35.0,
    "rpm": 1726.0,
    "speed_kmh": 50.0,
    "timing": 12.0,
    "intake_air": 24.0,
    "air_flow": 6.13,
    "throttle": 12.0,
    "run_time": 551.0,
    "km_with_lamp": 0.0,
    "fuel": 60.0,
    "km_since_clear": 4321.0,
    "barometer": 99.0,
    "volts": 13.9,
    "ambient": 18.0,
    "pedal": 15.0,
    "oil": 90.0,
    "odometer": 123456.7,
}
VIN: Final = "1M8GDM9AXKP042788"  # the worked example of 49 CFR 565
CODES: Final[dict[int, tuple[int, ...]]] = {0x03: (0x0133, 0x4123), 0x07: (0x0420,), 0x0A: ()}
MONITORS: Final = bytes.fromhex("00076521")  # lamp off, no code; catalyst among others not yet complete


class Message(NamedTuple):
    """One answer of one control unit."""

    unit: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Unit:
    """A control unit: the last byte of its address, and the PIDs it has."""

    address: int
    pids: tuple[int, ...] = (0x01, *(p for p in _LINEAR if p not in (0x46, 0x5C, 0xA6)))


ENGINE: Final = Unit(0x10)
GEARBOX: Final = Unit(0x12, (0x01, 0x0D, 0x42))


@dataclass(slots=True)
class Car:
    """A car on `protocol` (digit of ATDPN). `values` gives physical values by name at a time; unnamed ones rest."""

    protocol: str = "6"
    units: tuple[Unit, ...] = (ENGINE,)
    values: Callable[[int], Mapping[str, float]] = lambda t_ns: {}
    vin: str = VIN
    codes: dict[int, tuple[int, ...]] = field(default_factory=lambda: dict(CODES))
    many: bool = True  # answers several PIDs in one request
    awake: bool = True

    def answer(self, request: bytes, t_ns: int) -> list[Message]:
        """Return the answers of all control units to a functional request, the engine's first."""
        service, rest = request[0], request[1:]
        found: list[Message] = []
        for unit in self.units:
            payload = self._payload(unit, service, rest, t_ns)
            if payload:
                found.append(Message(unit.address, payload))
        return found

    def _payload(self, unit: Unit, service: int, rest: bytes, t_ns: int) -> bytes:
        first = unit is self.units[0]
        if service == 0x01:
            if not rest:
                return b""
            if len(rest) > 1 and (self.protocol not in "6789" or not self.many):
                return b""
            body = b"".join(bytes((pid,)) + self._data(unit, pid, t_ns) for pid in rest if self._has(unit, pid))
            return b"\x41" + body if body else b""
        if service == 0x02 and first and len(rest) == 2 and rest[1] == 0:
            pid = rest[0]
            if pid == 0x02:
                return bytes((0x42, 2, 0)) + self.codes[0x03][0].to_bytes(2, "big") if self.codes[0x03] else b""
            if not self.codes[0x03] or not self._has(unit, pid):
                return b""
            return bytes((0x42, pid, 0)) + self._data(unit, pid, 0)
        if service in self.codes and not rest:
            codes = self.codes[service] if first else ()
            raw = b"".join(code.to_bytes(2, "big") for code in codes)
            if self.protocol in "6789":
                return bytes((service | 0x40, len(codes))) + raw
            return bytes((service | 0x40,)) + raw.ljust(6, b"\0")
        if service == 0x04 and not rest:
            if {**DEFAULTS, **self.values(t_ns)}["rpm"] > 0:
                return b"\x7f\x04\x22"
            self.codes.update({0x03: (), 0x07: ()})  # permanent ones stay
            return b"\x44"
        if service == 0x09 and rest == b"\x00" and first and self.protocol in "6789":
            return b"\x49\x00\x40\x00\x00\x00" if self.vin else b""
        if service == 0x09 and rest == b"\x02" and first and self.vin:
            return b"\x49\x02\x01" + self.vin.encode("ascii")
        return b""

    def _has(self, unit: Unit, pid: int) -> bool:
        return pid in unit.pids or (pid % 0x20 == 0 and (pid == 0 or any(p > pid for p in unit.pids)))

    def _data(self, unit: Unit, pid: int, t_ns: int) -> bytes:
        if pid % 0x20 == 0:
            bits = sum(1 << (32 - p + pid) for p in unit.pids if pid < p < pid + 0x20)
            return (bits | int(self._has(unit, pid + 0x20))).to_bytes(4, "big")
        if pid == 0x01:
            stored = len(self.codes[0x03]) if unit is self.units[0] else 0
            return bytes(((0x80 if stored else 0) | stored,)) + MONITORS[1:]
        name, size, scale, offset = _LINEAR[pid]
        value = {**DEFAULTS, **self.values(t_ns)}[name]
        count: int = min(max(round(value * scale + offset), 0), (1 << 8 * size) - 1)
        return count.to_bytes(size, "big")


def checksum(protocol: str, message: bytes) -> int:
    """Compute the last byte of a K-line (sum) or J1850 (CRC-8) message."""
    if protocol in "345":
        return sum(message) & 0xFF
    crc = 0xFF
    for byte in message:
        for bit in range(7, -1, -1):
            carry = (crc >> 7) ^ (byte >> bit & 1)
            crc = (crc << 1 & 0xFF) ^ (0x1D if carry else 0)
    return crc ^ 0xFF


def frames_of(protocol: str, message: Message) -> list[tuple[str, bytes]]:
    """Cut an answer into (header digits, bytes with PCI or checksum), one for each line that an adapter prints."""
    unit, payload = message
    if protocol in "68":
        return [(f"{0x7E8 + (unit & 7):03X}", part) for part in _segments(payload)]
    if protocol in "79":
        return [(f"18DAF1{unit:02X}", part) for part in _segments(payload)]
    rows = []
    for body in _legacy_bodies(payload):
        head = {"1": b"\x41\x6b", "2": b"\x48\x6b", "3": b"\x48\x6b"}.get(protocol, bytes((0x80 | len(body), 0xF1)))
        whole = head + bytes((unit,)) + body
        rows.append((whole[:3].hex().upper(), body + bytes((checksum(protocol, whole),))))
    return rows


def _segments(payload: bytes) -> list[bytes]:
    if len(payload) <= 7:
        return [bytes((len(payload),)) + payload]
    rest = payload[6:]
    parts = [rest[i : i + 7] for i in range(0, len(rest), 7)]
    return [
        bytes((0x10 | len(payload) >> 8, len(payload) & 0xFF)) + payload[:6],
        *(bytes((0x20 | (i + 1) & 15,)) + part.ljust(7, b"\0") for i, part in enumerate(parts)),
    ]


def _legacy_bodies(payload: bytes) -> list[bytes]:
    if payload[0] == 0x49:  # number of the line, four characters; the VIN is filled up in front
        data = payload[3:].rjust(20, b"\0")
        return [payload[:2] + bytes((i + 1,)) + data[4 * i : 4 * i + 4] for i in range(5)]
    return [payload]
