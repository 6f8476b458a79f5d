"""A camera's segments as they grow: every picture is on its way to the disk at once, a whole segment gets its name.

One write for each picture, nothing is held back, so `kill -9` costs no picture that was taken; `fdatasync` every
`sync_s` and at the end, then the rename, so a power cut costs what came since. Trouble is an OSError; what was written
whole before it is kept.
"""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.clock import NS_PER_S
from agent.dashcam.mp4 import Frame, Head, fragment_head, head_bytes
from agent.dashcam.segments import Name, file_name, part_name
from agent.durable import sync_folder

_US: Final = 1000  # ns
LATE: Final = 1.5  # a next picture within so many intervals follows without a gap
MODE: Final = 0o640  # the agent reads as a member of the group


@dataclass(frozen=True, slots=True)
class Piece:
    """One compressed picture, as it is kept in MP4; times in monotonic ns."""

    t_ns: int
    decode_ns: int
    data: bytes
    key: bool


class Growing:
    """One segment that is being written."""

    def __init__(self, folder: Path, boot: str, sequence: int, head: Head, first: Piece, interval_ns: int) -> None:
        """Create the file; `interval_ns` is how far apart pictures are thought to be."""
        self.head = head
        self.start_ns = first.t_ns // _US * _US
        self.frames = 0
        self._boot = boot
        self._sequence = sequence
        self._folder = folder
        self._interval_ns = interval_ns
        self._decode_start_ns = first.decode_ns
        self._last_ns = self._decoded_ns = self.start_ns
        self._synced_ns = first.t_ns
        self._part = folder / part_name(boot, sequence, self.start_ns)
        self._descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
        self.bytes = 0  # of what is whole
        try:
            self._write(head_bytes(head), b"")
        except OSError:
            self.abandon()
            raise

    def add(self, piece: Piece, sync_ns: int) -> None:
        """Write a picture; make the file durable when the last time was `sync_ns` ago; raise OSError."""
        decode_us = max(0, (piece.decode_ns - self._decode_start_ns) // _US)
        shown_us = (piece.t_ns - self.start_ns) // _US
        if self.frames:
            step_ns = piece.decode_ns - self._decoded_ns
            if 0 < step_ns < 2 * self._interval_ns:
                self._interval_ns += (step_ns - self._interval_ns) // 8
        duration_us = self._interval_ns // _US
        frame = Frame(0, len(piece.data), shown_us, decode_us, duration_us, piece.key)
        self._write(fragment_head(self.frames + 1, frame), piece.data)
        self.frames += 1
        self._last_ns = max(self._last_ns, piece.t_ns)
        self._decoded_ns = piece.decode_ns
        if piece.decode_ns - self._synced_ns >= sync_ns:
            self._synced_ns = piece.decode_ns
            os.fdatasync(self._descriptor)

    @property
    def interval_ns(self) -> int:
        """Return how far apart pictures are, as seen."""
        return self._interval_ns

    def finish(self, next_ns: int | None) -> Name | None:
        """Make the segment durable and whole; `next_ns` is when the next picture was taken. None when it is empty."""
        if not self.frames:
            self.abandon()
            return None
        end_ns = self._last_ns + self._interval_ns
        if next_ns is not None and next_ns - self._last_ns <= LATE * self._interval_ns:
            end_ns = next_ns
        end_ns = max(end_ns, self.start_ns + _US) // _US * _US
        try:
            os.fdatasync(self._descriptor)
        finally:
            self.close()
        path = self._folder / file_name(self._boot, self._sequence, self.start_ns, end_ns)
        self._part.rename(path)
        sync_folder(self._folder)
        return Name(path, self._boot, self._sequence, self.start_ns, end_ns)

    def abandon(self) -> None:
        """Remove what was written."""
        self.close()
        self._part.unlink(missing_ok=True)

    def _write(self, head: bytes, data: bytes) -> None:
        """Write both in one call; leave nothing torn behind."""
        wanted = len(head) + len(data)
        try:
            written = os.writev(self._descriptor, (head, data))
        except OSError:
            self._cut()
            raise
        if written != wanted:
            self._cut()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._part))
        self.bytes += wanted

    def _cut(self) -> None:
        os.ftruncate(self._descriptor, self.bytes)
        os.lseek(self._descriptor, self.bytes, os.SEEK_SET)

    def close(self) -> None:
        """Release the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Segments:
    """The segments of one camera, one after the other: each begins with a key picture and is at most `segment_s` long.

    A camera whose key pictures are farther apart gets segments as long as that.
    """

    def __init__(self, folder: Path, boot: str, sequence: int, segment_s: float, sync_s: float, fps: float) -> None:
        self._folder = folder
        self._boot = boot
        self.sequence = sequence  # of the next segment
        self._segment_ns = round(segment_s * NS_PER_S)
        self._sync_ns = round(sync_s * NS_PER_S)
        self._interval_ns = round(NS_PER_S / fps)
        self._growing: Growing | None = None
        self._key_ns: int | None = None
        self.key_distance_ns = 0  # between the last two key pictures
        self.skipped = 0  # pictures before the first key, or that go back

    def add(self, piece: Piece, head: Head) -> Name | None:
        """Write a picture; return the segment that was finished by it; raise OSError when the disk refuses."""
        finished = None
        if piece.key:
            if self._key_ns is not None:
                self.key_distance_ns = max(0, piece.t_ns - self._key_ns)
            self._key_ns = piece.t_ns
            growing = self._growing
            if growing is not None and (growing.head != head or self._would_be_late(growing, piece)):
                finished = self.finish(piece.t_ns)
        if self._growing is None:
            if not piece.key:
                self.skipped += 1
                return finished
            self._growing = Growing(self._folder, self._boot, self.sequence, head, piece, self._interval_ns)
            self.sequence += 1
        if piece.t_ns < self._growing.start_ns:
            self.skipped += 1  # a leading picture that refers to the segment before
            return finished
        self._growing.add(piece, self._sync_ns)
        return finished

    def finish(self, next_ns: int | None = None) -> Name | None:
        """End the present segment, None when there is none; raise OSError."""
        growing, self._growing = self._growing, None
        if growing is None:
            return None
        self._interval_ns = growing.interval_ns
        return growing.finish(next_ns)

    def refused(self) -> Name | None:
        """Keep what is whole of the present segment after an OSError; None when nothing is, or not even that works."""
        growing = self._growing
        try:
            return self.finish()
        except OSError:
            return None  # its file ends in .part and is looked at by the next start
        finally:
            if growing is not None:
                growing.close()

    def _would_be_late(self, growing: Growing, piece: Piece) -> bool:
        """Say whether the segment would be too long if it went on to the next key."""
        ahead_ns = min(self.key_distance_ns, self._segment_ns)
        slack_ns = growing.interval_ns // 4  # stamps jitter
        return piece.t_ns - growing.start_ns + ahead_ns > self._segment_ns + slack_ns
