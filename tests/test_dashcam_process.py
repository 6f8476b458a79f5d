"""The dashcam as a whole: what is filmed stands on disk with exact times, copied or encoded, come what may."""

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from agent import clock
from agent.boot import kernel_boot_id
from agent.dashcam import segments, writing
from agent.dashcam.camera import CameraAtWork
from agent.dashcam.process import Dashcam, HangError
from agent.dashcam.settings import CameraSettings, HealthSettings, load_dashcam
from agent.dashcam.state import read_state
from agent.errors import ConfigError, DriverError
from agent.watchdog import Watchdog
from drivers.camera import Offer
from tests.dashcam_making import (
    BOOT,
    S,
    Script,
    config,
    fast,
    film,
    film_h264,
    raw,
    run_whole,
    scene,
)

ROOT = Path(__file__).resolve().parents[1]
EVER = 10**18


def found(folder: Path, camera: str = "front") -> list[segments.Segment]:
    return segments.segments(folder, camera, BOOT, 0, EVER)


def times(folder: Path, camera: str = "front") -> np.ndarray:
    return np.concatenate([segments.frame_times(s) for s in found(folder, camera)])


def decoded(segment: segments.Segment) -> list[av.VideoFrame]:
    with av.open(str(segment.path)) as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize("codec", ["h264", "mjpeg"])
def test_a_compressed_camera_is_copied_to_the_byte(codec: str, tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    film_h264(source, 7) if codec == "h264" else film(source, "mjpeg", 7)
    run_whole(config(fast(source)), tmp_path / "video")
    whole = found(tmp_path / "video")
    assert [round((s.end_ns - s.start_ns) / S, 2) for s in whole] == [2.0, 2.0, 2.0, 1.0]
    assert all(b.start_ns == a.end_ns for a, b in pairwise(whole))
    assert {(s.codec, s.width, s.height) for s in whole} == {(codec, 320, 180)}
    expected = 1000 * S + np.round(np.arange(210) * 1e6 / 30).astype(np.int64) * 1000
    assert np.abs(times(tmp_path / "video") - expected).max() <= 1000
    with av.open(str(source)) as original:
        wanted = [bytes(p) for p in original.demux(video=0) if p.size]
    kept = []
    for segment in whole:
        with av.open(str(segment.path)) as container:
            packets = [p for p in container.demux(video=0) if p.size]
        assert packets[0].is_keyframe
        kept += [bytes(p) for p in packets]
        assert len(decoded(segment)) == segment.frames
    assert kept == wanted
    state = read_state(tmp_path / "video", "front")
    assert (state.state, state.mode, state.codec, state.counts["kept"]) == ("ended", "copy", codec, 210)


CLIPS = ROOT.parent / "shared" / "data" / "video"


@pytest.mark.data
@pytest.mark.skipif(not CLIPS.is_dir(), reason="../shared/data/video is absent")
@pytest.mark.parametrize(("clip", "size"), [("solidWhiteRight", (960, 540)), ("vehicle_test_video", (1280, 720))])
def test_real_road_video_is_copied_whole_and_its_camera_is_well(
    clip: str, size: tuple[int, int], tmp_path: Path
) -> None:
    source = CLIPS / f"udacity_{clip}.mp4"
    dashcam = run_whole(config(fast(source, fps=25.0)), tmp_path / "video")
    with av.open(str(source)) as original:
        wanted = [bytes(p) for p in original.demux(video=0) if p.size]
    kept = []
    for segment in found(tmp_path / "video"):
        assert (segment.width, segment.height) == size
        assert segment.end_ns - segment.start_ns <= 2 * S
        assert len(decoded(segment)) == segment.frames
        with av.open(str(segment.path)) as container:
            kept += [bytes(p) for p in container.demux(video=0) if p.size]
    assert kept == wanted
    assert np.abs(np.diff(times(tmp_path / "video")) - 0.04 * S).max() < 2000
    assert dashcam._watched[0].judge.problems(0, "") == {}


def test_pictures_between_two_others_keep_their_times(tmp_path: Path) -> None:
    source = film(
        tmp_path / "b.mp4", "libx264", 4, options={"preset": "medium", "bf": "2", "x264-params": "open-gop=0"}
    )
    run_whole(config(fast(source)), tmp_path / "video")
    shown = times(tmp_path / "video")
    assert len(shown) == 120
    assert np.abs(np.diff(shown) - S / 30).max() < 2000
    for segment in found(tmp_path / "video"):
        frames = decoded(segment)
        at_us = [round(f.pts * f.time_base * 1_000_000) for f in frames]
        offset = at_us[0]
        assert [t - offset for t in at_us] == [
            round((t - segment.start_ns) / 1000) for t in segments.frame_times(segment)
        ]


def test_long_key_distances_are_kept_and_told(tmp_path: Path) -> None:
    source = film_h264(tmp_path / "long.mp4", 9, gop=120, size=(160, 90))
    camera = fast(source, pace=5.0, start_ns=0)
    states = []
    dashcam = Dashcam(config(camera), tmp_path / "video", boot=BOOT)
    publish = dashcam._publish
    dashcam._publish = lambda *a: (publish(*a), states.append(a[0].state))  # type: ignore[method-assign]
    dashcam.run()
    assert [round((s.end_ns - s.start_ns) / S) for s in found(tmp_path / "video")] == [4, 4, 1]
    assert any("keys" in s.problems and s.state == "degraded" for s in states)


def test_raw_pictures_are_encoded_in_segments_of_two_seconds(tmp_path: Path) -> None:
    source = film(tmp_path / "raw.avi", "rawvideo", 5)
    run_whole(config(fast(source, encoder="libx264")), tmp_path / "video")
    whole = found(tmp_path / "video")
    assert [round((s.end_ns - s.start_ns) / S, 2) for s in whole] == [2.0, 2.0, 1.0]
    assert np.abs(np.diff(times(tmp_path / "video")) - S / 30).max() < 1e6
    state = read_state(tmp_path / "video", "front")
    assert (state.mode, state.encoder, state.counts["kept"]) == ("encode", "libx264", 150)
    middle = decoded(whole[1])[0].to_ndarray(format="bgr24").astype(int)
    assert np.abs(middle - scene(60)).mean() < 12


@pytest.mark.parametrize(("fps", "kept"), [(15, 30), (30, 60), (31, 62), (60, 60)])
def test_a_camera_that_is_much_too_fast_is_thinned_and_one_that_is_a_little_fast_is_not(
    fps, kept, tmp_path: Path
) -> None:
    source = film(tmp_path / "s.mp4", "mjpeg", 2, fps=fps, size=(160, 90))
    run_whole(config(fast(source, mode="encode", width=160, height=90, encoder="libx264")), tmp_path / "video")
    assert len(times(tmp_path / "video")) == kept
    assert all(s.end_ns - s.start_ns <= 2 * S for s in found(tmp_path / "video"))


def test_masks_hide_rotation_turns_and_the_overlay_can_be_seen(tmp_path: Path) -> None:
    source = film(tmp_path / "s.mp4", "mjpeg", 1, picture=lambda i: scene(i, still=True, noise=1))
    masked = fast(source, masks=((0.5, 0.0, 0.5, 0.5),))
    run_whole(config(masked), tmp_path / "masked")
    picture = decoded(found(tmp_path / "masked")[0])[3].to_ndarray(format="gray")
    assert picture[2:86, 164:318].std() < 2
    assert picture[2:86, 164:318].max() < 24
    assert picture[:, 2:156].std() > 20
    run_whole(config(fast(source, rotate_deg=90)), tmp_path / "turned")
    turned = decoded(found(tmp_path / "turned")[0])[3].to_ndarray(format="gray").astype(int)
    assert turned.shape == (320, 180)
    assert np.abs(np.rot90(scene(3, still=True, noise=0).mean(axis=2), -1) - turned).mean() < 25
    run_whole(config(fast(source, overlay=True)), tmp_path / "overlay")
    band = decoded(found(tmp_path / "overlay")[0])[3].to_ndarray(format="gray")[-10:, :60]
    assert band.min() < 30
    assert band.max() > 180


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mode = 'copy'\noverlay = true", "change the picture"),
        ("mode = 'copy'\nmasks = [[0.0, 0.0, 0.5, 0.5]]", "change the picture"),
        ("masks = [[0.0, 0.0, 1.5, 0.5]]", "a mask is left, top"),
        ("width = 641", "even"),
        ("source = ''", "source is missing"),
        ("mod = 'copy'", "mode"),
        ("[cameras.b]\n[cameras.c]", "one process serves 2"),
        ("[cameras.rear]", "are both /dev/video0"),
        ("[cameras.keep]", "is not 'keep'"),
    ],
)
def test_a_wrong_configuration_is_one_line(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "dashcam.toml"
    path.write_text(f"[cameras.front]\n{text}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        load_dashcam(path)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_a_camera_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="add a table"):
        Dashcam(config({}), tmp_path)


def test_two_cameras_film_at_once_and_each_has_its_own_folder(tmp_path: Path) -> None:
    front, rear = film_h264(tmp_path / "f.mp4", 3), film(tmp_path / "r.mp4", "mjpeg", 2, fps=15)
    both = {"front": fast(front), "rear": fast(rear, mode="encode", fps=15.0)}
    run_whole(config(both), tmp_path / "video")
    assert segments.cameras(tmp_path / "video") == ["front", "rear"]
    assert len(times(tmp_path / "video", "front")) == 90
    assert len(times(tmp_path / "video", "rear")) == 30


def test_a_file_plays_in_real_time_from_a_stated_start_and_again_from_its_beginning(tmp_path: Path) -> None:
    source = film_h264(tmp_path / "s.mp4", 1, gop=15)
    start_ns = clock.monotonic_ns() + S // 2
    dashcam = Dashcam(config(fast(source, pace=1.0, loop=True, start_ns=start_ns)), tmp_path / "video", boot=BOOT)
    threading.Timer(3.5, dashcam.stop).start()
    dashcam.run()
    ended_ns = clock.monotonic_ns()
    shown = times(tmp_path / "video")
    assert abs(int(shown[0]) - start_ns) < 1000
    assert len(shown) > 30, "the file has so many; three seconds are ninety, and a busy machine is late"
    assert shown[-1] <= ended_ns
    assert np.abs(np.diff(shown) - S / 30).max() < 2000


def images(steps):
    """A camera that gives 320×180 raw pictures by a script, one script for each opening; the last one goes on."""
    openings = iter(steps)

    def make(wish, raw_wanted):
        script = next(openings)
        return Script(wish, script() if callable(script) else iter([script]), Offer("rawvideo", 320, 180, 30.0))

    return make


def steady(count: int, *, end: object = None, picture=scene):
    """Pictures at 30 Hz, as real time passes."""

    def pictures():
        never = threading.Event()
        for i in range(count):
            clock.wait(never, 1 / 30)
            yield raw(picture(i), clock.monotonic_ns())
        if end is not None:
            yield end

    return pictures


def test_a_camera_that_hangs_ends_the_process_with_its_name_and_every_segment_whole(tmp_path: Path) -> None:
    camera = CameraSettings(source="/dev/video9", mode="encode", width=320, height=180, encoder="libx264")
    settings = config({"front": camera}, hang_s=12.0)
    object.__setattr__(settings, "hang_s", 2.0)  # libraries wait longer; this source does not
    dashcam = Dashcam(settings, tmp_path / "video", boot=BOOT, make=images([steady(20, end="hang")]))
    with pytest.raises(HangError, match=r"front \(/dev/video9\): hangs in read for 2 s; the process ends"):
        dashcam.run()
    state = read_state(tmp_path / "video", "front")
    assert state.state == "lost"
    assert "hangs in read" in state.problems["lost"].detail
    assert len(state.hangs) == 1
    # what waits in other threads of that camera is saved by the next start, at the latest
    run_whole(config(fast(film(tmp_path / "x.mp4", "mjpeg", 0.2))), tmp_path / "video")
    assert len(times(tmp_path / "video")) == 20 + 6


def test_a_device_that_really_hangs_ends_the_real_process_in_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "camera")  # opening it for reading never returns
    film(tmp_path / "good.mp4", "mjpeg", 1)
    toml = tmp_path / "dashcam.toml"
    toml.write_text(
        f"min_free_bytes = 0\n[cameras.rear]\nsource = '{tmp_path}/camera'\n"
        f"[cameras.front]\nsource = '{tmp_path}/good.mp4'\nloop = true\n"
    )
    code = (
        "from agent.dashcam import process\n"
        "load = process.load_dashcam\n"
        "def sooner(path):\n"
        "    found = load(path)\n"
        "    object.__setattr__(found, 'hang_s', 2.0)\n"
        "    return found\n"
        "process.load_dashcam = sooner\n"
        "from agent.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, "dashcam", "--config", toml, "--dir", tmp_path / "video"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"roadwitness: rear ({tmp_path}/camera): hangs in open for 2 s; the process ends")
    boot = kernel_boot_id()
    assert read_state(tmp_path / "video", "rear").state == "lost"
    assert read_state(tmp_path / "video", "front").state == "ended"
    whole = segments.segments(tmp_path / "video", "front", boot, 0, EVER)
    assert whole[-1].end_ns - whole[0].start_ns > S
    assert not list((tmp_path / "video" / "front").glob("*.part"))


def test_a_camera_that_hung_often_is_left_alone_while_another_works(tmp_path: Path) -> None:
    now_ns = clock.monotonic_ns()
    folder = tmp_path / "video" / "front"
    folder.mkdir(parents=True)
    (folder / "health.json").write_text(
        json.dumps(
            {
                "camera": "front",
                "boot": BOOT,
                "t_ns": now_ns,
                "state": "lost",
                "hangs": [now_ns - k * S for k in (30, 20, 10)],
            }
        )
    )
    opened = []

    def make(wish, raw_wanted):
        opened.append(wish.source)
        threading.Timer(1.0, dashcam.stop).start()
        return Script(wish, steady(10)(), Offer("rawvideo", 320, 180, 30.0))

    both = {n: CameraSettings(source=f"/dev/{n}", mode="encode", width=320, height=180) for n in ("front", "rear")}
    dashcam = Dashcam(config(both), tmp_path / "video", boot=BOOT, make=make)
    dashcam.run()
    assert opened == ["/dev/rear"]


def test_an_unplugged_camera_is_told_and_filmed_again_when_it_returns(tmp_path: Path) -> None:
    camera = CameraSettings(source="/dev/video9", mode="encode", width=320, height=180, encoder="libx264")
    gone = DriverError("/dev/video9: read: no such device")
    health = HealthSettings(lost_s=1.0)
    make = images([steady(15, end=gone), gone, gone, steady(40)])
    dashcam = Dashcam(
        config(camera, health=health, retry_s=0.8, retry_cap_s=0.8), tmp_path / "video", boot=BOOT, make=make
    )
    seen = []
    publish = dashcam._publish
    dashcam._publish = lambda *a: (publish(*a), seen.append(a[0].state))  # type: ignore[method-assign]
    dashcam.run()
    assert [s.state for s in seen if s.problems] == ["lost"]
    lost = next(s for s in seen if s.problems).problems["lost"]
    assert lost.detail == str(gone)
    back = [s for s in seen[[bool(s.problems) for s in seen].index(True) :] if not s.problems]
    assert back
    shown = times(tmp_path / "video")
    assert len(shown) == 55
    gap = int(np.diff(shown).argmax())
    assert gap == 14
    whole = found(tmp_path / "video")
    assert whole[0].end_ns - shown[gap] < 0.5 * S  # the hole is between segments, and is not hidden
    assert abs(lost.since_ns - shown[gap]) < 0.5 * S


def test_an_encoder_that_cannot_keep_up_leaves_pictures_out_and_says_so(tmp_path: Path, monkeypatch) -> None:
    from agent.dashcam.encoding import Encoding

    slow, real = threading.Event(), Encoding.pieces

    def pieces(self, frame, *, key):
        clock.wait(slow, 0.1)
        return real(self, frame, key=key)

    monkeypatch.setattr(Encoding, "pieces", pieces)
    camera = CameraSettings(source="/dev/video9", mode="encode", width=320, height=180, encoder="libx264")
    dashcam = Dashcam(
        config(camera, health=HealthSettings(slow_s=1.0)),
        tmp_path / "video",
        boot=BOOT,
        make=images([steady(75)]),
    )
    seen = []
    publish = dashcam._publish
    dashcam._publish = lambda *a: (publish(*a), seen.append(a[0].state))  # type: ignore[method-assign]
    dashcam.run()
    assert seen[-1].counts["dropped"] > 5
    assert seen[-1].counts["kept"] + seen[-1].counts["dropped"] == 75
    assert any("slow" in s.problems for s in seen)


def test_a_full_disk_is_told_costs_what_it_must_and_no_more(tmp_path: Path, monkeypatch) -> None:
    source = film_h264(tmp_path / "s.mp4", 4.5, gop=15)
    real, full = writing.os.writev, []
    timers = [threading.Timer(1.3, lambda: full.append(1)), threading.Timer(2.4, full.clear)]

    def writev(descriptor, parts):
        if not timers[0].ident:  # they count from the first picture
            for timer in timers:
                timer.start()
        if full and sum(map(len, parts)) > 1:
            real(descriptor, [b"".join(parts)[:50]])  # a part of it, as a disk does that fills up
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, parts)

    monkeypatch.setattr(writing.os, "writev", writev)
    dashcam = Dashcam(config(fast(source, pace=1.0, start_ns=0)), tmp_path / "video", boot=BOOT)
    seen = []
    publish = dashcam._publish
    dashcam._publish = lambda *a: (publish(*a), seen.append(a[0].state))  # type: ignore[method-assign]
    dashcam.run()
    refused = [s for s in seen if "disk" in s.problems]
    assert refused
    assert "No space left" in refused[0].problems["disk"].detail
    assert "disk" not in seen[-1].problems
    assert seen[-1].state == "ended"
    shown = times(tmp_path / "video")
    assert shown[-1] - shown[0] > 4 * S
    assert 0.8 * S < np.diff(shown).max() < 4 * S
    assert sum(np.diff(shown) > 0.04 * S) == 1
    assert not list((tmp_path / "video" / "front").glob("*.part"))
    for segment in found(tmp_path / "video"):
        assert len(decoded(segment)) == segment.frames


def test_systemd_hears_of_the_start_of_pictures_and_of_the_end_and_nothing_while_none_come(tmp_path: Path) -> None:
    heard = []

    def listen():
        with contextlib.suppress(BlockingIOError):
            while True:
                heard.append(systemd.recv(4096).decode())

    def silent():
        yield from steady(40)()
        for i in range(80):
            if i == 40:  # two seconds after the last picture: that it came has been told
                listen()
            yield None

    camera = CameraSettings(source="/dev/video9", mode="encode", width=320, height=180, encoder="libx264")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        line = Watchdog(str(tmp_path / "notify"), 3 * S // 2)
        Dashcam(config(camera), tmp_path / "video", boot=BOOT, watchdog=line, make=images([silent])).run()
        first = list(heard)
        listen()
    assert first[:2] == ["STATUS=films front", "READY=1"]
    assert "WATCHDOG=1" in first
    assert heard[len(first) :] == ["STOPPING=1"]


def test_a_bug_in_a_thread_ends_the_process(tmp_path: Path, monkeypatch) -> None:
    def broken(self):
        raise ZeroDivisionError

    monkeypatch.setattr(CameraAtWork, "_open", broken)
    with pytest.raises(ZeroDivisionError):
        run_whole(config(fast(film(tmp_path / "s.mp4", "mjpeg", 1))), tmp_path / "video")
