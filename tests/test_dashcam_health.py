"""Is the camera well? Sunny road, parked car, covered lens, frozen sensor, dirt: told apart, once each, as events."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.dashcam import segments
from agent.dashcam.health import Judge, Look, Looking
from agent.dashcam.settings import HealthSettings
from agent.dashcam.shown import Shown
from agent.dashcam.state import SILENT_NS, CameraState, Problem, read_state, write_state
from agent.dashcam.watch import START_NS, CameraWatch
from agent.records import Event, Health
from tests.dashcam_making import BOOT, S, config, fast, film, film_h264, run_whole, scene


def judged(pictures, settings: HealthSettings | None = None, sharpness: float = 0.0) -> list[set[str]]:
    """Look at one picture a second; return what stands after each."""
    judge, looking, found = Judge(settings or HealthSettings(), 30.0, 0, sharpness), Looking(), []
    for i, picture in enumerate(pictures, start=1):
        judge.came(i * S)
        judge.looked(looking.look(i * S, picture))
        found.append(set(judge.problems(i * S, "")))
    return found


def grey(i: int, **more) -> np.ndarray:
    return cv2.cvtColor(scene(i, 640, 360, **more), cv2.COLOR_BGR2GRAY)


def test_a_parked_car_is_well_because_a_sensor_has_noise() -> None:
    assert set().union(*judged([grey(i, still=True) for i in range(40)])) == set()
    assert set().union(*judged([grey(i, still=True, noise=1.0) for i in range(40)])) == set()


def test_the_same_picture_again_and_again_is_frozen_and_moving_again_is_well() -> None:
    states = judged([grey(i) for i in range(5)] + [grey(5)] * 15 + [grey(i) for i in range(6, 12)])
    assert states[4 + 10] == set()
    assert states[5 + 11] == {"frozen"}
    assert states[-1] == set()


@pytest.mark.parametrize("level", [0, 16, 90, 250])
def test_a_covered_or_dark_lens_is_blind_and_nothing_else(level: int) -> None:
    rng = np.random.default_rng(1)
    dark = [np.clip(level + rng.normal(0, 2, (360, 640)), 0, 255).astype(np.uint8) for _ in range(15)]
    states = judged([grey(i) for i in range(3)] + dark)
    assert states[-1] == {"blind"}
    assert states[8] == set()
    assert judged([np.full((360, 640), level, np.uint8)] * 15)[-1] == {"blind"}  # black repeats; it is not frozen


def test_a_road_at_night_is_not_blind() -> None:
    night = []
    for i in range(15):
        picture = np.clip(12 + np.random.default_rng(i).normal(0, 2, (360, 640)), 0, 255).astype(np.uint8)
        cv2.circle(picture, (320, 300), 90, 70, -1)  # what the head lights reach
        night.append(picture)
    assert judged(night)[-1] == set()


def test_dirt_is_told_against_the_cameras_own_sharpness_and_so_is_its_end() -> None:
    sharp = [grey(i) for i in range(70)]
    dirty = [cv2.GaussianBlur(grey(i), (0, 0), 8) for i in range(70, 140)]
    states = judged(sharp + dirty + [grey(i) for i in range(140, 150)])
    assert set().union(*states[:70]) == set()
    assert states[70 + 50] == set()
    assert states[70 + 65] == {"blurred"}
    assert states[-1] == set()
    known = Judge(HealthSettings(), 30.0, 0)
    looking = Looking()
    for i, picture in enumerate(sharp, start=1):
        known.looked(looking.look(i * S, picture))
    # what was learned before a restart counts at once
    assert judged(dirty, sharpness=known.sharpness)[62] == {"blurred"}


def test_a_camera_that_was_never_sharp_is_not_called_blurred() -> None:
    soft = [cv2.GaussianBlur(grey(i), (0, 0), 6) for i in range(150)]
    assert set().union(*judged(soft)) == set()


def test_silence_is_lost_and_hides_all_other_troubles() -> None:
    judge = Judge(HealthSettings(), 30.0, 0)
    judge.looked(Look(S, 0.0, 0.0, 0.0, None))
    judge.looked(Look(12 * S, 0.0, 0.0, 0.0, None))
    judge.came(12 * S)
    assert set(judge.problems(13 * S, "")) == {"blind"}
    problems = judge.problems(17 * S, "read: no such device")
    assert problems == {"lost": Problem(12 * S, 0.0, "read: no such device")}
    assert judge.problems(30 * S, "another reason") == problems
    judge.came(31 * S)
    assert judge.problems(31 * S, "") == {}


def test_too_few_pictures_are_slow() -> None:
    judge, kept = Judge(HealthSettings(), 30.0, 0), 0
    for second in range(40):
        kept += 30 if second < 20 else 15
        judge.came(second * S)
        fps = judge.rate(second * S, kept)
    assert fps == pytest.approx(15)
    assert judge.problems(40 * S, "")["slow"].value < 24
    for second in range(40, 60):
        kept += 30
        judge.came(second * S)
        judge.rate(second * S, kept)
    assert judge.problems(60 * S, "") == {}


@pytest.mark.parametrize("codec", ["h264", "mjpeg"])
def test_copied_pictures_are_looked_at_too(codec: str, tmp_path: Path) -> None:
    def picture(i: int) -> np.ndarray:
        return scene(min(i, 60))

    source = tmp_path / "s.mp4"
    if codec == "h264":
        film_h264(source, 9, picture=picture)
    else:
        film(source, "mjpeg", 9, picture=picture)
    health = HealthSettings(frozen_s=3.0)
    dashcam = run_whole(config(fast(source), health=health), tmp_path / "video")
    judge = dashcam._watched[0].judge
    assert "frozen" in judge.problems(0, "")


# what the daemon makes of it


def state(**more) -> CameraState:
    return CameraState(**({"camera": "front", "boot": BOOT, "t_ns": 100 * S, "state": "ok"} | more))


def put(folder: Path, written: CameraState) -> None:
    (folder / written.camera).mkdir(parents=True, exist_ok=True)
    write_state(folder, written)


def test_each_occurrence_is_one_event_and_each_change_one_line_of_health(tmp_path: Path) -> None:
    watch = CameraWatch(tmp_path, BOOT, 90 * S)
    assert watch.look(100 * S) == []
    put(tmp_path, state())
    assert watch.look(101 * S) == []
    frozen = {"frozen": Problem(95 * S, 0.0, "gives the same picture again and again")}
    put(tmp_path, state(t_ns=106 * S, state="degraded", problems=frozen, counts={"kept": 7}))
    event, health = watch.look(106 * S)
    assert isinstance(event, Event)
    assert (event.kind, event.t_ns, event.sources, event.confirmed) == ("camera_frozen", 95 * S, ["camera:front"], True)
    assert isinstance(health, Health)
    assert (health.source, health.state, health.counts) == ("camera:front", "degraded", {"kept": 7})
    assert watch.look(107 * S) == []
    put(tmp_path, state(t_ns=116 * S, state="degraded", problems=frozen))
    assert watch.look(117 * S) == []
    put(tmp_path, state(t_ns=118 * S))
    (well,) = watch.look(118 * S)
    assert (well.state, well.detail) == ("ok", "films")
    # the agent was restarted: the store knows what was told
    put(tmp_path, state(t_ns=120 * S, state="degraded", problems=frozen))
    again = CameraWatch(tmp_path, BOOT, 120 * S, [event])
    assert [type(r) for r in again.look(121 * S)] == [Health]


def test_troubles_that_are_no_event_are_health_alone(tmp_path: Path) -> None:
    watch = CameraWatch(tmp_path, BOOT, 0)
    put(tmp_path, state(state="degraded", problems={"disk": Problem(9 * S, 0.0, "the disk refuses: full")}))
    (health,) = watch.look(100 * S)
    assert (health.state, health.detail) == ("degraded", "the disk refuses: full")


def test_a_dashcam_that_falls_silent_is_a_lost_camera_and_one_that_was_stopped_is_not(tmp_path: Path) -> None:
    watch = CameraWatch(tmp_path, BOOT, 90 * S)
    put(tmp_path, state())
    assert watch.look(100 * S) == []
    event, health = watch.look(101 * S + SILENT_NS)
    assert (event.kind, event.t_ns, health.state) == ("camera_lost", 100 * S, "lost")
    assert "systemctl status" in health.detail
    put(tmp_path, state(state="ended", t_ns=200 * S))
    (health,) = watch.look(900 * S)
    assert (health.state, health.detail) == ("lost", "the dashcam was stopped")


def test_a_dashcam_that_does_not_start_in_this_boot_is_told(tmp_path: Path) -> None:
    put(tmp_path, state(boot="f" * 32, state="ended"))
    watch = CameraWatch(tmp_path, BOOT, 10 * S)
    assert watch.look(11 * S) == []
    event, health = watch.look(11 * S + START_NS)
    assert (event.kind, health.state) == ("camera_lost", "lost")
    assert "has not started" in health.detail


def test_a_torn_health_file_says_nothing(tmp_path: Path) -> None:
    put(tmp_path, state())
    (tmp_path / "front" / "health.json").write_text('{"camera": "fr')
    assert read_state(tmp_path, "front") is None
    assert CameraWatch(tmp_path, BOOT, 0).look(S) == []


def test_time_and_speed_reach_the_overlay_only_when_it_asks_and_while_they_are_fresh(tmp_path: Path) -> None:
    watch = CameraWatch(tmp_path, BOOT, 0)
    put(tmp_path, state())
    (tmp_path / segments.KEEP).mkdir()
    watch.look(100 * S)
    watch.say(100 * S, 1_700_000_000 * S, (99 * S, 15.0))
    assert list((tmp_path / segments.KEEP).iterdir()) == []
    put(tmp_path, state(overlay=True))
    watch.look(101 * S)
    watch.say(101 * S, 1_700_000_000 * S, (100 * S, 15.0))
    assert Shown(tmp_path, BOOT).line(101 * S + S // 2) == "2023-11-14 22:15:01.500 UTC  54 km/h"
    assert Shown(tmp_path, BOOT).line(110 * S) == "110.000 s since start  --- km/h"
    assert Shown(tmp_path, "f" * 32).line(101 * S).endswith("--- km/h")
    watch.say(102 * S, None, (100 * S, math.nan))
    assert Shown(tmp_path, BOOT).line(102 * S) == "102.000 s since start  --- km/h"
    assert segments.keeps(tmp_path) == ([], 0)
