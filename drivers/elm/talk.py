"""One exchange after the other with an adapter, each with a total deadline, resumable at any moment.

`begin` sends, `wait` receives until the prompt, the deadline or the caller's own time-out; an exchange that is not
over stays under way. Nothing the adapter does, and no amount that it sends, prolongs an exchange.
"""

from collections.abc import Callable
from typing import Final

from agent.clock import NS_PER_S, monotonic_ns
from drivers.elm.command import Command, Listen
from drivers.elm.line import Line
from drivers.elm.reply import Reply

LIMIT: Final = 16384  # bytes; the longest real answer (ten PIDs of eight units, a VIN) has some hundreds
STRAY_QUIET_S: Final = 0.1  # silence after which what came unasked is whole
SYNCHRONISING: Final = ("ATI", "ATZ")  # commands that may lose their first letter: nothing they could become is harmful
_BLANK: Final = b"\r\n> \0"
_NOISE: Final = bytes.maketrans(b"\n", b"\r")


class Talker:
    """Exchange commands and replies over a line. `quiet_s` is set for adapters that give no prompt."""

    def __init__(self, line: Line, clock: Callable[[], int] = monotonic_ns) -> None:
        self._line = line
        self._clock = clock
        self.quiet_s: float | None = None
        self._request: Command | Listen | None = None
        self._sent_ns = 0
        self._deadline_ns = 0
        self._last_ns = 0
        self._partial = bytearray()
        self._reply = Reply(0, 0)
        self._size = 0
        self._stray_prompt = False

    @property
    def busy(self) -> bool:
        """Say whether an exchange is under way."""
        return self._request is not None

    def begin(self, request: Command | Listen) -> None:
        """Send a command, or start to listen.

        A command is held back when the adapter has said something since the last reply: it may be busy, and would eat
        the first character. What it said is then the reply, ended as if listening.
        """
        stray = self._stray() if isinstance(request, Command) else b""
        if isinstance(request, Command):
            if stray.strip(_BLANK) and request.text not in SYNCHRONISING:
                request = Listen(request.deadline_s, STRAY_QUIET_S)
            else:
                self._line.write(request.text.encode("ascii") + b"\r")
                stray = b""
        self._request = request
        self._sent_ns = self._last_ns = self._clock()
        self._deadline_ns = self._sent_ns + int(request.deadline_s * NS_PER_S)
        self._partial.clear()
        self._reply = Reply(self._sent_ns, self._sent_ns)
        self._size = len(stray)
        self._stray_prompt = bool(stray) and self._take(stray, request)

    def wait(self, timeout_s: float) -> Reply | None:
        """Return the reply when the exchange is over, None when `timeout_s` passed first."""
        request = self._request
        assert request is not None
        until_ns = self._clock() + int(timeout_s * NS_PER_S)
        if self._stray_prompt:
            self._stray_prompt, self._reply.prompted = False, True
            return self._finish(self._clock())
        while True:
            now_ns = self._clock()
            end_ns = min(self._deadline_ns, self._quiet_end_ns(request))
            if now_ns >= end_ns:
                return self._finish(now_ns)
            if now_ns >= until_ns:
                return None
            data = self._line.read((min(end_ns, until_ns) - now_ns) / NS_PER_S)
            if data:
                self._last_ns = self._clock()
                self._size += len(data)
                if self._take(data, request):
                    self._reply.prompted = True
                    return self._finish(self._last_ns)
                if self._size > LIMIT:
                    return self._finish(self._last_ns)

    def drop(self) -> None:
        """Forget the exchange under way."""
        self._request = None

    def _stray(self) -> bytes:
        """Take what has come unasked; a flood does not hold us here."""
        stray = b""
        for _ in range(4):
            data = self._line.read(0.0)
            stray += data
            if not data:
                break
        return stray

    def _quiet_end_ns(self, request: Command | Listen) -> int:
        """Say when silence ends the exchange: listening always, commands once a line came where prompts are missing."""
        if isinstance(request, Listen):
            return self._last_ns + int(request.quiet_s * NS_PER_S)
        if self.quiet_s is None or not self._told():
            return self._deadline_ns
        return self._last_ns + int(self.quiet_s * NS_PER_S)

    def _told(self) -> bool:
        return any(not line.startswith(("SEARCHING", "BUS INIT")) for _, line in self._reply.lines)

    def _take(self, data: bytes, request: Command | Listen) -> bool:
        """Cut `data` into lines; say whether a prompt came that ends an answer. A prompt after nothing ends nothing."""
        for byte in data.translate(_NOISE, b"\0"):
            if byte not in b"\r>":
                self._partial.append(byte)
                continue
            self._end_line(request)
            if byte == 0x3E and (self._reply.lines or isinstance(request, Listen)):
                return True
        return False

    def _end_line(self, request: Command | Listen) -> None:
        line = self._partial.decode("ascii", "replace").strip().upper()
        self._partial.clear()
        if not line:
            return
        if isinstance(request, Command) and not self._reply.lines and not self._reply.echoed:
            bare = line.replace(" ", "")
            if bare == request.text:
                self._reply.echoed = True
                return
        self._reply.lines.append((self._last_ns, line))

    def _finish(self, end_ns: int) -> Reply:
        request, self._request = self._request, None
        if isinstance(request, Command) and request.text.startswith("AT"):  # clones leave out the CR after OK
            self._end_line(request)  # of data only whole lines count
        self._reply.end_ns = end_ns
        return self._reply
