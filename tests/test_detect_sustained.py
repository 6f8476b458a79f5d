import dataclasses

import numpy as np
import pytest

from agent.detect.detector import Detector
from agent.detect.settings import DetectionSettings, SpeedingSettings
from agent.records import Event
from agent.state import State
from tests.state_rows import KMH, profile, rows_of


def found(rows: State, settings: DetectionSettings | None = None) -> list[Event]:
    detector = Detector(settings or DetectionSettings())
    return detector.step(rows) + detector.finish()


def at_speed(*parts: tuple[float, float]) -> State:
    """Return rows at (seconds, km/h) one after the other."""
    return rows_of(np.concatenate([np.full(round(s * 10), kmh * KMH) for s, kmh in parts]))


@pytest.mark.parametrize(
    ("kmh", "severity"), [(125, None), (131, None), (133, "minor"), (146, "moderate"), (182, "severe")]
)
def test_speeding_has_the_severity_of_the_share_above_the_limit(kmh: float, severity: str | None) -> None:
    rows = at_speed((20, 110), (30, kmh), (20, 110))
    for name in ("lon_wheel", "lon_gnss", "lon_imu"):
        rows[name] = 0.0  # the steps of this profile are not the subject
    events = found(rows)
    assert [(e.kind, e.severity) for e in events] == ([("speeding", severity)] if severity else [])
    for e in events:
        assert e.peak == pytest.approx(kmh * KMH, abs=0.01)
        assert e.limit_mps == pytest.approx(120 * KMH, abs=0.01)
        assert (e.unit, e.rule, e.confirmed) == ("m/s", "speeding/1", True)
        assert (e.t_ns, e.duration_ns) == (20_000_000_000, 30_000_000_000)
        assert e.window is not None
        assert e.window.start_ns == 15_000_000_000
        assert len(e.window.speed_mps) == 101


def kinds(rows: State, settings: DetectionSettings | None = None) -> list[str]:
    for name in ("lon_wheel", "lon_gnss", "lon_imu", "lon_obd"):
        rows[name] = np.where(np.isnan(rows[name]), np.nan, 0.0)
    return [e.kind for e in found(rows, settings)]


def test_speeding_shorter_than_ten_seconds_is_overtaking() -> None:
    assert kinds(at_speed((20, 110), (9, 140), (20, 110))) == []


def test_speeding_with_a_short_lift_is_one_event_and_flicker_around_the_limit_is_one_event() -> None:
    assert kinds(at_speed((20, 110), (20, 140), (3, 120), (20, 140), (20, 110))) == ["speeding"]
    assert kinds(at_speed((20, 110), *[(2, 133), (2, 130)] * 10, (20, 110))) == ["speeding"]


def test_limit_layer_is_heard_before_the_fixed_limit_and_the_fixed_limit_can_be_off() -> None:
    rows = at_speed((20, 40), (30, 70), (20, 40))
    assert kinds(rows) == []
    rows["limit"] = 50 * KMH
    (event,) = found(rows)
    assert (event.kind, event.severity) == ("speeding", "moderate")
    assert event.limit_mps == pytest.approx(50 * KMH, abs=0.01)
    off = dataclasses.replace(DetectionSettings(), speeding=SpeedingSettings(fixed_limit_mps=0.0))
    assert kinds(at_speed((60, 150)), off) == []


def test_speeding_by_one_speed_source_is_not_confirmed() -> None:
    (event,) = found(rows_of(np.full(300, 140 * KMH), sources=("obd",)))
    assert (event.confirmed, event.sources) == (False, ["obd"])


def test_idling_is_one_event_with_its_duration() -> None:
    for minutes, severity in ((4, None), (6, "minor"), (20, "moderate"), (70, "severe")):
        rows = rows_of(profile((30, 0), (10, -1.0), (60 * minutes, 0), (10, 1.0), (30, 0), start_kmh=36))
        idling = [e for e in found(rows) if e.kind == "idling"]
        assert [e.severity for e in idling] == ([severity] if severity else [])
        for e in idling:
            assert (e.unit, e.confirmed, e.window) == ("s", True, None)
            assert e.peak == pytest.approx(60 * minutes, abs=3)
            assert "engine" in e.sources


def test_idling_needs_a_running_engine() -> None:
    rows = rows_of(np.zeros(6000), rpm=0.0)
    assert found(rows) == []
    rows["rpm"] = np.nan
    assert found(rows) == []
    rows["ignition"] = 1
    (event,) = found(rows)
    assert (event.kind, event.confirmed) == ("idling", False)
    assert "ignition" in event.sources


def test_idling_bridges_a_lost_speed_but_not_a_data_gap() -> None:
    rows = rows_of(np.zeros(4000))
    rows["speed"][1000:1020] = np.nan
    assert [e.kind for e in found(rows)] == ["idling"]
    rows["t"][2000:] += 60_000_000_000
    assert found(rows) == []


def test_over_revving_needs_two_seconds_and_knows_the_class() -> None:
    rows = rows_of(np.full(400, 20.0))
    rows["throttle"] = 80.0
    rows["rpm"][100:115] = 6200.0
    assert found(rows) == []
    rows["rpm"][100:140] = 6200.0
    (event,) = found(rows)
    assert (event.kind, event.severity, event.confirmed, event.unit) == ("over_rev", "moderate", True, "rpm")
    assert (event.peak, event.duration_ns, event.sources) == (6200.0, 4_000_000_000, ["engine"])
    assert event.window is not None
    rows["rpm"] = 2700.0
    assert [e.kind for e in found(rows, DetectionSettings(vehicle_class="truck"))] == ["over_rev"]


def long_drive(*parts: tuple[float, float]) -> State:
    """Return rows for (minutes, km/h) parts without the forces between them."""
    rows = at_speed(*[(60 * m, kmh) for m, kmh in parts])
    for name in ("lon_wheel", "lon_gnss", "lon_imu"):
        rows[name] = 0.0
    return rows


def test_four_hours_at_the_wheel_are_told_when_they_are_reached_and_again_every_hour() -> None:
    events = [e for e in found(long_drive((130, 80), (15, 0), (170, 80))) if e.kind == "fatigue"]
    assert [(e.severity, round(e.duration_ns / 3.6e12)) for e in events] == [("minor", 4), ("moderate", 5)]
    assert events[0].t_ns == 0


def test_twenty_minutes_of_rest_start_the_count_again() -> None:
    assert [e.kind for e in found(long_drive((130, 80), (21, 0), (130, 80))) if e.kind == "fatigue"] == []


def test_switching_the_engine_off_for_a_rest_counts_as_rest_though_the_data_stop() -> None:
    rows = long_drive((130, 80), (130, 80))
    rows["t"][130 * 600 :] += 21 * 60 * 1_000_000_000
    assert found(rows) == []
