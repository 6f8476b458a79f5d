"""A crash without an accelerometer: speed that vanished, and all that looks like it; the vehicle's own word."""

from collections.abc import Callable

import numpy as np
import pytest
from crash_signals import KMH, Floats, Ride, block_of, bumps, crashes, detect, hit, ride

from agent.blocks import BLOCK, Block
from agent.channels import number
from agent.crash.detector import CrashDetector

AT = 60.0
Speed = Callable[[Floats], Floats]
WHEELS = [f"Vehicle.Chassis.Axle.Row{row}.Wheel.{side}.Speed" for row in (1, 2) for side in ("Left", "Right")]


def says(channel: str, value: Speed | float, hz: float, start: float = 0.0, end: float = 90.0) -> Block:
    t = np.arange(start, end, 1 / hz)
    block = np.zeros(len(t), BLOCK)
    block["t"], block["channel"] = np.round(t * 1e9), number(channel)
    block["value"] = value(t) if callable(value) else value
    return block


def found_in(*parts: Block) -> tuple[list[str], CrashDetector]:
    joined = np.concatenate(parts)
    found, detector = detect(joined[np.argsort(joined["t"], kind="stable")])
    assert not bumps(found)
    return [c.kind for c in crashes(found)], detector


def to_nil(before: float, seconds: float = 0.1) -> Speed:
    """At speed, and after `AT` at a standstill within `seconds`."""
    return lambda t: before * (1 - np.clip((t - AT) / seconds, 0, 1)) + 0.4 * np.sin(t) * (t < AT)


def whole_kmh(speed: Speed) -> Speed:
    return lambda t: np.floor(speed(t) / KMH) * KMH


def held(speed: Speed, seconds: float) -> Speed:
    """As a slow answer gives it: refreshed every `seconds`."""
    return lambda t: speed(np.floor(t / seconds) * seconds)


@pytest.mark.parametrize(
    "part",
    [
        [says("Vehicle.Speed", to_nil(16.0), 20.0)],
        [says("Obd.Speed", whole_kmh(to_nil(16.0)), 5.0)],
        [says("Gnss.Speed", to_nil(16.0), 10.0), says("Gnss.FixType", 3.0, 10.0)],
        [says(name, to_nil(16.0), 50.0) for name in WHEELS],
        [says("Obd.Speed", whole_kmh(to_nil(16.0)), 5.0), says("Gnss.Speed", to_nil(16.0, 1.0), 1.0)],
    ],
    ids=["can", "obd", "gnss", "wheels", "obd+gnss"],
)
def test_speed_that_vanishes_and_stays_away_is_a_suspected_crash(part: list[Block]) -> None:
    joined = np.concatenate(part)
    found, _ = detect(joined[np.argsort(joined["t"], kind="stable")])
    (crash,) = crashes(found)
    assert crash.kind == "suspected"
    assert crash.delta_v_mps is None
    assert crash.peak_mps2 is None
    assert "imu" not in crash.sensors
    assert crash.speed_before_mps == pytest.approx(16.0, abs=0.8)
    assert crash.speed_after_mps == pytest.approx(0.0, abs=0.3)
    assert crash.t_ns / 1e9 == pytest.approx(AT, abs=0.4)
    assert crash.confirmed_by == ["standstill"]


def steady(t: Floats) -> Floats:
    """At 16 m/s, a little up and down."""
    return np.asarray(16.0 + 0.4 * np.sin(t))


def braking(before: float, g: float) -> Speed:
    return lambda t: np.maximum(before - g * 9.80665 * np.maximum(t - AT, 0), 0)


@pytest.mark.parametrize("g", [0.8, 1.0, 1.15])
@pytest.mark.parametrize("before", [8.0, 16.0, 35.0])
def test_the_hardest_braking_is_none(g: float, before: float) -> None:
    speed = braking(before, g)
    for channel, hz in (("Vehicle.Speed", 50.0), ("Obd.Speed", 5.0), ("Obd.Speed", 2.0), ("Gnss.Speed", 1.0)):
        assert found_in(says(channel, whole_kmh(speed) if channel[0] == "O" else speed, hz))[0] == [], channel


@pytest.mark.parametrize("refresh_s", [0.5, 1.0, 1.8, 3.0])
@pytest.mark.parametrize("phase", [0.0, 0.3, 0.7])
def test_slow_repeated_answers_are_no_collapse(refresh_s: float, phase: float) -> None:
    def speed(t: Floats) -> Floats:
        wave = 12 + 8 * np.sin((t + phase) / 4)
        return np.where(t < AT + phase, wave, np.maximum(wave - 7.5 * (t - AT - phase), 0))

    assert found_in(says("Obd.Speed", whole_kmh(held(speed, refresh_s)), 2.0))[0] == []


def test_an_answer_that_was_held_back_while_the_car_braked_is_none() -> None:
    def speed(t: Floats) -> Floats:
        return np.where(t < AT + 8, 16.0 + 0.4 * np.sin(t) * (t < AT), 0.0)

    assert found_in(says("Obd.Speed", whole_kmh(speed), 5.0))[0] == []


def test_a_sensor_that_is_lost_reads_nil_while_the_others_move() -> None:
    gone: Speed = to_nil(16.0, 0.0001)
    assert found_in(says("Vehicle.Speed", gone, 10.0), says("Gnss.Speed", steady, 1.0))[0] == []
    assert found_in(*(says(name, gone if i == 0 else steady, 50.0) for i, name in enumerate(WHEELS)))[0] == []
    assert found_in(*(says(name, gone if i < 2 else steady, 50.0) for i, name in enumerate(WHEELS)))[0] == []
    assert found_in(says("Vehicle.Speed", gone, 100.0))[0] == []  # from 16 m/s to nil in 10 ms: 163 g
    kinds, detector = found_in(says("Obd.Speed", gone, 5.0), says("Obd.EngineSpeed", 2400.0, 5.0))
    assert kinds == []
    assert detector.counts["crash_speed_glitch"] == 1


def test_a_value_that_comes_back_is_a_glitch() -> None:
    def glitch(t: Floats) -> Floats:
        return np.where((t > AT) & (t < AT + 1.0), 0.0, steady(t))

    for channel, hz in (("Vehicle.Speed", 10.0), ("Obd.Speed", 5.0), ("Gnss.Speed", 1.0)):
        assert found_in(says(channel, glitch, hz))[0] == []


def test_wheels_that_lock_under_the_brake_are_none_unless_satellites_agree() -> None:
    locked = [says(name, to_nil(16.0, 0.3), 50.0) for name in WHEELS]
    pedal = says("Vehicle.Chassis.Brake.IsPressed", lambda t: (t > AT - 0.3).astype(float), 10.0)
    assert found_in(*locked, pedal)[0] == []
    assert found_in(*locked, says("Gnss.Speed", braking(16.0, 0.25), 1.0))[0] == []
    assert found_in(*locked, pedal, says("Gnss.Speed", to_nil(16.0), 5.0))[0] == ["suspected"]


def test_satellites_that_are_lost_are_none() -> None:
    speed = says("Gnss.Speed", to_nil(16.0), 5.0)
    assert found_in(speed, says("Gnss.FixType", lambda t: np.where(t < AT, 3.0, 0.0), 5.0))[0] == []
    assert found_in(says("Gnss.Speed", 16.0, 5.0, end=AT), says("Obd.EngineSpeed", 800.0, 5.0))[0] == []


def test_with_an_accelerometer_that_felt_nothing_there_was_nothing() -> None:
    of = ride(np.random.default_rng(1), 100.0, 90.0)
    of.others = [("Obd.Speed", (t := np.arange(0, 90, 0.2)), whole_kmh(to_nil(16.0))(t))]
    assert detect(block_of(of))[0] == []


# the vehicle's own word


def flagged(of: Ride, name: str, at: float, stands: bool = False) -> Ride:
    t = np.arange(0, of.t[-1], 0.1)
    of.others.append((name, t, np.ones(len(t)) if stands else (t >= at).astype(float)))
    return of


AIRBAG = "Vehicle.Cabin.Seat.Row1.DriverSide.Airbag.IsDeployed"


def test_an_airbag_confirms_the_crash_that_was_felt() -> None:
    of = hit(ride(np.random.default_rng(1), 400.0, 24.0), 12.0, 40.0, 0.1).says("Gnss.Speed", 14.0)
    (crash,) = crashes(detect(block_of(flagged(of, AIRBAG, 12.05)))[0])
    assert "airbag" in crash.confirmed_by
    assert crash.kind == "impact"


def test_an_airbag_is_a_crash_also_where_little_or_nothing_was_felt() -> None:
    of = hit(ride(np.random.default_rng(1), 400.0, 24.0), 12.0, 6.0, 0.05).says("Gnss.Speed", 14.0)
    (crash,) = crashes(detect(block_of(flagged(of, AIRBAG, 12.1)))[0])
    assert (crash.kind, crash.confirmed_by) == ("impact", ["airbag"])
    assert crash.delta_v_mps == pytest.approx(6 * KMH, rel=0.15)
    kinds, _ = found_in(says("Obd.Speed", 14.0, 5.0), says(AIRBAG, lambda t: (t >= AT).astype(float), 10.0))
    assert kinds == ["suspected"]


def test_a_flag_that_always_stood_says_nothing() -> None:
    of = ride(np.random.default_rng(1), 400.0, 24.0).says("Gnss.Speed", 14.0)
    assert detect(block_of(flagged(of, AIRBAG, 0.0, stands=True)))[0] == []


def test_a_fuel_cut_confirms_but_overrun_alone_is_no_crash() -> None:
    cut = "Vehicle.Safety.IsFuelCutOff"
    of = ride(np.random.default_rng(1), 400.0, 24.0).says("Gnss.Speed", 14.0)
    assert detect(block_of(flagged(of, cut, 12.0)))[0] == []
    of = hit(ride(np.random.default_rng(1), 400.0, 24.0), 12.0, 40.0, 0.1).says("Gnss.Speed", 14.0)
    (crash,) = crashes(detect(block_of(flagged(of, cut, 12.1)))[0])
    assert crash.confirmed_by == ["fuel_cut"]
