"""What was asked of a box, in words: its owner sees every command, who gave it, why, and what came of it."""

from dataclasses import dataclass
from typing import Final

from receiver.commands import Asked
from receiver.words import Words

STATES: Final = {
    "waiting": "asked.state.waiting",
    "sent": "asked.state.sent",
    "expired": "asked.state.expired",
    "accepted": "asked.state.accepted",
    "done": "asked.state.done",
    "refused": "asked.state.refused",
    "failed": "asked.state.failed",
}
TIMED: Final = ("clip", "track")  # commands that are about a time
GOOD: Final = frozenset({"done"})
OPEN: Final = frozenset({"waiting", "sent", "accepted"})
_LATEST_NS: Final = 4_102_444_800 * 1_000_000_000  # 2100: any later time is made up and cannot be written by all


@dataclass(frozen=True, slots=True)
class AskedLine:
    """One command in a list; `looks` is good, open or poor."""

    what: str
    looks: str
    state: str
    by: str
    reason: str
    detail: str  # as the box said it, in English
    foreign: bool  # another receiver asked


def line(words: Words, asked: Asked) -> AskedLine:
    """Put one command into words."""
    state = asked.state
    when_ns = asked.state_utc_ns if asked.issued_utc_ns is None else asked.issued_utc_ns
    return AskedLine(
        what=_what(words, asked),
        looks="good" if state in GOOD else "open" if state in OPEN else "poor",
        state=words.text(STATES[state]) if state in STATES else state,
        by=words.text("asked.by", actor=asked.actor, time=words.stamp(when_ns)),
        reason=asked.reason,
        detail=asked.detail,
        foreign=asked.issued_utc_ns is None,
    )


def _what(words: Words, asked: Asked) -> str:
    if asked.command not in TIMED:
        return words.text.among("box_command", asked.command)
    begin, end = asked.arguments.get("from_utc_ns"), asked.arguments.get("to_utc_ns")
    if not (isinstance(begin, int) and isinstance(end, int) and 0 <= begin <= _LATEST_NS and 0 <= end <= _LATEST_NS):
        return words.text(f"asked.{asked.command}_unknown")
    day, span = words.date(begin), {"begin": words.seconds(begin), "end": words.seconds(end)}
    return words.text(f"asked.{asked.command}", day=day, **span)
