"""The recorder's drafts on disk: written at once, tried again while the disk refuses, told when it does."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from agent.blocks import Block
from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import StoreError
from agent.incident.folder import write_files
from agent.incident.recorder import Draft, Recorder
from agent.records import Health, Mount
from agent.spine import Output

log = logging.getLogger(__name__)

RETRY_NS: Final = 5 * NS_PER_S


class IncidentWriter:
    """Feed the recorder with what the spine gives, and write what comes of it into `packages`.

    What the disk refuses waits in memory, newest draft of each incident, and is tried again; after a restart it is made
    anew from the stored samples (agent.incident.recovery). `tell` takes what a person should know, beside the log.
    """

    def __init__(self, packages: Path, recorder: Recorder, tell: Callable[[Health], None] | None = None) -> None:
        self._packages = packages
        self.recorder = recorder
        self._tell = tell
        self._waiting: dict[str, Draft] = {}
        self._refused = 0  # attempts, since the disk last took something
        self._retry_ns = 0
        self._turned_away = recorder.counts["only_record"]

    @property
    def waiting(self) -> int:
        """How many incidents the disk has not taken as they are now."""
        return len(self._waiting)

    def step(self, block: Block, output: Output) -> None:
        """Take what a step of the spine was given and gave."""
        for _, record in output.records:
            if isinstance(record, Mount):
                self.recorder.mount_known(record)
        self.write(self.recorder.step(block, output.rows, output.crashes))
        turned_away = self.recorder.counts["only_record"]
        if turned_away > self._turned_away:
            if not self._turned_away:
                detail = "so many crashes within an hour that later ones keep only their record, no package"
                log.warning("%s", detail)
                self._health("degraded", detail, {"only_record": turned_away})
            self._turned_away = turned_away

    def finish(self) -> None:
        """End the boot or the recording: no more samples will come."""
        self.write(self.recorder.finish())

    def write(self, drafts: list[Draft]) -> None:
        """Write drafts now, or when the disk takes them again."""
        if not drafts:
            return
        for draft in drafts:
            self._waiting[draft.id] = draft
        if not self._refused or monotonic_ns() >= self._retry_ns:
            self._try()

    def tend(self) -> None:
        """Try again what waits, when it is time."""
        if self._waiting and monotonic_ns() >= self._retry_ns:
            self._try()

    def _try(self) -> None:
        for id_, draft in list(self._waiting.items()):
            try:
                write_files(self._packages / id_, draft.files)
            except StoreError as trouble:
                self._retry_ns = monotonic_ns() + RETRY_NS
                self._refused += 1
                if self._refused == 1:
                    log.error("%s; the record of a crash waits in memory", trouble)
                    self._health("lost", str(trouble), {"waiting": len(self._waiting)})
                return
            del self._waiting[id_]
        if self._refused:
            detail = f"the records of crashes are on disk after {self._refused + 1} attempts"
            self._refused = 0
            log.warning("%s", detail)
            self._health("ok", detail, {})

    def _health(self, state: Literal["ok", "degraded", "lost"], detail: str, counts: dict[str, int]) -> None:
        if self._tell is not None:
            self._tell(Health(t_ns=monotonic_ns(), source="packages", state=state, detail=detail, counts=counts))
