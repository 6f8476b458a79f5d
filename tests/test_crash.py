"""What is a crash: the published vectors, every direction, shape, mount, rate and range, and any cut into blocks."""

import msgspec
import numpy as np
import pytest
from crash_signals import KMH, G, Ride, block_of, bumps, crashes, detect, half_sine, hit, mount_of, random_mount, ride
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import join_blocks, make_block
from agent.channels import number
from agent.columnar import decode, encode
from agent.crash.detector import CrashDetector
from agent.crash.settings import CrashSettings
from agent.records import incident_id
from agent.state import empty_state

LEVEL = mount_of(np.eye(3))


def calm(seconds: float = 24.0, hz: float = 400.0, seed: int = 1) -> Ride:
    return ride(np.random.default_rng(seed), hz, seconds)


def driving(seconds: float = 24.0, hz: float = 400.0, seed: int = 1) -> Ride:
    return calm(seconds, hz, seed).says("Gnss.Speed", 14.0)


# the vectors of a crash


@pytest.mark.parametrize("hz", [100.0, 200.0, 400.0, 1000.0])
def test_half_sine_of_5_g_for_100_ms_is_an_impact_of_11_kmh(hz: float) -> None:
    # T-CRASH-1
    of = driving(hz=hz)
    of.push[:, 0] -= 5 * G * half_sine(of.t, 12.0, 0.1)
    (crash,) = crashes(detect(block_of(of), LEVEL)[0])
    assert crash.kind == "impact"
    assert crash.delta_v_mps == pytest.approx(11.2 * KMH, abs=1.1 * KMH)
    assert crash.delta_v_longitudinal_mps == pytest.approx(-11.2 * KMH, abs=1.1 * KMH)
    assert crash.direction_clock == 12
    assert not crash.locked
    assert not crash.clipped
    assert abs(crash.t_ns / 1e9 - 12.0) < 0.010


@pytest.mark.parametrize("hz", [100.0, 400.0, 1000.0])
def test_a_hard_knock_of_20_g_for_15_ms_is_a_bump(hz: float) -> None:
    # T-CRASH-1
    of = hit(driving(hz=hz), 12.0, 6.7, 0.015)
    found, _ = detect(block_of(of), LEVEL)
    assert crashes(found) == []
    (event,) = bumps(found)
    assert event.kind == "bump"
    assert event.severity == "severe"
    assert event.t_ns / 1e9 == pytest.approx(12.0, abs=0.03)


def test_braking_at_0_9_g_for_3_s_is_nothing() -> None:
    # T-CRASH-1
    of = driving()
    of.push[(of.t > 12) & (of.t < 15), 0] -= 0.9 * G
    assert detect(block_of(of), LEVEL)[0] == []


def test_a_push_from_left_to_right_comes_from_9_oclock() -> None:
    # T-CRASH-1
    of = driving()
    of.push[:, 1] -= 10 * G * half_sine(of.t, 12.0, 0.1)
    (crash,) = crashes(detect(block_of(of), LEVEL)[0])
    assert crash.direction_clock == 9
    assert crash.delta_v_lateral_mps == pytest.approx(-22.5 * KMH, rel=0.05)
    assert abs(crash.t_ns / 1e9 - 12.0) < 0.010


@pytest.mark.parametrize("hz", [100.0, 400.0, 1000.0])
def test_35_g_on_a_16_g_sensor_is_clipped_and_a_lower_bound(hz: float) -> None:
    # T-CRASH-1
    of = driving(hz=hz)
    of.push[:, 0] -= 35 * G * half_sine(of.t, 12.0, 0.1)
    (crash,) = crashes(detect(block_of(of, range_g=16), LEVEL)[0])
    assert crash.clipped
    assert crash.locked
    assert crash.delta_v_mps is not None
    assert 30 * KMH < crash.delta_v_mps < 70 * KMH  # 78.6 km/h in truth


def test_two_pulses_3_s_apart_are_events_1_and_2() -> None:
    # T-CRASH-1
    of = hit(hit(driving(), 12.0, 22.5, 0.1), 15.0, 22.5, 0.1)
    one, two = crashes(detect(block_of(of), LEVEL)[0])
    assert (one.number, one.since_previous_ns) == (1, None)
    assert two.number == 2
    assert two.since_previous_ns == two.t_ns - one.t_ns
    assert (two.t_ns - one.t_ns) / 1e9 == pytest.approx(3.0, abs=0.01)


def test_pulses_6_s_apart_do_not_belong_together() -> None:
    of = hit(hit(driving(30.0), 12.0, 22.5, 0.1), 18.0, 22.5, 0.1)
    assert [c.number for c in crashes(detect(block_of(of), LEVEL)[0])] == [1, 1]


def test_samples_that_end_200_ms_after_time_zero_give_a_crash_all_the_same() -> None:
    of = hit(calm(), 12.0, 22.5, 0.1)
    block = block_of(of)
    (crash,) = crashes(detect(block[block["t"] < 12_200_000_000], LEVEL)[0])
    assert crash.delta_v_mps == pytest.approx(22.5 * KMH, rel=0.05)


# direction: the rules' axes are y right; ours y left


@pytest.mark.parametrize(
    ("edr_kmh", "degrees", "clock"),
    [((-20, 0), 0, 12), ((0, -15), 90, 3), ((10, 0), 180, 6), ((-20, 5), 346, 12)],
)
def test_direction_is_where_the_force_came_from(edr_kmh: tuple[float, float], degrees: float, clock: int) -> None:
    # T-PDOF-1
    of = driving()
    for axis, change in ((0, edr_kmh[0]), (1, -edr_kmh[1])):
        of.push[:, axis] += change * KMH / 0.08 * np.pi / 2 * half_sine(of.t, 12.0, 0.08)
    (crash,) = crashes(detect(block_of(of), LEVEL)[0])
    assert crash.direction_deg is not None
    assert abs((crash.direction_deg - degrees + 180) % 360 - 180) < 3
    assert crash.direction_clock == clock


def test_a_car_pushed_to_the_left_gains_velocity_along_plus_y() -> None:
    # T-AXIS-1
    (crash,) = crashes(detect(block_of(hit(driving(), 12.0, 15.0, 0.08, from_deg=90)), LEVEL)[0])
    assert crash.delta_v_lateral_mps == pytest.approx(15 * KMH, rel=0.05)
    assert crash.direction_clock == 3


# everything


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    change=st.floats(10.5, 70.0),
    seconds=st.floats(0.05, 0.14),
    shape=st.sampled_from(["half-sine", "haversine", "square", "triangle"]),
    from_deg=st.floats(0, 360),
    hz=st.sampled_from([100.0, 208.0, 400.0, 1000.0]),
    noise=st.floats(0.01, 0.5),
    jitter=st.sampled_from([0.0, 0.3]),
    learned=st.booleans(),
    speed=st.sampled_from(["moving", "standing", "unknown"]),
)
def test_any_pulse_above_10_kmh_is_found_and_measured(
    seed: int,
    change: float,
    seconds: float,
    shape: str,
    from_deg: float,
    hz: float,
    noise: float,
    jitter: float,
    learned: bool,
    speed: str,
) -> None:
    rng = np.random.default_rng(seed)
    of = hit(ride(rng, hz, 16.0, noise, jitter), 11.0, change, seconds, from_deg, shape)
    if speed == "moving":
        of.says("Obd.Speed", 13.0, 5.0)
    elif speed == "standing":
        of.says("Obd.Speed", 0.0, 5.0).says("Power.Ignition", 1.0, 1.0)
    if jitter:
        kept = rng.random(len(of.t)) > 0.02
        of = Ride(of.t[kept], of.push[kept], of.turn[kept] if of.turn is not None else None, of.others)
    turned = random_mount(rng)
    (crash,) = crashes(detect(block_of(of, turned), mount_of(turned) if learned else None)[0])
    assert crash.delta_v_mps == pytest.approx(change * KMH, rel=0.1)
    assert abs(crash.t_ns / 1e9 - 11.0) < 0.025
    if learned:
        assert crash.direction_deg is not None
        assert abs((crash.direction_deg - from_deg + 180) % 360 - 180) < 8
        assert crash.mount_confidence == 0.9
        assert len(crash.curve_longitudinal_cmps) == len(crash.curve_lateral_cmps)
    else:
        assert crash.direction_deg is None
        assert crash.delta_v_longitudinal_mps is None
        assert crash.curve_lateral_cmps == []
    assert len(msgspec.json.encode(crash)) <= 4096


@pytest.mark.parametrize("range_g", [4, 8, 16])
@pytest.mark.parametrize("shape", ["half-sine", "haversine", "square", "triangle"])
def test_a_sensor_at_its_rails_still_finds_the_crash(range_g: int, shape: str) -> None:
    rng = np.random.default_rng(range_g)
    for _ in range(6):
        of = hit(ride(rng, 200.0, 16.0), 11.0, 45.0, 0.08, rng.uniform(0, 360), shape).says("Gnss.Speed", 14.0)
        (crash,) = crashes(detect(block_of(of, random_mount(rng), range_g))[0])
        assert crash.delta_v_mps is not None
        assert crash.delta_v_mps < 45 * KMH * 1.1
        assert crash.clipped or range_g == 16


def test_a_2_g_sensor_finds_a_hard_crash_by_how_long_it_is_at_its_rail() -> None:
    of = hit(driving(hz=200), 12.0, 40.0, 0.06)
    (crash,) = crashes(detect(block_of(of, range_g=2), LEVEL)[0])
    assert crash.clipped
    assert crash.delta_v_mps is not None
    assert crash.delta_v_mps < 8 * KMH  # only a lower bound


def test_speed_that_vanishes_at_once_promotes_a_clipped_bump() -> None:
    of = hit(calm(hz=200), 12.0, 11.0, 0.06).says("Wheel.Speed", lambda t: np.where(t < 12.05, 14.0, 8.0), 20.0)
    assert len(crashes(detect(block_of(of, range_g=2), LEVEL)[0])) == 1
    of = hit(calm(hz=200), 12.0, 5.0, 0.03).says("Wheel.Speed", 14.0, 20.0)
    found, detector = detect(block_of(of, range_g=2), LEVEL)
    assert crashes(found) == []
    assert detector.counts["crash_clipped_bump"] == 1


def test_the_driver_may_say_that_the_sensor_is_at_its_rail() -> None:
    of = hit(driving(), 12.0, 40.0, 0.1)
    said = make_block([(12_020_000_000, number("Imu.Clipped"), 1.0), (12_060_000_000, number("Imu.Clipped"), 0.0)])
    (crash,) = crashes(detect(join_blocks([block_of(of), said]), LEVEL)[0])
    assert crash.clipped


def test_hard_braking_before_contact_does_not_move_time_zero() -> None:
    of = driving()
    of.push[(of.t > 10.5) & (of.t < 12.0), 0] -= 1.0 * G
    (crash,) = crashes(detect(block_of(hit(of, 12.0, 30.0, 0.1)), LEVEL)[0])
    assert abs(crash.t_ns / 1e9 - 12.0) < 0.010


def test_a_box_that_turned_in_its_mount_gives_no_direction() -> None:
    rng = np.random.default_rng(5)
    turned = random_mount(rng)
    (crash,) = crashes(detect(block_of(hit(driving(), 12.0, 30.0, 0.1), turned), LEVEL)[0])
    assert crash.direction_deg is None
    assert crash.mount_confidence == 0.0
    assert crash.delta_v_mps == pytest.approx(30 * KMH, rel=0.05)


def test_what_the_speed_did_confirms_and_is_kept() -> None:
    of = hit(calm(), 12.0, 40.0, 0.1).says("Obd.Speed", lambda t: np.where(t < 12.1, 12.0, 0.0), 5.0)
    (crash,) = crashes(detect(block_of(of), LEVEL)[0])
    assert crash.speed_before_mps == 12.0
    assert crash.speed_after_mps == 0.0
    assert crash.confirmed_by == ["speed_collapse", "standstill"]
    assert crash.sensors == ["imu", "obd"]


def test_a_standing_car_hit_from_behind_is_a_crash_also_when_the_brakes_hold_it() -> None:
    of = hit(calm(), 12.0, 14.0, 0.12, from_deg=180)
    of.push[(of.t > 12.12) & (of.t < 12.62), 0] -= 0.75 * G  # tyres
    of.says("Obd.Speed", 0.0, 2.0).says("Power.Ignition", 1.0, 1.0)
    (crash,) = crashes(detect(block_of(of), LEVEL)[0])
    assert crash.direction_clock == 6
    assert crash.known_ns - crash.t_ns < 120_000_000


@pytest.mark.parametrize("gap_s", [0.0, 0.15, 0.5, 1.5, 3.0, 6.0])
@pytest.mark.parametrize("lost_s", [0.1, 0.2, 0.4, 0.6])
def test_an_accelerometer_that_falls_silent_in_the_collision_does_not_unmake_it(lost_s: float, gap_s: float) -> None:
    """A blow on a waiting car is judged 0.6 s later: by what was seen of it, however long nothing is heard."""
    of = hit(calm(), 12.0, 14.0, 0.12, from_deg=180)
    of.push[(of.t > 12.12) & (of.t < 12.62), 0] -= 0.75 * G  # tyres
    block = block_of(of.says("Obd.Speed", 0.0, 2.0).says("Power.Ignition", 1.0, 1.0))
    lost_ns, back_ns = round((12 + lost_s) * 1e9), round((12 + lost_s + gap_s) * 1e9)
    (crash,) = crashes(detect(block[(block["t"] < lost_ns) | (block["t"] >= back_ns)], LEVEL)[0])
    assert abs(crash.t_ns - 12_000_000_000) < 10_000_000
    assert crash.delta_v_mps is not None
    assert crash.delta_v_mps > 8.0 * KMH  # what had been seen, at least
    assert crash.direction_clock == 6


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(4.0, 12.0), st.floats(0.0, 5.0)), min_size=1, max_size=4),
    st.sampled_from([None, 0.0, 14.0]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([0.004, 0.06, 0.12]),
    st.lists(st.integers(0, 40_000), max_size=4),
)
def test_gaps_anywhere_raise_nothing_and_depend_on_no_blocks(
    gaps: list[tuple[float, float]], speed: float | None, ignition: float, seconds: float, cuts: list[int]
) -> None:
    of = hit(hit(calm(16.0), 8.0, 20.0, seconds), 9.4, 12.0, 0.06, 90).says("Power.Ignition", ignition, 1.0)
    if speed is not None:
        of.says("Gnss.Speed", speed)
    block = block_of(of)
    t_s = block["t"] / 1e9
    block = block[~np.logical_or.reduce([(t_s >= at) & (t_s < at + length) for at, length in gaps])]
    whole, detector = detect(block, LEVEL)
    cut, other = detect(block, LEVEL, cuts=[c for c in cuts if c < len(block)])
    assert cut == whole
    assert other.counts == detector.counts


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 40_000), max_size=30), st.sampled_from([0.0, 14.0]))
def test_any_cut_into_blocks_gives_the_same_records(cuts: list[int], speed: float) -> None:
    rng = np.random.default_rng(3)
    of = hit(hit(ride(rng, 400.0, 16.0), 8.0, 20.0, 0.1), 9.4, 12.0, 0.06, 90).says("Gnss.Speed", speed)
    block = block_of(of)
    whole, detector = detect(block, LEVEL)
    cut, other = detect(block, LEVEL, cuts=[c for c in cuts if c < len(block)])
    assert cut == whole
    assert other.counts == detector.counts


def test_what_the_store_gives_back_is_judged_the_same() -> None:
    rng = np.random.default_rng(4)
    for hz in (100.0, 333.0, 1000.0):
        of = hit(ride(rng, hz, 14.0, 0.3, 0.2), 8.0, 20.0, 0.1, 30).says("Gnss.Speed", 14.0)
        block = block_of(of, random_mount(rng))
        kept = join_blocks([decode(encode(block[i : i + 5000])) for i in range(0, len(block), 5000)])
        assert detect(kept)[0] == detect(block)[0]


def test_the_incident_is_named_by_boot_and_time_zero() -> None:
    (crash,) = crashes(detect(block_of(hit(driving(), 12.0, 30.0, 0.1)), LEVEL)[0])
    assert crash.id == incident_id("boot", crash.t_ns)


def test_place_and_heading_are_the_last_before_time_zero() -> None:
    detector = CrashDetector(CrashSettings(), "boot", LEVEL)
    block = block_of(hit(driving(), 12.0, 30.0, 0.1))
    rows = empty_state(240)
    rows["t"] = np.arange(240) * 100_000_000
    rows["latitude"], rows["longitude"] = 36.65 + np.arange(240) * 1e-5, 117.12
    rows["accuracy"], rows["heading"] = 2.5, 90.0
    found = detector.step(block, rows) + detector.finish()
    (crash,) = crashes(found)
    assert crash.latitude == pytest.approx(36.65 + 119 * 1e-5, abs=1.1e-5)
    assert crash.heading_deg == 90.0
    assert crash.position_age_ms is not None
    assert 0 <= crash.position_age_ms <= 110


def test_samples_that_may_not_be_written_to_are_taken_as_well() -> None:
    block = block_of(hit(driving(), 12.0, 30.0, 0.1))
    block.flags.writeable = False
    assert len(crashes(detect(block, LEVEL)[0])) == 1


def test_samples_that_cannot_be_are_counted_and_do_no_harm() -> None:
    block = block_of(hit(driving(), 12.0, 30.0, 0.1))
    x = number("Imu.Acceleration.X")
    wrong = make_block([(5_000_000_000, x, float("nan")), (5_000_000_000, x, 1e300), (5_000_000_000, 65_000, 1.0)])
    found, detector = detect(join_blocks([block, wrong]), LEVEL)
    assert len(crashes(found)) == 1
    assert detector.counts["crash_not_finite"] == 1
    assert detector.counts["crash_out_of_range"] == 1
    back = np.concatenate([block, block[:10]])
    assert detect(back, LEVEL)[1].counts["crash_late"] == 10
