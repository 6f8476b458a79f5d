"""A fake ELM327 in front of a simulated car: bytes in, bytes out at their times; and the same on a pty.

It obeys the commands of the data sheet that matter to a reader, prints answers as the real one does for CAN (11 and
29 bits), ISO 9141-2, KWP and J1850, and has every fault of sim/elm_faults.py. It counts what no reader should do.
"""

import contextlib
import heapq
import os
import re
import select
import threading
import tty
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from agent.clock import monotonic_ns
from sim.elm_car import Car, Message, frames_of
from sim.elm_faults import FAULTS

NS: Final = 1_000_000_000
READING: Final = (0x01, 0x02, 0x03, 0x07, 0x09, 0x0A)


@dataclass(frozen=True, slots=True)
class Latency:
    """How slow a real adapter is, in seconds; all 0 in tests of behaviour.

    `unit_s` until a control unit answers, `wait_s` for more answers after the last one unless their count was given,
    `search_s` a protocol search, `baud` the serial line's rate (0: infinitely fast).
    """

    command_s: float = 0.0
    unit_s: float = 0.0
    wait_s: float = 0.0
    search_s: float = 0.0
    reset_s: float = 0.0
    baud: int = 0


# What a good adapter on a car of today shows at 38,400 baud: some 8 ms for the unit, 30 ms of adaptive waiting.
REAL: Final = Latency(command_s=0.002, unit_s=0.008, wait_s=0.03, search_s=3.0, reset_s=0.8, baud=38400)


@dataclass(slots=True)
class _State:
    """Settings that a reset loses."""

    echo: bool = True
    headers: bool = False
    feeds: bool = True
    spaces: bool = True
    protocol: str = "0"
    open: bool = False


class FakeElm:
    """The adapter. Give it what the host writes, take what it says; time is whatever the caller says it is."""

    def __init__(self, car: Car, latency: Latency | None = None, name: str = "ELM327 v2.1") -> None:
        self.car = car
        self.latency = latency or Latency()
        self.name = name
        self.baud = 38400  # at which it is readable, if the line tells it the host's
        self.host_baud = 38400
        self.state = _State()
        self.now_ns = 0
        self.faults: dict[str, int] = {}  # name -> requests to the vehicle when it began
        self.gone = False  # unplugged
        self.requests = 0
        self.forbidden: list[str] = []  # writes, clears, and commands that lock clones up
        self.sent: list[str] = []  # everything the host asked
        self.empty_lines = 0
        self.volts: Callable[[int], float] = lambda t_ns: 13.8
        self.can_blocked = False
        self.notes: dict[str, Any] = {}  # what faults remember
        self._typed = bytearray()
        self._out: list[tuple[int, int, bytes]] = []
        self._order = 0
        self._free_ns = 0  # until when it is busy

    def inject(self, name: str) -> None:
        """Let the fault `name` begin; KeyError for one that is not in the catalogue."""
        fault = FAULTS[name]
        self.faults[name] = self.requests
        if fault.begin is not None:
            fault.begin(self)

    def clear(self, name: str) -> None:
        """End a fault."""
        self.faults.pop(name, None)

    def reset(self) -> None:
        """Lose all settings, as after ATZ or a dip of the supply."""
        self.state = _State()

    def say(self, at_ns: int, data: bytes) -> None:
        """Say something at a time of its own."""
        self._order += 1
        heapq.heappush(self._out, (at_ns, self._order, data))

    def next_ns(self) -> int | None:
        """Return when it says something next."""
        return self._out[0][0] if self._out else None

    def take(self, now_ns: int) -> bytes:
        """Return what it has said until now."""
        said = b""
        while self._out and self._out[0][0] <= now_ns:
            said += heapq.heappop(self._out)[2]
        return said

    def receive(self, data: bytes, now_ns: int) -> None:
        """Take what the host writes; a character while it is busy stops what it does."""
        if self.host_baud != self.baud:
            self.say(now_ns, bytes(b ^ 0x95 | 0x80 for b in data))
            return
        for byte in data:
            if byte == 0x0D:
                text = self._typed.decode("ascii", "replace")
                self._typed.clear()
                self._obey(text, now_ns)
            elif byte >= 0x20:  # non-printing characters are ignored
                if self._free_ns > now_ns:
                    self._stop(now_ns)
                    continue
                self._typed.append(byte)

    def _stop(self, now_ns: int) -> None:
        self._out.clear()
        self._free_ns = 0
        self.say(now_ns, b"STOPPED\r\r>")

    def _obey(self, typed: str, now_ns: int) -> None:
        text = typed.replace(" ", "").upper()
        if not text:
            self.empty_lines += 1
            text = self.sent[-1] if self.sent else "ATI"
        self.sent.append(text)
        self.now_ns = now_ns
        echo = typed + "\r" if self.state.echo else ""
        for name in self.faults:
            heard = FAULTS[name].heard
            text = heard(text) if heard is not None else text
        begin_s = self.latency.command_s + self._carry_s(len(typed) + 1)
        body, extra_s = self._answer(text, now_ns + int(begin_s * NS))
        end = "\r\n" if self.state.feeds else "\r"
        whole = "".join(line + end for line in body) + end + ">"
        parts = [(0.0, (echo + whole).encode("ascii"))]
        for name in list(self.faults):
            change = FAULTS[name].change
            if change is not None:
                parts = change(self, text, parts)
        at_ns = now_ns + int((begin_s + extra_s) * NS)
        for delay_s, raw in parts:
            at_ns += int((delay_s + self._carry_s(len(raw))) * NS)
            self.say(at_ns, raw)
        self._free_ns = at_ns

    def _carry_s(self, characters: int) -> float:
        return 10.0 * characters / self.latency.baud if self.latency.baud else 0.0

    def _answer(self, text: str, now_ns: int) -> tuple[list[str], float]:
        for name in list(self.faults):
            instead = FAULTS[name].instead
            if instead is not None:
                body = instead(self, text)
                if body is not None:
                    return body, 0.0
        return self._adapter(text, now_ns) if text.startswith("AT") else self._vehicle(text, now_ns)

    def _adapter(self, text: str, now_ns: int) -> tuple[list[str], float]:
        state = self.state
        if text == "ATZ":
            self.reset()
            return ["", "", self.name], self.latency.reset_s
        if text == "ATRV":
            return [f"{self.volts(now_ns):.1f}V"], 0.0
        told = {"ATI": self.name, "AT@1": "OBDII to RS232 Interpreter", "ATIGN": "ON", "ATRD": "00"}
        if text in told:
            return [told[text]], 0.0
        if text == "ATDPN":
            found = self.car.protocol if state.open else "0"
            return [("A" if state.protocol == "0" else "") + found], 0.0
        switch = re.fullmatch(r"AT([EHLS])([01])", text)
        if switch:
            name = {"E": "echo", "H": "headers", "L": "feeds", "S": "spaces"}[switch[1]]
            setattr(state, name, switch[2] == "1")
            return ["OK"], 0.0
        protocol = re.fullmatch(r"AT(?:SP|TP)A?([0-9A-C])", text)
        if protocol:
            if text == "ATTPA":
                self.forbidden.append(text)
            state.protocol, state.open = protocol[1], False
            return ["OK"], 0.0
        if text == "ATPC":
            state.open = False
            return ["OK"], 0.0
        if text == "ATFE":
            self.can_blocked = False
            return ["OK"], 0.0
        return (["OK"] if re.fullmatch(r"AT(AT[012]|D|M0|ST[0-9A-F]{2}|AL)", text) else ["?"]), 0.0

    def _vehicle(self, text: str, now_ns: int) -> tuple[list[str], float]:
        request = re.fullmatch(r"((?:[0-9A-F]{2})+)([0-9A-F])?", text)
        if request is None:
            return ["?"], 0.0
        raw = bytes.fromhex(request[1])
        if raw[0] not in READING:
            self.forbidden.append(text)
        self.requests += 1
        state = self.state
        spent_s, lines = 0.0, list[str]()
        if not state.open:
            if state.protocol == "0":
                lines, spent_s = ["SEARCHING..."], self.latency.search_s
            elif self.car.protocol in "345":
                lines, spent_s = ["BUS INIT: ...OK"], self.latency.search_s
            blocked = self.can_blocked and self.car.protocol in "6789"
            if not self.car.awake or blocked or state.protocol not in ("0", self.car.protocol):
                return ["SEARCHING...", "UNABLE TO CONNECT"] if state.protocol == "0" else ["NO DATA"], spent_s
            state.open = True
        messages = self.car.answer(raw, now_ns) if self.car.awake else []
        for name in list(self.faults):
            told = FAULTS[name].told
            if told is not None:
                messages = told(self, raw, messages)
        count = int(request[2], 16) if request[2] else 0
        spent_s += self.latency.unit_s  # units work side by side
        if not count or len(messages) < count:
            spent_s += self.latency.wait_s
        elif len(messages) > count:
            messages = messages[:count]
        if not messages:
            return [*lines, "NO DATA"], spent_s
        return [*lines, *(line for m in messages for line in self._printed(m))], spent_s

    def _printed(self, message: Message) -> list[str]:
        """Print one answer as the settings have it."""
        space = " " if self.state.spaces else ""
        rows = frames_of(self.car.protocol, message)
        can = self.car.protocol in "6789"
        if self.state.headers:
            return [
                (head if can else _spaced(head, space)) + space + _spaced(data.hex().upper(), space) + space
                if len(head) == 3
                else _spaced(head + data.hex().upper(), space) + space
                for head, data in rows
            ]
        if not can:
            return [_spaced(data[:-1].hex().upper(), space) + space for _, data in rows]
        if len(rows) == 1:
            return [_spaced(message.payload.hex().upper(), space) + space]
        parts = [message.payload[:6], *(message.payload[i : i + 7] for i in range(6, len(message.payload), 7))]
        return [f"{len(message.payload):03X}"] + [
            f"{i % 16:X}:{space}{_spaced(part.hex().upper(), space)}{space}" for i, part in enumerate(parts)
        ]


def _spaced(digits: str, space: str) -> str:
    return space.join(digits[i : i + 2] for i in range(0, len(digits), 2))


@dataclass(slots=True)
class Transcript:
    """An adapter that says what one really said: known commands get the recorded bytes, in the order recorded."""

    exchanges: list[tuple[str, bytes]]
    delay_s: float = 0.1
    sent: list[str] = field(default_factory=list)
    gone: bool = False
    host_baud: int = 0
    _used: dict[str, int] = field(default_factory=dict)
    _out: list[tuple[int, bytes]] = field(default_factory=list)
    _typed: bytearray = field(default_factory=bytearray)

    def receive(self, data: bytes, now_ns: int) -> None:
        """Take what the host writes; a command that was never recorded gets '?'."""
        for byte in data:
            if byte != 0x0D:
                self._typed.append(byte)
                continue
            text = self._typed.decode("ascii", "replace").replace(" ", "").upper()
            self._typed.clear()
            self.sent.append(text)
            known = [raw for asked, raw in self.exchanges if asked.replace(" ", "").strip("\r\n\x7f") == text]
            turn = self._used.get(text, 0)
            self._used[text] = turn + 1
            self._out.append(
                (now_ns + int(self.delay_s * NS), known[min(turn, len(known) - 1)] if known else b"?\r\r>")
            )

    def next_ns(self) -> int | None:
        """Return when it says something next."""
        return self._out[0][0] if self._out else None

    def take(self, now_ns: int) -> bytes:
        """Return what it has said until now."""
        said = b"".join(raw for at_ns, raw in self._out if at_ns <= now_ns)
        self._out = [waiting for waiting in self._out if waiting[0] > now_ns]
        return said


class Speaking(Protocol):
    """What can sit behind a pty: FakeElm or Transcript."""

    gone: bool

    def receive(self, data: bytes, now_ns: int) -> None:
        """Take what the host writes."""

    def next_ns(self) -> int | None:
        """Return when it says something next."""

    def take(self, now_ns: int) -> bytes:
        """Return what it has said until now."""


class PtyElm:
    """Put an adapter on a pseudo terminal, in a thread. `path` is a link that stays when it is plugged in again."""

    def __init__(self, adapter: Speaking, path: Path) -> None:
        self.adapter = adapter
        self.path = path
        self._lock = threading.Lock()
        self._ours = self._theirs = -1
        self._wake_read, self._wake_write = os.pipe()
        self._stopping = False
        self.plug()
        self._thread = threading.Thread(target=self._serve, name="elm327", daemon=True)
        self._thread.start()

    def plug(self) -> None:
        """Make the device appear, under another number than before."""
        with self._lock:
            self._ours, self._theirs = os.openpty()
            tty.setraw(self._theirs)
            os.set_blocking(self._ours, False)
            self.adapter.gone = False
            part = self.path.with_suffix(".new")
            part.symlink_to(os.ttyname(self._theirs))
            part.replace(self.path)
        os.write(self._wake_write, b"x")

    def unplug(self) -> None:
        """Make the device vanish under the host's hands."""
        with self._lock:
            self.path.unlink(missing_ok=True)
            for fd in (self._ours, self._theirs):
                if fd >= 0:
                    os.close(fd)
            self._ours = self._theirs = -1
        os.write(self._wake_write, b"x")

    def say(self, data: bytes) -> None:
        """Put bytes on the line that nobody asked for."""
        with self._lock:
            if self._ours >= 0:
                os.write(self._ours, data)

    def stop(self) -> None:
        """End the thread and remove the device."""
        self._stopping = True
        os.write(self._wake_write, b"x")
        self._thread.join()
        self.unplug()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _serve(self) -> None:
        while not self._stopping:
            due_ns = self.adapter.next_ns()
            wait_s = None if due_ns is None else max(due_ns - monotonic_ns(), 0) / NS
            with self._lock:
                ours = self._ours
            watched = [self._wake_read] if ours < 0 else [self._wake_read, ours]
            try:
                ready, _, _ = select.select(watched, [], [], wait_s)
            except OSError:  # unplugged while waiting
                continue
            if self._wake_read in ready:
                os.read(self._wake_read, 64)
            with self._lock:
                if self._ours >= 0 and self._ours == ours:
                    self._exchange(ours in ready)
            if self.adapter.gone and self._ours >= 0:
                self.unplug()

    def _exchange(self, readable: bool) -> None:
        if readable:
            with contextlib.suppress(BlockingIOError, OSError):
                self.adapter.receive(os.read(self._ours, 4096), monotonic_ns())
        said = self.adapter.take(monotonic_ns())
        if said and not self.adapter.gone:
            with contextlib.suppress(BlockingIOError):  # nobody reads: a serial line loses it, too
                os.write(self._ours, said)
