"""Clips: exact to the picture, playable, copied and not made anew, with what stands beside them."""

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import make_block
from agent.channels import number
from agent.clip.clipper import LATE_NS, NO_CAMERA, Clipper
from agent.clip.cut import cut, view
from agent.clip.look import motion, poster
from agent.clip.making import Wanted, make
from agent.clip.settings import REPORT, ClipSettings
from agent.clip.side import gpx, lines, points, table, vtt
from agent.dashcam.segments import keeps, segments
from agent.evidence import verify_package
from agent.evidence.packager import Packager
from agent.incident.folder import Request, Video, ask, incidents, look
from agent.records import Clock
from agent.store import Store
from agent.store.reading import Utc
from sim.video import read_code, write_code
from tests.dashcam_making import BOOT, S, config, fast, film, film_h264, run_whole, scene
from tests.sample_records import event

BEGIN = 1000 * S  # of the film, by the boot's clock
FPS = 30
LAST_NS = 33_400_000  # a picture's time, rounded up


def coded(i: int) -> np.ndarray:
    image = scene(i)
    write_code(image, i, round(i * 1000 / FPS))
    return image


@pytest.fixture(scope="module")
def filmed(tmp_path_factory) -> Path:
    """A folder with 20 s of coded pictures in segments of 2 s."""
    folder = tmp_path_factory.mktemp("video")
    run_whole(config(fast(film_h264(folder / "road.mp4", 20.0, picture=coded))), folder / "v")
    return folder / "v"


def codes(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        found = [read_code(frame.to_ndarray(format="bgr24")) for frame in container.decode(video=0)]
    return [code[0] for code in found if code is not None]


def all_of(folder: Path, from_ns: int, to_ns: int):
    return segments(folder, "front", BOOT, from_ns, to_ns)


@given(st.floats(0.0, 19.0), st.floats(0.1, 15.0))
@settings(max_examples=8, deadline=None)
def test_a_clip_shows_every_picture_of_its_range_once_and_in_order(
    filmed: Path, from_s: float, length_s: float
) -> None:
    from_ns, to_ns = BEGIN + round(from_s * S), BEGIN + round(min(from_s + length_s, 19.9) * S)
    out = filmed.parent / "clips"
    out.mkdir(exist_ok=True)
    (clip,) = cut(all_of(filmed, from_ns, to_ns), from_ns, to_ns, out, "front")
    seen = codes(out / clip.name)
    assert seen == list(range(seen[0], seen[-1] + 1))
    assert seen[0] <= from_s * FPS + 1e-6
    assert from_s * FPS - seen[0] <= 2.1 * FPS  # no more than a segment before it
    assert seen[-1] == int((to_ns - BEGIN) / S * FPS + 1e-3)
    assert clip.start_ns == pytest.approx(BEGIN + seen[0] * S / FPS, abs=2000)
    assert clip.largest_gap_s <= 0.04
    assert len(clip.times) == len(seen)


def test_packets_are_copied_byte_for_byte_and_the_index_comes_first(filmed: Path, tmp_path: Path) -> None:
    from_ns, to_ns = BEGIN + 4 * S, BEGIN + 8 * S
    (clip,) = cut(all_of(filmed, from_ns, to_ns), from_ns, to_ns, tmp_path, "front")
    data = (tmp_path / clip.name).read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")  # plays while it is loaded
    with av.open(str(tmp_path / clip.name)) as container:
        ours = [bytes(p) for p in container.demux(video=0) if p.size]
        assert float(container.streams.video[0].average_rate or 0) == pytest.approx(FPS, abs=0.5)
    theirs = []
    for segment in all_of(filmed, from_ns, to_ns):
        with av.open(str(segment.path)) as container:
            theirs += [bytes(p) for p in container.demux(video=0) if p.size]
    assert ours == theirs[theirs.index(ours[0]) : theirs.index(ours[0]) + len(ours)]
    assert not list(tmp_path.glob("*.part"))


def test_nothing_filmed_is_no_clip(filmed: Path, tmp_path: Path) -> None:
    assert cut(all_of(filmed, BEGIN + 60 * S, BEGIN + 70 * S), BEGIN + 60 * S, BEGIN + 70 * S, tmp_path, "front") == []
    assert not list(tmp_path.iterdir())


def test_a_camera_that_changed_its_size_gives_two_files(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    run_whole(config(fast(film_h264(tmp_path / "a.mp4", 4.0))), folder)
    wide = film_h264(tmp_path / "b.mp4", 4.0, size=(640, 360))
    run_whole(config(fast(wide, start_ns=BEGIN + 5 * S, width=640, height=360)), folder)
    clips = cut(all_of(folder, BEGIN, BEGIN + 9 * S), BEGIN, BEGIN + 9 * S, tmp_path, "front")
    assert [(c.name, c.width) for c in clips] == [("clip-front.mp4", 320), ("clip-front-2.mp4", 640)]


def test_single_jpegs_are_kept_as_they_are_with_a_copy_that_browsers_play(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    run_whole(config(fast(film(tmp_path / "a.avi", "mjpeg", 6.0, picture=coded))), folder)
    package = tmp_path / "p"
    package.mkdir()
    said = make(Wanted(package, folder, BOOT, BEGIN + S, BEGIN + 5 * S, BEGIN + 3 * S))
    (camera,) = said["cameras"]
    assert camera["clips"][0]["codec"] == "mjpeg"
    assert camera["view"] == "view-front.mp4"
    with av.open(str(package / "view-front.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
    assert codes(package / "view-front.mp4") == codes(package / "clip-front.mp4")
    assert view(package / "clip-front.mp4", package / "again.mp4")


def test_the_poster_is_the_picture_at_time_zero(filmed: Path, tmp_path: Path) -> None:
    from_ns, to_ns, t0_ns = BEGIN + 4 * S, BEGIN + 14 * S, BEGIN + 10 * S
    (clip,) = cut(all_of(filmed, from_ns, to_ns), from_ns, to_ns, tmp_path, "front")
    data = poster(clip, tmp_path, t0_ns)
    assert data is not None
    code = read_code(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    assert code == (300, 10_000)


def test_a_jolt_is_measured_and_a_calm_road_has_none(tmp_path: Path) -> None:
    def road(i: int) -> np.ndarray:
        image = scene(i)
        return np.roll(image, (25 if i % 2 else -25, 40), axis=(0, 1)) if 180 <= i < 188 else image

    folder = tmp_path / "v"
    run_whole(config(fast(film_h264(tmp_path / "a.mp4", 14.0, picture=road))), folder)
    (clip,) = cut(all_of(folder, BEGIN, BEGIN + 13 * S), BEGIN, BEGIN + 13 * S, tmp_path, "front")
    hit, calm = motion(clip, tmp_path, BEGIN + 6 * S), motion(clip, tmp_path, BEGIN + 12 * S)
    assert hit is not None
    assert calm is not None
    assert hit["jump"] > 3 * calm["jump"]
    assert hit["shift_share"] > 0.05 > calm["shift_share"]
    assert abs(hit["jump_s"]) < 0.3
    assert motion(clip, tmp_path, BEGIN + 100 * S) is None


# beside the video

LATITUDE, LONGITUDE, SPEED = number("Gnss.Latitude"), number("Gnss.Longitude"), number("Vehicle.Speed")
UTC = Utc(1_790_000_000 * S, "gnss", 50_000_000)


def drive_block(seconds: int = 30):
    rows = []
    for i in range(seconds):
        t = BEGIN + i * S
        rows += [(t, LATITUDE, 36.65 + i * 1e-4), (t, LONGITUDE, 117.12), (t, SPEED, 10.0 + i / 10)]
    return make_block(rows)


def test_points_stand_at_whole_seconds_from_time_zero() -> None:
    video = Video(from_ns=BEGIN + 2 * S + S // 2, to_ns=BEGIN + 12 * S)
    track = points(drive_block(), video, BEGIN + 10 * S)
    assert [(p.t_ns - BEGIN) // S for p in track] == list(range(3, 13))
    assert track[0].latitude == pytest.approx(36.6503)
    assert track[0].speed_mps == pytest.approx(10.3)
    nothing = points(make_block([]), video, BEGIN + 10 * S)
    assert len(nothing) == 10
    assert all(p.latitude is None and p.speed_mps is None for p in nothing)


def test_gpx_json_and_subtitles_say_the_same() -> None:
    track = points(drive_block(), Video(from_ns=BEGIN, to_ns=BEGIN + 3 * S), BEGIN + S)
    assert gpx(track, UTC, "a<b").count(b"<trkpt ") == 4
    assert b"2026-" in gpx(track, UTC, "x")
    assert b"<time>" not in gpx(track, None, "x")
    said = json.loads(table(track, BEGIN + S, UTC))
    assert [p["t_s"] for p in said["points"]] == [-1.0, 0.0, 1.0, 2.0]
    assert said["time_quality"] == "gnss"
    text = vtt(lines(track, UTC), BEGIN - S // 2).decode()
    assert text.startswith("WEBVTT\n\n00:00:00.500 --> 00:00:01.500\n")
    assert "36 km/h" in text


# the clipper in the agent


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(tmp_path / "agent") as opened:
        opened.begin_boot(BOOT)
        opened.append_block(drive_block())
        yield opened


def clipper(store: Store, folder: Path, now_ns: int = BEGIN, **more) -> Clipper:
    return Clipper(store, folder / "packages", folder / "video", BOOT, ClipSettings(**more), now_ns)


def request(folder: Path, boot: str = BOOT) -> None:
    video = Video(from_ns=BEGIN + 3 * S, to_ns=BEGIN + 9 * S)
    ask(folder / "packages", Request(incident="ab" * 8, boot=boot, t_ns=BEGIN + 6 * S, video=video, reason="command"))


def test_a_wanted_range_is_kept_then_cut_then_let_go(store: Store, tmp_path: Path) -> None:
    request(tmp_path)
    run_whole(config(fast(film_h264(tmp_path / "road.mp4", 12.0, picture=coded))), tmp_path / "video")
    clips = clipper(store, tmp_path)
    clips.tend(BEGIN + 5 * S)  # still being filmed
    (incident,) = incidents(tmp_path / "packages")
    assert [k.incident for k in keeps(tmp_path / "video")[0]] == ["ab" * 8]
    assert clips.material(incident).waiting == "the video"
    clips.tend(BEGIN + 10 * S)
    (incident,) = incidents(tmp_path / "packages")
    beside = {"clip-front.mp4", "poster-front.jpg", "track-front.vtt", "track.gpx", "track.json", REPORT}
    assert set(incident.files) == beside | {"request.json"}
    assert keeps(tmp_path / "video") == ([], 0)
    material = clips.material(incident)
    assert (material.waiting, list(material.missing)) == ("", [])
    first, last = material.covers["clip-front.mp4"]
    assert first <= BEGIN + 3 * S
    assert last >= BEGIN + 9 * S - LAST_NS


def test_what_the_camera_did_not_film_is_said(store: Store, tmp_path: Path) -> None:
    request(tmp_path)
    run_whole(config(fast(film_h264(tmp_path / "road.mp4", 3.0), start_ns=BEGIN + 4 * S)), tmp_path / "video")
    clips = clipper(store, tmp_path)
    clips.tend(BEGIN + 10 * S)
    assert look(tmp_path / "packages" / ("ab" * 8)).files == ("request.json",)  # it may still come
    clips.tend(BEGIN + 9 * S + LATE_NS)
    (incident,) = incidents(tmp_path / "packages")
    (missing,) = clips.material(incident).missing
    assert missing.what == "video of camera front"
    assert "the first 1.0 s and the last 2." in missing.why


def test_without_a_camera_the_package_goes_without(store: Store, tmp_path: Path) -> None:
    request(tmp_path)
    clips = clipper(store, tmp_path)
    clips.tend(BEGIN + 9 * S + LATE_NS)
    (incident,) = incidents(tmp_path / "packages")
    assert [m.why for m in clips.material(incident).missing] == [NO_CAMERA]
    assert incident.has("track.gpx")


def test_a_restart_changes_nothing_in_what_is_signed_though_the_time_of_day_was_learned_again(
    store: Store, tmp_path: Path
) -> None:
    request(tmp_path)
    key = verify_package.read_key(store.device)
    folder = tmp_path / "packages" / ("ab" * 8)
    for turn in range(2):  # learned as well as before, and a second later
        now_ns = BEGIN + 30 * S + turn * S
        offset_ns = 1_700_000_000 * S + turn * S
        learned = Clock(t_ns=now_ns, offset_ns=offset_ns, quality="ntp", uncertainty_ns=10_000_000)
        store.append([(now_ns, learned)])
        clips = clipper(store, tmp_path)
        clips.tend(now_ns)
        Packager(store, tmp_path / "packages", BOOT, clips.material).tend(now_ns)
        report = verify_package.verify(str(folder), key)
        assert report.exit_code == 0, report.faults


def test_a_clip_of_an_earlier_boot_is_cut_once_the_dashcam_had_time_to_mend(store: Store, tmp_path: Path) -> None:
    request(tmp_path, boot="feedfacefeedface")
    run_whole(config(fast(film_h264(tmp_path / "road.mp4", 3.0))), tmp_path / "video")
    clips = clipper(store, tmp_path, now_ns=5 * S)
    clips.tend(6 * S)
    assert not look(tmp_path / "packages" / ("ab" * 8)).has(REPORT)
    clips.tend(5 * S + LATE_NS)
    (incident,) = incidents(tmp_path / "packages")
    assert [m.why for m in clips.material(incident).missing] == ["nothing was filmed in this time"]


def test_a_segment_that_cannot_be_read_is_tried_again_and_then_told(store: Store, tmp_path: Path, monkeypatch) -> None:
    request(tmp_path)
    run_whole(config(fast(film_h264(tmp_path / "road.mp4", 3.0))), tmp_path / "video")
    monkeypatch.setattr("agent.clip.clipper.sys.executable", "/bin/false")
    clips = clipper(store, tmp_path)
    for _ in range(3):
        clips.tend(BEGIN + 20 * S + LATE_NS)
    (incident,) = incidents(tmp_path / "packages")
    assert [m.what for m in clips.material(incident).missing] == ["video"]
    clips.tend(BEGIN + 21 * S + LATE_NS)
    assert keeps(tmp_path / "video") == ([], 0)


def test_severe_events_get_a_clip_only_where_that_is_wanted_and_no_more_than_a_day_may_bring(
    store: Store, tmp_path: Path
) -> None:
    from msgspec.structs import replace

    severe = [replace(event(n), severity="severe") for n in range(1, 6)]
    unwanted = clipper(store, tmp_path)
    unwanted.hear(severe)
    unwanted.tend(BEGIN)
    assert incidents(tmp_path / "packages") == []
    wanting = clipper(store, tmp_path, severe_events=True, asked_per_day=3)
    wanting.hear([event(1), replace(severe[0], confirmed=False), *severe])
    wanting.tend(BEGIN)
    assert [i.crash for i in incidents(tmp_path / "packages")] == [None] * 3
    assert wanting.refused == 2
