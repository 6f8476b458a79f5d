"""Everything that is made of the cameras for one incident; `video.json` comes last and says what there is."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.clip.cut import BROWSERS_PLAY, Clip, cut, view
from agent.clip.look import motion, poster
from agent.clip.settings import REPORT
from agent.clip.side import vtt
from agent.clock import NS_PER_S
from agent.dashcam.segments import cameras, segments
from agent.incident.folder import write_files

HOLE_S: Final = 0.5  # between two pictures; less is a camera that stumbles, and `largest_gap_s` tells of it
FORMAT: Final = "roadwitness-video/1"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The package's folder, the dashcam's, and what is wanted: monotonic ns of the boot."""

    folder: Path
    video: Path
    boot: str
    from_ns: int
    to_ns: int
    t0_ns: int
    cues: tuple[tuple[int, str], ...] = ()  # what subtitles say from when
    cameras: tuple[str, ...] = ()  # none: all


def make(wanted: Wanted) -> dict[str, Any]:
    """Cut every camera's clip, take a poster, measure the jump; write it and return what `video.json` says."""
    told: dict[str, Any] = {"format": FORMAT, "from_s": _s(wanted, wanted.from_ns), "to_s": _s(wanted, wanted.to_ns)}
    chosen = [c for c in cameras(wanted.video) if not wanted.cameras or c in wanted.cameras]
    told["cameras"] = [_camera(wanted, camera) for camera in chosen]
    text = msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n"
    write_files(wanted.folder, {REPORT: text})
    return told


def _camera(wanted: Wanted, camera: str) -> dict[str, Any]:
    found = segments(wanted.video, camera, wanted.boot, wanted.from_ns, wanted.to_ns)
    clips = cut(found, wanted.from_ns, wanted.to_ns, wanted.folder, camera)
    said: dict[str, Any] = {"camera": camera, "clips": [_told(wanted, clip) for clip in clips]}
    showing = next((c for c in clips if c.start_ns <= wanted.t0_ns <= c.end_ns), clips[0] if clips else None)
    if showing is None:
        return said | {"poster": None, "motion": None, "view": None}
    picture = poster(showing, wanted.folder, wanted.t0_ns)
    if picture is not None:
        write_files(wanted.folder, {f"poster-{camera}.jpg": picture})
    if wanted.cues:
        write_files(wanted.folder, {f"track-{camera}.vtt": vtt(list(wanted.cues), clips[0].start_ns)})
    copy = f"view-{camera}.mp4"
    seen = showing.codec != BROWSERS_PLAY and view(wanted.folder / showing.name, wanted.folder / copy)
    return said | {
        "poster": f"poster-{camera}.jpg" if picture is not None else None,
        "view": copy if seen else None,
        "motion": motion(showing, wanted.folder, wanted.t0_ns),
    }


def _told(wanted: Wanted, clip: Clip) -> dict[str, Any]:
    return {
        "file": clip.name,
        "codec": clip.codec,
        "width": clip.width,
        "height": clip.height,
        "pictures": len(clip.times),
        "start_ns": str(clip.start_ns),
        "end_ns": str(clip.end_ns),
        "start_s": _s(wanted, clip.start_ns),
        "end_s": _s(wanted, clip.end_ns),
        "largest_gap_s": round(clip.largest_gap_s, 4),
        "holes_s": [[_s(wanted, a), _s(wanted, b)] for a, b in pairwise(clip.times) if b - a > HOLE_S * NS_PER_S],
    }


def _s(wanted: Wanted, t_ns: int) -> float:
    """Return seconds from time zero."""
    return round((t_ns - wanted.t0_ns) / NS_PER_S, 4)
