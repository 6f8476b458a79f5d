"""The virtual car obeys physics: what it does is possible, adds up, and is the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.carbus import TRACK_M, Units, wheel_speeds
from sim.drive import simulate, track
from sim.roads import Floats, Terrain, build_road
from sim.scenario import SCENARIOS, write_script
from sim.sensors import Box, Shock, random_mount, specific_force
from sim.truth import rule_quantities
from sim.vehicle import (
    CRUISE,
    DT,
    GRAVITY,
    PARK,
    PHASE_WIDTH,
    PULSE,
    REACH,
    STAND,
    TURN,
    Car,
    Motion,
    drive,
    simulate_motion,
)

FLAT = Terrain(grade=0.0, bend=0.0, roughness=0.2)


def phase(kind: int, *, speed: float = 0.0, accel: float = 1.5, jerk: float = 3.0, seconds: float = 0.0) -> list[float]:
    """One row of a script without steering."""
    return [kind, speed, accel, jerk, seconds, 0.0, 0.0, 0.0]


def driven(rows: list[list[float]], terrain: Terrain = FLAT, car: Car | None = None) -> Motion:
    """Drive a script on a seeded road."""
    rng = np.random.default_rng(5)
    road = build_road(terrain, 20_000.0, rng)
    return simulate_motion(np.array(rows), road, car or Car(), 600.0, rng)[0]


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_acceleration_sums_to_speed_and_speed_to_distance(name: str) -> None:
    motion = simulate(name, 3, 6).motion
    np.testing.assert_allclose(np.cumsum(motion.longitudinal) * DT, motion.speed, atol=1e-8)
    before = np.concatenate([[0.0], motion.speed[:-1]])
    np.testing.assert_allclose(np.cumsum((motion.speed + before) / 2) * DT, motion.distance, atol=1e-6)
    assert motion.speed.min() >= 0.0
    assert motion.speed[0] == motion.speed[-1] == 0.0


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_tyres_never_give_more_than_their_grip(name: str) -> None:
    motion = simulate(name, 11, 10).motion
    together = np.hypot(*rule_quantities(motion))
    assert together.max() < 1.05 * 0.98 * GRAVITY * np.sqrt(2)
    # 0.98 is the best tyre drawn; drag and an uphill road help the brakes by up to 1.5 m/s²
    assert motion.longitudinal.min() > -0.98 * GRAVITY - 1.6
    assert np.abs(motion.lateral).max() < 0.98 * GRAVITY * 1.05


def test_height_gained_and_speed_lost_are_paid_for_by_the_engine() -> None:
    car = Car(rolling=0.0, drag_area_m2=0.0)
    terrain = Terrain(grade=0.04, grade_length_m=300.0, bend=0.0, roughness=0.1)
    motion = driven(
        [phase(STAND, seconds=2), phase(REACH, speed=20, accel=2), phase(CRUISE, speed=20, seconds=30)], terrain, car
    )
    potential = car.mass_kg * GRAVITY * motion.altitude[-1]
    kinetic = 0.5 * 1.04 * car.mass_kg * motion.speed[-1] ** 2
    slope_work = float(np.sum(np.sin(motion.slope) * motion.speed) * DT) * car.mass_kg * GRAVITY
    propulsion = 1.04 * car.mass_kg * motion.longitudinal + car.mass_kg * GRAVITY * np.sin(motion.slope)
    work = float(np.sum(propulsion * motion.speed) * DT)
    assert work == pytest.approx(potential + kinetic, rel=0.01)
    assert slope_work == pytest.approx(potential, rel=0.01, abs=car.mass_kg * GRAVITY * 0.05)
    # with neither drag nor friction nothing but the pedals changes the energy
    assert (motion.pedal[propulsion > 200.0] > 0.0).mean() > 0.97


def test_a_braking_distance_is_that_of_its_deceleration() -> None:
    motion = driven(
        [
            phase(STAND, seconds=1),
            phase(REACH, speed=25, accel=2.5),
            phase(CRUISE, speed=25, accel=0.9, jerk=1, seconds=8),
            phase(PULSE, speed=0.0, accel=-5.0, jerk=40, seconds=10),
            phase(STAND, seconds=3),
        ]
    )
    braking = np.flatnonzero(motion.longitudinal < -4.0)
    first = braking[0]
    travelled = motion.distance[-1] - motion.distance[first]
    assert travelled == pytest.approx(motion.speed[first] ** 2 / (2 * 5.0), rel=0.05)


def test_the_antilock_brake_takes_over_at_the_limit_and_the_wheels_slip() -> None:
    motion = driven(
        [
            phase(STAND, seconds=1),
            phase(REACH, speed=28, accel=2.5),
            phase(PULSE, speed=2.0, accel=-9.8, jerk=60, seconds=6),
            phase(STAND, seconds=3),
        ]
    )
    locking = motion.abs > 0.5
    assert 1.0 < locking.sum() * DT < 6.0
    wheels = wheel_speeds(motion, Units())
    slip = 1.0 - wheels[0][locking] / motion.speed[locking]
    assert 0.04 < slip.mean() < 0.2
    assert slip.std() > 0.02  # it cycles


def test_wheels_turn_at_the_cars_speed_and_the_inner_ones_slower_in_a_bend() -> None:
    rows = [phase(STAND, seconds=1), phase(REACH, speed=12, accel=1.5), phase(CRUISE, speed=12, seconds=10)]
    rows.append([TURN, 12.0, 0.9, 1.5, 0.0, 2.5, 1.5, 0.0])
    rows.append(phase(CRUISE, speed=12, seconds=5))
    motion = driven(rows)
    wheels = wheel_speeds(motion, Units(wheel_scale=0.01))
    moving = motion.speed > 3.0
    np.testing.assert_allclose(wheels[2:].mean(axis=0)[moving], 1.01 * motion.speed[moving], rtol=0.006)
    bend = motion.lateral > 2.0
    assert bend.any()
    np.testing.assert_allclose((wheels[3] - wheels[2])[bend] / 1.01, motion.yaw_rate[bend] * TRACK_M, rtol=0.02)


def test_a_turn_turns_by_the_angle_asked_for_and_banks_the_body_outwards() -> None:
    rows = [phase(STAND, seconds=1), phase(REACH, speed=10, accel=1.5), phase(CRUISE, speed=10, seconds=5)]
    rows += [[TURN, 10.0, 0.9, 1.5, 0.0, -2.0, np.pi / 2, 0.0], phase(CRUISE, speed=10, seconds=6)]
    motion = driven(rows)
    assert np.degrees(motion.heading[-1] - motion.heading[0]) == pytest.approx(90.0, abs=6.0)
    right = motion.lateral < -1.5
    assert right.any()
    assert motion.roll[right].mean() < -0.005  # right bend: the body leans left, its left side goes down
    assert motion.steering[right].max() < 0.0


def test_engine_speed_is_wheel_speed_times_a_ratio() -> None:
    motion = simulate("commute", 2, 10).motion
    steady = (motion.gear > 1) & (np.abs(motion.longitudinal) < 0.2) & (motion.speed > 8.0)
    ratio = motion.rpm[steady] / (motion.speed[steady] / 0.316 * 60 / (2 * np.pi))
    known = np.array([14.6, 8.6, 5.7, 4.25, 3.35, 2.75])
    away = np.abs(ratio[:, None] / known - 1).min(axis=1)
    assert np.quantile(away, 0.9) < 0.02
    assert motion.rpm.max() < 7200.0


def test_the_path_on_the_ellipsoid_is_as_long_as_the_road() -> None:
    drive_ = simulate("night", 4, 10)
    a, b = np.radians(drive_.latitude), np.radians(drive_.longitude)
    north = np.diff(a) * 6_359_000.0  # meridian radius at 36.65°: 6,358.2 km; prime vertical: 6,385.8 km
    east = np.diff(b) * 6_385_800.0 * np.cos(a[:-1])
    assert np.hypot(north, east).sum() == pytest.approx(drive_.motion.distance[-1], rel=2e-3)


def test_heading_points_along_the_path() -> None:
    drive_ = simulate("commute", 4, 6)
    motion = drive_.motion
    fast = np.flatnonzero(motion.speed > 5.0)[::200]
    north = drive_.latitude[fast] - drive_.latitude[fast - 20]
    east = (drive_.longitude[fast] - drive_.longitude[fast - 20]) * np.cos(np.radians(36.65))
    said = motion.heading[fast - 10]
    away = np.degrees(np.angle(np.exp(1j * (np.arctan2(east, north) - said))))
    assert np.abs(away).max() < 2.0


def test_a_standing_car_feels_one_g_up_and_slopes_leak_gravity_forward() -> None:
    motion = driven([phase(STAND, seconds=4), phase(PARK, seconds=1)])
    force, turn = specific_force(motion, [], (0.5, 0.2, 0.1))
    np.testing.assert_allclose(np.linalg.norm(force, axis=0), GRAVITY, rtol=1e-6)
    np.testing.assert_allclose(turn, 0.0, atol=1e-9)
    motion.slope[:] = 0.1
    assert specific_force(motion, [], (0.0, 0.0, 0.0))[0][0].mean() == pytest.approx(GRAVITY * np.sin(0.1), rel=1e-6)


def test_braking_dips_the_nose_so_that_the_box_feels_more_than_the_car_does() -> None:
    motion = driven(
        [phase(STAND, seconds=1), phase(REACH, speed=25, accel=3), phase(PULSE, accel=-5.0, jerk=30, seconds=3)]
    )
    force, _ = specific_force(motion, [], (0.0, 0.0, 0.0))
    hard = motion.longitudinal < -4.8
    leak = force[0][hard].mean() / motion.longitudinal[hard].mean()
    assert 1.02 < leak < 1.10


@pytest.mark.parametrize(("kind", "size"), [("pothole", 20.0), ("speed_bump", 4.0), ("door_slam", 10.0)])
def test_knocks_shake_the_box_and_leave_the_motion_alone(kind: str, size: float) -> None:
    motion = driven([phase(STAND, seconds=1), phase(REACH, speed=8, accel=2), phase(CRUISE, speed=8, seconds=10)])
    shocks = [Shock(kind, 10.0, size)]  # type: ignore[arg-type]
    still, _ = specific_force(motion, [], (0.0, 0.0, 0.0))
    shaken, _ = specific_force(motion, shocks, (0.0, 0.0, 0.0))
    difference = shaken - still
    assert np.abs(difference).max() > 0.3 * size
    around = slice(round(9.5 / DT), round(13 / DT))
    assert abs(difference[0, around].sum() * DT) < 0.6  # m/s: no speed change worth the name
    assert not np.abs(difference[:, : round(9.9 / DT)]).any()


def test_mounts_are_rotations() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        mount = random_mount(rng)
        np.testing.assert_allclose(mount @ mount.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(mount) == pytest.approx(1.0)


def test_scripts_fill_the_minutes_asked_for() -> None:
    for name in SCENARIOS:
        script = write_script(SCENARIOS[name], 20.0, np.random.default_rng(1))
        assert 18 * 60 < script.elapsed_s < 28 * 60


rows = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.floats(0, 40),
        st.floats(-10, 6),
        st.floats(0.5, 40),
        st.floats(0.05, 1.0),
        st.floats(-7, 7),
        st.floats(0.1, 3),
        st.sampled_from([0.0, 6300.0]),
    ),
    min_size=0,
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(rows=rows, seed=st.integers(0, 2**32 - 1))
def test_the_compiled_drive_equals_plain_python(rows: list[tuple[float, ...]], seed: int) -> None:
    phases: Floats = np.array(rows, np.float64).reshape(-1, PHASE_WIDTH)
    rng = np.random.default_rng(seed)
    road = build_road(Terrain(grade=0.05), 500.0, rng)
    n = 400
    wander = rng.standard_normal(5 + n)
    results = []
    for kernel in (drive, drive.py_func):
        out = np.zeros((26, n))
        starts = np.full(len(phases), -1, np.int64)
        steps = kernel(phases, road, Car().row(), wander, out, starts)
        results.append((steps, out, starts))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][2], results[1][2])
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-9, atol=1e-9)


def test_a_longer_lever_feels_the_turn() -> None:
    rng = np.random.default_rng(1)
    motion = simulate("commute", 6, 8).motion
    near, _ = specific_force(motion, [], (0.0, 0.0, 0.0))
    far, _ = specific_force(motion, [], Box(mount=random_mount(rng)).lever_m)
    assert 0.05 < np.abs(near - far).max() < 8.0


def test_the_track_starts_near_the_neutral_place() -> None:
    motion = driven([phase(STAND, seconds=1)])
    latitude, longitude = track(motion, np.random.default_rng(9))
    assert abs(latitude[0] - 36.65) <= 0.01
    assert abs(longitude[0] - 117.12) <= 0.01
