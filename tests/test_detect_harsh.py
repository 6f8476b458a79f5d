import dataclasses

import numpy as np
import pytest

from agent.detect.detector import Detector
from agent.detect.settings import DetectionSettings, Levels
from agent.records import Event
from agent.state import GNSS, OBD, State, empty_state
from tests.state_rows import KMH, profile, rows_of, slope, unoriented


def found(rows: State, settings: DetectionSettings | None = None) -> list[Event]:
    detector = Detector(settings or DetectionSettings())
    return detector.step(rows) + detector.finish()


def harsh(rows: State, settings: DetectionSettings | None = None) -> list[tuple[str, str, bool]]:
    return [(e.kind, e.severity, e.confirmed) for e in found(rows, settings) if e.kind.startswith("harsh")]


def braking(force: float, seconds: float, start_kmh: float = 70, **more: object) -> State:
    speed = profile((5, 0), (seconds, -force), (8, 0), start_kmh=start_kmh)
    return rows_of(speed, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("force", "severity"), [(2.3, None), (2.7, "minor"), (3.3, "moderate"), (4.2, "moderate"), (4.7, "severe")]
)
def test_braking_has_the_severity_of_the_force_that_was_held(force: float, severity: str | None) -> None:
    assert harsh(braking(force, 2.0)) == ([("harsh_braking", severity, True)] if severity else [])


@pytest.mark.parametrize(("force", "severity"), [(2.3, None), (2.7, "minor"), (3.3, "moderate"), (4.3, "severe")])
def test_acceleration_has_the_severity_of_the_force_that_was_held(force: float, severity: str | None) -> None:
    rows = rows_of(profile((5, 0), (2, force), (8, 0), start_kmh=40))
    assert harsh(rows) == ([("harsh_acceleration", severity, True)] if severity else [])


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(("force", "severity"), [(2.7, None), (3.3, "minor"), (4.4, "moderate"), (6.0, "severe")])
def test_cornering_has_the_severity_of_the_force_to_either_side(force: float, severity: str | None, side: int) -> None:
    lateral = np.zeros(150)
    lateral[50:70] = side * force
    events = found(rows_of(np.full(150, 50 * KMH), lateral=lateral))
    assert [(e.kind, e.severity) for e in events] == ([("harsh_cornering", severity)] if severity else [])
    assert all(e.peak == pytest.approx(side * force) and e.confirmed for e in events)


def test_event_says_when_how_long_how_hard_how_fast_where_and_by_which_sources() -> None:
    rows = braking(3.5, 2.0, 72)
    (event,) = found(rows)
    assert event.t_ns == pytest.approx(5.2e9, abs=2e8)
    assert event.duration_ns == pytest.approx(1.9e9, abs=4e8)
    assert event.peak == pytest.approx(-3.5, abs=0.02)
    assert event.speed_before_mps == pytest.approx(20.0)
    assert (event.unit, event.rule) == ("m/s2", "harsh_braking/1")
    assert event.sources == ["wheel", "gnss", "imu"]
    assert event.latitude == pytest.approx(36.6519, abs=2e-4)
    assert event.window is not None
    assert event.window.start_ns == event.t_ns - 5_000_000_000 or event.window.start_ns == 0
    assert len(event.window.speed_mps) >= 100
    assert len(event.window.speed_mps) == len(event.window.longitudinal_mps2) == len(event.window.lateral_mps2)
    assert min(a for a in event.window.longitudinal_mps2 if a is not None) == pytest.approx(-3.5, abs=0.02)


def test_pulse_shorter_than_the_hold_time_is_no_event() -> None:
    rows = braking(2.0, 3.0)
    rows["lon_wheel"][60:62] = -6.0
    assert harsh(rows) == []


def test_severity_is_the_held_force_and_not_the_highest_row() -> None:
    rows = braking(2.8, 2.0)
    rows["lon_wheel"][60] = -7.0
    assert harsh(rows) == [("harsh_braking", "minor", True)]


def test_speed_gate_looks_at_the_speed_before_and_not_at_the_end_of_the_braking() -> None:
    assert harsh(braking(3.5, 4.0, start_kmh=15)) == [("harsh_braking", "moderate", True)]
    assert harsh(braking(3.5, 4.0, start_kmh=8)) == []


def test_corner_gate_lets_slow_tight_turns_pass() -> None:
    lateral = np.zeros(150)
    lateral[50:80] = 4.5
    assert harsh(rows_of(np.full(150, 25 * KMH), lateral=lateral)) == []
    assert harsh(rows_of(np.full(150, 35 * KMH), lateral=lateral)) == [("harsh_cornering", "moderate", True)]


def test_launch_from_standstill_counts_once_it_rolls_and_a_stamp_on_the_pedal_does_not() -> None:
    assert harsh(rows_of(profile((5, 0), (3.0, 3.5), (8, 0)))) == [("harsh_acceleration", "moderate", True)]
    assert harsh(rows_of(profile((5, 0), (0.7, 3.5), (8, 0)))) == []


def test_two_pulses_within_two_seconds_are_one_event_and_later_ones_are_two() -> None:
    for pause, events in ((1.5, 1), (6.0, 2)):
        rows = rows_of(profile((5, 0), (1.5, -3.5), (pause, 0), (1.5, -4.9), (8, 0), start_kmh=110))
        assert len(harsh(rows)) == events, pause
    merged = rows_of(profile((5, 0), (1.5, -3.5), (1.5, 0), (1.5, -4.9), (8, 0), start_kmh=110))
    assert found(merged)[0].severity == "severe"


def test_force_that_flickers_around_the_threshold_is_one_event() -> None:
    rows = braking(2.5, 6.0, start_kmh=120)
    rows["lon_wheel"][52:108] = np.where(np.arange(56) % 8 < 4, -2.6, -2.2)
    assert harsh(rows) == [("harsh_braking", "minor", True)]


def test_one_source_alone_is_not_confirmed() -> None:
    for source in ("wheel", "obd", "gnss"):
        assert harsh(braking(3.5, 2.0, sources=(source,))) == [("harsh_braking", "moderate", False)]


def test_wheel_and_obd_speed_come_from_the_same_sensors_and_do_not_confirm_each_other() -> None:
    assert harsh(braking(3.5, 2.0, sources=("wheel", "obd"))) == [("harsh_braking", "moderate", False)]


def test_second_source_confirms_from_sixty_percent_of_the_peak() -> None:
    for share, confirmed in ((0.65, True), (0.5, False)):
        rows = braking(3.5, 2.0, sources=("wheel", "gnss"))
        rows["lon_gnss"] *= share
        assert harsh(rows) == [("harsh_braking", "moderate", confirmed)]


def test_second_source_may_lag_by_half_a_second() -> None:
    rows = braking(3.5, 1.0, sources=("wheel", "gnss"))
    rows["lon_gnss"] = np.roll(rows["lon_gnss"], 7)
    assert harsh(rows)[0][2]


def test_brake_pedal_confirms_a_braking() -> None:
    rows = braking(3.5, 2.0, sources=("wheel",))
    rows["brake"] = 0.0
    rows["brake"][48:72] = 1.0
    (event,) = found(rows)
    assert event.confirmed
    assert event.sources == ["wheel", "brake"]


def test_gravity_on_a_slope_is_no_braking_when_the_speed_says_otherwise() -> None:
    rows = rows_of(np.full(200, 60 * KMH), sources=("obd", "imu"))
    rows["lon_imu"][50:120] = -3.2
    assert harsh(rows) == []


def test_absurd_slope_of_locked_wheels_is_not_heard_and_the_accelerometer_leads() -> None:
    rows = braking(6.0, 1.5)
    rows["lon_wheel"][52:63] = -14.0
    (event,) = found(rows)
    assert event.severity == "severe"
    assert -6.2 < event.peak < -5.5
    assert event.sources[-1] == "imu"


def test_gnss_jump_alone_is_no_event() -> None:
    rows = rows_of(np.full(200, 60 * KMH), sources=("gnss",))
    rows["lon_gnss"][80:90] = 30.0
    assert harsh(rows) == []


def test_single_row_spike_of_the_vehicle_accelerometer_is_no_event() -> None:
    rows = rows_of(np.full(200, 100 * KMH), sources=("wheel",))
    rows["lon_vehicle"] = 0.0
    rows["lon_vehicle"][90] = -3.88
    assert harsh(rows) == []


def test_pothole_is_no_event() -> None:  # T-EVT-3
    rows = rows_of(np.full(300, 50 * KMH))
    rows["vertical"][100:106] = 2 * 9.81
    rows["horizontal"][98:104] = 0.5 * 9.81
    rows["lat_imu"][98:104] = 0.5 * 9.81
    rows["lon_imu"][98:104] = -0.5 * 9.81
    rows["lat_yaw"] = rows["lat_gnss"] = 0.1
    assert harsh(rows) == []
    rows["lon_wheel"] = rows["lon_gnss"] = np.nan  # and without the slope of any speed, by the speed change alone
    rows["speed"] = 50 * KMH
    assert harsh(rows) == []


def test_table_of_obd_brakes_at_five_hertz() -> None:  # T-EVT-1
    rng = np.random.default_rng(11)
    true_hold = {(3.5, 1.5): [], (2.0, 1.5): []}  # type: ignore[var-annotated]
    for (peak, hold), levels in true_hold.items():
        for _ in range(200):
            ramp = 0.3  # s, as in the trapezoids of D2
            v0 = rng.uniform(50, 75) * KMH
            fine = np.arange(0, 20, 0.01)
            start = 8 + rng.uniform(0, 0.2)
            a = peak * np.clip(np.minimum((fine - start) / ramp, (start + 2 * ramp + hold - fine) / ramp), 0, 1)
            v = np.maximum(v0 - np.cumsum(a) * 0.01, 0.0)
            ask = np.arange(0.1, 19.9, 0.2)
            answered = np.floor((np.interp(np.floor(ask * 10) / 10, fine, v) / KMH) + rng.normal(0, 0.15, len(ask)))
            stamped = ask + rng.uniform(-0.02, 0.02, len(ask))
            at = np.arange(200) / 10
            rows = empty_state(200)
            rows["t"] = np.arange(200) * 100_000_000
            rows["speed"] = np.interp(at, stamped, answered * KMH)
            rows["lon_obd"] = slope(stamped, answered * KMH, at)
            rows["sources"] = OBD
            levels.append([e.severity for e in found(rows) if e.kind == "harsh_braking"])
    assert all(len(found_) == 1 and found_[0] in ("moderate", "severe") for found_ in true_hold[3.5, 1.5])
    assert not any(true_hold[2.0, 1.5])


def test_steady_speed_that_flickers_by_one_count_for_an_hour_is_no_event() -> None:  # T-EVT-2
    rng = np.random.default_rng(5)
    kmh = 60.0 + rng.integers(-1, 2, 5 * 3600)
    t = np.arange(5 * 3600) / 5
    # The 1 s least-squares slope over the six samples of each second, at 5 Hz, held for two rows of 10 Hz
    weights = np.arange(6) - 2.5
    lon = np.convolve(kmh * KMH, weights[::-1], "same") / (weights**2).sum() / 0.2
    rows = empty_state(2 * len(kmh))
    rows["t"] = np.arange(len(rows)) * 100_000_000
    rows["speed"] = np.interp(np.arange(len(rows)) / 10, t, kmh * KMH)
    rows["lon_obd"] = np.repeat(lon, 2)
    rows["sources"] = OBD | GNSS
    assert found(rows) == []


def test_data_gap_closes_an_event_and_forgets_the_past() -> None:
    rows = braking(3.5, 2.0)
    before, after = rows[:65].copy(), rows[65:].copy()
    after["t"] += 60_000_000_000
    after["speed"] = 60 * KMH
    for name in ("lon_wheel", "lon_gnss", "lon_imu"):
        after[name] = 0.0
    (event,) = found(np.concatenate([before, after]))
    assert event.duration_ns < 2_000_000_000
    assert event.window is not None
    assert event.window.start_ns + len(event.window.speed_mps) * 100_000_000 <= event.t_ns + 60_000_000_000


def test_event_is_open_at_the_end_of_a_recording_and_still_told() -> None:
    assert harsh(braking(3.5, 2.0)[:66]) == [("harsh_braking", "moderate", True)]


def test_parked_car_has_no_harsh_event() -> None:
    rows = unoriented(np.full(100, 5.0), np.zeros(100))
    rows["ignition"] = 0
    assert harsh(rows) == []
    rows["ignition"] = -1
    rows["rpm"] = 0.0
    assert harsh(rows) == []


def test_box_without_speed_or_mount_tells_pushes_from_turns_and_confirms_neither() -> None:
    push = np.zeros(300)
    push[50:75] = 3.6
    yaw = np.zeros(300)
    (event,) = found(unoriented(push, yaw))
    assert (event.kind, event.severity, event.confirmed) == ("harsh_braking", "moderate", False)
    assert (event.rule, event.sources, event.speed_before_mps) == ("harsh_unoriented/1", ["imu"], None)
    yaw[48:78] = 22.0
    assert harsh(unoriented(push, yaw)) == [("harsh_cornering", "minor", False)]


def test_box_without_speed_on_a_rough_road_is_calm_unless_it_turns() -> None:
    push = np.zeros(300)
    push[50:75] = 3.6
    assert harsh(unoriented(push, np.zeros(300), vertical=9.0)) == []
    assert harsh(unoriented(push, np.full(300, 20.0), vertical=9.0)) == [("harsh_cornering", "minor", False)]


def test_box_shaken_by_hand_is_no_driving() -> None:
    t = np.arange(600) / 10
    shaken = np.abs(21 * np.sin(0.7 * t))
    assert harsh(unoriented(shaken, 250 * np.sin(1.1 * t))) == []
    assert harsh(unoriented(np.minimum(shaken, 8.0), 250 * np.sin(1.1 * t))) == []


def test_box_shaken_in_a_standing_car_is_no_driving() -> None:
    rows = rows_of(np.zeros(600), sources=("gnss", "imu"))
    rng = np.random.default_rng(2)
    for name in ("lon_imu", "lat_imu", "horizontal"):
        rows[name] = rng.normal(0, 6, 600)
    assert harsh(rows) == []


def test_truck_has_lower_thresholds() -> None:
    rows = braking(2.4, 2.0)
    assert harsh(rows) == []
    assert harsh(rows, DetectionSettings(vehicle_class="truck")) == [("harsh_braking", "moderate", True)]


def test_thresholds_come_from_the_settings() -> None:
    base = DetectionSettings()
    mild = dataclasses.replace(base, harsh=dataclasses.replace(base.harsh, braking=Levels(1.0, 2.0, 3.0)))
    assert harsh(braking(1.4, 2.0), mild) == [("harsh_braking", "minor", True)]
    with pytest.raises(ValueError, match="rise from minor"):
        Levels(3.0, 2.0, 4.0)


def test_where_accelerometer_and_speed_differ_the_milder_counts() -> None:
    rows = braking(2.7, 2.0, sources=("obd", "imu"))
    rows["lon_imu"] *= 1.25  # the car dives
    (event,) = found(rows)
    assert (event.severity, event.confirmed, event.peak) == ("minor", True, pytest.approx(-2.7, abs=0.02))


def test_only_the_accelerometer_passed_the_threshold_so_the_event_is_not_confirmed() -> None:
    rows = braking(2.2, 2.0, sources=("obd", "imu"))
    rows["lon_imu"] *= 1.25
    assert harsh(rows) == [("harsh_braking", "minor", False)]


def test_push_of_unknown_direction_that_is_too_weak_for_braking_was_an_acceleration() -> None:
    push = np.zeros(300)
    push[50:90] = 2.2
    (event,) = found(unoriented(push, np.zeros(300)))
    assert (event.kind, event.severity, event.confirmed) == ("harsh_acceleration", "minor", False)
    assert event.levels is not None
    assert event.levels[0] <= event.peak
