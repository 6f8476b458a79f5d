"""Retention on SQLite and PostgreSQL: what is past its days goes, the evidence of open claims stays, all is logged."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from agent import messages
from receiver import access, db, devices, partitions, retention
from receiver.ingest import Ingest
from receiver.settings import RetentionSettings
from tests import sample_records
from tests.sample_records import S, some
from tests.syncing import ListSource, new_database, postgresql

NOW = 1_790_000_000 * S
DAY = 86_400 * S


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'r.db'}"
    if request.param == "postgresql":
        cluster: str = request.getfixturevalue("cluster")
        url = new_database(cluster)
    engine = db.open_database(url)
    yield engine
    engine.dispose()


def receive(engine: Engine, source: ListSource, at_ns: int) -> None:
    devices.enrol(engine, source.public_key.hex())
    with engine.begin() as connection:
        partitions.make_months(connection, at_ns)
    receiver = Ingest(engine)
    for lane, entries in source.lanes.items():
        if entries:
            receiver.take(messages.topic(source.device, "up", lane), messages.encode_batch(entries), at_ns)
        source.lanes[lane] = []


def kept(engine: Engine, device: str) -> dict[str, int]:
    with db.reading(engine) as connection:
        lanes = select(db.entry.c.lane, func.count()).where(db.entry.c.device == device).group_by(db.entry.c.lane)
        found = {lane: n for lane, n in connection.execute(lanes)}  # noqa: C416
        for table in (db.trip, db.harsh_event, db.track, db.health, db.mount):
            mine = select(func.count()).select_from(table).where(table.c.device == device)
            found[f"rows of {table.name}"] = connection.execute(mine).scalar_one()
    return found


def test_each_sort_goes_after_its_days_and_an_open_claim_keeps_all_of_its_device(engine: Engine) -> None:
    usual, claiming = ListSource(1), ListSource(2)
    for source in (usual, claiming):
        source.append(some(30))
    claiming.append([(S, sample_records.crash())])
    for source in (usual, claiming):
        receive(engine, source, NOW - 400 * DAY)
        source.append(some(6))
        receive(engine, source, NOW - 10 * DAY)
    before = kept(engine, claiming.device)
    settings = RetentionSettings(track_days=180, health_days=350, trip_days=0)
    gone = retention.run(engine, settings, NOW)
    assert sum(gone.values()) == 5 + 5 + 10 + 5 + 5  # tracks, mounts, health, each as entry and row
    after = kept(engine, usual.device)
    assert (after["track"], after["rows of track"], after["health"], after["rows of health"]) == (1, 1, 2, 1)
    assert (after["event"], after["trip"], after["rows of trip"]) == (12, 6, 6)
    assert kept(engine, claiming.device) == before
    assert retention.run(engine, settings, NOW) == {}
    with engine.begin() as connection:
        connection.execute(db.claim.update().values(state="settled"))
    retention.run(engine, RetentionSettings(trip_days=300), NOW)
    for source in (usual, claiming):
        left = kept(engine, source.device)
        assert {lane: n for lane, n in left.items() if lane != "crash"} == {
            "event": 2, "trip": 1, "health": 2, "track": 1, "rows of trip": 1, "rows of event": 1, "rows of track": 1,
            "rows of health": 1, "rows of mount": 1,
        }  # fmt: skip
    assert kept(engine, claiming.device)["crash"] == 1
    said = access.latest(engine, "", "", 5)
    assert [row.who for row in said] == ["retention", "retention"]
    assert access.verify(engine).broken is None
    devices.enrol(engine, usual.device)
    usual.append(some(6))
    receive(engine, usual, NOW)  # the lanes go on from where they stand
    assert kept(engine, usual.device)["track"] == 2


def test_a_whole_month_is_dropped_as_a_table(cluster: str) -> None:
    engine = db.open_database(cluster)
    source = ListSource()
    source.append(some(60))
    receive(engine, source, NOW - 400 * DAY)
    with engine.begin() as connection:
        months = [m.name for p in partitions.SPLIT for m in partitions.months(connection, p)]
    assert "entry_bulk_202508" in months
    gone = retention.run(engine, RetentionSettings(), NOW)
    assert gone["entry_bulk"] == 30
    with engine.begin() as connection:
        assert "entry_bulk_202508" not in [m.name for m in partitions.months(connection, "entry_bulk")]
    engine.dispose()


def test_rows_that_lie_in_no_month_are_deleted_in_steps(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "STEP", 3)
    engine = db.open_database(cluster)
    source = ListSource(7)
    source.append(some(60))
    devices.enrol(engine, source.public_key.hex())
    receiver = Ingest(engine)
    for lane, entries in source.lanes.items():
        receiver.take(messages.topic(source.device, "up", lane), messages.encode_batch(entries), NOW - 2000 * DAY)
    gone = retention.run(engine, RetentionSettings(), NOW)
    assert gone == {"entry_bulk": 30, "track": 10, "health": 10, "mount": 10, "entry": 30, "event": 10, "trip": 10}
    engine.dispose()
