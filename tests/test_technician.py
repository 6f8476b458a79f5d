"""The technician's pages: health, backlog and bindings of boxes, by forms; never a place, a trip or a score."""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from agent.records import Health, Record
from receiver import db, devices
from receiver.registry import bindings, consents
from receiver.texts import text
from tests.pages import NOW, Desk, S, braking, client, clock_at, drive, open_desk
from tests.registering import OTHER_VIN, VIN, bound, car, registered
from tests.syncing import ListSource

PLACE = re.compile(r"(?<![\d.])(?:31\.2\d|121\.4\d)\d*|\d{1,3}\.\d{4,}")
DAY = 86_400 * S
OTHER_ROLES = ("owner", "adjuster", "underwriter")


def said(source: str, state: Any, detail: str, t_ns: int = 5 * S, **more: Any) -> Health:
    return Health(t_ns=t_ns, source=source, state=state, detail=detail, **more)


def happened(kind: str, **more: Any) -> Record:
    changed = {"severity": "moderate", "peak": 1.0, "unit": "s", "rule": f"{kind}/1", "window": None, "levels": None}
    return braking(200 * S, **{**changed, "kind": kind, **more})


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = open_desk(tmp_path)
    yield desk
    desk.engine.dispose()


@pytest.fixture
def box(desk: Desk) -> ListSource:
    """A box in a car that drove, with everything that a technician may see of it and much that he may not."""
    source = desk.enrol()
    bound(desk.engine, source.device, now_ns=NOW - 60 * DAY)
    consents.give(desk.engine, source.device, "recording", NOW - 59 * DAY, by="K-1")
    health = [
        said("power:state", "ok", "the car rests", counts={"millivolts_of_12": 12430, "taken_mwh": 77}),
        said("gps:127.0.0.1:2947:signal", "degraded", "all satellites became weaker", facts={"weaker_db": "14"}),
        said("canbus:can0:vin", "ok", f"the vehicle calls itself {OTHER_VIN}", facts={"vin": OTHER_VIN}),
        said("canbus:can0:dtc", "ok", "lists", facts={"7E8 stored": "P0301", "7E8 pending": ""}),
        said("guard", "ok", "memory", facts={"parked": "31.23001,121.47001"}),
    ]
    events = [happened("power_lost", detail="it was unplugged"), happened("towed"), happened("bump"), braking(300 * S)]
    desk.send(source, [clock_at(NOW - DAY), *health, *drive(events=events)])  # type: ignore[list-item]
    return source


def words(page: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))


def looks(desk: Desk) -> list[tuple[str, str, str, str]]:
    t = db.access_log
    with desk.engine.connect() as connection:
        query = select(t.c.who, t.c.what, t.c.device, t.c.name).where(t.c.what.in_(("enrolment", "binding")))
        return [tuple(row) for row in connection.execute(query.order_by(t.c.seq))]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_box_is_shown_with_its_health_and_without_a_place(desk: Desk, box: ListSource, lang: str) -> None:
    t, mine = text(lang), client(desk.engine, "technician")
    raw = mine.get(f"/devices/{box.device}?lang={lang}").text
    page = words(raw)
    assert t("box.volts", n="12.4") in page
    assert "14 dB" in page
    assert "P0301" in page
    assert "it was unplugged" in page
    assert t("box.vin.wrong", vin=OTHER_VIN) in page
    assert t("box.recording.agreed") in page
    assert t("kind.power_lost") in page
    for kind in ("harsh_braking", "towed", "bump"):
        assert t(f"kind.{kind}") not in page
    for path in ("/devices", "/devices?show=attention", "/devices?show=offline", f"/devices/{box.device}", "/bindings"):
        for found in PLACE.findall(words(mine.get(path).text)):
            raise AssertionError((path, found))


def test_no_other_role_sees_or_does_anything_here(desk: Desk, box: ListSource) -> None:
    for role in OTHER_ROLES:
        other = client(desk.engine, role)
        for path in ("/devices", f"/devices/{box.device}", "/bindings"):
            assert other.get(path).status_code == 403, (role, path)
        for path in ("/devices/enrol", f"/devices/{box.device}/state", "/bindings/bind", "/bindings/unbind"):
            assert other.post(path, data={"device": box.device, "sure": "1", "deed": "block"}).status_code == 403
    assert client(desk.engine, "technician").get("/devices/rw-0000000000000000").status_code == 404
    assert [row for row in looks(desk) if row[1] == "enrolment"] == []


def test_those_that_need_somebody_are_found(desk: Desk) -> None:
    well, silent, ill, unasked, doubted = (desk.enrol(seed) for seed in range(1, 6))
    desk.status(silent, "offline")
    for one in (well, ill, unasked, doubted):
        desk.status(one, "online")
    with desk.engine.begin() as connection:
        connection.execute(db.live.update().where(db.live.c.device == silent.device).values(seen_utc_ns=NOW - 8 * DAY))
    desk.send(well, [said("gps", "lost", "gone"), said("gps", "ok", "there again", 9 * S)])
    desk.send(ill, [said("store", "degraded", "the card is slow")])
    desk.send(doubted, [said("consent", "degraded", "nobody has agreed yet")])
    with desk.engine.begin() as connection:
        row = {"device": unasked.device, "reason": "wrong signature", "count": 3, "last_utc_ns": NOW}
        connection.execute(insert(db.refused).values(**row))
    mine = client(desk.engine, "technician")

    def names(query: str) -> set[str]:
        return set(re.findall(r'href="/devices/(rw-[0-9a-f]{16})"', mine.get(f"/devices?{query}").text))

    every = {one.device for one in (well, silent, ill, unasked, doubted)}
    assert names("") == every
    assert names("show=attention") == every - {well.device}
    assert names("show=offline") == {silent.device}
    assert names(f"q={ill.device[5:12]}") == {ill.device}
    assert names("q=100%25") == set()
    assert mine.get("/devices?show=everything").status_code == 404
    t, page = text("en"), words(mine.get("/devices?show=attention").text)
    assert t("box.recording.nobody") in page
    assert f"{t('box_part.storage')} · store" in page
    assert t.many("vehicles.data_refused", 3) in page


def test_many_boxes_are_shown_by_pages(desk: Desk) -> None:
    row = {"public_key": "0" * 64, "enrolled_utc_ns": NOW, "state": "accepted", "greeted": True, "session": ""}
    with desk.engine.begin() as connection:
        connection.execute(insert(db.device), [{**row, "id": f"rw-{n:016x}", "lineage": ""} for n in range(120)])
    mine = client(desk.engine, "technician")
    found = [re.findall(r'href="/devices/(rw-\w+)"', mine.get(f"/devices?page={n}").text) for n in (1, 2, 3, 99)]
    assert [len(page) for page in found] == [50, 50, 20, 20]
    assert found[2] == found[3]
    assert len({name for page in found for name in page}) == 120


def test_a_box_that_waits_is_enrolled_by_a_form_and_the_log_says_who_did_it(desk: Desk) -> None:
    waiting = ListSource(7)
    desk.greet(waiting)
    mine = client(desk.engine, "technician")
    assert f'value="{waiting.device}"' in mine.get("/devices").text
    answer = mine.post("/devices/enrol", data={"device": waiting.device}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/devices/{waiting.device}")
    assert ("technician-1", "enrolment", waiting.device, "enrol") in looks(desk)
    for wrong in ("", "rw-0000000000000000", "<script>"):
        bad = mine.post("/devices/enrol", data={"device": wrong})
        assert bad.status_code == 422
        assert 'id="f-device-wrong"' in bad.text
        assert "<script>" not in bad.text


def test_a_box_is_blocked_and_trusted_again_only_when_that_is_confirmed(desk: Desk, box: ListSource) -> None:
    mine, path = client(desk.engine, "technician"), f"/devices/{box.device}/state"
    bad = mine.post(path, data={"deed": "block"})
    assert bad.status_code == 422
    assert 'id="sure-wrong"' in bad.text
    assert [one.state for one in devices.devices(desk.engine)] == ["accepted"]
    for deed, state in (("block", "blocked"), ("enrol", "accepted")):
        assert mine.post(path, data={"deed": deed, "sure": "1"}, follow_redirects=False).status_code == 303
        assert [one.state for one in devices.devices(desk.engine)] == [state]
    assert [row[3] for row in looks(desk) if row[1] == "enrolment"] == ["block", "enrol"]
    assert mine.post("/devices/rw-0000000000000000/state", data={"deed": "block", "sure": "1"}).status_code == 404


def test_a_box_is_bound_with_vin_and_code_and_unbound_with_a_reason(desk: Desk) -> None:
    source = desk.enrol()
    registered(desk.engine)
    with desk.engine.begin() as connection:
        code = bindings.offer(connection, VIN, NOW)
    mine = client(desk.engine, "technician")
    typed = {
        "device": source.device.upper().replace("RW", "rw"),
        "vin": VIN.lower(),
        "code": f" {code[:4]}-{code[4:]} ",
    }
    answer = mine.post("/bindings/bind", data=typed, follow_redirects=False)
    assert answer.status_code == 303
    page = mine.get(answer.headers["location"]).text
    assert VIN in page
    assert "technician-1" in page
    bad = mine.post("/bindings/unbind", data={"device": source.device, "reason": " "})
    assert bad.status_code == 422
    assert text("en")("bindings.refused.reason") in bad.text
    done = mine.post("/bindings/unbind", data={"device": source.device, "reason": "sold <b>"}, follow_redirects=False)
    assert done.status_code == 303
    assert "sold &lt;b&gt;" in mine.get(done.headers["location"]).text
    assert [row[3] for row in looks(desk)] == [f"bind {VIN}", "unbind"]
    assert mine.post("/bindings/unbind", data={"device": source.device, "reason": "again"}).status_code == 422


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_is_wrong_with_a_binding_is_said_beside_its_field(desk: Desk, lang: str) -> None:
    first, second = desk.enrol(1), desk.enrol(2)
    bound(desk.engine, first.device, now_ns=NOW)
    registered(desk.engine, car("K-2", OTHER_VIN))
    with desk.engine.begin() as connection:
        bindings.offer(connection, OTHER_VIN, NOW)
    mine, t = client(desk.engine, "technician"), text(lang)

    def refused(status: int, field: str, error: str, *typed: str) -> None:
        data = dict(zip(("device", "vin", "code"), typed, strict=True))
        answer = mine.post(f"/bindings/bind?lang={lang}", data=data)
        assert answer.status_code == status
        found = re.findall(r'<p class="wrong" id="f-(\w+)-wrong">([^<]*)</p>', answer.text)
        assert (field, error) in [(name, html.unescape(said)) for name, said in found]

    refused(422, "code", t("bindings.refused.empty"), second.device, OTHER_VIN, "")
    refused(422, "device", t("bindings.refused.no_device"), "rw-0000000000000000", OTHER_VIN, "ABCDEFGH")
    refused(422, "vin", t("bindings.refused.no_vin"), second.device, "LFV2A21K6A3000001", "ABCDEFGH")
    refused(409, "vin", t("bindings.refused.vin_bound", device=first.device), second.device, VIN, "ABCDEFGH")
    refused(409, "device", t("bindings.refused.device_bound", vin=VIN), first.device, OTHER_VIN, "ABCDEFGH")
    for left in (4, 3, 2, 1):
        refused(422, "code", t.many("bindings.refused.code", left), second.device, OTHER_VIN, "AAAAAAAA")
    for _ in range(2):
        refused(422, "code", t("bindings.refused.no_code"), second.device, OTHER_VIN, "AAAAAAAA")


def test_a_box_in_another_car_than_bound_is_listed(desk: Desk, box: ListSource) -> None:
    told = desk.enrol(2)
    bound(desk.engine, told.device, car("K-2", "LFV2A21K5A3000005"), now_ns=NOW - 60 * DAY)
    desk.send(told, [happened("vin_mismatch", detail="")])
    mine = client(desk.engine, "technician")
    page = mine.get("/bindings").text
    strays = page[page.index('id="strays"') : page.index('id="bind"')]
    assert re.findall(r"/devices/(rw-\w+)", strays) == sorted([box.device, told.device])
    assert OTHER_VIN in strays
    assert mine.get("/devices").text.count(text("en")("boxes.mismatch")) == 2


def test_backlog_files_and_commands_are_told_without_what_they_are_about(desk: Desk) -> None:
    source = desk.enrol(greeted=False)
    desk.greet(source, heads={"trip": 4321, "health": 0}, versions={"roadwitness": "9.8.7"})
    desk.send(source, drive())
    file = {
        "device": source.device,
        "file": "ab" * 32,
        "size": 4_000_000,
        "state": "open",
        "partial": "",
        "ranges": "[]",
    }
    asked = {"id": "c" * 32, "device": source.device, "command": "clip", "reason": "seen at the harbour", "detail": "x"}
    times = '{"from_utc_ns": 1790000000000000000, "to_utc_ns": 1790000040000000000}'
    asked |= {"arguments": times, "actor": "adjuster-1", "issued_utc_ns": NOW, "expires_utc_ns": NOW + DAY}
    asked |= {"payload": b"", "state": "done", "state_utc_ns": NOW}
    with desk.engine.begin() as connection:
        connection.execute(insert(db.transfer).values(**file, received=1_000_000, revision=1, updated_utc_ns=NOW))
        connection.execute(insert(db.command).values(**asked))
    mine, t = client(desk.engine, "technician"), text("en")
    page = words(mine.get(f"/devices/{source.device}").text)
    assert "4,320" in page  # one of the trips has come
    assert "4,321" not in page
    assert "1.0 MB (25 %)" in page
    assert "adjuster-1" in page
    assert t("box_command.clip") in page
    assert "harbour" not in page
    told = page[page.index(t("box.asked")) : page.rindex(t("box.bindings"))]
    assert "18 Nov 2026" in told  # when it was asked …
    assert "Sep" not in told  # … not of which time
    assert "9.8.7" in words(mine.get("/devices").text)


def test_empty_lists_say_what_to_do(desk: Desk) -> None:
    mine, t = client(desk.engine, "technician"), text("en")
    assert t("boxes.none_help") in words(mine.get("/devices").text)
    assert t("boxes.no_match") in words(mine.get("/devices?q=zzz").text)
    assert t("bindings.none_help") in words(mine.get("/bindings").text)
