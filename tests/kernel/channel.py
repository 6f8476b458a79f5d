"""The host's end of the hand: many commands at once over one socket."""

import base64
import itertools
import json
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.clock import NS_PER_S, monotonic_ns
from tests.kernel.errors import GuestError

PIECE = 32 << 10


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended; a code of 128 + n is signal n, as a shell says it."""

    code: int
    out: str
    err: str


@dataclass(eq=False)
class Process:
    """A command that runs in the guest."""

    command: str
    number: int
    channel: "Channel"
    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)
    code: int | None = None
    on_output: Callable[[bytes], None] | None = None

    def wait(self, limit_s: float = 60.0) -> Result:
        """Wait for its end; raise GuestError when it takes longer, and end it."""
        if not self.until(lambda: self.code is not None, limit_s):
            self.kill()
            raise GuestError(f"still runs after {limit_s:g} s: {self.command}\n{self.said[-2000:]}")
        assert self.code is not None
        return Result(self.code, self.out.decode(errors="replace"), self.err.decode(errors="replace"))

    def until(self, condition: Callable[[], bool], limit_s: float = 60.0) -> bool:
        """Wait until `condition`, looked at whenever the guest says something; return whether it came true."""
        return self.channel.until(condition, limit_s)

    def until_says(self, text: str, limit_s: float = 60.0) -> None:
        """Wait until its output has `text`; raise GuestError when it ends without, or takes longer."""
        wanted = text.encode()
        self.until(lambda: wanted in self.out or wanted in self.err or self.code is not None, limit_s)
        if wanted not in self.out and wanted not in self.err:
            raise GuestError(f"never said {text!r}: {self.command}\n{self.said[-2000:]}")

    def write(self, data: bytes, eof: bool = False) -> None:
        """Give it input."""
        for at in range(0, len(data), PIECE):
            piece = base64.b64encode(data[at : at + PIECE]).decode()
            self.channel.say({"id": self.number, "in": piece})
        if eof:
            self.channel.say({"id": self.number, "eof": 1})

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to it and all that it started in its session."""
        self.channel.say({"id": self.number, "signal": number})

    @property
    def said(self) -> str:
        """All of its output so far, for people."""
        return (bytes(self.out) + bytes(self.err)).decode(errors="replace")


class Channel:
    """The connection to one guest's hand. Where the guest has gone, all commands end with GuestError."""

    def __init__(self, path: Path) -> None:
        self.boot = ""
        self._numbers = itertools.count(1)
        self._processes: dict[int, Process] = {}
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._gone = False
        self._synced = -1
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._reader = threading.Thread(target=self._read, name="guest", daemon=True)
        self._reader.start()

    def greet(self, number: int) -> None:
        """Ask whether the hand is there; it may not be, yet."""
        self.say({"sync": number})

    def answered(self, number: int) -> bool:
        return self._synced >= number

    def start(
        self,
        command: str | list[str],
        cwd: str = "",
        env: dict[str, str] | None = None,
        on_output: Callable[[bytes], None] | None = None,
    ) -> Process:
        """Start a shell line (bash) or a program with arguments, as root; `on_output` gets what it prints at once."""
        words = ["/bin/bash", "-c", command] if isinstance(command, str) else command
        shown = command if isinstance(command, str) else " ".join(words)
        process = Process(shown, next(self._numbers), self, on_output=on_output)
        self._processes[process.number] = process
        self.say({"id": process.number, "run": words, "cwd": cwd, "env": env or {}})
        return process

    def adopt(self, process: Process, on_output: Callable[[bytes], None] | None = None) -> Process:
        """Go on with a command that ran when the guest's memory was taken; what it says from now on is new."""
        again = Process(process.command, process.number, self, on_output=on_output)
        self._numbers = itertools.count(process.number + 1)
        self._processes[again.number] = again
        return again

    def say(self, message: dict[str, object]) -> None:
        try:
            with self._sending:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise GuestError("the guest is off") from error

    def until(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Wait until `condition`; raise GuestError when the guest goes before."""
        ends_ns = monotonic_ns() + round(limit_s * NS_PER_S)
        with self._changed:
            while not condition():
                left_s = (ends_ns - monotonic_ns()) / NS_PER_S
                if self._gone:
                    raise GuestError("the guest has gone")
                if left_s <= 0:
                    return False
                self._changed.wait(min(left_s, 0.2))
        return True

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def _read(self) -> None:
        buffer = bytearray()
        try:
            while came := self._socket.recv(1 << 16):
                buffer += came
                *lines, buffer = buffer.split(b"\n")
                with self._changed:
                    for line in lines:
                        self._take(line)
                    self._changed.notify_all()
        except OSError:
            pass
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            return  # what an earlier boot had begun to say
        if "synced" in message:
            self._synced, self.boot = message["synced"], message["boot"]
            return
        process = self._processes.get(message["id"])
        if process is None:
            return
        for name, kept in (("out", process.out), ("err", process.err)):
            if name in message:
                piece = base64.b64decode(message[name])
                kept.extend(piece)
                if name == "out" and process.on_output is not None:
                    process.on_output(piece)
        if "code" in message:
            code = message["code"]
            process.code = code if code >= 0 else 128 - code
            del self._processes[process.number]
