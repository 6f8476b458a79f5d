"""Figures: T-KPI-1, vehicle-years, and definitions in both languages."""

import re
from datetime import date, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.figures import kpi
from receiver.policies import Policy
from tests.test_renewals import policy

START = date(2026, 1, 1)


def year(name: str = "P", car: str = "A", starts: date = START, days: int = 365) -> Policy:
    return policy(name, car, starts + timedelta(days - 1), days)


def test_t_kpi_1_matured_ratio_is_50_percent() -> None:
    # T-KPI-1
    matured = kpi.matured_premium(year(), START + timedelta(73))
    assert matured == Decimal("730.00")
    assert str(kpi.loss_ratio(matured, Decimal(300 + 65), 1).value) == "50.00"
    assert kpi.loss_ratio(Decimal(0), Decimal(1), 1).value is None


@settings(max_examples=100, deadline=None)
@given(st.integers(-400, 800), st.integers(0, 400))
def test_premium_matures_once_and_never_back(elapsed: int, more: int) -> None:
    early, late = (kpi.matured_premium(year(), START + timedelta(n)) for n in (elapsed, elapsed + more))
    assert 0 <= early <= late <= Decimal(3650)


def test_two_policies_of_one_car_at_once_are_one_vehicle_year() -> None:
    last = START + timedelta(364)
    both = [year("P"), year("Q"), year("R", starts=START + timedelta(200))]
    assert kpi.frequency(2, both, START, last)[1:4] == (Decimal("2.0000"), 2, Decimal("1.00"))
    cars = [year("P"), year("Q", "B", days=183)]
    assert kpi.frequency(1, cars, START, last).of == Decimal("1.50")
    assert kpi.frequency(1, [], START, last).value is None


def test_every_figure_is_defined_in_both_languages() -> None:
    for name, d in kpi.definitions().items():
        assert d.unit in ("per_year", "percent", "h", "s", "yuan")
        assert d.en
        assert re.search(r"[一-鿿]", d.zh + d.meaning_zh)
        assert all("{" not in kpi.meaning(name, language) for language in ("en", "zh"))
