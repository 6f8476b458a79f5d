"""Write the page of troubleshooting by symptom from the table of advice: python -m agent.doctor.write FILE."""

import re
import sys
from pathlib import Path
from typing import Final

from agent.doctor.advice import FILE, Advice, table

HEAD: Final = """\
# Troubleshooting by symptom

Run `sudo roadwitness doctor` first: it finds most of what stands here by itself, and its last lines say what to do.
This page is the same table the other way round, for who has only a symptom. The name in brackets is the code that
`roadwitness doctor --json` gives as `advice`; words in CAPITALS stand for what the doctor fills in.

Written by `python -m agent.doctor.write docs/troubleshooting.md` from `agent/doctor/advice.toml`; do not edit it here.
"""
_SECTION: Final = re.compile(r"^# --- (.+)$|^\[(\w+)\]$", re.MULTILINE)


def page() -> str:
    """Return the page as Markdown."""
    parts = [HEAD]
    for section, rows in _sections():
        parts.append(f"## {section[:1].upper()}{section[1:]}\n")
        parts += [_row(row) for row in rows]
    return "\n".join(parts)


def _sections() -> list[tuple[str, list[Advice]]]:
    """Group the rows as the comments of the table do."""
    found: list[tuple[str, list[Advice]]] = []
    for match in _SECTION.finditer(FILE.read_text(encoding="utf-8")):
        if match[1]:
            found.append((match[1], []))
        else:
            found[-1][1].append(table()[match[2]])
    return found


def _row(row: Advice) -> str:
    step = re.sub(r"\{(\w+)\}", lambda word: word[1].upper(), row.next)
    return f"**{row.symptom}** [{row.code}]  \n{row.meaning}  \n→ {step}\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
