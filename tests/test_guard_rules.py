"""What befalls box and car: each rule on traces that must and must not make it speak, told once, over restarts too."""

from math import sin
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.guard.settings import BoxSettings, GuardSettings, SkySettings, SupplySettings, TowSettings, VehicleSettings
from agent.guard.standing import LEVELS, Standing, level_of
from tests.guarding import Told, codes, fact, place, tilted

S = 1_000_000_000
DAY = 86_400
OWN = "LSVAB4186E2184847"  # China: with a check digit
AMERICAN = "1M8GDM9AXKP042788"  # the worked example of 49 CFR 565
EUROPEAN = "WVWZZZ1KZAW000001"  # no check digit there
SIBLING = "WVWZZZ1KZAW000010"  # two places apart


# supply


def test_a_battery_that_runs_down_is_told_at_each_level_once() -> None:
    told = Told().drive(600).park(3 * DAY, every=30, volts=lambda t: 12.7 - 1.2 * t / (3 * DAY))
    assert [(e.kind, e.severity) for e in told.events] == [
        ("low_battery", "minor"),
        ("low_battery", "moderate"),
        ("low_battery", "severe"),
    ]
    first = told.events[0]
    assert first.peak == pytest.approx(12.2, abs=0.01)
    assert first.levels == (12.2, 12.0, 11.8)
    assert (first.rule, first.sources, first.unit) == ("low_battery/1", ["supply"], "V")
    assert first.duration_ns >= 180 * S


def test_a_restart_or_a_new_boot_does_not_tell_of_the_low_battery_again() -> None:
    told = Told().park(1000, volts=12.1)
    told.restart()
    told.park(2000, volts=12.1)
    told.restart(boot=True)
    told.park(2000, volts=12.1)
    assert told.kinds() == ["low_battery"]
    told.drive(900).park(1000, volts=12.1)  # charged, and low again: another one
    assert told.kinds() == ["low_battery", "low_battery"]


@pytest.mark.parametrize(
    "volts",
    [
        lambda t: 6.8 if t % 600 < 2 else 9.5 if t % 600 < 5 else 12.5,  # cranking, again and again
        lambda t: 12.6,  # a week at rest
        lambda t: 5.1,  # the board's own supply is no car battery
        lambda t: 12.15 if t % 300 < 120 else 12.5,  # lights, for two minutes at a time
        lambda t: 28.1,  # a lorry that charges
        lambda t: 24.9,  # a lorry at rest
        lambda t: 12.1 if t < 170 else 24.5 if t < 200 else 14.2,  # jump start from a lorry before it is old news
    ],
)
def test_cranking_lights_lorries_and_boards_are_no_low_battery(volts: Any) -> None:
    assert Told().park(DAY // 4, volts=volts).events == []


def test_a_week_of_parking_is_silent() -> None:
    told = Told().drive(600).park(7 * DAY, every=30, volts=lambda t: 12.75 - 0.3 * t / (7 * DAY))
    assert told.events == []


def test_a_lorrys_battery_has_twice_the_limits() -> None:
    told = Told().drive(120, volts=28.2).park(400, volts=23.9)
    (event,) = told.events
    assert (event.kind, event.severity, event.peak) == ("low_battery", "moderate", 23.9)
    assert event.levels == (24.4, 24.0, 23.6)


def test_a_smart_alternator_and_a_dead_one_are_told_apart() -> None:
    assert Told().drive(3600, volts=lambda t: 12.1 if t % 400 < 300 else 14.8).events == []
    assert Told().drive(3600, volts=lambda t: 13.0 - t / 2400).kinds() == ["low_battery", "low_battery"]


def test_a_supply_that_vanishes_in_a_drive_is_power_lost_once() -> None:
    told = Told().drive(300).drive(20, volts=0.2).drive(600, volts=0.1)
    (event,) = told.events
    assert (event.kind, event.severity, event.confirmed, event.unit) == ("power_lost", "severe", True, "m/s")
    assert event.peak == event.speed_before_mps == 20.0
    told.restart()
    assert told.drive(100, volts=0.1).kinds() == ["power_lost"]
    assert told.drive(100).drive(30, volts=0.1).kinds() == ["power_lost", "power_lost"]


def test_at_a_light_it_is_less_severe_and_parked_or_cranking_it_is_nothing() -> None:
    assert [e.severity for e in Told().drive(300, speed_mps=0.0).drive(20, speed_mps=0.0, volts=0.0).events] == [
        "moderate"
    ]
    assert Told().drive(300).drive(60, supply_v=0.2).kinds() == ["power_lost"]  # the car has its battery still
    assert Told().drive(300).park(600).park(60, volts=0.2).events == []
    assert Told().drive(300).drive(3, volts=4.0).drive(300).events == []  # a plug that bounces


# satellites


def test_an_antenna_that_is_gone_is_told_after_more_than_any_tunnel() -> None:
    told = Told().drive(600)
    told.drive(7200, satellites=0, fix=False, place=None, gnss_mps=None)
    (event,) = told.events
    assert (event.kind, event.severity, event.unit) == ("gnss_lost", "moderate", "s")
    assert event.peak == pytest.approx(1500, abs=2)  # 30 km at 20 m/s
    told.restart(boot=True)
    assert told.drive(3600, satellites=0, fix=False, place=None).kinds() == ["gnss_lost"]
    told.drive(60).drive(3600, satellites=0, fix=False, place=None)
    assert told.kinds() == ["gnss_lost", "gnss_lost"]


def test_a_receiver_that_says_nothing_at_all_is_as_lost() -> None:
    dark = {"satellites": None, "fix": False, "place": None, "gnss_mps": None}
    assert Told().drive(600).drive(3600, **dark).kinds() == ["gnss_lost"]
    assert Told(facts={"gnss": "seen"}).drive(3600, **dark).kinds() == ["gnss_lost"]  # cut before the start


@pytest.mark.parametrize(
    ("seconds", "what"),
    [
        (300, {}),  # a tunnel of 6 km
        (1225, {}),  # Lærdal, 24.5 km
        (8 * 3600, {"speed_mps": 0.0}),  # a garage, engine on
        (3600, {"speed_mps": None}),  # nobody knows how far
    ],
)
def test_tunnels_and_garages_are_no_lost_antenna(seconds: int, what: dict[str, Any]) -> None:
    dark = {"satellites": 0, "fix": False, "place": None, "gnss_mps": None}
    assert Told().drive(600).drive(seconds, **(dark | what)).drive(60).events == []


def test_a_box_that_never_had_a_fix_has_no_antenna_to_lose() -> None:
    assert Told().drive(7200, satellites=None, fix=False, place=None).events == []


def weak(state: str = "degraded") -> Any:
    return fact("gps:127.0.0.1:2947:signal", state=state, **({"weaker_db": "14"} if state == "degraded" else {}))


def test_weak_satellites_for_longer_than_a_roof_are_a_suspicion_of_jamming() -> None:
    told = Told().drive(300)
    told.hear(weak())
    told.drive(900)
    (event,) = told.events
    assert (event.kind, event.severity, event.confirmed) == ("gnss_jammed", "minor", False)
    assert (event.peak, event.unit) == (14.0, "dB")
    told.restart()
    told.hear(weak())
    assert told.drive(900).kinds() == ["gnss_jammed"]
    told.hear(weak("ok"))
    told.drive(120)
    told.hear(weak())
    assert told.drive(900).kinds() == ["gnss_jammed", "gnss_jammed"]


def test_roofs_tunnels_and_garages_are_no_jamming() -> None:
    told = Told().drive(300)
    told.hear(weak())
    told.drive(90)  # 1.8 km below a viaduct
    told.hear(weak("ok"))
    told.drive(60)
    told.hear(weak())
    told.drive(9)
    told.hear(weak("lost"))  # deaf: a tunnel
    told.drive(600, satellites=0, fix=False)
    told.hear(weak())
    told.park(8 * 3600, every=10)  # a garage
    told.drive(110)  # and 2.2 km down its exit and along a gallery, but not for two minutes
    told.hear(fact("gps:127.0.0.1:2947:fix", state="degraded"), fact("elm327:x:signal", state="degraded"))
    assert told.events == []


# towed


def test_lifted_then_driven_away_is_told_as_both_and_then_certain() -> None:
    told = Told().drive(300).park(3600)
    told.park(300, gravity=tilted(9.0))
    assert [(e.kind, e.unit, e.confirmed) for e in told.events] == [("towed", "deg", False)]
    assert told.events[0].peak == pytest.approx(9.0, abs=0.1)
    told.restart()  # in the middle: it learns anew how it stands, and does not say it again
    told.park(400, gravity=tilted(9.0))
    told.park(600, speed_mps=12.0, gnss_mps=12.0, gravity=tilted(9.0), place=lambda t: place(12.0 * t))
    assert [(e.unit, e.severity, e.confirmed) for e in told.events] == [
        ("deg", "minor", False),
        ("m", "moderate", True),
    ]
    assert told.events[1].sources == ["gnss", "imu"]
    told.drive(60).park(600).park(200, gravity=tilted(9.0))
    assert [e.unit for e in told.events] == ["deg", "m", "deg"]  # the next parking is another one


def test_moved_without_being_lifted_is_a_suspicion_for_it_may_be_a_ferry() -> None:
    told = Told().drive(300).park(900)
    told.park(
        7200, speed_mps=9.0, gnss_mps=9.0, place=lambda t: place(9.0 * t), gravity=lambda t: tilted(4 * sin(t / 2))
    )
    (event,) = told.events
    assert (event.unit, event.confirmed, event.sources) == ("m", False, ["gnss"])


@pytest.mark.parametrize(
    "what",
    [
        {"gravity": tilted(3.0)},  # a jack under one wheel
        {"gravity": lambda t: tilted(8.0 * sin(t / 3))},  # a ferry in a swell, below deck
        {"gravity": lambda t: tilted(20.0) if t % 120 < 40 else tilted(0.0)},  # a car wash rocks it
        {"gravity": tilted(90.0)},  # the box in somebody's hand
        {"place": lambda t: place(40.0 * min(t, 300) / 300), "gnss_mps": 0.2},  # the conveyor of a car wash
        {"place": lambda t: place(400.0 * sin(t / 900)), "gnss_mps": 0.8},  # a receiver that drifts in a garage
        {"place": lambda t: place(300.0 * (t % 60 == 7)), "gnss_mps": lambda t: 9.0 * (t % 60 == 7)},  # jumps
        {"place": lambda t: place(900.0, 400.0), "gnss_mps": 5.0},  # and knows that it is bad
        {"volts": 13.6, "gravity": tilted(9.0)},  # a charger, or an engine that says nothing
        {"in_use": None, "volts": None, "gnss_mps": 15.0, "place": lambda t: place(15.0 * t)},  # adapter unplugged
    ],
)
def test_jacks_ferries_washes_drift_and_dead_adapters_are_no_towing(what: dict[str, Any]) -> None:
    assert Told().drive(300).park(900).park(3600, **what).events == []


def test_a_box_that_cannot_know_the_engine_never_speaks_of_towing() -> None:
    told = Told().park(900, in_use=None, volts=12.6)
    assert told.park(3600, in_use=None, gnss_mps=15.0, place=lambda t: place(15.0 * t)).events == []


def test_driving_away_with_the_engine_is_no_towing() -> None:
    told = Told().drive(300).park(900)
    told.park(10, speed_mps=5.0, gnss_mps=5.0, place=lambda t: place(5.0 * t))  # the adapter still sleeps
    assert told.drive(900, place=lambda t: place(50 + 20.0 * t)).events == []


# the box


def test_heat_is_told_by_level_with_hysteresis() -> None:
    told = Told().drive(600, board_c=lambda t: 60 + t / 20)  # to 90
    assert [(e.kind, e.severity) for e in told.events] == [
        ("over_temperature", "minor"),
        ("over_temperature", "moderate"),
    ]
    told.drive(900, board_c=lambda t: 78 + t % 4)  # it hovers: one occurrence
    assert len(told.events) == 2
    told.drive(400, board_c=60.0).drive(100, board_c=82.0, throttled=True)
    assert len(told.events) == 3
    assert told.events[-1].unit == "°C"


def test_slowed_by_heat_counts_and_slowed_by_a_weak_supply_does_not() -> None:
    assert Told().drive(200, board_c=77.0, throttled=True).kinds() == ["over_temperature"]
    assert Told().drive(200, board_c=55.0, throttled=True).events == []
    assert Told().drive(50, board_c=82.0).drive(50, board_c=70.0).events == []  # a minute in the sun


def test_a_full_disk_is_told_once_until_there_was_room() -> None:
    told = Told()
    for share in (0.5, 0.91, 0.92, 0.89, 0.91):
        told.share = share
        told.drive(120)
    told.restart()
    told.drive(120)
    assert [(e.kind, e.severity, e.unit) for e in told.events] == [("disk_nearly_full", "minor", "%")]
    assert told.events[0].peak == 91.0
    told.share = 0.4
    told.drive(600)
    told.share = 0.99
    assert [e.severity for e in told.drive(120).events] == ["minor", "severe"]


def test_a_boot_that_drives_without_time_says_so_once() -> None:
    told = Told()
    told.time = "restored"
    told.drive(1150).park(3600)
    assert told.events == []
    told.drive(300)
    told.restart()
    told.drive(3600)
    assert [(e.kind, e.unit) for e in told.events] == [("clock_unknown", "s")]
    assert told.events[0].peak == 1200.0
    told.restart(boot=True)
    assert told.drive(2000).kinds() == ["clock_unknown", "clock_unknown"]
    told.time = "ntp"
    told.restart(boot=True)
    assert len(told.drive(2000).events) == 2


# the car


def named(vin: str, source: str = "elm327:/dev/rfcomm0:vin") -> Any:
    return fact(source, vin=vin)


def test_another_cars_vin_is_told_once_in_every_trip() -> None:
    told = Told(vin=OWN)
    told.hear(named(AMERICAN))
    assert told.drive(60).events == []  # not yet a trip
    for _ in range(2):
        told.trip_ns = told.t_ns
        told.drive(300)
        told.restart()  # the adapter is asked again, in the same trip
        told.hear(named(AMERICAN))
        told.drive(300)
        told.trip_ns = None
        told.park(60)
    assert told.kinds() == ["vin_mismatch"] * 2
    event = told.events[0]
    assert (event.severity, event.confirmed, event.sources) == ("severe", True, ["vin"])
    assert event.detail == f"{AMERICAN} ≠ {OWN}"
    told.hear(named(OWN))
    told.trip_ns = told.t_ns
    assert len(told.drive(300).events) == 2


def test_without_a_bound_car_the_first_is_remembered_and_a_move_is_told_once() -> None:
    told = Told()
    told.trip_ns = told.t_ns
    told.hear(named(OWN))
    assert told.drive(60).events == []
    told.restart(boot=True)
    told.trip_ns = told.t_ns
    told.hear(named(EUROPEAN))
    told.drive(60)
    (event,) = told.events
    assert (event.kind, event.confirmed) == ("vin_mismatch", False)  # a VIN without check digit may be misread
    told.restart(boot=True)
    told.trip_ns = told.t_ns
    told.hear(named(EUROPEAN))
    assert len(told.drive(60).events) == 1


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        (OWN, fact("elm327:/dev/rfcomm0:vin", state="degraded")),  # read, and no VIN
        (OWN, named("1M8GDM9A1KP042788")),  # wrong check digit
        (OWN, named("")),
        (OWN, fact("gps:x:vin", vin=AMERICAN)),  # not a driver that could know
        (OWN, named(OWN)),
        (EUROPEAN, named(SIBLING)),  # no check digit, two places: one of the two is misread
    ],
)
def test_misread_missing_and_equal_vins_are_no_mismatch(bound: str, said: Any) -> None:
    told = Told(vin=bound)
    told.trip_ns = told.t_ns
    told.hear(said)
    assert told.drive(60).events == []


def test_codes_are_told_when_they_come_and_when_they_go_by_control_unit() -> None:
    told = Told()
    told.hear(codes(OWN, {"7E8 stored": [], "7E8 pending": [], "7E9 stored": ["U0100"]}))
    told.drive(10)
    assert [(e.kind, e.severity, e.detail) for e in told.events] == [("dtc_set", "moderate", "U0100 (7E9)")]
    told.hear(codes(OWN, {"7E8 stored": [], "7E8 pending": ["P0301", "P0302"], "7E9 stored": ["U0100"]}))
    told.drive(10)
    assert told.events[-1].detail == "P0301 P0302 (7E8)"
    assert (told.events[-1].severity, told.events[-1].peak) == ("minor", 2.0)
    told.restart(boot=True)
    told.hear(codes(OWN, {"7E8 stored": ["P0301"], "7E8 pending": ["P0301"], "7E9 stored": ["U0100"]}))
    told.drive(10)
    assert [(e.kind, e.detail) for e in told.events[2:]] == [
        ("dtc_set", "P0301 (7E8)"),
        ("dtc_cleared", "P0302 (7E8)"),
    ]
    told.hear(codes(OWN, {"7E8 stored": [], "7E8 pending": []}))  # the other unit is silent: nothing is gone there
    told.drive(10)
    assert [e.detail for e in told.events[4:]] == ["P0301 (7E8)"]


def test_a_permanent_code_is_not_gone_when_the_stored_one_is_erased() -> None:
    told = Told()
    told.hear(codes(OWN, {"7E8 stored": ["P0420"], "7E8 pending": [], "7E8 permanent": ["P0420"]}))
    told.hear(codes(OWN, {"7E8 stored": [], "7E8 pending": [], "7E8 permanent": ["P0420"]}))
    told.drive(10)
    assert told.kinds() == ["dtc_set"]
    told.hear(codes(OWN, {"7E8 permanent": []}))
    assert told.drive(10).kinds() == ["dtc_set", "dtc_cleared"]


def test_two_drivers_on_one_car_tell_once_and_two_cars_are_kept_apart() -> None:
    told = Told()
    lists = {"7E8 stored": ["P0133"]}
    told.hear(codes(OWN, lists), codes(OWN, lists, source="obdcan:diag:dtc"))
    told.hear(codes(AMERICAN, {"7E8 stored": []}), codes(OWN, lists))
    assert told.drive(10).kinds() == ["dtc_set"]
    for vin in (AMERICAN, EUROPEAN, SIBLING, None):
        told.hear(codes(vin, lists))
    told.drive(10)
    cars = {name.split(" ")[1] for name in told.kept if name.startswith("dtc ")}
    assert len(cars) <= 3
    assert "?" in cars  # a car without a name is one too


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.tuples(st.sampled_from(["7E8", "7E9", "10"]), st.sampled_from(["stored", "pending", "permanent"])),
            st.lists(st.sampled_from(["P0133", "P0301", "C0123"]), unique=True),
        ),
        max_size=8,
    ),
    st.integers(0, 7),
)
def test_what_was_set_and_not_cleared_is_what_the_car_lists_at_last(
    readings: list[dict[tuple[str, str], list[str]]], restart: int
) -> None:
    told = Told()
    now: dict[tuple[str, str], set[str]] = {}
    for i, reading in enumerate(readings):
        if i == restart:
            told.restart(boot=True)
        told.hear(codes(OWN, {f"{unit} {name}": given for (unit, name), given in reading.items()}))
        told.drive(1)
        now |= {key: set(given) for key, given in reading.items()}
    standing: set[tuple[str, str]] = set()
    for event in told.events:
        listed, _, unit = event.detail.rstrip(")").partition(" (")
        pairs = {(unit, code) for code in listed.split()}
        standing = standing | pairs if event.kind == "dtc_set" else standing - pairs
        if event.kind == "dtc_cleared":
            assert pairs
    assert standing == {(unit, code) for (unit, _), given in now.items() for code in given}


# what they share


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 120), st.integers(0, LEVELS), st.booleans()), max_size=60), st.integers(0, 3))
def test_a_level_is_told_once_while_it_stands_and_only_after_it_was_held(
    steps: list[tuple[int, int, bool]], told: int
) -> None:
    standing = Standing(hold_s=5.0, calm_s=20.0, told=told)
    t_s, since, highest = 0, dict.fromkeys(range(1, LEVELS + 1)), told
    last_s = None
    for dt, level, quiet in steps:
        t_s += dt
        calm = quiet and level == 0
        if last_s is not None and t_s - last_s > 60:
            since = dict.fromkeys(since)
        last_s = t_s
        for i in since:
            since[i] = (t_s if since[i] is None else since[i]) if level >= i else None  # type: ignore[assignment]
        reached = standing.step(t_s * S, level, calm)
        if standing.told == 0:
            highest = 0
        if reached:
            begun = since[reached]
            assert begun is not None
            assert t_s - begun >= 5
            assert reached > highest
            assert standing.began_ns == begun * S
            highest = reached
        assert standing.told == highest


def test_levels_may_fall_or_rise() -> None:
    assert [level_of(v, (12.2, 12.0, 11.8)) for v in (12.3, 12.2, 12.0, 11.0)] == [0, 1, 2, 3]
    assert [level_of(v, (80.0, 85.0, 96.0)) for v in (79.0, 80.0, 90.0, 99.0)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: VehicleSettings("1M8GDM9A1KP042788"), "check digit"),
        (lambda: SupplySettings(minor_v=11.0), "minor_v"),
        (lambda: SupplySettings(hold_s=0.0), "hold_s"),
        (lambda: SkySettings(lost_m=0.0), "lost_m"),
        (lambda: TowSettings(tilt_deg=0.5), "tilt_deg"),
        (lambda: TowSettings(settle_s=0.0), "settle_s"),
        (lambda: BoxSettings(release_c=90.0), "release_c"),
        (lambda: BoxSettings(minor_share=0.99), "minor_share"),
        (lambda: BoxSettings(clock_s=0.0), "clock_s"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_their_name(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_limits_are_settings() -> None:
    quick = GuardSettings(supply=SupplySettings(hold_s=10.0), box=BoxSettings(clock_s=60.0))
    told = Told(quick)
    told.time = "none"
    assert told.drive(70).park(30, volts=12.1).kinds() == ["clock_unknown", "low_battery"]
