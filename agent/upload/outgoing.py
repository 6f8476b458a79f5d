"""One file on its way out, and one piece of it under way."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from agent.ranges import Ranges

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

    @property
    def kind(self) -> Literal["records", "video"]:
        """The class that its bytes are counted in."""
        return "video" if self.path.suffix in VIDEO else "records"

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
