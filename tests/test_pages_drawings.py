"""Maps and curves: places where they belong, lengths that are true, nothing that a record says can break a page."""

import re
from collections.abc import Iterator
from itertools import pairwise
from math import cos, hypot, isfinite, radians
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent import messages
from agent.records import Curve, Event, Quality, Record, Track, Trip, Window
from receiver import charts, draw
from receiver.drive import Route, Series, thin, unpack_curve, unpack_track
from tests.pages import METRES_PER_DEGREE, NOW, Desk, S, braking, client, clock_at, drive, open_desk, own
from tests.syncing import ListSource

LATITUDES = st.floats(-80, 80)
LONGITUDES = st.floats(-180, 180)


def one(kind: type[Any], **arguments: Any) -> Any:
    return next(r for r in drive(**arguments) if isinstance(r, kind))


# the map


@given(LATITUDES, LONGITUDES, st.floats(0, 3000), st.floats(0, 3000))
@settings(max_examples=100, deadline=None)
def test_all_places_lie_on_the_map_and_the_scale_is_true(lat: float, lon: float, north: float, east: float) -> None:
    other_lat = lat + north / METRES_PER_DEGREE
    other = (other_lat, (lon + east / METRES_PER_DEGREE / cos(radians(lat)) + 180) % 360 - 180)
    frame = draw.fit([(lat, lon), other])
    a, b = frame.spot((lat, lon)), frame.spot(other)
    for x, y in (a, b):
        assert draw.BORDER - 1 <= x <= draw.WIDTH - draw.BORDER + 1
        assert draw.BORDER - 1 <= y <= draw.HEIGHT - draw.BORDER + 1
    drawn = hypot(b[0] - a[0], b[1] - a[1]) * frame.metres
    assert drawn == pytest.approx(hypot(north, east), rel=0.005, abs=0.5)


@given(LATITUDES, LONGITUDES, st.floats(0, draw.WIDTH), st.floats(0, draw.HEIGHT))
@settings(max_examples=100, deadline=None)
def test_a_spot_is_the_place_that_is_drawn_there(lat: float, lon: float, x: float, y: float) -> None:
    frame = draw.Frame(lat, lon, 5.0)
    assert frame.spot(frame.place((x, y))) == pytest.approx((x, y), abs=1e-6)


def test_a_trip_over_the_date_line_is_drawn_in_one_piece() -> None:
    fixes = unpack_track([one(Track, place=(-17.0, 179.95))])
    assert max(f.longitude for f in fixes) > 179.9
    drawn = draw.trip_map(fixes, Series(), Route(fixes, Series()), [])
    assert drawn is not None
    numbers = [float(n) for line in drawn.lines for n in re.findall(r"-?[\d.]+", line.d)]
    assert all(-1 <= n <= draw.WIDTH + 1 for n in numbers)


def test_the_graticule_is_labelled_at_round_degrees() -> None:
    frame = draw.fit([(31.2, 121.4), (31.3, 121.5)])
    labels = [line.label for line in draw.graticule(frame)]
    assert 6 <= len(labels) <= 16
    assert "31°14′N" in labels
    assert {line.upright for line in draw.graticule(frame)} == {True, False}


@pytest.mark.parametrize(
    ("value", "step", "letters", "expected"),
    [
        (-33.5, 0.5, "NS", "33°30′S"),
        (180.5, 0.5, "EW", "179°30′W"),
        (0.0, 1.0, "EW", "0°"),
        (12.0, 2.0, "EW", "12°E"),
        (5.0041666, 15 / 3600, "NS", "5°00′15″N"),
    ],
)
def test_degrees_are_written_as_fine_as_the_step(value: float, step: float, letters: str, expected: str) -> None:
    assert draw._degrees(value, step, letters) == expected


def test_the_scale_bar_is_a_round_length_that_is_true() -> None:
    fixes = unpack_track([one(Track)])
    drawn = draw.trip_map(fixes, Series(), Route(fixes, Series()), [])
    assert drawn is not None
    assert drawn.bar_m in {n * 10**p for n in (1, 2, 5) for p in range(1, 7)}
    assert drawn.bar * drawn.frame.metres == pytest.approx(drawn.bar_m)
    assert 50 <= drawn.bar <= 200


def test_a_still_car_is_not_drawn_as_a_journey() -> None:
    frame = draw.fit([(31.2, 121.4), (31.2, 121.40001)])
    a, b = frame.spot((31.2, 121.4)), frame.spot((31.2, 121.40001))
    assert hypot(b[0] - a[0], b[1] - a[1]) < 10


def test_the_track_changes_colour_where_the_curve_changes_its_speed_band() -> None:
    track, curve = one(Track), one(Curve)
    fixes, series = unpack_track([track]), unpack_curve([curve])
    drawn = draw.trip_map(fixes, series, Route(fixes, series), [])
    assert drawn is not None
    bands = [draw.band(v) for v in series.speed]
    changes = sum(1 for a, b in pairwise(bands) if a != b)
    assert changes > 10
    assert abs(len(drawn.lines) - 1 - changes) <= changes // 4
    ends = [re.findall(r"-?[\d.]+ -?[\d.]+", line.d) for line in drawn.lines]
    assert all(a[-1] == b[0] for a, b in pairwise(ends))  # no gap between colours


@pytest.mark.parametrize(("kmh", "expected"), [(0, 0), (9.9, 0), (10, 1), (59.9, 2), (90, 4), (130, 5), (None, -1)])
def test_speed_bands_begin_at_their_edges(kmh: float | None, expected: int) -> None:
    assert draw.band(None if kmh is None else kmh / 3.6) == expected


def test_the_place_follows_the_speed_between_two_fixes() -> None:
    fixes = unpack_track([one(Track, seconds=600)])
    speeds: list[float | None] = [10.0] * 15 + [0.0] * 15 + [10.0] * 571
    series = Series(fixes[0].t_ns, S, speeds, [None] * 601, [None] * 601)
    route = Route(fixes, series)
    at15, at30 = route.at(fixes[0].t_ns + 15 * S), route.at(fixes[1].t_ns)
    assert at15 == pytest.approx((fixes[1].latitude, fixes[1].longitude))
    assert at30 == pytest.approx((fixes[1].latitude, fixes[1].longitude))
    assert route.at(fixes[0].t_ns - 1) is None
    assert route.at(fixes[-1].t_ns + 1) is None


# curves


@given(st.lists(st.none() | st.floats(-50, 50), max_size=400), st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_thinning_keeps_the_extremes(values: list[float | None], columns: int) -> None:
    thinned = thin(values, columns)
    assert len(thinned) == min(len(values), columns)
    known = [abs(v) for v in values if v is not None]
    assert max((abs(v) for v in thinned if v is not None), default=None) == max(known, default=None)


def test_unknown_seconds_break_the_line() -> None:
    speeds: list[float | None] = [10.0, 11.0, None, None, 12.0, 13.0, None, 14.0]
    chart = charts.trip_chart(Series(0, S, speeds, [None] * 8, [None] * 8), [], 0, str)
    assert chart is not None
    (line,) = (c.d for c in chart.panels[0].curves if c.css == "speed")
    assert line.count("M") == 3


def test_a_curve_without_a_known_value_is_no_chart() -> None:
    assert charts.trip_chart(Series(0, S, [None], [None], [None]), [], 0, str) is None
    assert charts.window_chart(braking(window=None), [], str) is None


def test_flags_that_would_cover_each_other_get_rows() -> None:
    spans = [charts.Span(at, 0.1, str(n), "") for n, at in enumerate((10.0, 11.0, 12.0, 13.0, 40.0))]
    series = Series(0, S, [1.0] * 50, [None] * 50, [None] * 50)
    chart = charts.trip_chart(series, spans, 0, str)
    assert chart is not None
    assert [s.row for s in chart.spans] == [0, 1, 2, 2, 0]
    assert chart.rows == 3


def test_ticks_are_round_local_times() -> None:
    midnight = 7 * S
    series = Series(midnight + 36_111 * S, S, [1.0] * 900, [None] * 900, [None] * 900)
    chart = charts.trip_chart(series, [], midnight, lambda t: f"{(t - midnight) // S}")
    assert chart is not None
    assert [t.label for t in chart.ticks] == ["36300", "36600", "36900"]


def test_the_levels_that_matter_are_drawn_into_the_window() -> None:
    chart = charts.window_chart(braking(), [(-2.5, "minor"), (-4.4, "severe")], str)
    assert chart is not None
    limits = [level for level in chart.panels[1].levels if level.css == "limit"]
    assert [level.label for level in limits] == ["minor", "severe"]
    assert limits[0].at < limits[1].at <= 100
    (span,) = chart.spans
    assert span.at == pytest.approx(100 * 5 / 12)
    assert span.width == pytest.approx(100 * 2 / 12)


# whatever a device may say

INTEGERS = st.integers(-(2**70), 2**70)
SMALL = st.integers(-(2**53), 2**53)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
MAYBE = st.none() | NUMBERS
LISTS = st.lists(INTEGERS | SMALL, max_size=6)
SHORT = st.text(max_size=12)


@st.composite
def odd_records(draw_: Any) -> list[Record]:
    """Return a trip's records that are right by type and wrong in every other way."""
    start = draw_(st.integers(-(2**40), 2**61))
    trip = replace(
        one(Trip, start_ns=start),
        end_ns=draw_(st.integers(-(2**61), 2**61)),
        start_latitude=draw_(MAYBE),
        end_longitude=draw_(MAYBE),
        distance_m=draw_(NUMBERS),
        distance_by_source_m=draw_(st.dictionaries(SHORT, NUMBERS, max_size=3)),
        moving_s=draw_(NUMBERS),
        idle_s=draw_(NUMBERS),
        max_speed_mps=draw_(NUMBERS),
        night_s=draw_(NUMBERS),
        speed_histogram_s=draw_(st.lists(NUMBERS, max_size=50)),
        hour_of_day_s=draw_(st.lists(NUMBERS, min_size=24, max_size=24) | st.just([])),
        quality=Quality(
            gap_s=draw_(NUMBERS),
            longest_gap_s=draw_(NUMBERS),
            speed_share=draw_(st.dictionaries(SHORT, NUMBERS, max_size=3)),
            position_share=draw_(NUMBERS),
            mount_confidence=draw_(NUMBERS),
            time="gnss",
        ),
        track_error_m=draw_(NUMBERS),
    )
    window = Window(
        start_ns=draw_(SMALL),
        speed_mps=draw_(st.lists(MAYBE, max_size=8)),
        longitudinal_mps2=draw_(st.lists(MAYBE, max_size=8)),
        lateral_mps2=draw_(st.lists(MAYBE, max_size=8)),
    )
    event = Event(
        kind=draw_(st.sampled_from(["harsh_braking", "harsh_cornering", "speeding", "idling", "device_moved"])),
        severity=draw_(st.sampled_from(["minor", "moderate", "severe"])),
        confirmed=draw_(st.booleans()),
        t_ns=draw_(st.integers(-(2**61), 2**61)),
        duration_ns=draw_(st.integers(-(2**61), 2**61)),
        peak=draw_(NUMBERS),
        unit=draw_(st.sampled_from(["m/s2", "m/s", "s", "rpm", "?"])),
        speed_before_mps=draw_(MAYBE),
        rule=draw_(st.text("ab/<", max_size=9)),
        sources=draw_(st.lists(SHORT, max_size=4)),
        latitude=draw_(MAYBE),
        longitude=draw_(MAYBE),
        window=draw_(st.none() | st.just(window)),
        trip_t_ns=start,
        limit_mps=draw_(MAYBE),
        levels=draw_(st.none() | st.tuples(NUMBERS, NUMBERS, NUMBERS)),
    )
    track = Track(
        trip_start_ns=start,
        start_ns=draw_(st.integers(-(2**61), 2**61)),
        error_m=1.0,
        dt_ms=draw_(LISTS),
        dlat_e7=draw_(LISTS),
        dlon_e7=draw_(LISTS),
        speed_cmps=draw_(LISTS),
    )
    curve = Curve(
        trip_start_ns=start,
        start_ns=draw_(st.integers(-(2**61), 2**61)),
        step_ms=draw_(st.integers(-1, 2**40)),
        speed_cmps=draw_(LISTS),
        longitudinal_cmps2=draw_(LISTS),
        lateral_cmps2=draw_(LISTS),
    )
    return [event, trip, track, curve]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Any]]:
    desk = open_desk(tmp_path_factory.mktemp("pages"))
    yield desk, client(desk.engine, raising=True)
    desk.engine.dispose()


@given(records=odd_records(), offset=st.none() | st.integers(-(2**61), 2**61))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_no_record_that_ingest_takes_can_break_a_page(
    served: tuple[Desk, Any], records: list[Record], offset: int | None
) -> None:
    desk, pages = served
    source = desk.enrol(1)
    own(desk.engine)
    fresh = ListSource(1, f"{desk.ingest.counts.entries:012x}")
    boot = fresh.lineage
    if offset is not None:
        records = [replace(clock_at(NOW), offset_ns=offset), *records]
    for entry in fresh.append([(0, r) for r in records], boot):
        desk.ingest.take(messages.topic(source.device, "up", entry.lane), messages.encode_batch([entry]), NOW)
    listed = pages.get(f"/vehicles/{source.device}")
    assert listed.status_code == 200
    paths = [f"/vehicles/{source.device}/events", f"/vehicles/{source.device}/live.json", "/"]
    paths += re.findall(r'href="(/vehicles/[^"]+/trips/\d+)"', listed.text)[:2]
    for path in paths:
        answer = pages.get(path)
        assert answer.status_code == 200, path
        assert not re.search(r'(?:\bd|x|y|x1|y1|width|height|transform)="[^"]*(?:nan|inf)', answer.text)


def test_a_track_with_lists_of_unequal_length_is_cut_to_the_shortest() -> None:
    track = replace(one(Track), dlon_e7=[1_214_700_000, 5])
    assert len(unpack_track([track])) == 2
    assert all(isfinite(f.latitude) for f in unpack_track([track]))
