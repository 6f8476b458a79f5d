"""The owner's pages in a real Chromium: width, names, keyboard, contrast, nothing from elsewhere."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from sqlalchemy import update

from agent import clock
from receiver import policies, serve
from receiver.claiming import assessing, reporting
from receiver.claiming.facts import limits
from receiver.claiming.reporting import Declared
from receiver.policies import Cover, Policy
from receiver.registry import consents, tables
from tests import test_pages_browser
from tests.pages import OWNER, SPEEDING, Desk, S, braking, browsing, clock_at, drive, open_desk, own, readable
from tests.syncing import ListSource
from tests.test_owner_price import CAR
from tests.test_pages_browser import OVERFLOW, contrast, keys

driver = test_pages_browser.driver
DAY = 86_400 * S
# of text in forms, badges and drawings against what it stands on
COLOURS = """
const two = (v) => Number(v).toString(16).padStart(2, "0");
const hex = (c) => "#" + c.match(/[\\d.]+/g).slice(0, 3).map(two).join("");
const under = (e) => { for (; e; e = e.parentElement) { const b = getComputedStyle(e).backgroundColor;
  if (!/, 0\\)$/.test(b) && b !== "transparent") return hex(b); } return "#ffffff"; };
const of = (s, p) => { const e = document.querySelector(s); return e && [s, hex(getComputedStyle(e)[p]), under(e)]; };
return [of(".button.first", "color"), of(".button", "color"), of(".hint", "color"), of(".wrong", "color"),
  of(".badge", "color"), of(".form label", "color"), of(".note", "color"), of(".course text", "fill")].filter(Boolean);
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, ListSource, str, dict[str, str]]]:
    """An owner's car with two months of driving, a policy, consents and a claim, and what the addresses need."""
    desk = open_desk(tmp_path_factory.mktemp("owner"))
    source, now = desk.enrol(), clock.wall_ns()
    records: list[Any] = [clock_at(now - 70 * DAY)]
    for day in range(0, 60, 2):
        at = (day * 86_400 + 3600) * S
        records += drive(at, 900, events=[braking(at + 300 * S), braking(at + 500 * S, **SPEEDING)])
    desk.send(source, records, at=now)
    own(desk.engine)
    today = assessing.local_day(now)
    with desk.engine.begin() as connection:
        connection.execute(update(tables.vehicle).values(energy="fuel", plate="冀A12345"))
        covers = (Cover("VD", 12_000_000), Cover("TPL", 100_000_000), Cover("SCRATCH", 500_000))
        span = (today - timedelta(330), today + timedelta(34))
        policies.put(connection, Policy("P1", "", "冀A12345", "2015", *span, covers=covers, owner=OWNER))
    for purpose in ("recording", "scoring"):
        consents.give(desk.engine, source.device, purpose, now - 71 * DAY, by=OWNER)
    claim = reporting.report(desk.engine, Declared(source.device, now - DAY, OWNER, "刮擦"), now, limits())
    assessing.check(desk.engine, claim, now)
    asked = {
        **CAR,
        "vehicle.new_price_yuan": "200000",
        "start": (today + timedelta(35)).isoformat(),
        "device": source.device,
    }
    names = {
        "d": source.device,
        "claim": claim,
        "good": urlencode(asked, doseq=True),
        "bad": urlencode({**asked, "km_per_year": "viel"}, doseq=True),
    }
    with ExitStack() as stack:
        stack.callback(desk.engine.dispose)
        yield desk, source, serve.serve_in_thread(desk.engine, "127.0.0.1:0", stack).rstrip("/"), names


@pytest.fixture
def show(driver: Any, site: tuple[Desk, ListSource, str, dict[str, str]]) -> Iterator[Any]:
    """Give a function that opens a page; afterwards nothing was logged but refusals, and nothing else was asked."""
    desk, _, base, names = site
    with browsing(driver, base, desk.engine, names, "owner", refusals=True) as go:
        yield go


PAGES = [
    "/score/{d}?beside=tesla/1&",
    "/quote?{good}&",
    "/quote?{bad}&",
    "/policies?",
    "/claims?",
    "/claims/{claim}?",
    "/claims/report?",
    "/consent?",
    "/vehicles/{d}/events/1/dispute?",
]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_every_screen_and_everything_in_it_has_a_name_and_can_be_read(show: Any, path: str) -> None:
    for lang, width, scheme in (("en", 1440, "light"), ("zh", 360, "dark")):
        page = show(f"{path}lang={lang}", width, scheme)
        page.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
        assert page.execute_script(OVERFLOW) == 0, (lang, width)
        readable(page)
        unlabelled = page.execute_script("""
          return [...document.querySelectorAll("input:not([type=hidden]), select, textarea")]
            .filter((e) => !(e.labels && e.labels.length) && !e.getAttribute("aria-label")).map((e) => e.outerHTML)""")
        assert unlabelled == []
        assert page.execute_script("return document.querySelectorAll('[style], style').length") == 0
        for what, front, back in page.execute_script(COLOURS):
            assert contrast(front, back) >= 4.5, (what, scheme)


def test_a_price_is_asked_for_by_keyboard_and_a_wrong_number_is_told_where_it_is(show: Any) -> None:
    page = show("/quote?{good}&lang=en", 1440)
    before = page.find_element("css selector", ".price.first .amount").text
    field = page.find_element("css selector", "[name=km_per_year]")
    field.clear()
    field.click()
    keys(page, "viel", "ENTER")
    test_pages_browser.until(lambda: bool(page.find_elements("css selector", "#f-km-per-year-wrong")), "it was told")
    field = page.find_element("css selector", "[name=km_per_year]")
    assert field.get_attribute("aria-invalid") == "true"
    assert field.get_attribute("aria-describedby") == "f-km-per-year-wrong"
    field.clear()
    field.click()
    keys(page, "20000", "ENTER")
    test_pages_browser.until(lambda: bool(page.find_elements("css selector", "#changes")), "what changed was told")
    assert page.find_element("css selector", ".price.first .amount").text == before  # distance moves the other price
    assert "20,000" in page.find_element("css selector", "[aria-labelledby=p-km]").text


def test_a_consent_is_given_in_a_browser_with_its_origin_and_token(
    show: Any, site: tuple[Desk, ListSource, str, dict[str, str]]
) -> None:
    desk, source, _, _ = site
    page = show("/consent?lang=en", 390)
    button = page.find_element("css selector", f"#{source.device}-video button.first")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    test_pages_browser.until(
        lambda: bool(page.find_elements("css selector", f"#{source.device}-video.given")), "the consent was written"
    )
    with desk.engine.connect() as connection:
        assert consents.standing(connection, source.device)["video"].given
