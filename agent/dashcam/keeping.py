"""Write what a camera or its encoder gives into segments, and outlive a disk that refuses."""

import logging
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.clock import NS_PER_S
from agent.dashcam.health import Look, Looking
from agent.dashcam.mp4 import Head
from agent.dashcam.pictures import Keys
from agent.dashcam.segments import Name
from agent.dashcam.settings import DashcamConfig
from agent.dashcam.writing import Piece, Segments

log = logging.getLogger(__name__)

REFUSED_NS: Final = NS_PER_S  # before a disk that refused is tried again


@dataclass(slots=True)
class Work:
    """What one camera's threads leave for the process to see; it outlives sessions. Each field has one writer."""

    folder: Path  # of the camera
    boot: str
    sequence: int  # of the next segment
    kept: int = 0  # pictures
    kept_bytes: int = 0
    refused: int = 0  # pictures that no segment took: no disk, or no key before them
    left_out: int = 0  # pictures for which the encoder had no time
    damaged: int = 0
    refusal: str = ""  # why the disk refuses at present
    key_wanted: bool = False  # an encoder is to begin anew
    key_distance_ns: int = 0
    came_ns: int = 0  # when the last picture came
    looks: deque[Look] = field(default_factory=deque)
    finished: deque[Name] = field(default_factory=deque)


class Looks:
    """Look at a picture now and then."""

    def __init__(self, work: Work, every_s: float) -> None:
        self._work = work
        self._every_ns = round(0.9 * every_s * NS_PER_S)  # a key that comes a little early counts
        self._looking = Looking()
        self._keys = Keys()
        self._looked_ns: int | None = None

    def due(self, t_ns: int) -> bool:
        """Say whether it is time for a look at the picture of `t_ns`, which is then expected."""
        due = self._looked_ns is None or t_ns - self._looked_ns >= self._every_ns
        if due:
            self._looked_ns = t_ns
        return due

    def at_key(self, head: Head, piece: Piece) -> None:
        """Decode a key picture and look at it, when it is time."""
        if piece.key and self.due(piece.t_ns):
            luma = self._keys.luma(head, piece)
            if luma is not None:
                self._work.looks.append(self._looking.look(piece.t_ns, luma))

    @property
    def looking(self) -> Looking:
        """Return what measures a picture."""
        return self._looking


class Keeping:
    """One session's segments; `looks` looks at keys where nothing else is decoded."""

    def __init__(self, work: Work, config: DashcamConfig, fps: float, looks: Looks | None) -> None:
        self._work = work
        self._segments = Segments(work.folder, work.boot, work.sequence, config.segment_s, config.sync_s, fps)
        self._looks = looks
        self._refused_ns: int | None = None

    def take(self, kept: tuple[Head, Piece]) -> None:
        """Write a picture."""
        head, piece = kept
        if self._refused_ns is not None and abs(piece.decode_ns - self._refused_ns) < REFUSED_NS:
            self._work.refused += 1
            return
        skipped = self._segments.skipped
        try:
            finished = self._segments.add(piece, head)
        except OSError as refusal:
            self._refused_ns = piece.decode_ns
            self._refuse(refusal)
            self._work.refused += 1
            return
        self._refused_ns = None
        self._work.sequence = self._segments.sequence
        self._work.key_distance_ns = self._segments.key_distance_ns
        self._note(finished)
        if self._segments.skipped > skipped:
            self._work.refused += 1
            self._work.key_wanted = True
            return
        self._work.refusal = ""
        self._work.kept += 1
        self._work.kept_bytes += len(piece.data)
        if self._looks is not None:
            self._looks.at_key(head, piece)

    def finish(self) -> None:
        """End the session: what is whole stays."""
        try:
            self._note(self._segments.finish())
        except OSError as refusal:
            self._refuse(refusal)
        self._work.sequence = self._segments.sequence

    def _refuse(self, refusal: OSError) -> None:
        if not self._work.refusal:
            log.error("%s: write: %s; tried again every second", self._work.folder, refusal.strerror or refusal)
        self._work.refusal = refusal.strerror or str(refusal)
        self._note(self._segments.refused())

    def _note(self, finished: Name | None) -> None:
        if finished is not None:
            self._work.finished.append(finished)
