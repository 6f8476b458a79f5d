"""The loop: the oldest segments go so that the newest fit, but none that a keep request covers.

Each camera has its own bytes; what the disk must have free is taken from the camera that holds most. When nothing may
go, nothing goes: the disk then refuses, and that is told. Names are kept in memory: a full card has tens of thousands.
"""

import logging
import os
import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.dashcam.segments import Keep, Name, keeps, names

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Kept:
    """One camera's segments, oldest first, each with its bytes."""

    most_bytes: int
    segments: deque[tuple[Name, int]] = field(default_factory=deque)
    bytes: int = 0


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
        if short <= 0 and not over:
            self.full = False
            return 0
        asked, bad = keeps(self._folder)
        if bad > self.bad_keeps:
            log.warning("%s: %d keep requests cannot be understood; they protect nothing", self._folder, bad)
        self.bad_keeps = bad
        gone = 0
        self.full = False
        for kept in over:
            while kept.bytes > kept.most_bytes:
                if not self._delete_oldest(kept, asked):
                    self.full = True
                    break
                gone += 1
        gone += self._free_up(asked)
        return gone

    def _free_up(self, asked: list[Keep]) -> int:
        """Delete from the camera that holds most until the disk has enough free, or nothing may go."""
        gone = 0
        before_bytes = sum(kept.bytes for kept in self._cameras.values())
        short = self._min_free_bytes - self._free_bytes()
        while short > 0:
            for kept in sorted(self._cameras.values(), key=lambda k: -k.bytes):
                if self._delete_oldest(kept, asked):
                    gone += 1
                    break
            else:
                self.full = True
                break
            now_bytes = sum(kept.bytes for kept in self._cameras.values())
            if before_bytes - now_bytes >= short:
                short = self._min_free_bytes - self._free_bytes()
                before_bytes = now_bytes
        return gone

    def _delete_oldest(self, kept: _Kept, asked: list[Keep]) -> bool:
        """Delete the oldest segment that nobody keeps; say whether there was one."""
        for i, (name, size) in enumerate(kept.segments):
            if any(keep.covers(name) for keep in asked):
                continue
            del kept.segments[i]
            kept.bytes -= size
            try:
                name.path.unlink(missing_ok=True)
            except OSError as e:
                log.warning("%s: delete: %s", name.path, e.strerror or e)
            return True
        return False

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
