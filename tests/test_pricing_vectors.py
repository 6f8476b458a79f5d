"""The published and computed vectors of the premium formulas, by their names (docs/sources.md P2 to P5)."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import msgspec
import pytest
from msgspec.structs import replace

from receiver.pricing import QuoteError, parse_request
from receiver.pricing.factors import ncd_level
from receiver.pricing.money import to_fen
from receiver.pricing.request import CompulsoryHistory, CoverChoice, History
from tests.pricing import CAR, CLEAN_RECORD, NEW, D, book, factor, in_2006, in_2015, priced, request_of, telematics

FAMILY_LIMITS = {50: 710, 100: 1026, 150: 1169, 200: 1270, 300: 1434, 500: 1721, 1000: 2242}  # thousands of yuan


def tpl(thousands: int) -> CoverChoice:
    return CoverChoice(cover="TPL", limit_yuan=D(thousands * 1000))


def test_T_PRICE_1_the_reform_of_2015() -> None:
    # T-PRICE-1
    years = History(standing="renewal", claims_last_year=0, claim_free_years=3)
    told = priced(in_2015(history=years, own={"underwriting": D("0.85"), "channel": D("0.85")}))
    assert told.lines[0].basis_yuan == 1300
    assert told.lines[0].benchmark_yuan == 2000
    assert told.multiplier is not None
    assert told.multiplier.value == D("0.4335")  # the lowest discount: 0.60 × 0.85 × 0.85
    assert told.total_yuan == D("867.00")


@pytest.mark.parametrize(
    ("clean", "own", "r", "km", "score", "coefficient", "bounded", "premium"),
    [
        (True, "0.75", "0.80", "3000", "0.88", "0.66", False, "792.00"),
        (True, "0.70", "0.80", "3000", "0.88", "0.65", True, "780.00"),
        (False, "1.00", "1.50", "3000", "1.20", "1.20", False, "2400.00"),
        (False, "1.00", "0.50", "0", "1", "1.00", False, "2000.00"),
    ],
)
def test_T_PRICE_1_the_reform_of_2020(
    clean: bool, own: str, r: str, km: str, score: str, coefficient: str, bounded: bool, premium: str
) -> None:
    # T-PRICE-1
    three = History(standing="renewal", insured_years=3, claims_three_years=0, lapse_months=0)
    told = priced(request_of(history=three if clean else NEW, own={"pricing": D(own)}, telematics=telematics(r, km)))
    assert told.lines[0].basis_yuan == 1500
    assert factor(told, "pricing.telematics").value == D(score)
    assert factor(told, "pricing.telematics").raw == D({"1.20": "1.30"}.get(score, score))
    assert factor(told, "pricing.telematics").bounded == (score == "1.20")
    assert factor(told, "pricing").value == D(coefficient)
    assert factor(told, "pricing").bounded is bounded
    assert told.total_yuan == D(premium)


def test_T_PRICE_2_a_severe_event_more_never_lowers_the_premium() -> None:
    # T-PRICE-2
    # one severe braking per 100 km more multiplies the relativity by exp(0.020) (docs/sources.md, scores)
    premiums = []
    for events in range(60):
        r = D("0.5") * D("0.020").exp() ** events
        told = telematics(str(r.quantize(D("0.000001"))))
        premiums.append(priced(request_of(telematics=told)).total_yuan)
    assert premiums == sorted(premiums)
    assert premiums[0] < premiums[30]


def test_T_PRICE_3_what_has_no_row_is_refused_by_its_name() -> None:
    # T-PRICE-3
    with pytest.raises(QuoteError, match=r"region: atlantis is no region") as region:
        priced(request_of(region="atlantis"))
    assert region.value.field == "region"
    assert len(region.value.known) == 36
    with pytest.raises(QuoteError) as row:
        priced(request_of(vehicle=replace(CAR, model="SAMPLE-SEDNA")))
    assert row.value.field == "vehicle.model"
    assert "SAMPLE-SEDAN" in row.value.known
    assert "near names: SAMPLE-SEDAN" in row.value.reason


def test_T_PRICE_4_everything_that_made_the_price_is_in_the_answer() -> None:
    # T-PRICE-4
    told = msgspec.json.decode(
        msgspec.json.encode(priced(request_of(own={"pricing": D("0.70")}, telematics=telematics("0.80"))))
    )
    assert {"ncd", "traffic", "pricing"} == {f["name"] for f in told["factors"]}
    for line in (*told["factors"], *told["factors"][2]["parts"], *told["lines"]):
        assert line["table"].startswith("2020 ")
        assert line["version"]
        assert line["source"]
    pricing = told["factors"][2]
    assert (pricing["low"], pricing["high"], pricing["raw"], pricing["bounded"]) == ("0.65", "1.35", "0.616", True)
    assert "lowest allowed" in pricing["reason"]["en"]
    assert "下限" in pricing["reason"]["zh"]
    assert pricing["parts"][1]["low"] == "0.80"
    assert told["score_version"] == "expert-1"
    assert told["regime_version"]
    assert told["without_telematics_yuan"] == "1400.00"
    assert told["valid_until"]
    assert told["unverified"]


@pytest.mark.parametrize(
    ("yuan", "fen"), [("0.125", "0.13"), ("0.135", "0.14"), ("2.1249999", "2.12"), ("1.005", "1.01")]
)
def test_money_is_rounded_half_up(yuan: str, fen: str) -> None:
    assert to_fen(D(yuan)) == D(fen)


def test_a_premium_is_rounded_half_up_and_once() -> None:
    # 500 × 0.975 % / 0.75 = 6.50; × 0.65 × 1.0 = 4.225; by half even 4.22
    covers = [CoverChoice(cover="VD"), CoverChoice(cover="EQUIP", limit_yuan=D(500))]
    told = priced(request_of(own={"pricing": D("0.65")}, covers=covers))
    assert [line.premium_yuan for line in told.lines] == [D("1300.00"), D("4.23")]


# years without a claim, claims last year -> factor under the regime of 2015
OF_2015 = [
    (3, 0, "0.60", "0.4335"),
    (2, 0, "0.70", "0.50575"),
    (1, 0, "0.85", "0.614125"),
    (0, 0, "1.00", "0.7225"),
    (0, 2, "1.25", "0.903125"),
    (0, 3, "1.50", "1.08375"),
    (0, 4, "1.75", "1.264375"),
    (0, 5, "2.00", "1.445"),
]


@pytest.mark.parametrize(("years", "claims", "ncd", "discount"), OF_2015)
def test_T_NCD_1_times_both_coefficients(years: int, claims: int, ncd: str, discount: str) -> None:
    # T-NCD-1
    history = History(standing="renewal", claim_free_years=years, claims_last_year=claims)
    told = priced(in_2015(history=history, own={"underwriting": D("0.85"), "channel": D("0.85")}))
    assert factor(told, "ncd").value == D(ncd)
    assert told.multiplier is not None
    assert told.multiplier.value == D(discount)


@pytest.mark.parametrize(("years", "claims", "ncd"), [(9, 0, "0.60"), (0, 1, "1.00"), (0, 17, "2.00"), (2, 1, "1.00")])
def test_the_table_of_2015_goes_on_beyond_its_ends(years: int, claims: int, ncd: str) -> None:
    history = History(standing="renewal", claim_free_years=years, claims_last_year=claims)
    assert factor(priced(in_2015(history=history)), "ncd").value == D(ncd)


@pytest.mark.parametrize("standing", ["new", "transferred", "not_floating"])
def test_T_NCD_1_new_and_non_floating_are_1(standing: str) -> None:
    # T-NCD-1
    assert factor(priced(in_2015(history=History(standing=standing))), "ncd").value == 1


@pytest.mark.parametrize(
    ("years", "claims", "lapse", "previous", "level", "ncd"),
    [
        (0, 0, 0, None, 0, "1.0"),
        (3, 0, 0, None, -3, "0.6"),
        (4, 0, 0, None, -4, "0.5"),
        (3, 1, 0, None, -2, "0.7"),
        (1, 1, 0, None, 0, "1.0"),
        (1, 2, 0, None, 1, "1.2"),
        (3, 9, 0, None, 5, "2.0"),
        (3, 0, 7, None, 0, "1.0"),
        (4, 0, 4, 1, 1, "1.2"),
        (0, 3, 4, 1, 3, "1.6"),
        (4, 0, 6, -4, -4, "0.5"),
        (9, 0, 2, None, -4, "0.5"),
    ],
)
def test_T_NCD_2_level_of_three_years(
    years: int, claims: int, lapse: int, previous: int | None, level: int, ncd: str
) -> None:
    # T-NCD-2
    history = History(
        standing="renewal", insured_years=years, claims_three_years=claims, lapse_months=lapse, previous_level=previous
    )
    rates = book().regimes["2020"]
    assert rates.regime.ncd.level_rule is not None
    assert ncd_level(rates.regime.ncd, rates.regime.ncd.level_rule, history) == level
    assert factor(priced(request_of(history=history)), "ncd").value == D(ncd)


def test_T_NCD_2_a_transferred_car_starts_at_0() -> None:
    # T-NCD-2
    history = History(standing="transferred", insured_years=4, claims_three_years=0, lapse_months=0)
    assert factor(priced(request_of(history=history)), "ncd").value == 1


def test_T_TPL_1_the_founding_decks_prices() -> None:
    # T-TPL-1
    for thousands, yuan in FAMILY_LIMITS.items():
        assert priced(in_2006(covers=[tpl(thousands)])).total_yuan == yuan
    assert priced(in_2006(covers=[tpl(300)])).total_yuan == D("1434.00")


def test_T_TPL_1_steps_are_the_decks() -> None:
    # T-TPL-1
    prices = list(FAMILY_LIMITS.values())
    assert [b - a for a, b in pairwise(prices)] == [316, 143, 101, 164, 287, 521]
    benchmarks = [priced(in_2015(covers=[tpl(t)])).lines[0].benchmark_yuan for t in FAMILY_LIMITS]
    assert benchmarks == prices


def test_T_VD_1_a_missing_row_is_an_error_and_never_a_default() -> None:
    # T-VD-1
    for vehicle in (replace(CAR, model=None), replace(CAR, model="X"), replace(CAR, energy="nev")):
        with pytest.raises(QuoteError):
            priced(request_of(vehicle=vehicle))
    old = replace(CAR, first_registration=date(2008, 5, 31))
    with pytest.raises(QuoteError, match="48 months of age has no row in table 2006 VD") as refused:
        priced(in_2006(vehicle=old))
    assert refused.value.known == ["0 to below 12 months", "12 to below 48 months"]
    young = replace(CAR, first_registration=date(2008, 6, 2))
    assert priced(in_2006(vehicle=young)).lines[0].rows == [2]


def test_T_VD_1_base_and_percent_of_a_published_example() -> None:
    # T-VD-1
    # docs/sources.md P5: 630 + 100,000 × 1.50 % = 2,130
    told = priced(in_2006(covers=[CoverChoice(cover="VD", limit_yuan=D(100_000))]))
    assert told.lines[0].formula == "630 + 100000 × 1.5 %"
    assert told.total_yuan == D("2130.00")


def test_T_OCC_1_and_the_worked_example_of_1233() -> None:
    # T-OCC-1
    official = replace(CAR, use_class="government", first_registration=date(2009, 6, 1))
    covers = [tpl(100), CoverChoice(cover="OCC", driver_limit_yuan=D(30_000), passenger_limit_yuan=D(20_000))]
    told = priced(in_2006(vehicle=official, covers=covers))
    assert told.lines[0].premium_yuan == 913
    assert told.lines[1].formula == "30000 × 0.4 % + 20000 × 0.25 % × 4"
    assert told.lines[1].premium_yuan == 320
    assert told.total_yuan == D("1233.00")
    driver = priced(in_2006(vehicle=official, covers=[CoverChoice(cover="OCC", driver_limit_yuan=D(30_000))]))
    passengers = priced(in_2006(vehicle=official, covers=[CoverChoice(cover="OCC", passenger_limit_yuan=D(20_000))]))
    assert (driver.total_yuan, passengers.total_yuan) == (D("120.00"), D("200.00"))


def test_T_THEFT_1_base_and_percent_of_the_sum() -> None:
    # T-THEFT-1
    covers = [CoverChoice(cover="VD"), CoverChoice(cover="THEFT", limit_yuan=D(100_000))]
    assert priced(in_2006(covers=covers)).lines[1].premium_yuan == D("610.00")


@pytest.mark.parametrize(
    ("region", "start", "history", "premium"),
    [
        ("shandong", 2021, CLEAN_RECORD, "665.00"),
        ("山东", 2021, CLEAN_RECORD, "665.00"),
        ("hainan", 2021, CLEAN_RECORD, "475.00"),
        ("shaanxi", 2021, CLEAN_RECORD, "522.50"),
        ("gansu", 2021, CLEAN_RECORD, "570.00"),
        ("beijing", 2021, CLEAN_RECORD, "617.50"),
        ("hainan", 2021, CompulsoryHistory(standing="renewal", fatal_last_year=True), "1235.00"),
        ("shandong", 2021, CompulsoryHistory(standing="renewal", fatal_last_year=True), "1235.00"),
        ("hainan", 2021, CompulsoryHistory(standing="renewal", accidents_last_year=2), "1045.00"),
        ("hainan", 2021, CompulsoryHistory(standing="renewal", accidents_last_year=1), "950.00"),
        ("hainan", 2021, CompulsoryHistory(standing="new"), "950.00"),
        ("hainan", 2019, CLEAN_RECORD, "665.00"),  # one zone for all before the reform
    ],
)
def test_T_JQX_2_premium_by_zone(region: str, start: int, history: CompulsoryHistory, premium: str) -> None:
    # T-JQX-2
    car = replace(CAR, first_registration=date(2014, 1, 1))
    made = request_of(region=region, start=date(start, 6, 1), vehicle=car, covers=[], history=None, compulsory=history)
    assert priced(made).total_yuan == D(premium)


@pytest.mark.parametrize(
    ("facts", "premium"),
    [
        ({"use_class": "family", "seats": 7}, 1100),
        ({"use_class": "nonop_truck", "seats": 2, "tonnes": D("1.2")}, 1200),
        ({"use_class": "nonop_truck", "seats": 2, "tonnes": D(2)}, 1470),
        ({"use_class": "op_truck", "seats": 2, "tonnes": D("1.2")}, 1850),
        ({"use_class": "op_truck", "seats": 2, "tonnes": D(12), "trailer": True}, 1344),
        ({"use_class": "special_3", "seats": 2}, 1080),
        ({"use_class": "motorcycle", "seats": 2, "cc": D(250)}, 400),
        ({"use_class": "coach", "seats": 36}, 4690),
    ],
)
def test_T_JQX_2_base_premium_by_use(facts: dict[str, object], premium: int) -> None:
    # T-JQX-2
    made = request_of(
        vehicle=replace(CAR, **facts), covers=[], history=None, compulsory=CompulsoryHistory(standing="new")
    )
    assert priced(made).total_yuan == premium


REFORM = datetime(2020, 9, 18, 16, tzinfo=UTC)  # 2020-09-19T00:00+08:00


def test_T_JQX_1_limits_go_by_the_moment_of_the_accident() -> None:
    # T-JQX-1
    losses = {"death": D(130_000), "medical": D(8_000), "property": D(5_000)}

    def paid(at: datetime, at_fault: bool) -> Decimal:
        limits = book().compulsory.amounts(at, at_fault)
        return sum((min(loss, getattr(limits, kind)) for kind, loss in losses.items()), D(0))

    before = REFORM - timedelta(seconds=1)
    assert (paid(before, True), paid(before, False)) == (120_000, 12_100)
    assert (paid(REFORM, True), paid(REFORM, False)) == (140_000, 19_900)


def test_T_DED_1_deductibles_by_fault_are_data() -> None:
    # T-DED-1
    regimes = book().regimes
    loss, share = D(10_000), regimes["2015"].liability_percent("primary")
    assert share == 70
    assert loss * share / 100 * (100 - regimes["2015"].fault_deductible("VD", "primary", "family")) / 100 == 5950
    assert regimes["2020"].fault_deductible("VD", "primary", "family") == 0
    faults = ("none", "secondary", "equal", "primary", "full")
    assert [regimes["2006"].fault_deductible("VD", f, "family") for f in faults] == [0, 5, 8, 10, 15]
    assert [regimes["2006"].fault_deductible("TPL", f, "family") for f in faults] == [0, 5, 10, 15, 20]
    assert [regimes["2006"].fault_deductible("VD", f, "special_2") for f in faults] == [0, 5, 10, 15, 20]
    assert [regimes["2006"].fault_deductible("TPL", f, "motorcycle") for f in faults] == [0, 3, 5, 8, 10]
    assert [regimes["2015"].fault_deductible("OCC", f, "family") for f in faults] == [0, 5, 10, 15, 20]


def test_T_DED_2_absolute_deductibles_are_data() -> None:
    # T-DED-2
    rates = book().regimes["2015"]
    assert D(1200) * (100 - rates.absolute_deductible("SCRATCH")) / 100 == 1020
    assert D(30_000) * (100 - rates.absolute_deductible("FIRE")) / 100 == 24_000
    assert rates.ends_at_sum("SCRATCH")
    assert not rates.ends_at_sum("VD")
    assert rates.absolute_deductible("VD") == 0


ASKED = """{"region": "山东", "start": "2026-12-01",
 "vehicle": {"use_class": "family", "seats": 5, "energy": "fuel", "first_registration": "2026-08-01",
             "new_price_yuan": 120000.00, "model": "SAMPLE-SEDAN"},
 "covers": [{"cover": "VD"}, {"cover": "TPL", "limit_yuan": 2000000}, {"cover": "SCRATCH", "limit_yuan": 5000},
            {"cover": "OCC", "driver_limit_yuan": 50000, "passenger_limit_yuan": 20000}],
 "history": {"standing": "renewal", "insured_years": 2, "claims_three_years": 0, "lapse_months": 0},
 "compulsory": {"standing": "renewal", "clean_years": 2}}"""
SCORED = ASKED[:-1] + (
    ', "telematics": {"relativity": 0.7, "km": 6000, "score_version": "expert-1", "consent": "consent-1"}}'
)


def test_T_QUOTE_1_an_itemised_quote_from_json() -> None:
    # T-QUOTE-1
    told = priced(parse_request(ASKED))
    assert [line.cover for line in told.lines] == ["VD", "TPL", "SCRATCH", "OCC"]
    assert told.compulsory_yuan == D("760.00")
    assert told.total_yuan == sum(line.premium_yuan for line in told.lines) + told.compulsory_yuan
    assert told.without_telematics_yuan == told.total_yuan
    assert told.telematics_effect_yuan == 0
    assert told.regime == "2020"
    assert (told.starts, told.ends) == (date(2026, 12, 1), date(2027, 12, 1))


def test_T_QUOTE_2_with_a_score_only_the_own_coefficient_differs() -> None:
    # T-QUOTE-2
    without, scored = priced(parse_request(ASKED)), priced(parse_request(SCORED))
    changed = [a.name for a, b in zip(without.factors, scored.factors, strict=True) if a != b]
    assert changed == ["pricing"]
    assert D("0.5") <= factor(scored, "pricing").value <= D("1.5")
    assert scored.compulsory == without.compulsory
    for a, b in zip(without.lines, scored.lines, strict=True):
        assert (a.basis_yuan, a.benchmark_yuan, a.premium_yuan) == (
            b.basis_yuan,
            b.benchmark_yuan,
            b.without_telematics_yuan,
        )
        assert b.premium_yuan < a.premium_yuan
    assert scored.without_telematics_yuan == without.total_yuan  # T-PRIV-5: the price without telematics exists


def test_T_PRIV_3_each_factor_says_why_in_both_languages() -> None:
    # T-PRIV-3
    told = priced(parse_request(SCORED))
    for line in [p for f in told.factors for p in (f, *f.parts)]:
        assert line.reason.en
        assert any("\u4e00" <= c <= "\u9fff" for c in line.reason.zh)
    assert "6000 km" in factor(told, "pricing.telematics").reason.en


def test_the_bounds_of_all_factors_are_the_published_ones() -> None:
    # docs/sources.md P3: 0.5 × 0.65 = 0.325 to 2.0 × 1.35 = 2.70; since 2023 0.25 to 3.00
    best = History(standing="renewal", insured_years=4, claims_three_years=0, lapse_months=0)
    worst = History(standing="renewal", insured_years=0, claims_three_years=9, lapse_months=0)
    found = []
    for year in (2021, 2024):
        car = replace(CAR, first_registration=date(year, 1, 1))
        for history, own in ((best, "0.01"), (worst, "9")):
            made = request_of(start=date(year, 6, 1), vehicle=car, history=history, own={"pricing": D(own)})
            multiplier = priced(made).multiplier
            assert multiplier is not None
            found.append(multiplier.value)
    assert found == [D("0.325"), D("2.7"), D("0.25"), D("3")]


def test_new_energy_vehicles_keep_the_narrower_bounds() -> None:
    car = replace(CAR, energy="nev", model="SAMPLE-BEV", first_registration=date(2024, 1, 1))
    told = priced(request_of(start=date(2024, 6, 1), vehicle=car, own={"pricing": D("0.5")}))
    assert factor(told, "pricing").value == D("0.65")


@pytest.mark.parametrize(
    ("region", "day", "low"),
    [
        ("sichuan", date(2018, 3, 14), "0.85"),
        ("sichuan", date(2018, 3, 15), "0.65"),
        ("hunan", date(2019, 1, 1), "0.85"),
    ],
)
def test_regions_got_wider_bounds_in_2018(region: str, day: date, low: str) -> None:
    car = replace(CAR, first_registration=date(2018, 1, 1))
    told = priced(request_of(region=region, start=day, vehicle=car))
    assert (factor(told, "underwriting").low, factor(told, "channel").low) == (D(low), D(low))


def test_the_waiver_is_15_percent_of_the_third_party_price() -> None:
    # docs/sources.md P5 [TPL-OTHER]
    told = priced(in_2006(covers=[tpl(100), CoverChoice(cover="WAIVER", of=["TPL"])]))
    assert told.lines[1].premium_yuan == D("153.90")
    assert told.lines[1].verified
