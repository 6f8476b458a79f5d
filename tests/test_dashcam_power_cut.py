"""The dashcam killed at random moments: what was filmed until then stands, whole, and no hole is hidden."""

import os
import random
import signal
import threading
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from agent import clock
from agent.boot import kernel_boot_id
from agent.dashcam import segments
from agent.dashcam.copying import whole
from agent.dashcam.mp4 import OVERHEAD_BYTES, Frame, Head, fragment_head, head_bytes, read_frames, read_head
from agent.dashcam.salvage import salvage
from tests.dashcam_making import BOOT, S, film, film_h264, running

ROOT = Path(__file__).resolve().parents[1]
KILLS = 12


def written(path: Path) -> str:
    path.mkdir()
    film_h264(path / "front.mp4", 4, gop=30)
    film(path / "rear.mp4", "mjpeg", 3)
    toml = path / "dashcam.toml"
    toml.write_text(
        f"min_free_bytes = 0\n[cameras.front]\nsource = '{path}/front.mp4'\nloop = true\n"
        f"[cameras.rear]\nsource = '{path}/rear.mp4'\nloop = true\nmode = 'encode'\nwidth = 320\nheight = 180\n"
    )
    return str(toml)


def test_a_dozen_kills_cost_no_written_picture_and_leave_every_segment_whole(tmp_path: Path) -> None:
    toml, folder = written(tmp_path / "in"), tmp_path / "video"
    boot, rng, never = kernel_boot_id(), random.Random(4), threading.Event()
    killed_ns = []
    for _ in range(KILLS):
        process = running(["--config", toml, "--dir", str(folder)], ROOT)
        try:
            begun = {c: len(list((folder / c).glob("*"))) for c in ("front", "rear")}
            deadline_ns = clock.monotonic_ns() + 30 * S
            while clock.monotonic_ns() < deadline_ns:  # until both film
                clock.wait(never, 0.02)
                if all(len(list((folder / c).glob("*"))) > max(1, begun[c]) for c in begun):
                    break
            clock.wait(never, rng.uniform(0.0, 0.8))
            os.kill(process.pid, signal.SIGKILL)
            killed_ns.append(clock.monotonic_ns())
        finally:
            process.kill()
            process.communicate()
    for camera in ("front", "rear"):
        saved = salvage(folder / camera)
        assert len(saved) == 1  # the last one; earlier ones were saved by the starts that followed
        assert not list((folder / camera).glob("*.part"))
        found = segments.segments(folder, camera, boot, 0, 10**18)
        assert len(found) >= KILLS
        shown = [segments.frame_times(s) for s in found]
        for segment, at in zip(found, shown, strict=True):
            assert segment.end_ns - segment.start_ns <= 2 * S + 0.02 * S
            assert np.diff(at).max(initial=0) <= 0.04 * S
            with av.open(str(segment.path)) as container:
                assert len(list(container.decode(video=0))) == segment.frames
        for kill_ns in killed_ns:
            last_ns = max(int(at[-1]) for at in shown if at[0] < kill_ns)
            assert kill_ns - last_ns < S  # of two seconds that it may cost
        holes = [b.start_ns - a.end_ns for a, b in pairwise(found) if b.start_ns - a.end_ns > 0.04 * S]
        assert len(holes) <= KILLS - 1  # only where it was killed


def part(folder: Path, codec: str, bodies: list[bytes], start_ns: int = 5 * S) -> tuple[Path, list[int]]:
    head = Head(codec, 64, 48, b"\1\x42\0\x1e\xff\xe1\0\4\x67\x42\0\x1e\1\0\2\x68\xce" if codec == "h264" else b"")
    data, ends = head_bytes(head), []
    for i, body in enumerate(bodies):
        data += fragment_head(i + 1, Frame(0, len(body), i * 33_333, i * 33_333, 33_333, i == 0)) + body
        ends.append(len(data))
    path = folder / segments.part_name(BOOT, 7, start_ns)
    path.write_bytes(data)
    return path, ends


def bodies(codec: str, count: int = 10) -> list[bytes]:
    if codec == "mjpeg":
        return [b"\xff\xd8" + bytes([i + 1]) * (50 + i) + b"\xff\xd9" for i in range(count)]
    return [(40 + i).to_bytes(4, "big") + b"\x65" + bytes([i + 1]) * (39 + i) for i in range(count)]


def test_a_torn_last_write_is_cut_behind_the_last_whole_picture(tmp_path: Path) -> None:
    for codec in ("h264", "mjpeg"):
        for cut in range(0, 900, 37):
            path, ends = part(tmp_path, codec, bodies(codec))
            os.truncate(path, min(cut, ends[-1]))
            expected = sum(end <= cut for end in ends)
            saved = salvage(tmp_path)
            assert not path.exists()
            assert len(saved) == (1 if expected else 0)
            for name in saved:
                assert (name.sequence, name.start_ns) == (7, 5 * S)
                assert name.end_ns == 5 * S + expected * 33_333_000
                assert name.path.stat().st_size == ends[expected - 1]
                name.path.unlink()


def test_zeros_inside_a_picture_end_what_is_saved(tmp_path: Path) -> None:
    for codec in ("h264", "mjpeg"):
        path, ends = part(tmp_path, codec, bodies(codec))
        with path.open("r+b") as file:
            file.seek(ends[5] + OVERHEAD_BYTES)
            file.write(bytes(ends[6] - ends[5] - OVERHEAD_BYTES))
        (name,) = salvage(tmp_path)
        with name.path.open("rb") as file:
            head = read_head(file)
            frames = read_frames(file, name.path.stat().st_size)
            assert len(frames) == 6
            assert all(whole(head, os.pread(file.fileno(), f.size, f.offset)) for f in frames)
        name.path.unlink()


def test_what_is_no_segment_is_removed(tmp_path: Path) -> None:
    (tmp_path / "health.json.part").write_text("{")
    (tmp_path / segments.part_name(BOOT, 1, 0)).write_bytes(b"")
    (tmp_path / segments.part_name(BOOT, 2, 0)).write_bytes(bytes(5000))
    assert salvage(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
