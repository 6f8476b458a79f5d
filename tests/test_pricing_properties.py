"""What holds for every price: sums to the fen, bounds, more claims or worse driving never cheaper."""

import decimal
import json
from datetime import date
from decimal import Decimal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from receiver.pricing import Quote, QuoteError, QuoteRequest, parse_request, quote, settle
from receiver.pricing.money import to_fen
from receiver.pricing.request import CompulsoryHistory, CoverChoice, History, ScoredMileage, Telematics, Vehicle
from tests.pricing import D, book, factor, priced, request_of

FEN = D("0.01")
REGIONS = sorted(book().names.regions)


def thousands(*values: int) -> st.SearchStrategy[Decimal]:
    return st.sampled_from([D(v * 1000) for v in values])


@st.composite
def vehicles(draw: st.DrawFn) -> Vehicle:
    model = draw(st.sampled_from(["SAMPLE-SEDAN", "SAMPLE-SUV", "SAMPLE-VAN", "SAMPLE-BEV"]))
    return Vehicle(
        use_class=draw(st.sampled_from(["family", "company", "government"])),
        seats=draw(st.integers(2, 9)),
        energy="nev" if model == "SAMPLE-BEV" else "fuel",
        first_registration=draw(st.dates(date(2008, 1, 1), date(2020, 9, 18))),
        new_price_yuan=draw(st.decimals(30_000, 900_000, places=2)),
        model=model,
    )


@st.composite
def covers(draw: st.DrawFn) -> list[CoverChoice]:
    limit = draw(thousands(100, 150, 200, 300, 500, 1000, 2000, 10_000))
    driver, passenger = draw(st.decimals(10_000, 300_000, places=2)), draw(thousands(10, 20, 300))
    all_covers = [
        CoverChoice(cover="VD"),
        CoverChoice(cover="TPL", limit_yuan=limit),
        CoverChoice(cover="OCC", driver_limit_yuan=driver, passenger_limit_yuan=passenger),
        CoverChoice(cover="SCRATCH", limit_yuan=draw(thousands(2, 5, 10, 20))),
        CoverChoice(cover="EQUIP", limit_yuan=draw(st.decimals(1, 1_000_000, places=2))),
    ]
    chosen = draw(st.sets(st.sampled_from(range(1, 5))))
    return [c for n, c in enumerate(all_covers) if n == 0 or n in chosen]


@st.composite
def scores(draw: st.DrawFn) -> Telematics:
    exponent = draw(st.sampled_from([None, D("0.15"), D("0.51")]))
    mileage = None
    if exponent is not None:
        driven = draw(st.integers(0, 200_000))
        mileage = ScoredMileage(km_per_year=driven, exponent=exponent, low_km=8000, high_km=30_000)
    return Telematics(
        relativity=draw(st.decimals("0.05", "20", places=4)),
        km=draw(st.decimals(0, 100_000, places=1)),
        score_version="s",
        consent="c",
        mileage=mileage,
    )


@st.composite
def requests(draw: st.DrawFn) -> QuoteRequest:
    region = draw(st.sampled_from(REGIONS))
    traffic = {"shanghai": "0.95", "jiangsu": "1.5", "beijing": "1.45", "shenzhen": "1.1"}.get(region)
    return QuoteRequest(
        region=region,
        start=draw(st.dates(date(2020, 9, 19), date(2027, 1, 1))),
        vehicle=draw(vehicles()),
        covers=draw(covers()),
        history=History(
            standing="renewal",
            insured_years=draw(st.integers(0, 12)),
            claims_three_years=draw(st.integers(0, 12)),
            lapse_months=draw(st.sampled_from([0, 2, 3, 6, 7])),
            previous_level=draw(st.integers(-4, 5)),
        ),
        compulsory=CompulsoryHistory(standing="renewal", clean_years=draw(st.integers(0, 5))),
        traffic_violation=D(traffic) if traffic else None,
        own={"pricing": draw(st.decimals("0.3", "2", places=3))},
        telematics=draw(st.none() | scores()),
        km_per_year=draw(st.none() | st.integers(1, 100_000)),
    )


@settings(max_examples=150, deadline=None)
@given(requests())
def test_lines_add_up_to_the_fen(request: QuoteRequest) -> None:
    told = priced(request)
    amounts = [line.premium_yuan for line in told.lines]
    assert all(a == a.quantize(FEN) and a >= 0 for a in amounts)
    assert told.commercial_yuan == sum(amounts)
    assert told.total_yuan == told.commercial_yuan + told.compulsory_yuan
    plain = sum(line.without_telematics_yuan for line in told.lines)
    assert told.without_telematics_yuan == plain + told.compulsory_yuan
    assert told.telematics_effect_yuan == told.total_yuan - told.without_telematics_yuan
    for line in told.lines:
        # a person with paper: basis × printed factors / (1 - expenses), half up
        exact = line.basis_yuan * line.multiplier / (1 - line.expense_percent / 100)
        assert line.premium_yuan == to_fen(exact)
        assert told.multiplier is not None
        assert line.multiplier == told.multiplier.value


@settings(max_examples=100, deadline=None)
@given(requests())
def test_every_factor_stays_inside_its_bounds_and_says_when_a_bound_bit(request: QuoteRequest) -> None:
    told = priced(request)
    for line in [p for f in told.factors for p in (f, *f.parts)]:
        assert line.low is None or line.low <= line.value
        assert line.high is None or line.value <= line.high
        assert line.bounded == (line.raw != line.value)
    assert D("0.25") * D("0.9") <= told.multiplier.value <= D(3) * D("1.5")  # type: ignore[union-attr]


@settings(max_examples=100, deadline=None)
@given(requests(), scores())
def test_T_QUOTE_2_a_score_moves_the_own_coefficient_and_nothing_else(request: QuoteRequest, told: Telematics) -> None:
    # T-QUOTE-2
    without = priced(replace(request, telematics=None))
    scored = priced(replace(request, telematics=told))
    assert [a.name for a, b in zip(without.factors, scored.factors, strict=True) if a != b] in ([], ["pricing"])
    assert scored.compulsory == without.compulsory
    assert scored.without_telematics_yuan == without.total_yuan
    pricing = factor(scored, "pricing")
    assert pricing.low <= pricing.value <= pricing.high
    assert D("0.80") <= factor(scored, "pricing.telematics").value <= D("1.20")
    assert (
        D("0.8") * without.commercial_yuan - len(without.lines) * FEN
        <= scored.commercial_yuan
        <= D("1.2") * without.commercial_yuan + len(without.lines) * FEN
    )


@settings(max_examples=100, deadline=None)
@given(requests(), st.decimals("0.05", "20", places=4), scores())
def test_worse_driving_is_never_cheaper(request: QuoteRequest, other: Decimal, told: Telematics) -> None:
    low, high = sorted((told.relativity, other))
    cheap = priced(replace(request, telematics=replace(told, relativity=low)))
    dear = priced(replace(request, telematics=replace(told, relativity=high)))
    assert all(a.premium_yuan <= b.premium_yuan for a, b in zip(cheap.lines, dear.lines, strict=True))
    assert cheap.per_km is None or cheap.per_km.total_yuan <= dear.per_km.total_yuan  # type: ignore[union-attr]


@settings(max_examples=100, deadline=None)
@given(requests(), scores())
def test_more_kilometres_of_evidence_move_the_price_away_from_the_one_without(
    request: QuoteRequest, told: Telematics
) -> None:
    plain = priced(replace(request, telematics=None)).commercial_yuan
    little, much = (
        priced(replace(request, telematics=replace(told, km=km))).commercial_yuan for km in (told.km, told.km + 5000)
    )
    assert abs(little - plain) <= abs(much - plain) + 2 * FEN * len(request.covers)


def in_regime(year: int, history: History) -> Quote:
    car = replace(request_of().vehicle, first_registration=date(year, 1, 1))
    return priced(request_of(start=date(year, 6, 1), vehicle=car, history=history))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([2012, 2017, 2022]), st.integers(0, 10), st.integers(0, 10), st.integers(0, 10))
def test_claims_never_make_it_cheaper_and_clean_years_never_dearer(year: int, years: int, a: int, b: int) -> None:
    def total(claims: int, clean: int) -> Decimal:
        history = History(
            standing="renewal",
            insured_years=clean,
            claims_three_years=claims,
            lapse_months=0,
            claims_last_year=claims,
            claim_free_years=0 if claims else clean,
        )
        return in_regime(year, history).total_yuan

    fewer, more = sorted((a, b))
    assert total(fewer, years) <= total(more, years)
    assert total(a, max(years, b)) <= total(a, min(years, b))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(REGIONS), st.sampled_from([2019, 2021]), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_compulsory_accidents_never_make_it_cheaper(region: str, year: int, clean: int, a: int, b: int) -> None:
    def total(accidents: int, fatal: bool = False) -> Decimal:
        record = CompulsoryHistory(
            standing="renewal",
            clean_years=0 if accidents or fatal else clean,
            accidents_last_year=accidents,
            fatal_last_year=fatal,
        )
        car = replace(request_of().vehicle, first_registration=date(2018, 1, 1))
        made = request_of(
            region=region, start=date(year, 6, 1), vehicle=car, covers=[], history=None, compulsory=record
        )
        return priced(made).total_yuan

    fewer, more = sorted((a, b))
    assert total(fewer) <= total(more) <= total(more, fatal=True)


@settings(max_examples=60, deadline=None)
@given(requests())
def test_a_cover_more_adds_its_own_line_and_changes_no_other(request: QuoteRequest) -> None:
    whole = priced(request)
    if len(request.covers) < 2:
        return
    part = priced(replace(request, covers=request.covers[:-1]))
    assert whole.lines[:-1] == part.lines
    assert whole.total_yuan - part.total_yuan == whole.lines[-1].premium_yuan


@settings(max_examples=60, deadline=None)
@given(requests())
def test_the_same_request_gives_the_same_bytes_whatever_the_callers_arithmetic(request: QuoteRequest) -> None:
    told = msgspec.json.encode(priced(request))
    with decimal.localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_DOWN)):
        assert msgspec.json.encode(priced(request)) == told
    assert msgspec.json.decode(told, type=Quote) == priced(request)
    again = parse_request(json.dumps(json.loads(told)["request"]))
    assert msgspec.json.encode(quote(again, book(), request.start)) == told


@settings(max_examples=100, deadline=None)
@given(requests(), st.integers(1, 100_000), st.integers(0, 100_000), st.integers(0, 100_000))
def test_pay_per_km_is_monotone_bounded_and_settles_exactly(
    request: QuoteRequest, declared: int, a: int, b: int
) -> None:
    offer = priced(replace(request, km_per_year=declared)).per_km
    assert offer is not None
    few, many = (settle(offer, km) for km in sorted((a, b)))
    assert few.final_yuan <= many.final_yuan
    for settled in (few, many):
        assert offer.floor_yuan <= settled.final_yuan <= offer.ceiling_yuan
        assert settled.final_yuan == settled.final_yuan.quantize(FEN)
        assert settled.deposit_yuan + settled.due_yuan == settled.final_yuan
    assert settle(offer, declared).due_yuan == 0
    step = settle(offer, a + 1).final_yuan - settle(offer, a).final_yuan
    assert 0 <= step <= offer.rate_yuan_per_km + FEN


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
BASE = msgspec.to_builtins(
    request_of(compulsory=CompulsoryHistory(standing="new"), telematics=None, km_per_year=12_000)
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(BASE)), JUNK, st.sampled_from([None, *sorted(BASE["vehicle"])]))
def test_any_junk_in_a_field_is_a_price_or_a_refusal_with_a_field(key: str, junk: object, inner: str | None) -> None:
    value = {**BASE, "vehicle": {**BASE["vehicle"], inner: junk}} if inner else {**BASE, key: junk}
    refused = None
    try:
        quote(parse_request(json.dumps(value)), book(), date(2021, 6, 1))
    except QuoteError as e:
        refused = e
    assert refused is None or (refused.field and refused.reason and refused.reason_zh)
