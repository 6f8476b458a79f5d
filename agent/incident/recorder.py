"""The recorder: rings that always run, and for every collision the files that come of them. Pure: no clock, no I/O.

A record is told as soon as the crash is known, again when the collision has been measured, and once more, final, when
a sample later than the longest window has come. The final files depend on the samples alone, not on how they came.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from agent.blocks import Block
from agent.clock import NS_PER_S
from agent.incident.folder import FORMAT, RECORD, Record, Video, encoded
from agent.incident.rings import Rings
from agent.incident.settings import IncidentSettings
from agent.incident.tables import AFTER_NS, Cut, cut
from agent.records import Crash, Mount
from agent.state import State, empty_state

HOUR_NS: Final = 3600 * NS_PER_S
_MOST_MOUNTS: Final = 16  # remembered; a mount is told anew when it is surer or turned by 5°


@dataclass(frozen=True, slots=True)
class Draft:
    """The files of one incident as they should stand on disk now."""

    id: str
    files: dict[str, bytes]
    record: Record


@dataclass(slots=True)
class _Open:
    """One incident that still grows."""

    crash: Crash
    over: Cut | None = None  # once nothing can be added to it


@dataclass(slots=True)
class Storm:
    """How many packages an hour may begin: a box that is beaten must not fill the disk with its beatings."""

    per_hour: int
    begun: list[int] = field(default_factory=list)  # time zero of those that got a package
    turned_away: int = 0

    def admit(self, t0_ns: int) -> bool:
        """Say whether the crash at `t0_ns` gets a package; the same crashes in order get the same answers."""
        lately = [t for t in self.begun if t0_ns - HOUR_NS < t <= t0_ns]
        if len(lately) >= self.per_hour:
            self.turned_away += 1
            return False
        self.begun = [*lately, t0_ns]
        return True


class Recorder:
    """Samples, rows and crashes of one boot in; drafts of packages out."""

    def __init__(self, settings: IncidentSettings, boot: str) -> None:
        self._settings = settings
        self.boot = boot
        self._rings = Rings()
        self._storm = Storm(settings.per_hour)
        self._open: dict[str, _Open] = {}
        self._known: set[str] = set()  # every incident that was decided on
        self._mounts: list[Mount] = []

    @property
    def counts(self) -> dict[str, int]:
        """How many crashes got a package, and how many only their record."""
        return {"packages": len(self._known) - self._storm.turned_away, "only_record": self._storm.turned_away}

    @property
    def growing(self) -> bool:
        """Say whether samples that come now belong to a record; any thread may ask."""
        return any(incident.over is None for incident in list(self._open.values()))

    def mount_known(self, mount: Mount) -> None:
        """Take how the box sits in the car from `mount.t_ns` on."""
        self._mounts = [*self._mounts[-_MOST_MOUNTS:], mount]

    def resume(self, crash: Crash, *, growing: bool) -> bool:
        """Take a crash found before a restart, in order of time; say whether it is one with a package.

        `growing`: its record is not final and samples for it may still come.
        """
        self._known.add(crash.id)
        admitted = self._storm.admit(crash.t_ns)
        if admitted and growing:
            self._open[crash.id] = _Open(crash)
        return admitted

    def step(self, block: Block, rows: Iterable[State], crashes: Sequence[Crash]) -> list[Draft]:
        """Take the next samples, the rows and the crashes that became known with them; return what is to be written."""
        state = list(rows)
        all_rows = np.concatenate(state) if state else empty_state()
        changed = [crash.id for crash in crashes if self._told(crash)]
        drafts: dict[str, Draft] = {}
        at = row_at = 0
        for incident in sorted(self._open.values(), key=lambda i: i.crash.t_ns):
            end_ns = incident.crash.t_ns + AFTER_NS
            if incident.over is not None or not len(block) or block["t"][-1] <= end_ns:
                continue
            upto = max(at, int(np.searchsorted(block["t"], end_ns, side="right")))
            rows_upto = max(row_at, int(np.searchsorted(all_rows["t"], end_ns, side="right")))
            self._rings.take(block[at:upto])
            self._rings.take_rows(all_rows[row_at:rows_upto])
            at, row_at = upto, rows_upto
            incident.over = cut(self._rings, incident.crash.t_ns, int(block["t"][upto]))
        self._rings.take(block[at:])
        self._rings.take_rows(all_rows[row_at:])
        for id_, incident in list(self._open.items()):
            if incident.over is not None and incident.crash.complete:
                drafts[id_] = self._draft(incident, final=True)
                del self._open[id_]
            elif id_ in changed:
                drafts[id_] = self._draft(incident, final=False)
        return list(drafts.values())

    def drafts(self) -> list[Draft]:
        """Return what is to be written of everything that grows, as it is now."""
        return [self._draft(incident, final=False) for incident in self._open.values()]

    def finish(self) -> list[Draft]:
        """End the boot or the recording: nothing more will come for what is open."""
        drafts = [self._draft(incident, final=True) for incident in self._open.values()]
        self._open.clear()
        return drafts

    def _told(self, crash: Crash) -> bool:
        """Take a crash that became known or was measured; say whether its package changes by it."""
        if crash.id in self._open:
            self._open[crash.id].crash = crash
            return True
        if crash.id in self._known:
            return False
        self._known.add(crash.id)
        if not self._storm.admit(crash.t_ns):
            return False
        self._open[crash.id] = _Open(crash)
        return True

    def _draft(self, incident: _Open, *, final: bool) -> Draft:
        crash, t0_ns = incident.crash, incident.crash.t_ns
        found = incident.over or cut(self._rings, t0_ns)
        record = Record(
            format=FORMAT,
            incident=crash.id,
            boot=self.boot,
            t0_ns=t0_ns,
            complete=incident.over is not None and crash.complete and not any(end > 0 for _, end in found.gaps_s),
            final=final,
            reached_s=None if found.reached_ns is None else round((found.reached_ns - t0_ns) / NS_PER_S, 4),
            gaps_s=found.gaps_s,
            flags_s=found.flags_s,
            video=Video(
                from_ns=t0_ns - round(self._settings.video_before_s * NS_PER_S),
                to_ns=t0_ns + round(self._settings.video_after_s * NS_PER_S),
            ),
            # the detector knows whether the box still sat as learned
            mount=next((m for m in reversed(self._mounts) if m.t_ns <= t0_ns and crash.mount_confidence > 0), None),
            crash=crash,
            tables=[table.part for table in found.tables],
        )
        files = {table.part.file: table.data for table in found.tables}
        return Draft(crash.id, files | {RECORD: encoded(record)}, record)
