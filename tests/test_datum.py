"""Places are kept in WGS-84 and shown in the datum that a person chose, GCJ-02 or WGS-84."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.claiming.facts import Place, metres
from receiver.gcj02 import from_wgs84, to_wgs84
from receiver.texts import text
from receiver.words import Words, time_zone
from tests.pages import NOW, ZONE, S, braking, client, clock_at, drive, open_desk

PIN = r'data-mark="1"><g transform="translate\(([-\d.]+) ([-\d.]+)\)'
MIDDLE = r'data-lat0="([-\d.]+)" data-lon0="([-\d.]+)"'


@settings(max_examples=200, deadline=None)
@given(st.floats(18.0, 53.0), st.floats(74.0, 134.0))
def test_a_place_from_a_chinese_map_comes_back_to_a_tenth_of_a_metre(latitude: float, longitude: float) -> None:
    assert metres(Place(*to_wgs84(*from_wgs84(latitude, longitude))), Place(latitude, longitude)) < 0.1


def test_outside_china_nothing_is_shifted() -> None:
    assert to_wgs84(52.5, 13.4) == (52.5, 13.4)


def test_a_place_names_its_datum_where_it_is_not_the_usual_one() -> None:
    zone = time_zone(ZONE)
    assert Words(text("en"), zone, NOW).coordinates(31.245, 121.481) == "31.24500° N, 121.48100° E"
    shown = from_wgs84(31.245, 121.481)
    said = Words(text("en"), zone, NOW, "gcj02").coordinates(31.245, 121.481)
    assert said == f"{shown[0]:.5f}° N, {shown[1]:.5f}° E (GCJ-02)"


def test_the_whole_map_of_a_trip_moves_with_the_datum_and_the_choice_is_remembered(tmp_path: Path) -> None:
    desk = open_desk(tmp_path)
    source = desk.enrol()
    desk.send(source, [clock_at(NOW - 86_400 * S), *drive(events=[braking()])])
    pages = client(desk.engine)
    at = f"/vehicles/{source.device}/trips/1"
    plain = pages.get(f"{at}?lang=en").text
    moved = pages.get(f"{at}?datum=gcj02").text
    again = pages.get(at).text
    before, after, kept = (re.search(MIDDLE, body) for body in (plain, moved, again))
    assert before
    assert after
    assert kept
    assert kept.groups() == after.groups()
    middle = from_wgs84(float(before[1]), float(before[2]))
    assert (
        metres(Place(float(after[1]), float(after[2])), Place(*middle)) < 20.0
    )  # the shift differs a little along the way
    assert "Places in WGS-84." in plain
    assert "Places in GCJ-02." in moved
    shown = from_wgs84(31.245, 121.481)
    assert f"{shown[0]:.5f}° N, {shown[1]:.5f}° E (GCJ-02)" in moved
    pins = [
        re.findall(r'data-mark="1"><g transform="translate\(([-\d.]+) ([-\d.]+)\)', body) for body in (plain, moved)
    ]
    assert [float(n) for n in pins[0][0]] == pytest.approx([float(n) for n in pins[1][0]], abs=4.0)
    assert "Places in GCJ-02." in pages.get(f"{at}?datum=mars").text  # unknown: what was chosen stays
    desk.engine.dispose()
