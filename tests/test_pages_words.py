"""The words of the pages: equal keys in every language, numbers and times as people read them, true explanations."""

import re
import string
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec.structs import replace

import receiver
from agent.detect.found import EVIDENCE_NAMES
from agent.records import DRIVING_KINDS, SEVERITIES, CrashKind, EventKind, Quality
from receiver.explain import findings, how_hard, tell, threshold, why
from receiver.queries import BootClock, EventRow
from receiver.texts import LANGUAGES, choose, text
from receiver.words import Words, time_zone
from tests.pages import NOW, SPEEDING, S, braking

FIELDS = string.Formatter()


def fields(sentence: object) -> set[str]:
    return {name for _, name, _, _ in FIELDS.parse(str(sentence)) if name}


def written(lang: str = "en", zone: str = "Asia/Shanghai", now_ns: int = NOW) -> Words:
    return Words(text(lang), time_zone(zone), now_ns)


# the files


def test_every_language_has_the_same_keys() -> None:
    first, *others = (text(lang).names() for lang in LANGUAGES)
    for other in others:
        assert first ^ other == set()


def test_every_language_puts_the_same_values_into_a_sentence() -> None:
    one, other = text("en"), text("zh")
    different = {
        key
        for key in one.names() - {"time.months", "time.weekdays"}
        if fields(one._words[key]) != fields(other._words[key])
    }
    # Chinese does not need every value twice; each that it leaves out stands here with its reason.
    assert different == set()
    assert len(one.listed("time.months")) == len(other.listed("time.months")) == 12
    assert len(one.listed("time.weekdays")) == len(other.listed("time.weekdays")) == 7


def test_every_key_is_used() -> None:
    folder = Path(receiver.__file__).parent
    source = "".join(p.read_text("utf-8") for p in [*folder.rglob("*.py"), *folder.glob("templates/*.html")])
    source = source.replace("'", '"')
    # tables whose last part is put together from the record …
    tables = ["kind.", "severity.", "source.", "rule.", "hard.", "quality.", "problem.", "crash_", "score."]
    # … also where it can be seen: f"table.{…}", "table." ~ … in a template, among("table", …)
    tables += re.findall(r'f"([\w.]+\.)\{', source) + re.findall(r'"([\w.]+\.)" ~', source)
    tables += [f"{name}." for name in re.findall(r'among\("([\w.]+)"', source)]
    named = {key for key in text("en").names() if not key.startswith(tuple(tables))}
    unused = {k for k in named if f'"{k.removesuffix(".one").removesuffix(".other")}"' not in source}
    assert unused == set()


def test_chinese_is_chinese_and_english_is_not() -> None:
    han = re.compile(r"[一-鿿]")
    own_name = {"site.other_language", "site.other_language_label"}
    assert [k for k in text("en").names() - own_name if han.search(str(text("en")._words[k]))] == []
    without = {k for k in text("zh").names() - own_name if not han.search(str(text("zh")._words[k]))}
    assert without <= {
        "figures.unit.percent",
        "crash.title",
        "crash_sure.confirmed.some",
        "event.separator",
        "event.and",
        "score.and",
    }


@pytest.mark.parametrize("lang", sorted(LANGUAGES))
def test_whatever_a_record_can_name_has_a_word(lang: str) -> None:
    t = text(lang)
    for kind in get_args(EventKind):
        assert {f"kind.{kind}", f"rule.{kind}"} <= t.names()
    for kind in get_args(CrashKind):
        assert {f"crash_kind.{kind}", f"crash_rule.{kind}"} <= t.names()
    assert {f"severity.{s}" for s in SEVERITIES} <= t.names()
    assert {f"source.{s}" for s in EVIDENCE_NAMES.values()} <= t.names()
    assert {f"quality.time.{q}" for q in ("none", "restored", "ntp", "gnss")} <= t.names()


def test_a_name_without_a_word_is_shown_as_it_is() -> None:
    assert text("en").among("source", "radar") == "radar"


def test_a_language_is_chosen_even_from_nonsense() -> None:
    assert choose("xx", "yy", ";;;,q=,zh;q=9") == "en"
    assert choose(None, None, "zh-Hant-TW") == "zh"


# numbers and times


@pytest.mark.parametrize(
    ("metres", "expected"),
    [(0, "0"), (40, "0.04"), (949, "0.95"), (950, "0.9"), (12_345, "12.3"), (1_234_567, "1,235")],
)
def test_distances_have_the_digits_that_matter(metres: float, expected: str) -> None:
    assert written().km(metres) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (0.4, "0.4 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (3569, "59 min"),
        (3571, "1 h 00 min"),
        (172_000, "47 h 47 min"),
        (180_000, "2 d 2 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, expected: str) -> None:
    assert written().duration(seconds) == expected


@pytest.mark.parametrize(("share", "expected"), [(1.0, "100"), (0.996, "99"), (0.0, "0"), (0.001, "<1"), (0.5, "50")])
def test_shares_are_never_rounded_to_all_or_nothing(share: float, expected: str) -> None:
    assert written().percent(share) == expected


def test_a_rate_needs_ten_kilometres() -> None:
    assert written().per_100_km(3, 9_999) is None
    assert written().per_100_km(3, 60_000) == "5.0"


@pytest.mark.parametrize(("lang", "expected"), [("en", "Wed 18 Nov 2026 19:06"), ("zh", "2026年11月18日 周三 19:06")])
def test_times_are_local(lang: str, expected: str) -> None:
    assert written(lang).stamp(NOW) == expected


def test_zone_is_named_with_its_distance_from_utc() -> None:
    assert written(zone="America/St_Johns").zone_name() == "America/St_Johns (UTC−03:30)"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "just now"),
        (30, "just now"),
        (600, "10 min ago"),
        (90_000, "25 h 00 min ago"),
        (10**6, "Sat 7 Nov 2026 05:20"),
    ],
)
def test_long_ago_is_a_date(seconds: int, expected: str) -> None:
    assert written().ago(NOW - seconds * S) == expected


def test_week_begins_on_monday_also_where_summer_time_ends() -> None:
    # Europe/Berlin, Sunday 2026-10-25 12:00 UTC: the week began on Monday 19th 00:00 summer time, 22:00 UTC of the 18th
    words = written(zone="Europe/Berlin", now_ns=1_792_929_600 * S)
    assert words.iso(words.week_start_ns()) == "2026-10-18T22:00:00.000Z"
    assert words.iso(words.month_start_ns()) == "2026-09-30T22:00:00.000Z"


# events


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "Braked at 4.6 m/s²: 17 km/h slower every second"),
        ({"kind": "harsh_acceleration", "peak": 3.2}, "Accelerated at 3.2 m/s²: 12 km/h faster every second"),
        ({"kind": "harsh_cornering", "peak": 4.1}, "Sideways force of 4.1 m/s² (0.42 g), turning left"),
        ({"kind": "harsh_cornering", "peak": -4.1}, "Sideways force of 4.1 m/s² (0.42 g), turning right"),
        (SPEEDING, "Up to 133 km/h, 13 above the limit of 120"),
        ({**SPEEDING, "limit_mps": None}, "Up to 133 km/h"),
        ({"kind": "idling", "peak": 960.0, "unit": "s"}, "Stood with the engine running for 16 min"),
        ({"kind": "over_rev", "peak": 6100.0, "unit": "rpm"}, "Engine at up to 6,100 rpm"),
        ({"kind": "fatigue", "peak": 14460.0, "unit": "s"}, "Drove 4 h 01 min without a sufficient rest"),
        ({"kind": "device_moved", "peak": 31.0, "unit": "deg"}, "Turned by 31° in its place"),
        ({"kind": "power_lost", "peak": 20.0, "unit": "m/s"}, "The supply vanished at 72 km/h"),
        ({"kind": "power_lost", "peak": 0.0, "unit": "m/s"}, "The supply vanished while the engine was on"),
        ({"kind": "towed", "peak": 140.0, "unit": "m"}, "Moved by 140 m with the engine off"),
        ({"kind": "towed", "peak": 4.2, "unit": "deg"}, "Tilted by 4° with the engine off"),
        ({"kind": "low_battery", "peak": 11.62, "unit": "V"}, "Battery down to 11.6 V"),
        ({"kind": "vin_mismatch", "peak": 1.0, "detail": "1HGCM82633A004352"}, "calls itself 1HGCM82633A004352"),
        ({"kind": "vin_mismatch", "peak": 1.0}, "The car calls itself not known"),
        ({"kind": "gnss_lost", "peak": 1200.0, "unit": "s"}, "No satellite for 20 min"),
        ({"kind": "dtc_set", "peak": 1.0, "detail": "P0301 (7E8)"}, "Code P0301 (7E8)"),
        ({"kind": "camera_lost", "peak": 12.0, "unit": "s"}, "For 12 s"),
    ],
)
def test_how_hard_it_was_is_said_in_words(changes: dict[str, Any], expected: str) -> None:
    assert expected in how_hard(written(), braking(**changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "severe from 4.4 m/s²"),
        ({"severity": "moderate"}, "moderate from 3.0 m/s²"),
        ({"levels": None}, "the record does not say the thresholds"),
        (SPEEDING, "minor from 132 km/h"),
        ({"unit": "s", "levels": (300.0, 900.0, 3600.0)}, "severe from 1 h 00 min"),
        ({"unit": "rpm", "levels": (5500.0, 6050.0, 6600.0)}, "severe from 6,600 rpm"),
    ],
)
def test_the_threshold_is_the_one_in_the_record(changes: dict[str, Any], expected: str) -> None:
    assert threshold(written(), braking(**changes)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "It counts, because independent sources agree: wheel speed and motion sensor."),
        ({"sources": ["brake", "gnss", "wheel"]}, "agree: brake pedal, satellite receiver and wheel speed."),
        ({"confirmed": False, "sources": ["gnss"]}, "Only one source saw it (satellite receiver)"),
        ({"confirmed": False}, "at least one of them measured less than the threshold"),
        ({"confirmed": False, "speed_before_mps": None}, "The speed just before is not known"),
        ({"confirmed": False, "rule": "harsh_unoriented/1"}, "not yet learned how it is mounted"),
        ({"confirmed": False, "kind": "speeding"}, "Too few sources gave a measurement of their own"),
        ({"sources": ["engine"], "kind": "over_rev"}, "It counts: the measurement was confirmed (engine speed)."),
    ],
)
def test_why_an_event_counts_or_not_is_one_plain_sentence(changes: dict[str, Any], expected: str) -> None:
    first, rule = why(written(), braking(**changes))
    assert expected in first
    assert rule.startswith(("The rule", "The box"))


def test_an_event_in_words_is_complete_in_both_languages() -> None:
    clock = BootClock(NOW, "gnss", 0)
    event = braking(kind="harsh_cornering", peak=5.8, levels=(3.0, 4.0, 5.5))
    row = EventRow(1, "rw-1", "l", "event", 1, "b", clock, NOW, 7, event)
    for lang in LANGUAGES:
        told = tell(written(lang), row, 1, 0)
        assert told.lateral
        assert told.chart is None or told.chart.panels
        assert told.looks == "severe confirmed"
        assert all((told.kind, told.severity, told.time, told.hard, told.levels, told.where, told.why))


@pytest.mark.parametrize("kind", sorted(set(get_args(EventKind)) - DRIVING_KINDS))
@pytest.mark.parametrize("lang", sorted(LANGUAGES))
def test_what_is_not_about_driving_is_told_and_never_counts(lang: str, kind: EventKind) -> None:
    event = braking(kind=kind, levels=None, window=None, detail="x" * 300)
    row = EventRow(1, "rw-1", "l", "event", 1, "b", BootClock(NOW, "gnss", 0), NOW, None, event)
    told = tell(written(lang), row, 1, 0)
    assert not told.counts
    assert told.confirmed
    assert told.why == [text(lang)("why.no_driving"), text(lang)(f"rule.{kind}")]
    assert told.threshold == told.levels == ""  # a thing that is there or not has none
    assert told.kind != kind
    assert len(told.detail) == 200
    row = EventRow(
        1, "rw-1", "l", "event", 1, "b", BootClock(NOW, "gnss", 0), NOW, None, replace(event, confirmed=False)
    )
    suspected = tell(written(lang), row, 1, 0)
    assert text(lang)("why.suspected") in suspected.why


# data quality

GOOD = Quality(
    gap_s=0.0, longest_gap_s=0.0, speed_share={"wheel": 1.0}, position_share=0.99, mount_confidence=0.9, time="gnss"
)


@pytest.mark.parametrize(
    ("changes", "clock", "expected"),
    [
        ({}, BootClock(0, "gnss", 0), ["good"] * 5),
        ({}, BootClock(0, "restored", 10**12), ["fair", *["good"] * 4]),
        ({}, BootClock(None, "none", 0), ["poor", *["good"] * 4]),
        ({"gap_s": 30.0, "longest_gap_s": 20.0}, BootClock(0, "ntp", 0), ["good", "fair", "good", "good", "good"]),
        ({"gap_s": 500.0, "longest_gap_s": 400.0}, BootClock(0, "ntp", 0), ["good", "poor", "good", "good", "good"]),
        ({"speed_share": {}}, BootClock(0, "gnss", 0), ["good", "good", "poor", "good", "good"]),
        ({"speed_share": {"obd": 0.8}}, BootClock(0, "gnss", 0), ["good", "good", "fair", "good", "good"]),
        ({"position_share": 0.0}, BootClock(0, "gnss", 0), ["good", "good", "good", "poor", "good"]),
        ({"mount_confidence": 0.0}, BootClock(0, "gnss", 0), ["good", "good", "good", "good", "poor"]),
        ({"mount_confidence": 0.5}, BootClock(0, "gnss", 0), ["good", "good", "good", "good", "fair"]),
    ],
)
def test_data_quality_is_graded(changes: dict[str, Any], clock: BootClock, expected: list[str]) -> None:
    found = findings(written(), replace(GOOD, **changes), clock, 1800.0)
    assert [f.state for f in found] == expected
    assert all(f.sentence.endswith(".") for f in found)
