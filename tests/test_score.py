"""Scores: the named vectors of the domain, what weighs, what is left out, and that every point is accounted for."""

import math
from dataclasses import fields

import msgspec
import pytest
from msgspec.structs import replace

from agent.records import Event, Trip
from receiver.scoring.driven import CurveFacts, DrivenEvent, DrivenTrip, EventFacts, QualityFacts, TripFacts
from receiver.scoring.model import Model, models
from receiver.scoring.result import ScoreResult
from receiver.scoring.verdict import allot, judge, shown
from tests.pages import S
from tests.scored import TESLA, V1, V2, adds_up, curve, driven, facts, happened, line, scored, speeding

EVERY = [V1, V2, TESLA]


def by_id(model: Model) -> str:
    return model.id


# the named vectors


@pytest.mark.parametrize("model", EVERY, ids=by_id)
def test_T_SCORE_1_an_empty_set_of_trips_has_no_score_and_moves_no_price(model: Model) -> None:
    # T-SCORE-1
    result = scored([], of=model)
    assert result.score is None
    assert (result.relativity, result.relativity_without_mileage) == (1.0, 1.0)
    assert (result.credibility, result.km, result.lost) == (0.0, 0.0, 0)
    assert result.advice == []


@pytest.mark.parametrize("model", [V1, V2], ids=by_id)
def test_T_SCORE_2_ten_severe_brakings_in_1000_km_raise_r_by_exp_0_020(model: Model) -> None:
    # T-SCORE-2
    trips = [driven(n, facts(km=100.0, seconds=3600.0)) for n in range(10)]
    before = scored(trips, of=model)
    after = scored(trips, [happened(n + 1, trip) for n, trip in enumerate(trips)], of=model)
    assert (line(before, "severe_braking").value, line(after, "severe_braking").value) == (0.0, 1.0)
    assert after.relativity / before.relativity == pytest.approx(1.0202, abs=5e-5)
    assert after.relativity / before.relativity == pytest.approx(math.exp(0.020), rel=1e-13)


@pytest.mark.parametrize("model", EVERY, ids=by_id)
def test_T_SCORE_3_doubling_everything_leaves_the_features_unchanged(model: Model) -> None:
    # T-SCORE-3
    drive = facts(km=12.0, night_s=100.0, smoothness_mps2=0.8)
    forces = curve([-400, -150, None, 30], [500, 300, 10, None])
    trips = [driven(n, drive, curves=[forces]) for n in range(6)]
    events = [happened(n + 1, trips[n]) for n in range(3)] + [speeding(9, trips[0], 60.0, 1.35)]
    again = [driven(n + 6, drive, trips[n].start_utc_ns, curves=[forces]) for n in range(6)]
    repeated = [happened(n + 11, again[n]) for n in range(3)] + [speeding(19, again[0], 60.0, 1.35)]
    once, twice = scored(trips, events, model), scored(trips + again, events + repeated, model)
    told = [{one.term: one.value for one in r.lines if one.term != "mileage"} for r in (once, twice)]
    assert told[0].keys() == told[1].keys()
    assert any(told[0].values())
    for term, value in told[0].items():
        assert told[1][term] == (None if value is None else pytest.approx(value, rel=1e-12)), term


@pytest.mark.parametrize("model", EVERY, ids=by_id)
def test_T_SCORE_4_unconfirmed_events_change_nothing(model: Model) -> None:
    # T-SCORE-4
    trips = [driven(n, facts(), curves=[curve([-350, -150], [0, 0])]) for n in range(5)]
    kinds = ("harsh_braking", "harsh_acceleration", "harsh_cornering", "speeding", "fatigue")
    events = [happened(n + 1, trips[n], kind, confirmed=False) for n, kind in enumerate(kinds)]
    plain, told = scored(trips, of=model), scored(trips, events, model)
    assert replace(told, ignored=[]) == plain
    assert {e.reason for e in told.ignored} == {"unconfirmed"}
    assert len(told.ignored) == 5


@pytest.mark.parametrize("model", EVERY, ids=by_id)
def test_T_SCORE_5_computing_again_gives_the_same_bytes_in_any_order(model: Model) -> None:
    # T-SCORE-5
    trips = [driven(n, facts(km=3.3 + n / 7, night_s=10.0 * n), curves=[curve([-350], [300])]) for n in range(9)]
    events = [happened(n + 1, trips[n % 9], severity="moderate" if n % 2 else "severe") for n in range(20)]
    first = msgspec.json.encode(scored(trips, events, model))
    assert msgspec.json.encode(scored(trips, events, model)) == first
    assert msgspec.json.encode(scored(trips[::-1], events[::-1], model)) == first
    assert msgspec.json.decode(first, type=ScoreResult) == scored(trips, events, model)


@pytest.mark.parametrize(
    ("km", "z"), [(100, 0.048), (500, 0.200), (1000, 0.333), (3000, 0.600), (10_000, 0.833)], ids=str
)
def test_T_SCORE_6_credibility_of_kilometres(km: float, z: float) -> None:
    # T-SCORE-6
    assert V1.credibility_km == 2000.0
    trips = [driven(n, facts(km=km / 100, seconds=3600.0)) for n in range(100)]
    assert scored(trips).credibility == pytest.approx(z, abs=5e-4)


@pytest.mark.parametrize(
    ("r", "score"), [(0.70, 100), (1.00, 50), (1.30, 0), (0.5, 100), (2.0, 0), (0.85, 75)], ids=str
)
def test_the_map_of_E3_5_is_linear_and_bounded(r: float, score: int) -> None:
    assert shown(V1.points(r)) == score


@pytest.mark.parametrize(
    ("fcw", "hb", "at", "uf", "fad", "pcf", "score"),
    [
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.6829, 100.0),
        (0.0, 1.4, 0.0, 0.0, 0.0, None, 97.19),
        (10.0, 1.0, 2.0, 10.0, 0.0, None, 94.26),
    ],
)
def test_tesla_published_vectors(
    fcw: float, hb: float, at: float, uf: float, fad: float, pcf: float | None, score: float
) -> None:
    verdict = judge(TESLA, [fcw, hb, at, uf, fad], 100.0)
    assert verdict.points == pytest.approx(score, abs=5e-3)
    published = 0.682854 * 1.014495**fcw * 1.127294**hb * 1.019630**at * 1.001444**uf * 1.317958**fad
    assert verdict.relativity == pytest.approx(published, rel=1e-9)
    assert verdict.points == pytest.approx(min(100.0, 115.382324 - 22.526504 * published), abs=1e-6)
    if pcf is not None:
        assert verdict.relativity == pytest.approx(pcf, abs=5e-5)


def test_expert_formula_is_the_published_one_with_every_term() -> None:
    values = [1.5, 3.0, 2.0, 1.0, 4.0, 0.5, 12.0, 18_000.0]
    b3, b2, a3, c3, s10, s30, night, km_year = values
    r = math.exp(
        0.020 * b3 + 0.008 * b2 + 0.012 * a3 + 0.015 * c3 + 0.010 * s10 + 0.020 * s30 + 0.010 * (night - 5)
        + 0.15 * math.log(km_year / 12000)
    )  # fmt: skip
    assert judge(V1, values, 5000.0).relativity == pytest.approx(r, rel=1e-14)


# what a score may know


def test_models_see_neither_person_nor_place() -> None:
    seen = {name for kind in (TripFacts, EventFacts, CurveFacts, QualityFacts) for name in kind.__struct_fields__}
    assert seen == {
        "start_ns", "end_ns", "distance_m", "moving_s", "night_s", "hour_of_day_s", "speed_histogram_s",
        "smoothness_mps2", "quality", "gap_s", "speed_share", "mount_confidence", "kind", "severity", "confirmed",
        "t_ns", "duration_ns", "peak", "sources", "limit_mps", "step_ms", "longitudinal_cmps2", "lateral_cmps2",
    }  # fmt: skip
    assert {f.name for f in fields(DrivenTrip)} | {f.name for f in fields(DrivenEvent)} == {
        "id", "boot", "start_ns", "start_utc_ns", "time", "facts", "curves", "events", "contested", "trip", "kind",
        "severity",
    }  # fmt: skip
    known = {*Trip.__struct_fields__, *Event.__struct_fields__}
    places = {name for name in known if "latitude" in name or "longitude" in name}
    assert places
    assert not places & seen


def test_model_files_name_neither_person_nor_place_as_an_input() -> None:
    assert models() == ["relativity/1", "relativity/2", "tesla/1"]
    inputs = {term.measure for model in EVERY for term in model.terms}
    assert inputs == {
        "events", "speeding", "night", "peak", "fast", "roughness", "mileage", "hard_braking", "hard_turning",
        "not_measured",
    }  # fmt: skip
    for model in EVERY:
        assert len(model.digest) == 64
        assert all(term.source for term in model.terms)


def test_a_result_tells_no_place() -> None:
    trips = [driven(0, facts())]
    text = msgspec.json.encode(scored(trips, [happened(1, trips[0])], V2)).decode()
    assert "latitude" not in text
    assert "longitude" not in text


# what weighs


def test_a_disputed_event_weighs_nothing_until_decided() -> None:
    trips = [driven(0, facts()), driven(1, facts(), curves=[])]
    event = happened(1, trips[0])
    free, against = scored(trips), scored(trips, [event])
    contested = scored(trips, [event], disputed=(event.id,))
    assert against.relativity > free.relativity
    assert replace(contested, ignored=[]) == free
    assert [(e.event, e.reason) for e in contested.ignored] == [(event.id, "disputed")]


def test_the_seconds_of_a_disputed_event_are_not_in_the_tesla_score() -> None:
    forces = curve([-150] * 60 + [-400] * 3 + [-150] * 37, [0] * 100)
    trip = driven(0, facts(), curves=[forces])
    event = happened(1, trip, t_ns=160 * S, duration_ns=2 * S)
    assert line(scored([trip], [event], TESLA), "hard_braking").value == pytest.approx(3.0)
    assert line(scored([trip], [event], TESLA, (event.id,)), "hard_braking").value == 0.0


def test_events_that_are_no_driving_of_this_model_are_told() -> None:
    trip = driven(0, facts())
    result = scored([trip], [happened(1, trip, "idling"), happened(2, trip, severity="minor")], V2)
    assert [e.reason for e in result.ignored] == ["not_in_model"] * 2
    assert result.relativity == scored([trip], of=V2).relativity


def test_an_event_sent_twice_counts_once() -> None:
    trip = driven(0, facts())
    events = [happened(1, trip, t_ns=300 * S), happened(2, trip, t_ns=300 * S)]
    result = scored([trip], events)
    assert line(result, "severe_braking").value == pytest.approx(10.0)
    assert [(e.event.seq, e.reason) for e in result.ignored] == [(2, "duplicate")]


@pytest.mark.parametrize(
    ("sources", "mount", "weight"),
    [
        (["wheel", "imu"], 0.9, 1.0),
        (["wheel", "imu"], 0.6, 0.75),
        (["wheel", "imu"], 0.0, 0.5),
        (["wheel", "gnss"], 0.0, 1.0),
        (["wheel", "imu", "vehicle"], 0.0, 1.0),
    ],
)
def test_an_event_that_an_uncertain_mount_half_confirms_weighs_less(
    sources: list[str], mount: float, weight: float
) -> None:
    told = facts(km=100.0, seconds=3600.0)
    trip = driven(0, replace(told, quality=replace(told.quality, mount_confidence=mount)))
    event = happened(1, trip, sources=sources)
    assert line(scored([trip], [event], V2), "severe_braking").value == pytest.approx(weight)
    assert line(scored([trip], [event], V1), "severe_braking").value == pytest.approx(1.0)


def test_caps_bound_what_one_bad_box_can_do() -> None:
    trip = driven(0, facts(km=100.0, seconds=3600.0))
    many, more = ([happened(n + 1, trip) for n in range(count)] for count in (25, 60))
    assert line(scored([trip], many, V2), "severe_braking").capped
    assert scored([trip], many, V2).relativity == scored([trip], more, V2).relativity
    adds_up(scored([trip], more, V2))


def test_speeding_counts_the_distance_at_the_limit_by_how_far_above() -> None:
    trip = driven(0, facts(km=10.0))
    result = scored([trip], [speeding(1, trip, 50.0, 1.15), speeding(2, trip, 25.0, 1.4), speeding(3, trip, 9.0, 1.05)])
    assert line(result, "over_limit").value == pytest.approx(15.0)  # 75 s at 20 m/s of 10 km
    assert line(result, "far_over_limit").value == pytest.approx(5.0)
    flood = [speeding(n, trip, 5000.0, 1.5) for n in range(1, 4)]
    assert line(scored([trip], flood), "over_limit").value == pytest.approx(100.0)


def test_night_rush_hour_and_high_speed_are_shares_of_the_time() -> None:
    bands = [0.0] * 12 + [90.0] + [0.0] * 8
    bands[5] = 810.0
    hours = [0.0] * 24
    hours[0], hours[4] = 225.0, 675.0  # 08:00 and 12:00 in Shanghai
    told = facts(night_s=90.0, hour_of_day_s=hours, speed_histogram_s=bands)
    result = scored([driven(0, told)], of=V2)
    values = {name: line(result, name).value for name in ("night", "peak", "fast", "roughness")}
    assert values == pytest.approx({"night": 10.0, "peak": 25.0, "fast": 10.0, "roughness": 0.6})
    assert result.exposure.night_share == pytest.approx(0.1)
    assert result.exposure.peak_share == pytest.approx(0.25)
    assert result.exposure.speed_bands_h[12] == pytest.approx(90 / 3600)


def test_kilometres_count_in_the_price_but_not_in_the_score_of_version_2() -> None:
    trips = [driven(n, facts(km=60.0, seconds=3600.0)) for n in range(40)]
    often, seldom = scored(trips, of=V2, days=40.0), scored(trips, of=V2, days=160.0)
    assert often.period is not None
    assert often.period.km_year == pytest.approx(40 * 60 / 40 * 365.25)
    assert often.score == seldom.score
    assert often.relativity_without_mileage == seldom.relativity_without_mileage
    ratio = often.relativity / seldom.relativity  # seldom is 5,479 km a year, below what the data reach
    assert ratio == pytest.approx((21_915 / 8_000) ** 0.51, rel=1e-3)
    m = often.mileage
    assert m is not None
    share = min(max(m.km_year, m.low_km), m.high_km) / m.reference_km
    assert often.relativity == pytest.approx(often.relativity_without_mileage * share**m.exponent, rel=1e-12)
    unknown = scored(trips, of=V2, days=20.0)
    assert unknown.mileage is None
    assert line(unknown, "mileage").value is None
    assert unknown.relativity == unknown.relativity_without_mileage


# what is left out


def test_every_trip_that_is_not_scored_is_listed_with_its_reason() -> None:
    good = facts()
    poor = replace(good.quality, speed_share={"gnss": 0.5})
    gaps = replace(good.quality, gap_s=400.0)
    trips = [
        driven(0, good),
        driven(1, good, time="restored"),
        driven(2, facts(km=0.3)),
        driven(3, replace(good, quality=poor)),
        driven(4, replace(good, quality=gaps)),
        driven(5, replace(good, distance_m=1e300)),
        driven(6, replace(good, moving_s=-5.0)),
        driven(7, None),
        driven(8, good),
    ]
    trips[8].start_utc_ns = None
    twice = driven(9, good, boot="boot-0")
    result = scored([*trips, twice], [happened(1, trips[3]), happened(3, trips[8])])
    assert {out.trip.seq: out.reason for out in result.left_out} == {
        1: "duplicate", 2: "time_unknown", 3: "too_short", 4: "quality_low", 5: "quality_low", 6: "implausible",
        7: "implausible", 8: "altered", 9: "time_unknown",
    }  # fmt: skip
    assert result.exposure.trips == 1
    assert result.km == pytest.approx(10.0)
    assert {(e.event.seq, e.reason) for e in result.ignored} == {(1, "trip_left_out"), (3, "trip_left_out")}
    assert result.exposure.quality is not None
    assert result.exposure.quality < 0.5


def test_an_event_without_its_trip_waits() -> None:
    trip, other = driven(0, facts()), driven(1, facts())
    result = scored([trip], [happened(1, other)])
    assert [(e.event.seq, e.reason) for e in result.ignored] == [(1, "no_trip")]


def test_tesla_leaves_out_trips_without_a_curve_and_judges_each_day_alone() -> None:
    calm, wild = curve([-150] * 50, [250] * 50), curve([-400] * 2 + [-150] * 48, [250] * 50)
    trips = [driven(0, facts(km=30.0), curves=[calm]), driven(1, facts(km=10.0), curves=[wild]), driven(2, facts())]
    result = scored(trips, of=TESLA)
    assert [out.reason for out in result.left_out] == ["not_measured"]
    day = 115.382324 - 22.526504 * 0.682854 * 1.127294**4.0
    assert result.score == shown((30 * 100 + 10 * day) / 40)
    assert not result.for_price
    assert (result.relativity, result.credibility) == (1.0, 0.0)
    adds_up(result)
    assert {share.trip.seq for share in line(result, "hard_braking").shares} == {2}


# the account of points


def test_points_lost_name_the_events_and_trips_behind_them() -> None:
    trips = [driven(0, facts(km=1000.0, seconds=40_000.0)), driven(1, facts(km=10.0, night_s=900.0))]
    events = [happened(1, trips[0]), happened(2, trips[0]), happened(3, trips[1], severity="moderate")]
    result = scored(trips, events, V2)
    adds_up(result)
    braking = line(result, "severe_braking").shares
    assert {(s.trip.seq, s.event.seq if s.event else None) for s in braking} == {(1, 1), (1, 2)}
    assert abs(braking[0].lost - braking[1].lost) <= 1
    assert {s.event.seq for s in line(result, "braking").shares if s.event} == {1, 2, 3}
    assert {(s.trip.seq, s.event) for s in line(result, "night").shares} == {(2, None)}


def test_a_perfect_car_with_many_kilometres_has_100_in_every_model() -> None:
    told = facts(km=500.0, seconds=20_000.0, smoothness_mps2=0.2)
    for model in EVERY:
        trips = [driven(n, told, curves=[curve([-150], [250])]) for n in range(300)]
        result = scored(trips, of=replace(model, credibility_km=0.0), days=60_000.0)
        assert result.score == 100, model.id
        assert result.lost == 0


def test_what_would_raise_it_is_true() -> None:
    trips = [driven(n, facts(km=100.0, seconds=3600.0)) for n in range(40)]
    events = [happened(n + 1, trips[n]) for n in range(40)] + [happened(n + 101, trips[n]) for n in range(40)]
    result = scored(trips, events, V2)
    best = next(a for a in result.advice if a.term == "severe_braking")
    assert [a.gain for a in result.advice] == sorted((a.gain for a in result.advice), reverse=True)
    assert (best.now, best.then) == (pytest.approx(2.0), pytest.approx(1.0))
    assert scored(trips, events[:40], V2).score == best.score


def test_more_kilometres_are_advised_only_where_they_help() -> None:
    good = [driven(n, facts(km=20.0)) for n in range(10)]
    bad = [happened(n + 1, good[n % 10]) for n in range(60)]
    assert "evidence" in {a.term for a in scored(good).advice}
    assert "evidence" not in {a.term for a in scored(good, bad).advice}


def test_shares_add_up_whatever_the_weights() -> None:
    assert allot(100, [1.0, 1.0, 1.0]) == [34, 33, 33]
    assert allot(0, [1.0, 2.0]) == [0, 0]
    assert allot(7, [0.0, 5.0, 0.0]) == [0, 7, 0]
    assert sum(allot(10_000, [1e-300, 1e300, 3.0])) == 10_000
    assert sum(allot(9_999, [0.1] * 1234)) == 9_999
