"""A claim from the crash to the payment over SQLite and PostgreSQL: opened by itself, checked, assessed, settled."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, func, select, update

from agent.errors import RoadwitnessError
from agent.records import Event, Mount, Track
from receiver import claims, contents, db, disputes, policies
from receiver.chained import Head
from receiver.claiming import assessing, facts, history, reading, reporting, states, tables
from receiver.claiming.reporting import Car, Declared
from receiver.claiming.rules import RULES, Finding
from receiver.claiming.states import MOVES, STATES, ClaimError
from receiver.figures import kpi
from receiver.policies import Cover, Policy
from receiver.pricing.book import RateBook, load_book
from tests import sample_records
from tests.crash_cases import NOW, Box, Insurer, hit
from tests.crash_cases import tables as tables_of_a_crash
from tests.packing import T0_NS, UTC_NS, S
from tests.syncing import postgresql

H = 3600 * S
T0 = UTC_NS + T0_NS
K = facts.limits()
D = Decimal


@cache
def book() -> RateBook:
    return load_book()


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def insurer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Insurer]:
    url = ""
    if request.param == "postgresql":
        url = request.getfixturevalue("cluster")
        engine = db.open_database(url)
        db.metadata.drop_all(engine)
        engine.dispose()
    made = Insurer(tmp_path / "insurer", url)
    yield made
    made.engine.dispose()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    at = contents.table(tables_of_a_crash()["track.csv"])
    zero = min(range(len(at.t_s)), key=lambda n: abs(at.t_s[n]))
    latitude, longitude = at.column("latitude_deg")[zero], at.column("longitude_deg")[zero]
    made = Box(tmp_path / "box", hit(locked=True, heading_deg=0.0, latitude=latitude, longitude=longitude))
    yield made
    made.store.close()


def insure(insurer: Insurer, device: str, *covers: Cover, name: str = "P-1", **changed: Any) -> Policy:
    day = assessing.local_day(T0)
    policy = Policy(
        name,
        "LSVA1111111111111",
        "鲁A12345",
        "2020",
        day - timedelta(72),
        day + timedelta(292),
        premium_fen=365_000,
        covers=covers or (Cover("VD", 15_000_000), Cover("TPL", 100_000_000)),
        device=device,
    )
    with insurer.engine.begin() as connection:
        policies.put(connection, replace(policy, **changed))
    return replace(policy, **changed)


def page(insurer: Insurer, claim: str) -> reading.ClaimPage:
    return reading.claim(insurer.engine, book(), claim)


def found(insurer: Insurer, claim: str, rule: str, now_ns: int = NOW) -> Finding:
    return {f.name: f for f in assessing.check(insurer.engine, claim, now_ns, insurer.files)}[rule]


def assessed(insurer: Insurer, claim: str, amount: str = "8600.00") -> Decimal:
    reporting.put_car(insurer.engine, claim, Car(1, fault="full", compulsory=True), "adjuster", NOW)
    number = reporting.add_loss(insurer.engine, claim, "vehicle", D(9000), "adjuster", NOW)
    made = assessing.assess(insurer.engine, book(), claim, {number: D(amount)}, "adjuster", "looked at it", NOW)
    return made.total


def test_t_claim_auto_a_crash_becomes_a_checked_claim_without_anybody(insurer: Insurer, box: Box) -> None:
    # T-CLAIM-AUTO
    box.crashes()
    insurer.take_all(box)
    (queued,), _ = reading.queue(insurer.engine)
    assert (queued.state, queued.opened_by, queued.incident) == ("evidence", "device", box.crash.id)
    shown = page(insurer, queued.id)
    assert [f.name for f in shown.findings] == list(RULES)
    told = {f.name: f for f in shown.findings}
    assert told["report_delay"].figures["device_notice_s"] == 40.0
    assert (told["evidence"].reason, told["clock"].reason, told["no_impact"].reason) == ("proved", "sure", "measured")
    assert told["moved_after"].reason == "still"  # by track.csv of the package
    assert told["moved_after"].evidence[-1].kind == "file"
    assert [s.what for s in shown.history] == ["opened", "proved", "checked"]
    assert shown.reports == []
    assert all(f.evidence or f.result == "clear" for f in shown.findings if f.result != "unknown")


def test_notice_within_ten_seconds_is_told_as_such(insurer: Insurer, box: Box) -> None:
    # T-CLAIM-DELAY
    box.crashes(films="")
    insurer.enrol(box)
    insurer.take_records(box, T0 + 10 * S)
    claim = claims.claim_id(box.store.device, box.crash.id)
    assert found(insurer, claim, "report_delay").figures["device_notice_s"] == 10.0


def test_report_joins_the_claim_that_the_device_opened(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.take_all(box)
    claim = claims.claim_id(box.store.device, box.crash.id)
    place = facts.Place(box.crash.latitude or 0.0, box.crash.longitude or 0.0)
    declared = Declared(box.store.device, T0 + 600 * S, "owner-7", "hit a wall", place)
    assert reporting.report(insurer.engine, declared, T0 + 49 * H, K) == claim
    assert found(insurer, claim, "report_delay").reason == ">48h"
    assert found(insurer, claim, "place_mismatch").reason == "near"
    # a correction changes the place, not when notice was given
    wrong = replace(declared, place=facts.Place(place.latitude + 0.0088, place.longitude))
    assert reporting.report(insurer.engine, wrong, T0 + 50 * H, K) == claim
    assert found(insurer, claim, "report_delay").figures["notice_delay_h"] == 49.0
    far = found(insurer, claim, "place_mismatch")
    assert (far.result, round(float(far.figures["distance_m"] or 0))) == ("flag", 979)
    assert [s.what for s in page(insurer, claim).history].count("reported") == 2


def test_report_without_a_crash_opens_a_claim_and_the_device_says_what_it_saw(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.take_all(box)
    loss_ns = T0 - 100 * H
    declared = Declared(box.store.device, loss_ns, "owner-7")
    claim = reporting.report(insurer.engine, declared, NOW, K)
    assert reporting.report(insurer.engine, declared, NOW + S, K) == claim  # told twice is one claim
    assert (page(insurer, claim).opened_by, page(insurer, claim).state) == ("owner", "reported")
    assert found(insurer, claim, "no_impact").reason == "no_record"
    trip = msgspec.structs.replace(sample_records.trip(), start_ns=T0_NS - 100 * H, end_ns=T0_NS - 100 * H + 60 * S)
    box.store.append([(T0_NS, trip)])
    insurer.take_records(box, NOW + S)
    assert found(insurer, claim, "no_impact").reason == "none"


def test_crash_that_arrives_after_the_report_is_one_loss_claimed_twice(insurer: Insurer, box: Box) -> None:
    insurer.enrol(box)
    claim = reporting.report(insurer.engine, Declared(box.store.device, T0 + 60 * S, "owner-7"), NOW, K)
    box.crashes(films="")
    insurer.take_all(box)
    assert found(insurer, claim, "no_impact").reason == "measured"
    twice = found(insurer, claim, "duplicate")
    assert (twice.result, twice.figures["others"]) == ("flag", claims.claim_id(box.store.device, box.crash.id))


def after(box: Box, *records: Any, end_s: float = 300.0) -> None:
    """Let the device tell of a trip through time zero, and of what else befell."""
    trip = msgspec.structs.replace(sample_records.trip(), start_ns=T0_NS - 600 * S, end_ns=T0_NS + round(end_s * S))
    box.store.append([(T0_NS + S, r) for r in (trip, *records)])


def drive(box: Box, metres: float, seconds: int) -> Track:
    """Return a track north from the crash, a point each second."""
    steps = round(metres / seconds / 111_195.08 * 1e7)
    return Track(
        trip_start_ns=T0_NS - 600 * S,
        start_ns=T0_NS,
        error_m=5.0,
        dt_ms=[0] + [1000] * seconds,
        dlat_e7=[round((box.crash.latitude or 0) * 1e7)] + [steps] * seconds,
        dlon_e7=[round((box.crash.longitude or 0) * 1e7)] + [0] * seconds,
        speed_cmps=[0] + [round(100 * metres / seconds)] * seconds,
    )


def event(kind: str, t_s: float, peak: float) -> Event:
    made = msgspec.structs.replace(sample_records.event(), kind=kind, t_ns=T0_NS + round(t_s * S), peak=peak)
    return msgspec.structs.replace(made, trip_t_ns=None, window=None, unit="deg")


def test_t_claim_evade_leaving_cutting_and_turning_are_flags_with_their_records(insurer: Insurer, box: Box) -> None:
    # T-CLAIM-EVADE
    box.crashes(films="")
    mounts = [
        Mount(t_ns=T0_NS - 50 * S, gravity=(0.0, 0.0, 1.0), forward=(1.0, 0.0, 0.0), confidence=0.9),
        Mount(t_ns=T0_NS + 90 * S, gravity=(0.0, 0.5, 0.866), forward=(1.0, 0.0, 0.0), confidence=0.9),
    ]
    after(box, drive(box, 300.0, 60), event("power_lost", 120.0, 0.0), *mounts)
    insurer.take_all(box)
    claim = claims.claim_id(box.store.device, box.crash.id)
    left = found(insurer, claim, "left_scene")
    assert (left.result, left.figures["left_scene"]) == ("flag", True)
    assert float(left.figures["driven_m"] or 0) == pytest.approx(300, abs=12)
    moved = found(insurer, claim, "moved_after")
    assert (moved.reason, moved.evidence[-1].ref.split("/")[2]) == ("driven", "track")
    cut = found(insurer, claim, "power_cut")
    assert (cut.result, cut.figures["after_s"], cut.figures["package_complete"]) == ("flag", 120.0, True)
    assert cut.evidence[-1].ref.split("/")[2] == "event"
    turned = found(insurer, claim, "device_moved")
    assert (turned.result, turned.figures["angle_deg"]) == ("flag", 30.0)
    assert page(insurer, claim).state == "evidence"  # flags move nothing


def test_two_of_ours_in_one_crash_are_set_beside_each_other(insurer: Insurer, box: Box, tmp_path: Path) -> None:
    crash = msgspec.structs.replace(box.crash, heading_deg=180.0, latitude=(box.crash.latitude or 0.0) + 0.00003)
    other = Box(tmp_path / "other", crash)
    for one in (box, other):
        one.crashes(films="")
        insurer.take_all(one)
    claim = claims.claim_id(box.store.device, box.crash.id)
    told = found(insurer, claim, "other_party")
    assert (told.result, told.reason, told.figures["device"]) == ("clear", "plausible", other.store.device)
    assert told.figures["angle_deg"] == 180.0
    assert told.evidence[-1].ref.startswith(other.store.device)
    silent = f"rw-{'0' * 16}"
    reporting.put_car(insurer.engine, claim, Car(2, device=silent), "adjuster", NOW)
    assert found(insurer, claim, "other_party").reason == "silent"
    other.store.close()


def test_assessed_and_settled_by_a_person_with_every_step_kept(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.take_all(box)
    claim = claims.claim_id(box.store.device, box.crash.id)
    insure(insurer, box.store.device)
    assert assessed(insurer, claim) == D("8600.00")
    shown = page(insurer, claim)
    assert (shown.state, shown.proposal and shown.proposal.regime) == ("assessed", "2020")
    assert (shown.reserve.amount, shown.reserve.basis, shown.moves) == (
        D("8600.00"),
        "losses",
        ["assessed", "settled", "disputed"],
    )
    assert assessing.settle(insurer.engine, claim, "adjuster", "owner agreed", NOW + H) == D("8600.00")
    shown = page(insurer, claim)
    assert (shown.state, shown.paid, shown.reserve.amount) == ("settled", D("8600.00"), 0)
    steps = [(s.who, s.what, s.before, s.after, s.why) for s in shown.history if s.before != s.after]
    assert steps == [
        (box.store.device, "opened", "", "reported", ""),
        ("verifier", "proved", "reported", "evidence", ""),
        ("adjuster", "assessed", "evidence", "assessed", "looked at it"),
        ("adjuster", "settled", "assessed", "settled", "owner agreed"),
    ]
    assert history.verify(insurer.engine).broken is None
    # settled claims change only by a dispute; then only the difference is paid
    with pytest.raises(ClaimError, match="dispute it"):
        reporting.add_loss(insurer.engine, claim, "vehicle", D(1), "adjuster", NOW)
    disputes.dispute_flag(insurer.engine, claim, "settlement", "owner-7", "the bumper is missing", NOW)
    again = assessing.assess(insurer.engine, book(), claim, {1: D(9_000)}, "adjuster", "right", NOW)
    assert again.total == 9_000
    assert assessing.settle(insurer.engine, claim, "adjuster", "paid the rest", NOW) == D(400)
    assert page(insurer, claim).paid == 9_000


def test_what_is_missing_for_an_assessment_is_named(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.take_all(box)
    claim = claims.claim_id(box.store.device, box.crash.id)

    def refused(said: str, field: str, **amounts: D) -> None:
        numbers = {int(k[1:]): v for k, v in amounts.items()}
        with pytest.raises(ClaimError, match=said) as e:
            assessing.assess(insurer.engine, book(), claim, numbers, "adjuster", "why", NOW)
        assert e.value.field == field
        assert page(insurer, claim).state == "evidence"

    refused("no policy of this car", "policy")
    insure(insurer, box.store.device)
    refused("fault of the insured car", "fault")
    reporting.put_car(insurer.engine, claim, Car(1, fault="primary"), "adjuster", NOW)
    reporting.add_loss(insurer.engine, claim, "vehicle", D(10_000), "adjuster", NOW)
    refused("loss 1 is not assessed", "amounts")
    refused("no loss number 7", "amounts", n7=D(1))
    refused("two decimals", "loss 1", n1=D("1.001"))
    refused("not negative", "loss 1", n1=D(-1))
    refused("no amount", "loss 1", n1=D("NaN"))
    with pytest.raises(ClaimError, match="say why"):
        assessing.assess(insurer.engine, book(), claim, {1: D(1)}, "adjuster", " ", NOW)
    with pytest.raises(ClaimError, match="cannot become settled"):
        states_only(insurer, claim, "settled")
    with pytest.raises(ClaimError, match="none of that name"):
        assessing.check(insurer.engine, "0" * 16, NOW)


def states_only(insurer: Insurer, claim: str, to: str) -> None:
    with insurer.engine.begin() as connection:
        states.move(connection, claim, to, NOW, who="somebody", what="settled", why="so")


def test_two_cars_of_ours_settle_fast(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.take_all(box)
    claim = claims.claim_id(box.store.device, box.crash.id)
    insure(insurer, box.store.device)
    for number, fault in ((1, "primary"), (2, "secondary")):
        car = Car(number, fault=fault, compulsory=True, agrees=True)
        reporting.put_car(insurer.engine, claim, car, "adjuster", NOW)
    reporting.add_loss(insurer.engine, claim, "vehicle", D(1_500), "adjuster", NOW)
    reporting.add_loss(insurer.engine, claim, "property", D(2_000), "adjuster", NOW, party=2)
    quick = page(insurer, claim).fast_track
    assert quick is not None
    assert quick.fast_track
    made = assessing.assess(insurer.engine, book(), claim, {1: D(1_500), 2: D(2_000)}, "adjuster", "fast", NOW)
    assert (made.fast_track, made.total) == (True, D(1_500))
    made = assessing.assess(insurer.engine, book(), claim, {2: D(2_001)}, "adjuster", "more", NOW)
    assert not made.fast_track
    hurt = Declared(box.store.device, T0, "owner-7", injured=True)
    reporting.report(insurer.engine, hurt, NOW, K)
    quick = page(insurer, claim).fast_track
    assert quick is not None
    assert [c.name for c in quick.conditions if not c.holds] == ["injury", "limit"]


def test_scratch_cover_remembers_what_it_paid(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.take_all(box)
    insure(insurer, box.store.device, Cover("SCRATCH", 200_000), regime="2015")
    first = claims.claim_id(box.store.device, box.crash.id)
    second = reporting.report(insurer.engine, Declared(box.store.device, T0 - 5 * H, "owner-7"), NOW, K)
    paid = []
    for claim, loss in ((first, D("1764.71")), (second, D(1_000))):
        reporting.put_car(insurer.engine, claim, Car(1, fault="full"), "adjuster", NOW)
        number = reporting.add_loss(insurer.engine, claim, "scratch", loss, "adjuster", NOW)
        paid.append(assessing.assess(insurer.engine, book(), claim, {number: loss}, "adjuster", "x", NOW).total)
        assessing.settle(insurer.engine, claim, "adjuster", "x", NOW)
    assert paid == [D("1500.00"), D("500.00")]


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(list(RULES)), st.sampled_from(["clear", "flag", "unknown"])))
def test_no_check_changes_the_payable_amount_or_the_state(standing: Engine, results: dict[str, str]) -> None:
    engine = standing
    before = _standing(engine)
    with engine.begin() as connection:
        for rule, result in results.items():
            finding = Finding(rule=f"{rule}/1", result=result, reason="x")  # type: ignore[arg-type]
            row = {"claim": CLAIM, "rule": rule, "result": result, "reason": "x", "checked_utc_ns": NOW}
            body = {"body": msgspec.json.encode(finding).decode()}
            connection.execute(db.upsert(connection, tables.claim_finding, {**row, **body}, ["claim", "rule"]))
    assert _standing(engine) == before
    assessing.check(engine, CLAIM, NOW + 100 * H)
    assert _standing(engine) == before


DEVICE, CLAIM = f"rw-{'a' * 16}", claims.claim_id(f"rw-{'a' * 16}", "b" * 16)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = db.open_database(f"sqlite:///{tmp_path_factory.mktemp('standing') / 'r.db'}")
    with engine.begin() as connection:
        row = {"id": CLAIM, "device": DEVICE, "incident": "b" * 16, "opened_utc_ns": NOW, "opened_by": "owner"}
        rest = {"suspected": False, "state": "evidence", "state_utc_ns": NOW}
        connection.execute(db.claim.insert().values(**row, **rest))
        report = {"claim": CLAIM, "number": 1, "reported_utc_ns": NOW, "by": "o", "loss_utc_ns": T0, "said": ""}
        connection.execute(tables.claim_report.insert().values(**report, injured=False))
        policies.put(
            connection, Policy("P", "LSVA1111111111111", "", "2015", *_year(), covers=(Cover("VD"),), device=DEVICE)
        )
    reporting.put_car(engine, CLAIM, Car(1, fault="primary"), "adjuster", NOW)
    reporting.add_loss(engine, CLAIM, "vehicle", D(10_000), "adjuster", NOW)
    yield engine
    engine.dispose()


def _year() -> tuple[Any, Any]:
    day = assessing.local_day(T0)
    return day, day + timedelta(364)


def _standing(engine: Any) -> tuple[str, Decimal]:
    with db.reading(engine) as connection:
        return states.row_of(connection, CLAIM).state, assessing.propose(connection, book(), CLAIM).total


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(STATES), max_size=12))
def test_states_move_only_as_the_table_says_and_every_move_is_kept(standing: Engine, wishes: list[str]) -> None:
    engine = standing
    with engine.begin() as connection:
        connection.execute(update(db.claim).where(db.claim.c.id == CLAIM).values(state="reported"))
        connection.execute(delete(tables.claim_history))
    state, kept = "reported", []
    for wish in wishes:
        try:
            with engine.begin() as connection:
                states.move(connection, CLAIM, wish, NOW, who="a", what="assessed", why="b")
        except ClaimError:
            assert wish not in MOVES[state]
            continue
        assert wish in MOVES[state]
        kept.append((state, wish))
        state = wish
    with db.reading(engine) as connection:
        assert states.row_of(connection, CLAIM).state == state
        steps = [(s.before, s.after) for s in history.of_claim(connection, CLAIM)]
    assert steps == kept
    assert all(a[1] == b[0] for a, b in pairwise(steps))
    with engine.begin() as connection:
        connection.execute(update(db.claim).where(db.claim.c.id == CLAIM).values(state="evidence"))


def test_history_that_was_touched_is_found(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.take_all(box)
    audit = history.verify(insurer.engine)
    assert (audit.broken, audit.rows) == (None, 3)
    assert history.verify(insurer.engine, audit.head).broken is None
    t = tables.claim_history
    with insurer.engine.begin() as connection:
        connection.execute(update(t).where(t.c.seq == 2).values(why="nothing"))
    assert history.verify(insurer.engine).broken == 2
    with insurer.engine.begin() as connection:
        connection.execute(delete(t).where(t.c.seq == 2))
    assert (history.verify(insurer.engine).broken, history.verify(insurer.engine).why[:10]) == (2, "is missing")
    with insurer.engine.begin() as connection:
        connection.execute(delete(t))
    assert history.verify(insurer.engine, audit.head).broken == 1
    assert history.verify(insurer.engine, Head(0, "0" * 64)).broken is None


def test_disputes_are_opened_once_decided_once_and_read_by_the_score(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.take_all(box)
    device = box.store.device
    with db.reading(insurer.engine) as connection:
        e = connection.execute(select(db.entry).where(db.entry.c.lane == "crash").limit(1)).one()
    entry = (e.lineage, e.lane, e.seq)

    def weighs_not() -> frozenset[disputes.Entry]:
        with db.reading(insurer.engine) as connection:
            return disputes.disputed_entries(connection, device)

    number = disputes.dispute_entry(insurer.engine, device, entry, "owner-7", "that was a pothole", NOW)
    assert weighs_not() == {entry}
    with pytest.raises(disputes.DisputeError, match="already"):
        disputes.dispute_entry(insurer.engine, device, entry, "owner-7", "again", NOW)
    with pytest.raises(disputes.DisputeError, match="no entry"):
        disputes.dispute_entry(insurer.engine, device, ("x", "event", 1), "owner-7", "why", NOW)
    disputes.decide(insurer.engine, number, True, "adjuster", "seen on the video", NOW)
    assert weighs_not() == {entry}
    with pytest.raises(disputes.DisputeError, match="upheld already"):
        disputes.decide(insurer.engine, number, False, "adjuster", "no", NOW)
    again = disputes.dispute_entry(insurer.engine, device, (e.lineage, "event", 1), "owner-7", "clock", NOW)
    disputes.decide(insurer.engine, again, False, "adjuster", "it was so", NOW)
    assert weighs_not() == {entry}
    claim = claims.claim_id(device, box.crash.id)
    flag = disputes.dispute_flag(insurer.engine, claim, "clock", "owner-7", "it was right", NOW)
    assert page(insurer, claim).state == "disputed"
    with db.reading(insurer.engine) as connection:
        assert [d.id for d in disputes.waiting(connection)] == [flag]
    with pytest.raises(disputes.DisputeError, match="'nothing' is unknown"):
        disputes.dispute_flag(insurer.engine, claim, "nothing", "owner-7", "x", NOW)
    assert history.verify(insurer.engine).broken is None


def test_bad_reports_name_the_field(insurer: Insurer, box: Box) -> None:
    insurer.enrol(box)
    good = Declared(box.store.device, T0, "owner-7")
    for wrong, field in [
        (replace(good, by=" "), "by"),
        (replace(good, loss_utc_ns=NOW + H), "loss_utc_ns"),
        (replace(good, place=facts.Place(91.0, 0.0)), "place"),
        (replace(good, device="rw-no"), "device"),
    ]:
        with pytest.raises(ClaimError) as e:
            reporting.report(insurer.engine, wrong, NOW, K)
        assert e.value.field == field
    claim = reporting.report(insurer.engine, replace(good, said="a\0b\x1b[31m" + "x" * 9_000), NOW, K)
    assert page(insurer, claim).reports[0].said.startswith("a?b?[31m")
    for car, field in [
        (Car(0), "number"),
        (Car(1, share_percent=101), "share_percent"),
        (Car(1, fault="half"), "fault"),
        (Car(1, fault="full", share_percent=0), "fault"),
        (Car(1, vin="x" * 18), "vin"),
        (Car(1, plate="\n"), "plate"),
    ]:
        with pytest.raises(ClaimError) as e:
            reporting.put_car(insurer.engine, claim, car, "adjuster", NOW)
        assert e.value.field == field
    with pytest.raises(ClaimError, match="head 'roof' is unknown"):
        reporting.add_loss(insurer.engine, claim, "roof", D(1), "adjuster", NOW)
    with pytest.raises(RoadwitnessError, match="state 'gone' is unknown"):
        reading.queue(insurer.engine, state="gone")


def test_claims_that_wait_are_checked_again_as_time_passes(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.enrol(box)
    insurer.take_records(box)
    claim = claims.claim_id(box.store.device, box.crash.id)
    assert assessing.check_open(insurer.engine, NOW, insurer.files) == [claim]
    assert assessing.check_open(insurer.engine, NOW + S, insurer.files) == []
    assert {f.name: f.reason for f in page(insurer, claim).findings}["evidence"] == "awaited"
    assert assessing.check_open(insurer.engine, NOW + 25 * H, insurer.files) == [claim]
    assert {f.name: f.reason for f in page(insurer, claim).findings}["evidence"] == "missing"
    assert [s.what for s in page(insurer, claim).history].count("checked") == 2


def test_figures_of_a_year_are_those_of_its_claims(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.take_all(box)
    claim = claims.claim_id(box.store.device, box.crash.id)
    policy = insure(insurer, box.store.device)
    reporting.report(insurer.engine, Declared(box.store.device, T0, "owner-7"), T0 + 2 * H, K)
    reporting.survey(insurer.engine, claim, "dispatched", "desk", T0 + 3 * H)
    reporting.survey(insurer.engine, claim, "surveyed", "adjuster", T0 + 8 * H)
    assessed(insurer, claim, "365.00")
    assessing.settle(insurer.engine, claim, "adjuster", "agreed", NOW + 10 * H)
    found = {
        f.name: f
        for f in kpi.figures(insurer.engine, book(), policy.starts, policy.ends, policy.starts + timedelta(73))
    }
    assert list(found) == list(kpi.definitions())
    values = {name: None if f.value is None else str(f.value) for name, f in found.items()}
    assert values == {
        "claim_frequency": "1.0000",
        "report_delay_h": "2.00",
        "device_notice_s": "40.00",
        "survey_in_time": "100.00",
        "survey_time_h": "5.00",
        "closing_rate": "100.00",
        "closing_time_h": "10.00",
        "average_claim": "365.00",
        "average_incurred": "365.00",
        "matured_loss_ratio": "50.00",
        "renewal_rate": "0.00",
    }


def test_nothing_is_divided_by_nothing(insurer: Insurer) -> None:
    day = assessing.local_day(T0)
    empty = kpi.figures(insurer.engine, book(), day, day, day)
    assert [f.value for f in empty] == [None] * len(kpi.definitions())
    with db.reading(insurer.engine) as connection:
        assert connection.execute(select(func.count()).select_from(db.claim)).scalar_one() == 0
