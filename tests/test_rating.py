"""Kept scores and quotes: what was told stays, what changed is told anew, and no price takes a score unasked."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace as changed
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, func, insert, select, update
from typer.testing import CliRunner

from agent import clock
from receiver import db, disputes, policies
from receiver.cli import app
from receiver.policies import Policy
from receiver.pricing import QuoteError
from receiver.rating import batch, periods, portfolio, quotes, scores
from receiver.rating.batch import Rated, score_all
from receiver.rating.periods import RatingError
from receiver.rating.quotes import Asked
from receiver.rating.tables import kept_quote, kept_score
from receiver.registry import bindings, consents
from receiver.registry.tables import binding
from receiver.scoring.result import ScoreResult
from receiver.scoring.score import score_vehicle
from tests import registering
from tests.pages import NOW, Desk, S, braking, clock_at, drive
from tests.pricing import book, request_of, telematics
from tests.scored import DAY, TESLA, V1, V2
from tests.syncing import ListSource, new_database, postgresql

OCTOBER = "2026-10"
ENDS = periods.bounds(OCTOBER, "Asia/Shanghai")[1]
LATER = NOW + DAY
AGREED = ENDS - 400 * DAY
BOUND = {"bound_utc_ns": NOW + 2 * S, "bound_by": "t", "ended_by": "", "reason": ""}


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
def small(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(db.open_database(f"sqlite:///{tmp_path / 'receiver.db'}"))
    yield made
    made.engine.dispose()


def driven(desk: Desk, seed: int = 1, days: int = 12, harsh: bool = False) -> ListSource:
    """Drive once a day in the last days of October; with `harsh` brake in each drive."""
    source = desk.enrol(seed)
    agreed(desk.engine, source.device, seed)
    for day in range(days):
        sent(desk, source, ENDS - (day + 1) * DAY, f"boot-{day}", harsh)
    return source


def agreed(engine: Engine, device: str, seed: int = 1) -> str:
    """Put a device into a car of its own, whose owner agrees to a score; return the id of that consent."""
    own = registering.car(f"K-{seed}", f"WVWZZZ1JZXW00000{seed}", f"鲁A1234{seed}")
    registering.bound(engine, device, own, AGREED)
    registering.agreed(engine, device, "recording", "scoring", now_ns=AGREED)
    with engine.connect() as connection:
        found = consents.in_force(connection, device, "scoring", NOW)
    assert found is not None
    return found.id


def sent(desk: Desk, source: ListSource, at: int, boot: str, harsh: bool = False, received: int | None = None) -> None:
    """Send one drive that began at `at`."""
    events = [braking(300 * S), braking(500 * S)] if harsh else []
    desk.send(source, [clock_at(at, 100 * S), *drive(100 * S, 900, events=events)], boot, received or at)


def kept_rows(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(kept_score)).scalar_one()


# months


@pytest.mark.parametrize(
    "wrong", ["", "2026-13", "2026-00", "2026-1", "1999-12", "2201-01", "9999-12", "２０２６-10", "x"]
)
def test_what_is_no_month_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(RatingError, match="write a month like 2026-10"):
        periods.bounds(wrong, "Asia/Shanghai")


def test_months_are_those_of_the_insurers_zone() -> None:
    begins, ends = periods.bounds("2026-12", "Asia/Shanghai")
    assert (ends - begins) // DAY == 31
    assert periods.bounds("2026-12", "UTC")[0] - begins == 8 * 3600 * S
    assert periods.last_ended(ends, "Asia/Shanghai") == "2026-12"
    assert periods.last_ended(ends - 1, "Asia/Shanghai") == "2026-11"
    assert periods.last_ended(begins, "Asia/Shanghai") == "2026-11"


# scores


def test_a_month_is_kept_once_and_again_only_where_it_came_out_otherwise(desk: Desk) -> None:
    source = driven(desk, harsh=True)
    with desk.engine.begin() as connection:
        first = scores.score_device(connection, source.device, OCTOBER, V2, NOW)
        again = scores.score_device(connection, source.device, OCTOBER, V2, LATER)
        assert (first.revision, first.final, first.trips) == (1, True, 12)
        assert again == first._replace(checked_utc_ns=LATER)
        whole = scores.result(connection, again)
    assert whole == score_vehicle(desk.engine, source.device, V2, first.start_utc_ns, ENDS)
    sent(desk, source, ENDS - 2 * 3600 * S, "boot-late", received=LATER)
    with desk.engine.begin() as connection:
        second = scores.score_device(connection, source.device, OCTOBER, V2, LATER + DAY)
        assert (second.revision, second.trips) == (2, 13)
        told = scores.revisions(connection, source.device, OCTOBER)
        assert [(one.revision, one.newest) for one in told] == [(2, True), (1, False)]
        assert scores.latest(connection, source.device) == second
        assert scores.result(connection, told[1]) == whole  # what was told before can still be shown
        # whoever computed before somebody else kept does not overwrite him
        assert scores.score_device(connection, source.device, OCTOBER, V2, NOW) == second


def test_while_the_month_lasts_its_row_is_written_again(small: Desk) -> None:
    source = driven(small)
    sent(small, source, NOW - 2 * DAY, "november-1")
    with small.engine.begin() as connection:
        first = scores.score_device(connection, source.device, "2026-11", V2, NOW - DAY)
    sent(small, source, NOW - DAY // 2, "november-2")
    with small.engine.begin() as connection:
        second = scores.score_device(connection, source.device, "2026-11", V2, NOW)
        assert (first.final, first.trips, first.end_utc_ns) == (False, 13, NOW - DAY)
        assert (second.final, second.trips, second.revision) == (False, 14, 1)
        after = periods.bounds("2026-11", V2.zone)[1]
        last = scores.score_device(connection, source.device, "2026-11", V2, after)
        assert (last.final, last.revision) == (True, 1)
        scores.score_device(connection, source.device, OCTOBER, V2, after)
        assert [one.period for one in scores.history(connection, source.device, 12)] == ["2026-11", OCTOBER]
        assert [one.period for one in scores.history(connection, source.device, 1)] == ["2026-11"]
        assert scores.history(connection, source.device, 12, "relativity/1") == []
        with pytest.raises(RatingError, match="has not begun"):
            scores.score_device(connection, source.device, "2027-01", V2, NOW)


def test_disputed_and_unconfirmed_events_weigh_nothing_until_decided(small: Desk) -> None:
    source = driven(small, harsh=True)
    with small.engine.begin() as connection:
        before = scores.score_device(connection, source.device, OCTOBER, V2, NOW)
        event_of = (
            next(x for x in scores.result(connection, before).lines if x.term == "severe_braking").shares[0].event
        )
    assert event_of is not None
    entry = (event_of.lineage, event_of.lane, event_of.seq)
    number = disputes.dispute_entry(small.engine, source.device, entry, "owner", "a dog", NOW + S)
    assert score_all(small.engine, OCTOBER, V2, NOW + 2 * S) == Rated(1, 0, 1, 1)
    disputes.decide(small.engine, number, False, "adjuster", "there is no dog", NOW + 3 * S)
    assert score_all(small.engine, OCTOBER, V2, NOW + 4 * S) == Rated(1, 0, 1, 1)
    with small.engine.connect() as connection:
        third, second, first = scores.revisions(connection, source.device, OCTOBER)
        assert second.relativity < first.relativity
        assert third.relativity == first.relativity
        assert scores.result(connection, second).exposure.events == {"harsh_braking.severe": 23}


def test_a_damaged_row_says_so_and_is_computed_again(small: Desk) -> None:
    source = driven(small)
    score_all(small.engine, OCTOBER, V2, NOW)
    with small.engine.begin() as connection:
        connection.execute(update(kept_score).values(result=b"no frame"))
        kept = scores.latest(connection, source.device)
        assert kept is not None
        with pytest.raises(RatingError, match="damaged"):
            scores.result(connection, kept)
    assert score_all(small.engine, OCTOBER, V2, LATER) == Rated(1, 0, 0, 0)
    assert score_all(small.engine, OCTOBER, V2, LATER, again=True) == Rated(1, 0, 1, 1)
    with small.engine.connect() as connection:
        mended = scores.latest(connection, source.device)
        assert mended is not None
        assert isinstance(scores.result(connection, mended), ScoreResult)


# all cars


def test_a_run_skips_what_is_kept_and_scores_again_what_changed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "PAGE", 2)
    sources = [driven(desk, seed, days=3, harsh=seed % 2 == 0) for seed in (1, 2, 3)]
    idle, unasked, regretful = desk.enrol(4), desk.enrol(5), desk.enrol(6)
    agreed(desk.engine, regretful.device, 6)
    consents.withdraw(desk.engine, regretful.device, "scoring", AGREED + S, by="owner")
    agreed(desk.engine, idle.device, 4)
    sent(desk, unasked, ENDS - DAY, "boot-0")  # its owner never agreed to a score
    heard: list[Rated] = []
    assert score_all(desk.engine, OCTOBER, V2, NOW, told=heard.append) == Rated(6, 2, 4, 4)
    assert [done.vehicles for done in heard] == [2, 4, 6]
    assert score_all(desk.engine, OCTOBER, V2, LATER) == Rated(6, 2, 0, 0)
    sent(desk, sources[1], ENDS + DAY, "november", received=LATER + S)  # not of that month: nothing to do
    assert score_all(desk.engine, OCTOBER, V2, LATER + DAY) == Rated(6, 2, 0, 0)
    sent(desk, sources[1], ENDS - DAY // 2, "late", received=LATER + 2 * DAY)
    assert score_all(desk.engine, OCTOBER, V2, LATER + 3 * DAY) == Rated(6, 2, 1, 1)
    assert score_all(desk.engine, OCTOBER, V2, LATER + 4 * DAY, again=True) == Rated(6, 2, 4, 0)
    assert kept_rows(desk.engine) == 5


def test_a_run_that_is_cut_goes_on_where_it_was(small: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "PAGE", 1)
    for seed in (1, 2, 3):
        driven(small, seed, days=1)

    class Cut(Exception):  # noqa: N818 - no error of ours
        pass

    def cut(done: Rated) -> None:
        if done.vehicles == 2:
            raise Cut

    with pytest.raises(Cut):
        score_all(small.engine, OCTOBER, V2, NOW, told=cut)
    assert kept_rows(small.engine) == 2
    assert score_all(small.engine, OCTOBER, V2, NOW) == Rated(3, 0, 1, 1)


def test_workers_keep_the_same_rows(small: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "PAGE", 1)
    for seed in (1, 2, 3):
        driven(small, seed, days=2, harsh=seed == 2)
    everything = select(kept_score).order_by(kept_score.c.device)
    score_all(small.engine, OCTOBER, V2, NOW)
    with small.engine.begin() as connection:
        alone = connection.execute(everything).all()
        connection.execute(kept_score.delete())
    assert score_all(small.engine, OCTOBER, V2, NOW, workers=2) == Rated(3, 0, 3, 3)
    with small.engine.connect() as connection:
        assert connection.execute(everything).all() == alone


def made_up(engine: Engine, model: str, told: list[int | None]) -> None:
    """Keep scores of devices without drives."""
    common = {"model": model, "period": OCTOBER, "revision": 1, "newest": True, "final": True, "vin": ""}
    common |= {"digest": "", "computed_utc_ns": NOW, "checked_utc_ns": NOW, "start_utc_ns": 0, "end_utc_ns": ENDS}
    numbers = {"relativity": 1.5, "credibility": 0.5, "km": 100.0, "trips": 4, "result": b""}
    rows = [{**common, **numbers, "device": f"rw-{n:016x}", "score": score} for n, score in enumerate(told)]
    with engine.begin() as connection:
        connection.execute(insert(kept_score), rows)


def test_distribution_adds_up_and_names_nobody(desk: Desk) -> None:
    made_up(desk.engine, "relativity/2", [0, 9, 10, 55, 55, 90, 100, None])
    with desk.engine.connect() as connection:
        told = portfolio.distribution(connection, "relativity/2", OCTOBER)
        empty = portfolio.distribution(connection, "relativity/2", "2026-09")
    assert (told.vehicles, told.scored, told.final, told.km, told.trips) == (8, 7, 8, 800.0, 32)
    assert told.tens() == [2, 1, 0, 0, 0, 2, 0, 0, 0, 2]
    assert told.mean == pytest.approx(319 / 7)
    assert told.quantiles == {10: 0, 25: 9, 50: 55, 75: 90, 90: 100}
    assert (told.credibility, told.relativity) == (0.5, 1.5)
    assert b"rw-" not in msgspec.json.encode(told)
    assert (empty.vehicles, empty.mean, empty.quantiles) == (0, None, {})


def test_backtest_shows_shifts_and_who_moves_most(desk: Desk) -> None:
    made_up(desk.engine, "relativity/1", [50, 50, 60, 70, None, 10])
    made_up(desk.engine, "relativity/2", [52, 50, 40, 90, 33, None])
    with desk.engine.connect() as connection:
        told = portfolio.compare(connection, "relativity/1", "relativity/2", OCTOBER, movers=2)
        with pytest.raises(RatingError, match="nothing is kept of 2026-10 under tesla/1"):
            portfolio.compare(connection, "relativity/1", "tesla/1", OCTOBER)
    assert (told.both, told.only_a, told.only_b) == (4, 1, 1)
    assert told.shifts == {-20: 1, 0: 1, 2: 1, 20: 1}
    assert (told.mean_shift, told.moved_over_5) == (0.5, 2)
    assert [(m.device[-1], m.shift) for m in told.movers] == [("2", -20), ("3", 20)]
    # ranks 1.5 1.5 3 4 against 3 2 1 4
    assert told.correlation == pytest.approx(1.5 / (4.5 * 5.0) ** 0.5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=40))
def test_ranks_and_quantiles_are_those_of_the_cars_one_by_one(pairs: list[tuple[int, int]]) -> None:
    joint = [(*pair, n) for pair, n in Counter(pairs).items()]
    sides = list(zip(*pairs, strict=True))
    ranks = [[(sum(x < v for x in side) + sum(x <= v for x in side) + 1) / 2 for v in side] for side in sides]
    found = portfolio._correlation(joint)
    if min(len(set(side)) for side in ranks) == 1:
        assert found is None
    else:
        assert found == pytest.approx(np.corrcoef(ranks)[0, 1], abs=1e-9)
    scores_a = sorted(a for a, _ in pairs)
    counts = [scores_a.count(score) for score in range(101)]
    below = [100 * sum(x <= score for x in scores_a) / len(pairs) for score in range(101)]
    least = {q: next(score for score in range(101) if below[score] >= q) for q in (10, 50, 90)}
    told = portfolio._quantiles(counts, len(pairs))
    assert {q: told[q] for q in least} == least


def test_backtest_scores_what_is_missing_under_both_models(small: Desk) -> None:
    for seed in (1, 2):
        driven(small, seed, harsh=seed == 2)
    score_all(small.engine, OCTOBER, V2, NOW)
    told = portfolio.backtest(small.engine, V2, V1, OCTOBER, NOW)
    assert (told.a.model, told.b.model, told.both) == ("relativity/2", "relativity/1", 2)
    assert kept_rows(small.engine) == 4


# quotes


def asked(device: str = "", **given: object) -> Asked:
    request = request_of(start=date(2026, 12, 1), history=request_of().history)
    return Asked(request=request, device=device, **given)  # type: ignore[arg-type]


def test_a_score_enters_a_price_only_with_consent_and_the_quote_stays_as_told(desk: Desk) -> None:
    source = desk.enrol()
    for day in range(12):
        sent(desk, source, ENDS - (day + 1) * DAY, f"boot-{day}", harsh=True)
    with desk.engine.begin() as connection:
        plain = quotes.quote(connection, asked(source.device), book(), NOW, "page")
        with pytest.raises(RatingError, match="has not agreed"):
            scores.score_device(connection, source.device, OCTOBER, V2, NOW)
    consent = agreed(desk.engine, source.device)
    with desk.engine.begin() as connection:
        told = quotes.quote(connection, asked(source.device), book(), NOW, "page")
        assert (plain.no_score, plain.consent, plain.total_fen) == ("no_consent", "", plain.plain_fen)
        assert (told.no_score, told.consent, told.owner) == ("", consent, "K-1")
        assert (told.score_model, told.score_period, told.score_revision) == ("relativity/2", OCTOBER, 1)
        assert told.plain_fen == plain.total_fen
        assert told.total_fen > told.plain_fen  # it brakes hard in every drive
        whole = quotes.answer(connection, told.id)
        assert quotes.yuan(told.total_fen) == whole.total_yuan == told.total_yuan
        assert whole.request.telematics is not None
        assert whole.score_version == f"{V2.id} {V2.digest[:12]}"
        assert told.valid_on(whole.valid_until)
        assert quotes.quote(connection, asked(source.device), book(), NOW, "page") == told
        assert quotes.quote_of(connection, told.id) == told
        assert connection.execute(select(func.count()).select_from(kept_quote)).scalar_one() == 2
    consents.withdraw(desk.engine, source.device, "scoring", NOW + S, by="owner")
    with desk.engine.begin() as connection:
        after = quotes.quote(connection, asked(source.device), book(), NOW + S, "page")
        assert (after.no_score, after.total_fen) == ("no_consent", plain.total_fen)
        assert quotes.quote_of(connection, told.id) == told


def test_what_was_driven_in_another_car_is_not_this_cars(small: Desk) -> None:
    source = driven(small, harsh=True)
    score_all(small.engine, OCTOBER, V2, NOW)
    bindings.unbind(small.engine, source.device, NOW + S, by="technician", reason="car sold")
    other = registering.car("K-1", "WVWZZZ1JZXW000009", "鲁A12349")
    registering.bound(small.engine, source.device, other, NOW + 2 * S)
    registering.agreed(small.engine, source.device, "recording", "scoring", now_ns=NOW + 2 * S)
    assert score_all(small.engine, OCTOBER, V2, LATER, again=True) == Rated(1, 0, 1, 0)
    sent(small, source, NOW + 3 * S, "other-car")
    december = periods.bounds("2026-12", V2.zone)[0]
    with small.engine.begin() as connection:
        assert scores.history(connection, source.device, 12) == []
        first = quotes.quote(connection, asked(source.device), book(), LATER, "page")
        assert (first.no_score, first.vin) == ("not_driven", other.vin)
        told = scores.score_device(connection, source.device, "2026-11", V2, december)
        assert (told.vin, told.trips, told.start_utc_ns) == (other.vin, 1, NOW + S)
        assert scores.latest(connection, source.device) == told


def test_what_another_owner_drove_in_the_same_car_is_not_this_owners(small: Desk) -> None:
    source = driven(small)
    sold = NOW + S
    bindings.unbind(small.engine, source.device, sold, by="technician", reason="car sold")
    with small.engine.begin() as connection:
        car = bindings.listed(connection, device=source.device)[0].vin
        connection.execute(insert(binding).values(**{**BOUND, "device": source.device, "vin": car, "owner": "K-9"}))
        assert scores.moved_in_ns(connection, source.device, car) == sold


def test_a_consent_withdrawn_while_the_month_is_scored_keeps_nothing(
    small: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = driven(small, days=1)
    compute = batch._computed

    def withdrawn_then(*given: Any) -> Iterator[Any]:
        for page in compute(*given):
            consents.withdraw(small.engine, source.device, "scoring", NOW + S, by="owner")
            yield page

    monkeypatch.setattr(batch, "_computed", withdrawn_then)
    assert score_all(small.engine, OCTOBER, V2, NOW) == Rated(1, 0, 1, 0)
    assert kept_rows(small.engine) == 0


def test_why_no_score_entered_is_said(small: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    source = small.enrol()
    agreed(small.engine, source.device)
    with small.engine.begin() as connection:
        ask = quotes.quote(connection, asked(), book(), NOW, "page")
        idle = quotes.quote(connection, asked(source.device), book(), NOW, "page")
        assert (idle.no_score, idle.consent) == ("not_driven", "")
        tesla = quotes.quote(connection, asked(source.device, model=TESLA.id), book(), NOW, "page")
        monkeypatch.setattr(bindings, "mismatches", lambda *_: ["another VIN"])
        moved = quotes.quote(connection, asked(source.device), book(), NOW, "page")
    told = [ask.no_score, idle.no_score, tesla.no_score, moved.no_score]
    assert told == ["no_device", "not_driven", "not_for_price", "other_car"]
    assert set(told) <= set(quotes.NO_SCORE)


def test_nobody_hands_in_a_score_or_another_cars_policy(small: Desk) -> None:
    source = small.enrol()
    other = Policy("P1", "", "鲁B12345", "2020", date(2026, 1, 1), date(2026, 12, 31), device="rw-" + "0" * 16)
    wrong = asked(source.device)
    forged = msgspec.structs.replace(
        wrong, request=msgspec.structs.replace(wrong.request, telematics=telematics("0.5"))
    )
    with small.engine.begin() as connection:
        policies.put(connection, other)
        with pytest.raises(QuoteError, match="telematics"):
            quotes.quote(connection, forged, book(), NOW, "page")
        with pytest.raises(RatingError, match="not enrolled"):
            quotes.quote(connection, asked("rw-nobody"), book(), NOW, "page")
        with pytest.raises(RatingError, match="is of another car"):
            quotes.quote(connection, asked(source.device, policy="P1"), book(), NOW, "page")
        with pytest.raises(RatingError, match="there is none"):
            quotes.quote(connection, asked(policy="P2"), book(), NOW, "page")
        with pytest.raises(RatingError, match="there is none"):
            quotes.answer(connection, "0" * 16)
        assert quotes.quotes(connection)[0] == []


def test_quotes_come_in_pages_by_whose_they_are(small: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotes, "PAGE", 2)
    mine = Policy("P1", "", "鲁B12345", "2020", date(2026, 1, 1), date(2026, 12, 31), owner="owner-7")
    with small.engine.begin() as connection:
        policies.put(connection, mine)
        policies.put(connection, changed(mine, id="P2", owner="owner-8"))
        for n in range(3):
            quotes.quote(connection, asked(policy="P1"), book(), NOW + n * S, "page")
        quotes.quote(connection, asked(policy="P2"), book(), NOW, "page")
        found, page = quotes.quotes(connection, owner="owner-7")
        assert ([q.given_utc_ns for q in found], page.pages, page.total) == ([NOW + 2 * S, NOW + S], 2, 3)
        assert len(quotes.quotes(connection, owner="owner-7", page=2)[0]) == 1
        assert quotes.quotes(connection, policy="P2")[1].total == 1
        assert quotes.quotes(connection, devices=[])[1].total == 0
        assert quotes.quotes(connection, page=99)[1].number == 2


def test_lists_of_scores_and_quotes_read_no_whole_table(small: Desk) -> None:
    source = driven(small, days=1)
    said: set[tuple[str, tuple[object, ...]]] = set()

    @event.listens_for(small.engine, "before_cursor_execute")
    def _note(_: object, __: object, statement: str, parameters: tuple[object, ...], *___: object) -> None:
        if statement.startswith("SELECT"):
            said.add((statement, parameters))

    with small.engine.begin() as connection:
        quotes.quote(connection, asked(source.device, owner="o"), book(), NOW, "page")
        scores.history(connection, source.device, 12)
        portfolio.distribution(connection, V2.id, OCTOBER)
        quotes.quotes(connection, owner="o")
        quotes.quotes(connection, devices=[source.device])
    score_all(small.engine, OCTOBER, V2, NOW)
    with small.engine.connect() as connection:
        plans = [r[3] for s, p in said for r in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {s}", p).all()]
    assert plans
    assert not [plan for plan in plans if plan.startswith("SCAN kept_")]


# commands


def told(url: str, *words: str) -> Any:
    done = CliRunner().invoke(app, ["rate", *words, "--db", url, "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "wall_ns", lambda: NOW)


def test_the_commands_keep_show_and_compare(small: Desk, tmp_path: Path) -> None:
    source = driven(small, harsh=True)
    url = str(small.engine.url)
    assert told(url, "--period", OCTOBER)["changed"] == 1
    assert told(url, "--period", OCTOBER)["computed"] == 0
    assert told(url, "show", source.device)["scores"][0]["period"] == OCTOBER
    assert sum(told(url, "spread", "--period", OCTOBER)["tens"]) == 1
    assert told(url, "backtest", "--period", OCTOBER, "--against", "relativity/1")["both"] == 1
    request = tmp_path / "request.json"
    request.write_bytes(msgspec.json.encode(request_of(start=date(2026, 12, 1))))
    given = told(url, "quote", "--device", source.device, "--request", str(request), "--who", "me")
    assert (given["quote"]["no_score"], given["quote"]["score_period"]) == ("", OCTOBER)
    assert given["answer"]["total_yuan"] == given["quote"]["total_yuan"] > given["quote"]["plain_yuan"]
    assert [q["id"] for q in told(url, "quotes", "--device", source.device)["quotes"]] == [given["quote"]["id"]]
    for words in (("show", source.device), ("spread", "--period", OCTOBER), ("quotes",), ("--period", OCTOBER)):
        plain = CliRunner().invoke(app, ["rate", *words, "--db", url])
        assert plain.exit_code == 0
        assert plain.stdout.strip()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--period", "2026-13"], "2026-13"),
        (["--period", "2199-01"], "has not begun"),
        (["--model", "relativity/9"], "relativity/9"),
        (["--again", "show", "rw-1"], "after show"),
        (["backtest", "--against", "nothing/1"], "nothing/1"),
    ],
)
def test_what_cannot_be_done_is_one_line_that_names_it(small: Desk, words: list[str], named: str) -> None:
    at = ["--db", str(small.engine.url)] if "--again" not in words else []
    done = CliRunner().invoke(app, ["rate", *words, *at])
    assert done.exit_code != 0
    assert named in str(done.exception)
    assert "\n" not in str(done.exception)
