"""What the how-to pages say is what is there. `python -m tests.test_docs` writes copied texts anew."""

import re
from pathlib import Path

import pytest

from agent.cli import COMMANDS
from drivers import DRIVERS

ROOT = Path(__file__).parents[1]
DRIVER_PAGE = ROOT / "docs" / "writing-a-driver.md"
CAR_PAGE = ROOT / "docs" / "wiring-a-car.md"
EVIDENCE_PAGE = ROOT / "docs" / "evidence.md"
SCORING_PAGE = ROOT / "docs" / "scoring.md"
PRICING_PAGE = ROOT / "docs" / "pricing.md"
COPIED = re.compile(r"<!-- (?P<file>[\w/.]+) -->\n```python\n(?P<text>.*?)```\n", re.DOTALL)


def written_anew(page: str) -> str:
    """Return the page with the files' own text in its blocks."""
    return COPIED.sub(lambda m: f"<!-- {m['file']} -->\n```python\n{(ROOT / m['file']).read_text()}```\n", page)


def test_the_driver_in_the_page_is_the_one_in_the_tree():
    page = DRIVER_PAGE.read_text()
    assert [m["file"] for m in COPIED.finditer(page)] == ["drivers/canbus.py"]
    assert written_anew(page) == page, "the file has changed: run python -m tests.test_docs"


def test_it_is_the_smallest_driver_of_a_device():
    sizes = {row.split(":")[0]: 0 for row in DRIVERS.values()}
    for module in sizes:
        sizes[module] = len((ROOT / f"{module.replace('.', '/')}.py").read_text().splitlines())
    assert min(sizes, key=lambda module: sizes[module]) == "drivers.canbus"


@pytest.mark.parametrize("page", [DRIVER_PAGE, CAR_PAGE, EVIDENCE_PAGE, PRICING_PAGE], ids=lambda p: p.name)
def test_every_file_and_command_that_a_page_names_exists(page):
    text = COPIED.sub("", page.read_text())
    files = set(re.findall(r"(?<![\w/.~-])((?:agent|drivers|sim|tests|docs|config|systemd)/[\w./-]+\.\w+)", text))
    assert len(files) > 2
    missing = [f for f in files if "NAME" not in f and not (ROOT / f).exists()]
    assert not missing
    commands = set(
        re.findall(r"roadwitness (?!-)([a-z]+)\b", "".join(re.findall(r"`[^`]*`|^    .*$", text, re.MULTILINE)))
    )
    assert commands <= set(COMMANDS)


if __name__ == "__main__":
    DRIVER_PAGE.write_text(written_anew(DRIVER_PAGE.read_text()))
