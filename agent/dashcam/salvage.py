"""What an earlier life left behind: a segment that was growing is kept up to its last whole picture."""

import logging
import os
import re
from pathlib import Path
from typing import Final

from agent.dashcam.copying import whole
from agent.dashcam.mp4 import DamageError, Frame, Head, read_frames, read_head
from agent.dashcam.segments import PART, Name, file_name
from agent.durable import sync_folder

log = logging.getLogger(__name__)
_PART_NAME: Final = re.compile(r"([0-9A-Za-z]{1,64})-(\d{8})-(\d{16})\.part")
_US: Final = 1000  # ns


def salvage(folder: Path) -> list[Name]:
    """Finish or remove every unfinished file in a camera's folder; return the segments that were saved."""
    saved = []
    for path in sorted(folder.glob(f"*{PART}")):
        match = _PART_NAME.fullmatch(path.name)
        try:
            name = _finished(path, match[1], int(match[2]), int(match[3])) if match else None
            if name is None:
                path.unlink()
            else:
                saved.append(name)
        except OSError as e:
            log.warning("%s: salvage: %s; it is tried again at the next start", path, e.strerror or e)
    if saved:
        sync_folder(folder)
        log.info("%s: saved %d segment%s that an earlier run left", folder, len(saved), "s" if len(saved) > 1 else "")
    return saved


def _finished(path: Path, boot: str, sequence: int, start_us: int) -> Name | None:
    """Cut a file behind its last whole picture and give it its name; None when there is none."""
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            head = read_head(file)
        except DamageError:
            return None
        frames = _whole_frames(file.fileno(), head, read_frames(file, size))
        if not frames:
            return None
        file.truncate(frames[-1].offset + frames[-1].size)
        os.fsync(file.fileno())
    end_us = start_us + max(frame.pts_us + frame.duration_us for frame in frames)
    final = path.with_name(file_name(boot, sequence, start_us * _US, end_us * _US))
    path.rename(final)
    return Name(final, boot, sequence, start_us * _US, end_us * _US)


def _whole_frames(descriptor: int, head: Head, frames: list[Frame]) -> list[Frame]:
    """Return the frames up to the first whose data are not whole: a power cut may leave zeros inside a file."""
    for i, frame in enumerate(frames):
        if not whole(head, os.pread(descriptor, frame.size, frame.offset)):
            return frames[:i]
    return frames
