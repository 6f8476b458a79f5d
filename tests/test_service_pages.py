"""The technician's remote service: asked by forms, answered by the box, shown without a place, and nobody else's."""

import html
import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select
from typer.testing import CliRunner

from agent.errors import RoadwitnessError
from receiver import commands, db
from receiver.cli import app
from receiver.service import keeping
from receiver.service.kinds import TECHNICAL
from receiver.texts import text
from tests.pages import NOW, Desk, client, open_desk
from tests.syncing import ListSource
from tests.uploading import file_store

COMMAND, BROKEN = "c" * 32, "b" * 32
INCIDENT = COMMAND[:16]
OTHERS = ("owner", "adjuster", "underwriter")
FINDINGS = [
    {"check": "power.supply", "state": "pass", "found": "12.6 V", "next": ""},
    {"check": "gps.fix", "state": "fail", "found": "no <fix>", "next": "Look at the antenna.", "device": "gps:/dev/x"},
]
CODES = {"codes": [{"code": "P0301", "kind": "stored", "unit": "7E8", "text": "Cylinder 1 misfire"}], "lamp": True}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = open_desk(tmp_path_factory.mktemp("service"))
    yield desk
    desk.engine.dispose()


@pytest.fixture(scope="module")
def box(desk: Desk) -> ListSource:
    return desk.enrol()


@pytest.fixture(scope="module")
def store(desk: Desk, box: ListSource, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Hold the answer to one command, and a broken one to another."""
    folder = tmp_path_factory.mktemp("files")
    files = {"doctor.json": {"findings": FINDINGS}, "codes.json": CODES, "support.zip": b"PK"}
    answered(desk, box, folder, COMMAND, "bundle", files)
    return answered(desk, box, folder, BROKEN, "doctor", {"doctor.json": b"{", "codes.json": {"codes": [{"code": 5}]}})


@pytest.fixture(scope="module")
def mine(desk: Desk, store: Any) -> Any:
    return client(desk.engine, "technician", files=store)


def words(page: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))


def asked(desk: Desk, box: ListSource) -> list[commands.Asked]:
    return commands.asked(desk.engine, box.device, NOW)


def answered(desk: Desk, box: ListSource, folder: Path, id_: str, command: str, files: dict[str, Any]) -> Any:
    """Put the answer to a command into database and store; return the store."""
    store, incident = file_store(folder), id_[:16]
    with desk.engine.begin() as connection:
        row = {"id": id_, "device": box.device, "command": command, "arguments": "{}", "reason": "it is <mute>"}
        row |= {
            "actor": "technician-1",
            "issued_utc_ns": NOW - 1,
            "expires_utc_ns": NOW + 1,
            "payload": b"",
            "sent_utc_ns": NOW,
        }
        row |= {"state": "done", "state_utc_ns": NOW, "detail": "1 fail", "incident": incident}
        connection.execute(insert(db.command).values(**row))
        entry = {
            "device": box.device,
            "lineage": "l",
            "lane": "reply",
            "seq": int(id_[0], 16),
            "received_utc_ns": NOW,
            "boot": "b",
        }
        reply = {n: row[n] for n in ("command", "state", "detail", "actor", "reason", "expires_utc_ns", "incident")}
        known = {**entry, **reply, "command_id": id_, "t_ns": 1}
        connection.execute(insert(db.reply).values(**{n: v for n, v in known.items() if n in db.reply.c}))
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            digest = sha256(data).hexdigest()
            named = {"device": box.device, "incident": incident, "name": name, "file": digest, "size": len(data)}
            connection.execute(insert(db.package_file).values(**named, held=True))
            partial = store.begin()
            store.write(partial, [(0, memoryview(data))])
            store.put(partial, box.device, incident, name)
    return store


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_technician_asks_by_forms_and_each_is_logged(desk: Desk, box: ListSource, mine: Any, lang: str) -> None:
    path = f"/devices/{box.device}/service"
    page = words(mine.get(f"{path}?lang={lang}").text)
    for what in TECHNICAL:
        assert text(lang)(f"service.what.{what}") in page
        why = f"the box is mute, {lang}"
        form = {"what": what, f"{what}-why": why, f"{what}-minutes": "5", "log_level-level": "debug"}
        form |= {"config-toml": "sync.window = 2"}
        done = mine.post(path, data=form, follow_redirects=False)
        assert done.status_code == 303, words(done.text)
        (one,) = (a for a in asked(desk, box) if (a.command, a.reason) == (what, why))
        wanted: dict[str, Any] = {
            "log_level": {"level": "debug", "seconds": 300},
            "config": {"toml": "sync.window = 2", "drop": [], "within_s": 300},
        }
        assert one.arguments == wanted.get(what, {})
        log = db.access_log.c
        with desk.engine.connect() as connection:
            assert connection.execute(select(log.what).where(log.name == one.id)).scalar() == "command"
    assert why in words(mine.get(path).text)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"what": "doctor"}, "service.refused.empty"),
        ({"what": "config", "config-why": "x", "config-minutes": "5"}, "service.refused.empty"),
        (
            {"what": "config", "config-why": "x", "config-minutes": "x", "config-toml": "a.b = 1"},
            "service.refused.number",
        ),
        ({"what": "log_level", "log_level-why": "x", "log_level-minutes": "0"}, "service.refused.minutes"),
        ({"what": "log_level", "log_level-why": "x", "log_level-minutes": "2.5"}, "service.refused.whole"),
    ],
)
def test_what_is_wrong_is_told_beside_its_field(
    desk: Desk, box: ListSource, mine: Any, form: dict[str, str], told: str
) -> None:
    before = asked(desk, box)
    done = mine.post(f"/devices/{box.device}/service?lang=en", data=form)
    assert done.status_code == 422
    assert text("en")(told, most=1440) in words(done.text)
    assert asked(desk, box) == before


def test_no_form_asks_for_a_place(desk: Desk, box: ListSource, mine: Any) -> None:
    for what in ("track", "clip", "x"):
        assert mine.post(f"/devices/{box.device}/service", data={"what": what, f"{what}-why": "x"}).status_code == 404
    assert mine.get("/devices/rw-ffffffffffffffff/service").status_code == 404
    assert not [a for a in asked(desk, box) if a.command not in TECHNICAL]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_an_answer_is_shown_with_findings_codes_and_files_each_download_logged(
    desk: Desk, box: ListSource, mine: Any, lang: str
) -> None:
    base = f"/devices/{box.device}/service"
    raw = mine.get(f"{base}/{COMMAND}?lang={lang}").text
    page, t = words(raw), text(lang)
    assert "<fix>" not in raw
    assert "<mute>" not in raw
    assert page.index("no <fix>") < page.index("12.6 V")  # worst first
    for shown in ("Look at the antenna.", "P0301", "Cylinder 1 misfire", t("service.lamp_on"), t("service_state.fail")):
        assert shown in page
    assert mine.get(f"{base}/{COMMAND}/files/support.zip").content == b"PK"
    assert mine.get(f"{base}/{COMMAND}/files/device.key").status_code == 404
    assert mine.get(f"{base}/{'d' * 32}").status_code == 404
    log = db.access_log.c
    with desk.engine.connect() as connection:
        rows = connection.execute(select(log.what, log.name).where(log.incident == INCIDENT).order_by(log.seq)).all()
    assert [tuple(row) for row in rows][-2:] == [("page", "bundle"), ("file", "support.zip")]


def test_what_a_box_answered_a_technician_is_nobody_elses(desk: Desk, box: ListSource, mine: Any, store: Any) -> None:
    crash = f"/vehicles/{box.device}/crashes/{INCIDENT}/files/support.zip"
    for role in OTHERS:
        other = client(desk.engine, role, files=store)
        for path in ("", f"/{COMMAND}", f"/{COMMAND}/files/support.zip"):
            assert other.get(f"/devices/{box.device}/service{path}").status_code == 403
        assert other.post(f"/devices/{box.device}/service", data={"what": "doctor"}).status_code == 403
        assert other.get(crash).status_code in (403, 404)
    assert mine.get(crash).status_code == 403


def test_a_broken_answer_is_shown_as_far_as_it_goes(box: ListSource, mine: Any) -> None:
    page = mine.get(f"/devices/{box.device}/service/{BROKEN}")
    assert page.status_code == 200
    assert "doctor.json" in page.text


def test_the_command_line_asks_and_takes_answers_and_each_file_is_logged(
    desk: Desk, box: ListSource, store: Any, tmp_path: Path
) -> None:
    config = tmp_path / "receiver.toml"
    database = desk.engine.url.render_as_string(hide_password=False)
    config.write_text(f'database = "{database}"\n[files]\nroot = "{store.settings.root}"\n')
    run = CliRunner()

    def said(*words: str) -> Any:
        done = run.invoke(app, ["command", *words, "--config", str(config), "--json"])
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.stdout)

    why = ("--reason", "by hand", "--actor", "clerk")
    span = ("--from", "2026-11-18T08:00:00+08:00", "--to", "2026-11-18T09:00:00+08:00")
    for words_, arguments in (
        (("track", box.device, *span), {"from_utc_ns": 1_794_960_000 * 10**9, "to_utc_ns": 1_794_963_600 * 10**9}),
        (("doctor", box.device, "--group", "gps"), {"groups": ["gps"]}),
        (("dtc", box.device), {}),
        (("bundle", box.device), {}),
        (("log-level", box.device, "debug", "--minutes", "2"), {"level": "debug", "seconds": 120}),
        (
            ("config", box.device, "--set", "sync.window=2", "--drop", "sync.retry_s", "--within", "5"),
            {"toml": "sync.window = 2\n", "drop": ["sync.retry_s"], "within_s": 300},
        ),
        (("restart", box.device, "--part", "dashcam"), {}),
    ):
        made = said(*words_, *why)["command"]
        one = commands.one(desk.engine, box.device, made, NOW)
        assert one is not None
        assert (one.arguments, one.reason, one.actor) == (arguments, "by hand", "clerk")
    for wrong in (
        ("restart", box.device, "--part", "car"),
        ("log-level", box.device, "loud"),
        ("answer", box.device, "x"),
    ):
        done = run.invoke(app, ["command", *wrong, *(why if wrong[0] != "answer" else ()), "--config", str(config)])
        assert isinstance(done.exception, RoadwitnessError), wrong
    out = tmp_path / "out"
    told = said("answer", box.device, COMMAND, "--out", str(out))
    assert told["findings"][1]["next"] == "Look at the antenna."
    assert (out / "support.zip").read_bytes() == b"PK"
    log = db.access_log.c
    with desk.engine.connect() as connection:
        rows = connection.execute(select(log.name).where(log.incident == INCIDENT, log.address == "local"))
        assert sorted(row.name for row in rows) == ["codes.json", "doctor.json", "support.zip"]
    shown = run.invoke(app, ["command", "answer", box.device, COMMAND, "--config", str(config)]).stdout
    assert "P0301" in shown
    assert "→ Look at the antenna." in shown


def test_technical_answers_go_after_their_days_and_the_replies_stay(desk: Desk, store: Any, box: ListSource) -> None:
    day = keeping.DAY_NS
    with desk.engine.begin() as connection:
        for incident in (INCIDENT, BROKEN[:16]):
            row = {"device": box.device, "incident": incident, "digest": "", "lineage": "l", "lane": "clip", "seq": 1}
            row |= {"complete": True, "whole": True, "whole_utc_ns": NOW, "told": True}
            connection.execute(insert(db.package_state).values(**row))
    assert keeping.drop_old(desk.engine, store, 90, NOW + 89 * day) == 0
    assert keeping.drop_old(desk.engine, store, 0, NOW + 900 * day) == 0
    assert keeping.drop_old(desk.engine, store, 90, NOW + 91 * day) == 2
    with pytest.raises(OSError, match=r"support\.zip"):
        store.open(box.device, INCIDENT, "support.zip")
    assert commands.one(desk.engine, box.device, COMMAND, NOW) is not None
    assert keeping.drop_old(desk.engine, store, 90, NOW + 92 * day) == 0
