"""The owner's claims, disputes and consents: each form good and bad, nothing of another owner, nothing as markup."""

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape
from sqlalchemy import select, update

from receiver import access, db, disputes, gcj02, policies
from receiver.claiming import assessing, documents, facts, reporting, tables
from receiver.claiming.facts import Place, metres
from receiver.claiming.reporting import Car, Declared
from receiver.policies import Cover, Policy
from receiver.pricing import load_book
from receiver.registry import consents, erasures
from receiver.registry import tables as registry
from tests.crash_cases import NOW as CRASHED
from tests.crash_cases import Box, Insurer
from tests.packing import T0_NS, UTC_NS
from tests.pages import NOW, OWNER, Desk, S, braking, client, clock_at, drive, own, signed_in
from tests.syncing import ListSource

T0 = UTC_NS + T0_NS
EVIL = "<script>alert('沪')</script>"


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


PNG = (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(b"\0\0"))
    + chunk(b"IEND", b"")
)


class World:
    """An owner with a car that crashed and a car that drives; every test has its own cars beside them."""

    def __init__(self, folder: Path) -> None:
        self.clients: dict[tuple[str, str], Any] = {}
        self.insurer = Insurer(folder / "insurer")
        self.engine, self.files = self.insurer.engine, self.insurer.files
        self.box = Box(folder / "box")
        self.box.crashes(films="")
        self.insurer.take_all(self.box)
        self.device = self.box.store.device
        self.desk = Desk(self.engine)
        self.other = self.drives(3)
        day = assessing.local_day(T0)
        with self.engine.begin() as connection:
            span = (day - timedelta(10), day + timedelta(355))
            covers = (Cover("VD", 12_000_000, True), Cover("TPL", 100_000_000))
            policies.put(
                connection, Policy("P1", "", "鲁B1", "2015", *span, covers=covers, device=self.device, owner=OWNER)
            )
        declared = Declared(self.device, T0, OWNER, EVIL, Place(31.2371, 121.4712))
        self.claim = reporting.report(self.engine, declared, T0 + 3600 * S, facts.limits())
        assessing.check(self.engine, self.claim, T0 + 4000 * S, self.files)

    def drives(self, seed: int) -> ListSource:
        source = self.desk.enrol(seed)
        self.desk.send(source, [clock_at(NOW - 3 * 86_400 * S), *drive(events=[braking(), braking(400 * S)])])
        own(self.engine)
        return source

    def client(self, role: str = "owner", owner: str = OWNER) -> Any:
        """Return the one client of a person; making the application takes longer than a page."""
        if (role, owner) not in self.clients:
            session = signed_in(self.engine, role, owner)
            found = client(self.engine, None, files=self.files)
            found.cookies.set("session", session.token)
            found.headers["x-csrf"] = session.csrf
            self.clients[role, owner] = found
        return self.clients[role, owner]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("claims"))
    yield made
    made.box.store.close()
    made.engine.dispose()


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_a_claim_shows_its_evidence_checks_and_history_and_no_markup_of_strangers(world: World) -> None:
    pages = world.client()
    body = pages.get(f"/claims/{world.claim}?lang=en").text
    said = plain(body)
    assert "Package: Proved" in said
    assert f"/vehicles/{world.device}/crashes/{world.box.crash.id}" in body
    assert "Declared place" in said
    assert "Evidence proved: now Evidence complete" in said
    assert "<script>alert" not in body
    assert str(escape(EVIL)) in body
    assert "opened by the box itself" in plain(pages.get("/claims?lang=en").text)
    assert "设备自动报案" in pages.get("/claims?lang=zh").text


def test_a_look_at_a_claim_is_in_the_log(world: World) -> None:
    world.client().get(f"/claims/{world.claim}")
    with db.reading(world.engine) as connection:
        t = db.access_log
        names = set(connection.execute(select(t.c.name).where(t.c.device == world.device)).scalars())
    assert f"claim {world.claim}" in names
    assert access.verify(world.engine).broken is None


def test_the_calculation_stands_line_by_line_and_can_be_disputed(world: World) -> None:
    reporting.put_car(world.engine, world.claim, Car(1, fault="full", compulsory=True), "adjuster", CRASHED)
    loss = reporting.add_loss(world.engine, world.claim, "vehicle", Decimal(9000), "adjuster", CRASHED)
    assessing.assess(world.engine, load_book(), world.claim, {loss: Decimal(8600)}, "adjuster", "seen", CRASHED)
    pages = world.client()
    said = plain(pages.get(f"/claims/{world.claim}?lang=en").text)
    assert "8,600 yuan" in said
    assert "Share of fault of this car: 100 %" in said
    at = f"/claims/{world.claim}/dispute"
    empty = pages.post(f"{at}?lang=en", data={"rule": "settlement", "why": " "})
    assert empty.status_code == 422
    assert "Say what is wrong." in empty.text
    assert pages.post(at, data={"rule": "nonsense", "why": "x"}).status_code == 404
    done = pages.post(at, data={"rule": "settlement", "why": EVIL}, follow_redirects=False)
    assert (done.status_code, done.headers["location"]) == (303, f"/claims/{world.claim}#flag-settlement")
    body = pages.get(f"/claims/{world.claim}?lang=en").text
    assert "A person has not decided yet." in body
    assert "<script>alert" not in body
    assert pages.post(at, data={"rule": "settlement", "why": "again"}).status_code == 422


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.png", b"", "Choose a file."),
        ("a.png", b"MZ\x90\x00 not a picture", "This is no photo, PDF or MP4"),
        ("a.png", PNG[:40], "The file is cut off."),
        ("a.jpg", b"\xff\xd8\xff" + b"\0" * (documents.MOST_BYTES + 10), "larger than 20 MB"),
    ],
)
def test_a_document_that_is_none_is_refused_beside_its_field(world: World, name: str, data: bytes, said: str) -> None:
    answer = world.client().post(
        f"/claims/{world.claim}/documents?lang=en", data={"kind": "photo"}, files={"file": (name, data)}
    )
    assert answer.status_code == 422
    assert said in answer.text


def test_a_document_is_kept_by_its_content_and_given_back_as_a_file(world: World) -> None:
    pages = world.client()
    at = f"/claims/{world.claim}/documents"
    name = "../../etc/<b>passwd</b>.exe"
    sent = pages.post(at, data={"kind": "photo"}, files={"file": (name, PNG)}, follow_redirects=False)
    assert sent.status_code == 303
    body = pages.get(f"/claims/{world.claim}").text
    assert "<b>passwd" not in body
    link = re.search(rf'href="({at}/[0-9a-f]{{64}})"', body)
    assert link
    given = pages.get(link[1])
    assert given.content == PNG
    assert given.headers["content-type"] == "image/png"
    assert given.headers["content-disposition"].startswith("attachment")
    assert pages.post(at, data={"kind": "sculpture"}, files={"file": (name, PNG)}).status_code == 422
    assert pages.get(f"{at}/{'0' * 64}").status_code == 404
    other = world.client(owner="owner-2")
    assert other.get(link[1]).status_code == 404
    assert other.post(at, data={"kind": "photo"}, files={"file": (name, PNG)}).status_code == 404


def test_what_is_larger_than_any_form_is_not_read(world: World) -> None:
    answer = world.client().post(f"/claims/{world.claim}/dispute", data={"rule": "settlement", "why": "x" * 300_000})
    assert answer.status_code == 413


def test_a_report_opens_a_claim_or_joins_that_of_the_box(world: World) -> None:
    pages = world.client()
    form = {"device": world.other.device, "when": "2026-11-10T18:30", "where": "车库", "what": "刮擦", "injured": "1"}
    done = pages.post("/claims/report", data=form, follow_redirects=False)
    assert done.status_code == 303
    claim = done.headers["location"].rpartition("/")[2]
    with db.reading(world.engine) as connection:
        row = connection.execute(select(tables.claim_report).where(tables.claim_report.c.claim == claim)).one()
    assert (row.by, row.said, bool(row.injured), row.latitude) == (OWNER, "车库\n刮擦", True, None)
    assert row.loss_utc_ns == 1_794_306_600 * S  # 10:30 UTC: half past six in Shanghai
    assert "Somebody was hurt." in plain(pages.get(f"/claims/{claim}?lang=en").text)


def test_a_place_from_a_chinese_map_is_kept_as_wgs84(world: World) -> None:
    there = gcj02.from_wgs84(31.2304, 121.4737)
    form = {
        "device": world.other.device,
        "when": "2026-11-12T08:00",
        "where": "外滩",
        "what": "追尾",
        "latitude": f"{there[0]:.7f}",
        "longitude": f"{there[1]:.7f}",
        "datum": "gcj02",
    }
    claim = world.client().post("/claims/report", data=form, follow_redirects=False).headers["location"][-16:]
    with db.reading(world.engine) as connection:
        row = connection.execute(select(tables.claim_report).where(tables.claim_report.c.claim == claim)).one()
    assert metres(Place(row.latitude, row.longitude), Place(31.2304, 121.4737)) < 0.1


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("when", "", "This is needed."),
        ("when", "yesterday", "Write day and time"),
        ("when", "2030-01-01T00:00", "This lies in the future"),
        ("where", " ", "This is needed."),
        ("what", "", "This is needed."),
        ("latitude", "north", "Write a number, such as 31"),
        ("latitude", "31.2", "Give both, or neither."),
    ],
)
def test_a_wrong_report_is_told_beside_its_field(world: World, field: str, value: str, said: str) -> None:
    form = {"device": world.other.device, "when": "2026-11-10T18:30", "where": "here", "what": EVIL, field: value}
    answer = world.client().post("/claims/report?lang=en", data=form)
    assert answer.status_code == 422
    assert said in answer.text
    assert "<script>alert" not in answer.text


def test_nobody_reaches_another_owners_claims_cars_or_consents(world: World) -> None:
    other = world.client(owner="owner-2")
    form = {"device": world.device, "when": "2026-11-10T18:30", "where": "here", "what": "it"}
    assert other.get(f"/claims/{world.claim}").status_code == 404
    assert other.post(f"/claims/{world.claim}/dispute", data={"rule": "clock", "why": "x"}).status_code == 404
    assert other.post("/claims/report", data=form).status_code == 404
    for path in ("give", "withdraw", "erase"):
        data = {"device": world.device, "purpose": "recording", "sure": "1", "word": "erase", "version": "1"}
        assert other.post(f"/consent/{path}", data=data).status_code == 404
    for what in ("events", "trips"):
        assert other.get(f"/vehicles/{world.other.device}/{what}/1/dispute").status_code == 404
    said = plain(other.get("/claims?lang=en").text)
    assert "No claim" in said
    assert "No policy yet" in plain(other.get("/policies?lang=en").text)


def test_an_event_is_disputed_by_its_signed_entry_and_shows_how_far_that_is(world: World) -> None:
    source = world.drives(5)
    pages = world.client()
    trip = re.search(rf"/vehicles/{source.device}/trips/\d+", pages.get(f"/vehicles/{source.device}").text)
    assert trip
    body = pages.get(f"{trip[0]}?lang=en").text
    link = re.search(r'href="(/vehicles/[^"]+/events/\d+/dispute)"', body)
    assert link
    assert "Why" not in plain(pages.get(f"{link[1]}?lang=en").text).split("Dispute:")[0]
    assert pages.post(f"{link[1]}?lang=en", data={"why": ""}).status_code == 422
    done = pages.post(link[1], data={"why": EVIL}, follow_redirects=False)
    assert (done.status_code, done.headers["location"]) == (303, f"{trip[0]}#events")
    body = pages.get(f"{trip[0]}?lang=en").text
    assert "disputed, not decided" in body
    assert "<script>alert" not in body
    assert pages.post(link[1], data={"why": "again"}).status_code == 422
    with db.reading(world.engine) as connection:
        found = disputes.disputed_entries(connection, source.device)
        number = disputes.waiting(connection, source.device)[0].id
    assert {lane for _, lane, _ in found} == {"event"}
    disputes.decide(world.engine, number, True, "adjuster", "the video shows it", NOW)
    said = plain(pages.get(f"/vehicles/{source.device}/events?lang=en").text)
    assert "dispute upheld" in said
    assert "Upheld Wed 18 Nov 2026 19:06: “the video shows it”" in said


def test_a_trip_is_disputed_too(world: World) -> None:
    source = world.drives(6)
    pages = world.client()
    trip = re.search(rf"/vehicles/{source.device}/trips/\d+", pages.get(f"/vehicles/{source.device}").text)
    assert trip
    assert pages.post(f"{trip[0]}/dispute", data={"why": "my son drove"}, follow_redirects=False).status_code == 303
    assert "my son drove" in pages.get(trip[0]).text
    with db.reading(world.engine) as connection:
        assert {lane for _, lane, _ in disputes.disputed_entries(connection, source.device)} == {"trip"}


def test_a_consent_is_given_to_a_text_and_withdrawn_with_what_rests_on_it(world: World) -> None:
    source = world.drives(7)
    pages = world.client()

    def post(path: str, **data: str) -> Any:
        return pages.post(f"/consent/{path}?lang=en", data={"device": source.device, **data}, follow_redirects=False)

    body = pages.get("/consent?lang=en").text
    version = re.search(r'name="version" value="([^"]+)"', body)
    assert version
    assert post("give", purpose="scoring", version=version[1]).status_code == 409  # it rests on recording
    assert post("give", purpose="recording", version="2001-01-01").status_code == 409
    assert post("give", purpose="recording").status_code == 422
    assert post("give", purpose="world peace", version=version[1]).status_code == 404
    for purpose in ("recording", "scoring"):
        assert post("give", purpose=purpose, version=version[1]).status_code == 303
    with db.reading(world.engine) as connection:
        given = consents.standing(connection, source.device)
    assert {p: (c.given, c.by, c.language, c.how) for p, c in given.items()} == dict.fromkeys(
        ("recording", "scoring"), (True, OWNER, "en", "page")
    )
    unsure = post("withdraw", purpose="recording")
    assert unsure.status_code == 422
    assert "Tick the box above" in unsure.text
    assert post("withdraw", purpose="recording", sure="1").status_code == 303
    with db.reading(world.engine) as connection:
        assert not any(c.given for c in consents.standing(connection, source.device).values())
    said = plain(pages.get("/consent?lang=en").text)
    assert "Withdrew “Recording how and where this car is driven”, by owner-1" in said


def test_everything_is_erased_only_with_the_word(world: World) -> None:
    source = world.drives(8)
    pages = world.client()
    slip = pages.post("/consent/erase?lang=en", data={"device": source.device, "word": "yes"})
    assert slip.status_code == 422
    assert "Write the word exactly" in slip.text
    done = pages.post("/consent/erase", data={"device": source.device, "word": "删除"}, follow_redirects=False)
    assert done.status_code == 303
    with db.reading(world.engine) as connection:
        asked = erasures.listed(connection, device=source.device)
    assert [(e.purpose, e.asked_by) for e in asked] == [("recording", OWNER)]
    assert "under way" in plain(pages.get("/consent?lang=en").text)


def test_the_owner_takes_everything_away_and_it_is_in_the_log(world: World) -> None:
    answer = world.client().get("/consent/my-data.zip")
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert any(name.startswith(f"{world.other.device}/") and name.endswith(".gpx") for name in names)
        assert {"facts.json", "policies.json", "prices.json", "disputes.json"} <= set(names)
        claims = json.loads(archive.read("claims.json"))
    assert claims
    with db.reading(world.engine) as connection:
        t = db.access_log
        looked = connection.execute(select(t.c.who).where(t.c.what == "export", t.c.name == "my data")).scalars()
    assert set(looked) == {OWNER}
    assert world.client("adjuster").get("/consent/my-data.zip").status_code == 403


def test_policies_say_what_the_owner_bears_himself(world: World) -> None:
    with world.engine.begin() as connection:
        connection.execute(update(registry.vehicle).values(plate="鲁B1"))
    said = plain(world.client().get("/policies?lang=en").text)
    assert "You bear 5 % with a minor share of fault, 10 % with an equal one" in said
    assert "The deductible by fault is insured away." in said
    assert "Up to" in said
