"""The page of a crash in a real Chromium: the video plays and seeks, curves and map follow, and the other way round."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from receiver import serve, web
from tests import test_pages_browser
from tests.crash_cases import Box, Insurer, address
from tests.pages import readable
from tests.syncing import until
from tests.test_pages_browser import OVERFLOW, contrast, keys

driver = test_pages_browser.driver
show = test_pages_browser.show


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Box, Insurer]]:
    folder = tmp_path_factory.mktemp("crash")
    box, insurer = Box(folder / "box"), Insurer(folder / "insurer")
    box.crashes()
    insurer.enrol(box)
    insurer.take_records(box)
    yield box, insurer
    box.store.close()
    insurer.engine.dispose()


@pytest.fixture(scope="module")
def site(case: tuple[Box, Insurer]) -> Iterator[tuple[Any, Any, str]]:
    box, insurer = case
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(web, "create_app", partial(web.create_app, refresh_s=0.3))
        base = serve.serve_in_thread(insurer.engine, "127.0.0.1:0", stack, insurer.files).rstrip("/")
        yield insurer, box.store, base


def whole(case: tuple[Box, Insurer]) -> str:
    """Let the package be proved, and return the address of the page."""
    box, insurer = case
    insurer.take_files(box)
    insurer.settle()
    return address(box)


def said(page: Any) -> str:
    return str(page.execute_script("return document.querySelector('.readout output').textContent"))


def cursor(page: Any) -> float:
    return float(page.execute_script("return parseFloat(document.querySelector('.film .cursor').getAttribute('x1'))"))


def test_a_page_that_waits_shows_by_itself_what_arrives(show: Any, case: tuple[Box, Insurer]) -> None:
    box, insurer = case
    page = show(address(box))
    label = "return document.querySelector('[data-part=label]').textContent"

    def reads(text: str) -> bool:
        return text in str(page.execute_script(label))

    assert page.execute_script("return document.querySelector('progress').hidden") is False
    insurer.take_file(box, box.package / "before.csv")
    insurer.take_file(box, box.package / "clip-front.mp4", share=0.6)
    until(lambda: reads("%") and not reads(" 0 %"), "some of it was shown")
    assert page.find_element("css selector", "progress").size["height"] > 4
    until(lambda: bool(page.find_elements("css selector", "table.edr")), "the table appeared")
    whole(case)
    until(lambda: reads("Proved"), "it was proved")
    until(lambda: bool(page.find_elements("css selector", "video")), "the video appeared")


def test_the_video_plays_and_curves_and_map_follow(show: Any, case: tuple[Box, Insurer]) -> None:
    page = show(whole(case))
    film = "document.querySelector('video')"
    until(lambda: page.execute_script(f"return {film}.readyState") >= 1, "the video was known")
    start = float(page.execute_script(f"return {film}.dataset.start"))
    assert page.execute_script(f"return {film}.duration") == pytest.approx(5.0, abs=1.1)
    page.execute_script(f"{film}.muted = true; {film}.playbackRate = 2; {film}.play()")
    until(lambda: page.execute_script(f"return {film}.currentTime") > 1.0, "it played")
    first = cursor(page)
    until(lambda: cursor(page) > first + 0.5, "the cursor moved on")
    page.execute_script(f"{film}.pause(); {film}.currentTime = {-start}")
    until(lambda: said(page).startswith("0.0 s"), "it stood at the collision")
    assert cursor(page) == pytest.approx(100 * 20 / 30, abs=0.4)
    assert "Speed 43 km/h" in said(page)
    assert page.find_element("css selector", ".here").get_attribute("hidden") is None
    assert page.execute_script("return document.querySelectorAll('.film .cursor:not([hidden])').length") == 2


def test_the_curve_moves_the_video_by_pointer_and_by_keyboard(show: Any, case: tuple[Box, Insurer]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    page = show(whole(case))
    film = "document.querySelector('video')"
    until(lambda: page.execute_script(f"return {film}.readyState") >= 1, "the video was known")
    start = float(page.execute_script(f"return {film}.dataset.start"))
    page.execute_script("document.querySelector('.scrub input').focus()")
    page.execute_script(
        "const i = document.querySelector('.scrub input'); i.value = 195; i.dispatchEvent(new Event('input'))"
    )
    keys(page, "ARROW_RIGHT", "ARROW_RIGHT")
    until(lambda: page.execute_script(f"return {film}.currentTime") == pytest.approx(-0.3 - start, abs=0.05), "it went")
    assert said(page).startswith("−0.3 s · Speed 45 km/h · Change of speed along 0 km/h · across 0 km/h")
    value = page.find_element("css selector", ".scrub input").get_attribute("aria-valuetext")
    assert value == said(page)
    plot = page.find_element("css selector", ".film .plot svg")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    wide = plot.size["width"]
    at = ActionChains(page).move_to_element_with_offset(plot, round(wide * (21 / 30 - 0.5)), 0)
    at.click_and_hold().move_by_offset(2, 0).release().perform()
    until(lambda: page.execute_script(f"return {film}.currentTime") == pytest.approx(1 - start, abs=0.2), "it went on")
    assert "−22 km/h" in said(page)
    # what lies outside the video moves the curves alone
    keys(page, "HOME")
    until(lambda: said(page).startswith("−20.0 s"), "the curves went to the beginning")
    assert page.execute_script(f"return {film}.currentTime") == pytest.approx(1 - start, abs=0.2)


def test_ranges_of_the_video_were_asked_for_and_logged_once(show: Any, case: tuple[Box, Insurer]) -> None:
    page = show(whole(case))
    status = page.execute_async_script("""
      const done = arguments[0], src = document.querySelector("video").src;
      fetch(src, { headers: { Range: "bytes=1000-1099" } }).then(async (r) =>
        done([r.status, r.headers.get("content-range"), (await r.blob()).size]));""")
    assert status[0] == 206
    assert status[1].startswith("bytes 1000-1099/")
    assert status[2] == 100
    assert "opened clip-front.mp4" in show(whole(case)).find_element("css selector", ".looks").text


def test_the_check_is_run_again_by_its_button(show: Any, case: tuple[Box, Insurer]) -> None:
    page = show(whole(case))
    before = page.execute_script("return document.querySelector('[data-progress]').dataset.version")
    page.execute_script("document.querySelector('[data-check]').focus()")
    keys(page, "ENTER")
    now = "return document.querySelector('[data-progress]')?.dataset.version"
    until(lambda: page.execute_script(now) not in (None, before), "it was checked again")
    assert "exactly as this box signed them" in page.find_element("css selector", ".verdict").text


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_no_part_is_wider_than_the_smallest_phone(show: Any, case: tuple[Box, Insurer], lang: str) -> None:
    path = f"{whole(case)}?lang={lang}"
    for width, scheme in ((360, "dark"), (768, "light"), (1440, "light")):
        page = show(path, width, scheme)
        page.execute_script("document.querySelectorAll('details').forEach((d) => (d.open = true))")
        assert page.execute_script(OVERFLOW) == 0, width
    few, every = show(path, 360).find_elements("css selector", "table.edr")
    assert few.size["width"] <= 360
    assert (few.is_displayed(), every.is_displayed()) == (True, False)
    heads = few.find_elements("css selector", "thead th")
    assert [h.is_displayed() for h in heads] == [True] * 4 + [False] * (len(heads) - 4)


def test_headings_descend_and_every_drawing_and_control_has_a_name(show: Any, case: tuple[Box, Insurer]) -> None:
    page = show(whole(case))
    readable(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_tells_the_state_can_be_read(show: Any, case: tuple[Box, Insurer], scheme: str) -> None:
    page = show(whole(case), scheme=scheme)
    colours = page.execute_script("""
      const two = (v) => Number(v).toString(16).padStart(2, "0");
      const hex = (c) => "#" + c.match(/\\d+/g).slice(0, 3).map(two).join("");
      const of = (s, p) => hex(getComputedStyle(document.querySelector(s))[p]);
      return [[".verdict", ".panel"], [".button", ".panel"], [".lead", "body"], [".claim", "body"]].map(
        ([front, back]) => [of(front, "color"), of(back, "backgroundColor")]);""")
    assert all(contrast(front, back) >= 4.5 for front, back in colours)


def test_the_page_says_all_without_scripts(show: Any, driver: Any, case: tuple[Box, Insurer]) -> None:
    path = whole(case)
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page = show(path, 360)
        assert page.find_element("css selector", "video").is_displayed()
        assert page.find_element("css selector", "table.edr").is_displayed()
        assert not page.find_element("css selector", "[data-check]").is_displayed()
        assert not page.find_element("css selector", ".curve-help").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
