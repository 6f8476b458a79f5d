"""docs/crash-record.md names every column of the record as the code has it. `python -m` this writes the table anew."""

import re
from pathlib import Path

import pytest

from agent.incident.fields import FLAGS, FUSED, TABLES, Column
from agent.incident.folder import Record
from agent.records import Crash

PAGE = Path(__file__).parents[1] / "docs" / "crash-record.md"
TABLE = re.compile(r"(?<=<!-- columns -->\n).*?(?=<!-- end -->)", re.DOTALL)


def row(file: str, column: Column) -> str:
    channels = "fused from all sources" if column.channels == (FUSED,) else ", ".join(f"`{c}`" for c in column.channels)
    return f"| {file} | `{column.name}` | {column.unit or '–'} | {column.resolution:g} | {channels} |"


def columns() -> str:
    """Return the table of the code."""
    rows = ["| file | column | unit | resolution | channels |", "| --- | --- | --- | --- | --- |"]
    rows += [row(file, column) for file, table in TABLES.items() for column in table]
    rows += [row("crash.json", column) for column in FLAGS]
    return "\n".join(rows) + "\n"


def written_anew(page: str) -> str:
    return TABLE.sub(lambda _: columns(), page)


def test_the_page_has_the_codes_columns() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert written_anew(page) == page, "the fields have changed: run python -m tests.test_crash_record_page"


def test_the_comparison_names_every_column_and_nothing_that_is_not_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    ours = "\n".join(
        line.rsplit("|", 2)[1] for line in page.split("## Our columns")[0].splitlines() if line.count("|") == 6
    )
    named = set(re.findall(r"`(\w+)`", ours))
    known = {c.name for table in (*TABLES.values(), FLAGS) for c in table}
    assert known <= named
    assert named - known <= {*Crash.__struct_fields__, *Record.__struct_fields__}


@pytest.mark.parametrize("word", ["compliant", "certified", "conforms to 49", "conforms to un", "conforms to gb"])
def test_it_claims_no_conformity(word: str) -> None:
    assert word not in PAGE.read_text(encoding="utf-8").lower()


if __name__ == "__main__":
    PAGE.write_text(written_anew(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
