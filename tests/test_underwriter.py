"""The underwriter's pages: portfolio, quotes, tariffs, backtest, renewals, figures; without a place in any of them."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from markupsafe import escape

from receiver import policies
from receiver.claiming.assessing import local_day
from receiver.policies import Policy
from receiver.pricing import load_book
from receiver.rating import batch
from receiver.registry import consents
from receiver.scoring.model import model
from receiver.texts import LANGUAGES
from tests.pages import NOW, OWNER, SPEEDING, Desk, S, braking, client, clock_at, drive, open_desk, own
from tests.syncing import ListSource

DAY = 86_400 * S
PAGES = ("/portfolio", "/quotes", "/regimes", "/regimes/2020", "/backtest", "/renewals", "/figures")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, ListSource]]:
    """One car, scored in October under two models, with a policy that ends in 40 days."""
    made = open_desk(tmp_path_factory.mktemp("underwriter"))
    source = made.enrol()
    records: list[Any] = [clock_at(NOW - 60 * DAY)]
    for day in range(30):
        at = (day * 86_400 + 3600) * S
        records += drive(at, 900, events=[braking(at + 300 * S), braking(at + 500 * S, **SPEEDING)])
    made.send(source, records)
    own(made.engine)
    for purpose in ("recording", "scoring"):
        consents.give(made.engine, source.device, purpose, NOW - 61 * DAY, by=OWNER)
    for name in ("relativity/2", "tesla/1"):
        batch.score_all(made.engine, "2026-10", model(name), NOW)
    today = local_day(NOW)
    span = (today - timedelta(324), today + timedelta(40))
    with made.engine.begin() as connection:
        policies.put(connection, Policy("P-1", "", "鲁A12345", "2020", *span))
    yield made, source
    made.engine.dispose()


def page(desk: tuple[Desk, ListSource], path: str, status: int = 200, role: str = "underwriter") -> str:
    answer = client(desk[0].engine, role).get(path)
    assert answer.status_code == status, path
    return str(answer.text)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_there_in_both_languages_and_names_no_place(
    desk: tuple[Desk, ListSource], path: str, lang: str
) -> None:
    said = page(desk, f"{path}?lang={lang}")
    assert 'lang="zh-CN"' in said if lang == "zh" else 'lang="en"' in said
    assert not re.search(r"\b(31|121)\.\d{2,}", said)  # where the car drove: 31.23, 121.47
    assert "/trips/" not in said


@pytest.mark.parametrize("role", ["owner", "adjuster", "technician"])
def test_nobody_else_sees_the_portfolio(desk: tuple[Desk, ListSource], role: str) -> None:
    for path in ("/portfolio", "/backtest", "/regimes", "/renewals", "/figures", "/renewals/due.csv"):
        page(desk, path, 403, role)


def test_the_portfolio_shows_the_last_month_that_is_kept_and_each_car_of_it(desk: tuple[Desk, ListSource]) -> None:
    said = page(desk, "/portfolio")
    assert '<option value="2026-10" selected>Oct 2026</option>' in said
    assert f'href="/score/{desk[1].device}?model=relativity%2F2"' in said or f"/score/{desk[1].device}?model=" in said
    none = page(desk, "/portfolio?month=2026-09")
    assert "No scores are kept of this month" in none
    assert "roadwitness receiver rate --period 2026-09" in none


@pytest.mark.parametrize(
    "path",
    [
        "/portfolio?month=2026-13",
        "/portfolio?month=x",
        "/portfolio?model=none/1",
        "/backtest?beside=no",
        "/regimes/1999",
    ],
)
def test_what_there_is_not_is_404(desk: tuple[Desk, ListSource], path: str) -> None:
    page(desk, path, 404)


def test_a_score_opens_for_the_underwriter_without_the_way_to_trips(desk: tuple[Desk, ListSource]) -> None:
    said = page(desk, f"/score/{desk[1].device}")
    assert "/trips/" not in said
    assert "/events" not in said


def test_a_backtest_puts_two_models_side_by_side_and_says_what_lacks(desk: tuple[Desk, ListSource]) -> None:
    said = page(desk, "/backtest?beside=tesla/1")
    assert "Who moves most" in said
    assert desk[1].device in said
    lacking = page(desk, "/backtest?beside=relativity/1")
    assert "Nothing is kept of this month under relativity/1" in lacking
    assert "rate --period 2026-10 --model relativity/1" in lacking


def test_a_tariff_is_shown_whole_row_by_row(desk: tuple[Desk, ListSource]) -> None:
    for name, rates in load_book().regimes.items():
        said = page(desk, f"/regimes/{name}")
        rows = sum(len(c.cover.rows) for c in rates.covers.values())
        assert said.count("<tr>") >= rows
        for cover in rates.covers.values():
            assert str(escape(cover.cover.source)) in said


def test_the_due_list_is_a_table_and_a_calendar_too_and_is_logged(desk: tuple[Desk, ListSource]) -> None:
    assert "P-1" in page(desk, "/renewals")
    asking = client(desk[0].engine, "underwriter")
    table = asking.get("/renewals/due.csv")
    assert table.headers["content-type"].startswith("text/csv")
    assert table.headers["content-disposition"] == 'attachment; filename="renewals.csv"'
    assert table.text.splitlines()[1].startswith("P-1,")
    calendar = asking.get("/renewals/due.ics?schedule=V1&lang=zh")
    assert calendar.text.startswith("BEGIN:VCALENDAR")
    assert asking.get("/renewals?schedule=V9").status_code == 404
    from receiver import access

    assert access.verify(desk[0].engine).broken is None


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("from=x", "write a day"),
        ("from=2026-11-02&to=2026-11-01", "after the last day"),
        ("from=0001-01-01", "write a"),
    ],
)
def test_days_that_cannot_be_used_are_told_beside_their_field(
    desk: tuple[Desk, ListSource], query: str, said: str
) -> None:
    told = page(desk, f"/figures?{query}", 422)
    assert said in told
    assert 'aria-invalid="true"' in told


def test_figures_say_what_they_mean_and_on_how_many_cases_they_rest(desk: tuple[Desk, ListSource]) -> None:
    told = page(desk, "/figures?from=2026-01-01&to=2026-11-18")
    assert "Claim frequency" in told
    assert "insured vehicle-years" in told
