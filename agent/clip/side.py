"""Where the car was while the camera filmed: track.gpx, track.json and subtitles from the stored samples.

Pure: samples in, text out. Positions are WGS-84. `utc` is that of the boot's t = 0.
"""

from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import quoteattr

import msgspec
import numpy as np
import numpy.typing as npt

from agent.blocks import Block
from agent.channels import number
from agent.clock import NS_PER_S, iso_utc
from agent.incident.folder import Video
from agent.store.reading import Utc

LATITUDES: Final = (number("Gnss.Latitude"), number("Vehicle.CurrentLocation.Latitude"))
LONGITUDES: Final = (number("Gnss.Longitude"), number("Vehicle.CurrentLocation.Longitude"))
# who says how fast the car is, the surest first
SPEEDS: Final = tuple(number(n) for n in ("Vehicle.Speed", "Wheel.Speed", "Obd.Speed", "Gnss.Speed"))
CHANNELS: Final = frozenset(
    {*LATITUDES, *LONGITUDES, *SPEEDS, number("Gnss.Heading"), number("Gnss.HorizontalAccuracy")}
)
FRESH_NS: Final = 2 * NS_PER_S
CREATOR: Final = "Roadwitness"


@dataclass(frozen=True, slots=True)
class Point:
    """One second of the clip: time from its zero, place and speed where they were known."""

    t_ns: int
    latitude: float | None
    longitude: float | None
    accuracy_m: float | None
    heading_deg: float | None
    speed_mps: float | None


def points(block: Block, video: Video, t0_ns: int) -> list[Point]:
    """Return a point for each whole second from time zero inside the range of the video."""
    first, last = -((t0_ns - video.from_ns) // NS_PER_S), (video.to_ns - t0_ns) // NS_PER_S
    times = t0_ns + np.arange(first, last + 1, dtype=np.int64) * NS_PER_S
    latitude, longitude = _first(block, LATITUDES, times), _first(block, LONGITUDES, times)
    accuracy = _held(block, number("Gnss.HorizontalAccuracy"), times)
    heading = _held(block, number("Gnss.Heading"), times)
    speed = _first(block, SPEEDS, times)
    return [
        Point(
            int(t),
            *(
                round(float(v), digits) if np.isfinite(v) else None
                for v, digits in zip(values, (7, 7, 1, 1, 2), strict=True)
            ),
        )
        for t, *values in zip(times, latitude, longitude, accuracy, heading, speed, strict=True)
    ]


def gpx(track: list[Point], utc: Utc | None, name: str) -> bytes:
    """Write the places as GPX 1.1; without a known UTC the points have no time."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<gpx version="1.1" creator={quoteattr(CREATOR)} xmlns="http://www.topografix.com/GPX/1/1">',
        f"<trk><name>{name}</name><trkseg>",
    ]
    for p in track:
        if p.latitude is None or p.longitude is None:
            continue
        time = "" if utc is None else f"<time>{iso_utc(utc.utc_ns + p.t_ns)}</time>"
        lines.append(f'<trkpt lat="{p.latitude:.7f}" lon="{p.longitude:.7f}">{time}</trkpt>')
    lines += ["</trkseg></trk></gpx>", ""]
    return "\n".join(lines).encode()


def table(track: list[Point], t0_ns: int, utc: Utc | None) -> bytes:
    """Write the points as JSON: seconds from time zero, place, speed; and how well the time of day is known."""
    said: dict[str, Any] = {
        "format": "roadwitness-track/1",
        "t0_ns": str(t0_ns),
        "utc": None if utc is None else iso_utc(utc.utc_ns + t0_ns),
        "time_quality": "none" if utc is None else utc.quality,
        "time_uncertainty_ns": None if utc is None else str(utc.uncertainty_ns),
        "points": [
            {
                "t_s": round((p.t_ns - t0_ns) / NS_PER_S, 3),
                "latitude": p.latitude,
                "longitude": p.longitude,
                "accuracy_m": p.accuracy_m,
                "heading_deg": p.heading_deg,
                "speed_mps": p.speed_mps,
            }
            for p in track
        ],
    }
    return msgspec.json.format(msgspec.json.encode(said), indent=1) + b"\n"


def lines(track: list[Point], utc: Utc | None) -> list[tuple[int, str]]:
    """Return a line of time of day and speed for each point, with its time."""
    found = []
    for p in track:
        speed = "– km/h" if p.speed_mps is None else f"{3.6 * p.speed_mps:.0f} km/h"
        time = "" if utc is None else f"{iso_utc(utc.utc_ns + p.t_ns)[:19]}Z  "
        found.append((p.t_ns, time + speed))
    return found


def vtt(cues: list[tuple[int, str]], start_ns: int) -> bytes:
    """Write lines as WebVTT subtitles, a second each, of a clip whose first picture was taken at `start_ns`."""
    text = ["WEBVTT", ""]
    for t_ns, line in cues:
        begin_s = (t_ns - start_ns) / NS_PER_S
        if begin_s + 1.0 > 0.0:
            text += [f"{_stamp(max(begin_s, 0.0))} --> {_stamp(begin_s + 1.0)}", line, ""]
    return "\n".join(text).encode()


def _stamp(seconds: float) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


def _first(block: Block, channels: tuple[int, ...], times: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the values of the first channel that says anything."""
    values = np.full(len(times), np.nan)
    for channel in channels:
        values = _held(block, channel, times)
        if np.isfinite(values).any():
            break
    return values


def _held(block: Block, channel: int, times: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the newest value of a channel at each time, NaN where it is older than FRESH_NS."""
    mine = block[block["channel"] == channel]
    if not len(mine):
        return np.full(len(times), np.nan)
    at = np.searchsorted(mine["t"], times, side="right") - 1
    held = np.maximum(at, 0)
    return np.where((at >= 0) & (times - mine["t"][held] <= FRESH_NS), mine["value"][held], np.nan)
