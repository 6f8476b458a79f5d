"""Rate files: strict to the row, changed without Python, and shipped in order."""

from datetime import date
from pathlib import Path

import pytest

from agent.errors import ConfigError
from receiver.pricing import load_book, schemas
from receiver.pricing.request import CoverChoice
from tests.pricing import SHIPPED, D, book, edited, factor, in_2006, priced, request_of

WRONG = [
    ("2020.toml", "quote_valid_days", "quote_valid_day", "unknown key 'quote_valid_day' (near names: quote_valid_days"),
    ("2020.toml", "percent = 25\n", "percnt = 25\n", "expense: unknown key 'percnt' (near names: percent"),
    (
        "2020.toml",
        "age_below = 1, premium = 1500",
        "age_bellow = 1, premium = 1500",
        "covers.VD.rows: row 1: unknown key",
    ),
    ("2020.toml", "percent = 25\n", "percent = 26\n", "expense: 26 % is beyond the cap 25 %"),
    ("2020.toml", "percent = 25\n", "percent = 'much'\n", "expense.percent"),
    ("2020.toml", "premium = 1500", "premium = nan", "is no number"),
    ("2020.toml", "premium = 1500", "premium = 99999999", "covers.VD: row 1: premium 99999999 is not believable"),
    ("2020.toml", "age_below = 1, premium = 1500", "age_below = 1, percent = 2", "covers.VD: row 1: has no 'premium'"),
    (
        "2020.toml",
        "age_from = 1, age_below = 2, premium = 1410",
        "age_from = 1.5, age_below = 2, premium = 1410",
        "covers.VD: row 2: age 18 to below 24 months leaves a gap after row 1 (0 to below 12 months)",
    ),
    (
        "2020.toml",
        "age_from = 1, age_below = 2, premium = 1410",
        "age_from = 0.5, age_below = 2, premium = 1410",
        "covers.VD: row 2: age 6 to below 24 months overlaps row 1 (0 to below 12 months)",
    ),
    (
        "2020.toml",
        "age_from = 1, age_below = 2, premium = 1410",
        "age_from = 2, age_below = 2, premium = 1410",
        "covers.VD: row 2: age 24 to below 24 holds nothing",
    ),
    (
        "2006.toml",
        "premium = 1026 },",
        "premium = 1026 },\n{ use_class = 'family', seats_below = 6, limit = 100_000, premium = 9 },",
        "covers.TPL: row 3: says again what row 2 says",
    ),
    (
        "2020.toml",
        '{ model = "SAMPLE-SEDAN", use_class = ["family", "company", "government"], energy = "fuel", age_below',
        '{ model = "SAMPLE-SEDAN", use_class = ["family", "company", "goverment"], energy = "fuel", age_below',
        "covers.VD: use_class 'goverment' is not in names.toml (near names: government)",
    ),
    (
        "2020.toml",
        "seats_from = 6, seats_below = 10, limit = 100_000",
        "seats_from = 7, seats_below = 10, limit = 100_000",
        "covers.TPL: row 15: seats 7 to below 10 leaves a gap after row 1",
    ),
    ("2020.toml", "limit = 100_000, premium", "limit = 110_000, premium", "a row has limit 110000, which is not among"),
    (
        "2020.toml",
        "low = 0.65, high = 1.35",
        "low = 1.65, high = 1.35",
        "own.pricing.bounds: row 1: low 1.65 and high 1.35",
    ),
    (
        "2020.toml",
        "starts = 2023-06-01",
        "starts = 2023-07-01",
        "own.pricing.bounds: row 2: *, fuel: leaves a gap after row 1 from 2023-06-01 to 2023-07-01",
    ),
    ("2020.toml", "starts = 2023-06-01", "starts = 2023-05-01", "overlaps row 1 from 2023-05-01"),
    ("2020.toml", 'energies = ["nev"]', 'energies = ["new"]', "'new' is not known (near names: nev"),
    (
        "2020.toml",
        "telematics = true",
        "telematics = false",
        "telematics: enters through exactly one own coefficient, not 0",
    ),
    ("2020.toml", "low = 0.80", "low = 1.10", "telematics: low and high must hold 1"),
    ("2020.toml", "level = 1, factor = 1.20", "level = 1, factor = 0.90", "more claims would cost less"),
    ("2020.toml", "level = 1, factor = 1.20", "level = 2, factor = 1.20", "ncd.levels: row 6: 2 does not follow 0"),
    ("2020.toml", "level_rule = {", "# level_rule = {", "level_rule: belongs to rows by level"),
    ("2020.toml", 'needs = ["VD"]', 'needs = ["VDD"]', "covers.SCRATCH: needs: 'VDD' is not known (near names: VD"),
    ("2020.toml", 'includes = ["THEFT"', 'includes = ["TPL"', "includes TPL, which is also offered alone"),
    ("2020.toml", 'sum = "chosen"', 'sum = "any"', "covers"),
    ("2020.toml", "[depreciation]", "[total]\nversion = '1'\nsource = ''\nverified = true\n[depreciation]", "[total]"),
    ("2020.toml", "minimum_km = 2_000", "minimum_km = 20_000", "per_km: minimum_km, reference_km and maximum_km"),
    ("2020.toml", 'covers = ["VD", "TPL", "OCC"]', 'covers = ["VD", "TPLL"]', "per_km: covers: 'TPLL' is not known"),
    ("2020.toml", "starts = 2020-09-19", "starts = 2020-10-19", "no regime in beijing from 2020-09-19 to 2020-10-19"),
    ("2020.toml", "starts = 2020-09-19", "starts = 2020-08-19", "overlaps regime 2015 in beijing from 2020-08-19"),
    ("2020.toml", 'name = "2020"', 'name = "2015"', "name '2015' is taken by"),
    (
        "2020.toml",
        'region = "shanghai"',
        'region = "shanghi"',
        "traffic: row 1: 'shanghi' is not known (near names: shanghai",
    ),
    ("2015.toml", "claims = 3, factor = 1.50", "claims = 3, factor = 1.20", "ncd.years (claims): row 3: factor 1.20"),
    ("2015.toml", "claim_free_years = 0, ", "", "ncd.years: row 1: is either for claim_free_years or for claims"),
    ("2015.toml", "[expense]", "[expence]", "unknown key 'expence' (near names: expense"),
    (
        "compulsory.toml",
        "seats_from = 6, premium = 1100",
        "seats_from = 5, premium = 1100",
        "base: row 2: seats 5 and more overlaps row 1 (0 to below 6)",
    ),
    ("compulsory.toml", '"hainan"', '"hunan"', "is already in zone A"),
    ("compulsory.toml", '"hainan", ', "", "no zone has hainan"),
    ("compulsory.toml", "A1 = -25", "A1 = -65", "more accidents would cost less"),
    (
        "compulsory.toml",
        "starts = 2020-09-19T00:00:00+08:00",
        "starts = 2020-09-20T00:00:00+08:00",
        "a gap or an overlap",
    ),
    ("compulsory.toml", "starts = 2008-02-01T00:00:00+08:00", "starts = 2008-02-01T00:00:00", "needs its offset"),
    ("2015.toml", "primary = 15, full = 20", "primary = 15, full = 12", "deductible.by_fault: row 1: percentages"),
    ("2015.toml", "rest_percent = 20", "rest_percent = 120", "depreciation: row 1: percentages"),
    ("2006.toml", '"special_4"]', '"special_5"]', "deductible.by_fault: row 3: 'special_5' is not known"),
    ("2015.toml", '"not_floating"]', '"floating"]', "ncd: neutral: 'floating' is not known (near names: not_floating"),
    ("names.toml", "[regions]", "[region]", "unknown key 'region' (near names: regions"),
    ("names.toml", "[regions]", "[regions", "not valid TOML"),
]


@pytest.mark.parametrize(("name", "old", "new", "said"), WRONG)
def test_a_slip_is_found_with_its_file_table_and_row(tmp_path: Path, name: str, old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_book(edited(tmp_path, name, old, new))
    assert said in str(refused.value)
    assert "regimes" in str(refused.value)
    assert ".toml" in str(refused.value)


def test_a_rate_is_changed_by_its_line_alone(tmp_path: Path) -> None:
    covers = [CoverChoice(cover="TPL", limit_yuan=D(300_000))]
    assert priced(in_2006(covers=covers)).total_yuan == 1434
    folder = edited(tmp_path, "2006.toml", "limit = 300_000, premium = 1434", "limit = 300_000, premium = 1500.50")
    folder = edited(tmp_path, "2006.toml", 'version = "deck.1"', 'version = "deck.2"')
    told = priced(in_2006(covers=covers), load_book(folder))
    assert told.total_yuan == D("1500.50")
    assert told.lines[0].version == "deck.2"


def test_a_regions_own_bounds_come_before_those_of_all(tmp_path: Path) -> None:
    row = '  { regions = ["shandong"], energies = ["fuel"], starts = 2022-01-01, low = 0.40, high = 1.60 },\n'
    own = 'energies = ["nev"], starts = 2020-09-19, low = 0.65, high = 1.35 },\n'
    folder = edited(tmp_path, "2020.toml", own, own + row)
    changed = load_book(folder)
    for region, day, low in (
        ("shandong", date(2021, 6, 1), "0.65"),
        ("shandong", date(2022, 6, 1), "0.40"),
        ("henan", date(2022, 6, 1), "0.65"),
    ):
        assert factor(priced(request_of(region=region, start=day), changed), "pricing").low == D(low)


def test_a_new_regime_is_a_new_file(tmp_path: Path) -> None:
    folder = edited(tmp_path, "2020.toml", "starts = 2020-09-19\n", "starts = 2020-09-19\nends = 2028-01-01\n")
    text = (folder / "2020.toml").read_text(encoding="utf-8").replace('name = "2020"', 'name = "2028"')
    text = text.replace("starts = 2020-09-19\nends = 2028-01-01\n", "starts = 2028-01-01\n")
    (folder / "2028.toml").write_text(text, encoding="utf-8")
    changed = load_book(folder)
    assert priced(request_of(start=date(2027, 12, 31)), changed).regime == "2020"
    assert priced(request_of(start=date(2028, 1, 1)), changed).regime == "2028"


def test_missing_folders_and_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"names\.toml: no such file"):
        load_book(tmp_path)
    copy = edited(tmp_path, "names.toml", "zh", "zh")
    for name in ("2006", "2015", "2020"):
        (copy / f"{name}.toml").unlink()
    with pytest.raises(ConfigError, match="holds no regime"):
        load_book(copy)


def test_every_shipped_table_has_a_source_and_none_claims_more_than_it_knows() -> None:
    text = "\n".join(p.read_text(encoding="utf-8") for p in sorted(SHIPPED.glob("*.toml")))
    for line in text.splitlines():
        if '"from memory' in line or '"sample' in line:
            assert "verified = true" not in line, line
    tables = [
        table
        for rates in book().regimes.values()
        for table in (
            rates.regime.ncd,
            rates.regime.liability,
            rates.regime.deductible,
            *(o.own for o in rates.own.values()),
            *(c.cover for c in rates.covers.values()),
        )
    ]
    assert all(t.source and t.version for t in tables)
    assert not [t for t in tables if t.verified and t.source.startswith(("from memory", "sample"))]
    for rates in book().regimes.values():
        for own in rates.own.values():
            assert all(row.verified is False for row in own.own.filed)


def test_the_compulsory_zones_are_the_36_units() -> None:
    zones = book().compulsory.law.floating[-1].zones
    assert [len(z.regions) for z in zones] == [4, 3, 5, 4, 20]
    assert len(book().names.regions) == 36


def test_the_base_share_of_pay_per_km_is_the_line_through_the_norwegian_frequencies() -> None:
    # claims a year by yearly distance limit, docs/sources.md P6; 25–30 thousand taken as 27.5
    points = [(8.0, 0.046), (12.0, 0.052), (16.0, 0.058), (20.0, 0.071), (27.5, 0.079)]
    mean_km = sum(km for km, _ in points) / len(points)
    mean = sum(f for _, f in points) / len(points)
    slope = sum((km - mean_km) * (f - mean) for km, f in points) / sum((km - mean_km) ** 2 for km, _ in points)
    at_0, at_12 = mean - slope * mean_km, mean + slope * (12 - mean_km)
    assert round(at_0 / at_12, 3) == 0.595
    per_km = book().regimes["2020"].regime.per_km
    assert per_km is not None
    assert per_km.base_percent == 60


def test_the_schemas_in_docs_are_those_of_the_types() -> None:
    folder = SHIPPED.parents[1] / "docs" / "schemas" / "pricing"
    kept = {p.name: p.read_text(encoding="utf-8") for p in folder.iterdir()}
    assert kept == schemas.schemas(), "run: python -m receiver.pricing.schemas docs/schemas/pricing"
