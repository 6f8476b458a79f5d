"""The adjusters' pages in a real Chromium: widths, names, contrast, deciding by keyboard, the printed sheet."""

from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import pytest

from receiver import disputes, serve
from receiver.claiming import reporting
from tests import test_pages_browser
from tests.adjusting import T0, Adjusting
from tests.pages import OWNER, S, browsing, readable
from tests.syncing import until
from tests.test_owner_browser import COLOURS
from tests.test_pages_browser import OVERFLOW, contrast, keys

driver = test_pages_browser.driver
SHOWN = "return [...document.querySelectorAll(arguments[0])].filter((e) => e.checkVisibility()).length"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Adjusting, str, dict[str, str]]]:
    desk = Adjusting(tmp_path_factory.mktemp("adjuster"))
    reporting.add_loss(desk.engine, desk.claim, "vehicle", Decimal(8600), "adjuster-1", T0 + 5000 * S)
    disputes.dispute_flag(desk.engine, desk.claim, "place_mismatch", OWNER, "地图不准。" * 20, T0 + 6000 * S)
    event = desk.disputed_event(9, "A child ran into the road.")
    names = {"claim": desk.claim, "event": str(event)}
    with ExitStack() as stack:
        stack.callback(desk.close)
        yield desk, serve.serve_in_thread(desk.engine, "127.0.0.1:0", stack, desk.files).rstrip("/"), names


@pytest.fixture
def show(driver: Any, site: tuple[Adjusting, str, dict[str, str]]) -> Iterator[Any]:
    """Give a function that opens a page as an adjuster; afterwards nothing was logged and nothing else was asked."""
    desk, base, names = site
    with browsing(driver, base, desk.engine, names, "adjuster") as go:
        yield go


@pytest.mark.parametrize("path", ["/claims", "/claims/{claim}", "/disputes", "/disputes/{event}"])
def test_pages_fit_a_phone_in_both_languages_and_name_everything(show: Any, path: str) -> None:
    for lang in ("zh", "en"):
        page = show(f"{path}?lang={lang}", 360)
        page.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert page.execute_script(OVERFLOW) == 0, lang
    readable(page)
    assert show(path, 1440).execute_script(OVERFLOW) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_forms_and_flags_can_be_read(show: Any, scheme: str) -> None:
    found = show("/claims/{claim}", 1440, scheme).execute_script(COLOURS)
    assert len(found) >= 5
    for selector, colour, ground in found:
        assert contrast(colour, ground) >= 4.5, (selector, colour, ground)


def test_a_claim_is_assessed_by_keyboard_alone(show: Any, site: tuple[Adjusting, str, dict[str, str]]) -> None:
    page = show("/claims/{claim}?lang=en", 1440)
    page.execute_script("document.querySelector('#f-assess-fault').focus()")
    keys(page, "END", "TAB", "TAB", "TAB")
    keys(page, *"Seen.", "TAB", "ENTER")
    until(lambda: "#money" in page.current_url, "it was assessed")
    assert "Vehicle damage: own car" in page.find_element("css selector", "main").text


def test_the_printed_sheet_has_every_check_and_no_form(show: Any) -> None:
    page = show("/claims/{claim}?lang=en", 794, media="print")
    for gone in ("form", "button", "video", "nav", "input:not([type=hidden])"):
        assert page.execute_script(SHOWN, gone) == 0, gone
    assert page.execute_script(SHOWN, ".checks > li") == 11
    assert page.execute_script(SHOWN, ".print-only") == 1
    assert page.execute_script(OVERFLOW) == 0
