"""Cut a range of time out of segments: packets are copied as the camera or the encoder made them, never re-encoded.

A clip begins with the last key picture at or before the start of the range, so that it plays from its first frame and
covers all of it. Where the camera changed its size or parameters in between, a second file begins.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

from agent.clock import NS_PER_S
from agent.dashcam.mp4 import read_head
from agent.dashcam.segments import Segment
from agent.durable import sync_folder

MICROSECONDS: Final = Fraction(1, 1_000_000)
BROWSERS_PLAY: Final = "h264"
VIEW_OPTIONS: Final = {"preset": "veryfast", "crf": "26"}  # of a copy for browsers; evidence is the clip
_US: Final = 1000


@dataclass(frozen=True, slots=True)
class Clip:
    """One file that was written; times are monotonic ns of the boot, `times` those of its pictures as shown."""

    name: str
    codec: str
    width: int
    height: int
    start_ns: int
    end_ns: int
    times: list[int]

    @property
    def largest_gap_s(self) -> float:
        """Return the longest time between two pictures that follow each other."""
        return float(np.diff(self.times).max()) / NS_PER_S if len(self.times) > 1 else 0.0


def cut(segments: Sequence[Segment], from_ns: int, to_ns: int, folder: Path, camera: str) -> list[Clip]:
    """Write `clip-CAMERA.mp4` (`clip-CAMERA-2.mp4` …) into `folder`, durable on return; [] where no picture is.

    `segments` are one camera's, by time (agent.dashcam.segments). Raise OSError where the disk refuses and
    av.FFmpegError where a segment cannot be read.
    """
    clips = []
    for number, run in enumerate(_runs(segments), 1):
        name = f"clip-{camera}.mp4" if number == 1 else f"clip-{camera}-{number}.mp4"
        clip = _remux(run, from_ns, to_ns, folder / name)
        if clip is not None:
            clips.append(clip)
    return clips


def view(clip: Path, path: Path) -> bool:
    """Write a copy of a clip that browsers play, encoded anew; say whether an encoder for it is there.

    For cameras that give single JPEG pictures, which players open and browsers do not.
    """
    try:
        codec = av.Codec("libx264", "w")
    except av.codec.codec.UnknownCodecError:
        return False
    part = path.with_name(path.name + ".part")
    with av.open(str(clip)) as source, av.open(str(part), "w", format="mp4", options=_MOVFLAGS) as sink:
        filmed = source.streams.video[0]
        stream: Any = sink.add_stream(codec.name, options=VIEW_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = filmed.width, filmed.height, "yuv420p"
        stream.codec_context.time_base = MICROSECONDS
        for frame in source.decode(filmed):
            sink.mux(stream.encode(frame.reformat(format="yuv420p")))
        sink.mux(stream.encode())
    _whole(part, path)
    return True


_MOVFLAGS: Final = {"movflags": "faststart", "video_track_timescale": "1000000"}


def _runs(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Part segments where what a player must know of them changes."""
    run: list[Segment] = []
    before = None
    for segment in segments:
        with segment.path.open("rb") as file:
            head = read_head(file)
        if run and head != before:
            yield run
            run = []
        run.append(segment)
        before = head
    if run:
        yield run


def _remux(segments: list[Segment], from_ns: int, to_ns: int, path: Path) -> Clip | None:
    part = path.with_name(path.name + ".part")
    chosen = list(_chosen(segments, from_ns, to_ns))
    if not chosen:
        return None
    base_ns = min(start_ns + pts_us * _US for start_ns, pts_us, _ in chosen)
    with av.open(str(segments[0].path)) as first, av.open(str(part), "w", format="mp4", options=_MOVFLAGS) as sink:
        stream: Any = sink.add_stream_from_template(first.streams.video[0])
        stream.time_base = MICROSECONDS
        decoded_us = -1
        for start_ns, pts_us, packet in chosen:
            shift_us = (start_ns - base_ns) // _US
            packet.pts = pts_us + shift_us
            # a segment's decoding times begin anew; they only ever go on
            decoded_us = max(decoded_us + 1, min(packet.dts + shift_us, packet.pts))
            packet.dts = decoded_us
            packet.time_base = MICROSECONDS
            packet.stream = stream
            sink.mux(packet)
    _whole(part, path)
    times = sorted(start_ns + pts_us * _US for start_ns, pts_us, _ in chosen)
    one = segments[0]
    step_ns = times[-1] - times[-2] if len(times) > 1 else 0
    return Clip(path.name, one.codec, one.width, one.height, times[0], times[-1] + step_ns, times)


def _chosen(segments: list[Segment], from_ns: int, to_ns: int) -> Iterator[tuple[int, int, Any]]:
    """Yield (segment's start, µs in it, packet) from the last key picture before the range to its end."""
    waiting: list[tuple[int, int, Any]] = []  # since the last key picture before the range
    for segment in segments:
        for packet in _packets(segment):
            at_ns = segment.start_ns + packet.pts * _US
            if at_ns <= from_ns:
                if packet.is_keyframe:
                    waiting = []
                waiting.append((segment.start_ns, packet.pts, packet))
                continue
            if at_ns > to_ns:
                continue
            yield from waiting
            waiting = []
            yield segment.start_ns, packet.pts, packet


def _packets(segment: Segment) -> Iterator[Any]:
    with av.open(str(segment.path)) as container:
        for packet in container.demux(video=0):
            if packet.size and packet.pts is not None:
                packet.pts = round(packet.pts * packet.time_base / MICROSECONDS)
                packet.dts = round((packet.dts if packet.dts is not None else 0) * packet.time_base / MICROSECONDS)
                yield packet


def _whole(part: Path, path: Path) -> None:
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)
