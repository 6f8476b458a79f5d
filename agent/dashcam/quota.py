"""The loop: the oldest segments go so that the newest fit, but none that a keep request covers.

Each camera has its own bytes; what the disk must have free is taken from the camera that holds most. When nothing may
go, nothing goes: the disk then refuses, and that is told. What the disk refuses to delete still stands and counts: it
is tried again, and holds up nothing behind it. Names are kept in memory: a full card has tens of thousands.
"""

import logging
import os
import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.dashcam.segments import Keep, Name, keeps, names

log = logging.getLogger(__name__)

MOST_REFUSED: Final = 8  # deletions that a disk may refuse in one round; a read-only one refuses tens of thousands


@dataclass(slots=True)
class _Kept:
    """One camera's segments, oldest first, each with its bytes."""

    most_bytes: int
    segments: deque[tuple[Name, int]] = field(default_factory=deque)
    stuck: deque[tuple[Name, int]] = field(default_factory=deque)  # that the disk refused to delete
    bytes: int = 0  # of both


class Quota:
    """Which segments stand; told of new ones, asked to make room."""

    def __init__(
        self, folder: Path, most_bytes: dict[str, int], min_free_bytes: int, free: Callable[[Path], int] | None = None
    ) -> None:
        """Take bytes for each camera, and what is to stay free on the disk by `free`'s account."""
        self._folder = folder
        self._min_free_bytes = min_free_bytes
        self._free = free or (lambda path: shutil.disk_usage(path).free)
        self._cameras = {camera: _Kept(most) for camera, most in most_bytes.items()}
        self.bad_keeps = 0
        self.full = False  # more is needed, and all that stands is kept
        self.refusal = ""  # why something that was to go could not be deleted, in the last round
        self._refused = 0  # in this round

    def begin(self) -> None:
        """Look at what earlier runs left."""
        for camera, kept in self._cameras.items():
            for name in names(self._folder, camera):
                self._take(kept, name)

    def add(self, camera: str, name: Name) -> None:
        """Note a new segment."""
        self._take(self._cameras[camera], name)

    def bytes_of(self, camera: str) -> int:
        """Return how many bytes a camera's segments have."""
        return self._cameras[camera].bytes

    def make_room(self) -> int:
        """Delete the oldest until all fits; return how many went."""
        short = self._min_free_bytes - self._free_bytes()
        over = [kept for kept in self._cameras.values() if kept.bytes > kept.most_bytes]
        self.full, self.refusal, self._refused = False, "", 0
        if short <= 0 and not over:
            return 0
        asked, bad = keeps(self._folder)
        if bad > self.bad_keeps:
            log.warning("%s: %d keep requests cannot be understood; they protect nothing", self._folder, bad)
        self.bad_keeps = bad
        gone = 0
        for kept in over:
            gone += self._try_stuck(kept, asked)
            while kept.bytes > kept.most_bytes:
                if not self._delete_oldest(kept, asked):
                    self.full = not self._refused
                    break
                gone += 1
        gone += self._free_up(asked)
        return gone

    def erase(self) -> int:
        """Delete every segment that nobody keeps; return how many went. What the disk refuses, the next call tries."""
        asked, self.bad_keeps = keeps(self._folder)
        self.refusal, self._refused = "", 0
        gone = 0
        for kept in self._cameras.values():
            gone += self._try_stuck(kept, asked)
            while self._delete_oldest(kept, asked):
                gone += 1
        return gone

    def _free_up(self, asked: list[Keep]) -> int:
        """Delete from the camera that holds most until the disk has enough free, or nothing may go."""
        gone = 0
        before_bytes = sum(kept.bytes for kept in self._cameras.values())
        short = self._min_free_bytes - self._free_bytes()
        if short > 0:
            gone += sum(self._try_stuck(kept, asked) for kept in self._cameras.values())
        while short > 0:
            for kept in sorted(self._cameras.values(), key=lambda k: -k.bytes):
                if self._delete_oldest(kept, asked):
                    gone += 1
                    break
            else:
                self.full = not self._refused
                break
            now_bytes = sum(kept.bytes for kept in self._cameras.values())
            if before_bytes - now_bytes >= short:
                short = self._min_free_bytes - self._free_bytes()
                before_bytes = now_bytes
        return gone

    def _delete_oldest(self, kept: _Kept, asked: list[Keep]) -> bool:
        """Delete the oldest segment that nobody keeps and the disk lets go; say whether there was one."""
        i = 0
        while i < len(kept.segments) and self._refused < MOST_REFUSED:
            name, size = kept.segments[i]
            if any(keep.covers(name) for keep in asked):
                i += 1
                continue
            del kept.segments[i]
            if self._deleted(name):
                kept.bytes -= size
                return True
            kept.stuck.append((name, size))
        return False

    def _try_stuck(self, kept: _Kept, asked: list[Keep]) -> bool:
        """Try another of those that the disk refused; when it goes, all of them stand in line again."""
        if not kept.stuck:
            return False
        name, size = kept.stuck[0]
        if any(keep.covers(name) for keep in asked) or not self._deleted(name):
            kept.stuck.rotate(-1)
            return False
        kept.stuck.popleft()
        kept.bytes -= size
        again = sorted([*kept.stuck, *kept.segments], key=lambda one: one[0].sequence)
        kept.segments, kept.stuck = deque(again), deque()
        return True

    def _deleted(self, name: Name) -> bool:
        try:
            name.path.unlink(missing_ok=True)
        except OSError as e:
            self._refused += 1
            self.refusal = f"delete {name.path.name}: {e.strerror or e}"
            return False
        return True

    def _free_bytes(self) -> int:
        try:
            return self._free(self._folder)
        except OSError:
            return self._min_free_bytes  # not known: nothing is deleted for it

    def _take(self, kept: _Kept, name: Name) -> None:
        try:
            size = os.stat(name.path).st_size
        except OSError:
            return
        kept.segments.append((name, size))
        kept.bytes += size
