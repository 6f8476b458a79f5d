"""Hostile input at every door: fuzzed messages, bombs, other devices' names, markup, paths and SQL. A list of the rest:

forged device, other lane, other key, replayed batch: tests/test_ingest.py · other device's topic, wrong certificate:
tests/test_sync_brokers.py · bombs and lying frames: tests/test_messages.py · files of other devices, names, sizes:
tests/test_transfers.py · packages against the verifier: tests/test_evidence_hostile.py · markup: tests/test_pages.py,
tests/test_crash_pages.py · documents: tests/test_claim_documents.py · guessing, forged forms: tests/test_signin.py ·
every role against every route: tests/test_rights.py, tests/test_api.py.
"""

import gzip
import re
import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from sqlalchemy import func, select

from benchmarks.fuzz import quick
from receiver import db, policies
from receiver.api import paces, route
from receiver.api.app import described
from receiver.claiming import pdf
from receiver.exports.files import WHAT
from receiver.filestore import FileStore
from receiver.people.rights import RIGHTS
from receiver.settings import FileSettings
from receiver.web import create_app
from tests.api import V1, Bureau, client, open_bureau, policy, token
from tests.fuzzing import run
from tests.pages import NOW, SETTINGS

SQL = ("' OR '1'='1", '1"; DROP TABLE claim; --', "%' UNION SELECT 1 --\\", "x\0y")
PATHS = (
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e%2fmanifest.json",
    "a%00.json",
    "%5c..%5cx",
    "crash.json%2f",
    "CON.",
)
MARKUP = "<img src=x onerror=alert(1)>\"'&"


@pytest.fixture(scope="module")
def bureau(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bureau]:
    made = open_bureau(tmp_path_factory.mktemp("bureau"))
    yield made
    made.engine.dispose()


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "paces", paces.Paces(per_s=1e9, at_once=1e9))


def counted(bureau: Bureau) -> dict[str, int]:
    with db.reading(bureau.engine) as connection:
        return {
            t.name: connection.execute(select(func.count()).select_from(t)).scalar_one()
            for t in db.metadata.sorted_tables
            if t.name not in ("access_log", "api_token")
        }


def test_damaged_messages_raise_nothing_and_nothing_is_stored_that_nobody_signed(tmp_path: Path) -> None:
    """The short form of `python -m benchmarks fuzz`, which takes a million."""
    engine = quick(tmp_path)
    files = FileStore(FileSettings(root=str(tmp_path / "files")), str(engine.url))
    found = run(engine, files, 3000, seed=7)
    assert found.raised == {}
    assert found.forged == 0
    assert found.stored > 20
    assert len(found.refused) >= 15
    assert max(map(len, found.refused)) <= 64  # reasons are fixed: they cannot fill the table that counts them
    # and what the device signed, whatever it says, leaves every answer about it whole
    app = create_app(engine, SETTINGS, lambda: NOW, files=files)
    callers = {role: client(app, token(engine, role)) for role in ("owner", "adjuster", "technician")}
    device = callers["technician"].get(f"{V1}/devices").json()["items"][0]["id"]
    base = f"{V1}/devices/{device}"
    asked = [("technician", base), *(("owner", f"{base}/{what}") for what in ("trips", "events", "commands", "scores"))]
    asked += [("owner", f"{base}/export?what={what}&format={f}") for what, formats in WHAT.items() for f in formats]
    for crash in callers["adjuster"].get(f"{V1}/crashes").json()["items"]:
        asked.append(("adjuster", f"{base}/crashes/{crash['incident']}/package"))
        asked.append(("adjuster", f"{V1}/claims/{crash['claim']}"))
    for role, path in asked:
        assert callers[role].get(path).status_code == 200, path
    assert callers["owner"].get(f"{base}/trips").json()["items"]
    engine.dispose()


@pytest.mark.parametrize("text", SQL)
def test_sql_in_any_parameter_of_any_operation_is_text(bureau: Bureau, text: str) -> None:
    before = counted(bureau)
    for path, methods in described()["paths"].items():
        operation = methods.get("get")
        if operation is None:
            continue
        caller = bureau.caller(min(RIGHTS[operation["x-right"]]))
        query = {p["name"]: text for p in operation.get("parameters", ()) if p["in"] == "query"}
        address = re.sub(r"\{device\}", bureau.device, path)
        address = re.sub(r"\{claim\}", bureau.claim, address)
        for params in [*({n: v} for n, v in query.items()), query]:
            answer = caller.get(re.sub(r"\{\w+\}", "1", address), params=params)
            assert answer.status_code in (200, 400, 404, 422), (path, params, answer.text)
        in_path = caller.get(re.sub(r"\{\w+\}", lambda _: quote(text, safe=""), path))
        assert in_path.status_code in (200, 404, 422), path
    assert counted(bureau) == before


@pytest.mark.parametrize("name", PATHS)
def test_no_name_leads_out_of_a_package(bureau: Bureau, name: str) -> None:
    secret = bureau.folder / "secret.txt"
    secret.write_text("nobody's business")
    for path in (
        f"{V1}/devices/{bureau.device}/crashes/{'0' * 16}/files/{name}",
        f"{V1}/claims/{bureau.claim}/documents/{name}",
    ):
        answer = bureau.caller("adjuster").get(path)
        assert answer.status_code in (404, 422), answer.text
        assert b"nobody" not in answer.content


def test_markup_in_names_stays_text_in_every_form(tmp_path: Path) -> None:
    bureau = open_bureau(tmp_path)
    owner, adjuster = bureau.caller("owner"), bureau.caller("adjuster")
    told = {"device": bureau.device, "at": "2026-11-18T10:00:00Z", "said": MARKUP}
    claim = owner.post(f"{V1}/claims", json=told).json()["id"]
    put = adjuster.put(f"{V1}/claims/{claim}/cars/2", json={"plate": "<b>鲁A</b>", "vin": "<i>"})
    assert put.status_code == 200, put.text
    pdf = b"%PDF-1.7\n%%EOF"
    document = owner.post(
        f"{V1}/claims/{claim}/documents", params={"kind": "other", "name": f"{MARKUP}.pdf"}, content=pdf
    )
    assert document.status_code == 201, document.text
    assert not set("<>&\"'") & set(document.json()["name"])
    answer = adjuster.get(f"{V1}/claims/{claim}")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert [r["said"] for r in answer.json()["reports"]][-1] == MARKUP
    gpx = owner.get(f"{V1}/devices/{bureau.device}/trips/1/track?format=gpx").content
    assert ElementTree.fromstring(gpx).tag.endswith("gpx")
    refused = owner.get(f"{V1}/devices/{bureau.device}/export", params={"from": MARKUP})
    assert refused.headers["content-type"] == "application/problem+json"
    bureau.engine.dispose()


@pytest.mark.parametrize("plate", ["<script>", "鲁A'; --", "=1+1", "../x", "a\nb", "\u202eA123"])
def test_no_plate_holds_markup_or_a_formula(bureau: Bureau, plate: str) -> None:
    with bureau.engine.begin() as connection, pytest.raises(policies.PolicyError, match="plate"):
        policies.put(connection, replace(policy("P-9", bureau.device, "o"), plate=plate))


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Host", "evil.example"),
        ("Content-Length", "99999999999"),
        ("Authorization", "Bearer " + "A" * 5000),
        ("Authorization", "Basic b3duZXI6eA=="),
        ("Idempotency-Key", "x" * 5000),
        ("If-None-Match", '"' + "a" * 5000),
        ("X-Forwarded-For", "127.0.0.1"),
        ("Cookie", "session=" + "a" * 43),
    ],
)
def test_odd_headers_open_nothing_and_break_nothing(bureau: Bureau, header: str, value: str) -> None:
    stranger = client(bureau.app)
    answer = stranger.post(f"{V1}/claims", json={}, headers={header: value})
    assert answer.status_code in (401, 413, 421)
    if header not in ("Host", "Authorization"):
        known = bureau.caller("owner").post(f"{V1}/claims", json={}, headers={header: value})
        assert known.status_code in (413, 422)


def test_json_that_is_deep_wide_or_large_costs_a_refusal(bureau: Bureau) -> None:
    owner = bureau.caller("owner")
    bodies: list[bytes] = [
        b"[" * 60_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"device": "' + b"x" * 60_000 + b'"}',
        b"1" * 60_000,
        b'{"km_per_year": 1' + b"0" * 50_000 + b"}",
        b'{"region": "\\ud800"}',
        b"\xff\xfe{\x00}\x00",
        b"NaN",
        b'{"start": "9999999999-01-01"}',
        b'{"said": "a\\u0000b", "why": "a\\u0000b"}',
    ]
    for path in ("/claims", "/prices", "/quotes", f"/devices/{bureau.device}/consents"):
        for body in bodies:
            answer = owner.post(V1 + path, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code in (400, 422), (path, body[:30], answer.text[:300])
            assert len(answer.content) < 20_000


def test_what_unpacks_without_end_is_refused_before_it_does(bureau: Bureau) -> None:
    owner = bureau.caller("owner")
    json = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    packed = owner.post(f"{V1}/claims", content=gzip.compress(bytes(10 << 20)), headers=json)
    assert packed.status_code == 415

    def objects(size: int) -> bytes:
        work = zlib.compressobj(9)
        told = work.compress(bytes(size)) + work.flush(zlib.Z_SYNC_FLUSH)  # ends where it unpacks to `size` exactly
        return b"1 0 obj<</Type/ObjStm/Filter/FlateDecode>>stream\n" + told + b"endstream endobj\n"

    # the first takes all that may be unpacked: what was left was 0, which zlib takes for no bound at all
    bomb = b"%PDF-1.7\n" + objects(pdf.MOST_UNPACKED) + objects(64 << 20) + b"%%EOF"
    tracemalloc.start()
    refused = owner.post(f"{V1}/claims/{bureau.claim}/documents?kind=other", content=bomb)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (refused.status_code, refused.json()["faults"][0]["field"]) == (422, "file")
    assert most < 3 * pdf.MOST_UNPACKED


def test_an_answer_to_a_stranger_does_not_depend_on_what_there_is(bureau: Bureau) -> None:
    stranger = client(bureau.app)
    answers = {stranger.get(f"{V1}/claims/{name}").content for name in (bureau.claim, "0" * 16, "x", "..%2f")}
    assert len(answers) == 1
