"""The pages in a real Chromium: no errors, no request to anywhere else, keyboard, phone width, refresh, contrast."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from receiver import serve, web
from tests.pages import NOW, SPEEDING, Desk, S, braking, clock_at, drive, enter, open_desk, readable
from tests.syncing import ListSource, until

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --disable-default-apps"
)
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
COLOURS = """
const names = ["paper", "panel", "ink", "soft", "accent", "good", "fair", "poor", "minor", "moderate", "severe",
  "on-sign", "land", "v0", "v1", "v2", "v3", "v4", "v5", "vx", "lon", "lat"];
const style = getComputedStyle(document.documentElement);
return Object.fromEntries(names.map((n) => [n, style.getPropertyValue("--" + n).trim()]));
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, ListSource, str]]:
    desk = open_desk(tmp_path_factory.mktemp("browser"))
    source = desk.enrol()
    events = [braking(300 * S), braking(400 * S, confirmed=False, sources=["gnss"]), braking(500 * S, **SPEEDING)]
    desk.send(source, [clock_at(NOW - 86400 * S), *drive(events=events)])
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(web, "create_app", partial(web.create_app, refresh_s=0.3))
        stack.callback(desk.engine.dispose)
        yield desk, source, serve.serve_in_thread(desk.engine, "127.0.0.1:0", stack).rstrip("/")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    for program, package in ((CHROMIUM, "chromium"), (DRIVER, "chromium-driver")):
        if not program.exists():
            pytest.skip(f"Debian package {package} is not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(CHROMIUM)
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.add_argument("--lang=en-US")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield browser
    browser.quit()


@pytest.fixture
def show(driver: Any, site: tuple[Desk, ListSource, str]) -> Iterator[Any]:
    """Give a function that opens a path as the owner; afterwards nothing was logged and nothing else was asked."""
    desk, source, base = site
    driver.get("about:blank")
    driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    enter(driver, base, desk.engine)
    for kind in ("browser", "performance"):
        driver.get_log(kind)

    def go(path: str, width: int = 1440, scheme: str = "light") -> Any:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        driver.get(base + path.format(d=source.device))
        return driver

    yield go
    assert [line["message"] for line in driver.get_log("browser")] == []
    asked = [json.loads(line["message"])["message"] for line in driver.get_log("performance")]
    addresses = [m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"]
    assert addresses
    assert {urlsplit(a).hostname for a in addresses if not a.startswith(("data:", "about:"))} == {"127.0.0.1"}


def keys(driver: Any, *names: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    chain = ActionChains(driver)
    for name in names:
        chain.send_keys(getattr(Keys, name, name))
    chain.perform()


PAGES = ["/", "/vehicles/{d}", "/vehicles/{d}/trips/1", "/vehicles/{d}/events", "/vehicles/{d}/trips/99"]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("path", PAGES[:4])
def test_no_page_is_wider_than_the_smallest_phone(show: Any, path: str, lang: str) -> None:
    for width in (360, 768, 1440):
        page = show(f"{path}?lang={lang}", width)
        assert page.execute_script(OVERFLOW) == 0, width
    page = show(f"{path}?lang={lang}", 360)
    for details in page.find_elements("css selector", "details"):
        page.execute_script("arguments[0].open = true", details)
    assert page.execute_script(OVERFLOW) == 0


@pytest.mark.parametrize("path", PAGES[:4])
def test_headings_descend_and_every_drawing_and_control_has_a_name(show: Any, path: str) -> None:
    page = show(path)
    readable(page)


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_a_contrast_of_4_5_and_lines_of_3(show: Any, scheme: str) -> None:
    colour = show("/", scheme=scheme).execute_script(COLOURS)
    assert all(re.fullmatch("#[0-9a-f]{6}", c) for c in colour.values()), colour
    for ground in ("paper", "panel"):
        for name in ("ink", "soft", "accent", "good", "fair", "poor", "minor", "moderate", "severe"):
            assert contrast(colour[name], colour[ground]) >= 4.5, (name, ground)
    for name in ("moderate", "severe"):
        assert contrast(colour["on-sign"], colour[name]) >= 4.5, name
    for name in ("v0", "v1", "v2", "v3", "v4", "v5", "vx"):
        assert contrast(colour[name], colour["land"]) >= 3, name
    for name in ("lon", "lat"):
        assert contrast(colour[name], colour["panel"]) >= 3, name
    # the colours of speed can be told apart by lightness alone, each from the next but one
    light = [luminance(colour[f"v{n}"]) for n in range(6)]
    assert light == sorted(light)


def test_language_switch_works_and_stays(show: Any) -> None:
    page = show("/vehicles/{d}")
    page.find_element("css selector", ".language").click()
    until(lambda: page.execute_script("return document.documentElement.lang") == "zh-CN", "it was Chinese")
    page.find_element("css selector", ".brand").click()
    until(
        lambda: page.execute_script("return document.querySelector('h1').textContent") == "我的车辆",
        "it stayed Chinese",
    )


def test_first_tab_skips_to_the_content(show: Any) -> None:
    page = show("/")
    keys(page, "TAB")
    assert page.switch_to.active_element.text == "Skip to content"
    keys(page, "ENTER")
    assert page.execute_script("return document.activeElement.id") == "content"


def test_map_moves_and_zooms_by_keyboard_and_buttons(show: Any) -> None:
    page = show("/vehicles/{d}/trips/1")

    def view() -> list[float]:
        box = page.find_element("css selector", ".map > svg").get_dom_attribute("viewBox")
        return [float(v) for v in box.split()]

    first = view()
    page.execute_script("document.querySelector('.map').focus()")
    keys(page, "+")
    assert view()[2] == pytest.approx(first[2] * 0.7, rel=1e-3)
    keys(page, "ARROW_RIGHT")
    assert view()[0] > first[0] + 0.15 * first[2]
    assert len(page.find_elements("css selector", ".graticule text")) >= 4
    keys(page, "0")
    assert view() == pytest.approx(first, abs=0.01)
    page.find_element("css selector", "[data-zoom=out]").click()
    assert view()[2] > first[2]
    bar = page.find_element("css selector", ".bar text").text
    assert re.fullmatch(r"[125]0*(\.\d+)? k?m", bar)


def test_curve_reads_out_by_keyboard_and_marks_the_place(show: Any) -> None:
    page = show("/vehicles/{d}/trips/1")
    page.execute_script("document.querySelector('.scrub input').focus()")
    keys(page, "END", "ARROW_LEFT")
    said = page.find_element("css selector", ".readout output").text
    assert re.match(r"\d\d:\d\d:\d\d · \d+ km/h · along −?\d\.\d m/s² · across −?\d\.\d m/s²", said)
    value = page.find_element("css selector", ".scrub input").get_attribute("aria-valuetext")
    assert value == said
    assert page.find_element("css selector", ".here").get_attribute("hidden") is None
    assert len(page.find_elements("css selector", ".cursor:not([hidden])")) == 2


def test_curve_reads_out_under_the_pointer(show: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    page = show("/vehicles/{d}/trips/1")
    ActionChains(page).move_to_element(page.find_element("css selector", ".trip-chart")).perform()
    until(lambda: "km/h" in page.find_element("css selector", ".readout output").text, "the curve read out")


def test_a_pin_opens_its_event(show: Any) -> None:
    page = show("/vehicles/{d}/trips/1")
    pin = page.find_element("css selector", ".pins a[data-mark='2']")
    page.execute_script("arguments[0].focus()", pin)
    keys(page, "ENTER")
    assert page.find_element("css selector", "#event-2 details").get_attribute("open") is not None
    assert "chosen" in page.find_element("css selector", "#event-2").get_attribute("class")
    assert "chosen" in pin.get_attribute("class")
    assert "Only one source saw it" in page.find_element("css selector", "#event-2").text


def test_events_open_by_keyboard(show: Any) -> None:
    page = show("/vehicles/{d}/trips/1")
    page.execute_script("document.querySelector('summary').focus()")
    keys(page, "ENTER")
    window = page.find_element("css selector", "#event-1 svg.window")
    assert window.is_displayed()
    assert window.size["height"] > 150


def test_pages_say_all_without_scripts(show: Any, driver: Any) -> None:
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page = show("/vehicles/{d}/trips/1", 360)
        assert page.find_element("css selector", ".map > svg").is_displayed()
        assert "It counts" in page.page_source
        assert not page.find_element("css selector", ".zoom").is_displayed()
        assert not page.find_element("css selector", ".curve-help").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_live_state_refreshes_by_itself_and_a_new_trip_appears(
    show: Any, driver: Any, site: tuple[Desk, ListSource, str]
) -> None:
    desk, source, _ = site
    page = show("/vehicles/{d}")
    assert page.find_element("css selector", ".live .state").text.startswith(("Not connected", "Online"))
    before = len(page.find_elements("css selector", "tr.trip"))
    desk.status(source, "offline")
    until(lambda: "Not connected" in page.find_element("css selector", ".live .state").text, "it showed offline")
    desk.status(source, "online")
    until(lambda: "Online" in page.find_element("css selector", ".live .state").text, "it showed online")
    desk.send(source, drive(2000 * S, 300))
    until(lambda: len(driver.find_elements("css selector", "tr.trip")) == before + 1, "the new trip appeared")


def test_a_receiver_that_goes_away_is_said(driver: Any, site: tuple[Desk, ListSource, str]) -> None:
    desk, source, _ = site
    with ExitStack() as stack:
        base = serve.serve_in_thread(desk.engine, "127.0.0.1:0", stack)
        driver.get(f"{base}vehicles/{source.device}")
    until(lambda: "may be old" in driver.find_element("css selector", "[data-part=updates]").text, "it was said")
    assert "stale" in driver.find_element("css selector", ".live").get_attribute("class")
    driver.get("about:blank")
    driver.get_log("browser")
