"""One file on its way out, and one piece of it under way."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from agent.ranges import Ranges

AHEAD: Final = 512 * 1024  # bytes read at once: eight chunks; of one file at a time, so memory does not grow
VIDEO: Final = (".mp4", ".mkv", ".mov", ".ts", ".avi")


@dataclass(slots=True)
class OutgoingFile:
    """One file that the receiver may lack; what it said in this session."""

    id: str
    path: Path
    size: int
    missing: Ranges | None = None  # None until it was told
    revision: int = -1
    asked: bool = False  # init is under way
    ending: bool = False  # fin is under way
    done: bool = False
    suspect: bool = False  # it was refused: look whether it is still what the record says
    hold_ns: int = 0  # leave it alone until then
    sent: Ranges = field(default_factory=list)
    kind: Literal["records", "video"] = field(init=False)  # the class that its bytes are counted in
    _ahead: bytes = b""  # read ahead, from _ahead_at on
    _ahead_at: int = 0

    def __post_init__(self) -> None:
        """Find the class."""
        self.kind = "video" if self.path.suffix in VIDEO else "records"

    def read(self, start: int, size: int) -> bytes:
        """Return bytes of the file, fewer where it ends before; OSError when it cannot be read."""
        at = start - self._ahead_at
        if not 0 <= at <= len(self._ahead) - size:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._ahead, self._ahead_at, at = os.pread(descriptor, max(size, AHEAD), start), start, 0
            finally:
                os.close(descriptor)
        return self._ahead[at : at + size]

    def drop_ahead(self) -> None:
        """Forget what was read ahead."""
        self._ahead = b""

    def forget(self) -> None:
        """Forget what the receiver said of it."""
        self.missing, self.revision = None, -1
        self.asked = self.ending = self.done = False


@dataclass(frozen=True, slots=True)
class Flight:
    """A chunk, start ≤ x < end, that was sent at `sent_ns` and not acknowledged yet."""

    file: OutgoingFile
    start: int
    end: int
    sent_ns: int
    acknowledged_then: int  # bytes of all files, by Pace


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex; OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
