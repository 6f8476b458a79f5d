"""The receiver's schema, up and down on SQLite and PostgreSQL: the same by every way, and rows come along."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, inspect, select, text

from agent import messages
from agent.errors import StoreError
from receiver import db, devices, migrations, partitions
from receiver.engine import engine_of, parse
from receiver.ingest import Ingest
from tests.sample_records import S, some
from tests.syncing import ListSource, new_database, postgresql

NOW = 1_790_000_000 * S  # 21 September 2026
MONTH_NS = 31 * 86_400 * S


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database."""
    url = f"sqlite:///{tmp_path / 'r.db'}"
    if request.param == "postgresql":
        url = new_database(request.getfixturevalue("cluster"))
    db.load_tables()
    engine = engine_of(parse(url))
    yield engine
    engine.dispose()


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def schema(connection: Connection) -> dict[str, Any]:
    """Describe all that a database holds: tables, columns in order, keys, indexes, parts."""
    seen = inspect(connection)
    found: dict[str, Any] = {}
    for table in sorted(seen.get_table_names()):
        found[table] = {
            "columns": sorted(
                (c["name"], str(c["type"]), c["nullable"], c["default"]) for c in seen.get_columns(table)
            ),
            "key": seen.get_pk_constraint(table)["constrained_columns"],
            "leads": sorted((f["constrained_columns"], f["referred_table"]) for f in seen.get_foreign_keys(table)),
            "unique": sorted((str(u["name"]), u["column_names"]) for u in seen.get_unique_constraints(table)),
            "indexes": sorted((str(i["name"]), i["column_names"], i["unique"]) for i in seen.get_indexes(table)),
        }
    if connection.dialect.name == "postgresql":
        bounds = (
            "SELECT relname, pg_get_expr(relpartbound, oid), pg_get_partkeydef(oid) FROM pg_class WHERE relkind IN "
        )
        found["parts"] = sorted(tuple(map(str, row)) for row in connection.execute(text(bounds + "('r', 'p')")))
        found["parts"] = [row for row in found["parts"] if not row[0].startswith(("pg_", "sql_"))]
    return found


def rows_of(connection: Connection) -> dict[str, list[Any]]:
    """Return all rows of all tables of db.metadata that are there."""
    there = set(inspect(connection).get_table_names())
    tables = [t for t in db.metadata.sorted_tables if t.name in there and t not in (db.schema_version, db.revision)]
    return {t.name: sorted(map(repr, connection.execute(select(t)))) for t in tables}


def filled(engine: Engine) -> None:
    """Receive a device's records in two months, as the program does."""
    source = ListSource()
    source.append(some(60))
    devices.enrol(engine, source.public_key.hex())
    receiver = Ingest(engine)
    for lane, entries in source.lanes.items():
        half = len(entries) // 2
        for part, when in ((entries[:half], NOW), (entries[half:], NOW + MONTH_NS)):
            receiver.take(messages.topic(source.device, "up", lane), messages.encode_batch(part), when)
    assert receiver.counts.entries == 60


def test_an_empty_database_is_given_at_once_what_all_revisions_make(engine: Engine, tmp_path: Path) -> None:
    with engine.begin() as connection:
        migrations.upgrade(connection, migrations.head())
        partitions.make_months(connection, NOW)
        stepwise = schema(connection)
        migrations.downgrade(connection, migrations.BASE)
        assert set(schema(connection)) <= {"alembic_version", "parts"}
        connection.execute(text("DROP TABLE alembic_version"))
    with engine.begin() as connection:
        migrations.bring_up(connection)
        partitions.make_months(connection, NOW)
        at_once = schema(connection)
    lacking = sorted(set(at_once) - set(stepwise))
    assert not lacking, f"no revision makes {', '.join(lacking)}; run: python -m receiver.migrations make NAME"
    different = [name for name in at_once if at_once[name] != stepwise[name]]
    assert not different, (
        f"revisions make {', '.join(different)} otherwise; run: python -m receiver.migrations make NAME"
    )


def test_rows_come_along_down_and_up(engine: Engine) -> None:
    db.open_database(url_of(engine)).dispose()
    filled(engine)
    with engine.begin() as connection:
        before = rows_of(connection)
        assert len(before["entry"]) == 60
        migrations.downgrade(connection, "0002")
        assert rows_of(connection) == {name: rows for name, rows in before.items() if name in rows_of(connection)}
        assert connection.execute(select(db.schema_version.c.version)).scalar() == 1
    with engine.begin() as connection:
        migrations.upgrade(connection, migrations.head())
        assert rows_of(connection) == before
        assert connection.execute(select(db.schema_version.c.version)).scalar() == 2
        if connection.dialect.name == "postgresql":
            months = [m.name for m in partitions.months(connection, "entry_bulk")]
            assert months == ["entry_bulk_202609", "entry_bulk_202610"]
            assert connection.execute(text("SELECT count(*) FROM entry_bulk_rest")).scalar() == 0
    db.open_database(url_of(engine)).dispose()
    filled_twice = Ingest(engine)
    source = ListSource()
    source.append(some(60))
    for lane, entries in source.lanes.items():
        filled_twice.take(messages.topic(source.device, "up", lane), messages.encode_batch(entries), NOW)
    assert (filled_twice.counts.entries, filled_twice.counts.duplicates) == (0, 60)


def test_a_database_from_before_there_were_revisions_is_taken_over(engine: Engine) -> None:
    with engine.begin() as connection:
        migrations.upgrade(connection, "0002")
        connection.execute(text("INSERT INTO schema_version VALUES (1)"))
        connection.execute(text("DROP TABLE alembic_version"))
        connection.execute(text("DROP TABLE dispute"))  # the program that made it did not know disputes
        row = {"device": "rw-1", "reason": "r", "count": 3, "last_utc_ns": 1}
        connection.execute(db.refused.insert(), row)
    db.open_database(url_of(engine)).dispose()
    with engine.begin() as connection:
        assert migrations.revision_of(connection) == migrations.head()
        assert connection.execute(select(db.refused.c.count)).scalar() == 3
        assert inspect(connection).has_table("dispute")


def test_a_newer_database_is_left_alone_and_said_in_one_line(engine: Engine) -> None:
    db.open_database(url_of(engine)).dispose()
    with engine.begin() as connection:
        connection.execute(db.revision.update().values(version_num="9999"))
        before = schema(connection)
    with pytest.raises(StoreError, match=r"^database .*: has schema 9999, this version knows \d+; install the newer"):
        db.open_database(url_of(engine))
    with engine.begin() as connection:
        assert schema(connection) == before


def test_a_failing_revision_leaves_the_database_as_it_was(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine.begin() as connection:
        migrations.upgrade(connection, "0001")
        connection.execute(text("CREATE VIEW policy AS SELECT 1 AS one"))  # 0002 cannot make its table
        before = schema(connection)
    with pytest.raises(StoreError, match="cannot be opened"):
        db.open_database(url_of(engine))
    with engine.begin() as connection:
        assert schema(connection) == before
        assert migrations.revision_of(connection) == "0001"


def test_revisions_are_numbered_without_gaps_and_alembic_reads_the_same() -> None:
    from alembic.script import ScriptDirectory

    numbers = migrations.revisions()
    assert list(numbers) == [f"{n:04d}" for n in range(1, len(numbers) + 1)]
    with engine_of(parse("sqlite://")).connect() as connection:
        script = ScriptDirectory.from_config(migrations.config(connection))
        assert script.get_heads() == [migrations.head()]
        assert [r.revision for r in script.walk_revisions()][::-1] == list(numbers)


def test_the_commands_show_upgrade_and_downgrade(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'r.db'}"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = "from agent.cli import main; main()"
        command = [sys.executable, "-c", code, "receiver", "database", *arguments, "--db", database]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    head = migrations.head()
    assert run("show").stdout == f"The database is at empty; this version wants {head}.\n"
    assert run("upgrade").stdout == f"The database is at {head}.\n"
    assert "say --yes" in run("downgrade", "0001").stderr
    assert run("downgrade", "0001", "--yes").stdout == "The database is at 0001.\n"
    assert json.loads(run("show", "--json").stdout)["revision"] == "0001"
    refused = run("downgrade", "0002", "--yes")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


def test_months_are_made_ahead_and_what_has_none_goes_to_the_rest(cluster: str) -> None:
    engine = db.open_database(new_database(cluster))
    with engine.begin() as connection:
        made = partitions.make_months(connection, NOW)
        assert made == [f"{parent}_2026{m:02d}" for parent in partitions.SPLIT for m in (9, 10)]  # 11: by opening
        assert partitions.make_months(connection, NOW) == []
    filled(engine)
    Ingest(engine).tend(NOW + 400 * 86_400 * S)  # a receiver that runs for long
    with db.reading(engine) as connection:
        assert [m.name for m in partitions.months(connection, "curve")][-1] == "curve_202712"

    def held(table: str) -> int:
        with db.reading(engine) as connection:
            return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())

    assert held("entry_bulk_202609") == held("entry_bulk_202610") == held("entry_bulk") // 2 > 0
    assert held("entry_bulk_rest") == 0
    assert held("entry_kept") + held("entry_bulk") == 60
    engine.dispose()
