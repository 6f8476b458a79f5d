"""What has changed between two examinations: states and advice; figures that merely differ are no change."""

from collections.abc import Iterable

from agent.doctor.advice import next_step
from agent.doctor.examine import CHECKS
from agent.doctor.finding import Finding
from agent.doctor.show import COLOURS, INDENT, NARROWEST, WORDS, wrapped


def changes(before: list[Finding], after: list[Finding], at: str, width: int) -> Iterable[tuple[str, str]]:
    """Yield (text, style) for each finding that is new, gone, or in another state than before; `at` is the time.

    No line is longer than `width` columns.
    """
    for text, style in _changes(before, after, at):
        yield from ((line, style) for line in wrapped(text, INDENT, max(NARROWEST, width)))


def _changes(before: list[Finding], after: list[Finding], at: str) -> Iterable[tuple[str, str]]:
    was = {_key(finding): finding for finding in before}
    now = {_key(finding): finding for finding in after}
    for key, finding in now.items():
        old = was.get(key)
        if old is not None and old.state == finding.state:
            continue
        from_word = WORDS[old.state] if old is not None else "new"
        where = f"{CHECKS[finding.group].title}, {finding.check.partition('.')[2]}"
        yield f"{at} {from_word} -> {WORDS[finding.state]}  {where}: {finding.found}", COLOURS[finding.state]
        step = next_step(finding)
        if step:
            yield f"{INDENT}{step}", ""
    for key, old in was.items():
        if key not in now and old.state != "pass":
            where = f"{CHECKS[old.group].title}, {old.check.partition('.')[2]}"
            yield f"{at} {WORDS[old.state]} -> over  {where}: {old.found}", COLOURS["pass"]


def _key(finding: Finding) -> tuple[str, str, str]:
    """Tell findings of one check apart by their advice, where they are no pass."""
    return finding.check, finding.device, finding.advice if finding.group == "camera" else ""
