"""The folder that dashcam and agent share: segments by name and time, and requests to keep a range.

    video/<camera>/<boot>-<sequence>-<start µs>-<end µs>.mp4   a whole segment
    video/<camera>/<boot>-<sequence>-<start µs>.part           the one that is being written
    video/<camera>/health.json                                 what is known of the camera (agent.dashcam.state)
    video/keep/<incident>.json                                 {"boot", "start_ns", "end_ns"}: do not delete these

Times are of the boot's monotonic clock. A frame's time is its segment's start plus its presentation time in the file,
in µs: there is no second place that says it. A segment ends where the next frame begins, if that came in time.
Nothing here imports a video library; any process may read the folder while the dashcam writes it.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.dashcam.mp4 import Codec, DamageError, Frame, read_frames, read_head
from agent.durable import sync_folder

KEEP: Final = "keep"
PART: Final = ".part"
CAMERA_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")  # of a camera; `keep` is taken
_BOOT: Final = re.compile(r"[0-9A-Za-z]{1,64}")
_NAME: Final = re.compile(r"([0-9A-Za-z]{1,64})-(\d{8})-(\d{16})-(\d{16})\.mp4")
_INCIDENT: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
_NS_PER_US: Final = 1000


@dataclass(frozen=True, slots=True)
class Name:
    """What a segment's file name says; times in ns of the boot's monotonic clock."""

    path: Path
    boot: str
    sequence: int  # of the camera, over all boots
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One whole segment: `start_ns` is its first frame's time, `end_ns` that of the next segment's first frame or,
    where that came late or never, when the last frame would have been over. `frames` counts them; the first is a key.
    """

    path: Path
    camera: str
    boot: str
    start_ns: int
    end_ns: int
    codec: Codec
    width: int
    height: int
    frames: int


@dataclass(frozen=True, slots=True)
class Keep:
    """A range of all cameras that is not to be deleted."""

    incident: str
    boot: str
    start_ns: int
    end_ns: int

    def covers(self, name: Name) -> bool:
        """Say whether a segment overlaps the range."""
        return self.boot == name.boot and name.start_ns <= self.end_ns and self.start_ns < name.end_ns


def file_name(boot: str, sequence: int, start_ns: int, end_ns: int) -> str:
    """Return the name of a whole segment; times are cut to µs."""
    return f"{boot}-{sequence:08d}-{start_ns // _NS_PER_US:016d}-{end_ns // _NS_PER_US:016d}.mp4"


def part_name(boot: str, sequence: int, start_ns: int) -> str:
    """Return the name of a segment that is being written."""
    return f"{boot}-{sequence:08d}-{start_ns // _NS_PER_US:016d}{PART}"


def cameras(folder: Path) -> list[str]:
    """Return the cameras that have a folder in the video folder."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.is_dir()]
    except OSError:
        return []
    return sorted(name for name in names if name != KEEP and CAMERA_NAME.fullmatch(name))


def names(folder: Path, camera: str) -> list[Name]:
    """Return a camera's segments by their names alone, oldest first."""
    return sorted(_names(folder / camera), key=lambda n: n.sequence)


def segments(folder: Path, camera: str, boot: str, start_ns: int, end_ns: int) -> list[Segment]:
    """Return the whole segments of one boot that overlap [start_ns, end_ns], by time.

    One that has gone in the meantime, or that does not hold what its name says, is left out.
    """
    asked = Keep("", boot, start_ns, end_ns)
    found = (read_segment(name, camera) for name in _names(folder / camera) if asked.covers(name))
    return sorted((s for s in found if s is not None), key=lambda s: s.start_ns)


def read_segment(name: Name, camera: str) -> Segment | None:
    """Look into a segment; None when it has gone or is damaged."""
    try:
        with name.path.open("rb") as file:
            head = read_head(file)
            frames = len(read_frames(file, os.fstat(file.fileno()).st_size))
    except (OSError, DamageError):
        return None
    if not frames:
        return None
    return Segment(
        name.path, camera, name.boot, name.start_ns, name.end_ns, head.codec, head.width, head.height, frames
    )


def frames(segment: Segment) -> list[Frame]:
    """Return where a segment's frames are in the file, in its order; raise OSError or DamageError."""
    with segment.path.open("rb") as file:
        read_head(file)
        return read_frames(file, os.fstat(file.fileno()).st_size)


def frame_times(segment: Segment) -> npt.NDArray[np.int64]:
    """Return the monotonic time of every frame, in ns, in the order in which they are shown."""
    pts_us = np.array([frame.pts_us for frame in frames(segment)], np.int64)
    return np.sort(pts_us) * _NS_PER_US + segment.start_ns


def keep(folder: Path, incident: str, boot: str, start_ns: int, end_ns: int) -> None:
    """Ask the dashcam never to delete this range of any camera; raise OSError when the request cannot be written."""
    if not _INCIDENT.fullmatch(incident) or not _BOOT.fullmatch(boot) or end_ns < start_ns:
        raise ValueError(f"keep {incident!r}: the name, boot {boot!r} or the range is wrong")
    asked = folder / KEEP
    asked.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"boot": boot, "start_ns": start_ns, "end_ns": end_ns})
    write_whole(asked / f"{incident}.json", text.encode())


def release(folder: Path, incident: str) -> None:
    """Let the range of `incident` be deleted again; one that was never kept is fine."""
    (folder / KEEP / f"{incident}.json").unlink(missing_ok=True)


def keeps(folder: Path) -> tuple[list[Keep], int]:
    """Return the requests that stand, and how many files in their folder could not be understood."""
    found: list[Keep] = []
    bad = 0
    for path in sorted((folder / KEEP).glob("*.json")):
        try:
            said = json.loads(path.read_bytes())
            boot, start_ns, end_ns = said["boot"], said["start_ns"], said["end_ns"]
        except FileNotFoundError:
            continue  # released in this moment
        except (OSError, ValueError, TypeError, KeyError):
            bad += 1
            continue
        if isinstance(boot, str) and type(start_ns) is int and type(end_ns) is int:
            found.append(Keep(path.stem, boot, start_ns, end_ns))
        else:
            bad += 1
    return found, bad


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file so that it is there whole or not at all; its group may read it: the other process."""
    part = path.with_name(path.name + PART)
    with part.open("wb") as file:
        os.fchmod(file.fileno(), 0o640)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def _names(folder: Path) -> Iterator[Name]:
    try:
        entries = os.listdir(folder)
    except OSError:
        return
    for entry in entries:
        match = _NAME.fullmatch(entry)
        if match:
            boot, sequence, start_us, end_us = match.groups()
            yield Name(folder / entry, boot, int(sequence), int(start_us) * _NS_PER_US, int(end_us) * _NS_PER_US)
