"""Commands that are answered by files: what they read takes seconds, so each runs in a thread, one after another.

What was read becomes a signed package named after the command; the reply says in a sentence what is in it. A command
that an end of the agent cut is told as failed and never begun again by itself: what ends the agent must not do so at
every start.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from agent.clock import NS_PER_S
from agent.commandmessages import ARGUMENTS, Command
from agent.commands.commands import Answer
from agent.errors import RoadwitnessError
from agent.evidence import verify_package as verifier
from agent.evidence.packager import read_manifest
from agent.incident.folder import PACKAGES, Request, Video, ask
from agent.incident.folder import look as look_at
from agent.known import known
from agent.records import Reply
from agent.store import Store

log = logging.getLogger(__name__)

LONGEST_NS: Final = 900 * NS_PER_S  # the doctor bounds itself to half a minute; beyond this something hangs
CUT: Final = "the agent ended while it was at it; ask again"


class Found(NamedTuple):
    """What was read: files by name, and what they say in one sentence."""

    files: Mapping[str, bytes]
    told: str


# arguments of the command -> what was found; RoadwitnessError or OSError say why nothing was
Read = Callable[[Any], Found]


class Place(NamedTuple):
    """Whose answers these are, and the present boot."""

    store: Store
    boot: str

    @property
    def packages(self) -> Path:
        """The folder in which answers stand."""
        return self.store.folder / PACKAGES

    def expired(self, accepted: Reply, now_ns: int) -> bool:
        """Say whether a command need not be obeyed any more."""
        utc = self.store.utc_of(self.boot, now_ns)
        return utc is not None and utc.utc_ns >= accepted.expires_utc_ns


class _Job(threading.Thread):
    def __init__(
        self, read: Callable[[], Found], turn: threading.Lock, on_bug: Callable[[BaseException], None]
    ) -> None:
        super().__init__(name="service", daemon=True)
        self._read, self._turn, self._on_bug = read, turn, on_bug
        self.found: Found | None = None
        self.refusal = ""

    def run(self) -> None:
        try:
            with self._turn:
                self.found = self._read()
        except (RoadwitnessError, OSError) as e:
            self.refusal = str(e) or type(e).__name__
        except BaseException as bug:  # the top of this thread
            self.refusal = f"a fault of the program: {type(bug).__name__}"
            self._on_bug(bug)


class Reading:
    """Obeys commands of one kind; one thread, that of the clerk, may call it. `turn` is shared by all kinds.

    `waits` says until when reading must wait, "" where it need not.
    """

    def __init__(
        self,
        place: Place,
        read: Read,
        turn: threading.Lock,
        on_bug: Callable[[BaseException], None],
        waits: Callable[[], str],
    ) -> None:
        self._place = place
        self._read = read
        self._turn = turn
        self._on_bug = on_bug
        self._waits = waits
        self._jobs: dict[str, tuple[_Job, Command, int]] = {}  # and since when it reads, 0 while it waits

    def begin(self, command: Command, now_ns: int) -> Answer:
        """Begin to read, unless the package stands there already."""
        try:
            wanted = msgspec.convert(command.arguments, known(ARGUMENTS[command.command]))
        except msgspec.ValidationError as e:
            return Answer("refused", f"its arguments are not those of {command.command}: {e}")
        name = command.id[:16]  # random, like the command's: no incident has it
        if look_at(self._place.packages / name) is None and command.id not in self._jobs:
            job = _Job(lambda: self._read(wanted), self._turn, self._on_bug)
            self._jobs[command.id] = (job, command, 0)
        waits = self._waits()
        return Answer("accepted", f"waits {waits}" if waits else "reads it", name)

    def look(self, accepted: Reply, now_ns: int) -> Answer | None:
        """Say what the signed package holds; None while it is read or packed."""
        if accepted.id not in self._jobs:
            return self._packed(str(accepted.incident))
        job, command, since_ns = self._jobs[accepted.id]
        if not since_ns:
            return self._start(accepted, job, command, now_ns)
        if job.is_alive() and now_ns - since_ns < LONGEST_NS:
            return None
        if job.found is not None:
            self._write(command, job.found, now_ns)
        del self._jobs[accepted.id]
        if job.found is None:
            return Answer("failed", job.refusal or f"it takes longer than {LONGEST_NS // NS_PER_S} s")
        return None

    def _start(self, accepted: Reply, job: _Job, command: Command, now_ns: int) -> Answer | None:
        """Begin to read, only now that it was told; give up what waited for too long."""
        waits = self._waits()
        if not waits:
            self._jobs[accepted.id] = (job, command, now_ns)
            job.start()
        elif self._place.expired(accepted, now_ns):
            del self._jobs[accepted.id]
            return Answer("failed", f"it had to wait {waits} and expired")
        return None

    def _write(self, command: Command, found: Found, now_ns: int) -> None:
        request = Request(
            incident=command.id[:16],
            boot=self._place.boot,
            t_ns=now_ns,
            video=Video(from_ns=now_ns, to_ns=now_ns),
            reason="command",
            asked_boot=self._place.boot,
            asked_ns=now_ns,
            command=command.id,
            actor=command.actor,
            why=command.reason,
            kind="answer",
            told=found.told,
        )
        ask(self._place.packages, request, found.files)

    def _packed(self, name: str) -> Answer | None:
        folder = self._place.packages / name
        incident = look_at(folder)
        if incident is None or incident.request is None:
            return Answer("failed", CUT)
        try:
            signed = incident.signed and read_manifest(folder) is not None
        except (verifier.BadError, verifier.UnreadableError):
            return None  # the packager tells and makes it anew
        return Answer("done", incident.request.told) if signed else None
