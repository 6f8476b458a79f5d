"""The truth is true: found in the motion itself, complete, honest near thresholds, and scored by one-to-one matches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import truth
from sim.drive import simulate
from sim.score import Said, score
from sim.truth import HARSH, LEVELS, TruthEvent, harsh_events, lasting_events, rule_quantities
from sim.vehicle import DT, Motion

FIELDS = Motion.__dataclass_fields__


def motion_of(speed: np.ndarray, lateral: np.ndarray | None = None, rpm: float = 2000.0) -> Motion:
    """A motion with this speed (m/s, every DT) and lateral acceleration; nothing else happens."""
    arrays = {name: np.zeros(len(speed)) for name in FIELDS}
    arrays["speed"] = speed
    arrays["longitudinal"] = np.diff(speed, prepend=speed[0]) / DT
    arrays["yaw_rate"] = np.zeros(len(speed)) if lateral is None else lateral / np.maximum(speed, 0.1)
    arrays["rpm"] = np.full(len(speed), rpm)
    arrays["ignition"] = np.ones(len(speed))
    return Motion(**arrays)


def braking(decel: float, seconds: float, start: float = 30.0) -> Motion:
    """Hold `start` for 10 s, brake for `seconds`, hold."""
    n = round(seconds / DT)
    steps = np.concatenate([np.zeros(2000), np.full(n, -decel * DT), np.zeros(2000)])
    return motion_of(start + np.cumsum(steps))


@pytest.mark.parametrize(
    ("decel", "severity", "severities"),
    [
        (2.2, None, None),
        (2.4, "none", ["none", "minor"]),
        (2.75, "minor", ["minor"]),
        (2.9, "minor", ["minor", "moderate"]),
        (3.1, "moderate", ["minor", "moderate"]),
        (3.6, "moderate", ["moderate"]),
        (4.2, "moderate", ["moderate", "severe"]),
        (5.0, "severe", ["severe"]),
    ],
)
def test_braking_is_named_by_the_published_thresholds(
    decel: float, severity: str | None, severities: list[str]
) -> None:
    events = harsh_events(braking(decel, 3.0))
    if severity is None:
        assert events == []
        return
    (event,) = events
    assert (event.kind, event.severity, event.severities) == ("harsh_braking", severity, severities)
    assert event.peak == pytest.approx(-decel, rel=1e-3)
    assert event.t_s == pytest.approx(10.0, abs=0.51)
    assert event.speed_before_mps == pytest.approx(30.0, abs=0.5)


def test_a_short_stab_counts_by_its_one_second_mean() -> None:
    # 0.4 s at 5 m/s² is 2 m/s² in the 1 s mean: below every threshold
    assert harsh_events(braking(5.0, 0.4)) == []
    (event,) = harsh_events(braking(5.0, 0.75))
    assert event.peak == pytest.approx(-3.75, rel=0.01)


def test_slow_manoeuvres_are_no_events() -> None:
    assert harsh_events(braking(4.0, 0.6, start=2.4)) == []  # below 10 km/h
    n = 2000
    slow = motion_of(np.full(n, 6.0), np.full(n, 5.0))
    assert harsh_events(slow) == []  # a corner below 30 km/h
    (corner,) = harsh_events(motion_of(np.full(n, 12.0), np.full(n, -5.0)))
    assert (corner.kind, corner.severity) == ("harsh_cornering", "moderate")
    assert corner.peak == pytest.approx(-5.0)


def test_two_stabs_within_the_refractory_time_are_one_event() -> None:
    pulse = np.full(round(1.2 / DT), -3.6 * DT)
    for gap_s, count in ((1.0, 1), (2.5, 1), (5.0, 2)):
        steps = np.concatenate([np.zeros(1000), pulse, np.zeros(round(gap_s / DT)), pulse, np.zeros(1000)])
        assert len(harsh_events(motion_of(30 + np.cumsum(steps)))) == count


def test_lasting_events_follow_their_durations() -> None:
    rules = truth.Rules()
    n = round(320 / DT)
    idle = lasting_events(motion_of(np.zeros(n), rpm=780.0), rules)
    assert [(e.kind, e.severity) for e in idle] == [("idling", "minor")]
    assert lasting_events(motion_of(np.zeros(round(280 / DT)), rpm=780.0), rules) == []
    fast = np.full(round(30 / DT), 150 / 3.6)
    assert [(e.kind, e.severity) for e in lasting_events(motion_of(fast), rules)] == [("speeding", "moderate")]
    assert lasting_events(motion_of(fast[: round(8 / DT)]), rules) == []
    revs = lasting_events(motion_of(np.full(1000, 10.0), rpm=6300.0), rules)
    assert [(e.kind, e.severity, e.severities) for e in revs] == [("over_rev", "moderate", ["moderate"])]


def test_driving_for_four_hours_without_rest_is_fatigue() -> None:
    speed = np.full(round(4.2 * 3600 / DT), 20.0)
    speed[round(3600 / DT) : round(3600 / DT) + round(600 / DT)] = 0.0  # ten minutes are no rest
    assert [e.kind for e in lasting_events(motion_of(speed), truth.Rules()) if e.kind == "fatigue"] == ["fatigue"]
    speed[round(3600 / DT) : round(3600 / DT) + round(1300 / DT)] = 0.0
    assert not [e for e in lasting_events(motion_of(speed), truth.Rules()) if e.kind == "fatigue"]


@pytest.mark.parametrize(("name", "seed"), [("commute", 1), ("commute", 2), ("hills-rough", 3), ("motorway", 4)])
def test_nothing_harsh_in_the_motion_is_left_out_and_nothing_is_made_up(name: str, seed: int) -> None:
    drive = simulate(name, seed, 12.0)
    longitudinal, lateral = rule_quantities(drive.motion)
    events = harsh_events(drive.motion)
    t = drive.motion.t
    quantities = {
        "harsh_braking": -longitudinal,
        "harsh_acceleration": longitudinal,
        "harsh_cornering": np.abs(lateral),
    }
    for kind, quantity in quantities.items():
        covered = np.zeros(len(t), bool)
        for e in events:
            if e.kind == kind:
                inside = (t >= e.t_s - 1e-9) & (t <= e.t_s + e.duration_s + 1e-9)
                covered |= (t >= e.t_s - 1.0) & (t <= e.t_s + e.duration_s + 1.0)
                assert quantity[inside].max() == pytest.approx(abs(e.peak), abs=2e-3)
                assert abs(e.peak) >= HARSH[kind][0] * (1 - truth.GUARD) - 1e-3
        fast = drive.motion.speed >= 1.1 * truth.GATE_MPS[kind]
        loud = (quantity >= HARSH[kind][0]) & fast & ~covered
        edges = np.flatnonzero(np.diff(loud.astype(int), prepend=0, append=0))
        assert all((b - a) * DT < truth.HOLD_S for a, b in zip(edges[::2], edges[1::2], strict=True))


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_calm_drive_has_knocks_and_queues_and_nothing_harsh(seed: int) -> None:
    drive = simulate("calm-city", seed, 20.0)
    longitudinal, lateral = rule_quantities(drive.motion)
    assert [e for e in drive.events if e.severity != "none"] == []
    said = drive.truth()
    kinds = {n["kind"] for n in said["non_events"]}
    assert kinds & {"speed_bump", "pothole", "door_slam"}
    for knock in drive.shocks:
        around = slice(round((knock.t_s - 1) / DT), round((knock.t_s + 2) / DT))
        assert np.abs(longitudinal[around]).max() < 2.5
        assert np.abs(lateral[around]).max() < 3.0


def test_truth_times_count_from_the_first_frame() -> None:
    drive = simulate("commute", 3, 10.0)
    said = drive.truth()
    zero = drive.frames.t[0] / 1e9
    assert [e["t_s"] for e in said["events"]] == [round(e.t_s - zero, 3) for e in drive.events]
    assert said["frames"] == len(drive.frames.t) == sum(said["frames_by_id"].values())
    assert said["distance_m"] == pytest.approx(drive.motion.distance[-1], abs=0.1)
    assert said["trips"][0]["start_t_s"] == pytest.approx(-zero, abs=0.001)
    assert np.linalg.norm(said["mount"]["gravity"]) == pytest.approx(1.0, abs=1e-3)
    assert np.dot(said["mount"]["gravity"], said["mount"]["forward"]) == pytest.approx(0.0, abs=1e-3)


def test_hills_leak_gravity_and_are_no_events() -> None:
    drive = simulate("hills-rough", 2, 15.0)
    hills = [n for n in drive.truth()["non_events"] if n["kind"] == "hill"]
    assert hills
    longitudinal, _ = rule_quantities(drive.motion)
    for hill in hills:
        inside = slice(round((hill["t_s"]) / DT), round((hill["end_t_s"]) / DT))
        assert np.abs(np.sin(drive.motion.slope[inside])).mean() * 9.81 > 0.45
        loud = np.abs(longitudinal[inside]) > 2.5
        told = [e for e in drive.events if hill["t_s"] - 5 < e.t_s < hill["end_t_s"] + 5]
        assert told or not loud.any()


def test_an_errand_makes_two_trips() -> None:
    said = simulate("commute", 8, 32.0).truth()
    assert len(said["trips"]) == 2
    assert sum(t["distance_m"] for t in said["trips"]) == pytest.approx(said["distance_m"], abs=1.0)
    assert said["trips"][1]["start_t_s"] - said["trips"][0]["end_t_s"] > 7 * 60


def true_event(t_s: float, severities: list[str], kind: str = "harsh_braking") -> TruthEvent:
    """A true event of two seconds."""
    return TruthEvent(kind, t_s, 2.0, -4.0, "m/s2", 15.0, severities[0], severities)


def claim(t_s: float, severity: str, *, confirmed: bool = True, kind: str = "harsh_braking") -> Said:
    """What a detector said of two seconds."""
    return Said(kind, severity, confirmed, t_s, 2.0, -3.5)


def test_what_is_said_right_scores_one() -> None:
    result = score(
        [true_event(10, ["moderate"]), true_event(50, ["severe"])], [claim(10.5, "moderate"), claim(49, "severe")]
    )
    s = result["harsh_braking"]
    assert (s.recall, s.precision, s.severity_right, s.pairs, s.missed, s.false) == (1.0, 1.0, 2, 2, [], [])
    assert s.peak_error == pytest.approx(1.0)
    assert s.time_error_s == pytest.approx(1.5)


def test_missing_underrating_and_not_confirming_cost_recall() -> None:
    true = [true_event(t, ["moderate"]) for t in (10, 30, 50, 70)]
    said = [claim(30, "minor"), claim(50, "severe", confirmed=False), claim(70, "severe")]
    s = score(true, said)["harsh_braking"]
    assert (s.due, s.found, s.recall) == (4, 1, 0.25)
    assert len(s.missed) == 3
    assert (s.unconfirmed, s.unconfirmed_false) == (1, 0)
    assert s.severity_right == 0


def test_inventing_repeating_and_overrating_cost_precision() -> None:
    true = [true_event(10, ["moderate"]), true_event(40, ["minor"]), true_event(60, ["none", "minor", "moderate"])]
    said = [
        claim(10, "moderate"),
        claim(11.5, "moderate"),
        claim(40, "moderate"),
        claim(60, "moderate"),
        claim(90, "severe"),
    ]
    s = score(true, said)["harsh_braking"]
    assert (s.claimed, s.right) == (5, 2)
    assert len(s.false) == 3
    assert s.recall == 1.0


def test_either_answer_is_right_near_a_threshold() -> None:
    either = true_event(10, ["none", "minor"])
    assert score([either], [])["harsh_braking"].missed == []
    s = score([either], [claim(10, "minor")])["harsh_braking"]
    assert (s.false, s.minor_false, s.severity_right) == ([], 0, 1)


def test_events_of_another_kind_or_time_do_not_match() -> None:
    s = score([true_event(10, ["severe"])], [claim(10, "severe", kind="harsh_cornering"), claim(14.1, "severe")])
    assert s["harsh_braking"].recall == 0.0
    assert s["harsh_cornering"].precision == 0.0
    total = s["harsh_braking"]
    total.add(s["harsh_cornering"])
    assert (total.claimed, total.due, len(total.false)) == (2, 1, 2)


@settings(max_examples=60, deadline=None)
@given(
    true=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), st.integers(0, 3)), max_size=6),
    said=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 3), st.booleans()), max_size=8),
)
def test_shares_stay_between_zero_and_one(true: list[tuple[int, int, int]], said: list[tuple[int, int, bool]]) -> None:
    events = [true_event(t, list(LEVELS[min(a, b) : max(a, b) + 1])) for t, a, b in true]
    claims = [claim(t, LEVELS[level], confirmed=confirmed) for t, level, confirmed in said]
    for s in score(events, claims).values():
        assert 0 <= s.found <= s.due
        assert 0 <= s.right <= s.claimed
        assert len(s.missed) == s.due - s.found
        assert s.pairs <= min(len(events), len(claims))
