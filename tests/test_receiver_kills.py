"""Receivers that are killed, and a broker and a PostgreSQL that go and come back: nothing is lost, nothing is twice.

`python -m benchmarks receiverkills` does the first with 200 kills on each database.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.receiver_kills import kill_often, world
from tests.syncing import PostgreSQL, new_database, restartable_postgresql, until

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with restartable_postgresql() as server:
        yield server


@pytest.fixture
def database(server: PostgreSQL) -> str:
    return new_database(server.url)


def test_thirty_kills_on_sqlite_lose_nothing_and_store_nothing_twice(tmp_path: Path) -> None:
    with world(f"sqlite:///{tmp_path / 'r.db'}", tmp_path) as here:
        kill_often(here, 30, seed=1)


def test_fifteen_kills_on_postgresql_lose_nothing_and_store_nothing_twice(database: str, tmp_path: Path) -> None:
    with world(database, tmp_path) as here:
        kill_often(here, 15, seed=2)


def test_of_two_receivers_one_is_killed_in_the_middle_and_the_other_goes_on(database: str, tmp_path: Path) -> None:
    with world(database, tmp_path) as here:
        one, _ = here.receivers.start(), here.receivers.start()
        here.write(1500)
        until(lambda: here.acknowledged() > 150, "some is acknowledged", PATIENCE_S)
        here.receivers.kill(one)
        until(here.done, "the rest is acknowledged", PATIENCE_S)
        here.check()


def test_a_postgresql_that_crashes_in_the_middle_is_waited_for(
    server: PostgreSQL, database: str, tmp_path: Path
) -> None:
    with world(database, tmp_path) as here:
        here.receivers.start()
        here.receivers.start()
        for _ in range(3):
            here.write(400)
            before = here.acknowledged()
            until(lambda seen=before: here.acknowledged() > seen + 60, "some is acknowledged", PATIENCE_S)  # type: ignore[misc]
            here.engine.dispose()
            server.stop()
            server.start()
        until(here.done, "everything is acknowledged", PATIENCE_S)
        here.check()


def test_a_broker_that_crashes_in_the_middle_is_waited_for(database: str, tmp_path: Path) -> None:
    with world(database, tmp_path) as here:
        here.receivers.start()
        here.receivers.start()
        for _ in range(2):
            here.write(300)
            before = here.acknowledged()
            until(lambda seen=before: here.acknowledged() > seen + 60, "some is acknowledged", PATIENCE_S)  # type: ignore[misc]
            here.broker.stop()
            here.broker.start()
        until(here.done, "everything is acknowledged", PATIENCE_S)
        here.check()
