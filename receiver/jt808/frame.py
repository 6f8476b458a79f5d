"""JT/T 808 frames: `7E | header | body | check | 7E`, escaped, big-endian; pure, for bytes from anywhere.

check = XOR of header and body; then 7E → 7D 02 and 7D → 7D 01. The header of 2019 has a version byte and a phone of 20
BCD digits, said by bit 14 of the properties; that of 2011 and 2013 has neither and 12 digits. A body is at most 1,023
bytes; a longer one goes in numbered sub-packages. Layout and vectors: docs/sources.md, J1.
"""

from collections import OrderedDict
from collections.abc import Iterator
from functools import reduce
from operator import xor
from typing import Final, NamedTuple

FLAG: Final = 0x7E
MOST_BODY: Final = 1023  # ten bits of the properties
VERSION_2019: Final = 1
_ENCRYPTED: Final = 0x1C00
_PARTS: Final = 0x2000
_VERSIONED: Final = 0x4000
_MOST_CONTENT: Final = 21 + MOST_BODY + 1  # header with sub-packages, body, check
_MOST_ESCAPED: Final = 2 * _MOST_CONTENT
MOST_WHOLE: Final = 64 * 1024  # a body put together from sub-packages
MOST_OPEN: Final = 8  # bodies of one link that wait for sub-packages


class FrameError(ValueError):
    """Bytes that are no JT/T 808 message; the text says why."""


class Message(NamedTuple):
    """One message, or one sub-package of it (`part` of `parts`, from 1).

    `version` is the protocol version of the 2019 header (1), None for a header of 2011 or 2013.
    """

    id: int
    phone: str  # digits: 20 with a version, else 12
    serial: int
    body: bytes
    version: int | None = VERSION_2019
    parts: int = 1
    part: int = 1


def encode(message: Message) -> bytes:
    """Return the frame of a message, escaped and closed; raise FrameError for what no frame can hold."""
    digits = 12 if message.version is None else 20
    if not message.phone.isascii() or not message.phone.isdigit() or len(message.phone) > digits:
        raise FrameError(f"phone {message.phone!r}: not up to {digits} digits")
    if len(message.body) > MOST_BODY:
        raise FrameError(f"body of {len(message.body)} bytes: {MOST_BODY} fit in a frame; split it")
    properties = len(message.body) | (0 if message.version is None else _VERSIONED)
    in_parts = message.parts > 1
    head = message.id.to_bytes(2, "big") + (properties | (_PARTS if in_parts else 0)).to_bytes(2, "big")
    if message.version is not None:
        head += bytes((message.version,))
    head += bytes.fromhex(message.phone.zfill(digits)) + message.serial.to_bytes(2, "big")
    if in_parts:
        head += message.parts.to_bytes(2, "big") + message.part.to_bytes(2, "big")
    content = head + message.body
    content += bytes((reduce(xor, content),))
    return b"\x7e" + content.replace(b"\x7d", b"\x7d\x01").replace(b"\x7e", b"\x7d\x02") + b"\x7e"


def split(id: int, phone: str, serial: int, body: bytes) -> list[Message]:
    """Return the message of 2019, in as many sub-packages as its body needs; serial numbers follow each other."""
    pieces = [body[at : at + MOST_BODY] for at in range(0, len(body), MOST_BODY)] or [b""]
    if len(pieces) > 0xFFFF:
        raise FrameError(f"body of {len(body)} bytes: more than 65,535 sub-packages")
    total = len(pieces)
    return [Message(id, phone, (serial + n) & 0xFFFF, piece, parts=total, part=n + 1) for n, piece in enumerate(pieces)]


def decode(escaped: bytes) -> Message:
    """Return the message between two flags; raise FrameError."""
    content = _unescaped(escaped)
    if len(content) < 13:
        raise FrameError(f"{len(content)} bytes: shorter than a header")
    if reduce(xor, content):
        raise FrameError("the check byte does not fit")
    properties = int.from_bytes(content[2:4], "big")
    if properties & _ENCRYPTED:
        raise FrameError("the body is encrypted")
    versioned = bool(properties & _VERSIONED)
    at, digits = (5, 10) if versioned else (4, 6)
    start = at + digits + 2 + (4 if properties & _PARTS else 0)
    length = properties & MOST_BODY
    if len(content) != start + length + 1:
        raise FrameError(f"{len(content) - 1 - start} bytes of body where the header says {length}")
    phone = content[at : at + digits].hex()
    if not phone.isdigit():
        raise FrameError("the phone is not in BCD")
    total = index = 1
    if properties & _PARTS:
        total, index = (int.from_bytes(content[n : n + 2], "big") for n in (start - 4, start - 2))
        if not 1 <= index <= total:
            raise FrameError(f"sub-package {index} of {total}")
    serial = int.from_bytes(content[at + digits : at + digits + 2], "big")
    version = content[4] if versioned else None
    return Message(int.from_bytes(content[:2], "big"), phone, serial, content[start:-1], version, total, index)


def _unescaped(escaped: bytes) -> bytes:
    first, *rest = escaped.split(b"\x7d")
    whole = bytearray(first)
    for piece in rest:
        if piece[:1] not in (b"\x01", b"\x02"):
            raise FrameError("an escape without its second byte")
        whole.append(0x7D if piece[0] == 1 else FLAG)
        whole += piece[1:]
    return bytes(whole)


class Deframer:
    """Cuts a stream of bytes into messages; what is no message is counted in `faults` and passed over.

    Memory is bounded: a frame longer than any can be is dropped up to the next flag.
    """

    def __init__(self) -> None:
        self.faults = 0
        self.fault = ""  # the last one
        self._held = bytearray()
        self._lost = False  # within a frame that was too long

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes as they came and yield the messages that they complete."""
        *closed, rest = data.split(b"\x7e")
        for piece in closed:
            self._hold(piece)
            frame, lost = bytes(self._held), self._lost
            self._held.clear()
            self._lost = False
            if lost or not frame:
                continue
            try:
                message = decode(frame)
            except FrameError as e:
                self._blame(str(e))
            else:
                yield message
        self._hold(rest)

    def _hold(self, piece: bytes) -> None:
        if self._lost:
            return
        if len(self._held) + len(piece) > _MOST_ESCAPED:
            self._held.clear()
            self._lost = True
            self._blame("a frame without an end")
            return
        self._held += piece

    def _blame(self, why: str) -> None:
        self.faults += 1
        self.fault = why


class Assembly:
    """Puts sub-packages together, in any order; the oldest unfinished body gives way when too many are open."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[int, str, int], dict[int, bytes]] = OrderedDict()

    def take(self, message: Message) -> Message | None:
        """Return a whole message once it is whole, with the serial number of its first sub-package."""
        if message.parts == 1:
            return message
        first = (message.serial - message.part + 1) & 0xFFFF
        key = (message.id, message.phone, first)
        pieces = self._open.setdefault(key, {})
        pieces[message.part] = message.body
        if sum(map(len, pieces.values())) > MOST_WHOLE or message.parts > MOST_WHOLE:
            del self._open[key]
            return None
        if len(pieces) < message.parts:
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
            return None
        del self._open[key]
        if set(pieces) != set(range(1, message.parts + 1)):
            return None
        return message._replace(serial=first, body=b"".join(v for _, v in sorted(pieces.items())), parts=1, part=1)
