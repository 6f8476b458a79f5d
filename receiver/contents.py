"""What the files of a package say, read for the page: bounded, and never trusted to be well formed.

A package that is proved is as its device signed it; that says nothing of its shape, and one that is still arriving or
failed is shown as far as it goes. Whatever cannot be read is left out.
"""

import csv
import io
import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from agent.known import known
from receiver.crashes import PackageFile
from receiver.drive import Samples
from receiver.filestore import FileStore

log = logging.getLogger(__name__)

MOST_TABLE: Final = 8 << 20  # bytes of one table; ours at 1 kHz have 0.9 MB
MOST_JSON: Final = 1 << 20
MOST_ROWS: Final = 25_000  # ±5 s at 1 kHz are 10,001
MOST_COLUMNS: Final = 60
MOST_CAMERAS: Final = 8
_LARGEST: Final = 1e9

Axis = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the record; `t_s` are seconds from time zero, columns are equally long, None where unknown."""

    t_s: list[float] = field(default_factory=list)
    columns: dict[str, Samples] = field(default_factory=dict)

    def column(self, name: str) -> Samples:
        """Return a column, unknown all over where there is none."""
        return self.columns.get(name) or [None] * len(self.t_s)


@dataclass(frozen=True, slots=True)
class Camera:
    """What one camera filmed: the file to play, and when its first and last picture were, seconds from time zero."""

    name: str
    file: str
    start_s: float
    end_s: float
    poster: str  # file or ""
    subtitles: str
    shown_copy: bool  # a copy for browsers; the evidence is another file
    further: int  # files that follow, where the camera was opened again


@dataclass(frozen=True, slots=True)
class Contents:
    """All that the page shows out of a package."""

    before: Table = field(default_factory=Table)
    imu: Table = field(default_factory=Table)
    track: Table = field(default_factory=Table)
    cameras: list[Camera] = field(default_factory=list)
    mount: tuple[Axis, Axis] | None = None  # up and forward, in the axes of the box
    gaps_s: list[tuple[float, float]] = field(default_factory=list)
    complete: bool | None = None  # everything was measured; None where the record has not come
    reached_s: float | None = None  # time of the last sample


class _Mount(msgspec.Struct):
    gravity: Axis
    forward: Axis


class _Record(msgspec.Struct):
    complete: bool | None = None
    gaps_s: list[tuple[float, float]] = []
    reached_s: float | None = None
    mount: _Mount | None = None


class _Clip(msgspec.Struct):
    file: str
    start_s: float
    end_s: float


class _Filmed(msgspec.Struct):
    camera: str
    clips: list[_Clip]
    poster: str | None = None
    view: str | None = None


class _Video(msgspec.Struct):
    cameras: list[_Filmed]


def read(files: FileStore, device: str, incident: str, listed: Sequence[PackageFile]) -> Contents:
    """Read what stands in the store of a package."""
    sizes = {f.name: f.size for f in listed if f.held}

    def data(name: str, most: int) -> bytes:
        if not 0 < sizes.get(name, 0) <= most:
            return b""
        try:
            with files.open(device, incident, name) as file:
                return bytes(file.read(most))
        except OSError as e:
            log.warning("package %s of device %s: %s cannot be read: %s", incident, device, name, e)
            return b""

    record = _decoded(data("crash.json", MOST_JSON), _Record) or _Record()
    video = _decoded(data("video.json", MOST_JSON), _Video)
    return Contents(
        before=table(data("before.csv", MOST_TABLE)),
        imu=table(data("imu.csv", MOST_TABLE)),
        track=table(data("track.csv", MOST_TABLE)),
        cameras=_cameras(video, sizes) if video is not None else [],
        mount=(record.mount.gravity, record.mount.forward) if record.mount is not None else None,
        gaps_s=[(a, b) for a, b in record.gaps_s[:20] if math.isfinite(a) and math.isfinite(b)],
        complete=record.complete,
        reached_s=record.reached_s,
    )


def table(data: bytes) -> Table:
    """Read one of our CSV tables: rows in time order with `t_s` first; what is no number is unknown."""
    try:
        rows = csv.reader(io.StringIO(data.decode("ascii", "replace")))
        names = next(rows, [])[:MOST_COLUMNS]
        if not names or names[0] != "t_s" or len(set(names)) != len(names):
            return Table()
        found = Table([], {name: [] for name in names[1:]})
        for row, _ in zip(rows, range(MOST_ROWS), strict=False):
            at = _number(row[0]) if row else None
            if at is None or abs(at) > 3600 or (found.t_s and at <= found.t_s[-1]):
                continue
            found.t_s.append(at)
            for i, name in enumerate(names[1:], 1):
                found.columns[name].append(_number(row[i]) if i < len(row) else None)
    except csv.Error:
        return Table()
    return found


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= _LARGEST else None  # neither inf nor nan


def _cameras(video: _Video, sizes: Collection[str]) -> list[Camera]:
    found = []
    for filmed in video.cameras[:MOST_CAMERAS]:
        clips = [c for c in filmed.clips if c.file in sizes and -3600 < c.start_s < c.end_s < 3600]
        if not clips:
            continue
        # the clip that shows time zero, as the cutter chose it for poster and copy
        main = next((c for c in clips if c.start_s <= 0.0 <= c.end_s), clips[0])
        copy = filmed.view if filmed.view in sizes else None
        poster, subtitles = filmed.poster or "", f"track-{filmed.camera}.vtt"
        found.append(
            Camera(
                name=filmed.camera,
                file=copy or main.file,
                start_s=main.start_s,
                end_s=main.end_s,
                poster=poster if poster in sizes else "",
                # their times are those of the first clip
                subtitles=subtitles if subtitles in sizes and main is clips[0] else "",
                shown_copy=copy is not None,
                further=len(clips) - 1,
            )
        )
    return found


def _decoded(data: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(data, type=known(kind)) if data else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
