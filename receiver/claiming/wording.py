"""Findings, lines and states as sentences in one language; the words are in text/, the figures in the finding."""

import tomllib
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final

from receiver.claiming.fasttrack import FastTrack
from receiver.claiming.rules import Finding
from receiver.claiming.settlement import Line
from receiver.texts import Text, flat

_FOLDER: Final = Path(__file__).parent / "text"
UNKNOWN: Final = "–"


@cache
def text(language: str) -> Text:
    """Return the words of claims in a language, one of receiver.texts.LANGUAGES."""
    table = tomllib.loads((_FOLDER / f"{language}.toml").read_text(encoding="utf-8"))
    return Text(language, dict(flat(table, "")))


def name(finding: Finding, words: Text) -> str:
    """Name the check of a finding."""
    return words(f"check.{finding.name}.name")


def sentence(finding: Finding, words: Text) -> str:
    """Say what a check found."""
    values = {**finding.limits, **finding.figures}
    return words(f"check.{finding.name}.{finding.reason}", **{k: shown(v) for k, v in values.items()})


def line(of: Line, words: Text) -> str:
    """Say by which rule a line of a proposal came about."""
    values = {
        "head": words.among("head", of.head),
        "cover": of.cover,
        "claimed": shown(of.claimed),
        "base": shown(of.base),
        "due": shown(of.due),
        "share": shown(of.share_percent),
        "fault": shown(of.fault_percent),
        "absolute": shown(of.absolute_percent),
        "limit": UNKNOWN if of.limit is None else shown(of.limit),
    }
    return words(f"line.{of.rule}", **values)


def fast_track(of: FastTrack, words: Text) -> list[str]:
    """Say which conditions of fast settlement do not hold, or that all do."""
    failing = [c.name for c in of.conditions if not c.holds]
    values = {"limit": shown(of.limit), "largest": shown(of.largest)}
    return [words(f"fast.{n}", **values) for n in failing] or [words("fast.yes")]


def shown(value: Any) -> str:
    """Write a figure: no idle zeros, – where it is not known."""
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, bool | str):
        return str(value).lower() if isinstance(value, bool) else value
    if isinstance(value, float):
        value = Decimal(repr(value))
    written = f"{Decimal(value):f}"
    return written.rstrip("0").rstrip(".") if "." in written else written
