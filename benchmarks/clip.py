"""Cutting a clip of 25 s out of the dashcam's segments, 1280x720 at 30 pictures a second.

The alternatives: PyAV decoding and encoding the same pictures again, with the fastest preset of libx264, and one that
people use for clips. The limit: the same bytes copied and made durable.
"""

import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av

from agent.clip.cut import cut
from agent.clock import NS_PER_S
from agent.dashcam.process import Dashcam
from agent.dashcam.segments import Segment, segments
from agent.dashcam.settings import CameraSettings, DashcamConfig
from sim.drive import simulate
from sim.video import render

SIZE: Final = (1280, 720)
FPS: Final = 30
START_S: Final = 1000
FILMED_S: Final = 32.0
BEGIN_S: Final = 3.3  # of the clip; not on a key picture
CLIP_S: Final = 25.0
RUNS: Final = 5
BOOT: Final = "b" * 32


def main() -> None:
    """Print seconds of wall time and of CPU for one clip, and what it became."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = filmed(folder)
        from_ns = (START_S * NS_PER_S) + round(BEGIN_S * NS_PER_S)
        to_ns = from_ns + round(CLIP_S * NS_PER_S)

        def ours() -> Path:
            (clip,) = cut(found, from_ns, to_ns, folder, "front")
            return folder / clip.name

        def encoded(preset: str) -> Callable[[], Path]:
            return lambda: again(found, from_ns, to_ns, folder / f"{preset}.mp4", preset)

        def copied() -> Path:
            data = ours_path.read_bytes()
            path = folder / "copy"
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            return path

        ours_path = ours()
        rows = [("cut", *timed(ours, RUNS))]
        rows += [(f"encoded again, {preset}", *timed(encoded(preset), 1)) for preset in ("ultrafast", "veryfast")]
        rows.append(("the bytes, copied and synced (limit)", *timed(copied, RUNS)))
        print(
            f"{CLIP_S:.0f} s of {SIZE[0]}x{SIZE[1]} at {FPS} from {len(found)} segments, best of {RUNS} (encoding: 1)"
        )
        print(f"  {'':38}{'wall, ms':>10}{'CPU, ms':>10}{'MB':>8}{'cuts':>10}")
        base_s = rows[0][1]
        for what, wall_s, cpu_s, path in rows:
            times = f"{wall_s / base_s:>10.2f}"
            print(f"  {what:38}{wall_s * 1e3:>10.0f}{cpu_s * 1e3:>10.0f}{path.stat().st_size / 1e6:>8.1f}{times}")


def filmed(folder: Path) -> Sequence[Segment]:
    """Let the dashcam film a simulated road as fast as it goes, and return its segments."""
    film = folder / "film.mp4"
    render(simulate("crash", 6, 5.0), film, 150.0, 150.0 + FILMED_S, size=SIZE, fps=FPS)
    camera = CameraSettings(source=str(film), pace=0.0, start_ns=START_S * NS_PER_S, mode="copy")
    Dashcam(DashcamConfig(min_free_bytes=0, cameras={"front": camera}), folder / "video", boot=BOOT).run()
    return segments(folder / "video", "front", BOOT, 0, 10**18)


def again(found: Sequence[Segment], from_ns: int, to_ns: int, path: Path, preset: str) -> Path:
    """Decode what is in the range and encode it anew, as a tool does that cuts anywhere."""
    with av.open(str(path), "w") as sink:
        stream: Any = sink.add_stream("libx264", rate=FPS, options={"preset": preset})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *SIZE, "yuv420p", 2_000_000
        count = 0
        for segment in found:
            with av.open(str(segment.path)) as source:
                for frame in source.decode(video=0):
                    t_ns = segment.start_ns + round(float(frame.time or 0.0) * NS_PER_S)
                    if from_ns <= t_ns <= to_ns:
                        frame.pts, frame.time_base = count, Fraction(1, FPS)
                        count += 1
                        sink.mux(stream.encode(frame))
        sink.mux(stream.encode())
    return path


def timed(work: Callable[[], Path], runs: int) -> tuple[float, float, Path]:
    """Return the least wall time and CPU time of some runs, in s, and the file."""
    best: list[tuple[float, float, Path]] = []
    for _ in range(runs):
        began, used = time.perf_counter(), _cpu_s()
        path = work()
        best.append((time.perf_counter() - began, _cpu_s() - used, path))
    return min(best, key=lambda one: one[0])


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
