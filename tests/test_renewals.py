"""Renewals: T-REN-1, T-REN-2 for all four schedules, the due list, and its CSV and calendar."""

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, insert

from agent.errors import ConfigError
from receiver import db, policies
from receiver.policies import Cover, Policy, PolicyError
from receiver.rating.tables import kept_quote, kept_score
from receiver.renewals import exporting, rate, schedule
from receiver.renewals.due import due
from receiver.renewals.schedule import Contact
from tests.claiming import T0

END = date(2026, 12, 31)
DEVICE = "rw-0123456789abcdef"


def vin(letter: str) -> str:
    return f"LSV{letter}" + "1" * 13


def policy(name: str, car: str = "", ends: date = date(2026, 6, 30), days: int = 365, **changed: object) -> Policy:
    starts = ends - timedelta(days - 1)
    made = Policy(name, vin(car) if car else "", "", "2020", starts, ends, premium_fen=365_000)
    return replace(made, **changed)  # type: ignore[arg-type]


def t_ren_1() -> tuple[list[Policy], list[Policy]]:
    old = [
        policy("P1", "A"),
        policy("P2", "B", days=182),
        policy("P3", "C"),
        policy("P4", plate="鲁B1"),
        policy("P5", "D", sales_confirmed=False),
        policy("P6", "E", days=183),
    ]
    new = [
        policy("N1", "A", ends=date(2027, 6, 30)),
        policy("N4", ends=date(2027, 6, 30), plate="鲁B1"),
    ]
    return old, new


def test_t_ren_1_two_of_four_are_renewed() -> None:
    # T-REN-1
    found = rate.renewals(*t_ren_1())
    assert (found.renewed, found.renewable, str(found.rate_percent)) == (["P1", "P4"], 4, "50.00")
    assert found.excluded == {"P2": "short", "P5": "unconfirmed"}
    assert found.lost == ["P3", "P6"]
    assert rate.renewals([], []).rate_percent is None


def test_vin_wins_and_two_vins_under_one_plate_are_for_review() -> None:
    old = policy("P1", "A", plate="鲁B12345")
    following = {"ends": date(2027, 6, 30)}
    assert rate.renewals([old], [policy("N", "A", plate="京A00001", **following)]).renewed == ["P1"]  # type: ignore[arg-type]
    assert rate.renewals([old], [policy("N", "B", plate="鲁B12345", **following)]).review == ["P1"]  # type: ignore[arg-type]
    assert rate.renewals([old], [policy("N", plate="鲁B12345", **following)]).renewed == ["P1"]  # type: ignore[arg-type]
    assert rate.renewals([old], [policy("N", "B", **following)]).lost == ["P1"]  # type: ignore[arg-type]


@pytest.mark.parametrize(("late_days", "renewed"), [(0, True), (7, True), (8, False)])
def test_new_policy_may_begin_a_week_late(late_days: int, renewed: bool) -> None:
    new = policy("N", "A", ends=date(2027, 6, 30) + timedelta(late_days))
    assert bool(rate.renewals([policy("P", "A")], [new]).renewed) is renewed


def of(name: str, use_class: str = "family") -> list[Contact]:
    return schedule.contacts(schedule.schedule(name), END, use_class)


def test_t_ren_2_v1() -> None:
    # T-REN-2
    assert of("V1") == [
        Contact(date(2026, 11, 1), "sms", sms=True),
        Contact(date(2026, 12, 1), "sms", sms=True),
        Contact(date(2026, 12, 16), "call", END, 3),
    ]


def test_t_ren_2_v2() -> None:
    # T-REN-2
    tasks = [c for c in of("V2") if c.kind == "task"]
    before = [date(2026, 11, 1), date(2026, 12, 1), date(2026, 12, 16), date(2026, 12, 21), date(2026, 12, 26)]
    assert [c.day for c in tasks] == [*before, *(date(2027, 1, n) for n in range(1, 8))]
    assert [c.sms for c in tasks] == [True, True] + [False] * 10
    assert [c.day for c in of("V2") if c.kind == "escalate"] == [date(2026, 12, 24)]
    assert not any(c.sms for c in of("V2", "company"))


def test_t_ren_2_v3() -> None:
    # T-REN-2
    found = of("V3")
    assert found[0] == Contact(date(2026, 11, 16), "list")
    assert found[1] == Contact(date(2026, 11, 30), "contact", date(2026, 12, 2))
    tracked = [c.day for c in found if c.kind == "track"]
    assert tracked[0] == date(2026, 12, 3)
    assert {d.weekday() for d in tracked} == {0, 3}
    assert tracked[-1] == END  # a Thursday


def test_t_ren_2_v4() -> None:
    # T-REN-2
    assert of("V4") == [Contact(date(2026, 10, 2), "collate"), Contact(date(2026, 11, 25), "target")]


@settings(max_examples=150, deadline=None)
@given(st.dates(date(2020, 1, 1), date(2040, 12, 31)), st.sampled_from(["V1", "V2", "V3", "V4"]))
def test_any_end_has_its_contacts_in_order(ends: date, name: str) -> None:
    found = schedule.contacts(schedule.schedule(name), ends)
    assert found
    assert [c.day for c in found] == sorted(c.day for c in found)
    assert all(ends - timedelta(90) <= c.day <= ends + timedelta(7) for c in found)


def test_wrong_schedules_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"near names: V2|known: V1, V2, V3, V4"):
        schedule.schedule("V22")
    path = tmp_path / "s.toml"
    head = '[V9]\nen = "a"\nzh = "b"\nsource = "c"\nverified = true\n'
    for steps, said in [
        ("steps = [{ kind = 'sms' }]", "either days or a rule"),
        ("steps = [{ kind = 'fax', days = 1 }]", "fax"),
        ("steps = [{ kind = 'track', rule = 'weekdays', weekdays = [7] }]", "0 to 6"),
        ("steps = [{ kind = 'sms', day = -60 }]", "either days"),
    ]:
        path.write_text(head + steps, encoding="utf-8")
        schedule.schedules.cache_clear()
        with pytest.raises(ConfigError, match=said):
            schedule.schedules(path)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = db.open_database(f"sqlite:///{tmp_path / 'r.db'}")
    yield engine
    engine.dispose()


def kept(connection: Connection, *told: tuple[str, int, str]) -> None:
    """Keep scores of the device by month and car."""
    plain = {"device": DEVICE, "model": "relativity/2", "revision": 1, "newest": True, "final": True, "digest": ""}
    plain |= dict.fromkeys(("computed_utc_ns", "checked_utc_ns", "start_utc_ns", "end_utc_ns", "trips"), 0)
    plain |= {"relativity": 1.0, "credibility": 0.5, "km": 100.0, "result": b""}
    rows = [{**plain, "period": month, "score": score, "vin": car} for month, score, car in told]
    connection.execute(insert(kept_score), rows)


def quoted(connection: Connection, name: str, *totals_fen: int) -> None:
    """Keep quotes for a policy, one after the other."""
    words = ("device", "vin", "owner", "regime", "region", "consent", "score_model", "score_period", "no_score")
    plain = {**dict.fromkeys((*words, "given_by", "answer"), ""), "policy": name, "score_revision": 0}
    plain |= {"starts": END, "valid_until": END, "plain_fen": 0}
    rows = [{**plain, "id": f"q{n}", "given_utc_ns": n, "total_fen": fen} for n, fen in enumerate(totals_fen)]
    connection.execute(insert(kept_quote), rows)


def test_due_list_has_who_is_not_renewed_with_trend_and_difference(engine: Engine) -> None:
    ends = date(2026, 12, 31)
    with engine.begin() as connection:
        policies.put(connection, policy("A", "A", ends, device=DEVICE))
        policies.put(connection, policy("B", "B", ends - timedelta(30)))
        policies.put(connection, policy("C", "C", ends - timedelta(20)))
        policies.put(connection, policy("C2", "C", ends + timedelta(345)))
        policies.put(connection, policy("D", "D", ends + timedelta(120)))
        kept(connection, ("2025-12", 10, vin("A")), ("2026-01", 60, vin("X")), ("2026-02", 71, vin("A")))
        kept(connection, ("2026-06", 99, vin("A")), ("2026-11", 80, vin("A")))
        quoted(connection, "A", 378_000, 364_000)
        today = date(2026, 12, 5)
        found = due(connection, today, "V2")
    assert [d.policy.id for d in found] == ["B", "A"]
    b, a = found
    assert (b.days_left, b.escalated, b.next and b.next.day, [c.kind for c in b.today]) == (
        -4,
        True,
        today,
        ["task"],
    )
    assert (a.days_left, a.escalated, a.next and a.next.day, a.today) == (26, False, date(2026, 12, 16), [])
    assert (a.score_change, a.price_difference) == (9, Decimal("-10.00"))
    assert (b.score_change, b.price_difference) == (None, None)


def test_exports_can_be_read_again_and_run_nothing(engine: Engine) -> None:
    with engine.begin() as connection:
        policies.put(connection, policy("A", "A", END, owner="=cmd|' /C calc'!A0", plate="鲁A·12345"))
        found = due(connection, date(2026, 12, 20))
    (row,) = csv.DictReader(io.StringIO(exporting.to_csv(found), newline=""))
    assert (row["policy"], row["ends"], row["next_day"], row["next"]) == ("A", "2026-12-31", "2026-12-21", "task")
    assert row["owner"].startswith("'=")
    for language, said in (("en", "ends 2026-12-31"), ("zh", "于 2026-12-31 到期")):
        ics = exporting.to_ics(found, T0, language)
        lines = ics.split("\r\n")
        assert all(len(line.encode()) <= 75 for line in lines)
        unfolded = ics.replace("\r\n ", "")
        assert said in unfolded
        assert unfolded.count("BEGIN:VEVENT") == unfolded.count("END:VEVENT") == 10
        assert "DTSTART;VALUE=DATE:20261221" in unfolded
        assert "20261201" not in unfolded  # that contact is past
        assert len({x for x in unfolded.split("\r\n") if x.startswith("UID:")}) == 10


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_folding_loses_nothing(said: str) -> None:
    line = said.replace("\r", "").replace("\n", "")
    pieces = list(exporting._folded(line))
    assert pieces[0] + "".join(p[1:] for p in pieces[1:]) == line
    assert all(len(p.encode(errors="surrogatepass")) <= 75 for p in pieces)


def test_policy_is_kept_whole_and_replaced(engine: Engine) -> None:
    covers = (Cover("TPL", 100_000_000), Cover("VD", 15_000_000, True))
    first = policy("A", "A", covers=covers, device="rw-0123456789abcdef", plate="鲁A12345", owner="c-17")
    with engine.begin() as connection:
        policies.put(connection, first)
        assert policies.get(connection, "A") == first
        policies.put(connection, replace(first, covers=covers[:1]))
        assert policies.get(connection, "A") == replace(first, covers=covers[:1])
        day = first.ends
        assert policies.on(connection, day, vin=first.vin) == policies.on(connection, day, plate=first.plate) != []
        assert policies.on(connection, day + timedelta(1), vin=first.vin) == []
        assert policies.get(connection, "B") is None
        assert policies.vins_of(connection, first.device) == {first.vin}
        assert policies.devices_of(connection, [first.vin]) == {first.device}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"id": "../x"}, "id: use"),
        ({"vin": ""}, "give the VIN or the plate"),
        ({"vin": "IOQ"}, "no VIN"),
        ({"plate": "a b"}, "no plate"),
        ({"device": "x"}, "device"),
        ({"regime": "1999"}, "known: 2006, 2015, 2020"),
        ({"ends": date(2020, 1, 1)}, "before the start"),
        ({"premium_fen": -1}, "premium"),
        ({"covers": (Cover("ROOF"),)}, "'ROOF' is unknown"),
        ({"covers": (Cover("VD", 0),)}, "above 0"),
        ({"covers": (Cover("VD"), Cover("VD"))}, "twice"),
        ({"use_class": ""}, "use class"),
    ],
)
def test_bad_policy_names_the_field(engine: Engine, changed: dict[str, object], said: str) -> None:
    with engine.begin() as connection, pytest.raises(PolicyError, match=said):
        policies.put(connection, replace(policy("A", "A"), **changed))  # type: ignore[arg-type]
