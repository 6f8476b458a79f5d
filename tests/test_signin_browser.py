"""Signing in, in a real Chromium: from the link to the second factor, by keyboard, wide and on a phone."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pyotp
import pytest

from agent.clock import NS_PER_S, wall_ns
from receiver import serve
from receiver.people import accounts, invites, tables
from receiver.texts import text
from tests import test_pages_browser
from tests.pages import Desk, open_desk, readable
from tests.syncing import until
from tests.test_pages_browser import OVERFLOW, contrast, keys

driver = test_pages_browser.driver
COLOURS = """
const two = (v) => Number(v).toString(16).padStart(2, "0");
const hex = (c) => "#" + c.match(/[\\d.]+/g).slice(0, 3).map(two).join("");
const of = (s, p) => hex(getComputedStyle(document.querySelector(s))[p]);
return [[".button.first", ".button.first"], ["label", ".door"], [".note", ".door"]].map(
  ([front, back]) => [of(front, "color"), of(back, "backgroundColor")]);
"""
PASSWORD = "a cup of tea at 4"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, str]]:
    desk = open_desk(tmp_path_factory.mktemp("door"))
    with ExitStack() as stack:
        stack.callback(desk.engine.dispose)
        yield desk, serve.serve_in_thread(desk.engine, "127.0.0.1:0", stack).rstrip("/")


def link(desk: Desk, name: str, purpose: str = invites.FIRST) -> str:
    with desk.engine.begin() as connection:
        person = accounts.find(connection, name) or accounts.add(connection, name, "adjuster", wall_ns())
        return f"/enter/{invites.make(connection, person.id, purpose, wall_ns())}"


def fitting(page: Any) -> None:
    """Assert that the page stands in its window, can be read by all, and has nothing of the cookie for scripts."""
    assert page.execute_script(OVERFLOW) == 0
    readable(page)
    assert "session" not in page.execute_script("return document.cookie")


def heading(page: Any) -> str:
    return str(page.execute_script("return document.querySelector('h1').textContent"))


@pytest.mark.parametrize(("lang", "width", "scheme"), [("en", 1440, "light"), ("zh", 360, "dark")])
def test_an_adjuster_begins_and_comes_again(
    driver: Any, site: tuple[Desk, str], lang: str, width: int, scheme: str
) -> None:
    desk, base = site
    words = text(lang)
    driver.get("about:blank")
    driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    name = f"li.wei.{lang}"
    driver.get(f"{base}{link(desk, name)}?lang={lang}")
    fitting(driver)
    keys(driver, "short", "TAB", "short", "ENTER")  # the first field has the focus
    until(lambda: bool(driver.find_elements("css selector", "[aria-invalid]")), "what is wrong was told")
    fitting(driver)
    keys(driver, PASSWORD, "TAB", PASSWORD, "ENTER")
    until(lambda: heading(driver) == words("door.enrol"), "the second factor was asked for")
    fitting(driver)
    box = driver.find_element("css selector", ".qr").size
    assert box["width"] == box["height"] >= 180
    secret = driver.find_element("css selector", ".qr-box code").text.replace(" ", "")
    code = pyotp.TOTP(secret)
    driver.execute_script("document.querySelector('#code').focus()")
    keys(driver, code.at(wall_ns() // NS_PER_S), "ENTER")
    until(lambda: heading(driver) == words("door.codes"), "recovery codes were shown")
    fitting(driver)
    recovery = driver.find_element("css selector", ".codes code").text
    driver.get(f"{base}/account")
    fitting(driver)
    driver.find_element("css selector", "form[action='/sign-out'] button").click()
    until(lambda: heading(driver) == words("menu.sign_in"), "it was signed out")
    fitting(driver)
    keys(driver, name, "TAB", "not the password", "ENTER")
    until(lambda: bool(driver.find_elements("css selector", ".alert")), "the refusal was told")
    fitting(driver)
    found = driver.execute_script(COLOURS)
    assert all(contrast(front, back) >= 4.5 for front, back in found)
    keys(driver, PASSWORD, "ENTER")
    until(lambda: heading(driver) == words("door.factor"), "the code was asked for")
    fitting(driver)
    keys(driver, recovery, "ENTER")
    until(lambda: bool(driver.find_elements("css selector", ".who")), "somebody was signed in")
    driver.get(f"{base}/sign-in?next=/account")
    until(lambda: heading(driver) == words("menu.account"), "who is signed in goes on")
    assert driver.execute_script("return document.querySelectorAll('.seats li').length") == 1


def test_a_link_signs_in_by_its_button_only_and_the_page_says_all_without_scripts(
    driver: Any, site: tuple[Desk, str]
) -> None:
    desk, base = site
    driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        once = base + link(desk, "demo", invites.ENTER)
        for _ in range(2):  # a mail scanner looks first
            driver.get(once)
        driver.find_element("css selector", ".door button").click()
        until(lambda: bool(driver.find_elements("css selector", ".who")), "somebody was signed in")
        driver.get(once)
        assert driver.find_elements("css selector", ".problem")
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    with desk.engine.connect() as connection:
        left = connection.execute(tables.invite.select().where(tables.invite.c.purpose == invites.ENTER)).all()
    assert left == []
