"""Truth and detector are two independent readings of the same rules: on rows without any sensor they must agree."""

import numpy as np
import pytest

from agent.detect.detector import Detector
from agent.detect.settings import DetectionSettings
from agent.state import STEP_NS, State, empty_state
from sim.drive import simulate
from sim.score import Said, score
from sim.truth import HARSH, Rules, rule_quantities
from sim.vehicle import DT, Motion


def rows_of(motion: Motion) -> State:
    """The state rows that a perfect fusion would give."""
    longitudinal, lateral = rule_quantities(motion)
    every = round(STEP_NS / 1e9 / DT)
    n = len(motion.speed) // every
    i = np.arange(n) * every
    rows = empty_state(n)
    rows["t"] = np.arange(n) * STEP_NS
    rows["speed"] = motion.speed[i]
    for name in ("lon_wheel", "lon_gnss", "lon_imu", "lon_vehicle"):
        rows[name] = longitudinal[i]
    for name in ("lat_imu", "lat_yaw", "lat_vehicle"):
        rows[name] = lateral[i]
    rows["horizontal"] = np.hypot(longitudinal[i], lateral[i])
    rows["vertical"] = 0.0
    rows["yaw_rate"] = np.degrees(motion.yaw_rate[i])
    rows["rpm"] = np.round(motion.rpm[i])
    rows["brake"] = motion.brake[i] / 100.0
    rows["sources"] = 31
    rows["ignition"] = motion.ignition[i]
    rows["quiet_ns"] = 0
    return rows


@pytest.mark.parametrize(
    ("name", "seed"),
    [("commute", 1), ("commute", 2), ("motorway", 3), ("hills-rough", 4), ("night", 5), ("calm-city", 6)],
)
def test_the_detector_says_the_truth_on_perfect_rows(name: str, seed: int) -> None:
    drive = simulate(name, seed)
    detector = Detector(DetectionSettings())
    events = detector.step(rows_of(drive.motion)) + detector.finish()
    said = [Said(e.kind, e.severity, e.confirmed, e.t_ns / 1e9, e.duration_ns / 1e9, e.peak) for e in events]
    result = score(drive.events, said)
    for kind, s in result.items():
        assert s.missed == [], kind
        assert s.false == [], kind
        assert s.severity_right == s.pairs, kind
        assert kind not in HARSH or s.time_error_s <= 0.2 * s.pairs, kind
    if name == "commute":
        assert sum(result[kind].pairs for kind in HARSH) >= 10


def test_truth_and_detector_hold_the_same_published_thresholds() -> None:
    product = DetectionSettings()
    harsh = product.harsh
    levels = {
        "harsh_braking": harsh.braking,
        "harsh_acceleration": harsh.acceleration,
        "harsh_cornering": harsh.cornering,
    }
    for kind, level in levels.items():
        assert HARSH[kind] == (level.minor_mps2, level.moderate_mps2, level.severe_mps2)
    rules, speeding, idling = Rules(), product.speeding, product.idling
    shares = (speeding.minor_share, speeding.moderate_share, speeding.severe_share)
    assert rules.speeding_mps == pytest.approx([speeding.fixed_limit_mps * share for share in shares])
    assert rules.idling_s == (idling.minor_s, idling.moderate_s, idling.severe_s)
    assert rules.rev_rpm[0] == product.over_rev.limits.car_rpm
