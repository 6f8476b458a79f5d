"""The log of looks: every look is a row, and no row can be altered, removed, put in or moved unnoticed."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner

from agent.errors import ConfigError
from receiver import access, db
from receiver.access import LOOK_NS, Head, Look, Looks
from receiver.cli import app
from tests.syncing import postgresql

LOOK = Look("local", "127.0.0.1", "rw-0123456789abcdef", "0123456789abcdef", "page")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'r.db'}"
    found = str(request.getfixturevalue("cluster"))
    engine = db.open_database(found)
    db.metadata.drop_all(engine)
    engine.dispose()
    return found


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    opened = db.open_database(url)
    yield opened
    opened.dispose()


def written(engine: Engine, n: int = 6) -> None:
    for i in range(n):
        assert access.append(engine, LOOK._replace(what="file", name=f"file-{i}.csv"), 1000 + i) == i + 1


def test_an_empty_log_and_a_whole_one_hold(engine: Engine) -> None:
    assert access.verify(engine) == access.Audit(0, Head(0, "00" * 32), None, "")
    written(engine)
    found = access.verify(engine)
    assert (found.rows, found.head.seq, found.broken) == (6, 6, None)
    assert [r.name for r in access.latest(engine, LOOK.device, LOOK.incident, 2)] == ["file-5.csv", "file-4.csv"]
    assert access.latest(engine, LOOK.device, "f" * 16, 2) == []


def test_errors_of_the_database_do_not_tell_what_was_to_be_written(engine: Engine) -> None:
    written(engine, 1)
    row = {**LOOK._asdict(), "seq": 1, "utc_ns": 1, "who": "somebody at 31.2304, 121.4737", "hash": b""}
    with pytest.raises(IntegrityError) as failed, engine.begin() as connection:
        connection.execute(insert(db.access_log).values(**row))
    assert "access_log" in str(failed.value)
    assert "31.2304" not in str(failed.value)


COLUMNS = {"utc_ns": 5, "who": "x", "address": "x", "device": "x", "incident": "x", "what": "x", "name": "x"}


@pytest.mark.parametrize("column", [*COLUMNS, "hash"])
def test_a_row_that_was_altered_is_named(tmp_path: Path, column: str) -> None:
    engine = db.open_database(f"sqlite:///{tmp_path / 'r.db'}")
    written(engine)
    with engine.begin() as connection:
        value = b"x" * 32 if column == "hash" else COLUMNS[column]
        connection.execute(update(db.access_log).where(db.access_log.c.seq == 3).values({column: value}))
    assert access.verify(engine).broken == 3
    engine.dispose()


def test_rows_that_were_removed_put_in_or_moved_are_named(engine: Engine) -> None:
    table = db.access_log
    written(engine)
    with engine.begin() as connection:
        third = connection.execute(select(table).where(table.c.seq == 3)).one()
        connection.execute(delete(table).where(table.c.seq == 3))
    assert access.verify(engine).broken == 3
    with engine.begin() as connection:  # another takes its place
        connection.execute(insert(table).values({**third._asdict(), "who": "nobody"}))
    assert access.verify(engine).broken == 3
    with engine.begin() as connection:  # two change places
        connection.execute(delete(table).where(table.c.seq == 3))
        connection.execute(insert(table).values(third._asdict()))
        for seq, other in ((4, 99), (5, 4), (99, 5)):
            connection.execute(update(table).where(table.c.seq == seq).values(seq=other))
    assert access.verify(engine).broken == 4


def test_rows_cut_off_the_end_are_missed_by_whoever_noted_a_head(engine: Engine) -> None:
    written(engine)
    head = access.verify(engine).head
    with engine.begin() as connection:
        connection.execute(delete(db.access_log).where(db.access_log.c.seq > 4))
    assert access.verify(engine).broken is None
    assert access.verify(engine, head).broken == 5
    # written anew from there, the log holds in itself and not against what was noted
    access.append(engine, LOOK, 7)
    access.append(engine, LOOK, 8)
    assert access.verify(engine).broken is None
    assert access.verify(engine, head).broken == 6


def test_two_processes_number_their_looks_without_a_gap(url: str) -> None:
    engines = [db.open_database(url) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda i: access.append(engines[i % 2], LOOK, i), range(40)))
    assert sorted(numbers) == list(range(1, 41))
    assert access.verify(engines[0]).broken is None
    for engine in engines:
        engine.dispose()


def test_the_ranges_of_one_look_are_one_row_and_every_other_look_is_its_own(engine: Engine) -> None:
    looks, clip = Looks(engine), LOOK._replace(what="file", name="clip-front.mp4")
    for second in range(20):
        looks.note(clip, second, part=True)
    looks.note(clip._replace(address="127.0.0.2"), 20, part=True)
    looks.note(LOOK, 21)
    looks.note(LOOK, 22)
    looks.note(clip, LOOK_NS, part=True)
    assert access.verify(engine).rows == 5


def test_what_is_too_long_is_cut_and_the_chain_holds(engine: Engine) -> None:
    access.append(engine, LOOK._replace(who="w" * 300, address="a" * 300), 1)
    assert access.verify(engine).rows == 1


def test_the_command_prints_the_head_and_names_what_is_wrong(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'r.db'}"
    engine = db.open_database(url)
    written(engine)
    asked = ["audit", "verify", "--db", url]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0
    head = done.stdout.split()[-1]
    assert CliRunner().invoke(app, [*asked, "--head", head]).exit_code == 0
    with engine.begin() as connection:
        connection.execute(update(db.access_log).where(db.access_log.c.seq == 2).values(who="nobody"))
    done = CliRunner().invoke(app, asked)
    assert (done.exit_code, "FAIL row 2" in done.stdout) == (1, True)
    told = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert (told["broken"], told["rows"]) == (2, 1)
    assert isinstance(CliRunner().invoke(app, [*asked, "--head", "7"]).exception, ConfigError)
    engine.dispose()
