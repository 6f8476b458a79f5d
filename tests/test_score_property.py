"""Scores of any driving: bounded, accounted for, fair in the order of things, never better for driving worse."""

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.records import SEVERITIES
from receiver.scoring.driven import CurveFacts, DrivenEvent, DrivenTrip, EventFacts, TripFacts, _decode
from receiver.scoring.model import Model
from receiver.scoring.result import ScoreResult
from receiver.scoring.verdict import allot
from tests.pages import S
from tests.scored import TESLA, V1, V2, adds_up, curve, driven, facts, happened, scored

KINDS = ("harsh_braking", "harsh_acceleration", "harsh_cornering", "speeding", "fatigue", "idling", "over_rev")
PRICED = (V1, V2)
EVERY = (V1, V2, TESLA)
FEW = settings(max_examples=60, deadline=None)

shares = st.floats(0.0, 1.0)


@st.composite
def drives(draw: st.DrawFn) -> tuple[list[DrivenTrip], list[DrivenEvent]]:
    """Return trips of any sort and events in them."""
    trips = [_trip(draw, n) for n in range(draw(st.integers(1, 8)))]
    events = [_event(draw, n + 1, trips) for n in range(draw(st.integers(0, 12)))]
    return trips, events


def _trip(draw: st.DrawFn, n: int) -> DrivenTrip:
    seconds = draw(st.floats(60.0, 7200.0))
    hours, bands = [0.0] * 24, [0.0] * 21
    hours[draw(st.integers(0, 23))] = seconds
    bands[draw(st.integers(0, 20))] = seconds
    told = facts(
        km=seconds * draw(st.floats(0.01, 0.05)),
        seconds=seconds,
        night_s=seconds * draw(shares),
        hour_of_day_s=hours,
        speed_histogram_s=bands,
        smoothness_mps2=draw(st.floats(0.0, 3.0)),
    )
    quality = replace(told.quality, mount_confidence=draw(shares))
    forces = [draw(st.integers(-900, 900)) for _ in range(draw(st.integers(1, 10)))]
    return driven(n, replace(told, quality=quality), curves=[curve([*forces], [*forces])])


def _event(draw: st.DrawFn, seq: int, trips: list[DrivenTrip], **fixed: Any) -> DrivenEvent:
    told = {
        "kind": draw(st.sampled_from(KINDS)),
        "severity": draw(st.sampled_from(SEVERITIES)),
        "confirmed": draw(st.booleans()),
        "duration_ns": draw(st.integers(0, 600)) * S,
        "peak": draw(st.floats(20.0, 60.0)),
        "limit_mps": 20.0,
        "sources": draw(st.sampled_from([["wheel", "imu"], ["gnss", "wheel"], ["imu", "wheel", "vehicle"]])),
        **fixed,
    }
    return happened(seq, draw(st.sampled_from(trips)), **told)


@FEW
@given(drives(), st.sampled_from(EVERY))
def test_every_point_is_bounded_and_accounted_for(drive: Any, model: Model) -> None:
    result = scored(*drive, of=model)
    if result.score is None:
        assert result.exposure.trips == 0
        return
    assert 0 <= result.score <= 100
    assert 0.0 <= result.credibility < 1.0
    assert result.relativity > 0.0
    adds_up(result)
    assert all(advice.gain > 0 and advice.score >= result.score for advice in result.advice)


@FEW
@given(drives(), st.sampled_from(EVERY), st.randoms(use_true_random=False))
def test_the_order_does_not_matter(drive: Any, model: Model, random: Any) -> None:
    trips, events = drive
    first = msgspec.json.encode(scored(trips, events, model))
    random.shuffle(trips)
    random.shuffle(events)
    assert msgspec.json.encode(scored(trips, events, model)) == first


@FEW
@given(drives(), st.sampled_from(PRICED), st.data())
def test_one_more_confirmed_event_never_raises_the_score(drive: Any, model: Model, data: Any) -> None:
    trips, events = drive
    before = scored(trips, events, model)
    after = scored(trips, [*events, _event(data.draw, 99, trips, confirmed=True)], model)
    assert _worse_or_same(before, after)


@FEW
@given(drives(), st.sampled_from(PRICED), st.data())
def test_a_more_severe_event_never_costs_less(drive: Any, model: Model, data: Any) -> None:
    trips, events = drive
    milder = _event(
        data.draw, 99, trips, kind=data.draw(st.sampled_from(KINDS[:3])), confirmed=True, severity="moderate"
    )
    assert milder.facts is not None
    harder_facts = replace(milder.facts, severity="severe")
    harder = DrivenEvent(milder.id, milder.trip, milder.kind, "severe", harder_facts)
    assert _worse_or_same(scored(trips, [*events, milder], model), scored(trips, [*events, harder], model))


def _worse_or_same(before: ScoreResult, after: ScoreResult) -> bool:
    if before.score is None or after.score is None:
        return before.score == after.score
    return after.score <= before.score and after.relativity >= before.relativity * (1 - 1e-12)


@FEW
@given(drives(), st.sampled_from(EVERY))
def test_what_nobody_confirmed_weighs_nothing(drive: Any, model: Model) -> None:
    trips, events = drive
    kept = [event for event in events if event.facts and event.facts.confirmed]
    assert replace(scored(trips, events, model), ignored=[]) == replace(scored(trips, kept, model), ignored=[])


@FEW
@given(drives(), st.sampled_from(EVERY))
def test_what_is_disputed_weighs_nothing(drive: Any, model: Model) -> None:
    trips, events = drive
    contested = tuple(event.id for event in events)
    told = scored(trips, events, model, contested)
    if model is not TESLA:  # there the forces of those seconds are left out as well
        assert replace(told, ignored=[]) == replace(scored(trips, of=model), ignored=[])
    assert {e.reason for e in told.ignored} <= {"disputed", "unconfirmed", "trip_left_out"}


@FEW
@given(drives(), st.sampled_from(PRICED), st.floats(5.0, 500.0))
def test_quiet_kilometres_never_raise_the_risk(drive: Any, model: Model, km: float) -> None:
    trips, events = drive
    before = scored(trips, events, model)
    calm = driven(50, facts(km=km, seconds=20_000.0, smoothness_mps2=0.0))
    after = scored([*trips, calm], events, model)
    assert after.relativity_without_mileage <= before.relativity_without_mileage * (1 + 1e-12) or before.score is None
    if before.score is not None and after.score is not None and before.relativity_without_mileage <= 1.0:
        assert after.score >= before.score or model is V1  # in V1 a year's kilometres are in the score as well


numbers = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**70), 2**70), st.just(10**400))
lists = st.lists(st.one_of(st.none(), numbers), max_size=25)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(EVERY))
def test_signed_nonsense_is_left_out_and_never_raises(data: Any, model: Model) -> None:
    trips = [driven(n, facts(), curves=[curve([-350], [450])]) for n in range(2)]
    events = [happened(n + 1, trips[0], kind) for n, kind in enumerate(KINDS)]
    for one in (*trips, *events):
        told = msgspec.to_builtins(one.facts)
        for name in data.draw(st.lists(st.sampled_from(sorted(told)), max_size=3)):
            told[name] = data.draw(lists if isinstance(told[name], list) else numbers)
        kind = TripFacts if isinstance(one, DrivenTrip) else EventFacts
        object.__setattr__(one, "facts", _decode(msgspec.json.Decoder(kind), json.dumps(told).encode()))
    forces = {"start_ns": 0, "step_ms": data.draw(numbers)}
    forces |= {"longitudinal_cmps2": data.draw(lists), "lateral_cmps2": data.draw(lists)}
    found = _decode(msgspec.json.Decoder(CurveFacts), json.dumps(forces).encode())
    trips[1].curves = [found] if found else []
    result = scored(trips, events, model)
    assert msgspec.json.decode(msgspec.json.encode(result), type=ScoreResult) == result
    if result.score is not None:
        adds_up(result)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.floats(0.0, 1e6), min_size=1, max_size=50))
def test_shares_add_up_and_follow_the_weights(total: int, weights: list[float]) -> None:
    parts = allot(total, weights)
    whole = sum(weights)
    assert sum(parts) == (total if whole > 0.0 else 0)
    for part, weight in zip(parts, weights, strict=True):
        assert part == 0 if weight == 0.0 else abs(part - total * weight / whole) <= 1.0 + 1e-6
