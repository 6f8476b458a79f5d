"""The power state over the lives of many cars, in virtual time: when it sleeps, what wakes it, when it lets go."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import Block
from agent.config import build
from agent.errors import ConfigError
from agent.power.machine import ASLEEP
from agent.power.settings import PowerRules
from agent.power.signs import Signs
from tests.power_cars import DRIVING, OFF, Life, S

# what a car without an engine speed on its diagnosis says while it drives
NO_RPM = {k: v for k, v in DRIVING.items() if k != "rpm"}


def smart(t_s: float) -> float:
    """A smart alternator: 12.3 V under way, 14.9 V at overrun, off altogether for a minute."""
    return 14.9 if t_s % 40 < 8 else 11.9 if t_s % 600 < 60 else 12.3


# awake


@pytest.mark.parametrize(
    "wires", [DRIVING, NO_RPM, {"gnss": 14.0}, {"shake": 0.45}], ids=["all", "no-rpm", "gps", "imu"]
)
def test_a_smart_alternator_is_driven_for_hours_whatever_its_voltage(wires: dict[str, Any]) -> None:
    car = Life().goes_on(2400, volts=smart, **wires)
    assert car.states[-1] == "driving"
    assert set(car.states[:-1]) <= {"engine_on"}  # until three fixes, or three seconds of shaking


@pytest.mark.parametrize("seconds", [30, 75, 120])
@pytest.mark.parametrize("ignition", [None, 1.0])
def test_a_stop_start_pause_at_a_light_is_no_parking(seconds: int, ignition: float | None) -> None:
    car = Life().goes_on(300, volts=14.2, ignition=ignition, **DRIVING)
    for _ in range(4):
        car.goes_on(seconds, volts=12.2, rpm=0.0, speed=0.0, gnss=0.1, shake=0.04, ignition=ignition)
        assert car.power.state == "engine_off"
        car.goes_on(1, volts=8.0, rpm=180.0, speed=0.0, gnss=0.1, shake=0.3, ignition=ignition)
        car.goes_on(60, volts=14.2, ignition=ignition, **DRIVING)
    assert not set(car.states) & set(ASLEEP)


def test_an_engine_that_idles_for_hours_stays_on() -> None:
    car = Life().goes_on(3600, volts=smart, rpm=780.0, speed=0.0, gnss=0.1, shake=0.12)
    assert car.states == ["engine_on"]


def test_a_hybrid_that_waits_ready_at_14_volts_is_on_and_one_that_is_switched_off_sleeps() -> None:
    ready: dict[str, Any] = {"volts": 14.0, "rpm": 0.0, "speed": 0.0, "gnss": 0.1, "shake": 0.02, "frames": 0.0}
    car = Life().goes_on(300, volts=14.0, **(DRIVING | {"rpm": 0.0})).goes_on(600, **ready)
    assert car.power.state == "engine_on"
    assert car.until("parked", 200, **OFF) <= 195


def test_a_queue_of_half_an_hour_in_a_silent_hybrid_sleeps_and_wakes_at_the_first_metres() -> None:
    car = Life().goes_on(300, volts=14.0, **(DRIVING | {"rpm": 0.0}))
    assert car.until("parked", 1000, volts=14.0, rpm=0.0, speed=0.0, gnss=0.1, shake=0.02) <= 915
    car.goes_on(900, volts=14.0, rpm=0.0, speed=0.0, gnss=0.1, shake=0.02)
    assert car.until("driving", 10, volts=14.0, gnss=4.0, shake=0.3) <= 4


# asleep


@pytest.mark.parametrize(
    ("wires", "most_s"),
    [
        ({**OFF, "ignition": 0.0}, 45),  # the line says so, and more agree
        (OFF, 195),  # bus silent, supply at rest, nothing moves
        ({**OFF, "rpm": 0.0, "speed": 0.0}, 195),  # control units answer for as long as they are asked
        ({"volts": 12.3, "rpm": 0.0}, 195),  # a smart alternator's battery: its voltage did not even fall
        ({"gnss": 0.1, "rpm": 0.0, "speed": 0.0}, 195),  # no voltage is known
        ({"gnss": 0.1}, 195),  # nor does anything answer
        ({"volts": 13.8, "gnss": 0.1, "shake": 0.03}, 915),  # on a charger, or a supply that is always hot
        ({"volts": 13.8, "rpm": 0.0, "speed": 0.0}, 915),
        ({**OFF, "rpm": 0.0, "ignition": 1.0}, 915),  # the ignition was forgotten
        ({}, 915),  # every wire is dead
        ({"volts": 12.6}, 915),
    ],
)
def test_after_the_engine_is_off_it_sleeps_within_the_stated_time(wires: dict[str, Any], most_s: int) -> None:
    car = Life().goes_on(600, volts=14.2 if "volts" in wires else None, **DRIVING)
    assert car.until("parked", 1000, **wires) <= most_s
    assert car.changes[-1].why


def test_an_adapter_that_was_lost_on_the_way_is_no_silent_bus() -> None:
    """As in events/blackbox, where most drives have no rpm: a stop of ten minutes with the engine on is no parking."""
    car = Life().goes_on(300, **DRIVING).goes_on(600, gnss=14.0, shake=0.45)
    car.goes_on(600, gnss=0.1, shake=0.12).goes_on(60, gnss=14.0)
    assert "parked" not in car.states
    assert car.until("parked", 1000, gnss=0.1) >= 890


def test_what_led_to_parking_is_said_in_words() -> None:
    car = Life().goes_on(100, volts=14.2, **DRIVING)
    car.until("parked", 1000, **OFF, ignition=0.0)
    why = car.changes[-1].why
    for part in ("the ignition is off", "the bus has been silent for", "V less than before", "nothing moves"):
        assert part in why


def test_quiet_days_are_slept_through() -> None:
    rest = PowerRules(parked_h=200.0, budget_wh=1000.0)
    car = Life(rest).goes_on(100, volts=14.2, **DRIVING)
    car.until("parked", 1000, **OFF)
    asleep = len(car.changes)
    surface = lambda t_s: 12.6 + 0.4 * float(np.exp(-(t_s - 1500) / 3600)) + 0.1 * float(np.sin(t_s / 13000))  # noqa: E731
    # voltages drift with temperature and surface charge, lorries pass, doors shut
    car.goes_on(15_000, volts=surface, gnss=0.1, shake=lambda t_s: 0.6 if t_s % 700 < 2 else 0.03)
    car.goes_on(200_000, every_s=10, volts=surface, gnss=0.1)
    assert len(car.changes) == asleep


# waking


def parked(rules: PowerRules | None = None, seconds: int = 600, **wires: Any) -> Life:
    car = Life(rules).goes_on(300, volts=14.2, **DRIVING)
    car.until("parked", 1000, **(OFF | wires))
    return car.goes_on(seconds, **(OFF | wires))


@pytest.mark.parametrize(
    ("wires", "most_s"),
    [
        ({**OFF, "ignition": 1.0}, 1),
        ({**OFF, "volts": 8.5}, 1),  # a starter
        ({**OFF, "volts": 13.9}, 2),  # an alternator, a DC-DC
        ({**OFF, "gnss": 5.0}, 3),
        ({**OFF, "shake": 0.4}, 5),
        ({**OFF, "frames": 1.0}, 4),
    ],
    ids=["ignition", "starter", "alternator", "gps", "motion", "bus"],
)
def test_one_good_sign_wakes_within_the_stated_time(wires: dict[str, Any], most_s: int) -> None:
    car = parked(ignition=0.0)
    seconds = 0
    while car.power.asleep and seconds <= most_s:
        car.goes_on(1, **wires)
        seconds += 1
    assert not car.power.asleep
    assert seconds <= most_s


@pytest.mark.parametrize(
    "wires",
    [{"shake": lambda t_s: 1.5 if t_s % 60 < 2 else 0.03}, {"frames": lambda t_s: 1.0 if t_s % 120 < 2 else None}],
    ids=["knocks", "network management"],
)
def test_knocks_and_stray_frames_do_not_wake(wires: dict[str, Any]) -> None:
    car = parked()
    before = len(car.changes)
    car.goes_on(1800, **(OFF | wires))
    assert len(car.changes) == before


def test_a_false_alarm_costs_a_minute_and_makes_the_next_one_harder() -> None:
    car = parked()
    windy = lambda t_s: 0.4 if t_s % 100 < 15 else 0.03  # noqa: E731
    before = len(car.changes)
    car.goes_on(7200, **(OFF | {"shake": windy}))
    woken = [c for c in car.changes[before:] if c.before == "parked"]
    slept = [c for c in car.changes[before:] if c.state == "parked"]
    assert 1 <= len(woken) <= 3  # of 72 gusts
    assert [round((b.t_ns - a.t_ns) / S) for a, b in zip(woken, slept, strict=True)] == pytest.approx(
        [61] * len(woken), abs=16
    )
    assert "nothing came of waking by motion" in slept[0].why
    # and yet a car that drives away is noticed within a minute and a bit by its shaking alone
    seconds = 0
    while car.power.asleep:
        car.goes_on(1, volts=12.6, shake=0.5)
        seconds += 1
    assert seconds <= 65


def test_a_charger_that_is_plugged_in_wakes_it_once() -> None:
    car = parked(PowerRules(parked_h=100.0))
    before = len(car.changes)
    car.goes_on(6 * 3600, every_s=5, **(OFF | {"volts": 14.4}))
    assert sum(c.before == "parked" for c in car.changes[before:]) == 1
    assert car.power.state == "parked"
    assert car.power.ledger.taken_wh < 5.0  # the charger pays


def test_what_was_on_when_it_fell_asleep_does_not_wake_it() -> None:
    """Networks stay awake for minutes after the key is out; an ignition that was forgotten stays on."""
    car = Life().goes_on(300, volts=14.2, ignition=1.0, **DRIVING)
    left: dict[str, Any] = {**OFF, "rpm": 0.0, "frames": 0.0, "ignition": 1.0}
    car.until("parked", 1000, **left)
    before = len(car.changes)
    car.goes_on(3600, **left)
    assert len(car.changes) == before


# cut-off


def test_starters_dips_are_no_low_supply() -> None:
    car = Life(PowerRules(cut_s=30.0)).goes_on(60, volts=14.2, **DRIVING)
    for dip_v in (6.0, 7.5, 9.0):
        car.goes_on(150, **(OFF | {"rpm": 0.0}))
        car.goes_on(2, **(OFF | {"volts": dip_v}))
        car.goes_on(60, volts=14.2, **DRIVING)
        car.until("parked", 1000, **OFF)
        car.goes_on(2, **(OFF | {"volts": dip_v})).goes_on(20, volts=13.9, **DRIVING)
        assert car.power.state == "driving"
    assert "cut_off" not in car.states


def test_a_forgotten_ignition_sleeps_by_its_voltage_and_then_lets_go() -> None:
    car = Life().goes_on(600, volts=14.2, ignition=1.0, **DRIVING)
    drained = lambda t_s: 12.6 - (t_s - 1600) / 1000  # noqa: E731 — headlights on
    on: dict[str, Any] = {"volts": drained, "rpm": 0.0, "speed": 0.0, "gnss": 0.1, "shake": 0.03, "ignition": 1.0}
    assert car.until("parked", 1000, **on) <= 700  # at 12.2 V and a minute, not only after 15
    assert car.until("cut_off", 1000, **on) <= 400
    assert "12.2 V or less for 300 s" in car.changes[-1].why


@pytest.mark.parametrize(
    ("rules", "wires", "hours", "why"),
    [
        (PowerRules(), OFF, 20.0, "30.0 Wh"),
        (PowerRules(), {"gnss": 0.1}, 20.0, "30.0 Wh"),  # no voltage known
        (PowerRules(parked_w=0.5), {"gnss": 0.1}, 30.0, "parked for 30 h"),
        (PowerRules(), OFF | {"volts": 13.8}, 30.0, "parked for 30 h"),  # somebody else pays
        (PowerRules(), OFF | {"volts": 12.1}, 0.15, "12.2 V or less"),
    ],
)
def test_the_battery_is_left_alone_by_voltage_energy_or_time(
    rules: PowerRules, wires: dict[str, Any], hours: float, why: str
) -> None:
    sparse = {k: v for k, v in wires.items() if k != "shake"}
    car = Life(rules).goes_on(3600, volts=14.2 if "volts" in wires else None, **DRIVING)
    car.until("parked", 1000, **sparse)
    seconds = car.until("cut_off", 120_000, every_s=10, **sparse)
    assert seconds / 3600 == pytest.approx(hours, abs=0.35)
    assert why in car.changes[-1].why


def test_a_24_volt_lorry_is_measured_by_its_own_scale() -> None:
    car = Life().goes_on(300, volts=28.2, **DRIVING)
    assert car.power.charging
    car.until("parked", 300, **(OFF | {"volts": 25.2}))
    car.goes_on(3600, **(OFF | {"volts": 25.2}))
    assert car.power.state == "parked"
    assert car.until("cut_off", 400, **(OFF | {"volts": 24.1})) >= 295


def test_a_ride_on_a_ferry_is_never_cut() -> None:
    car = parked(PowerRules(budget_wh=1.0, parked_h=1.0), seconds=0)
    car.goes_on(5000, volts=11.8, gnss=9.0, shake=0.5)
    assert "cut_off" not in car.states
    assert car.until("cut_off", 1500, **(OFF | {"volts": 11.8})) <= 1300


def test_a_drive_pays_back_what_the_night_took() -> None:
    car = parked(seconds=0).goes_on(4 * 3600, every_s=5, **OFF)
    taken = car.power.ledger.taken_wh
    assert taken == pytest.approx(6.3, abs=0.3)
    car.goes_on(300, volts=14.2, **DRIVING)
    assert car.power.ledger.taken_wh == pytest.approx(taken - 45 * 300 / 3600, abs=0.2)


# properties

values = {
    "rpm": st.sampled_from([None, 0.0, 180.0, 800.0, 3000.0]),
    "speed": st.sampled_from([None, 0.0, 0.5, 14.0]),
    "gnss": st.sampled_from([None, 0.1, 2.0, 14.0]),
    "volts": st.sampled_from([None, 6.0, 11.5, 12.0, 12.4, 13.3, 14.9, 28.0]),
    "ignition": st.sampled_from([None, 0.0, 1.0]),
    "frames": st.sampled_from([None, 0.0]),
    "shake": st.sampled_from([None, 0.03, 0.12, 0.5]),
}
stages = st.lists(st.tuples(st.integers(1, 400), st.fixed_dictionaries(values)), min_size=1, max_size=8)
still = st.fixed_dictionaries(
    values
    | {
        "rpm": st.sampled_from([None, 0.0, 180.0]),
        "speed": st.sampled_from([None, 0.0, 0.5]),
        "gnss": st.sampled_from([None, 0.1, 2.0]),
        "shake": st.sampled_from([None, 0.03, 0.12]),
    }
)


@settings(max_examples=25, deadline=None)
@given(lived=stages, after=still)
def test_whatever_the_signs_it_never_sleeps_or_cuts_while_driven_and_always_sleeps_after(
    lived: list[tuple[int, dict[str, Any]]], after: dict[str, Any]
) -> None:
    car = Life(PowerRules(cut_s=30.0, budget_wh=0.3))
    for seconds, wires in lived:
        for second in range(seconds):
            car.goes_on(1, **wires)
            polled = not car.power.asleep
            if second >= 3 and ((polled and (wires["rpm"] or 0) >= 300) or (wires["gnss"] or 0) >= 2.8):
                assert not car.power.asleep, (wires, car.changes[-1])
    for _ in range(920):
        car.goes_on(1, **after)
    since_s = [c.t_ns / S for c in car.changes if c.before in ASLEEP and c.state not in ASLEEP]
    woken_late = since_s and car.now_s - since_s[-1] < 920
    assert car.power.asleep or woken_late
    assert [c.before for c in car.changes if c.state == "cut_off"] == ["parked"] * car.states.count("cut_off")


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 400), max_size=12), seed=st.integers(0, 100))
def test_signs_do_not_depend_on_how_samples_are_cut_into_blocks(cuts: list[int], seed: int) -> None:
    car = Life(seed=seed)
    parts = []
    for second in range(6):
        parts.append(car.samples(0.3 if second % 2 else 0.05, rpm=900.0, volts=12.5, gnss=3.0, frames=0.0))
        car.now_s += 1
    whole: Block = np.concatenate(parts)
    told = []
    for places in ([], sorted(cuts)):
        signs = Signs(300.0, 1.0, 2.8, 0.25)
        for block in np.split(whole, places):
            signs.take(block)
        told.append(
            (
                signs.rpm_ns,
                signs.running_ns,
                signs.travelled_ns,
                signs.bus,
                signs.shaking,
                signs.supplies,
                signs.shake_ns,
            )
        )
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"engine_off_s": 10.0}, "must rise"),
        ({"cut_s": 2.0}, "cut_s must be 30"),
        ({"cut_v": 14.0}, "below charging_v"),
        ({"budget_wh": 0.0}, "budget_wh must be above 0"),
        ({"nominal_v": 48.0}, "12 or 24"),
        ({"tick_s": 60.0}, "tick_s"),
        ({"turn_off": ["gpsd"]}, "'gpsd' is not one of"),
        ({"shutdown": "poweroff"}, "expected a list"),
    ],
)
def test_rules_that_cannot_work_are_one_line(table: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as raised:
        build(PowerRules, table, "agent.toml: power")
    assert "\n" not in str(raised.value)
