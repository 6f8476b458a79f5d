"""From trips to a price: the real score inside the real tables."""

from msgspec.structs import replace

from receiver.pricing.perkm import at_distance
from receiver.pricing.scored import telematics_of
from tests.pricing import D, book, factor, priced, request_of
from tests.scored import TESLA, V2, driven, facts, happened, scored

TRIPS = [driven(n, facts(km=25.0, seconds=1800.0)) for n in range(60)]


def test_T_PRICE_2_each_severe_braking_in_the_trips_never_lowers_the_premium() -> None:
    # T-PRICE-2
    totals = []
    for events in range(0, 40, 4):
        result = scored(TRIPS, [happened(n + 1, TRIPS[n]) for n in range(events)], V2)
        told = telematics_of(result, V2, "consent-1")
        assert told is not None
        totals.append(priced(request_of(telematics=told)).total_yuan)
    assert totals == sorted(totals)
    assert totals[0] < totals[-1]


def test_a_price_says_which_model_and_file_scored() -> None:
    result = scored(TRIPS, of=V2)
    told = telematics_of(result, V2, "consent-1")
    assert told is not None
    quoted = priced(request_of(telematics=told))
    assert quoted.score_version == f"{V2.id} {V2.digest[:12]}"
    assert quoted.consent == "consent-1"
    assert told.km == D("1500.0")
    assert V2.id in factor(quoted, "pricing.telematics").version


def test_without_a_trip_the_price_is_that_of_the_tables() -> None:
    told = telematics_of(scored([], of=V2), V2, "consent-1")
    assert told is not None
    quoted = priced(request_of(telematics=told))
    assert (told.relativity, told.km) == (1, 0)
    assert quoted.total_yuan == quoted.without_telematics_yuan


def test_a_model_that_is_not_for_prices_enters_none() -> None:
    assert telematics_of(scored(TRIPS, of=TESLA), TESLA, "consent-1") is None


def test_a_price_by_the_kilometre_takes_the_score_without_its_mileage() -> None:
    result = scored(TRIPS, of=V2)
    told = telematics_of(result, V2, "consent-1")
    assert told is not None
    assert told.mileage is not None
    assert told.mileage.exponent == D("0.51")
    at_average = at_distance(told, 12_000).relativity
    assert abs(at_average - D(repr(result.relativity_without_mileage))) < D("0.00005")  # whole km a year


def test_score_and_price_believe_kilometres_alike() -> None:
    for name in ("2015", "2020"):
        rule = book().regimes[name].regime.telematics
        assert rule is not None
        assert rule.k_km == V2.credibility_km
    result = scored(TRIPS, of=V2)
    told = telematics_of(result, V2, "consent-1")
    assert told is not None
    shown = factor(priced(request_of(telematics=replace(told, relativity=D("1.1")))), "pricing.telematics")
    assert abs(float(shown.raw) - (1 + result.credibility * 0.1)) < 1e-6
