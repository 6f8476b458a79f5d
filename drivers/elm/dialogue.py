"""Conversations with an adapter as generators: they yield what to send and are given the reply.

Written without I/O, so that the driver can stop and go on between any two lines of a conversation, and tests can hold
one in virtual time.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Final, TypeVar

from drivers.elm.command import Command, Listen
from drivers.elm.reply import OUT_OF_STEP, Action, Failure, Reply
from drivers.elm.talk import SYNCHRONISING, Talker

T = TypeVar("T")
SETTLE_TRIES: Final = 2

Script = Generator[Command | Listen, Reply, T]


@dataclass(frozen=True, slots=True)
class Timing:
    """Total deadlines in seconds. Data sheet: ATZ takes about 1 s, a search through all protocols up to 10 s."""

    identify_s: float = 0.7
    reset_s: float = 2.5
    command_s: float = 1.0
    answer_s: float = 2.0  # K-line: 1 s of bus and a slow control unit
    search_s: float = 12.0
    late_s: float = 1.5  # clones send OK after python-OBD's deadline of 1 s (python-OBD#226)
    quiet_s: float = 0.25  # adapters without a prompt: silence that ends an answer


@dataclass(slots=True)
class Adapter:
    """What was found out about an adapter: facts for the technician, and what the driver may use."""

    name: str = ""  # as it calls itself
    baud: int = 0
    echo: bool = False  # ATE0 is not obeyed
    prompts: bool = True
    headers: bool = True
    spaces: bool = False  # ATS0 is not obeyed
    voltage: bool = False  # ATRV works
    counted: bool | None = None  # understands the count of answers after a request; None until a vehicle answers
    most: int | None = None  # parameters that a request may carry; None until a vehicle answers
    refused: list[str] = field(default_factory=list)  # commands its version must have
    clone: bool = False

    @property
    def quirks(self) -> list[str]:
        """Say what its settings lack, in a few words each."""
        return [
            text
            for text, lacking in (
                ("echo stays on", self.echo),
                ("no prompt", not self.prompts),
                ("no headers", not self.headers),
                ("spaces stay", self.spaces),
                ("no voltage", not self.voltage),
                (f"refuses {' '.join(self.refused)}", bool(self.refused)),
            )
            if lacking
        ]

    def told(self) -> dict[str, str]:
        """Return what it is, for programs: name, baud, lacks, and "clone" where it is one."""
        known = {"name": self.name, "baud": str(self.baud), "lacks": ", ".join(self.quirks)}
        return known | ({"clone": "yes"} if self.clone else {})

    def describe(self) -> str:
        """Say in one line what it is and what it lacks."""
        lacks = [
            *self.quirks,
            *(["no count of answers"] if self.counted is False else []),
            *(["one parameter a request"] if self.most == 1 else []),
        ]
        kind = "clone" if self.clone else "adapter"
        return f"{self.name or 'nameless'} {kind} at {self.baud} baud" + (f": {', '.join(lacks)}" if lacks else "")


class AdapterLost(Exception):  # noqa: N818 - a turn of the conversation, not an error that anyone meets
    """The adapter's settings are gone or doubtful: bring it up from the start."""

    def __init__(self, why: Failure, text: str = "") -> None:
        super().__init__(why.name)
        self.why = why
        self.text = text  # what was asked


class Hushed(Exception):  # noqa: N818 - see above
    """Polling was paused: no further request may be sent."""


class Dialogue:
    """Ask and be sure of the answer, or say that there was none. Counts what went wrong on the way."""

    def __init__(self, talker: Talker, timing: Timing, hushed: Callable[[], bool]) -> None:
        self.timing = timing
        self.adapter = Adapter()
        self.counters: dict[str, int] = {}
        self._talker = talker
        self._hushed = hushed
        self._in_step = True

    def count(self, what: str, n: int = 1) -> None:
        """Add `n` to a counter."""
        if n:
            self.counters[what] = self.counters.get(what, 0) + n

    def set_prompts(self, prompts: bool) -> None:
        """Note whether the adapter gives prompts; without them silence after a line ends an answer."""
        self.adapter.prompts = prompts
        self._talker.quiet_s = None if prompts else self.timing.quiet_s

    def ask(self, text: str, deadline_s: float) -> Script[Reply]:
        """Send `text` and return its reply. Requests go out only while adapter and driver are in step.

        Without a prompt in time: listen for a late one, else get into step with ATI (never with an empty line, which
        repeats the last request) and ask once more; the reply may still be without a prompt then.
        Raises AdapterLost on texts that mean lost settings and when step is lost for good, Hushed for requests to the
        vehicle while paused.
        """
        if not self._in_step and text not in SYNCHRONISING and not (yield from self.settle()):
            raise AdapterLost(OUT_OF_STEP, text)
        reply = yield from self._send(text, deadline_s)
        if not self._in_step and text not in SYNCHRONISING:
            reply = yield from self._mend(text, deadline_s, reply)
        failure = reply.failure
        self.count("unreadable_lines", reply.garbled_lines if text.startswith("AT") else reply.odd_lines)
        if failure is not None and text not in SYNCHRONISING:
            self.count(failure.name)
            if failure.action is Action.RESET:
                raise AdapterLost(failure, text)
        return reply

    def command(self, text: str) -> Script[Reply]:
        """Ask the adapter itself."""
        return (yield from self.ask(text, self.timing.command_s))

    def request(self, text: str) -> Script[Reply]:
        """Ask the vehicle."""
        return (yield from self.ask(text, self.timing.answer_s))

    def settle(self) -> Script[bool]:
        """Make sure with ATI that the next reply will belong to the next command; say whether it worked."""
        for _ in range(SETTLE_TRIES):
            self.count("resyncs")
            yield Listen(self.timing.late_s, self.timing.quiet_s)
            yield from self._send("ATI", self.timing.command_s)
            if self._in_step:
                return True
        return False

    def _send(self, text: str, deadline_s: float) -> Script[Reply]:
        """Send, and note whether the reply leaves us in step: ended by a prompt, and not because we came too early."""
        if self._hushed() and not text.startswith("AT"):
            raise Hushed
        reply = yield Command(text, deadline_s)
        ended = reply.prompted or (not self.adapter.prompts and bool(reply.lines))
        self._in_step = ended and "STOPPED" not in reply.text
        return reply

    def _mend(self, text: str, deadline_s: float, reply: Reply) -> Script[Reply]:
        """Get into step after a reply without a prompt, or STOPPED, and ask again."""
        if not reply.prompted:
            self.count("without_prompt")
            late = yield Listen(self.timing.late_s)
            if late.prompted:
                self.count("late")
                reply.lines += late.lines
                reply.prompted, reply.end_ns, self._in_step = True, late.end_ns, True
                return reply
        self.count("resyncs")
        sync = yield from self._send("ATI", self.timing.command_s)
        if not sync.prompted and _sensible(sync) and _sensible(reply):
            self.set_prompts(False)
            self._in_step = True
        if not self._in_step and not (yield from self.settle()):
            raise AdapterLost(OUT_OF_STEP, text)
        again = yield from self._send(text, deadline_s)
        if again.prompted or self._in_step:
            return again
        if text.startswith("AT") and again.ok:
            self.set_prompts(False)  # it gives prompts at times, not after this
            self._in_step = True
        elif not (yield from self.settle()):
            raise AdapterLost(OUT_OF_STEP, text)
        return again


def _sensible(reply: Reply) -> bool:
    """Say whether every line is one that an adapter writes."""
    return bool(reply.lines) and (reply.odd_lines == 0 or reply.failure is not None)
