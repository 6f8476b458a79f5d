"""What has no price says which field, why, and what would be understood; commands; what-if; pay per kilometre."""

import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from msgspec.structs import replace

from receiver.pricing import Change, Quote, QuoteError, parse_request, quote, settle, what_if
from receiver.pricing.perkm import at_distance
from receiver.pricing.refusals import SAID
from receiver.pricing.request import CompulsoryHistory, CoverChoice, History, ScoredMileage
from tests.pricing import (
    CAR,
    CLEAN_RECORD,
    NEW,
    SHIPPED,
    D,
    book,
    edited,
    factor,
    in_2006,
    priced,
    request_of,
    telematics,
)

ROOT = Path(__file__).parents[1]
TPL = CoverChoice(cover="TPL", limit_yuan=D(1_000_000))


def choice(cover: str, **given: Any) -> CoverChoice:
    return CoverChoice(cover=cover, **given)


def weighs(km_per_year: int, exponent: str) -> ScoredMileage:
    return ScoredMileage(km_per_year=km_per_year, exponent=D(exponent), low_km=8000, high_km=30_000)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"covers": []}, "nothing", "covers"),
    ({"history": None}, "missing", "history"),
    ({"history": History(standing="renewal")}, "missing", "history.insured_years"),
    (
        {"history": History(standing="renewal", insured_years=2, claims_three_years=0)},
        "missing",
        "history.lapse_months",
    ),
    (
        {"history": History(standing="renewal", insured_years=2, claims_three_years=0, lapse_months=4)},
        "missing",
        "history.previous_level",
    ),
    (
        {
            "history": History(
                standing="renewal", insured_years=2, claims_three_years=0, lapse_months=4, previous_level=9
            )
        },
        "out_of_range",
        "history.previous_level",
    ),
    ({"history": History(standing="not_floating")}, "not_used", "history.standing"),
    (
        {"history": History(standing="renewal", insured_years=-1, claims_three_years=0, lapse_months=0)},
        "out_of_range",
        "history.insured_years",
    ),
    ({"covers": [TPL, TPL]}, "twice", "covers.TPL"),
    ({"covers": [choice("TPL")]}, "missing", "covers.TPL.limit_yuan"),
    ({"covers": [choice("TPL", limit_yuan=D(123))]}, "no_row", "covers.TPL.limit_yuan"),
    ({"covers": [choice("TPL", limit_yuan=D(1_000_000), of=["VD"])]}, "not_used", "covers.TPL.of"),
    ({"covers": [choice("GLASS")]}, "included", "covers.GLASS"),
    ({"covers": [choice("WAIVER", of=["TPL"])]}, "included", "covers.WAIVER"),
    ({"covers": [choice("HAIL")]}, "not_offered", "covers.HAIL"),
    ({"covers": [choice("SCRATCH", limit_yuan=D(2000))]}, "needs_cover", "covers.SCRATCH"),
    ({"covers": [choice("VD"), choice("EQUIP")]}, "missing", "covers.EQUIP.limit_yuan"),
    ({"covers": [choice("OCC")]}, "missing", "covers.OCC.driver_limit_yuan"),
    ({"covers": [choice("OCC", driver_limit_yuan=D(300_001))]}, "out_of_range", "covers.OCC.driver_limit_yuan"),
    ({"covers": [choice("VD", limit_yuan=D(120_001))]}, "out_of_range", "covers.VD.limit_yuan"),
    ({"vehicle": replace(CAR, seats=12), "covers": [TPL]}, "no_row", "vehicle.seats"),
    ({"vehicle": replace(CAR, seats=0)}, "out_of_range", "vehicle.seats"),
    ({"vehicle": replace(CAR, use_class="privat")}, "no_row", "vehicle.use_class"),
    ({"vehicle": replace(CAR, use_class="coach")}, "no_row", "vehicle.use_class"),
    ({"vehicle": replace(CAR, energy="steam")}, "no_row", "vehicle.energy"),
    ({"vehicle": replace(CAR, model=None)}, "missing", "vehicle.model"),
    ({"vehicle": replace(CAR, first_registration=date(2021, 6, 2))}, "out_of_range", "vehicle.first_registration"),
    ({"vehicle": replace(CAR, new_price_yuan=D("-1"))}, "out_of_range", "vehicle.new_price_yuan"),
    ({"vehicle": replace(CAR, new_price_yuan=D("NaN"))}, "not_valid", "vehicle.new_price_yuan"),
    ({"vehicle": replace(CAR, new_price_yuan=D("1.0000001"))}, "out_of_range", "vehicle.new_price_yuan"),
    ({"vehicle": replace(CAR, new_price_yuan=D("1e999999"))}, "out_of_range", "vehicle.new_price_yuan"),
    (
        {"vehicle": replace(CAR, new_price_yuan=None), "covers": [choice("VD", limit_yuan=D(9000))]},
        "missing",
        "vehicle.new_price_yuan",
    ),
    ({"vehicle": replace(CAR, use_class="nonop_truck"), "covers": [TPL]}, "missing", "vehicle.tonnes"),
    ({"vehicle": replace(CAR, trailer=True), "compulsory": CLEAN_RECORD}, "not_used", "vehicle.trailer"),
    (
        {"compulsory": CompulsoryHistory(standing="renewal", clean_years=1, accidents_last_year=1)},
        "out_of_range",
        "compulsory.clean_years",
    ),
    (
        {"vehicle": replace(CAR, use_class="motorcycle"), "covers": [], "compulsory": CLEAN_RECORD},
        "missing",
        "vehicle.cc",
    ),
    ({"region": "Shandon"}, "unknown_region", "region"),
    ({"region": "beijing"}, "missing", "traffic_violation"),
    ({"region": "beijing", "traffic_violation": D("1.46")}, "out_of_range", "traffic_violation"),
    ({"traffic_violation": D(1)}, "not_used", "traffic_violation"),
    ({"own": {"channel": D(1)}}, "not_used", "own.channel"),
    ({"regime": "2015"}, "not_in_force", "regime"),
    ({"start": date(2007, 1, 1), "vehicle": replace(CAR, first_registration=date(2006, 1, 1))}, "no_regime", "start"),
    ({"telematics": telematics("0.8", consent=" ")}, "no_consent", "telematics.consent"),
    ({"telematics": telematics("0.8", score_version="")}, "missing", "telematics.score_version"),
    ({"telematics": telematics("0")}, "out_of_range", "telematics.relativity"),
    ({"telematics": telematics("1", mileage=weighs(9000, "2.1"))}, "out_of_range", "telematics.mileage.exponent"),
    ({"telematics": telematics("1", km="-1")}, "out_of_range", "telematics.km"),
    ({"km_per_year": 0}, "out_of_range", "km_per_year"),
]


@pytest.mark.parametrize(("given", "code", "field"), REFUSED, ids=lambda x: x if isinstance(x, str) else "")
def test_a_request_without_a_price_names_its_field(given: dict[str, Any], code: str, field: str) -> None:
    with pytest.raises(QuoteError) as refused:
        priced(request_of(**given))
    assert (refused.value.code, refused.value.field) == (code, field)
    assert str(refused.value).startswith(f"quote: {field}: ")
    assert "\n" not in str(refused.value)
    assert refused.value.reason
    assert any("\u4e00" <= c <= "\u9fff" for c in refused.value.reason_zh)


def test_every_kind_of_refusal_has_a_test() -> None:
    with_text = {"unknown_key", "not_valid"}
    assert set(SAID) == {code for _, code, _ in REFUSED} | with_text


@pytest.mark.parametrize(
    ("text", "field", "said"),
    [
        ("", "request", "no JSON"),
        ("[" * 50_000, "request", "no JSON"),
        (" " * 70_000, "request", "longer than"),
        ("[]", "request", "expected"),
        ('{"region": "x"}', "start", "is needed"),
        ('{"region": "x", "start": "2021-13-01"}', "start", "is not valid"),
        ('{"region": "x", "start": "2021-01-01", "vehicle": {}}', "vehicle.use_class", "is needed"),
        ('{"region": "x", "start": "2021-01-01", "vehicle": {"usage": 1}}', "vehicle.usage", "is no field"),
        ('{"region": "x", "start": "2021-01-01", "coverz": []}', "coverz", "near names: covers"),
    ],
)
def test_a_text_that_is_no_request_names_its_field(text: str, field: str, said: str) -> None:
    with pytest.raises(QuoteError) as refused:
        parse_request(text)
    assert refused.value.field == field
    assert said in str(refused.value)


def test_a_policy_cannot_begin_before_its_quote() -> None:
    with pytest.raises(QuoteError) as refused:
        quote(request_of(), book(), date(2021, 6, 2))
    assert refused.value.field == "start"


def test_a_quote_holds_30_days_but_not_beyond_the_first_day() -> None:
    assert quote(request_of(), book(), date(2021, 4, 1)).valid_until == date(2021, 5, 1)
    assert quote(request_of(), book(), date(2021, 5, 20)).valid_until == date(2021, 6, 1)
    assert priced(request_of(start=date(2024, 2, 29))).ends == date(2025, 3, 1)


def test_the_old_regime_lets_no_score_into_a_price_and_says_so() -> None:
    told = priced(in_2006(telematics=telematics("0.5")))
    assert factor(told, "telematics").value == 1
    assert "no driving score" in factor(told, "telematics").reason.en
    assert told.telematics_effect_yuan == 0


def test_the_old_regimes_lowest_price_is_seven_tenths(tmp_path: Path) -> None:
    from receiver.pricing import load_book

    clean = History(standing="renewal", claims_last_year=0, claim_free_years=3)
    assert priced(in_2006(history=clean)).multiplier.value == D("0.7")  # type: ignore[union-attr]
    cheaper = load_book(
        edited(tmp_path, "2006.toml", "claim_free_years = 3, factor = 0.70", "claim_free_years = 3, factor = 0.60")
    )
    told = priced(in_2006(history=clean), cheaper).multiplier
    assert told is not None
    assert (told.value, told.raw, told.bounded) == (D("0.7"), D("0.6"), True)


def test_an_agreed_value_moves_the_premium_by_its_percent() -> None:
    # new price 120,000, 3 months at 0.60 %: 117,840 actual; 0.09 % of 2,160 more is 1.944
    plain = priced(request_of()).lines[0]
    agreed = priced(request_of(covers=[choice("VD", limit_yuan=D(120_000))])).lines[0]
    assert agreed.basis_yuan - plain.basis_yuan == D("1.944")
    assert agreed.formula == "1500 + (120000 - 117840) × 0.09 %"


def test_actual_value_never_falls_below_the_rest() -> None:
    car = replace(CAR, first_registration=date(1995, 1, 1), origin="domestic")
    theft = [choice("VD"), choice("THEFT")]
    told = priced(request_of(start=date(2017, 1, 1), vehicle=car, covers=theft))
    assert told.lines[1].limit_yuan == 24_000  # 20 % of 120,000


def test_a_quote_lists_every_table_that_nobody_verified() -> None:
    plain, agreed = (
        priced(request_of(covers=[choice("VD", limit_yuan=limit)], km_per_year=km)).unverified
        for limit, km in ((None, None), (D(120_000), 9000))
    )
    assert [told.split(" (")[0] for told in plain] == ["2020 pricing", "2020 VD"]
    added = [told.split(" (")[0] for told in agreed if told not in plain]
    assert added == ["2020 per_km", "2020 depreciation"]
    clean = request_of(covers=[], history=None, compulsory=CLEAN_RECORD)
    assert priced(clean).unverified == []


def test_what_if_says_the_difference_line_by_line() -> None:
    clean = History(standing="renewal", insured_years=3, claims_three_years=0, lapse_months=0)
    before = request_of(covers=[choice("VD"), TPL], history=clean, compulsory=CLEAN_RECORD)
    change = Change(
        covers=[choice("VD"), choice("OCC", driver_limit_yuan=D(10_000))],
        history=replace(clean, claims_three_years=1),
    )
    told = what_if(before, change, book(), before.start)
    by_name = {line.name: line for line in told.lines}
    assert by_name["TPL"].after_yuan is None
    assert by_name["OCC"].before_yuan is None
    assert by_name["compulsory"].difference_yuan == 0
    assert by_name["VD"].difference_yuan == D("200.00")  # 2000 × (0.7 - 0.6)
    assert sum(line.difference_yuan for line in told.lines) == told.difference_yuan
    assert told.difference_yuan == told.after.total_yuan - told.before.total_yuan
    assert [f.name for f in told.factors] == ["ncd"]


def test_what_if_can_take_the_score_and_the_compulsory_cover_away() -> None:
    before = request_of(telematics=telematics("0.7"), compulsory=CLEAN_RECORD)
    told = what_if(before, Change(telematics=None, compulsory=None), book(), before.start)
    assert told.after.total_yuan == D("2000.00")
    assert {f.name for f in told.factors} == {"pricing", "pricing.telematics", "floating"}
    assert sum(line.difference_yuan for line in told.lines) == told.difference_yuan


def test_what_if_fewer_kilometres_moves_a_score_that_weighs_distance() -> None:
    score = telematics("1.00", mileage=weighs(20_000, "0.15"))
    before = request_of(telematics=score, km_per_year=20_000)
    told = what_if(before, Change(km_per_year=10_000), book(), before.start)
    assert at_distance(score, 10_000).relativity == D("0.901250")  # 0.5 ^ 0.15
    assert at_distance(score, 100) == replace(at_distance(score, 8000), mileage=weighs(100, "0.15"))
    assert told.difference_yuan < 0
    assert told.per_km_difference_yuan is not None
    assert told.per_km_difference_yuan < told.difference_yuan
    same = telematics("1.00")
    assert (
        what_if(replace(before, telematics=same), Change(km_per_year=10_000), book(), before.start).difference_yuan == 0
    )


def test_pay_per_km_worked_through() -> None:
    """2,000 yuan at 12,000 km: 1,200 base, 800 / 12,000 = 0.066667 a km; 1,300 lowest (0.65), 2,700 highest."""
    offer = priced(request_of(km_per_year=10_000, compulsory=CLEAN_RECORD)).per_km
    assert offer is not None
    assert (offer.reference_yuan, offer.base_yuan, offer.rate_yuan_per_km) == (2000, 1200, D("0.066667"))
    assert (offer.floor_yuan, offer.ceiling_yuan) == (1300, 2700)
    assert offer.deposit_yuan == D("1866.67")
    assert offer.total_yuan == D("2531.67")
    within, more, less = settle(offer, 10_150), settle(offer, 12_000), settle(offer, 0)
    assert within.due_yuan == 0
    assert "nothing changes" in within.reason.en
    assert more.billed_km == 11_800
    assert more.due_yuan == D("120.00")
    assert (less.billed_km, less.final_yuan, less.due_yuan) == (2000, D("1333.33"), D("-533.34"))
    far = settle(offer, 90_000)
    assert (far.billed_km, far.final_yuan, far.bounded) == (30_000, D("2700.00"), True)
    with pytest.raises(QuoteError):
        settle(offer, -1)


def test_pay_per_km_leaves_yearly_covers_yearly_and_is_absent_where_not_offered() -> None:
    covers = [choice("VD"), choice("SCRATCH", limit_yuan=D(2000))]
    told = priced(request_of(covers=covers, km_per_year=12_000))
    assert told.per_km is not None
    assert told.per_km.covers == ["VD"]
    assert told.per_km.other_yuan == told.lines[1].premium_yuan
    assert abs(told.per_km.total_yuan - told.total_yuan) <= D("0.01")
    assert priced(request_of()).per_km is None
    assert priced(in_2006(km_per_year=12_000)).per_km is None
    only = request_of(covers=[], history=None, compulsory=CLEAN_RECORD, km_per_year=12_000)
    assert priced(only).per_km is None


def test_a_score_that_weighs_distance_is_not_counted_twice_per_km() -> None:
    score = telematics("0.90", mileage=weighs(9000, "0.15"))
    near = priced(request_of(telematics=score, km_per_year=9000)).per_km
    far = priced(request_of(telematics=at_distance(score, 24_000), km_per_year=24_000)).per_km
    assert near is not None
    assert far is not None
    assert abs(near.rate_yuan_per_km - far.rate_yuan_per_km) <= D("0.000002")


def command(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "agent", "receiver", *arguments]
    return subprocess.run(line, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=60)


ASKED = msgspec.json.encode(request_of(history=NEW, telematics=telematics("0.8"), km_per_year=9000)).decode()


def test_the_command_quotes_a_file_and_the_input(tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    path.write_text(ASKED)
    from_file = command("quote", "--request", str(path), "--on", "2021-06-01", "--json")
    from_input = command("quote", "--request", "-", "--on", "2021-06-01", "--json", stdin=ASKED)
    assert from_file.returncode == 0, from_file.stderr
    assert from_file.stdout == from_input.stdout
    answer = json.loads(from_file.stdout)
    jsonschema.validate(answer, msgspec.json.schema(Quote))
    assert answer["total_yuan"] == "1760.00"
    told = command("quote", "--request", str(path), "--on", "2021-06-01").stdout
    assert "1760.00  CNY in all; 2000.00 without the score" in told
    assert "Not for sale" in told


def test_the_command_refuses_in_one_line_or_one_object(tmp_path: Path) -> None:
    wrong = ASKED.replace("SAMPLE-SEDAN", "SAMPLE-SEDN")
    told = command("quote", "--request", "-", "--on", "2021-06-01", stdin=wrong)
    assert told.returncode == 1
    assert told.stderr.startswith("roadwitness: quote: vehicle.model: SAMPLE-SEDN has no row in table 2020 VD")
    told = command("quote", "--request", "-", "--on", "2021-06-01", "--json", stdin=wrong)
    assert told.returncode == 1
    assert json.loads(told.stdout)["field"] == "vehicle.model"
    assert "SAMPLE-SEDAN" in json.loads(told.stdout)["known"]
    assert "no such" in command("quote", "--request", str(tmp_path / "none.json")).stderr.lower()
    assert "--on 'soon': write it like" in command("quote", "--request", "-", "--on", "soon", stdin=ASKED).stderr


def test_the_command_checks_and_shows_rate_tables(tmp_path: Path) -> None:
    good = command("regimes", "check", "--json")
    assert [r["regime"] for r in json.loads(good.stdout)["regimes"]] == ["2006", "2015", "2020"]
    assert "All tables are in order." in command("regimes", "check").stdout
    bad = command("regimes", "check", "--regimes", str(edited(tmp_path, "2020.toml", "cap_percent", "cap_precent")))
    assert bad.returncode == 1
    assert "unknown key 'cap_precent' (near names: cap_percent" in bad.stderr
    shown = command("regimes", "show", "2020")
    assert shown.stdout == (SHIPPED / "2020.toml").read_text(encoding="utf-8")
    assert json.loads(command("regimes", "show", "compulsory", "--json").stdout)["name"] == "compulsory"
    assert "near names: 2020" in command("regimes", "show", "2021").stderr


@pytest.mark.parametrize("year", [2201, 9999])
def test_a_year_that_no_calendar_of_ours_has_is_refused_by_field(year: int) -> None:
    with pytest.raises(QuoteError, match="start: must be 1990 to 2200") as refused:
        priced(request_of(start=date(year, 6, 1)))
    assert refused.value.field == "start"
