"""A file that is coming in: what of it stands on disk, what of that is durable, and its hash as far as it goes."""

import hashlib
import threading
from dataclasses import dataclass, field
from typing import Any, Final

from agent import ranges
from agent.ranges import Ranges
from receiver.filestore import FileStore

# Revisions that may be told before the row is written again: a group of chunks takes one, and rows are written
# every second, so that a receiver that died has told none beyond it.
LEASE: Final = 1 << 20

Key = tuple[str, str]  # device, file


@dataclass(slots=True)
class Underway:
    """One unfinished file; `held` is replaced and never changed in place, so that other threads may read it."""

    device: str
    file: str  # SHA-256
    size: int
    partial: str  # name of the unfinished file
    held: Ranges  # bytes that were written
    durable: Ranges  # of these, what the row says: fsynced before
    revision: int  # last told
    row_revision: int  # of the row, as this process wrote or read it
    work: threading.Lock = field(default_factory=threading.Lock)  # held while it is made durable, hashed, finished
    _hash: Any = field(default_factory=hashlib.sha256)
    _hashed: int = 0

    @property
    def whole(self) -> bool:
        """Whether every byte was written."""
        return ranges.total(self.held) == self.size

    @property
    def unsettled(self) -> int:
        """Bytes that were written and are not durable as far as is known."""
        return ranges.total(self.held) - ranges.total(self.durable)

    def hash_on(self, files: FileStore) -> str:
        """Hash what follows what was hashed, without a gap; return the digest so far. Raises OSError."""
        end = self.held[0][1] if self.held and self.held[0][0] == 0 else 0
        if end > self._hashed:
            self._hashed += files.hash_part(self.partial, self._hashed, end, self._hash)
        return str(self._hash.hexdigest())
