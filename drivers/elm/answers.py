"""Answers as text become payloads by control unit, for every way in which adapters print them.

CAN: headers of 11 or 29 bits, ISO-TP put together by drivers.decode.isotp. K-line and J1850: three header bytes and
a checksum, which is verified. Adapters that refuse headers: bare payloads, believed only where one unit can have
spoken. A line that is not exactly what it claims to be gives nothing.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from agent.blocks import Frames
from drivers.decode.isotp import N_CR_NS, Reassembler, frames_of_text, unit_name
from drivers.elm.reply import Reply

CAN: Final = "6789"  # digits of ATDPN
K_LINE: Final = "345"  # ISO 9141-2, KWP: sum of all bytes before
J1850: Final = "12"  # CRC-8
BARE: Final = "bare"  # unit name where no header tells it


class Answer(NamedTuple):
    """One payload: when its last line was whole, from which control unit, its bytes from the service on."""

    t_ns: int
    unit: str
    payload: bytes


class Answers:
    """Read replies for one protocol. `protocol` is the digit of ATDPN; `headers` whether ATH1 was obeyed."""

    def __init__(self, protocol: str, headers: bool = True) -> None:
        self.protocol = protocol
        self.headers = headers
        self._reassembler = Reassembler()
        self._turn = 0

    def read(self, reply: Reply) -> list[Answer]:
        """Return the payloads of a reply in the order in which they were whole."""
        lines = reply.data()
        if not self.headers:
            return list(_bare(lines))
        if self.protocol in CAN:
            return self._can(lines)
        return list(_legacy(lines, self.protocol))

    def _can(self, lines: list[tuple[int, str]]) -> list[Answer]:
        """Put CAN frames together; one line is one step of time, and replies lie too far apart to share a message."""
        apart = [(t_ns, part) for t_ns, line in lines for part in _apart(line, self.protocol)]
        kept = [(t_ns, line) for t_ns, line in apart if _is_frame(line, self.protocol)]
        if not kept:
            return []
        frames = frames_of_text("\n".join(line for _, line in kept))
        self._turn += 2 * N_CR_NS
        stamped = Frames(self._turn + np.arange(len(frames.t), dtype=np.int64), *frames[1:])
        return [
            Answer(kept[int(t) - self._turn][0], unit_name(int(unit)), m.heap[start : start + length].tobytes())
            for m in self._reassembler.walk(stamped)
            for t, unit, start, length in zip(m.t, m.unit, m.start, m.length, strict=True)
        ]


def _apart(line: str, protocol: str) -> Iterator[str]:
    """Part single frames that an adapter has joined on one line, by the length that each begins with."""
    header = 3 if protocol in "68" else 8
    while len(line) > header + 16 and line[header] == "0":
        end = header + 2 + 2 * int(line[header + 1], 16)
        yield line[:end]
        line = line[end:]
    yield line


def _is_frame(line: str, protocol: str) -> bool:
    """Say whether a line is one whole frame: header of the protocol's width, and as many bytes as its PCI says."""
    short = protocol in "68"
    header = 3 if short else 8
    if len(line) % 2 != header % 2 or not line.startswith("7E" if short else "18DAF1"):
        return False
    data = line[header:]
    n = len(data) // 2
    if not 2 <= n <= 8:
        return False
    return data[0] != "0" or n in (8, 1 + int(data[1], 16))


def shape_of(lines: list[str]) -> str | None:
    """Guess the protocol digit from lines with headers, for adapters whose ATDPN says nothing; None without a sign."""
    for line in lines:
        if len(line) % 2 and line.startswith("7E"):
            return "6"
        if line.startswith("18DAF1"):
            return "7"
        if _checked(bytes.fromhex(line) if len(line) % 2 == 0 else b"", K_LINE):
            return "5" if line[0] in "8C" else "3"
        if _checked(bytes.fromhex(line) if len(line) % 2 == 0 else b"", J1850):
            return "1" if line.startswith("41") else "2"
    return None


def crc8(data: bytes) -> int:
    """Compute the checksum of SAE J1850: polynomial 1D, start FF, inverted."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x1D if crc & 0x80 else crc << 1) & 0xFF
    return crc ^ 0xFF


def _checked(message: bytes, protocol: str) -> bool:
    """Say whether a message of three header bytes, 1..7 bytes and a checksum is whole."""
    if not 5 <= len(message) <= 11 or not protocol:
        return False
    body, check = message[:-1], message[-1]
    if protocol in J1850:
        return message[1] == 0x6B and crc8(body) == check
    if message[0] & 0x80:  # KWP format byte: the low six bits count the data
        headed = message[0] & 0x3F == len(body) - 3
    else:
        headed = message[1] == 0x6B  # answers of J1979 by functional address
    return headed and sum(body) & 0xFF == check


def _legacy(lines: list[tuple[int, str]], protocol: str) -> Iterator[Answer]:
    """Read K-line and J1850 messages; codes and vehicle information of several lines are joined as CAN has them."""
    found: list[Answer] = []
    for t_ns, line in lines:
        message = bytes.fromhex(line) if len(line) % 2 == 0 else b""
        if _checked(message, protocol):
            found.append(Answer(t_ns, f"{message[2]:02X}", message[3:-1]))
    yield from _joined(found)


def _joined(found: list[Answer]) -> Iterator[Answer]:
    """Give answers of 09 and of trouble codes one payload a unit: parts in order of their number, codes counted."""
    parts: dict[tuple[str, bytes], dict[int, bytes]] = {}
    codes: dict[tuple[str, int], bytes] = {}
    times: dict[tuple[str, bytes] | tuple[str, int], int] = {}
    for answer in found:
        service = answer.payload[0]
        if service == 0x49 and len(answer.payload) == 7:
            key = (answer.unit, answer.payload[:2])
            parts.setdefault(key, {})[answer.payload[2]] = answer.payload[3:]
            times[key] = answer.t_ns
        elif service in (0x43, 0x47, 0x4A) and len(answer.payload) == 7:
            named = (answer.unit, service)
            codes[named] = codes.get(named, b"") + answer.payload[1:]
            times[named] = answer.t_ns
        else:
            yield answer
    for key, by_number in parts.items():
        if sorted(by_number) == list(range(1, len(by_number) + 1)):
            data = b"".join(by_number[i] for i in sorted(by_number))
            yield Answer(times[key], key[0], key[1] + b"\x01" + data)
    for named, raw in codes.items():
        yield Answer(times[named], named[0], bytes((named[1], len(raw) // 2)) + raw)


def _bare(lines: list[tuple[int, str]]) -> Iterator[Answer]:
    """Read payloads without headers: each line one unit's, or a length and numbered lines for a long one.

    Where the lines could be of two units a long answer is dropped; of short ones the first is taken for each PID,
    as the engine's unit has the lowest address and mostly answers first.
    """
    long = [(t_ns, line) for t_ns, line in lines if line[1:2] == ":"]
    total = [int(line, 16) for _, line in lines if len(line) == 3 and ":" not in line]
    if long:
        if len(total) == 1 and [int(line[0], 16) for _, line in long] == [i % 16 for i in range(len(long))]:
            digits = "".join(line[2:].replace(":", "") for _, line in long)
            if len(digits) % 2 == 0 and len(digits) // 2 >= total[0]:
                yield Answer(long[-1][0], BARE, bytes.fromhex(digits)[: total[0]])
        return
    seen: set[str] = set()
    for t_ns, line in lines:
        if len(line) % 2 == 0 and 4 <= len(line) <= 14 and ":" not in line and line[:4] not in seen:
            seen.add(line[:4])
            yield Answer(t_ns, BARE, bytes.fromhex(line))
