"""A box in words, for technicians: what it said of its parts, its clock, its car, what was asked of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agent.clock import NS_PER_S
from receiver import askedwords
from receiver.boxes import Box
from receiver.boxhealth import Befell, Report, Said
from receiver.commands import Asked
from receiver.registry.consents import PURPOSES
from receiver.registry.wording import current
from receiver.words import Words

# part of a box -> the first names of its sources; what no part names is among the others
PARTS: Final[dict[str, frozenset[str]]] = {
    "power": frozenset({"power"}),
    "storage": frozenset({"store", "queue", "packages"}),
    "gnss": frozenset({"gps"}),
    "motion": frozenset({"imu"}),
    "adapter": frozenset({"canbus", "elm327", "obdcan", "slcan", "socketcan"}),
    "camera": frozenset({"camera", "dashcam"}),
    "uplink": frozenset({"uplink"}),
    "consent": frozenset({"consent", "commands"}),
}
OTHERS: Final = "others"
LOOKS: Final = {"ok": "good", "degraded": "fair", "lost": "poor"}
_WORST: Final = ("lost", "degraded", "ok")
VOLTS: Final = "millivolts_of_12"
_LISTS: Final = ("stored", "pending", "permanent")
MOST_COUNTS: Final = 12
RECORDING_LOOKS: Final = {"agreed": "good", "paper": "open", "withdrawn": "fair", "nobody": "poor"}


@dataclass(frozen=True, slots=True)
class SaidLine:
    """The last word of one source; `detail` is the box's own English."""

    source: str
    looks: str
    state: str
    detail: str
    received_utc_ns: int
    facts: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the box with the sources that speak of it; without any it has not complained."""

    name: str
    looks: str
    state: str
    said: list[SaidLine]


@dataclass(frozen=True, slots=True)
class BefellLine:
    """One event about the box."""

    kind: str
    severity: str
    looks: str
    time: str
    utc_ns: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class CommandLine:
    """One command: not what it was about, nor why, for that can tell where somebody was."""

    what: str
    looks: str
    state: str
    by: str


@dataclass(frozen=True, slots=True)
class ConsentLine:
    """One purpose."""

    title: str
    looks: str
    state: str
    since: str


def parts(words: Words, said: Sequence[Said]) -> list[Part]:
    """Put what a box said into words, by part; every part that all boxes have is there."""
    by: dict[str, list[Said]] = {name: [] for name in (*PARTS, OTHERS)}
    for one in said:
        by[_part_of(one.source)].append(one)
    return [_part(words, name, ones) for name, ones in by.items() if ones or name != OTHERS]


def warning(words: Words, source: str) -> str:
    """Name the part of a source that is not well, with the source's own name."""
    return f"{words.text.among('box_part', _part_of(source))} · {source}"


def volts(words: Words, said: Sequence[Said]) -> tuple[str, int] | None:
    """Return the supply voltage that a box told last, and when; a 24 V supply is told halved, as a 12 V one."""
    told = [one for one in said if one.counts.get(VOLTS)]
    if not told:
        return None
    newest = max(told, key=lambda one: one.received_utc_ns)
    return words.text("box.volts", n=words.number(newest.counts[VOLTS] / 1000)), newest.received_utc_ns


def clock(words: Words, report: Report) -> tuple[str, str]:
    """Return how well a box knew the time when it last connected: looks and words."""
    known = report.clock
    if known is None or known.offset_ns is None:
        return "fair", words.text("box.clock.none")
    exact = words.duration(max(0.1, known.uncertainty_ns / NS_PER_S))
    said = words.text("box.clock.known", source=words.text.among("box_clock", known.quality), exact=exact)
    return ("good" if words.certain(known) else "fair"), said


def vin(words: Words, report: Report) -> tuple[str, str]:
    """Return whether the car's own VIN is that of the binding: looks and words."""
    if not report.box.vin:
        return "fair", words.text("box.vin.unbound")
    for wrong in report.mismatches:
        if wrong.read_vin:
            return "poor", words.text("box.vin.wrong", vin=wrong.read_vin)
        return "poor", words.text("box.vin.differs")
    read = [one for one in report.said if one.facts.get("vin") == report.box.vin]
    return ("good", words.text("box.vin.same")) if read else ("open", words.text("box.vin.unread"))


def recording(words: Words, box: Box) -> tuple[str, str]:
    """Return whether a box may record: looks and words."""
    return RECORDING_LOOKS[box.recording], words.text(f"box.recording.{box.recording}")


def befell(words: Words, one: Befell) -> BefellLine:
    """Put one event into words."""
    when = one.utc_ns
    return BefellLine(
        kind=words.text.among("kind", one.kind),
        severity=words.text.among("severity", one.severity),
        looks=one.severity,
        time=words.stamp(when)
        if when is not None
        else words.text("box.received", time=words.stamp(one.received_utc_ns)),
        utc_ns=when,
        detail=one.detail,
    )


def command(words: Words, asked: Asked) -> CommandLine:
    """Put one command into words."""
    line = askedwords.line(words, asked)
    return CommandLine(words.text.among("box_command", asked.command), line.looks, line.state, line.by)


def consents(words: Words, report: Report) -> list[ConsentLine]:
    """Put what was agreed to into words: purposes and times, nobody's name."""
    found = []
    for purpose in PURPOSES:
        last = report.consents.get(purpose)
        title = current(purpose, words.text.language).title
        key = "unsaid" if last is None else "given" if last.given else "withdrawn"
        since = "" if last is None else words.stamp(last.at_utc_ns)
        looks = {"unsaid": "open", "given": "good", "withdrawn": "fair"}[key]
        found.append(ConsentLine(title, looks, words.text(f"box.consent.{key}"), since))
    return found


def size(words: Words, n: int) -> str:
    """Write a number of bytes."""
    if n < 1_000_000:
        return f"{words.number(n / 1000, 0)} kB"
    return f"{words.number(n / 1_000_000)} MB" if n < 1_000_000_000 else f"{words.number(n / 1_000_000_000, 2)} GB"


def _part_of(source: str) -> str:
    first = source.partition(":")[0]
    return next((name for name, firsts in PARTS.items() if first in firsts), OTHERS)


def _part(words: Words, name: str, said: Sequence[Said]) -> Part:
    worst = next((state for state in _WORST if any(one.state == state for one in said)), "")
    return Part(
        name=words.text.among("box_part", name),
        looks=LOOKS.get(worst, "open"),
        state=words.text.among("box_state", worst or "quiet"),
        said=[_said(words, one) for one in said],
    )


def _said(words: Words, one: Said) -> SaidLine:
    return SaidLine(
        source=one.source,
        looks=LOOKS.get(one.state, "open"),
        state=words.text.among("box_state", one.state),
        detail=one.detail,
        received_utc_ns=one.received_utc_ns,
        facts=[*_facts(words, one), *_counts(words, one)],
    )


def _facts(words: Words, one: Said) -> list[tuple[str, str]]:
    """Return those facts that have a word: others could tell anything."""
    found = []
    for name, value in sorted(one.facts.items()):
        unit, _, listed = name.rpartition(" ")
        if name == "vin":
            found.append((words.text("box.fact.vin"), value))
        elif name == "weaker_db":
            found.append((words.text("box.fact.weaker"), f"{value} dB"))
        elif unit and listed in _LISTS:
            found.append((words.text(f"box.fact.{listed}", unit=unit), value or words.text("box.fact.no_codes")))
    return found


def _counts(words: Words, one: Said) -> list[tuple[str, str]]:
    counted = [(name, n) for name, n in sorted(one.counts.items()) if name != VOLTS]
    told = [(words.text.among("box_count", name), f"{n:,}") for name, n in counted[:MOST_COUNTS]]
    if one.counts.get(VOLTS):
        told.insert(0, (words.text("box.supply"), words.text("box.volts", n=words.number(one.counts[VOLTS] / 1000))))
    return told
