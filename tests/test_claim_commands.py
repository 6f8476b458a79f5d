"""`roadwitness receiver claims|renewals|figures`: a claim from report to payment by commands, and bad input named."""

import csv
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent import clock
from agent.clock import iso_utc
from agent.errors import RoadwitnessError
from receiver import policies
from receiver.claiming.assessing import local_day
from receiver.cli import app
from receiver.policies import Cover
from tests.crash_cases import Box, Insurer
from tests.test_renewals import END, policy


class Desk:
    """Commands against one database."""

    def __init__(self, folder: Path) -> None:
        self.insurer = Insurer(folder / "insurer")
        box = Box(folder / "box")
        self.insurer.enrol(box)
        self.device = box.store.device
        box.store.close()

    def run(self, *arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, [*arguments, "--db", self.insurer.url])
        if isinstance(done.exception, RoadwitnessError):  # what main() writes as one line, with exit code 1
            assert code == 1
            return str(done.exception)
        assert done.exit_code == code, (done.output, done.exception)
        return done.output

    def told(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.insurer.engine.dispose()


def test_claim_goes_from_report_to_payment_by_commands(desk: Desk) -> None:
    now_ns = clock.wall_ns()
    day = local_day(now_ns)
    with desk.insurer.engine.begin() as connection:
        made = policy("P", "A", day + timedelta(30), covers=(Cover("VD", 10_000_000),), device=desk.device)
        policies.put(connection, made)
    at = iso_utc(now_ns - 10**9)
    claim = desk.told("claims", "report", desk.device, "--at", at, "--place", "36.6,117.1", "--who", "owner-7")["claim"]
    desk.run("claims", "car", claim, "1", "--fault", "primary", "--compulsory", "--who", "me")
    assert desk.told("claims", "loss", claim, "vehicle", "10000", "--who", "me")["loss"] == 1
    (listed,) = desk.told("claims", "list", "--state", "reported")["claims"]
    assert (listed["id"], listed["opened_by"]) == (claim, "owner")
    findings = desk.told("claims", "check", claim)["findings"]
    assert {f["rule"]: f["result"] for f in findings}["no_impact/1"] == "unknown"
    assert "Notice in time" in desk.run("claims", "check", claim)
    assert "no policy" not in desk.run("claims", "show", claim)
    proposal = desk.told("claims", "assess", claim, "--loss", "1=10000", "--who", "me", "--why", "seen")["proposal"]
    assert proposal["total"] == "7000.00"
    assert "70 %" in desk.run("claims", "assess", claim, "--loss", "1=10000", "--who", "me", "--why", "again")
    assert desk.told("claims", "settle", claim, "--who", "me", "--why", "agreed") == {"claim": claim, "paid": "7000"}
    assert "已结案" in desk.run("claims", "show", claim, "--lang", "zh")
    assert desk.told("claims", "show", claim)["state"] == "settled"
    assert desk.told("claims", "check", "--open")["checked"] == []
    audit = desk.told("claims", "verify")
    assert audit["broken"] is None
    assert "whole" in desk.run("claims", "verify", "--head", audit["head"])
    assert "BROKEN" in desk.run("claims", "verify", "--head", f"99:{'0' * 64}", code=1)
    figures = desk.told("figures", "--from", str(made.starts), "--to", str(made.ends))["figures"]
    assert figures["average_claim"] == {"value": "7000.00", "cases": 1}
    assert "案均赔款: 7000.00" in desk.run(
        "figures", "--from", str(made.starts), "--to", str(made.ends), "--lang", "zh"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["claims", "report", "rw-0", "--at", "yesterday", "--who", "x"], "write it like 2026"),
        (["claims", "report", "rw-0", "--at", "2026-11-01T08:00:00", "--who", "x"], "zone is missing"),
        (["claims", "report", "rw-0", "--at", "2026-11-01T08:00Z", "--place", "x", "--who", "x"], "LATITUDE,LONG"),
        (["claims", "report", "rw-0", "--at", "2026-11-01T08:00Z", "--who", "x"], "is not enrolled"),
        (["claims", "show", "0" * 16], "none of that name"),
        (["claims", "check"], "give a claim, or --open"),
        (["claims", "loss", "0" * 16, "vehicle", "much", "--who", "x"], "'much' is no amount"),
        (["claims", "assess", "0" * 16, "--loss", "one", "--who", "x", "--why", "y"], "write NUMBER=YUAN"),
        (["claims", "list", "--state", "gone"], "state 'gone' is unknown"),
        (["claims", "verify", "--head", "x"], "write ROW:HASH"),
        (["renewals", "due", "--on", "soon"], "write it like 2026-12-31"),
        (["renewals", "due", "--on", "9999-12-31"], "--on 9999-12-31: lies outside 1990 to 2200"),
        (["renewals", "export", "due.csv", "--on", "0001-01-01"], "--on 0001-01-01: lies outside"),
        (["figures", "--to", "9999-12-31"], "--to 9999-12-31: lies outside"),
        (["figures", "--from", "0001-01-01"], "--from 0001-01-01: lies outside"),
        (["claims", "report", "rw-0", "--at", "0001-01-01T00:00:00+08:00", "--who", "x"], "--at 0001-01-01: lies"),
        (["claims", "report", "rw-0", "--at", "9999-12-31T23:00:00-08:00", "--who", "x"], "--at 9999-12-31: lies"),
        (
            [
                "clip",
                "rw-0",
                "--from",
                "0001-01-01T00:00:00+08:00",
                "--to",
                "9999-12-31T23:00:00-08:00",
                "--reason",
                "x",
            ],
            "--from 0001-01-01: lies outside",
        ),
        (["claims", "assess", "0" * 16, "--loss", "²=5", "--who", "x", "--why", "y"], "write NUMBER=YUAN"),
        (["claims", "verify", "--head", f"²:{'0' * 64}"], "write ROW:HASH"),
        (["renewals", "due", "--schedule", "V9"], "known: V1, V2, V3, V4"),
        (["renewals", "export", "due.pdf"], ".csv or .ics"),
        (["renewals", "export", "/no/such/folder/due.csv"], "cannot be written"),
        (["renewals", "send"], "nobody to tell"),
        (["figures", "--from", "2026-02-02", "--to", "2026-02-01"], "lies after"),
    ],
)
def test_bad_input_is_one_line_that_names_it(desk: Desk, arguments: list[str], said: str) -> None:
    shown = desk.run(*arguments, code=1)
    assert said in shown
    assert "\n" not in shown


def test_due_policies_are_listed_and_written(desk: Desk, tmp_path: Path) -> None:
    assert "No policy is due." in desk.run("renewals", "due", "--on", "2026-12-25")
    with desk.insurer.engine.begin() as connection:
        policies.put(connection, policy("A", "A", END, plate="鲁A12345"))
    (row,) = desk.told("renewals", "due", "--on", "2026-12-25")["due"]
    assert (row["policy"], row["next"], row["escalated"]) == (
        "A",
        {"day": "2026-12-26", "kind": "task", "sms": False},
        True,
    )
    assert "ESCALATED" in desk.run("renewals", "due", "--on", "2026-12-25")
    sheet, calendar = tmp_path / "due.csv", tmp_path / "due.ics"
    desk.run("renewals", "export", str(sheet), "--on", "2026-12-25")
    desk.run("renewals", "export", str(calendar), "--on", "2026-12-25", "--lang", "zh")
    assert next(csv.DictReader(sheet.read_text("utf-8-sig").splitlines()))["plate"] == "鲁A12345"
    assert calendar.read_bytes().startswith(b"BEGIN:VCALENDAR\r\n")
