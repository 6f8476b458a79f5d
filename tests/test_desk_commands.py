"""`roadwitness receiver policies|disputes` and the papers of a claim: in, out again, and what is wrong is named."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from agent import clock
from agent.clock import iso_utc
from receiver import db
from tests.pages import NOW, S
from tests.test_claim_commands import Desk
from tests.test_claim_documents import JPEG, PDF

POLICY = {
    "id": "P-1",
    "regime": "2020",
    "starts": "2026-01-01",
    "ends": "2026-12-31",
    "plate": "鲁A12345",
    "owner": "K-7",
    "premium_yuan": "3650.50",
    "covers": [{"code": "VD", "sum_yuan": "100000"}, {"code": "GLASS"}],
}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.insurer.engine.dispose()


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "wall_ns", lambda: NOW)


def written(folder: Path, content: Any) -> str:
    file = folder / "policies.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return str(file)


def test_policies_go_in_and_come_out_as_they_were(desk: Desk, tmp_path: Path) -> None:
    assert desk.told("policies", "put", written(tmp_path, [POLICY, {**POLICY, "id": "P-2", "owner": "K-8"}])) == {
        "policies": ["P-1", "P-2"]
    }
    shown = desk.told("policies", "show", "P-1")
    assert {**shown, "covers": None} == {
        **POLICY, "vin": "", "device": "", "use_class": "family", "compulsory": True, "sales_confirmed": True,
        "covers": None,
    }  # fmt: skip
    assert shown["covers"] == [
        {"code": "GLASS", "sum_yuan": None, "waived": False},
        {"code": "VD", "sum_yuan": "100000.00", "waived": False},
    ]
    assert desk.told("policies", "put", written(tmp_path, shown)) == {"policies": ["P-1"]}
    assert desk.told("policies", "show", "P-1") == shown
    assert [p["id"] for p in desk.told("policies", "list")["policies"]] == ["P-1", "P-2"]
    assert [p["id"] for p in desk.told("policies", "list", "--owner", "K-8")["policies"]] == ["P-2"]
    assert [p["id"] for p in desk.told("policies", "list", "--after", "P-1")["policies"]] == ["P-2"]
    assert "3650.50 yuan" in desk.run("policies", "show", "P-1")
    assert "There is no such policy." in desk.run("policies", "list", "--plate", "京A00001")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ends": "9999-12-31"}, "ends: 9999-12-31 lies outside 1990 to 2200"),
        ({"ends": "2025-12-31"}, "lies before the start"),
        ({"premium_yuan": "1.005"}, "1.005 is no amount of whole fen"),
        ({"premium_yuan": "NaN"}, "NaN is no amount"),
        ({"premium_yuan": "1e99999"}, "is no amount"),
        ({"colour": "red"}, "unknown field `colour`"),
        ({"covers": [{"code": "LOVE"}]}, "'LOVE' is unknown"),
        ({"plate": ""}, "give the VIN or the plate"),
        ({"starts": 7}, "$"),
    ],
)
def test_a_wrong_policy_is_named_and_none_of_its_file_is_kept(
    desk: Desk,
    tmp_path: Path,
    changed: dict[str, Any],
    said: str,
) -> None:
    shown = desk.run("policies", "put", written(tmp_path, [POLICY, {**POLICY, "id": "P-2", **changed}]), code=1)
    assert said in shown
    assert "\n" not in shown
    assert desk.told("policies", "list") == {"policies": []}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["policies", "put", "none.json"], "none.json: cannot be read"),
        (["policies", "show", "P-9"], "there is none of that id"),
        (["disputes", "list", "--device", "x", "--claim", "y"], "not both"),
        (["disputes", "decide", "7", "--uphold", "--who", "x", "--why", "y"], "there is none"),
        (["disputes", "entry", "rw-0", "0123456789ab", "event", "1", "--who", "x", "--why", "y"], "has no entry"),
        (["disputes", "flag", "0" * 16, "love", "--who", "x", "--why", "y"], "'love' is unknown"),
        (["claims", "document", "0" * 16, "none.jpg", "--who", "x"], "none.jpg: cannot be read"),
        (["claims", "documents", "0" * 16], "none of that name"),
        (["claims", "survey", "0" * 16, "dispatched", "--who", "x"], "none of that name"),
    ],
)
def test_what_is_not_there_is_one_line_that_names_it(desk: Desk, arguments: list[str], said: str) -> None:
    shown = desk.run(*arguments, code=1)
    assert said in shown
    assert "\n" not in shown


def test_a_claim_takes_papers_surveys_and_disputes(desk: Desk, tmp_path: Path) -> None:
    at = iso_utc(NOW - 60 * S)
    claim = desk.told("claims", "report", desk.device, "--at", at, "--who", "owner-7")["claim"]
    photo, paper = tmp_path / "front.jpg", tmp_path / "bill.pdf"
    photo.write_bytes(JPEG)
    paper.write_bytes(PDF)
    added = desk.told("claims", "document", claim, str(photo), "--kind", "photo", "--who", "owner-7")
    assert "application/pdf" in desk.run("claims", "document", claim, str(paper), "--who", "owner-7")
    assert {d["name"] for d in desk.told("claims", "documents", claim)["documents"]} == {"front.jpg", "bill.pdf"}
    saved = tmp_path / "saved"
    saved.mkdir()
    assert "front.jpg" in desk.run("claims", "documents", claim, "--save", str(saved))
    assert (saved / added["stored"]).read_bytes() == JPEG
    desk.run("claims", "survey", claim, "dispatched", "--who", "me")
    number = desk.told("disputes", "flag", claim, "no_impact", "--who", "owner-7", "--why", "I was hit")["dispute"]
    assert f"claim {claim} no_impact" in desk.run("disputes", "list")
    desk.run("disputes", "decide", str(number), "--reject", "--who", "me", "--why", "nothing was measured")
    assert desk.told("disputes", "list") == {"disputes": []}
    (decided,) = desk.told("disputes", "list", "--claim", claim)["disputes"]
    assert (decided["state"], decided["decided_by"]) == ("rejected", "me")
    steps = [s["what"] for s in desk.told("claims", "show", claim)["history"]]
    assert steps[-5:] == ["document", "document", "dispatched", "disputed", "decided"]


def test_an_entry_is_disputed_and_upheld(desk: Desk) -> None:
    own = {"device": desk.device, "lineage": "0" * 12, "lane": "event", "seq": 17, "boot": "b", "t_ns": 1}
    signed = {"kind": "event", "body": b"{}", "hash": b"", "signature": b"", "flag": "", "received_utc_ns": NOW}
    with desk.insurer.engine.begin() as connection:
        connection.execute(db.entry.insert().values(**own, **signed))
    where = (desk.device, "0" * 12, "event", "17")
    number = desk.told("disputes", "entry", *where, "--who", "owner-7", "--why", "a dog")["dispute"]
    assert f"{desk.device} {'0' * 12}/event/17" in desk.run("disputes", "list", "--device", desk.device)
    assert "is upheld" in desk.run("disputes", "decide", str(number), "--uphold", "--who", "me", "--why", "seen")
    with db.reading(desk.insurer.engine) as connection:
        assert connection.execute(select(db.entry.c.seq)).scalar_one() == 17
