"""The owner's score and price: what the pages say, whose they are, and what a wrong form gets."""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape
from sqlalchemy import insert, update

from receiver import disputes, policies
from receiver.behind import behind
from receiver.fields import Typed
from receiver.pages.owner_cars import cars, page_of
from receiver.pages.owner_quote_form import defaults, region_of
from receiver.people.person import Person
from receiver.policies import Cover, Policy
from receiver.registry import consents, owners, tables
from receiver.registry.vehicles import Vehicle
from receiver.scoring.model import model
from receiver.scoring.result import EntryId
from receiver.scoring.score import score_vehicle
from tests.pages import NOW, OWNER, SPEEDING, Desk, S, braking, client, clock_at, drive, open_desk, signed_in
from tests.syncing import ListSource

DAY = 86_400 * S
CAR = {
    "asked": "1",
    "region": "hebei",
    "start": "2026-12-10",
    "vehicle.use_class": "family",
    "vehicle.energy": "fuel",
    "vehicle.seats": "5",
    "vehicle.first_registration": "2020-01-01",
    "vehicle.model": "SAMPLE-SUV",
    "km_per_year": "9,000",
    "cover": ["VD", "TPL"],
    "covers.TPL.limit_yuan": "3000000",
    "history.standing": "renewal",
    "history.insured_years": "3",
    "history.claims_three_years": "0",
    "history.lapse_months": "0",
    "with_compulsory": "1",
    "compulsory.standing": "renewal",
    "compulsory.clean_years": "3",
    "score": "1",
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, ListSource]]:
    """An owner with one car: sixty days of driving, events, consent to a score."""
    made = open_desk(tmp_path_factory.mktemp("price"))
    source = made.enrol()
    records: list[Any] = [clock_at(NOW - 90 * DAY)]
    for day in range(60):
        at = (day * 86_400 + 3600) * S
        events = [braking(at + 300 * S), braking(at + 500 * S, confirmed=False, sources=["gnss"])]
        records += drive(at, 900, events=events if day % 3 else [braking(at + 300 * S, **SPEEDING)])
    made.send(source, records)
    client(made.engine)  # who signs in as the owner has the cars registered
    with made.engine.begin() as connection:
        connection.execute(update(tables.vehicle).values(energy="fuel", plate="冀A12345"))
        cover = (Cover("VD"), Cover("TPL", 100_000_000))
        policy = Policy("P1", "", "冀A12345", "2020", date(2025, 12, 10), date(2026, 12, 9), covers=cover, owner=OWNER)
        policies.put(connection, policy)
    for purpose in ("recording", "scoring"):
        consents.give(made.engine, source.device, purpose, NOW - 91 * DAY, by=OWNER)
    yield made, source
    made.engine.dispose()


@pytest.fixture(scope="module")
def pages(desk: tuple[Desk, ListSource]) -> Any:
    """Return the owner's client; making the application takes longer than a page."""
    return client(desk[0].engine, raising=True)


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_a_score_leads_to_the_trips_and_events_behind_every_point(desk: tuple[Desk, ListSource]) -> None:
    made, source = desk
    pages = client(made.engine)
    assert pages.get("/score", follow_redirects=False).headers["location"] == f"/score/{source.device}"
    body = pages.get(f"/score/{source.device}?lang=en").text
    found = score_vehicle(made.engine, source.device, model())
    assert f"<b>{found.score}</b>" in body
    lost = [
        int(100 * float(n)) for n in re.findall(r'<p class="line"><b>[^<]+</b> <span class="points">−([\d.]+)', body)
    ]
    assert sum(lost) == pytest.approx(found.lost, abs=len(lost))
    links = set(re.findall(r'href="(/vehicles/[^"]+/trips/\d+#event-\d+)"', body))
    assert links
    for link in sorted(links)[:3]:
        page, _, anchor = link.partition("#")
        assert f'id="{anchor}"' in pages.get(page).text
    said = plain(body)
    assert "Unconfirmed and disputed events weigh nothing" in said
    assert "40 events weigh nothing: no second instrument confirms them." in said
    assert "relativity/2" in said


def test_a_second_model_stands_beside_the_first(desk: tuple[Desk, ListSource]) -> None:
    made, source = desk
    said = plain(client(made.engine).get(f"/score/{source.device}?model=relativity/1&beside=tesla/1&lang=en").text)
    assert "Two models side by side" in said
    assert "forward collision warnings" in said
    assert client(made.engine).get(f"/score/{source.device}?model=best/9").status_code == 404


def test_a_disputed_event_is_named_among_what_does_not_count(desk: tuple[Desk, ListSource]) -> None:
    made, source = desk
    lines = score_vehicle(made.engine, source.device, model()).lines
    event = next(share.event for line in lines for share in line.shares if share.event)
    entry = (event.lineage, event.lane, event.seq)
    number = disputes.dispute_entry(made.engine, source.device, entry, OWNER, "a child ran out", NOW)
    said = plain(client(made.engine).get(f"/score/{source.device}?lang=en").text)
    assert "1 event weighs nothing: it is disputed." in said
    disputes.decide(made.engine, number, False, "adjuster", "seen", NOW)
    said = plain(client(made.engine).get(f"/score/{source.device}?lang=en").text)
    assert "it is disputed." not in said  # it was rejected and weighs again


def test_what_is_behind_an_entry_is_found_whole_and_only_for_its_device(desk: tuple[Desk, ListSource]) -> None:
    made, source = desk
    found = score_vehicle(made.engine, source.device, model())
    wanted = {share.event or share.trip for line in found.lines for share in line.shares}
    told = behind(made.engine, source.device, wanted | {EntryId("0" * 12, "trip", 9)})
    assert set(told) == wanted
    assert all(one.mark >= 1 for entry, one in told.items() if entry.lane == "event")
    assert behind(made.engine, "rw-" + "0" * 16, wanted) == {}


def test_without_consent_there_is_no_score_and_no_price_of_it(desk: tuple[Desk, ListSource]) -> None:
    made, _ = desk
    source = made.enrol(7)
    pages = client(made.engine)
    said = plain(pages.get(f"/score/{source.device}?lang=en").text)
    assert "You have not agreed to a score" in said
    answer = pages.get("/quote", params={**CAR, "device": source.device, "lang": "en"})
    assert answer.status_code == 200
    assert "No score is in this price" in plain(answer.text)
    assert "You have not agreed to the use of your score" in plain(answer.text)


def test_T_PRIV_3_and_5_every_factor_has_its_reason_and_the_price_without_the_score_stands_beside(
    desk: tuple[Desk, ListSource],
) -> None:
    # T-PRIV-3 and T-PRIV-5
    made, source = desk
    answer = client(made.engine).get("/quote", params={**CAR, "device": source.device, "lang": "en"})
    assert answer.status_code == 200
    said = plain(answer.text)
    assert "Without the score" in said
    assert re.search(r"relative risk [\d.]+ from [\d.]+ km, believed by [\d.]+ %", said)
    assert "allowed: 0.5 to 1.5" in said
    assert "the bound did not bite" in said
    assert "level -3: 0 claims in three years, 3 insured years in a row" in said
    assert "9,000 km declared" in said
    whole, plainly = (
        float(x.replace(",", "")) for x in re.findall(r'<p class="amount">([\d,.]+) yuan', answer.text)[:2]
    )
    assert 0 < whole != plainly > 0
    assert "What your changes do" in said


def test_nothing_is_assumed_and_a_first_look_is_no_error(desk: tuple[Desk, ListSource]) -> None:
    made, source = desk
    answer = client(made.engine).get(f"/quote?device={source.device}&lang=en")
    assert answer.status_code == 200
    assert "Still needed: Model" in plain(answer.text)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("km_per_year", "a lot", "Write a number, such as 12000"),
        ("vehicle.seats", "5.5", "Write a whole number."),
        ("start", "tomorrow", "Write a day as year-month-day"),
        ("start", "2020-01-01", "not before 2026-11-18"),
        ("region", "atlantis", "is no region of the tables"),
        ("vehicle.energy", "steam", "has no row in table"),
        ("vehicle.seats", "900", "must be 1 to 200"),
        ("covers.TPL.limit_yuan", "1234", "known: 100000"),
        ("vehicle.first_registration", "2030-01-01", "not after"),
        ("cover", "WAIVER", "is part of VD"),
        ("history.standing", "'; DROP TABLE policy; --", "is not valid"),
    ],
)
def test_a_wrong_field_is_told_beside_it(
    desk: tuple[Desk, ListSource], pages: Any, field: str, value: str, said: str
) -> None:
    _, source = desk
    answer = pages.get("/quote", params={**CAR, field: value, "device": source.device, "lang": "en"})
    assert answer.status_code == 422
    assert said in plain(answer.text)
    assert "There is no price for this yet" in answer.text


def test_what_was_typed_comes_back_as_text_and_never_as_markup(desk: tuple[Desk, ListSource]) -> None:
    made, source = desk
    evil = '"><script>alert(1)</script>'
    with made.engine.begin() as connection:
        connection.execute(update(policies.tables.policy).values(plate='<b>"冀'))
    params = {**CAR, "vehicle.new_price_yuan": evil, "device": source.device}
    body = client(made.engine).get("/quote", params=params).text
    assert "<script>alert" not in body
    assert str(escape(evil)) in body
    with made.engine.begin() as connection:
        connection.execute(update(policies.tables.policy).values(plate="冀A12345"))


def test_a_price_is_kept_as_it_was_told_and_only_for_its_owner(desk: tuple[Desk, ListSource]) -> None:
    made, source = desk
    pages = client(made.engine)
    answer = pages.post("/quote", data={**CAR, "device": source.device}, follow_redirects=False)
    assert answer.status_code == 303
    where = answer.headers["location"]
    shown = pages.get("/quote", params={**CAR, "device": source.device, "lang": "en"}).text
    kept = pages.get(f"{where}?lang=en").text
    first = re.findall(r'<p class="amount">([^<]+)', shown)
    assert first == re.findall(r'<p class="amount">([^<]+)', kept)
    assert where in pages.get("/quote").text
    with zipfile.ZipFile(io.BytesIO(pages.get("/consent/my-data.zip").content)) as archive:
        told = json.loads(archive.read("prices.json"))
    assert [one["id"] for one in told] == [where.rpartition("/")[2]]
    assert told[0]["answer"]["factors"]
    assert stranger(made).get(where).status_code == 404
    assert pages.post("/quote", data={**CAR, "vehicle.seats": "x"}).status_code == 422
    assert client(made.engine, "adjuster").get(where).status_code == 403


def stranger(made: Desk) -> Any:
    """Return another owner's client."""
    session = signed_in(made.engine, "owner", "owner-2")
    found = client(made.engine, None)
    found.cookies.set("session", session.token)
    found.headers["x-csrf"] = session.csrf
    return found


def test_nobody_sees_another_owners_score_or_price(desk: tuple[Desk, ListSource]) -> None:
    made, source = desk
    other = stranger(made)
    assert other.get(f"/score/{source.device}").status_code == 404
    assert other.get(f"/quote?device={source.device}").status_code == 404
    assert "No car of yours has a box yet" in other.get("/score?lang=en").text


def test_a_form_begins_with_what_is_known_of_the_car() -> None:
    car = Vehicle("L" * 17, OWNER, "family", 7, "nev", date(2024, 5, 6), "粤B12345")
    ends = date(2026, 12, 31)
    policy = Policy("P", "", "粤B12345", "2020", date(2026, 1, 1), ends, covers=(Cover("OCC.driver", 2_000_000),))
    known = Typed(defaults("粤B12345", car, policy, 11_234.0, date(2026, 11, 18)))
    assert known.text("region") == region_of("粤B12345") == "shenzhen"
    assert region_of("粤A1") == "guangdong"
    assert known.text("start") == "2027-01-01"
    assert (known.text("vehicle.seats"), known.text("km_per_year")) == ("7", "11200")
    assert known.listed("cover") == ["OCC"]
    assert known.text("covers.OCC.driver_limit_yuan") == "20000"


ODD = st.sampled_from(
    ["", "9999-12-31", "0001-01-01", "NaN", "-1", "1e99", "１２", "0", "1" * 300, "\x00", "٣", "null", "[]"]
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from([*CAR, "traffic_violation", "vehicle.cc", "covers.VD.limit_yuan"]), ODD))
def test_whatever_is_typed_is_answered_with_a_price_or_with_what_is_wrong(
    desk: tuple[Desk, ListSource], pages: Any, typed: dict[str, str]
) -> None:
    answer = pages.get("/quote", params={**CAR, **typed, "device": desk[1].device, "asked": "1"})
    assert answer.status_code in (200, 422), typed
    assert ("There is no price for this yet" in answer.text) == (answer.status_code == 422)


def test_the_cars_of_a_large_owner_come_by_pages_those_with_a_box_first(desk: tuple[Desk, ListSource]) -> None:
    made, _ = desk
    with made.engine.begin() as connection:
        owners.put(connection, owners.Owner("fleet", "Fleet Ltd"), NOW)
        values = {"owner": "fleet", "use_class": "family", "seats": 5, "energy": "fuel", "registered_utc_ns": NOW}
        values["first_registered"] = date(2022, 1, 1)
        many = [{**values, "vin": f"LFLEET{n:011d}", "plate": f"京F{n:05d}"} for n in range(45)]
        connection.execute(insert(tables.vehicle), many)
        ends = {"owner": "fleet", "bound_by": "t", "ended_utc_ns": None, "ended_by": "", "reason": ""}
        bound = {"device": "rw-" + "f" * 16, "vin": "LFLEET00000000044", "bound_utc_ns": NOW, **ends}
        connection.execute(insert(tables.binding).values(**bound))
        covered = Policy("F1", "", "京F00003", "2020", date(2026, 1, 1), date(2026, 12, 31), owner="fleet")
        policies.put(connection, covered)
        told = cars(connection, Person("p", "fleet", "owner", "fleet"))
        assert cars(connection, Person("a", "adjuster-1", "adjuster")) == []
    assert [(car.name, car.device) for car in told[:2]] == [("京F00044", "rw-" + "f" * 16), ("京F00000", "")]
    assert [car.name for car in told if car.policy == covered] == ["京F00003"]
    last, shown = page_of(told, 99)
    assert (len(last), shown.number, shown.pages, shown.total) == (5, 3, 3, 45)
