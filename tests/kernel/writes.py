"""Every write that a disk was given, in order, and what the disk may hold when power goes in the middle of them.

QEMU's `blklogwrites` records in the format of Linux' dm-log-writes (Documentation/admin-guide/device-mapper/
log-writes.rst): a superblock, then for each request a header in a sector of its own and its data. A request stands in
the log when the disk has answered it.
"""

import random
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

FLUSH: Final = 1
FUA: Final = 2
DISCARD: Final = 4
MARK: Final = 8
_MAGIC: Final = 0x6A736677736872
_SUPER: Final = struct.Struct("<QQQI")
_HEADER: Final = struct.Struct("<QQQQ")
SECTOR: Final = 512  # what a disk writes whole, if anything


@dataclass(frozen=True, slots=True)
class Write:
    """One request: `end` is the length of the log when it was complete, `at` and `size` are bytes of the disk."""

    end: int
    flags: int
    at: int
    size: int
    data: int  # where its data begins in the log


class Log:
    """The requests of a recorded run; the last one may be cut off and is then left out."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb")
        magic, version, _, sector = _SUPER.unpack(self._file.read(_SUPER.size))
        if (magic, version) != (_MAGIC, 1):
            self._file.close()
            raise ValueError(f"{path}: no log of writes, or of another version")
        size, position = path.stat().st_size, sector
        self.writes: list[Write] = []
        while position + sector <= size:
            self._file.seek(position)
            first, count, flags, length = _HEADER.unpack(self._file.read(_HEADER.size))
            if not (count or flags):  # reserved, and never written
                break
            data = position + sector
            position = data + (0 if flags & DISCARD else count * sector) + (length if flags & MARK else 0)
            if position > size:
                break
            self.writes.append(Write(position, flags, first * sector, count * sector, data))

    def data(self, write: Write) -> bytes:
        """Return what was written."""
        self._file.seek(write.data)
        return self._file.read(write.size)

    def close(self) -> None:
        """Close the log."""
        self._file.close()


@dataclass
class Disk:
    """A disk that goes through a log: what it holds for sure, and what may or may not have come to rest.

    All that was answered before the last flush is on an honest disk; of what came after it any part may be, in any
    order. `lies` is how many of the last flushes a bad card answered without doing them.
    """

    log: Log
    image: bytearray
    lies: int = 0
    seen: int = 0
    _flushed: list[list[Write]] = field(default_factory=list)  # of the flushes that were lies, oldest first
    _open: list[Write] = field(default_factory=list)  # since the last flush

    def advance(self, upto: int) -> None:
        """Take in the requests before number `upto`."""
        for write in self.log.writes[self.seen : upto]:
            if write.flags & FLUSH:
                self._flushed.append(self._open)
                self._open = []
                while len(self._flushed) > self.lies:
                    for settled in self._flushed.pop(0):
                        self._put(self.image, settled)
            if write.size and not write.flags & MARK:
                if write.flags & FUA and not self.lies:
                    self._put(self.image, write)
                else:
                    self._open.append(write)
        self.seen = max(self.seen, upto)

    @property
    def pending(self) -> list[Write]:
        """Return what may or may not be on the disk."""
        return [write for group in self._flushed for write in group] + self._open

    def cut(self, chance: random.Random, how: str) -> bytearray:
        """Return what the disk may hold now, of what is pending "none", "all", "some", or some with one "torn"."""
        image, pending = bytearray(self.image), self.pending
        share = chance.choice((0.2, 0.5, 0.8))
        kept = {"none": [], "all": pending}.get(how)
        if kept is None:
            kept = [write for write in pending if chance.random() < share]
        torn = chance.choice(kept) if how == "torn" and kept else None
        for write in kept:
            whole = (
                SECTOR * chance.randrange(1, write.size // SECTOR) if write is torn and write.size > SECTOR else None
            )
            self._put(image, write, whole)
        return image

    def _put(self, image: bytearray, write: Write, whole: int | None = None) -> None:
        if write.flags & DISCARD:
            image[write.at : write.at + write.size] = bytes(write.size)
        elif write.size:
            data = self.log.data(write)[:whole]
            image[write.at : write.at + len(data)] = data
