"""Collisions of the virtual car obey mechanics, and the box feels what truth.json says."""

import numpy as np
import pytest

from agent.blocks import join_blocks
from agent.channels import number
from agent.errors import ConfigError
from sim.crash import FUEL_CUT_MPS, KINDS, SHAPES, known, names, pulse_of
from sim.drive import Drive, simulate
from sim.scenario import SCENARIOS
from sim.vehicle import DT, GRAVITY

AXES = [number(f"Imu.Acceleration.{axis}") for axis in "XYZ"]
HIT = sorted(set(KINDS) - {"parked-hit"})


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.2])
def test_a_pulse_gives_the_whole_change_and_only_pushes(shape, seconds: float) -> None:
    tau = np.arange(1, 200) * DT
    pulse = pulse_of(shape, tau, seconds)
    assert pulse.sum() * DT == pytest.approx(1.0)
    assert pulse.min() >= 0.0
    assert not pulse[tau > seconds].any()


@pytest.mark.parametrize("name", sorted(KINDS))
def test_speed_stays_the_sum_of_acceleration_and_distance_that_of_speed(name: str) -> None:
    motion = simulate(name, 4).motion
    np.testing.assert_allclose(np.cumsum(motion.longitudinal) * DT, motion.speed, atol=1e-8)
    before = np.concatenate([[0.0], motion.speed[:-1]])
    np.testing.assert_allclose(np.cumsum((motion.speed + before) / 2) * DT, motion.distance, atol=1e-6)
    assert motion.speed.min() >= 0.0
    assert motion.speed[-1] == 0.0


@pytest.mark.parametrize("name", HIT)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_box_feels_the_change_of_velocity_that_happened(name: str, seed: int) -> None:
    drive = simulate(name, seed)
    hit = drive.collisions[0]
    t, felt = _accelerometer(drive)
    vehicle = felt @ drive.mounts[0][1]
    quiet = (t > hit.t_s - 0.6) & (t < hit.t_s - 0.1)
    during = (t > hit.t_s) & (t < hit.t_s + hit.seconds)
    rate = (during.sum() - 1) / (t[during][-1] - t[during][0])
    change = (vehicle[during] - vehicle[quiet].mean(axis=0)).sum(axis=0) / rate
    true = np.hypot(hit.forward_mps, hit.left_mps)
    if np.abs(felt[during]).max() > 7.9 * GRAVITY:  # at its rail, as real ones are: a lower bound
        assert np.hypot(*change[:2]) < 1.1 * true + 0.6
        return
    # what the car rolls, spins and brakes in this time is the rest
    assert change[0] == pytest.approx(hit.forward_mps, abs=0.1 * true + 0.6)
    assert change[1] == pytest.approx(hit.left_mps, abs=0.1 * true + 0.6)


def test_a_parked_car_comes_back_to_where_it_stood() -> None:
    drive = simulate("parked-hit", 2)
    hit = drive.collisions[0]
    at = round(hit.t_s / DT)
    assert not drive.motion.ignition[at]
    assert drive.motion.speed[at + round(1 / DT) :].max() < 0.05
    t, felt = _accelerometer(drive)
    level = felt @ drive.mounts[0][1]
    assert np.abs(level[(t > hit.t_s) & (t < hit.t_s + 0.2), :2]).max() > 5.0


def test_after_a_rollover_gravity_points_elsewhere() -> None:
    drive = simulate("crash-rollover", 2)
    t, felt = _accelerometer(drive)
    up = (felt @ drive.mounts[0][1])[t > drive.collisions[0].t_s + 15.0].mean(axis=0)
    angle = np.degrees(np.arccos(up[2] / np.linalg.norm(up)))
    assert angle == pytest.approx(abs(drive.collisions[0].roll_deg), abs=3.0)


def test_the_engine_dies_when_it_was_hard() -> None:
    for seed in range(1, 5):
        drive = simulate("crash-frontal", seed)
        hit = drive.collisions[0]
        hard = np.hypot(hit.forward_mps, hit.left_mps) >= FUEL_CUT_MPS
        later = drive.motion.rpm[round((hit.t_s + 10) / DT)]
        assert (later < 50) == hard


def test_the_second_hit_of_a_pair_comes_three_seconds_later() -> None:
    first, second = simulate("crash-pair", 1).truth()["crashes"]
    assert second["t_s"] - first["t_s"] == pytest.approx(3.0, abs=0.001)
    assert (first["direction_clock"], second["direction_clock"]) == (12, 6)


def test_directions_are_told_from_where_the_force_comes() -> None:
    clocks = {
        name: simulate(name, 5).truth()["crashes"][0]["direction_clock"] for name in ("crash-right", "crash-left")
    }
    assert clocks["crash-right"] in (2, 3, 4)
    assert clocks["crash-left"] in (8, 9, 10)


def test_everyday_drives_have_no_collision_and_every_name_is_known() -> None:
    assert names()[: len(SCENARIOS)] == list(SCENARIOS)
    assert not simulate("rough-road", 1, 5.0).truth()["crashes"]
    with pytest.raises(ConfigError, match="near names: crash-rear"):
        known("crash-reer")


def test_the_same_seed_gives_the_same_frames() -> None:
    one, other = simulate("crash", 9), simulate("crash", 9)
    assert np.array_equal(one.frames.data, other.frames.data)
    assert np.array_equal(one.frames.t, other.frames.t)


def _accelerometer(drive: Drive) -> tuple[np.ndarray, np.ndarray]:
    """Return times in s and [n, 3] in box axes, as decoded from the drive's frames."""
    block = join_blocks(list(drive.blocks()))
    t = block["t"][block["channel"] == AXES[0]] / 1e9
    return t, np.stack([block["value"][block["channel"] == axis] for axis in AXES], axis=1)
