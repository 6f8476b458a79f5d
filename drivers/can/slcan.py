"""slcan adapters on a serial line: a set-up dialogue, then text that a kernel parses in batches.

Listen-only is the adapter's command L; O, which acknowledges frames on the bus, only where sending is allowed.
Frames are stamped by the adapter's own milliseconds where it has them (command Z1), else by when their bytes came.
"""

import os
import select
from contextlib import suppress
from typing import Any, Final

import numpy as np

from agent.blocks import Frames
from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import DriverError
from drivers.can.outgoing import Outgoing
from drivers.can.slcan_kernel import BEGUN, FRAMES, GARBAGE, LENGTH, LONGEST, REFUSED, WRAPS, parse, stamp
from drivers.can.wire import CanSettings, Pause, forbid_unless, no_frames, room, views
from drivers.decode.profile import IdFilter

TEXT_BYTES: Final = 1 << 16  # 0.3 s of text at 8,000 frames/s
REPLY_S: Final = 0.25  # adapters answer within a USB frame or two; Bluetooth ones within 0.1 s
BOOT_S: Final = 2.0  # Arduino-based adapters start anew when the line is opened
LISTEN_S: Final = 0.5  # at one bit rate; a running car sends hundreds of frames in it
ENOUGH: Final = 3  # frames without an error that make a bit rate right

RATES: Final = {
    500_000: b"S6", 250_000: b"S5", 125_000: b"S4", 1_000_000: b"S8", 100_000: b"S3", 800_000: b"S7",
    83_300: b"S9", 50_000: b"S2", 20_000: b"S1", 10_000: b"S0",
}  # fmt: skip
LIKELY: Final = (500_000, 250_000, 125_000, 1_000_000, 100_000, 83_300, 50_000)  # as found in cars, most likely first
HUNG_UP: Final = select.POLLHUP | select.POLLERR | select.POLLNVAL
_CR, _BEL = 13, 7
_ON: Final = {True: b"O", False: b"L"}


class Slcan:
    """One adapter; `settings.channel` is the serial line, `settings.bit_rate` 0 finds the bit rate by listening."""

    def __init__(self, settings: CanSettings) -> None:
        self.name = f"slcan:{settings.channel}"
        self.notes: list[str] = []
        self.bit_rate: int | None = settings.bit_rate or None
        self._settings = settings
        self._window_ns = round(settings.window_s * NS_PER_S)
        self._port: Any = None
        self._fd = -1
        self._poll = select.poll()
        self._pause = Pause()
        self._text = np.zeros(TEXT_BYTES, np.uint8)
        self._into = memoryview(self._text.data)
        self._line = np.zeros(LONGEST, np.uint8)
        self._state = np.zeros(8, np.int64)
        self._clock = np.zeros(5, np.int64)
        self._frames = room(64)
        self._ticks = np.zeros(len(self._frames.t), np.int64)
        self._left = (0, 0, 0, 0)  # text parsed up to, text read, since when, until when
        self._since_ns = 0

    def open(self, filters: list[IdFilter]) -> None:
        """Open the line and set the adapter up; raise DriverError when there is none, or no traffic to find."""
        import serial

        self.close()
        self._pause.begin()
        self.notes = []
        try:
            self._port = serial.serial_for_url(
                self._settings.channel, self._settings.serial_baud, timeout=0, write_timeout=REPLY_S, exclusive=True
            )
            self._fd = self._port.fileno()
            os.set_blocking(self._fd, False)
        except (OSError, ValueError, AttributeError) as error:  # SerialException is an OSError
            self.close()
            raise DriverError(
                f"{self.name}: cannot open: {error}; check the line's name and its permissions"
            ) from error
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        try:
            if self.bit_rate is None:
                self.bit_rate = self._find_bit_rate()
            self._set_up(self.bit_rate, _ON[self._settings.transmit])
        except DriverError:
            self.close()
            raise

    def filter(self, filters: list[IdFilter]) -> None:
        """Let all pass: the filters of adapters differ too much to rely on."""

    def read(self, timeout_s: float) -> Frames:
        """Return what has come since the last call: at once after a busy window, else when something comes."""
        if self._port is None:
            raise DriverError(f"{self.name}: is not open")
        at, stop, since_ns, now_ns = self._left
        if at < stop:
            return self._parsed(at, stop, since_ns, now_ns)
        missing_ns = self._window_ns - (monotonic_ns() - self._since_ns)
        if missing_ns > 0 and self._pause.wait(min(missing_ns / NS_PER_S, timeout_s)):
            return no_frames()
        since_ns = self._since_ns
        got = self._take()
        if got == 0:
            rest_s = timeout_s - max(missing_ns, 0) / NS_PER_S
            if rest_s <= 0 or not (ready := self._poll.poll(max(1, round(rest_s * 1000)))):
                return no_frames()
            since_ns = monotonic_ns()
            if self._pause.wait(min(self._window_ns / NS_PER_S, rest_s)):
                return no_frames()
            got = self._take()
            if got == 0 and ready[0][1] & HUNG_UP:
                raise DriverError(f"{self.name}: the line has hung up; is the adapter unplugged?")
        return self._parsed(0, got, since_ns, self._since_ns)

    def send(self, frame: Outgoing) -> int:
        """Send one frame."""
        forbid_unless(self._settings.transmit, self.name)
        head = f"T{frame.id:08X}" if frame.extended else f"t{frame.id:03X}"
        self._write(f"{head}{len(frame.data)}{frame.data.hex().upper()}\r".encode())
        return monotonic_ns()

    def close(self) -> None:
        """Take the adapter off the bus and close the line."""
        self._pause.end()
        port, self._port, self._fd = self._port, None, -1
        if port is not None:
            with suppress(OSError):  # it is gone: nothing to take off the bus
                os.write(port.fileno(), b"C\r")
            port.close()

    @property
    def counts(self) -> dict[str, int]:
        """Lines that were no frame, and commands or frames that the adapter refused."""
        return {"garbage": int(self._state[GARBAGE]), "refused": int(self._state[REFUSED])}

    def _parsed(self, at: int, stop: int, since_ns: int, now_ns: int) -> Frames:
        f = self._frames
        reached = parse(self._text, at, stop, self._line, self._state, f.t, self._ticks, f.id, f.flags, f.len, f.data)
        n = int(self._state[FRAMES])
        if n:
            stamp(f.t[:n], self._ticks[:n], stop, since_ns, now_ns, self._clock)
        self._left = (reached, stop, since_ns, now_ns)
        return views(f, n)

    def _take(self) -> int:
        """Read what waits into the text; return how many bytes."""
        got = 0
        while got < TEXT_BYTES:
            try:
                count = os.readv(self._fd, [self._into[got:]])
            except BlockingIOError:
                break
            except OSError as error:
                raise DriverError(f"{self.name}: cannot read: {error.strerror}; is the adapter unplugged?") from error
            if count == 0:  # pyserial sets VMIN = 0: nothing waits, or the line has hung up; poll tells them apart
                break
            got += count
        self._since_ns = monotonic_ns()
        return got

    def _write(self, text: bytes) -> None:
        if self._port is None:
            raise DriverError(f"{self.name}: is not open")
        try:
            self._port.write(text)
        except OSError as error:
            raise DriverError(f"{self.name}: cannot write: {error}; is the adapter unplugged?") from error

    # --- set-up

    def _find_bit_rate(self) -> int:
        """Listen at each likely bit rate, never acknowledging, until frames come."""
        for rate in LIKELY:
            self._set_up(rate, _ON[False])
            garbage, n = int(self._state[GARBAGE]), 0
            deadline_ns = monotonic_ns() + round(LISTEN_S * NS_PER_S)
            while n < ENOUGH and (left_ns := deadline_ns - monotonic_ns()) > 0:
                n += len(self.read(left_ns / NS_PER_S).t)
            if n >= ENOUGH and int(self._state[GARBAGE]) == garbage:
                self.notes.append(f"bit rate {rate} found by listening")
                return rate
        tried = ", ".join(str(rate) for rate in LIKELY)
        raise DriverError(
            f"{self.name}: no frames at any of {tried} bit/s; switch the ignition on, check the wiring,"
            " or set bit_rate for this bus"
        )

    def _set_up(self, rate: int, mode: bytes) -> None:
        """Reset the adapter, set bit rate and stamps, go on the bus; one that never answers is taken as it is."""
        if rate not in RATES:
            known = ", ".join(str(r) for r in sorted(RATES))
            raise DriverError(f"{self.name}: bit_rate = {rate} is none that slcan adapters know ({known})")
        self._silence()
        answer = self._command(RATES[rate])
        if not answer:  # asleep, still starting, or so slow that it refuses what silenced it
            self._pause.wait(BOOT_S)
            self._silence()
            answer = self._command(RATES[rate])
        if answer is False:
            raise DriverError(f"{self.name}: the adapter refuses {rate} bit/s; choose another bit_rate or adapter")
        silent = answer is None
        self._command(b"Z1")  # many adapters have no stamps: refused is fine
        self._forget()
        answer = self._command(mode)
        if answer is False and mode == _ON[False]:
            raise DriverError(f"{self.name}: the adapter cannot listen only; transmit = true would let it acknowledge")
        if answer is False:
            raise DriverError(f"{self.name}: the adapter refuses to go on the bus; unplug it and plug it in again")
        if silent and answer is None:
            note = "the adapter answers no command; whether it listens only cannot be known"
            if note not in self.notes:
                self.notes.append(note)

    def _silence(self) -> None:
        """End a half-written command, take the adapter off the bus, and drop what it still says."""
        self._write(b"\r\rC\r")
        deadline_ns = monotonic_ns() + round(REPLY_S * NS_PER_S)
        while monotonic_ns() < deadline_ns and self._poll.poll(round(REPLY_S * 200)):
            self._take()

    def _command(self, command: bytes) -> bool | None:
        """Send one command: True when it was taken, False when refused, None when nothing came in time."""
        self._write(command + b"\r")
        deadline_ns = monotonic_ns() + round(REPLY_S * NS_PER_S)
        while (left_ns := deadline_ns - monotonic_ns()) > 0:
            if self._poll.poll(max(1, left_ns // 1_000_000)):
                got = self._take()
                replies = np.flatnonzero((self._text[:got] == _CR) | (self._text[:got] == _BEL))
                if len(replies):
                    at = int(replies[0]) + 1
                    self._left = (at, got, self._since_ns, self._since_ns)  # a busy bus speaks at once
                    return bool(self._text[at - 1] == _CR)
        return None

    def _forget(self) -> None:
        """Begin a new stretch of text."""
        self._left = (0, 0, 0, 0)
        self._state[LENGTH] = 0
        self._clock[[BEGUN, WRAPS]] = 0
        self._since_ns = monotonic_ns()
