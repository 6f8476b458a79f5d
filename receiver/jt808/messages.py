"""The bodies of JT/T 808 messages that the gateway speaks and hears; big-endian, text in GBK, times in GMT+8 BCD.

Every decoder raises FrameError for bytes that are no such body. Layouts: docs/sources.md, J1.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from receiver.jt808.frame import MOST_BODY, FrameError

TERMINAL_ANSWER: Final = 0x0001
HEARTBEAT: Final = 0x0002
DEREGISTER: Final = 0x0003
REGISTER: Final = 0x0100
AUTHENTICATE: Final = 0x0102
LOCATION: Final = 0x0200
LOCATIONS: Final = 0x0704
PLATFORM_ANSWER: Final = 0x8001
REGISTER_ANSWER: Final = 0x8100

OK, FAILED, WRONG, UNSUPPORTED, ALARM_CONFIRMED = range(5)  # results of a general answer
REGISTERED, VEHICLE_TAKEN, NO_VEHICLE, TERMINAL_TAKEN, NO_TERMINAL = range(5)  # results of a registration

# status bits of a location
ACC, FIXED, SOUTH, WEST, SHIFTED = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 5

ODOMETER, OVERSPEED = 0x01, 0x11  # additional items
_CHINA: Final = timedelta(hours=8)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BASIC: Final = 28
NORMAL, BLIND_AREA = 0, 1  # kinds of a batch


class Registration(NamedTuple):
    """Who asks to be registered: places by GB/T 2260, ids as the platform's operator gave them."""

    province: int
    city: int
    maker: str
    model: str
    terminal: str
    plate_colour: int  # JT/T 697.7; 0: no plate yet, `plate` is the VIN
    plate: str

    def encode(self) -> bytes:
        """Return the body of a 0x0100 of 2019."""
        fixed = b"".join(_padded(t, n) for t, n in ((self.maker, 11), (self.model, 30), (self.terminal, 30)))
        places = self.province.to_bytes(2, "big") + self.city.to_bytes(2, "big")
        return places + fixed + bytes((self.plate_colour,)) + _gbk(self.plate)

    @classmethod
    def decode(cls, body: bytes) -> "Registration":
        """Read the body of a 0x0100 of 2019."""
        _need(body, 76)
        maker, model, terminal = (_text(body[a:b]) for a, b in ((4, 15), (15, 45), (45, 75)))
        return cls(_word(body, 0), _word(body, 2), maker, model, terminal, body[75], _text(body[76:]))


class RegistrationAnswer(NamedTuple):
    """What the platform says to a registration; the code is empty unless it was accepted."""

    serial: int
    result: int
    code: str = ""

    def encode(self) -> bytes:
        """Return the body of a 0x8100."""
        code = _gbk(self.code) if self.result == REGISTERED else b""
        return self.serial.to_bytes(2, "big") + bytes((self.result,)) + code

    @classmethod
    def decode(cls, body: bytes) -> "RegistrationAnswer":
        """Read the body of a 0x8100."""
        _need(body, 3)
        return cls(_word(body, 0), body[2], _text(body[3:]) if body[2] == REGISTERED else "")


class Authentication(NamedTuple):
    """How a terminal proves itself on every new link."""

    code: str
    imei: str
    software: str

    def encode(self) -> bytes:
        """Return the body of a 0x0102 of 2019."""
        code = _gbk(self.code)
        if len(code) > 255:
            raise FrameError("the authentication code is longer than 255 bytes")
        return bytes((len(code),)) + code + _padded(self.imei, 15) + _padded(self.software, 20)

    @classmethod
    def decode(cls, body: bytes) -> "Authentication":
        """Read the body of a 0x0102 of 2019."""
        _need(body, 1)
        end = 1 + body[0]
        _need(body, end + 35)
        return cls(_text(body[1:end]), _text(body[end : end + 15]), _text(body[end + 15 : end + 35]))


class Answer(NamedTuple):
    """A general answer, 0x0001 or 0x8001: which message it is for and how that went."""

    serial: int
    id: int
    result: int

    def encode(self) -> bytes:
        """Return its body."""
        return self.serial.to_bytes(2, "big") + self.id.to_bytes(2, "big") + bytes((self.result,))

    @classmethod
    def decode(cls, body: bytes) -> "Answer":
        """Read its body."""
        _need(body, 5)
        return cls(_word(body, 0), _word(body, 2), body[4])


class Location(NamedTuple):
    """One position: degrees × 1e6 (north and east positive), tenths of km/h, whole degrees from north, UTC seconds.

    `utc_s` is None where a received time is none. `items` are additional items as (id, bytes).
    """

    alarm: int
    status: int
    latitude_e6: int
    longitude_e6: int
    altitude_m: int
    speed_kmh10: int
    direction_deg: int
    utc_s: int | None
    items: tuple[tuple[int, bytes], ...] = ()

    def encode(self) -> bytes:
        """Return the body of a 0x0200; bits 2 and 3 of the status follow the signs."""
        status = self.status & ~(SOUTH | WEST)
        status |= (SOUTH if self.latitude_e6 < 0 else 0) | (WEST if self.longitude_e6 < 0 else 0)
        words = (self.alarm, status, abs(self.latitude_e6), abs(self.longitude_e6))
        short = (self.altitude_m, self.speed_kmh10, self.direction_deg)
        basic = b"".join(w.to_bytes(4, "big") for w in words) + b"".join(w.to_bytes(2, "big") for w in short)
        extra = b"".join(bytes((number, len(value))) + value for number, value in self.items)
        return basic + _bcd_time(self.utc_s) + extra

    @classmethod
    def decode(cls, body: bytes) -> "Location":
        """Read the body of a 0x0200."""
        _need(body, _BASIC)
        alarm, status, latitude, longitude = (int.from_bytes(body[n : n + 4], "big") for n in (0, 4, 8, 12))
        if latitude > 90_000_000 or longitude > 180_000_000:
            raise FrameError("a place that is not on Earth")
        items, at = [], _BASIC
        while at < len(body):
            end = at + 2 + (body[at + 1] if at + 1 < len(body) else 256)
            if end > len(body):
                raise FrameError(f"additional item 0x{body[at]:02x} is cut off")
            items.append((body[at], body[at + 2 : end]))
            at = end
        return cls(
            alarm,
            status,
            -latitude if status & SOUTH else latitude,
            -longitude if status & WEST else longitude,
            _word(body, 16),
            _word(body, 18),
            _word(body, 20),
            _utc_s(body[22:28]),
            tuple(items),
        )


def encode_batch(kind: int, locations: Sequence[bytes]) -> bytes:
    """Return the body of a 0x0704 from bodies of 0x0200."""
    items = (len(body).to_bytes(2, "big") + body for body in locations)
    return len(locations).to_bytes(2, "big") + bytes((kind,)) + b"".join(items)


def decode_batch(body: bytes) -> tuple[int, list[Location]]:
    """Return the kind and the positions of a 0x0704."""
    _need(body, 3)
    found, at = [], 3
    for _ in range(_word(body, 0)):
        _need(body, at + 2)
        end = at + 2 + _word(body, at)
        _need(body, end)
        found.append(Location.decode(body[at + 2 : end]))
        at = end
    if at != len(body):
        raise FrameError(f"{len(body) - at} bytes after the last position")
    return body[2], found


def fitting(bodies: Sequence[bytes]) -> int:
    """Return how many bodies of 0x0200, from the first, go into one 0x0704 without sub-packages."""
    size, n = 3, 0
    for body in bodies:
        size += 2 + len(body)
        if size > MOST_BODY:
            break
        n += 1
    return n


def _need(body: bytes, length: int) -> None:
    if len(body) < length:
        raise FrameError(f"{len(body)} bytes where {length} are needed")


def _word(body: bytes, at: int) -> int:
    return int.from_bytes(body[at : at + 2], "big")


def _gbk(text: str) -> bytes:
    try:
        return text.encode("gbk")
    except UnicodeEncodeError as e:
        raise FrameError(f"{text!r} cannot be written in GBK") from e


def _padded(text: str, length: int) -> bytes:
    raw = _gbk(text)
    if len(raw) > length:
        raise FrameError(f"{text!r} is longer than {length} bytes")
    return raw.ljust(length, b"\0")


def _text(raw: bytes) -> str:
    try:
        return raw.strip(b"\0").decode("gbk")
    except UnicodeDecodeError as e:
        raise FrameError("text that is not GBK") from e


def _bcd_time(utc_s: int | None) -> bytes:
    if utc_s is None:
        return bytes(6)
    there = _EPOCH + timedelta(seconds=utc_s) + _CHINA
    if not 2000 <= there.year <= 2099:
        raise FrameError(f"year {there.year}: two digits say 2000 to 2099")
    return bytes.fromhex(there.strftime("%y%m%d%H%M%S"))


def _utc_s(bcd: bytes) -> int | None:
    digits = bcd.hex()
    if not digits.isdigit():
        return None
    pairs = [int(digits[n : n + 2]) for n in range(0, 12, 2)]
    try:
        there = datetime(2000 + pairs[0], *pairs[1:], tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError:
        return None
    return round((there - _CHINA - _EPOCH).total_seconds())
