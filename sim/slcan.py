"""An slcan adapter that is none: the Lawicel CAN232's commands on a pseudo terminal, with the car's bus behind it.

S0..S9 set the bit rate · O opens, L opens listen-only, C closes · Z1 adds milliseconds to frames · t T r R send ·
V, v and N tell version and serial number, F the state of the controller. CR takes a command, BEL refuses it.
"""

import os
import re
import select
import threading
import tty
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from agent.blocks import ERROR, EXTENDED, FD, REMOTE, Frames
from agent.clock import NS_PER_S, monotonic_ns

BIT_RATES: Final = {
    ord(str(i)): rate
    for i, rate in enumerate((10_000, 20_000, 50_000, 100_000, 125_000, 250_000, 500_000, 800_000, 1_000_000, 83_300))
}
ROOM: Final = 1 << 16  # bytes kept for a host that does not read; frames beyond are lost, as in an adapter
TICKS: Final = 60_000  # ms after which the adapter's stamps begin anew
BUS_OFF: Final = b"FA4\r"  # error warning, error passive, bus error
_TAKEN, _REFUSED = b"\r", b"\a"
_SEND: Final = re.compile(rb"(?:t([0-9A-Fa-f]{3})|T([0-9A-Fa-f]{8}))([0-8])((?:[0-9A-Fa-f]{2})*)")
_ASK: Final = re.compile(rb"(?:r[0-9A-Fa-f]{3}|R[0-9A-Fa-f]{8})[0-8]")
_TOLD: Final = {b"V": b"V1013\r", b"v": b"v0104\r", b"N": b"NRW01\r"}
_SETTING: Final = re.compile(rb"[MmXUQW][0-9A-Fa-f]*|s[0-9A-Fa-f]{4}")  # filters and the like: taken, not obeyed

Hear = Callable[[int, bytes], list[tuple[int, bytes]]]


class SlcanAdapter:
    """The adapter, served by a thread. `path` is a link that stays when it is plugged in again.

    `bit_rate` is that of the bus behind it: at any other it hears nothing. `hear` takes what the host sends and
    returns the frames that answer it.
    """

    def __init__(self, path: Path, *, bit_rate: int = 500_000, hear: Hear | None = None) -> None:
        self.path = path
        self.bit_rate = bit_rate
        self.said: list[bytes] = []  # the commands of the host, without the frames it sent
        self.sent = 0  # frames given to the host
        self.lost = 0  # frames that a host which is open did not fetch in time
        self.on_bus = threading.Event()  # a host has opened it
        self._hear = hear
        self._set_rate = self._stamps = self._listening = self._off = False
        self._typed = bytearray()
        self._out = bytearray()
        self._lock = threading.Lock()
        self._ours = self._theirs = -1
        self._wake_read, self._wake_write = os.pipe()
        self._stopping = False
        self.plug()
        self._thread = threading.Thread(target=self._serve, name="slcan", daemon=True)
        self._thread.start()

    def plug(self) -> None:
        """Make the adapter appear, under another number than before, off the bus."""
        with self._lock:
            if self._ours >= 0:
                return
            self._ours, self._theirs = os.openpty()
            tty.setraw(self._theirs)
            os.set_blocking(self._ours, False)
            part = self.path.with_name(self.path.name + ".new")
            part.symlink_to(os.ttyname(self._theirs))
            part.replace(self.path)
        self._wake()

    def unplug(self) -> None:
        """Make the adapter vanish under the host's hands."""
        with self._lock:
            self._leave()
            self._set_rate = self._stamps = False
            self._typed.clear()
            self.path.unlink(missing_ok=True)
            for fd in (self._ours, self._theirs):
                if fd >= 0:
                    os.close(fd)
            self._ours = self._theirs = -1
        self._wake()

    def stop(self) -> None:
        """End the thread and remove the device."""
        self._stopping = True
        self._wake()
        self._thread.join()
        self.unplug()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def bus_off(self, off: bool) -> None:
        """Switch the controller off the bus after too many errors, or let it back."""
        self._off = off

    def put(self, frames: Frames, t_ns: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        """Give classic frames that were on the bus at the monotonic times `t_ns`; error and FD frames it cannot say."""
        with self._lock:
            if self.on_bus.is_set() and self._set_rate and not self._off:
                text = self._lines(frames, t_ns)
                if len(self._out) + sum(map(len, text)) > ROOM:
                    self.lost += len(text)
                else:
                    self._out += b"".join(text)
                    self.sent += len(text)
            self._flush()

    def flush(self) -> None:
        """Give on what the host has not fetched yet."""
        with self._lock:
            self._flush()

    @property
    def held(self) -> int:
        """How many bytes wait for the host."""
        return len(self._out)

    def _lines(self, frames: Frames, t_ns: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[bytes]:
        sayable = np.flatnonzero(frames.flags & (ERROR | FD) == 0)
        ticks = (t_ns[sayable] // 1_000_000 % TICKS).tolist()
        return [
            b"%b%b%b"
            % (
                _head(int(frames.id[i]), int(frames.flags[i]), int(frames.len[i])),
                b"" if frames.flags[i] & REMOTE else frames.data[i, : frames.len[i]].tobytes().hex().upper().encode(),
                b"%04X\r" % tick if self._stamps else b"\r",
            )
            for i, tick in zip(sayable.tolist(), ticks, strict=True)
        ]

    def _flush(self) -> None:
        if self._ours >= 0 and self._out:
            with suppress(BlockingIOError):
                del self._out[: os.write(self._ours, self._out)]

    def _leave(self) -> None:
        self.on_bus.clear()
        self._out.clear()

    def _wake(self) -> None:
        os.write(self._wake_write, b"x")

    def _serve(self) -> None:
        while not self._stopping:
            with self._lock:
                ours = self._ours
            watched = [self._wake_read] if ours < 0 else [self._wake_read, ours]
            try:
                ready, _, _ = select.select(watched, [], [])
            except OSError:  # unplugged while waiting
                continue
            if self._wake_read in ready:
                os.read(self._wake_read, 64)
            with self._lock:
                if self._ours >= 0 and self._ours == ours and ours in ready:
                    with suppress(OSError):
                        self._receive(os.read(ours, 4096))

    def _receive(self, data: bytes) -> None:
        *commands, rest = bytes(self._typed + data).split(b"\r")
        self._typed = bytearray(rest[-64:])
        for command in commands:
            self._out += self._obey(command)
        self._flush()

    def _obey(self, command: bytes) -> bytes:
        """Return what the adapter says to one command."""
        kind = command[:1]
        if kind in (b"t", b"T", b"r", b"R"):
            return self._send(command)
        if command:
            self.said.append(command)
        if kind in (b"O", b"L") and not command[1:]:
            if self.on_bus.is_set():
                return _REFUSED
            self._listening = kind == b"L"
            self.on_bus.set()
            return _TAKEN
        if command == b"C":
            was_open = self.on_bus.is_set()
            self._leave()
            return _TAKEN if was_open else _REFUSED
        if kind == b"S" and command[1:] and command[1] in BIT_RATES and not command[2:] and not self.on_bus.is_set():
            self._set_rate = BIT_RATES[command[1]] == self.bit_rate
            return _TAKEN
        if command in (b"Z0", b"Z1") and not self.on_bus.is_set():
            self._stamps = command == b"Z1"
            return _TAKEN
        if command == b"F":
            return (BUS_OFF if self._off else b"F00\r") if self.on_bus.is_set() else _REFUSED
        return _TOLD.get(command) or (_TAKEN if not command or _SETTING.fullmatch(command) else _REFUSED)

    def _send(self, command: bytes) -> bytes:
        """Put the host's frame on the bus; the answers come behind the acknowledgement."""
        frame = _SEND.fullmatch(command)
        if (frame is None or len(frame[4]) != 2 * int(frame[3])) and not _ASK.fullmatch(command):
            return _REFUSED
        if not self.on_bus.is_set() or self._listening or self._off or not self._set_rate:
            return _REFUSED
        taken = b"z\r" if command[:1].islower() else b"Z\r"
        if frame is None or self._hear is None:
            return taken
        stamp = b"%04X" % (monotonic_ns() * 1000 // NS_PER_S % TICKS) if self._stamps else b""
        answers = self._hear(int(frame[1] or frame[2], 16), bytes.fromhex(frame[4].decode()))
        said = [
            _head(i, EXTENDED if i > 0x7FF else 0, len(data)) + data.hex().upper().encode() + stamp + b"\r"
            for i, data in answers
        ]
        return taken + b"".join(said)


def _head(identifier: int, flags: int, length: int) -> bytes:
    """Write a frame's letter, identifier and length."""
    if flags & EXTENDED:
        return b"%c%08X%d" % (b"R" if flags & REMOTE else b"T", identifier, length)
    return b"%c%03X%d" % (b"r" if flags & REMOTE else b"t", identifier, length)
