"""The technician's pages in a real Chromium: width, names, contrast, keyboard, nothing from elsewhere."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from agent import clock
from receiver import serve
from receiver.registry import bindings
from tests import test_pages_browser
from tests.pages import Desk, S, browsing, clock_at, open_desk, readable
from tests.registering import OTHER_VIN, bound, car, registered
from tests.syncing import ListSource
from tests.test_owner_browser import COLOURS
from tests.test_pages_browser import OVERFLOW, contrast, keys
from tests.test_technician import happened, said

driver = test_pages_browser.driver
VIN = "WVWZZZ1JZXW000012"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, dict[str, str], str]]:
    """A box in another car than bound, one in none with a code that waits for it, and one that waits for enrolment."""
    desk = open_desk(tmp_path_factory.mktemp("technician"))
    one, free, now = desk.enrol(1), desk.enrol(2), clock.wall_ns()
    bound(desk.engine, one.device, now_ns=now - 86_400 * S)
    facts = [
        said("canbus:can0:vin", "ok", "read", facts={"vin": OTHER_VIN}),
        said("camera:front", "lost", "no picture", counts={"frames": 3}),
    ]
    desk.send(one, [clock_at(now - 3600 * S), *facts, happened("power_lost")], at=now)
    registered(desk.engine, car("K-2", VIN))
    with desk.engine.begin() as connection:
        code = bindings.offer(connection, VIN, now)
    desk.greet(ListSource(9), now)
    names = {"one": one.device, "free": free.device, "code": code}
    with ExitStack() as stack:
        stack.callback(desk.engine.dispose)
        yield desk, names, serve.serve_in_thread(desk.engine, "127.0.0.1:0", stack).rstrip("/")


@pytest.fixture
def show(driver: Any, site: tuple[Desk, dict[str, str], str]) -> Iterator[Any]:
    """Give a function that opens a page; afterwards nothing was logged but refusals, and nothing else was asked."""
    desk, names, base = site
    with browsing(driver, base, desk.engine, names, "technician", refusals=True) as go:
        yield go


@pytest.mark.parametrize("path", ["/devices?show=all&", "/devices/{one}?", "/devices/{one}/service?", "/bindings?"])
def test_a_page_fits_every_screen_and_everything_in_it_has_a_name_and_can_be_read(show: Any, path: str) -> None:
    for lang, width, scheme in (("en", 1280, "light"), ("zh", 360, "dark")):
        page = show(f"{path}lang={lang}", width, scheme)
        page.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
        assert page.execute_script(OVERFLOW) == 0, (lang, width)
        readable(page)
        assert page.execute_script("return document.querySelectorAll('[style], style').length") == 0
        for what, front, back in page.execute_script(COLOURS):
            assert contrast(front, back) >= 4.5, (what, scheme)


def test_a_box_is_bound_by_keyboard_after_a_wrong_code_was_told_where_it_is(
    show: Any, site: tuple[Desk, dict[str, str], str]
) -> None:
    desk, names, _ = site
    page = show("/bindings?device={free}&lang=en", 390)
    page.find_element("css selector", "#f-vin").click()
    keys(page, VIN, "TAB", "WRONGONE", "ENTER")
    test_pages_browser.until(lambda: bool(page.find_elements("css selector", "#f-code-wrong")), "it was told")
    field = page.find_element("css selector", "#f-code")
    assert field.get_attribute("aria-invalid") == "true"
    assert field.get_attribute("aria-describedby") == "f-code-wrong"
    field.click()
    keys(page, names["code"], "ENTER")
    test_pages_browser.until(lambda: f"q={names['free']}" in page.current_url, "it was bound")
    with desk.engine.connect() as connection:
        assert bindings.device_of(connection, VIN) == names["free"]
