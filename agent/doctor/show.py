"""Findings for people: grouped, aligned, readable on a phone; then what to do, worst first."""

import textwrap
from collections.abc import Iterable
from typing import Final

from agent.doctor.advice import next_step
from agent.doctor.examine import CHECKS
from agent.doctor.finding import STATES, Finding, State, worst

NARROWEST, WIDEST = 30, 100
COLOURS: Final[dict[State, str]] = {"pass": "green", "warn": "yellow", "fail": "bold red", "unknown": "cyan"}
# words, not signs: a phone over SSH may lack the letters, and a colour-blind eye the colours
WORDS: Final[dict[State, str]] = {"pass": "ok", "warn": "WARN", "fail": "FAIL", "unknown": "?"}
MARK: Final = 4  # columns of the longest word
INDENT: Final = " " * (MARK + 3)


def lines(findings: list[Finding], width: int) -> Iterable[tuple[str, str]]:
    """Yield (text, style) for the whole report, no line longer than `width` columns."""
    width = max(NARROWEST, min(WIDEST, width))
    names = max((len(_name(finding)) for finding in findings), default=0)
    for group, check in CHECKS.items():
        mine = [finding for finding in findings if finding.group == group]
        if mine:
            yield "", ""
            yield check.title, "bold"
            yield from _group(mine, width, names)
    yield "", ""
    yield from _next(findings, width)


def _group(findings: list[Finding], width: int, names: int) -> Iterable[tuple[str, str]]:
    several = len({finding.device for finding in findings if finding.device}) > 1
    device = ""
    for finding in findings:
        if several and finding.device and finding.device != device:
            device = finding.device
            yield from ((line, "dim") for line in wrapped(f"  {device}", "    ", width))
        head = f"  {WORDS[finding.state]:<{MARK}} {_name(finding):<{names}}  "
        indent = " " * len(head) if width >= 60 else INDENT
        for line in wrapped(head + finding.found, indent, width):
            yield line, COLOURS[finding.state] if finding.state != "pass" else ""


def _next(findings: list[Finding], width: int) -> Iterable[tuple[str, str]]:
    """Yield what to do: each piece of advice once, worst first, then the sum."""
    told: set[str] = set()
    for state in STATES:
        for finding in findings:
            step = next_step(finding)
            if finding.state != state or not step or step in told:
                continue
            if not told:
                yield "What to do", "bold"
            told.add(step)
            head = f"  {len(told)}. "
            title = f"{CHECKS[finding.group].title}, {_name(finding)}: "
            for line in wrapped(head + title + step, " " * len(head), width):
                yield line, COLOURS[state]
    if told:
        yield "", ""
    yield from ((line, COLOURS[worst(findings)]) for line in wrapped(summary(findings), "", width))


def summary(findings: list[Finding]) -> str:
    """Return the last line: how it stands altogether."""
    counts = {state: sum(finding.state == state for finding in findings) for state in STATES}
    parts = [f"{counts['fail']} failed", f"{counts['warn']} to look at", f"{counts['unknown']} unknown"]
    wrong = [part for part in parts if not part.startswith("0 ")]
    passed = f"{counts['pass']} passed"
    return f"{', '.join([*wrong, passed])}." if wrong else f"All is well: {passed}."


def _name(finding: Finding) -> str:
    return finding.check.partition(".")[2].replace("_", " ")


def wrapped(text: str, indent: str, width: int) -> list[str]:
    """Break a text into lines of `width` columns, all but the first indented; words that do not fit are cut."""
    return textwrap.wrap(
        text, width, subsequent_indent=indent, break_long_words=True, break_on_hyphens=False, drop_whitespace=True,
        expand_tabs=False, replace_whitespace=False,
    ) or [""]  # fmt: skip
