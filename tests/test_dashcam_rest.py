"""The cameras rest while the car is parked, and film again when it wakes or when nobody says so any more."""

import threading
from pathlib import Path

import pytest

from agent import clock
from agent.dashcam.process import Dashcam
from agent.dashcam.resting import OLD_NS, SAY_NS, RestSaying, may_rest
from agent.dashcam.segments import KEEP, names
from agent.dashcam.settings import CameraSettings
from agent.dashcam.state import read_state
from agent.dashcam.watch import CameraWatch
from tests.dashcam_making import BOOT, S, config, film_h264

PATIENCE_S = 60.0


@pytest.fixture
def video(tmp_path: Path) -> Path:
    (tmp_path / "video" / KEEP).mkdir(parents=True)
    return tmp_path / "video"


def test_a_word_counts_for_its_boot_and_for_a_while(video: Path) -> None:
    saying = RestSaying(video, BOOT)
    assert not may_rest(video, BOOT, 0)
    saying.say(100 * S, True)
    assert may_rest(video, BOOT, 100 * S + OLD_NS)
    assert not may_rest(video, BOOT, 100 * S + OLD_NS + 1)
    assert not may_rest(video, "another", 100 * S)
    saying.say(101 * S, True)  # said a second ago
    assert not may_rest(video, BOOT, 101 * S + OLD_NS)
    saying.say(100 * S + SAY_NS, True)
    assert may_rest(video, BOOT, 100 * S + SAY_NS + OLD_NS)
    saying.say(200 * S, False)
    assert not may_rest(video, BOOT, 200 * S)
    RestSaying(video, BOOT).say(1, True)
    RestSaying(video, BOOT)  # an agent that starts takes back what its earlier life said
    assert not may_rest(video, BOOT, 1)
    (video / KEEP / "rest").write_bytes(b"{torn")
    assert not may_rest(video, BOOT, 1)


@pytest.mark.parametrize("rests", [True, False])
def test_a_resting_camera_is_let_go_is_no_trouble_and_films_again(video: Path, tmp_path: Path, rests: bool) -> None:
    source = film_h264(tmp_path / "road.mp4", 4.0)
    camera = CameraSettings(source=str(source), width=320, height=180, loop=True)
    dashcam = Dashcam(config(camera, rest_parked=rests), video, boot=BOOT)
    watch = CameraWatch(video, BOOT, clock.monotonic_ns())
    running = threading.Thread(target=dashcam.run)
    running.start()
    try:
        _until(lambda: _state(video) == "ok")
        watch.rest(clock.monotonic_ns(), True)
        if not rests:
            _until(lambda: len(names(video, "front")) >= 3)
            assert _state(video) == "ok"
            return
        _until(lambda: _state(video) == "resting")
        before = len(names(video, "front"))
        assert not list((video / "front").glob("*.part"))  # the segment was ended
        assert [h.state for h in watch.look(clock.monotonic_ns())] == []  # well from the start, and still
        watch.rest(clock.monotonic_ns(), False)
        _until(lambda: _state(video) == "ok" and len(names(video, "front")) > before)
    finally:
        dashcam.stop()
        running.join(PATIENCE_S)
    assert not running.is_alive()


def _state(video: Path) -> str:
    state = read_state(video, "front")
    return state.state if state else ""


def _until(happened) -> None:
    never, until_ns = threading.Event(), clock.monotonic_ns() + round(PATIENCE_S * S)
    while not happened():
        assert clock.monotonic_ns() < until_ns, "it took too long"
        clock.wait(never, 0.05)
