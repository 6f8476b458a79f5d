"""What is no crash: roads, doors, hands, falls, brakes; and what is a bump, a parked impact, a rollover."""

from collections.abc import Callable

import numpy as np
import pytest
from crash_signals import G, Ride, block_of, bumps, crashes, detect, half_sine, hit, mount_of, random_mount, ride

AT = 12.0


def speed_bump(rng: np.random.Generator, of: Ride) -> None:
    """Front axle, rear axle, at 40 km/h: up and down, with the braking push of the hump."""
    size = rng.uniform(1, 2.5) * G
    for start, seconds, way in ((0, 0.09, 1), (0.09, 0.12, -0.8), (0.24, 0.09, 1), (0.33, 0.12, -0.8)):
        pulse = way * size * half_sine(of.t, AT + start, seconds)
        of.push[:, 2] += pulse
        of.push[:, 0] -= 0.25 * pulse
        of.turn[:, 1] += way * 60 * half_sine(of.t, AT + start, seconds)  # type: ignore[index]
    of.says("Gnss.Speed", 11.0)


def pothole(rng: np.random.Generator, of: Ride) -> None:
    """A wheel drops and hits the far edge."""
    size, seconds = rng.uniform(2, 8) * G, rng.uniform(0.02, 0.04)
    pulse = size * half_sine(of.t, AT, seconds)
    of.push += pulse[:, None] * np.array([-0.45, 0.3, 1.0])
    of.push[:, 2] -= 0.5 * size * half_sine(of.t, AT - 0.03, 0.03)
    of.turn[:, 0] += 50 * half_sine(of.t, AT, 0.2)  # type: ignore[index]
    of.says("Gnss.Speed", 14.0)


def kerb(rng: np.random.Generator, of: Ride) -> None:
    """Up a kerb at walking pace."""
    pulse = rng.uniform(2, 5) * G * half_sine(of.t, AT, rng.uniform(0.03, 0.05))
    of.push += pulse[:, None] * np.array([-0.4, 0.5, 1.0])
    of.turn[:, 0] += 70 * half_sine(of.t, AT, 0.15)  # type: ignore[index]
    of.says("Gnss.Speed", 4.0)


def door_slam(rng: np.random.Generator, of: Ride) -> None:
    """The body rings for some 20 ms."""
    after = np.maximum(of.t - AT, 0)
    ring = np.exp(-after / 0.02) * (of.t >= AT) * np.sin(2 * np.pi * rng.uniform(25, 45) * after)
    of.push += rng.uniform(2, 8) * G * ring[:, None] * np.array([0.1, 1.0, 0.6])
    of.says("Obd.Speed", 0.0, 5.0).says("Power.Ignition", 1.0, 1.0)


def falling(rng: np.random.Generator, of: Ride) -> None:
    """Fall 0.1..1 m, tumbling, and land."""
    seconds = np.sqrt(2 * rng.uniform(0.1, 1.0) / G)
    fall = (of.t > AT) & (of.t < AT + seconds)
    axis = rng.standard_normal(3)
    axis /= np.linalg.norm(axis)
    rate = rng.uniform(60, 500)
    period = float(of.t[1] - of.t[0])
    angle = np.cumsum(np.where(fall, np.radians(rate), 0.0)) * period
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    to_world = np.eye(3) + np.sin(angle)[:, None, None] * cross + (1 - np.cos(angle))[:, None, None] * (cross @ cross)
    force = np.tile([0.0, 0.0, G], (len(of.t), 1))
    force[fall] = 0.0
    landing = (of.t >= AT + seconds) & (of.t < AT + seconds + max(0.004, period))
    way = np.array([rng.normal(0, 0.3), rng.normal(0, 0.3), 1.0])
    force += np.outer(landing * G * seconds * 1.4 / max(0.004, period), way)
    of.push += np.einsum("nji,nj->ni", to_world, force) - np.array([0.0, 0.0, G])
    of.turn += np.where(fall, rate, 0.0)[:, None] * axis


def dropped(rng: np.random.Generator, of: Ride) -> None:
    falling(rng, of)
    of.says("Obd.Speed", 0.0, 5.0)


def fell_off_while_driving(rng: np.random.Generator, of: Ride) -> None:
    falling(rng, of)
    of.says("Gnss.Speed", 15.0)


def emergency_braking(rng: np.random.Generator, of: Ride) -> None:
    """1.1 g with ABS at work, from 27 m/s."""
    brakes = ((of.t > AT) & (of.t < AT + 2.5)) * np.clip((of.t - AT) / 0.15, 0, 1)
    of.push[:, 0] -= brakes * G * (1.1 + 0.12 * np.sin(2 * np.pi * rng.uniform(7, 14) * of.t))
    of.push += brakes[:, None] * rng.normal(0, 0.8, of.push.shape)
    of.says("Gnss.Speed", lambda t: 27 - 10.8 * np.clip(t - AT, 0, 2.5))


def gravel(rng: np.random.Generator, of: Ride) -> None:
    """Wheel hop at 9-14 Hz, 0.5 g rms vertically, half of that sideways."""
    for axis, rms in ((0, 2.5), (1, 2.5), (2, 5.0)):
        tones = [np.sin(2 * np.pi * f * of.t + rng.uniform(0, 6)) * rng.normal() for f in rng.uniform(9, 14, 12)]
        wave = np.sum(tones, axis=0)
        of.push[:, axis] += rms * wave / wave.std()
    of.turn += rng.normal(0, 15, of.push.shape)  # type: ignore[operator]
    of.says("Gnss.Speed", 14.0)


def loose_mount(rng: np.random.Generator, of: Ride) -> None:
    """A box that rattles: short blows to and fro, 3..20 g."""
    for start in rng.uniform(2, 18, 150):
        way = rng.standard_normal(3)
        way /= np.linalg.norm(way)
        seconds, size = rng.uniform(0.003, 0.008), rng.uniform(2, 12) * G
        blow = half_sine(of.t, start, seconds) - half_sine(of.t, start + rng.uniform(0.01, 0.03), seconds)
        of.push += np.outer(size * blow, way)
    of.turn += rng.normal(0, 20, of.push.shape)  # type: ignore[operator]
    of.says("Gnss.Speed", 14.0)


def shaken_by_hand(rng: np.random.Generator, of: Ride) -> None:
    """To and fro at 1..4 Hz by 5..25 cm, tilting by 40°, in a car that stands."""
    shaking = (of.t > 8) & (of.t < 16)
    f = rng.uniform(1, 4)
    way = rng.standard_normal(3)
    way /= np.linalg.norm(way)
    swing = rng.uniform(0.05, 0.25) * (2 * np.pi * f) ** 2 * np.sin(2 * np.pi * f * of.t) * shaking
    of.push += np.outer(swing, way)
    tilt = np.radians(40) * np.sin(2 * np.pi * rng.uniform(0.6, 2.0) * (of.t - 8)) * shaking
    of.push[:, 0] -= G * np.sin(tilt)
    of.push[:, 2] += G * (np.cos(tilt) - 1)
    of.turn[:, 1] += np.degrees(np.gradient(tilt, of.t))  # type: ignore[index]
    of.says("Gnss.Speed", lambda t: np.abs(0.2 * np.sin(t)), 1.0)


NONE: list[Callable[[np.random.Generator, Ride], None]] = [
    speed_bump,
    pothole,
    kerb,
    door_slam,
    dropped,
    fell_off_while_driving,
    emergency_braking,
    gravel,
    loose_mount,
    shaken_by_hand,
]


@pytest.mark.parametrize("what", NONE)
@pytest.mark.parametrize("hz", [100.0, 400.0, 1000.0])
def test_it_is_no_crash_on_any_mount_range_and_gyroscope(
    what: Callable[[np.random.Generator, Ride], None], hz: float
) -> None:
    rng = np.random.default_rng(int(hz))
    told = 0
    for i in range(8):
        of = ride(rng, hz, 20.0, 0.15)
        what(rng, of)
        turned = random_mount(rng)
        if i % 4 == 3 and what is not fell_off_while_driving:
            of.others = []
        if i % 5 == 4:
            of.turn = None
        block = block_of(of, turned, float(rng.choice([4, 8, 16])))
        found, _ = detect(block, mount_of(turned) if i % 2 else None)
        assert crashes(found) == [], (i, hz)
        assert all(e.kind == "bump" for e in bumps(found))
        told += len(bumps(found)) > 0
    if what in (pothole, kerb, loose_mount):
        assert told == 8
    if what is emergency_braking:
        assert told == 0


def test_rough_road_tells_a_bounded_number_of_bumps() -> None:
    rng = np.random.default_rng(1)
    of = ride(rng, 100.0, 1800.0, 0.2).says("Gnss.Speed", 14.0)
    for start in np.arange(5.0, 1790.0, 4.0):
        of.push[:, 2] += 6 * G * half_sine(of.t, start, 0.03)
    found, detector = detect(block_of(of))
    assert crashes(found) == []
    assert len(bumps(found)) == 60
    assert detector.counts["crash_bumps_over_limit"] > 300


@pytest.mark.parametrize("hz", [100.0, 200.0, 400.0, 1000.0])
def test_a_knock_on_the_box_moves_it_at_once_and_a_car_never(hz: float) -> None:
    of = hit(ride(np.random.default_rng(2), hz, 16.0), AT, 14.0, 0.006, 30).says("Gnss.Speed", 14.0)
    found, detector = detect(block_of(of))
    assert crashes(found) == []
    assert detector.counts["crash_knocked"] == 1
    assert [e.kind for e in bumps(found)] == ["bump"]


def parked(change_kmh: float, seconds: float, ignition: float = 0.0) -> Ride:
    of = hit(ride(np.random.default_rng(3), 400.0, 20.0, 0.03), AT, change_kmh, seconds, 200)
    return of.says("Power.Ignition", ignition, 1.0)


def test_who_hits_the_parked_car_is_told_of_as_such() -> None:
    (event,) = bumps(detect(block_of(parked(4.0, 0.06)))[0])
    assert (event.kind, event.confirmed) == ("parked_impact", False)
    (event,) = bumps(detect(block_of(parked(14.0, 0.1)))[0])
    assert (event.kind, event.severity) == ("parked_impact", "severe")
    assert event.levels == (7.845, 24.517, 39.227)


@pytest.mark.parametrize("hz", [100.0, 400.0])
@pytest.mark.parametrize("from_deg", [0, 90, 200])
def test_a_soft_blow_on_the_parked_car_is_told_of_and_the_same_on_one_that_stands_at_a_light_is_not(
    from_deg: float, hz: float
) -> None:
    for ignition, told in ((0.0, ["parked_impact"]), (1.0, [])):
        of = hit(ride(np.random.default_rng(3), hz, 20.0, 0.03), AT, 2.0, 0.07, from_deg)
        output, _ = detect(block_of(of.says("Power.Ignition", ignition, 1.0)))
        assert [(e.kind, e.severity) for e in bumps(output)] == [(kind, "minor") for kind in told]
        assert crashes(output) == []


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("hz", [100.0, 400.0, 1000.0])
def test_doors_people_and_wind_are_no_blow_on_the_parked_car(axis: int, hz: float) -> None:
    of = ride(np.random.default_rng(3), hz, 60.0, 0.05)
    for start in range(10, 50, 10):
        x = of.t - start
        slam = np.where((x > 0) & (x < 0.029), np.sin(2 * np.pi * 35.0 * x), 0.0)  # as sim.sensors: 35 Hz, 1.4 g
        of.push[:, axis] += 14.0 * slam
    of.push[:, 1] += 0.12 * G * np.sin(2 * np.pi * 1.4 * of.t)  # somebody gets in, on soft springs
    of.says("Power.Ignition", 0.0, 1.0)
    output, _ = detect(block_of(of))
    assert bumps(output) == []
    assert crashes(output) == []


def test_a_parked_box_that_is_taken_in_the_hand_is_no_parked_impact() -> None:
    of = hit(ride(np.random.default_rng(3), 400.0, 20.0, 0.03), AT, 2.0, 0.07)
    assert of.turn is not None
    of.turn[(of.t > AT - 0.6) & (of.t < AT - 0.4), 0] = 150.0
    of.turn[(of.t > AT - 0.4) & (of.t < AT - 0.2), 0] = -150.0
    output, _ = detect(block_of(of.says("Power.Ignition", 0.0, 1.0)))
    assert "parked_impact" not in [event.kind for event in bumps(output)]


def test_an_engine_that_stands_says_parked_as_well() -> None:
    of = hit(ride(np.random.default_rng(3), 400.0, 20.0, 0.03), AT, 4.0, 0.06, 200).says("Obd.EngineSpeed", 0.0, 1.0)
    (event,) = bumps(detect(block_of(of))[0])
    assert event.kind == "parked_impact"


def test_an_engine_that_start_stop_switched_off_at_the_light_does_not_mean_parked() -> None:
    of = hit(ride(np.random.default_rng(3), 400.0, 40.0, 0.03), 30.0, 14.0, 0.1, 180)
    of.says("Obd.EngineSpeed", lambda t: np.where(t < 12, 900.0, 0.0), 2.0)
    of.says("Obd.Speed", lambda t: np.where(t < 8, 9.0, 0.0), 2.0)
    (crash,) = crashes(detect(block_of(of))[0])
    assert crash.kind == "impact"


def test_with_the_ignition_on_the_same_blow_is_a_bump() -> None:
    (event,) = bumps(detect(block_of(parked(4.0, 0.06, ignition=1.0)))[0])
    assert event.kind == "bump"


def rolling(
    degrees: float, seconds: float, speed: float | None, after: float, seed: int = 4, hz: float = 200.0
) -> Ride:
    """Roll to the right by `degrees` within `seconds` from `AT` on and lie so."""
    of = ride(np.random.default_rng(4), 200.0, 30.0)
    angle = np.radians(degrees) * np.clip((of.t - AT) / seconds, 0, 1)
    of.push[:, 1] += G * np.sin(angle)
    of.push[:, 2] += G * (np.cos(angle) - 1)
    of.turn[:, 0] += np.degrees(np.gradient(angle, of.t))  # type: ignore[index]
    for start in AT + np.array([0.2, 0.5, 0.9]) * seconds:
        of.push[:, 1] += 3 * G * half_sine(of.t, start, 0.05)
    return of.says("Gnss.Speed", lambda t: speed + (after - speed) * np.clip((t - AT) / 3, 0, 1))


@pytest.mark.parametrize("degrees", [85.0, 130.0, 180.0])
def test_a_car_on_its_side_or_roof_has_rolled_over(degrees: float) -> None:
    found, _ = detect(block_of(rolling(degrees, 1.2, 18.0, 0.0), random_mount(np.random.default_rng(1))))
    (crash,) = (c for c in crashes(found) if c.kind == "rollover")
    assert crash.roll_deg == pytest.approx(degrees, abs=8)
    assert AT < crash.t_ns / 1e9 < AT + 1.0  # where it passed 30°
    assert "standstill" in crash.confirmed_by


def test_a_box_that_comes_off_while_the_car_drives_on_has_not_rolled_over() -> None:
    found, detector = detect(block_of(rolling(120.0, 1.2, 18.0, 18.0)))
    assert crashes(found) == []
    assert detector.counts["crash_still_driving"] >= 1


def test_a_box_turned_over_while_the_car_stands_is_none() -> None:
    of = rolling(150.0, 2.0, 0.0, 0.0)
    found, detector = detect(block_of(of))
    assert [c for c in crashes(found) if c.kind == "rollover"] == []
    assert detector.counts["crash_tilted"] == 1


def test_leaning_by_45_degrees_is_no_rollover() -> None:
    assert [c for c in crashes(detect(block_of(rolling(45.0, 1.0, 10.0, 3.0)))[0]) if c.kind == "rollover"] == []


def test_a_box_that_rocks_hard_in_its_holder_has_not_rolled_over() -> None:
    """Its gyroscopes lose the way; the accelerometer's mean does not."""
    from agent.detect.settings import DetectionSettings
    from agent.fuse.settings import FusionSettings
    from agent.spine import Spine
    from agent.trips import TripSettings
    from sim.drive import simulate

    spine = Spine(FusionSettings(), DetectionSettings(), TripSettings(), boot="rocks")
    drive = simulate("rough-road", 21, 60.0)
    outputs = [spine.step(block) for block in drive.blocks()] + [spine.finish()]
    assert [crash for output in outputs for crash in output.crashes] == []
    assert spine.counts["crash_upright"] > 0
