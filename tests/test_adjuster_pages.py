"""The adjusters' pages: the queue's order, one claim, every form good, bad and stale, disputes; nothing as markup."""

import io
from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape
from sqlalchemy import select, update

from receiver import access, commands, db, disputes
from receiver.claiming import asking, assessing, history, reading, reporting, tables, worklist
from receiver.claiming.reporting import Car
from receiver.claiming.states import ClaimError
from receiver.pages import adjuster
from receiver.pricing import load_book
from tests.adjusting import EVIL, T0, Adjusting, plain, version
from tests.pages import NOW, OWNER, S
from tests.syncing import postgresql

H = 3600 * S
WHY = "Seen at the workshop."
NUMBERS = count(1)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adjusting]:
    made = Adjusting(tmp_path_factory.mktemp("desk"))
    yield made
    made.close()


@pytest.fixture
def claim(desk: Adjusting) -> str:
    """Return a claim of its own for each test, by report of a car that drives."""
    number = next(NUMBERS)
    device = desk.drives(100 + number)
    return desk.insured(device, f"T{number}", f"鲁T{number}", NOW - 2 * 24 * H, EVIL)


def now(desk: Adjusting, claim: str) -> reading.ClaimPage:
    return reading.claim(desk.engine, adjuster.book(), claim)


def post(desk: Adjusting, claim: str, form: str, *, seen: str = "", **data: Any) -> Any:
    """Send a form of a claim's page as it stands now, or as it stood at `seen`."""
    pages = desk.client()
    seen = seen or version(pages.get(f"/claims/{claim}").text)
    return pages.post(f"/claims/{claim}/{form}?lang=en", data={"version": seen, **data})


def decisions(desk: Adjusting, claim: str) -> list[str]:
    t = db.access_log.c
    with db.reading(desk.engine) as connection:
        found = select(t.name).where(t.what == "decision", t.name.contains(claim)).order_by(t.seq)
        return list(connection.execute(found).scalars())


# the queue


def test_the_queue_begins_with_what_needs_a_person(desk: Adjusting) -> None:
    """Claims in every state stand in the order of what they need, whatever their age."""
    made = [desk.insured(desk.drives(20 + n), f"Q{n}", f"鲁Q{n}", NOW - (n + 2) * 24 * H, "") for n in range(4)]
    disputed, asked, assessed, settled = made
    for one in (assessed, settled):
        reporting.put_car(desk.engine, one, Car(1, fault="full", compulsory=True), "a", NOW)
        loss = reporting.add_loss(desk.engine, one, "vehicle", Decimal(3000), "a", NOW)
        assessing.assess(desk.engine, load_book(), one, {loss: Decimal(2800)}, "a", WHY, NOW)
    assessing.settle(desk.engine, settled, "a", WHY, NOW)
    disputes.dispute_flag(desk.engine, disputed, "clock", OWNER, "no", NOW)
    asking.ask(desk.engine, asked, ["invoice"], "a", "for the paint", NOW)
    found, shown, counts = worklist.queue(desk.engine, load_book(), NOW)
    needs = [one.need for one in found]
    assert needs == sorted(needs, key=worklist.NEEDS.index)
    by_id = {one.id: one for one in found}
    assert {c: by_id[c].need for c in (disputed, asked, assessed)} == {
        disputed: "dispute",
        asked: "documents",
        assessed: "settle",
    }
    assert by_id[desk.claim].need == "assess"
    assert by_id[desk.claim].delta_v_mps == pytest.approx(6.2, abs=0.1)
    assert by_id[desk.claim].notice_h == 1.0
    assert by_id[desk.claim].plate == "鲁B1C234"
    assert settled not in by_id
    assert counts["open"] == shown.total == len(found)
    assert [one.id for one in worklist.queue(desk.engine, load_book(), NOW, choice="settled")[0]] == [settled]
    body = plain(desk.client().get("/claims?lang=en").text)
    assert body.index("Decide a dispute") < body.index("Settle 鲁Q2") < body.index("Waits for documents")
    assert "22 km/h change of velocity" in body
    assert "31.23" not in body  # nowhere is said where
    assert "2,800 yuan" in plain(desk.client().get("/claims?state=settled&lang=en").text)


def test_queue_and_deeds_are_the_same_on_postgresql(tmp_path: Path) -> None:
    with postgresql() as url:
        desk = Adjusting(tmp_path, url)
        other = desk.insured(desk.drives(3), "P3", "鲁P3", NOW - 48 * H, "")
        assert post(desk, other, "ask", **{"ask-kinds": "invoice", "ask-why": WHY}).status_code == 303
        assert post(desk, other, "ask", seen="1", **{"ask-kinds": "photo", "ask-why": WHY}).status_code == 409
        found, _, counts = worklist.queue(desk.engine, load_book(), NOW)
        assert [(one.id, one.need) for one in found] == [(desk.claim, "assess"), (other, "documents")]
        assert (counts["open"], counts["settled"]) == (2, 0)
        number = desk.disputed_event(9, "no")
        assert desk.client().post(f"/disputes/{number}", data={"verdict": "upheld", "why": "x"}).status_code == 303
        assert desk.client().get(f"/claims/{desk.claim}").status_code == 200
        desk.close()


def test_evidence_that_does_not_come_brings_its_claim_up(desk: Adjusting) -> None:
    with desk.engine.begin() as connection:
        row = connection.execute(select(db.claim).where(db.claim.c.id == desk.claim)).one()
        connection.execute(
            db.claim.insert().values(
                **{**row._asdict(), "id": "e" * 16, "incident": "e" * 16, "state": "reported", "opened_utc_ns": T0}
            )
        )
        assert worklist.need(connection, "e" * 16, T0 + H) == "evidence"
        assert worklist.need(connection, "e" * 16, T0 + 25 * H) == "overdue"
        connection.execute(db.claim.delete().where(db.claim.c.id == "e" * 16))


def test_the_queue_turns_pages_and_knows_its_choices(desk: Adjusting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worklist.queue, "__kwdefaults__", {**worklist.queue.__kwdefaults__, "size": 1})
    pages = desk.client()
    first, second = (pages.get(f"/claims?state=all&page={n}&lang=en").text for n in (1, 2))
    assert "Page 1 of" in plain(first)
    assert 'href="/claims?state=all&amp;page=2"' in first
    assert first != second
    assert pages.get("/claims?state=lost").status_code == 404
    monkeypatch.setattr(worklist, "CHOICES", ("none",))
    with pytest.raises(ValueError, match="none of: none"):
        worklist.queue(desk.engine, load_book(), NOW, choice="all")


# one claim


def test_one_page_shows_the_crash_the_checks_and_everything_that_was_told(desk: Adjusting) -> None:
    body = desk.client().get(f"/claims/{desk.claim}?lang=en").text
    said = plain(body)
    for part in ("Package: Proved", "Moved after the impact", "Reported 1 h after the impact", "What was reported"):
        assert part in said
    for part in ('id="film"', 'id="map"', 'id="before"', 'class="map"', f'href="#film"><code>record {desk.device}'):
        assert part in body
    assert "<script>alert" not in body
    assert str(escape(EVIL)) in body
    assert "No check refuses anything" in said


def test_a_look_at_a_claim_is_in_the_log_before_it_is_shown(desk: Adjusting, claim: str) -> None:
    desk.client().get(f"/claims/{claim}")
    with db.reading(desk.engine) as connection:
        t = db.access_log.c
        row = connection.execute(select(t.who, t.what).where(t.name == f"claim {claim}")).first()
    assert row == ("adjuster-1", "page")
    with desk.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON access_log BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    try:
        assert desk.client().get(f"/claims/{claim}").status_code == 503
    finally:
        with desk.engine.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER full")


def test_a_claim_is_assessed_and_settled_with_reasons(desk: Adjusting, claim: str) -> None:
    assert post(desk, claim, "loss", **{"loss-head": "vehicle", "loss-amount": "9,000.50"}).status_code == 303
    body = desk.client().get(f"/claims/{claim}?lang=en").text
    assert (
        'name="assess-amount-1" type="text" inputmode="decimal" autocomplete="off" maxlength="24" value="9000.50"'
        in body
    )
    given = {"assess-fault": "primary", "assess-share": "70", "assess-amount-1": "8600", "assess-why": WHY}
    done = post(desk, claim, "assess", **given)
    assert (done.status_code, done.headers["location"]) == (303, f"/claims/{claim}#money")
    page = now(desk, claim)
    assert (page.state, page.cars[0].fault, page.cars[0].share_percent) == ("assessed", "primary", 70)
    assert page.proposal is not None
    assert page.proposal.lines[0].share_percent == 70
    said = plain(desk.client().get(f"/claims/{claim}?lang=en").text)
    assert "VD: 8600 × share 70 %" in said
    assert "Assessed: now Assessed adjuster-1" in said
    assert post(desk, claim, "settle", **{"settle-why": "agreed"}).status_code == 303
    page = now(desk, claim)
    assert (page.state, page.paid) == ("settled", page.proposal.total if page.proposal else None)
    assert [step.why for step in page.history if step.what in ("assessed", "settled")] == [WHY, "agreed"]
    assert decisions(desk, claim) == [f"loss {claim}", f"assess {claim}", f"settle {claim}"]
    assert history.verify(desk.engine).broken is None
    assert access.verify(desk.engine).broken is None


@pytest.mark.parametrize(
    ("form", "data", "said"),
    [
        ("assess", {"assess-fault": "full", "assess-amount-1": "10"}, "A reason is needed."),
        ("assess", {"assess-why": WHY, "assess-amount-1": "10"}, "Choose the fault; it must"),
        ("assess", {"assess-why": WHY, "assess-fault": "full", "assess-amount-1": ""}, "An amount is needed"),
        ("assess", {"assess-why": WHY, "assess-fault": "full", "assess-amount-1": "1.234"}, "at most two decimals"),
        ("assess", {"assess-why": WHY, "assess-fault": "full", "assess-amount-1": "-1"}, "at most two decimals"),
        (
            "assess",
            {"assess-why": WHY, "assess-fault": "none", "assess-share": "30", "assess-amount-1": "1"},
            "Choose the",
        ),
        (
            "assess",
            {"assess-why": WHY, "assess-fault": "full", "assess-share": "130", "assess-amount-1": "1"},
            "0 and 100",
        ),
        ("settle", {"settle-why": WHY}, "not in a state for this"),
        ("settle", {"settle-why": " "}, "A reason is needed."),
        ("ask", {"ask-why": WHY}, "Choose at least one document."),
        ("ask", {"ask-kinds": "sculpture", "ask-why": WHY}, "Choose at least one document."),
        ("ask", {"ask-kinds": "invoice"}, "A reason is needed."),
        ("contest", {"contest-rule": "nonsense", "contest-why": WHY}, "Choose what is disputed."),
        ("loss", {"loss-head": "vehicle", "loss-amount": "much"}, "Write a number"),
        ("loss", {"loss-head": "soul", "loss-amount": "1"}, "This cannot be done"),
        ("loss", {"loss-head": "vehicle", "loss-amount": "1", "loss-party": "77"}, "no such car"),
        ("car", {"car-number": "99"}, "This cannot be done"),
        ("car", {"car-number": "2", "car-fault": "none", "car-share": "50"}, "Choose the fault"),
        ("survey", {"step": "dreamt"}, "This cannot be done"),
    ],
)
def test_a_bad_form_gets_the_field_and_the_reason_and_does_nothing(
    desk: Adjusting, claim: str, form: str, data: dict[str, str], said: str
) -> None:
    reporting.add_loss(desk.engine, claim, "vehicle", Decimal(3000), "a", NOW)
    before = now(desk, claim)
    answer = post(desk, claim, form, **data)
    assert answer.status_code == 422
    assert said in answer.text
    after = now(desk, claim)
    assert (after.history, after.cars, after.losses) == (before.history, before.cars, before.losses)
    assert decisions(desk, claim) == []


def test_a_refused_form_keeps_what_was_typed_and_is_no_markup(desk: Adjusting, claim: str) -> None:
    answer = post(desk, claim, "contest", **{"contest-rule": "no", "contest-why": EVIL})
    assert answer.status_code == 422
    assert "<script>alert" not in answer.text
    assert answer.text.count(str(escape(EVIL))) == 2  # the report's, and that which was typed
    assert 'id="f-contest-rule-wrong"' in answer.text


def test_a_stale_form_does_nothing_and_tells_what_happened_meanwhile(desk: Adjusting, claim: str) -> None:
    seen = version(desk.client().get(f"/claims/{claim}").text)
    assert (
        post(desk, claim, "ask", **{"ask-kinds": ["invoice", "police"], "ask-why": "for the paint"}).status_code == 303
    )
    answer = post(desk, claim, "ask", seen=seen, **{"ask-kinds": "photo", "ask-why": "second thoughts"})
    assert answer.status_code == 409
    said = plain(answer.text)
    assert "This claim has changed since you opened it. Nothing was done." in said
    assert "Documents asked for: Paper of the police, Invoice, adjuster-1: for the paint" in said
    assert "second thoughts" in answer.text  # still in its form
    assert 'value="photo" checked' in answer.text
    assert decisions(desk, claim) == [f"ask {claim}"]
    again = post(desk, claim, "ask", seen=version(answer.text), **{"ask-kinds": "photo", "ask-why": "second thoughts"})
    assert again.status_code == 303
    for worthless in ("", "x", "-1", "9" * 30):
        data = {"version": worthless, "ask-kinds": "photo", "ask-why": WHY}
        assert desk.client().post(f"/claims/{claim}/ask", data=data).status_code == 409


def test_a_refused_form_does_not_learn_what_its_writer_has_not_seen(desk: Adjusting, claim: str) -> None:
    seen = version(desk.client().get(f"/claims/{claim}").text)
    answer = post(desk, claim, "ask", seen=seen, **{"ask-kinds": "photo"})
    assert (answer.status_code, version(answer.text)) == (422, seen)
    assert post(desk, claim, "survey", step="dispatched").status_code == 303
    late = post(desk, claim, "ask", seen=seen, **{"ask-kinds": "photo"})  # wrong and stale: what came is told first
    assert late.status_code == 409
    assert "Surveyor sent, adjuster-1" in plain(late.text)


def test_a_deed_without_its_row_in_the_log_is_undone(desk: Adjusting, claim: str) -> None:
    before = now(desk, claim)
    seen = version(desk.client().get(f"/claims/{claim}").text)
    with desk.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON access_log WHEN NEW.what = 'decision'"
            " BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    try:
        data = {"ask-kinds": "photo", "ask-why": WHY}
        assert post(desk, claim, "ask", seen=seen, **data).status_code == 503
    finally:
        with desk.engine.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER full")
    assert now(desk, claim).history == before.history


def test_the_owner_reads_what_he_is_asked_for_until_it_comes(desk: Adjusting, claim: str) -> None:
    post(desk, claim, "ask", **{"ask-kinds": ["invoice", "photo"], "ask-why": EVIL})
    owner = desk.client("owner")
    body = owner.get(f"/claims/{claim}?lang=en").text
    assert "Please send: Photo, Invoice" in plain(body)
    assert "<script>alert" not in body
    with desk.engine.begin() as connection:  # it came later than it was asked for
        held = {"claim": claim, "sha256": "0" * 64, "kind": "photo", "name": "a.png", "media": "image/png", "size": 1}
        held |= {"device": "d", "folder": "f", "stored": "s", "by": OWNER, "uploaded_utc_ns": NOW + S}
        connection.execute(tables.claim_document.insert().values(**held))
    assert "Please send: Invoice" in plain(owner.get(f"/claims/{claim}?lang=en").text)
    with pytest.raises(ClaimError, match="say why"):
        asking.ask(desk.engine, claim, ["photo"], "a", " ", NOW)


def test_cars_and_losses_of_others_are_entered_and_surveys_noted(desk: Adjusting, claim: str) -> None:
    data = {"car-number": "2", "car-plate": "鲁z9", "car-fault": "secondary", "car-agrees": "1", "car-compulsory": "1"}
    assert post(desk, claim, "car", **data).status_code == 303
    data = {"loss-head": "medical", "loss-amount": "500", "loss-party": "2", "loss-person": "1", "loss-by_others": "20"}
    assert post(desk, claim, "loss", **data).status_code == 303
    assert post(desk, claim, "survey", step="dispatched").status_code == 303
    page = now(desk, claim)
    assert [(c.number, c.plate, c.fault, c.agrees, c.injured) for c in page.cars] == [
        (2, "鲁Z9", "secondary", True, False)
    ]
    assert [(x.head, x.party, x.person, x.paid_by_others) for x in page.losses] == [("medical", 2, 1, 20)]
    assert "dispatched" in [step.what for step in page.history]
    assert "20 yuan paid by others" in plain(desk.client().get(f"/claims/{claim}?lang=en").text)


def test_a_claim_can_be_checked_again(desk: Adjusting) -> None:
    with desk.engine.begin() as connection:
        t = tables.claim_finding
        connection.execute(update(t).where(t.c.claim == desk.claim).values(checked_utc_ns=T0))
    assert desk.client().post(f"/claims/{desk.claim}/check").status_code == 303
    assert now(desk, desk.claim).checked_utc_ns == NOW


def test_a_video_is_asked_of_the_box_and_its_answer_shown(desk: Adjusting, claim: str) -> None:
    times = {"clip-from": "2026-11-16 19:06:00", "clip-to": "2026-11-16 19:06:40"}
    for bad, said in (
        ({**times, "clip-why": ""}, "A reason is needed."),
        ({"clip-from": "soon", "clip-to": times["clip-to"], "clip-why": "x"}, "Write day and time"),
        ({"clip-from": times["clip-to"], "clip-to": times["clip-from"], "clip-why": "x"}, "after the beginning"),
        ({"clip-from": times["clip-from"], "clip-to": "2030-01-01 00:00:00", "clip-why": "x"}, "no video yet"),
        ({**times, "clip-why": "bell \x07"}, "The box cannot be asked"),
    ):
        answer = post(desk, claim, "clip", **bad)
        assert (answer.status_code, said in answer.text) == (422, True), bad
    done = post(desk, claim, "clip", **{**times, "clip-why": f"who\r\ncame {EVIL}"})
    assert (done.status_code, done.headers["location"]) == (303, f"/claims/{claim}#asked")
    asked = commands.asked(desk.engine, now(desk, claim).device, NOW)
    assert [(a.command, a.actor, a.reason) for a in asked] == [("clip", "adjuster-1", f"who came {EVIL}")]
    assert asked[0].arguments == {"from_utc_ns": 1_794_827_160 * S, "to_utc_ns": 1_794_827_200 * S}
    body = desk.client().get(f"/claims/{claim}?lang=en").text
    assert "Video of Mon 16 Nov 2026, 19:06:00 to 19:06:40" in plain(body)
    assert "<script>alert" not in body
    assert "has not agreed here" in plain(body)


def test_a_refused_document_is_told_on_the_adjusters_own_page(desk: Adjusting, claim: str) -> None:
    files = {"file": ("a.png", io.BytesIO(b"MZ no picture"))}
    answer = desk.client().post(f"/claims/{claim}/documents?lang=en", data={"kind": "photo"}, files=files)
    assert answer.status_code == 422
    assert "This is no photo, PDF or MP4" in answer.text
    assert "Ask for documents" in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_only_adjusters_decide(desk: Adjusting, claim: str) -> None:
    forms = ("assess", "settle", "contest", "ask", "loss", "car", "survey", "check")
    for role in ("owner", "underwriter", "technician"):
        statuses = {
            desk.client(role).post(f"/claims/{claim}/{form}", data={"version": "1"}).status_code for form in forms
        }
        assert statuses == {403}
    assert desk.client("owner").post(f"/claims/{claim}/clip", data={}).status_code == 404
    for form in forms:
        assert desk.client().post(f"/claims/{'0' * 16}/{form}", data={"version": "1"}).status_code == 404


def test_a_claim_told_for_a_day_before_any_law_is_still_shown(desk: Adjusting) -> None:
    claim = desk.insured(desk.drives(60), "OLD", "鲁OLD", 1_000_000_000 * S, "")
    reporting.add_loss(desk.engine, claim, "vehicle", Decimal(3000), "a", NOW)
    assert desk.client().get(f"/claims/{claim}").status_code == 200
    given = {"assess-fault": "full", "assess-amount-1": "1", "assess-why": WHY}
    assert post(desk, claim, "assess", **given).status_code == 422


# disputes


def test_a_disputed_flag_is_decided_with_a_reason_and_the_claim_assessed_again(desk: Adjusting, claim: str) -> None:
    disputes.dispute_flag(desk.engine, claim, "clock", OWNER, EVIL, NOW)
    pages = desk.client()
    number = now(desk, claim).disputes[0].id
    body = pages.get(f"/claims/{claim}?lang=en").text
    assert f'<a href="/disputes/{number}">Decide this dispute</a>' in body
    assert "<script>alert" not in body + pages.get("/disputes").text + pages.get(f"/disputes/{number}").text
    for data, said in (
        ({"why": "x"}, "Choose one of the two."),
        ({"verdict": "maybe", "why": "x"}, "Choose one of the two."),
        ({"verdict": "upheld", "why": " "}, "A reason is needed."),
    ):
        answer = pages.post(f"/disputes/{number}?lang=en", data=data)
        assert (answer.status_code, said in answer.text) == (422, True)
    done = pages.post(f"/disputes/{number}", data={"verdict": "upheld", "why": "the photo shows it"})
    assert (done.status_code, done.headers["location"]) == (303, f"/claims/{claim}#check-clock")
    late = pages.post(f"/disputes/{number}?lang=en", data={"verdict": "rejected", "why": "no"})
    assert late.status_code == 409
    assert "Somebody else has decided this meanwhile" in late.text
    one = now(desk, claim).disputes[0]
    assert (one.state, one.decided_by, one.decision) == ("upheld", "adjuster-1", "the photo shows it")
    assert "Next: assess it again" in plain(pages.get(f"/claims/{claim}?lang=en").text)
    with db.reading(desk.engine) as connection:
        t = db.access_log.c
        rows = connection.execute(select(t.who).where(t.name == f"dispute {number} upheld")).scalars().all()
    assert rows == ["adjuster-1"]


def test_an_event_is_judged_by_its_record_and_not_by_where_it_was(desk: Adjusting) -> None:
    number = desk.disputed_event(70, "A child ran into the road.")
    pages = desk.client()
    assert "A child ran into the road." in plain(pages.get("/disputes?lang=en").text)
    body = plain(pages.get(f"/disputes/{number}?lang=en").text)
    assert "Braked at 4.6 m/s²" in body
    assert "31.2" not in body
    assert pages.post(f"/disputes/{number}", data={"verdict": "rejected", "why": "no child"}).status_code == 303
    assert "A child ran" not in plain(pages.get("/disputes?lang=en").text)
    assert "A child ran" in plain(pages.get("/disputes?state=decided&lang=en").text)
    assert "no child" in plain(pages.get(f"/disputes/{number}?lang=en").text)
    assert pages.get("/disputes/999999").status_code == 404
    assert pages.get("/disputes?state=lost").status_code == 404


def test_an_adjuster_enters_what_an_owner_told_by_telephone(desk: Adjusting, claim: str) -> None:
    given = {"contest-rule": "clock", "contest-why": "He called: his clock was right."}
    assert post(desk, claim, "contest", **given).status_code == 303
    page = now(desk, claim)
    assert (page.state, [d.by for d in page.disputes]) == ("disputed", ["adjuster-1"])
    again = post(desk, claim, "contest", **given)
    assert (again.status_code, "A dispute of this is open" in again.text) == (422, True)
