"""The API: who may ask for what, prices by their vectors, lists, ETags, one effect a key, errors by their field."""

import json
import re
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import func, select, update

from receiver import access, db
from receiver.api import paces
from receiver.api.app import described
from receiver.api.openapi import PREFIX, RIGHT
from receiver.api.problems import ProblemError
from receiver.api.tables import answered
from receiver.api.write import text
from receiver.claiming import documents, tables
from receiver.people.rights import RIGHTS, ROLES
from receiver.pricing.request import CompulsoryHistory, CoverChoice, History
from receiver.rating import scores
from receiver.registry import bindings
from receiver.scoring.model import DEFAULT_MODEL, model
from tests.api import V1, Bureau, client, open_bureau
from tests.pages import NOW, S, drive
from tests.pricing import CAR, D, request_of, telematics
from tests.syncing import ListSource

ROOT = Path(__file__).parents[1]
# A degree with four decimals or more is within 11 m: no figure of a score or price is written so near a place's.
COORDINATE = re.compile(rb'"(?:latitude|longitude|lat|lon|coordinates)"|36\.65\d\d|117\.12\d\d')


@pytest.fixture(scope="module")
def bureau(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bureau]:
    made = open_bureau(tmp_path_factory.mktemp("bureau"))
    with made.engine.begin() as connection:
        for period in ("2026-10", "2026-11"):
            scores.score_device(connection, made.device, period, model(DEFAULT_MODEL), NOW)
    yield made
    made.engine.dispose()


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    from receiver.api import route

    monkeypatch.setattr(route, "paces", paces.Paces(per_s=1e9, at_once=1e9))


def operations() -> list[tuple[str, str, str]]:
    return [(m, p, o[RIGHT]) for p, methods in described()["paths"].items() for m, o in methods.items()]


def filled(bureau: Bureau, path: str) -> str:
    """Return an address of something that there is."""
    known = {"device": bureau.device, "claim": bureau.claim, "policy": "P-1", "period": "2026-11", "format": "csv"}
    known |= {"trip": "1", "event": "1", "number": "1", "incident": "0" * 16, "name": "crash.json", "dispute": "1"}
    known |= {"sha256": "0" * 64, "quote": "0" * 16, "purpose": "scoring", "command": "0" * 32}
    return re.sub(r"\{(\w+)\}", lambda m: known[m[1]], path)


def faults(answer: Any) -> dict[str, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return {f["field"]: f["reason"] for f in answer.json()["faults"]}


# who


@pytest.mark.parametrize(("method", "path", "right"), operations(), ids=lambda v: v.removeprefix(PREFIX))
def test_every_operation_is_refused_to_strangers_other_roles_and_other_scopes(
    bureau: Bureau, method: str, path: str, right: str
) -> None:
    address = filled(bureau, path)
    for secret in ("", "rw_" + "A" * 43):
        refused = client(bureau.app, secret).request(method, address)
        assert refused.status_code == 401, refused.text
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.headers["content-type"] == "application/problem+json"
    for role in sorted(set(ROLES) - RIGHTS[right]):
        assert bureau.caller(role).request(method, address).status_code == 403
    role = min(RIGHTS[right])
    if right != "account.use":
        assert bureau.caller(role, frozenset({"account.use"})).request(method, address).status_code == 403


def test_a_session_of_the_pages_opens_nothing_here(bureau: Bureau) -> None:
    from tests.pages import signed_in

    stranger = client(bureau.app)
    stranger.cookies.set("session", signed_in(bureau.engine, "adjuster").token)
    assert stranger.get(f"{V1}/claims").status_code == 401
    assert "set-cookie" not in bureau.caller("owner").get(f"{V1}/me").headers
    assert (
        "access-control-allow-origin"
        not in bureau.caller("owner").get(f"{V1}/me", headers={"Origin": "https://x"}).headers
    )


def test_T_PRIV_4_no_answer_to_an_insurers_pricing_token_holds_a_place(bureau: Bureau) -> None:
    # T-PRIV-4
    underwriter = bureau.caller("underwriter")
    asked = 0
    for method, path, _ in operations():
        body = quote_request() if method == "post" else None
        answer = underwriter.request(method, filled(bureau, path), json=body)
        asked += answer.status_code == 200
        assert not COORDINATE.search(answer.content), path
    assert asked >= 12
    # the same places are in what the owner may read, so the search would have found them
    assert COORDINATE.search(bureau.caller("owner").get(f"{V1}/devices/{bureau.device}/trips").content)
    told = underwriter.get(f"{V1}/devices/{bureau.device}/exposure/2026-11").json()
    assert told["km"] > 10
    assert underwriter.get(f"{V1}/devices/{bureau.device}/scores/2026-11").json()["km"] == told["km"]


def test_an_owner_reaches_his_own_alone_and_others_as_if_they_were_not(bureau: Bureau) -> None:
    owner = bureau.caller("owner")
    for path in ("/trips", "/trips/1", "/events", "/export", "/scores", "/commands", "/consents"):
        theirs = owner.get(f"{V1}/devices/{bureau.other}{path}")
        nobodys = owner.get(f"{V1}/devices/rw-0000000000000000{path}")
        assert (theirs.status_code, theirs.content) == (nobodys.status_code, nobodys.content) == (404, theirs.content)
    assert [p["id"] for p in owner.get(f"{V1}/policies").json()["items"]] == ["P-1"]
    assert owner.get(f"{V1}/policies/P-2").status_code == 404
    told = {"device": bureau.other, "at": "2026-11-18T10:00:00Z"}
    assert owner.post(f"{V1}/claims", json=told).status_code == 404


def test_looks_and_decisions_are_in_the_log_before_anything_is_shown(bureau: Bureau) -> None:
    owner = bureau.caller("owner")
    before = owner.get(f"{V1}/audit/head").json()["seq"]
    owner.get(f"{V1}/devices/{bureau.device}/trips/1/track?format=gpx")
    head = owner.get(f"{V1}/audit/head").json()
    assert head["seq"] == before + 1
    assert access.verify(bureau.engine, access.Head(head["seq"], head["hash"])).broken is None
    with db.reading(bureau.engine) as connection:
        row = connection.execute(select(db.access_log).where(db.access_log.c.seq == head["seq"])).one()
    assert (row.what, row.device, row.name) == ("export", bureau.device, "track 1 gpx")
    assert row.who.startswith("token:owner")


# prices


def quote_request(**changed: Any) -> Any:
    """Return T-QUOTE-1's request: 2021 in Shandong, VD, third parties, compulsory cover, a clean record."""
    history = History(standing="renewal", insured_years=3, claims_three_years=0, lapse_months=0)
    asked = request_of(
        covers=[CoverChoice(cover="VD"), CoverChoice(cover="TPL", limit_yuan=D(1_000_000))],
        history=history,
        compulsory=CompulsoryHistory(standing="renewal", clean_years=3),
        own={"pricing": D("0.75")},
    )
    return msgspec.to_builtins(replace(asked, **changed), enc_hook=str)


def test_T_QUOTE_1_a_request_becomes_an_itemised_quote(bureau: Bureau) -> None:
    # T-QUOTE-1
    vd = quote_request(covers=[CoverChoice(cover="VD")], compulsory=None)
    told = bureau.caller("underwriter").post(f"{V1}/prices", json=vd)
    assert told.status_code == 200, told.text
    price = told.json()
    # T-PRICE-1: 1500 / 0.75 × 0.6 × 0.75
    assert (price["lines"][0]["basis_yuan"], price["total_yuan"]) == ("1500", "900.00")
    whole = bureau.caller("underwriter").post(f"{V1}/prices", json=quote_request()).json()
    assert {line["cover"] for line in whole["lines"]} == {"VD", "TPL"}
    assert whole["compulsory_yuan"] == "665.00"
    parts = [D(line["premium_yuan"]) for line in whole["lines"]] + [D(whole["compulsory_yuan"])]
    assert sum(parts) == D(whole["total_yuan"])
    for line in (*whole["factors"], *whole["lines"]):
        assert line["table"]
        assert line["version"]
        assert line["source"]


def test_T_QUOTE_2_with_a_score_only_the_own_coefficient_differs_within_its_bounds(bureau: Bureau) -> None:
    # T-QUOTE-2
    underwriter = bureau.caller("underwriter")
    plain = underwriter.post(f"{V1}/prices", json=quote_request()).json()
    scored = underwriter.post(f"{V1}/prices", json=quote_request(telematics=telematics("0.80"))).json()
    before, after = ({f["name"]: f for f in p["factors"]} for p in (plain, scored))
    assert {n for n in before if before[n]["value"] != after[n]["value"]} == {"pricing"}
    own = after["pricing"]
    assert (own["value"], own["low"], own["high"], own["bounded"]) == ("0.66", "0.65", "1.35", False)  # 0.75 × 0.88
    assert plain["compulsory_yuan"] == scored["compulsory_yuan"]
    assert scored["without_telematics_yuan"] == plain["total_yuan"]  # T-PRIV-5
    bounded = underwriter.post(
        f"{V1}/prices", json=quote_request(own={"pricing": D("0.70")}, telematics=telematics("0.80"))
    ).json()
    assert next(f for f in bounded["factors"] if f["name"] == "pricing")["value"] == "0.65"


def test_T_PRIV_3_a_price_carries_its_factors_and_reasons_in_words(bureau: Bureau) -> None:
    # T-PRIV-3
    told = bureau.caller("owner").post(f"{V1}/prices", json=quote_request(telematics=telematics("0.80"))).json()
    assert all(f["reason"]["en"] and f["reason"]["zh"] for f in told["factors"])


@pytest.mark.parametrize(
    ("changed", "field", "known"),
    [
        ({"region": "atlantis"}, "region", "shandong"),
        ({"vehicle": replace(CAR, model="SAMPLE-SEDNA")}, "vehicle.model", "SAMPLE-SEDAN"),
        ({"covers": [CoverChoice(cover="HAIL")]}, "covers.HAIL", "VD"),
    ],
)
def test_what_has_no_row_is_422_that_names_it(bureau: Bureau, changed: Any, field: str, known: str) -> None:
    refused = bureau.caller("underwriter").post(f"{V1}/prices", json=quote_request(**changed))
    assert refused.status_code == 422
    (fault,) = refused.json()["faults"]
    assert fault["field"] == field
    assert known in fault["known"]


def test_a_kept_quote_takes_the_score_from_the_records_and_the_owner_sees_his_own(bureau: Bureau) -> None:
    owner, underwriter = bureau.caller("owner"), bureau.caller("underwriter")
    asked = quote_request(start=date(2026, 12, 1))
    refused = owner.post(f"{V1}/quotes", json={"request": {**asked, "telematics": {"relativity": "0.5"}}})
    assert refused.status_code == 422
    made = owner.post(f"{V1}/quotes", json={"request": asked, "policy": "P-1", "device": bureau.device})
    assert made.status_code == 201, made.text
    again = owner.get(made.headers["location"])
    assert again.json() == made.json()
    assert made.json()["quote"]["total_yuan"] == made.json()["quote"]["without_telematics_yuan"] or (
        made.json()["no_score"] == ""
    )
    other = underwriter.post(f"{V1}/quotes", json={"request": asked, "policy": "P-2"}).json()
    assert owner.get(f"{V1}/quotes/{other['id']}").status_code == 404
    assert [q["id"] for q in owner.get(f"{V1}/quotes").json()["items"]] == [made.json()["id"]]
    assert {q["id"] for q in underwriter.get(f"{V1}/quotes").json()["items"]} == {made.json()["id"], other["id"]}
    theirs = owner.post(f"{V1}/quotes", json={"request": asked, "policy": "P-2"})
    assert faults(theirs) == {"policy": "'P-2': there is none"}


# lists


def test_a_list_is_read_whole_while_others_add_to_it(tmp_path: Path) -> None:
    bureau = open_bureau(tmp_path)
    owner, source = bureau.caller("owner"), ListSource(1)
    source.lanes = {}
    fresh = ListSource(1, "ba9876543210")
    bureau.desk.greet(fresh)
    for n in range(6):
        bureau.desk.send(fresh, drive((n + 1) * 10_000 * S), "boot-9")
    seen: list[int] = []
    path: str | None = f"{V1}/devices/{bureau.device}/trips?limit=2"
    while path:
        answer = owner.get(path)
        assert answer.status_code == 200, answer.text
        seen += [t["trip"] for t in answer.json()["items"]]
        path = answer.json()["next"]
        bureau.desk.send(fresh, drive((len(seen) + 100) * 10_000 * S), "boot-9")
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == 1
    assert len(set(seen)) == len(seen) == 7
    bureau.engine.dispose()


@pytest.mark.parametrize("after", ["x", "e30", "WzFd", "WyJhIl0", "W251bGxd", "WzFlOTld", "W3RydWVd", "A" * 301])
def test_a_cursor_that_is_none_names_the_field(bureau: Bureau, after: str) -> None:
    path = f"{V1}/devices?after={after}" if after == "WzFd" else f"{V1}/claims?after={after}"
    caller = bureau.caller("technician" if "devices" in path else "adjuster")
    refused = caller.get(path)
    assert refused.status_code == 422
    assert list(faults(refused)) == ["after"]


# ETag


def test_who_has_an_answer_gets_304_and_who_decides_on_an_old_one_412(bureau: Bureau) -> None:
    adjuster = bureau.caller("adjuster")
    path = f"{V1}/claims/{bureau.claim}"
    first = adjuster.get(path)
    tag = first.headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
    again = adjuster.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    loss = {"head": "vehicle", "amount": "8600.00"}
    done = adjuster.post(f"{path}/losses", json=loss, headers={"If-Match": tag})
    assert done.status_code == 200, done.text
    assert done.json()["losses"][0]["estimated"] == "8600.00"
    assert done.headers["etag"] == adjuster.get(path).headers["etag"] != tag
    late = adjuster.post(f"{path}/losses", json=loss, headers={"If-Match": tag})
    assert late.status_code == 412
    assert len(adjuster.get(path).json()["losses"]) == 1
    one = bureau.caller("underwriter").get(f"{V1}/policies/P-1")
    assert (
        bureau.caller("underwriter")
        .get(f"{V1}/policies/P-1", headers={"If-None-Match": one.headers["etag"]})
        .status_code
        == 304
    )


def test_a_claim_goes_its_way_by_decisions_that_name_what_is_wrong(tmp_path: Path) -> None:
    bureau = open_bureau(tmp_path)
    adjuster, owner = bureau.caller("adjuster"), bureau.caller("owner")
    path = f"{V1}/claims/{bureau.claim}"
    early = adjuster.post(f"{path}/settlement", json={"why": "x"})
    assert (early.status_code, early.json()["type"]) == (409, "urn:roadwitness:does-not-fit")
    assert faults(adjuster.post(f"{path}/losses", json={"head": "hail", "amount": "1"}))["head"].startswith(
        "Input should"
    )
    assert "amount" in faults(adjuster.post(f"{path}/losses", json={"head": "vehicle", "amount": "1.005"}))
    assert "agres" in faults(adjuster.put(f"{path}/cars/1", json={"agres": True}))
    assert adjuster.post(f"{path}/losses", json={"head": "vehicle", "amount": "8600.00"}).status_code == 200
    assert (
        adjuster.put(f"{path}/cars/1", json={"fault": "full", "compulsory": True}).json()["cars"][0]["fault"] == "full"
    )
    assert faults(adjuster.post(f"{path}/assessment", json={"amounts": {"9": "1"}, "why": "x"}))
    assessed = adjuster.post(f"{path}/assessment", json={"amounts": {"1": "8000.00"}, "why": "seen"}).json()
    assert (assessed["state"], assessed["proposal"]["lines"][0]["head"]) == ("assessed", "vehicle")
    settled = adjuster.post(f"{path}/settlement", json={"why": "agreed"}).json()
    assert (settled["state"], settled["paid"]) == ("settled", settled["proposal"]["total"])
    made = owner.post(f"{path}/disputes", json={"rule": "settlement", "why": "too little"})
    assert made.status_code == 201
    assert owner.get(path).json()["state"] == "disputed"
    assert [d["rule"] for d in adjuster.get(f"{V1}/disputes").json()["items"]] == ["settlement"]
    ruled = adjuster.post(f"{V1}/disputes/{made.json()['id']}/decision", json={"upheld": False, "why": "by the table"})
    assert (ruled.status_code, ruled.content) == (204, b"")
    assert adjuster.get(f"{V1}/disputes").json()["items"] == []
    bureau.engine.dispose()


# one effect a key


def test_a_key_has_one_effect_and_the_same_answer_for_a_day(bureau: Bureau) -> None:
    owner = bureau.caller("owner")
    told = {"device": bureau.device, "at": "2026-11-10T10:00:00+08:00", "said": "a <script>alert(1)</script>"}
    key = {"Idempotency-Key": "abc-1"}
    first = owner.post(f"{V1}/claims", json=told, headers=key)
    assert first.status_code == 201, first.text
    again = owner.post(f"{V1}/claims", json=told, headers=key)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert len(owner.get(first.headers["location"]).json()["reports"]) == 1
    other = owner.post(f"{V1}/claims", json={**told, "said": "else"}, headers=key)
    assert (other.status_code, other.json()["type"]) == (422, "urn:roadwitness:key-used-otherwise")
    # it was refused: another try under the same key is no other request
    wrong = {**told, "device": "rw-0000000000000000"}
    assert owner.post(f"{V1}/claims", json=wrong, headers={"Idempotency-Key": "k2"}).status_code == 404
    assert owner.post(f"{V1}/claims", json=told, headers={"Idempotency-Key": "k2"}).status_code == 201
    assert faults(owner.post(f"{V1}/claims", json=told, headers={"Idempotency-Key": "a b"}))
    with bureau.engine.begin() as connection:
        connection.execute(update(answered).values(made_utc_ns=NOW - 24 * 3600 * S))
    assert owner.post(f"{V1}/claims", json={**told, "said": "else"}, headers=key).status_code == 201


def test_two_at_once_under_one_key_have_one_effect(tmp_path: Path) -> None:
    bureau = open_bureau(tmp_path)
    owner = bureau.caller("owner")
    told = {"why": "not me"}
    path, found = f"{V1}/devices/{bureau.device}/events/1/disputes", []
    start = threading.Barrier(8)

    def post() -> None:
        start.wait(30)
        found.append(owner.post(path, json=told, headers={"Idempotency-Key": "one"}).status_code)

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) <= {201, 409}
    assert 201 in found
    with db.reading(bureau.engine) as connection:
        assert connection.execute(select(func.count()).select_from(tables.dispute)).scalar() == 1
    assert owner.post(path, json=told, headers={"Idempotency-Key": "one"}).status_code == 201
    bureau.engine.dispose()


def test_a_key_whose_process_died_is_still_open_for_a_minute(bureau: Bureau) -> None:
    owner = bureau.caller("owner")
    told = {"device": bureau.device, "at": "2026-11-09T10:00:00+08:00"}
    key = {"Idempotency-Key": "dead"}
    assert owner.post(f"{V1}/claims", json=told, headers=key).status_code == 201
    mine = answered.c.key == "dead"
    with bureau.engine.begin() as connection:
        connection.execute(update(answered).where(mine).values(state="open", made_utc_ns=NOW - 30 * S))
    busy = owner.post(f"{V1}/claims", json=told, headers=key)
    assert (busy.status_code, busy.headers["retry-after"]) == (409, "1")
    with bureau.engine.begin() as connection:
        connection.execute(update(answered).where(mine).values(made_utc_ns=NOW - 61 * S))
    assert owner.post(f"{V1}/claims", json=told, headers=key).status_code == 201


# bindings, documents, exports


def test_T_BIND_1_a_second_device_on_a_vin_is_409_and_in_the_log(bureau: Bureau) -> None:
    # T-BIND-1
    technician = bureau.caller("technician")
    vin = technician.get(f"{V1}/bindings").json()["items"][-1]["vin"]
    with bureau.engine.begin() as connection:
        code = bindings.offer(connection, vin, NOW)
    third = bureau.desk.enrol(3)
    refused = technician.post(f"{V1}/bindings", json={"device": third.device, "vin": vin, "code": code})
    assert refused.status_code == 409
    assert "vin" in faults(refused)
    with db.reading(bureau.engine) as connection:
        t = db.access_log
        rows = connection.execute(select(t).where(t.c.device == third.device).order_by(t.c.seq)).all()
    assert [r.what for r in rows] == ["binding"] * len(rows)
    assert "refused: vin 409" in rows[-1].name


def test_a_document_is_kept_by_its_bytes_and_given_as_a_download(bureau: Bureau) -> None:
    owner = bureau.caller("owner")
    path = f"{V1}/claims/{bureau.claim}/documents"
    pdf = b"%PDF-1.7\n...\n%%EOF"
    made = owner.post(
        f"{path}?kind=police&name=..%2F..%2F<b>x</b>.pdf", content=pdf, headers={"Content-Type": "text/html"}
    )
    assert made.status_code == 201, made.text
    assert made.json()["media"] == "application/pdf"
    assert not set("<>/\\") & set(made.json()["name"])
    given = owner.get(f"{path}/{made.json()['sha256']}")
    assert (given.content, given.headers["content-type"]) == (pdf, "application/pdf")
    assert given.headers["content-disposition"].startswith("attachment")
    bad = owner.post(f"{path}?kind=police", content=b"<html>", headers={"Content-Type": "image/png"})
    assert "file" in faults(bad)
    assert owner.post(f"{path}?kind=police", content=b"x" * (documents.MOST_BYTES + 1)).status_code == 413


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("what=tracks&format=gpx", "application/gpx+xml"),
        ("what=tracks&format=geojson", "application/geo+json"),
        ("what=events&format=csv", "text/csv; charset=utf-8"),
        ("what=trips&format=parquet", "application/vnd.apache.parquet"),
    ],
)
def test_exports_are_files(bureau: Bureau, query: str, kind: str) -> None:
    given = bureau.caller("owner").get(f"{V1}/devices/{bureau.device}/export?{query}")
    assert (given.status_code, given.headers["content-type"]) == (200, kind)
    assert len(given.content) == int(given.headers["content-length"]) > 100
    wrong = bureau.caller("owner").get(f"{V1}/devices/{bureau.device}/export?what=trips&format=gpx")
    assert list(faults(wrong)) == ["format"]


def test_who_withdraws_a_consent_sees_what_is_erased_and_until_when(tmp_path: Path) -> None:
    bureau = open_bureau(tmp_path)
    owner = bureau.caller("owner")
    path = f"{V1}/devices/{bureau.device}/consents"
    rests = owner.post(path, json={"purpose": "clip", "version": owner.get(path).json()["items"][0]["version"]})
    assert (rests.status_code, rests.json()["type"]) == (409, "urn:roadwitness:does-not-fit")
    assert [c["purpose"] for c in owner.delete(f"{path}/scoring").json()["items"]] == ["scoring"]
    assert [c["given"] for c in owner.get(path).json()["items"]] == [True, True, False]
    (erasure,) = owner.get(f"{V1}/erasures").json()["items"]
    assert (erasure["purpose"], erasure["state"], erasure["device"]) == ("scoring", "open", bureau.device)
    old = owner.post(path, json={"purpose": "scoring", "version": "1999-01-01"})
    assert (old.status_code, list(faults(old))) == (409, ["version"])
    bureau.engine.dispose()


# errors and the description


def test_errors_are_problems_that_say_what_to_send(bureau: Bureau) -> None:
    owner = bureau.caller("owner")
    claims = f"{V1}/claims"
    for answer, status in (
        (owner.get(f"{V1}/nowhere"), 404),
        (owner.patch(claims), 405),
        (owner.post(claims, content=b"{", headers={"Content-Type": "application/json"}), 400),
        (owner.post(claims, content=b"a=1", headers={"Content-Type": "application/x-www-form-urlencoded"}), 415),
        (owner.post(claims, content=b" " * 65_537, headers={"Content-Type": "application/json"}), 413),
        (owner.post(claims, content=iter([b" "] * 65_537), headers={"Content-Type": "application/json"}), 413),
        (owner.request("GET", claims, content=b"x"), 413),
        (owner.post(claims, json={}), 422),
    ):
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
    assert set(faults(owner.post(claims, json={"injured": "perhaps"}))) == {"device", "at", "injured"}


def test_a_database_that_is_away_is_503_and_a_defect_of_ours_500(
    bureau: Bureau, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    from receiver.api import scores as ours

    caller = bureau.caller("owner")
    for error, status in ((OperationalError("x", {}, Exception("gone")), 503), (ZeroDivisionError(), 500)):

        def broken(*_: Any, error: Exception = error) -> Any:
            raise error

        monkeypatch.setattr(ours.scores, "history", broken)
        answer = caller.get(f"{V1}/devices/{bureau.device}/scores")
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert b"gone" not in answer.content


def test_too_many_requests_are_told_when_to_come_again() -> None:
    pace = paces.Paces(per_s=2.0, at_once=3.0)
    for _ in range(3):
        pace.take("a", 0)
    pace.take("b", 0)
    with pytest.raises(ProblemError) as refused:
        pace.take("a", 0)
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
    pace.take("a", S // 2)


def test_the_file_in_docs_is_the_description() -> None:
    assert (ROOT / "docs" / "openapi.json").read_text(encoding="utf-8") == text(), (
        "run: python -m receiver.api.write docs/openapi.json"
    )


def test_every_example_in_the_description_is_a_good_one() -> None:
    from jsonschema import Draft202012Validator

    document = json.loads(text())
    count = 0

    def walk(node: Any) -> None:
        nonlocal count
        if isinstance(node, dict):
            for example in node.get("examples", ()) if isinstance(node.get("examples"), list) else ():
                Draft202012Validator({**node, "components": document["components"]}).validate(example)
                count += 1
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)
    assert count > 30
    assert document["openapi"].startswith("3.1")
