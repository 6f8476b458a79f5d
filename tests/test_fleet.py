"""The list of vehicles for whom few or thousands are to be seen: the same rows by either way of asking."""

from pathlib import Path

import pytest
from sqlalchemy import insert

from receiver import db, fleet
from tests.syncing import postgresql

NAMES = [f"rw-{n:016x}" for n in range(1, 61)]


def listed(url: str, only: set[str] | None, page: int) -> tuple[list[str], fleet.Page]:
    engine = db.open_database(url)
    rows, shown = fleet.vehicles(engine, 0, 0, page, only)
    engine.dispose()
    return [v.id for v in rows], shown


def filled(url: str) -> str:
    engine = db.open_database(url)
    row = {"public_key": "0" * 64, "enrolled_utc_ns": 1, "state": "accepted", "greeted": True}
    with engine.begin() as connection:
        connection.execute(insert(db.device), [{**row, "id": name, "session": "", "lineage": ""} for name in NAMES])
    engine.dispose()
    return url


def same(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    only = {*NAMES[5:50], "rw-ffffffffffffffff"}  # of whom one was never enrolled
    few = [listed(url, only, page) for page in (1, 3, 99)]
    monkeypatch.setattr(fleet, "MOST_NAMED", 3)
    assert [listed(url, only, page) for page in (1, 3, 99)] == few
    assert few[1] == (NAMES[45:50], fleet.Page(3, 3, 45))
    assert listed(url, set(), 1) == ([], fleet.Page(1, 1, 0))
    assert listed(url, None, 1)[1].total == 60


def test_thousands_of_vehicles_are_asked_for_as_few_are_on_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same(filled(f"sqlite:///{tmp_path / 'r.db'}"), monkeypatch)


def test_thousands_of_vehicles_are_asked_for_as_few_are_on_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    with postgresql() as url:
        same(filled(url), monkeypatch)
