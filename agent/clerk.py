"""The clerk: a thread that heeds commands, clips, packs and stamps beside the spine: reading a video takes a second."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from agent import clock
from agent.clip.clipper import Clipper
from agent.commands.commands import Commands
from agent.commands.configure import Trial
from agent.commands.inbox import Inbox
from agent.commands.policy import by_settings
from agent.commands.works import works
from agent.dashcam.watch import VIDEO
from agent.evidence.packager import Packager
from agent.evidence.timestamp import Stamper
from agent.fitting.word import Words
from agent.house import House
from agent.incident.folder import PACKAGES
from agent.records import Event, Health
from agent.store import Store

if TYPE_CHECKING:
    from agent.settings import AgentConfig

PERIOD_S: Final = 1.0  # between two looks at the folders, which cost microseconds where nothing changed …
CALM_S: Final = 5.0  # … and while no package grows
MOST_ROUNDS: Final = 100  # of a replay's packages: each takes one


class Clerk(threading.Thread):
    """Tends commands, clipper, packager and stamper until `stop`.

    `on_told` is called when a record was stored, so that sync wakes; `on_bug` with what ended the thread.
    """

    def __init__(
        self,
        clipper: Clipper,
        packager: Packager,
        stamper: Stamper,
        on_told: Callable[[], None],
        on_bug: Callable[[BaseException], None] | None = None,
        commands: Commands | None = None,
        inbox: Inbox | None = None,
        trial: Trial | None = None,
        words: Words | None = None,
    ) -> None:
        super().__init__(name="evidence", daemon=True)
        self._commands = commands
        self._trial = trial
        self._words = words
        self._woken = Inbox().woken if inbox is None else inbox.woken
        self._clipper = clipper
        self._packager = packager
        self._stamper = stamper
        self._on_told = on_told
        self._on_bug = on_bug
        self._stopping = False

    @classmethod
    def of(
        cls,
        store: Store,
        folder: Path,
        boot: str,
        settings: "AgentConfig",
        now_ns: int,
        on_told: Callable[[], None],
        on_bug: Callable[[BaseException], None] | None = None,
        inbox: Inbox | None = None,
        on_health: Callable[[Health], None] | None = None,
        allows: Callable[[str], bool] = lambda _: False,
        house: House | None = None,
    ) -> Self:
        """Make the clerk of the store in `folder`; it heeds the commands that come into `inbox`.

        `allows` says to which purposes the owner agrees; `house` is the daemon, without which commands only read.
        """
        packages = folder / PACKAGES
        clipper = Clipper(store, packages, folder / VIDEO, boot, settings.clips, now_ns)
        packager = Packager(store, packages, boot, clipper.material)
        commands = trial = None
        if inbox is not None:
            known = works(store, boot, settings, clipper, house, on_bug or _raised)
            policy = by_settings(settings.commands, allows)
            commands = Commands(store, boot, settings.commands, inbox, known, policy, on_health)
            trial = None if house is None else Trial(house, now_ns)
        words = None if inbox is None else Words(store, folder)
        stamper = Stamper(packages, settings.evidence)
        return cls(clipper, packager, stamper, on_told, on_bug, commands, inbox, trial, words)

    def run(self) -> None:
        """Work until `stop`."""
        try:
            while not self._stopping:
                clock.wait(self._woken, PERIOD_S if self._busy else CALM_S)
                self._woken.clear()
                if not self._stopping:
                    self.tend(clock.monotonic_ns())
        except BaseException as bug:  # the top of this thread
            if self._on_bug is None:
                raise
            self._on_bug(bug)

    def tend(self, now_ns: int) -> bool:
        """Do one round; say whether a package was told."""
        answered = self._commands is not None and self._commands.tend(now_ns)
        if self._words is not None and self._words.tend(now_ns):
            answered = True
        if answered:
            self._on_told()
        if self._trial is not None:
            self._trial.tend(now_ns)
        self._clipper.tend(now_ns)
        told = bool(self._packager.tend(now_ns))
        if told:
            self._on_told()
        self._stamper.tend(now_ns)
        return told

    @property
    def _busy(self) -> bool:
        return self._clipper.busy or (self._commands is not None and self._commands.busy)

    def hear(self, events: Sequence[Event]) -> None:
        """Take events that may be worth a clip; from any thread."""
        self._clipper.hear(events)

    def finish(self, now_ns: int) -> None:
        """Pack everything that is ready, in place of the thread: a replay has no time to wait."""
        for _ in range(MOST_ROUNDS):
            if not self.tend(now_ns):
                break
        self._stamper.close()

    def stop(self, seconds: float = 5.0) -> None:
        """End after the work under way, before the store is closed; legal also where it was never started."""
        self._stopping = True
        self._woken.set()
        if self.is_alive():
            self.join(seconds)
        self._stamper.close()


def _raised(bug: BaseException) -> None:
    """End a thread of a command with its bug where nobody takes it."""
    raise bug
