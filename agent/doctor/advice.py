"""The one table of advice: for every finding that is no pass, what it looks like, what it means and what to do next."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from agent.doctor.finding import Finding

FILE: Final = Path(__file__).with_name("advice.toml")
_WORD: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Advice:
    """One row; {words} in `next` stand for the finding's facts."""

    code: str
    symptom: str  # what a person notices, who has not run the doctor yet
    meaning: str  # what is wrong, one or two sentences
    next: str  # what to do, one plain sentence


@cache
def table() -> dict[str, Advice]:
    """Return all rows by code, in the order in which people read them."""
    rows = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {code: Advice(code, **row) for code, row in rows.items()}


def next_step(finding: Finding) -> str:
    """Return what to do about a finding, "" where it passed."""
    if not finding.advice:
        return ""
    return _WORD.sub(lambda word: str(finding.facts.get(word[1], word[1].upper())), table()[finding.advice].next)
