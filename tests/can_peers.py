"""The far ends of CAN wires, in a test's hands: datagrams for SocketCAN, an slcan adapter on a pty, a control unit."""

import os
import pty
import select
import socket
import struct
import threading
import tty
from collections.abc import Callable

from tests.test_isotp import cut

CAN_FRAME = struct.Struct("=IB3x8s")
CANFD_FRAME = struct.Struct("=IBB2x64s")
RATES = {b"S5": 250_000, b"S6": 500_000, b"S4": 125_000, b"S8": 1_000_000}
Frame = tuple[int, bytes]


def can_frame(identifier: int, data: bytes, flags: int = 0) -> bytes:
    """Write a struct can_frame; identifiers above 0x7FF are 29 bits wide."""
    kind = 0x80000000 if identifier > 0x7FF else 0
    return CAN_FRAME.pack(identifier | kind | flags, len(data), data)


def canfd_frame(identifier: int, data: bytes, flags: int = 0) -> bytes:
    """Write a struct canfd_frame."""
    kind = 0x80000000 if identifier > 0x7FF else 0
    return CANFD_FRAME.pack(identifier | kind, len(data), flags, data)


class Datagrams:
    """Two connected UDP sockets on the loopback: `inner` is the driver's, `outer` the bus's."""

    def __init__(self) -> None:
        self.inner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.outer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.inner.bind(("127.0.0.1", 0))
        self.outer.bind(("127.0.0.1", 0))
        self.inner.connect(self.outer.getsockname())
        self.outer.connect(self.inner.getsockname())
        self._asker = self.inner.dup()

    def put(self, *packets: bytes) -> None:
        for packet in packets:
            self.outer.send(packet)

    def unplug(self) -> None:
        """Make the inner socket fail as one of a device that is gone: what it sent was refused."""
        self.outer.close()
        self._asker.send(b"?")

    def close(self) -> None:
        for each in (self.inner, self.outer, self._asker):
            each.close()


class Answering:
    """A thread that answers what is sent on the outer socket with what `unit` says."""

    def __init__(self, wire: Datagrams, hear: Callable[[int, bytes], list[Frame]]) -> None:
        self._wire, self._hear = wire, hear
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="unit", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if not select.select([self._wire.outer], [], [], 0.05)[0]:
                    continue
                identifier, length, data = CAN_FRAME.unpack(self._wire.outer.recv(72))
                for answer in self._hear(identifier & 0x1FFFFFFF, data[:length]):
                    self._wire.put(can_frame(*answer))
            except (OSError, ValueError):
                return

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


class Unit:
    """A control unit: answers service 01 for `pids`, 09 02, and trouble codes; `joint` False answers one PID alone."""

    def __init__(self, pids: dict[int, bytes], *, answer_id: int = 0x7E8, joint: bool = True, vin: str = "") -> None:
        self.pids, self.answer_id, self.joint, self.vin = dict(pids), answer_id, joint, vin
        self.asleep = False
        self.heard: list[Frame] = []
        self._rest: list[bytes] = []
        for base in range(0, 0x100, 0x20):
            above = [p for p in pids if p > base]
            if above or base == 0:
                bits = sum(1 << (31 - (p - base - 1)) for p in pids if base < p <= base + 32)
                bits |= any(p > base + 32 for p in pids)
                self.pids[base] = bits.to_bytes(4, "big")
        if answer_id > 0x7FF:
            self.own, self.everyone = 0x18DA00F1 | (answer_id & 0xFF) << 8, 0x18DB33F1
        else:
            self.own, self.everyone = answer_id - 8, 0x7DF

    def hear(self, identifier: int, data: bytes) -> list[Frame]:
        self.heard.append((identifier, data))
        if self.asleep or identifier not in (self.own, self.everyone):
            return []
        if data[0] == 0x30:
            rest, self._rest = self._rest, []
            return [(self.answer_id, part) for part in rest]
        payload = self._answer(data[1 : 1 + data[0]])
        if not payload:
            return []
        first, *self._rest = cut(payload)
        return [(self.answer_id, first)]

    def _answer(self, request: bytes) -> bytes:
        service, asked = request[0], request[1:]
        if service == 1:
            known = [p for p in asked if p in self.pids][: None if self.joint else 1]
            return b"\x41" + b"".join(bytes([p]) + self.pids[p] for p in known) if known else b""
        if service == 9 and asked == b"\x02" and self.vin:
            return b"\x49\x02\x01" + self.vin.encode()
        if service == 3:
            return b"\x43\x01\x01\x33"
        return bytes([0x7F, service, 0x12])


class Adapter:
    """An slcan adapter on a pty: a thread that answers commands; `said` keeps them.

    `bus_rate` is the bit rate of the bus behind it: at any other it hears nothing. `mute` answers no command.
    """

    def __init__(
        self,
        *,
        bus_rate: int = 500_000,
        refuses: bytes = b"",
        mute: bool = False,
        hear: Callable[[int, bytes], list[Frame]] | None = None,
        chatter: bytes = b"",
    ) -> None:
        self.master, slave = pty.openpty()
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        self._slave = slave
        self.said: list[bytes] = []
        self.on_bus = threading.Event()
        self._bus_rate, self._refuses, self._mute = bus_rate, refuses, mute
        self._hear, self._chatter = hear, chatter
        self._rate = 0
        self._stop, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._run, name="adapter", daemon=True)
        self._thread.start()

    def put(self, text: bytes) -> None:
        os.write(self.master, text)

    def frame(self, identifier: int, data: bytes) -> None:
        head = f"T{identifier:08X}" if identifier > 0x7FF else f"t{identifier:03X}"
        self.put(f"{head}{len(data)}{data.hex().upper()}\r".encode())

    def _run(self) -> None:
        text = b""
        while True:
            ready = select.select([self.master, self._stop], [], [])[0]
            if self._stop in ready:
                return
            try:
                text += os.read(self.master, 4096)
            except OSError:
                return
            *commands, text = text.split(b"\r")
            for command in commands:
                self._obey(command)

    def _obey(self, command: bytes) -> None:
        self.said.append(command)
        if self._mute:
            return
        refused = bool(command) and command[:1] in (self._refuses[i : i + 1] for i in range(len(self._refuses)))
        self.put(b"\a" if refused else b"\r")
        if refused:
            return
        if command[:1] == b"S":
            self._rate = RATES.get(command, 1)
        elif command[:1] in b"OL" and command:
            if self._rate == self._bus_rate:
                self.put(self._chatter)
                self.on_bus.set()
        elif command[:1] in b"tT" and command and self._hear is not None:
            digits = 3 if command[:1] == b"t" else 8
            data = bytes.fromhex(command[2 + digits :].decode())
            for answer in self._hear(int(command[1 : 1 + digits], 16), data):
                self.frame(*answer)

    def unplug(self) -> None:
        """Pull the adapter out: the line hangs up."""
        self.close()

    def close(self) -> None:
        if self._slave >= 0:
            os.write(self._wake, b"x")
            self._thread.join()
            for fd in (self._slave, self.master, self._stop, self._wake):
                os.close(fd)
            self._slave = -1
