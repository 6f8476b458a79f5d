"""Scores out of real databases, models out of real files, and the command that prints them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from agent.errors import ConfigError
from receiver import db, disputes
from receiver.cli import app
from receiver.scoring.driven import read_history
from receiver.scoring.model import model, read_model
from receiver.scoring.result import ScoreResult
from receiver.scoring.score import score_vehicle
from receiver.scoring.telling import whole
from receiver.scoring.trend import trend
from receiver.texts import LANGUAGES, text
from tests.pages import NOW, SPEEDING, Desk, S, braking, clock_at, drive
from tests.scored import TESLA, V1, V2, adds_up, line
from tests.syncing import ListSource, new_database, postgresql

DAY = 86_400 * S
CONFIG = Path(__file__).parents[1] / "config" / "scores"
QUIET = drive(100 * S, 900)
EVENTFUL = drive(
    100 * S, 900, events=[braking(300 * S), braking(500 * S, confirmed=False), braking(600 * S, **SPEEDING)]
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    url = f"sqlite:///{tmp_path / 'receiver.db'}"
    if request.param == "postgresql":
        cluster = request.getfixturevalue("cluster")
        url = new_database(cluster)
    made = Desk(db.open_database(url))
    yield made
    made.engine.dispose()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[tuple[Desk, ListSource, str]]:
    """Forty days of driving in SQLite."""
    url = f"sqlite:///{tmp_path / 'small.db'}"
    desk = Desk(db.open_database(url))
    yield desk, forty_days(desk), url
    desk.engine.dispose()


def forty_days(desk: Desk, seed: int = 1) -> ListSource:
    """Drive once a day for forty days up to now; every fourth drive has events."""
    source = desk.enrol(seed)
    for day in range(40):
        at = NOW - (40 - day) * DAY
        desk.send(source, [clock_at(at), *(EVENTFUL if day % 4 == 0 else QUIET)], f"boot-{day}", at)
    return source


def test_a_vehicle_is_scored_from_what_was_stored(desk: Desk) -> None:
    source = forty_days(desk)
    result = score_vehicle(desk.engine, source.device, V2)
    assert result.exposure.trips == 40
    assert result.exposure.events == {"harsh_braking.severe": 10, "speeding.minor": 10}
    assert result.km == pytest.approx(40 * 13.6, rel=0.01)
    assert [e.reason for e in result.ignored] == ["unconfirmed"] * 10
    assert line(result, "severe_braking").value == pytest.approx(10 / result.km * 100)
    assert len(line(result, "severe_braking").shares) == 10
    assert result.period is not None
    assert result.period.days == pytest.approx(39.0, abs=0.1)
    adds_up(result)
    assert msgspec.json.encode(result) == msgspec.json.encode(score_vehicle(desk.engine, source.device, V2))


def test_tesla_reads_the_curves_of_thirty_days(desk: Desk) -> None:
    source = forty_days(desk)
    history = read_history(desk.engine, source.device, None, None, curves=True)
    assert all(len(trip.curves) == 1 for trip in history.trips)
    result = score_vehicle(desk.engine, source.device, TESLA)
    assert result.exposure.trips == 30
    assert result.score == 100


def test_a_period_holds_only_its_trips_and_their_events(desk: Desk) -> None:
    source = forty_days(desk)
    start = NOW - 40 * DAY
    first = score_vehicle(desk.engine, source.device, V2, start, start + 10 * DAY)
    assert first.exposure.trips == 10
    assert first.exposure.events["harsh_braking.severe"] == 3
    assert not [e for e in first.ignored if e.reason == "no_trip"]
    assert score_vehicle(desk.engine, source.device, V2, NOW, NOW + DAY).score is None


def test_a_disputed_event_weighs_again_once_the_dispute_is_rejected(desk: Desk) -> None:
    source = forty_days(desk)
    before = score_vehicle(desk.engine, source.device, V2)
    event = line(before, "severe_braking").shares[0].event
    assert event is not None
    entry = (event.lineage, event.lane, event.seq)
    number = disputes.dispute_entry(desk.engine, source.device, entry, "owner", "a dog ran into the road", NOW)
    contested = score_vehicle(desk.engine, source.device, V2)
    assert contested.exposure.events["harsh_braking.severe"] == 9
    assert (event, "disputed") in {(e.event, e.reason) for e in contested.ignored}
    disputes.decide(desk.engine, number, False, "adjuster", "the video shows no dog", NOW + S)
    assert score_vehicle(desk.engine, source.device, V2) == before


def test_a_disputed_trip_is_left_out(desk: Desk) -> None:
    source = forty_days(desk)
    trip = read_history(desk.engine, source.device).trips[5].id
    disputes.dispute_entry(desk.engine, source.device, (trip.lineage, trip.lane, trip.seq), "owner", "on a lorry", NOW)
    result = score_vehicle(desk.engine, source.device, V2)
    assert [(out.trip, out.reason) for out in result.left_out] == [(trip, "disputed")]


def test_trips_without_a_time_and_altered_records_are_told_not_raised(desk: Desk) -> None:
    source = desk.enrol()
    desk.send(source, drive(100 * S, 900, events=[braking(300 * S)]), "no-clock")
    desk.send(source, [clock_at(NOW - DAY), *drive(100 * S, 900, events=[braking(300 * S)])], "boot-2")
    with desk.engine.begin() as connection:
        entry = db.entry
        wrong = {"body": b'{"kind":7}'}
        connection.execute(entry.update().where(entry.c.boot == "boot-2", entry.c.kind == "event").values(wrong))
    result = score_vehicle(desk.engine, source.device, V2)
    assert [out.reason for out in result.left_out] == []  # its window ends with the last dated drive …
    assert {e.reason for e in result.ignored} == {"altered"}
    every = score_vehicle(desk.engine, source.device, V2, end_utc_ns=NOW + DAY)
    assert [out.reason for out in every.left_out] == ["time_unknown"]  # … and it was received after that
    with desk.engine.begin() as connection:
        connection.execute(entry.update().where(entry.c.boot == "boot-2", entry.c.kind == "trip").values(body=b"{"))
    assert {out.reason for out in score_vehicle(desk.engine, source.device, V2, end_utc_ns=NOW + DAY).left_out} == {
        "altered",
        "time_unknown",
    }


def test_the_trend_ends_with_the_score_of_today(desk: Desk) -> None:
    source = forty_days(desk)
    weeks = trend(desk.engine, source.device, V2, "week", steps=8)
    assert len(weeks) == 8
    assert weeks[-1].first_day == "2026-11-16"
    assert weeks[0].score is None
    today = score_vehicle(desk.engine, source.device, V2)
    assert weeks[-1].score == today.score
    assert weeks[-1].credibility == today.credibility
    assert sum(week.km for week in weeks) == pytest.approx(today.km)
    assert sum(week.events for week in weeks) == 20
    months = trend(desk.engine, source.device, V1, "month", steps=3)
    assert [month.first_day for month in months] == ["2026-09-01", "2026-10-01", "2026-11-01"]
    assert months[-1].score == score_vehicle(desk.engine, source.device, V1).score
    tesla = trend(desk.engine, source.device, TESLA, "month", steps=2)
    assert tesla[-1].score == 100
    assert trend(desk.engine, "rw-unknown", V2) == []


# words


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["relativity/1", "relativity/2", "tesla/1"])
def test_everything_that_a_score_says_has_words(small: Any, language: str, name: str) -> None:
    desk, source, _ = small
    words = text(language)
    result = score_vehicle(desk.engine, source.device, model(name))
    told = "\n".join(whole(words, result))
    assert source.device in told
    known = words.names()
    for one in result.lines:
        assert f"score.term.{one.term}" in known
        assert f"score.unit.{one.unit}" in known


# the command


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["score", *arguments], catch_exceptions=False)


def test_the_command_tells_the_score_and_what_would_raise_it(small: Any) -> None:
    _, source, url = small
    done = run(source.device, "--db", url)
    assert done.exit_code == 0
    assert "of 100" in done.output
    assert "What would raise it" in done.output
    assert "10 events weigh nothing: no second instrument confirms them." in done.output
    assert "满分 100" in run(source.device, "--db", url, "--lang", "zh").output


def test_the_command_compares_two_versions_side_by_side(small: Any) -> None:
    _, source, url = small
    done = run(source.device, "--db", url, "--compare", "relativity/1")
    assert "Side by side: relativity/2 gives" in done.output
    told = json.loads(run(source.device, "--db", url, "--compare", "relativity/1", "--json").output)
    results = msgspec.convert(told["scores"], list[ScoreResult])
    assert [r.model for r in results] == ["relativity/2", "relativity/1"]
    assert len({r.km for r in results}) == 1


def test_the_command_tells_how_the_score_went(small: Any) -> None:
    _, source, url = small
    assert "From 2026-11-01: score" in run(source.device, "--db", url, "--trend", "month").output
    told = json.loads(run(source.device, "--db", url, "--trend", "week", "--json").output)
    assert len(told["trend"]) == 26
    assert told["trend"][-1]["score"] == told["scores"][0]["score"]


def test_the_command_scores_every_vehicle_of_a_period(small: Any) -> None:
    desk, source, url = small
    other = desk.enrol(2)
    done = run("--db", url, "--json", "--from", "2026-10-19", "--to", "2026-10-29")
    results = [msgspec.json.decode(row, type=ScoreResult) for row in done.output.splitlines()]
    assert {r.device: r.exposure.trips for r in results} == {source.device: 10, other.device: 0}


def test_the_command_takes_a_period_that_never_began_and_never_ends(small: Any) -> None:
    _, source, url = small
    ever = ["--from", "0001-01-01", "--to", "9999-12-31"]
    told = json.loads(run(source.device, "--db", url, "--json", "--trend", "month", *ever).output)
    plain = json.loads(run(source.device, "--db", url, "--json").output)
    assert told["scores"][0]["exposure"]["trips"] == plain["exposure"]["trips"] > 0
    assert len(told["trend"]) == 12


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "relativity/9"], "relativity/1, relativity/2, tesla/1"),
        (["rw-nobody"], "not enrolled"),
        (["--from", "2026-02-01", "--to", "2026-01-01"], "turn them round"),
        (["--lang", "fr"], "en, zh"),
        (["--trend", "day"], "week, month"),
    ],
)
def test_a_wrong_wish_is_one_line(small: Any, arguments: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        run(*arguments, "--db", small[2])
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


# model files


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("coefficient = 0.012 ", "coefficient = -0.012 ", "would raise the score"),
        ('"harsh_braking"', '"bump"', "no driving event"),
        ("hundred_at = 0.83", "hundred_at = 1.83", "hundred_at"),
        ('name = "night"', 'name = "peak"', "name of its own"),
        ("[0.5, 0.75]", "[0.9, 0.75]", "must fall"),
        ("above_kmh = 120.0", "above_kmh = 125.0", "multiple of 10"),
        ("above_kmh = 120.0", "", "above_kmh"),
        ("daily = false", "daily = true", "year's mileage"),
        ("bounds_km = [8000.0, 30000.0]", "bounds_km = [9.0, 3.0]", "bounds_km"),
        ("cap = 20.0", "cap = -1.0", "cap is not above best"),
        ("min_days = 28.0", "min_days = 28.0\nmin_dys = 2", "min_dys"),
        ('zone = "Asia/Shanghai"', 'zone = "Asia/Shanghi"', "Asia/Shanghai"),
        ("coefficient = 0.51", "coefficient = inf", "not finite"),
        ("version = 2", "version = 3", "name the file relativity-3.toml"),
        ("[scale]", "[scale", "not valid TOML"),
    ],
)
def test_a_model_file_that_cannot_be_right_is_refused_by_name(old: str, new: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "relativity-2.toml"
    shipped = (CONFIG / "relativity-2.toml").read_text()
    assert old in shipped
    path.write_text(shipped.replace(old, new, 1))
    with pytest.raises(ConfigError) as raised:
        read_model(path)
    assert str(path) in str(raised.value) or "time zone" in str(raised.value)
    assert told in str(raised.value)


def test_a_missing_model_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_model(tmp_path / "relativity-2.toml")


def test_the_best_driving_of_version_2_just_reaches_100() -> None:
    from receiver.scoring.verdict import best_value, judge

    values = [best_value(term) for term in V2.terms]
    verdict = judge(V2, values, 1e12)
    assert 0.0 < V2.scale.hundred_at - verdict.relativity_without_mileage < 0.005
    assert verdict.points == 100.0


@pytest.mark.data
def test_the_calibrated_coefficient_is_what_the_benchmark_prints() -> None:
    from benchmarks import calibration

    if not calibration.DATA.is_file():
        pytest.skip("norauto is not there")
    fit = calibration.elasticity(calibration.read(), controlled=True)
    mileage = next(term for term in V2.terms if term.measure == "mileage")
    assert mileage.status == "calibrated"
    assert abs(mileage.coefficient - fit.beta[1]) < 0.005
    assert f"{fit.beta[1]:.3f}" in mileage.source
    assert 0.03 < fit.error[1] < 0.04
