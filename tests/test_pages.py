"""The owner's pages over a real database filled by the real ingest: every page, every state, both languages."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import text as sql

from agent import messages
from agent.errors import ConfigError
from agent.records import Curve, Quality, Record, Track, Trip
from receiver import db, fleet, queries
from receiver.settings import HttpSettings, ReceiverSettings
from receiver.texts import LANGUAGES, text
from receiver.web import HEADERS, create_app
from tests.pages import NOW, SPEEDING, Desk, S, braking, client, clock_at, drive, open_desk
from tests.syncing import ListSource, postgresql

EVENTS = [
    braking(300 * S),
    braking(400 * S, severity="minor", confirmed=False, peak=-2.6, sources=["gnss"], window=None, levels=None),
    braking(500 * S, latitude=None, longitude=None, **SPEEDING),
]
HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = open_desk(tmp_path)
    yield desk
    desk.engine.dispose()


@pytest.fixture(params=sorted(LANGUAGES))
def lang(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def full(desk: Desk) -> ListSource:
    """Enrol a vehicle that is on line and has one trip with three events, yesterday."""
    source = desk.enrol()
    desk.status(source, "online")
    desk.send(source, [clock_at(NOW - 86400 * S), *drive(events=EVENTS)])
    return source


def get(desk: Desk, path: str, lang: str = "en") -> str:
    answer = client(desk.engine).get(path, headers={"accept-language": lang})
    assert answer.status_code == 200, answer.text[:500]
    return str(answer.text)


def changed(records: list[Record], kind: type[Record], **values: Any) -> list[Record]:
    return [replace(r, **values) if isinstance(r, kind) else r for r in records]


def words(page: str) -> str:
    """Return what a person reads: no tags, entities resolved, spaces joined."""
    import html

    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


# every page


def test_vehicles_page_shows_each_vehicle_with_its_sums(desk: Desk, lang: str) -> None:
    source = full(desk)
    page, t = words(get(desk, "/", lang)), text(lang)
    for part in (source.device, t("vehicles.online"), t.many("vehicles.trips", 1), t("vehicles.data_complete")):
        assert part in page
    assert f'lang="{LANGUAGES[lang]}"' in get(desk, "/", lang)


def test_vehicle_page_shows_live_state_and_the_trips_by_day(desk: Desk, lang: str) -> None:
    source = full(desk)
    page, t = words(get(desk, f"/vehicles/{source.device}", lang)), text(lang)
    day = t("time.date", year=2026, month=t.listed("time.months")[10], day=17, weekday=t.listed("time.weekdays")[1])
    for part in (day, "19:08 –19:23", t("trips.legend"), t("live.title")):
        assert part in page
    raw = get(desk, f"/vehicles/{source.device}", lang)
    assert raw.count('class="mark"') == 3
    assert re.search(r'class="shape"><svg[^>]*><path d="M', raw)


def test_trip_page_shows_map_curve_events_figures_quality_and_proof(desk: Desk, lang: str) -> None:
    source = full(desk)
    raw, t = get(desk, f"/vehicles/{source.device}/trips/1", lang), text(lang)
    page = words(raw)
    for key in ("trip.facts", "trip.quality", "trip.proof", "trip.histogram", "trip.hours", "event.yes", "event.no"):
        assert t(key) in page
    assert t("trip.proof_good", n=6) in page
    assert raw.count('class="pins"') == 1
    assert raw.count('<a href="#event-') == 2  # the third event has no place
    assert raw.count('<tbody role="rowgroup" id="event-') == 3
    assert raw.count('class="chart trip-chart"') == 1
    assert raw.count('class="chart window"') == 2
    assert raw.count('class="graticule"') == 1
    assert "data-read=" in raw


def test_events_say_how_hard_against_which_threshold_and_why_they_count(desk: Desk) -> None:
    source = full(desk)
    page = words(get(desk, f"/vehicles/{source.device}/trips/1"))
    assert "Braked at 4.6 m/s²: 17 km/h slower every second severe from 4.4 m/s²" in page
    assert "It counts, because independent sources agree: wheel speed and motion sensor." in page
    assert "It does not count. Only one source saw it (satellite receiver)" in page
    assert "Up to 133 km/h, 13 above the limit of 120" in page
    assert "minor 132 km/h, moderate 144 km/h, severe 180 km/h" in page
    assert "the record does not say the thresholds" in page


def test_events_page_links_each_event_to_its_trip(desk: Desk, lang: str) -> None:
    source = full(desk)
    page = get(desk, f"/vehicles/{source.device}/events", lang)
    assert page.count(f'href="/vehicles/{source.device}/trips/1"') == 3
    assert text(lang)("event.to_trip") in page


@pytest.mark.parametrize("path", ["/", "/vehicles/{d}", "/vehicles/{d}/trips/1", "/vehicles/{d}/events", "/nothing"])
def test_no_page_has_inline_code_or_outside_addresses(desk: Desk, path: str, lang: str) -> None:
    source = full(desk)
    answer = client(desk.engine).get(path.format(d=source.device), headers={"accept-language": lang})
    assert not re.search(r"\son[a-z]+\s*=|\sstyle\s*=|javascript:", answer.text)
    assert not re.search(r"<script(?![^>]*\bsrc=)", answer.text)
    assert not re.search(r'(?:href|src|action)="(?![/#?])', answer.text)
    assert "{" not in words(answer.text)  # every sentence got its values
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert answer.headers["cache-control"] == "no-store"


# states


def test_an_empty_receiver_says_what_to_do(desk: Desk, lang: str) -> None:
    t = text(lang)
    page = words(get(desk, "/", lang))
    assert t("vehicles.empty") in page
    assert t("vehicles.empty_help") in page
    assert 'id="pending"' not in get(desk, "/", lang)


def test_a_box_that_waits_for_enrolment_is_listed(desk: Desk, lang: str) -> None:
    desk.greet(ListSource(7), NOW - 600 * S)
    page = words(client(desk.engine, "technician").get("/devices", headers={"accept-language": lang}).text)
    assert text(lang)("pending.title") in page
    assert ListSource(7).device in page
    assert text(lang)("time.ago", duration=text(lang)("unit.minutes", n=10)) in page


def test_a_vehicle_that_never_spoke_has_neither_trips_nor_state(desk: Desk, lang: str) -> None:
    source = desk.enrol(greeted=False)
    t = text(lang)
    assert t("vehicles.never") in words(get(desk, "/", lang))
    page = words(get(desk, f"/vehicles/{source.device}", lang))
    assert t("trips.empty") in page
    assert t("live.never") in page
    assert t("vehicles.data_unknown") in page
    assert t("event.empty") in words(get(desk, f"/vehicles/{source.device}/events", lang))


def test_a_blocked_vehicle_is_shown_as_blocked(desk: Desk, lang: str) -> None:
    from receiver import devices

    devices.block(desk.engine, desk.enrol().device)
    assert text(lang)("vehicles.blocked") in words(get(desk, "/", lang))


def test_what_is_still_on_the_box_and_what_is_lost_is_said(desk: Desk, lang: str) -> None:
    source = desk.enrol()
    desk.greet(source, heads={"event": 5, "track": 2})
    with desk.engine.begin() as connection:
        row = {"device": source.device, "lineage": source.lineage, "lane": "track", "first_seq": 1, "last_seq": 3}
        connection.execute(db.hole.insert().values(**row, noted_utc_ns=NOW))
    topic = messages.topic(source.device, "up", "event")
    desk.ingest.take(topic, messages.encode_batch(ListSource(2).append([(S, clock_at(NOW))])), NOW)
    t = text(lang)
    for path in ("/", f"/vehicles/{source.device}"):
        page = words(get(desk, path, lang))
        assert t.many("vehicles.data_waiting", 7) in page
        assert t.many("vehicles.data_lost", 3) in page
        assert t.many("vehicles.data_refused", 1) in page


def test_a_trip_without_position_has_no_map_but_all_else(desk: Desk, lang: str) -> None:
    source = desk.enrol()
    nowhere = dict.fromkeys(("start_latitude", "start_longitude", "end_latitude", "end_longitude"))
    records = [r for r in drive() if not isinstance(r, Track)]
    desk.send(source, [clock_at(NOW), *changed(records, Trip, track_points=0, **nowhere)])
    raw = get(desk, f"/vehicles/{source.device}/trips/1", lang)
    assert text(lang)("trip.no_map") in words(raw)
    assert "data-map" not in raw
    assert "trip-chart" in raw


def test_a_trip_whose_track_and_curve_are_on_their_way_says_so(desk: Desk, lang: str) -> None:
    source = desk.enrol()
    desk.send(source, [clock_at(NOW), *(r for r in drive() if isinstance(r, Trip))])
    page, t = words(get(desk, f"/vehicles/{source.device}/trips/1", lang)), text(lang)
    assert t("trip.map_coming") in page
    assert t("trip.curve_coming") in page
    assert t("trip.no_events") in page


def test_a_trip_without_time_counts_from_its_start(desk: Desk, lang: str) -> None:
    source = desk.enrol()
    desk.send(source, drive(events=EVENTS))
    page, t = words(get(desk, f"/vehicles/{source.device}/trips/1", lang)), text(lang)
    assert t("time.unknown_day") in page
    assert "+3:20" in page  # the braking, 200 s into the trip
    assert t("quality.time.none") in page
    assert t("trip.no_hours") in page
    listed = words(get(desk, f"/vehicles/{source.device}", lang))
    assert t("time.unknown_day") in listed


def test_a_restored_time_is_marked_as_not_certain(desk: Desk, lang: str) -> None:
    source = desk.enrol()
    desk.send(source, [clock_at(NOW - 3600 * S, quality="restored"), *drive(events=EVENTS)])
    t = text(lang)
    for path in ("/", f"/vehicles/{source.device}", f"/vehicles/{source.device}/trips/1"):
        assert t("time.uncertain") in words(get(desk, path, lang))


def test_an_event_shows_before_its_trip_has_arrived_and_then_within_it(desk: Desk, lang: str) -> None:
    source = desk.enrol()
    records = drive(events=EVENTS[:1])
    desk.send(source, [clock_at(NOW), records[0]])
    path, t = f"/vehicles/{source.device}", text(lang)
    assert t.many("live.running", 1) in words(get(desk, path, lang))
    assert t("event.no_trip") in words(get(desk, path, lang))
    desk.send(source, records[1:])
    assert t.many("live.running", 1) not in words(get(desk, path, lang))
    assert t("kind.harsh_braking") in words(get(desk, f"{path}/trips/1", lang))


@pytest.mark.parametrize("change", ["SET body = CAST(replace(body, '-4.6', '-2.1') AS BLOB)", "SET body = x'7b'"])
def test_an_event_that_was_altered_in_the_database_is_told(desk: Desk, lang: str, change: str) -> None:
    source = full(desk)
    with desk.engine.begin() as connection:
        connection.execute(sql(f"UPDATE entry {change} WHERE kind = 'event' AND seq = 2"))
    page = words(get(desk, f"/vehicles/{source.device}/trips/1", lang))
    assert text(lang)("trip.proof_broken", n=6, broken=1) in page
    assert client(desk.engine).get(f"/vehicles/{source.device}/events").status_code == 200


def test_a_trip_that_was_altered_in_the_database_is_told(desk: Desk, lang: str) -> None:
    source = full(desk)
    with desk.engine.begin() as connection:
        connection.execute(sql("UPDATE entry SET body = x'00' WHERE kind IN ('trip', 'track')"))
    answer = client(desk.engine).get(f"/vehicles/{source.device}/trips/1", headers={"accept-language": lang})
    assert answer.status_code == 500
    assert text(lang)("problem.altered") in words(answer.text)
    assert client(desk.engine).get(f"/vehicles/{source.device}").status_code == 200


def test_an_event_that_was_removed_from_the_database_is_told(desk: Desk) -> None:
    source = full(desk)
    with desk.engine.begin() as connection:
        connection.execute(sql("DELETE FROM entry WHERE kind = 'event' AND seq = 4"))
    assert "1 of 6 records behind this page fail" in words(get(desk, f"/vehicles/{source.device}/trips/1"))


def test_a_record_after_a_hole_is_signed_but_not_linked(desk: Desk) -> None:
    source = full(desk)
    with desk.engine.begin() as connection:
        connection.execute(sql("DELETE FROM entry WHERE kind = 'clock'"))  # the one before the first event
    page = words(get(desk, f"/vehicles/{source.device}/trips/1"))
    assert "5 of 6 records behind this page are signed and continue the chain. 1 are signed" in page


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/vehicles/rw-0000000000000000",
        "/vehicles/rw-0000000000000000/events",
        "/vehicles/rw-0000000000000000/trips/1",
        "/vehicles/{d}/trips/99",
        "/vehicles/{d}/trips/x",
        "/vehicles/{d}/trips/99999999999999999999999",
        "/vehicles/{d}?page=x",
        "/vehicles/%3Cscript%3Ealert(1)%3C/script%3E",
    ],
)
def test_an_unknown_address_is_a_page_of_its_own(desk: Desk, lang: str, path: str) -> None:
    source = full(desk)
    answer = client(desk.engine).get(path.format(d=source.device), headers={"accept-language": lang})
    assert answer.status_code == 404
    assert text(lang)("problem.not_found") in words(answer.text)
    assert "<script>alert" not in answer.text


def test_a_trip_is_found_under_its_own_vehicle_only(desk: Desk) -> None:
    full(desk)
    other = desk.enrol(2)
    assert client(desk.engine).get(f"/vehicles/{other.device}/trips/1").status_code == 404


def test_a_database_that_fails_gives_a_page_and_not_a_trace(desk: Desk, lang: str) -> None:
    full(desk)
    pages = client(desk.engine)
    with desk.engine.begin() as connection:
        connection.execute(sql("DROP TABLE device"))
    answer = pages.get("/", headers={"accept-language": lang})
    assert answer.status_code == 503
    assert text(lang)("problem.database") in words(answer.text)
    assert "Traceback" not in answer.text


def test_a_defect_of_ours_gives_a_page_and_not_a_trace(
    desk: Desk, lang: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(fleet, "vehicles", fail)
    answer = client(desk.engine).get("/", headers={"accept-language": lang})
    assert answer.status_code == 500
    assert text(lang)("problem.broken") in words(answer.text)
    assert "ZeroDivisionError" not in answer.text
    for name, value in HEADERS.items():
        assert answer.headers[name] == value


# lists


def test_trips_are_paged_from_the_latest_to_the_first(desk: Desk) -> None:
    source = desk.enrol()
    trips = [r for n in range(45) for r in drive(n * 1000 * S + S, 60) if isinstance(r, Trip)]
    desk.send(source, [clock_at(NOW - 100_000 * S), *trips])
    seen: list[int] = []
    for number in (1, 2, 3):
        page = get(desk, f"/vehicles/{source.device}?page={number}")
        seen += [int(n) for n in re.findall(r'/trips/(\d+)" aria-label', page)]
        assert f"Page {number} of 3" in words(page)
    assert seen == list(range(45, 0, -1))
    assert "Page 3 of 3" in words(get(desk, f"/vehicles/{source.device}?page=99"))
    middle = get(desk, f"/vehicles/{source.device}/trips/20")
    assert re.findall(r'rel="(prev|next)" href="[^"]*/trips/(\d+)"', middle) == [("prev", "19"), ("next", "21")]
    assert 'rel="prev" href="/vehicles' not in get(desk, f"/vehicles/{source.device}/trips/1")


def test_boots_are_ordered_by_utc_and_one_without_time_by_its_arrival(desk: Desk) -> None:
    source = desk.enrol()
    only = [r for r in drive(100 * S, 60) if isinstance(r, Trip)]
    desk.send(source, [clock_at(NOW - 9000 * S), *only], "boot-a", NOW - 100 * S)
    desk.send(source, only, "boot-b", NOW - 5000 * S)
    desk.send(source, [clock_at(NOW - 3000 * S), *only], "boot-c", NOW - 6000 * S)
    rows, _ = queries.trips(desk.engine, source.device, 1)
    assert [r.boot for r in rows] == ["boot-c", "boot-b", "boot-a"]


def test_week_and_month_begin_at_local_midnight(desk: Desk) -> None:
    source = desk.enrol()
    only = [r for r in drive(100 * S, 600) if isinstance(r, Trip)]
    monday = 1_794_758_400 * S  # 2026-11-16 00:00 in Shanghai is 16:00 UTC of the 15th
    first = 1_793_462_400 * S  # 2026-11-01 00:00 in Shanghai
    for n, start in enumerate((monday, monday - S, first, first - S)):
        desk.send(source, [clock_at(start, t_ns=100 * S), *only], f"boot-{n}")
    (vehicle,), _ = fleet.vehicles(desk.engine, monday, first, 1)
    assert (vehicle.week.trips, vehicle.month.trips, vehicle.total.trips) == (1, 3, 4)
    page = words(get(desk, "/"))
    assert re.search(r"This week [\d.]+ km 1 trip .*This month [\d.]+ km 3 trips .*In all [\d.]+ km 4 trips", page)


# live


@pytest.mark.parametrize(
    ("age_s", "online", "speed", "expected"),
    [
        (10, "online", 13.9, ("moving", "50")),
        (10, "online", 0.2, ("online", "1")),
        (10, "online", None, ("online", "–")),
        (3600, "online", 13.9, ("online", "–")),
        (10, "offline", 13.9, ("offline", "–")),
    ],
)
def test_live_state_shows_a_speed_only_while_it_is_fresh(
    desk: Desk, age_s: int, online: str, speed: float | None, expected: tuple[str, str]
) -> None:
    source = desk.enrol()
    desk.status(source, online)
    desk.send(source, [clock_at(NOW - age_s * S, t_ns=50 * S), braking(50 * S, speed_before_mps=speed)])
    live = client(desk.engine).get(f"/vehicles/{source.device}/live.json").json()
    assert (live["state"], live["speed"]) == expected
    assert live["position"] == "31.24500° N, 121.48100° E"
    assert live["version"] == "0.1.0.0.0"


def test_live_state_of_an_unknown_vehicle_is_not_found(desk: Desk) -> None:
    assert client(desk.engine).get("/vehicles/rw-0000000000000000/live.json").status_code == 404


# language


@pytest.mark.parametrize(
    ("header", "query", "cookie", "expected"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", None, None, "zh-CN"),
        ("en-GB,en;q=0.9,zh;q=0.1", None, None, "en"),
        ("fr,de;q=0.5", None, None, "en"),
        ("zh;q=0,en;q=0.1", None, None, "en"),
        ("zh;q=banana,,;;q=,en;q=0.1", None, None, "en"),
        ("", None, None, "en"),
        ("en", "zh", None, "zh-CN"),
        ("en", None, "zh", "zh-CN"),
        ("zh", "en", "zh", "en"),
        ("zh", "xx", None, "zh-CN"),
    ],
)
def test_language_is_what_was_asked_then_chosen_then_preferred(
    desk: Desk, header: str, query: str | None, cookie: str | None, expected: str
) -> None:
    browser = client(desk.engine)
    if cookie:
        browser.cookies.set("language", cookie)
    answer = browser.get("/", params={"lang": query} if query else {}, headers={"accept-language": header})
    assert answer.headers["content-language"] == expected
    assert f'<html lang="{expected}">' in answer.text


def test_the_switch_keeps_the_page_and_the_choice_is_remembered(desk: Desk) -> None:
    source = full(desk)
    browser = client(desk.engine)
    page = browser.get(f"/vehicles/{source.device}?page=1", headers={"accept-language": "en"}).text
    (switch,) = re.findall(r'class="language" href="([^"]+)"', page)
    assert switch == f"/vehicles/{source.device}?page=1&amp;lang=zh"
    browser.get(switch.replace("&amp;", "&"))
    assert '<html lang="zh-CN">' in browser.get("/", headers={"accept-language": "en"}).text


# security


def test_hostile_strings_from_a_device_stay_text(desk: Desk, lang: str) -> None:
    source = desk.enrol()
    quality = Quality(
        gap_s=0.0, longest_gap_s=0.0, speed_share={HOSTILE: 1.0}, position_share=1.0, mount_confidence=1.0, time="gnss"
    )
    event = braking(rule=HOSTILE, sources=[HOSTILE], unit=HOSTILE, kind="device_moved")
    records = changed(drive(events=[event]), Trip, quality=quality, distance_by_source_m={HOSTILE: 1.0})
    desk.send(source, [clock_at(NOW), *records], boot="b.1")
    for path in ("", "/trips/1", "/events"):
        page = get(desk, f"/vehicles/{source.device}{path}", lang)
        assert "<script>alert" not in page
        assert "49" not in re.sub(r"\d\d\d+|[\d.]+", "", page)
        if path:
            assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_pages_can_only_be_read(desk: Desk, method: str) -> None:
    source = full(desk)
    for path in ("/", f"/vehicles/{source.device}", f"/vehicles/{source.device}/trips/1"):
        assert client(desk.engine).request(method, path).status_code == 405


def test_head_answers_without_a_body(desk: Desk) -> None:
    full(desk)
    answer = client(desk.engine).head("/")
    assert answer.status_code == 200
    assert not answer.content


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "[::2]:80", "localhost.:80"])
def test_another_host_name_is_refused_against_dns_rebinding(desk: Desk, host: str) -> None:
    answer = client(desk.engine).get("/", headers={"host": host})
    assert answer.status_code == 421
    assert answer.text == "wrong host"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8080", "localhost:1", "[::1]", "[::1]:8080"])
def test_own_host_names_are_served(desk: Desk, host: str) -> None:
    assert client(desk.engine).get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("path", ["../web.py", "%2e%2e/web.py", "..%2fweb.py", "nothing.css"])
def test_static_files_end_at_their_folder(desk: Desk, path: str) -> None:
    assert client(desk.engine).get(f"/static/{path}").status_code == 404


def test_static_files_are_served_and_kept(desk: Desk) -> None:
    page = get(desk, "/")
    for address in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
        answer = client(desk.engine).get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_unknown_time_zone_is_told_with_near_names(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="near names: Asia/Shanghai"):
        create_app(desk.engine, ReceiverSettings(http=HttpSettings(zone="Asia/Shangai")))


# the other database


def test_pages_are_the_same_on_postgresql(desk: Desk) -> None:
    with postgresql() as url:
        other = Desk(db.open_database(url))
        sources = full(desk), full(other)
        for path in ("/", f"/vehicles/{sources[0].device}", f"/vehicles/{sources[0].device}/trips/1"):
            assert get(desk, path) == get(other, path)
        other.engine.dispose()


def test_a_long_trip_comes_in_pieces_that_join(desk: Desk) -> None:
    source = desk.enrol()
    records = drive(seconds=900)
    (whole,) = (r for r in records if isinstance(r, Curve))
    pieces: list[Record] = [
        replace(
            whole,
            start_ns=whole.start_ns + first * S,
            speed_cmps=whole.speed_cmps[first : first + 400],
            longitudinal_cmps2=whole.longitudinal_cmps2[first : first + 400],
            lateral_cmps2=whole.lateral_cmps2[first : first + 400],
        )
        for first in (800, 0, 400)
    ]
    desk.send(source, [clock_at(NOW), *records])
    other = desk.enrol(2)
    desk.send(other, [clock_at(NOW), *(r for r in records if not isinstance(r, Curve)), *pieces])
    one = get(desk, f"/vehicles/{source.device}/trips/1")
    two = get(desk, f"/vehicles/{other.device}/trips/2")
    curves = [re.findall(r'<path class="(speed|lon|lat|area)" d="([^"]+)"', page) for page in (one, two)]
    assert curves[0] == curves[1]
    assert len(curves[0]) == 4


def test_serve_refuses_an_open_address_before_it_listens(desk: Desk) -> None:
    from contextlib import ExitStack

    from receiver.serve import serve_in_thread

    with ExitStack() as stack, pytest.raises(ConfigError, match="unencrypted"):
        serve_in_thread(desk.engine, "0.0.0.0:0", stack)
