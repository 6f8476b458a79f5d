"""No page reads a whole table: every statement that the pages send finds its rows by an index."""

import re
from pathlib import Path
from typing import Any

from sqlalchemy import event

from tests import sample_records
from tests.pages import NOW, S, braking, client, clock_at, drive, open_desk

# Read whole on purpose: as many rows as there are devices on the page, or as wait for enrolment (bounded by ingest).
SMALL = {"device", "pending_device", "live"}


def test_every_statement_of_every_page_uses_an_index(tmp_path: Path) -> None:
    desk = open_desk(tmp_path)
    source = desk.enrol()
    desk.status(source, "online")
    for n in range(3):
        desk.send(source, [clock_at(NOW - n * 86400 * S), *drive(events=[braking()])], f"boot-{n}")
    crash, package = sample_records.crash(), sample_records.package()
    desk.send(source, [crash, package], "boot-1")
    pages = client(desk.engine)
    statements: set[tuple[str, Any]] = set()

    @event.listens_for(desk.engine, "before_cursor_execute")
    def _note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.startswith("SELECT"):
            statements.add((statement, parameters))

    crashed = f"/crashes/{crash.id}"
    for path in ("", "/live.json", "/events", "/trips/2", crashed, f"{crashed}/progress.json"):
        assert pages.get(f"/vehicles/{source.device}{path}").status_code == 200
    assert pages.get("/").status_code == 200
    assert len(statements) > 20
    read_whole = set()
    with desk.engine.connect() as connection:
        for statement, parameters in statements:
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all():
                if found := re.match(r"SCAN (\w+)", row[3]):
                    read_whole.add(found.group(1))
    desk.engine.dispose()
    assert read_whole <= SMALL
