"""What adapters answer: lines with their times, and the table of everything that is not an answer."""

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final


class Action(Enum):
    """What the driver does about a failure."""

    PASS = auto()  # this answer is lost; go on with the next request
    MISSING = auto()  # the vehicle has no such parameter, or does not answer now: three times, then no longer asked
    SMALLER = auto()  # ask for fewer parameters at a time
    AGAIN = auto()  # the adapter is ready again: ask again, and count a strike
    BUS = auto()  # close the protocol, look for the vehicle again later, each time later
    RESET = auto()  # settings are lost or doubtful: bring the adapter up from the start


@dataclass(frozen=True, slots=True)
class Failure:
    """One text of the adapter: what it means and what is done."""

    name: str
    pattern: re.Pattern[str]
    meaning: str
    action: Action


def _row(name: str, pattern: str, meaning: str, action: Action) -> Failure:
    return Failure(name, re.compile(pattern), meaning, action)


# Texts and meanings: ELM327 data sheet, "Error Messages and Alerts"; NOT CONNECTED: clones (reference/domain.md F3).
FAILURES: Final[tuple[Failure, ...]] = (
    _row("NO DATA", r"NO ?DATA", "no control unit answered in time", Action.MISSING),
    _row("?", r"\?", "the adapter did not understand", Action.MISSING),
    _row("STOPPED", r"STOPPED", "a character came before the adapter was ready", Action.AGAIN),
    _row("BUFFER FULL", r"BUFFER ?FULL", "answers came faster than the serial line carries them", Action.SMALLER),
    _row("<DATA ERROR", r"< ?DATA ERROR", "a checksum is wrong in this line", Action.PASS),
    _row("DATA ERROR", r"DATA ERROR", "an answer could not be understood", Action.PASS),
    _row("<RX ERROR", r"< ?RX ERROR", "a received CAN frame is damaged", Action.PASS),
    _row("LV RESET", r"LV RESET", "the supply fell too low (cranking); settings are lost", Action.RESET),
    _row("LP ALERT", r"LP ALERT", "the adapter goes to sleep in 2 s", Action.RESET),
    _row("ACT ALERT", r"ACT ALERT", "the adapter goes to sleep soon for want of activity", Action.AGAIN),
    _row("ERR94", r"ERR ?94", "fatal CAN error; settings lost, CAN blocked until ATFE", Action.RESET),
    _row("ERR", r"ERR ?\d\d", "an internal error of the adapter", Action.RESET),
    _row("UNABLE TO CONNECT", r"UNABLE TO CONNECT", "no protocol found an answering vehicle", Action.BUS),
    _row("NOT CONNECTED", r"NOT CONNECTED", "a clone's words for no vehicle", Action.BUS),
    _row("BUS INIT", r"BUS INIT.*ERROR", "the K-line did not wake a control unit", Action.BUS),
    _row("BUS BUSY", r"BUS BUSY", "no pause on the bus to speak in; often wiring", Action.BUS),
    _row("BUS ERROR", r"BUS ERROR", "an invalid signal on the bus; often wiring", Action.BUS),
    _row(
        "CAN ERROR", r"CAN ERROR", "frames are not acknowledged: wrong bit rate, wiring or a sleeping bus", Action.BUS
    ),
    _row("FB ERROR", r"FB ERROR", "the output does not show at the input; wiring", Action.BUS),
    _row("RESTARTED", r"ELM ?3\d\d", "the adapter has started again by itself", Action.RESET),
)
OUT_OF_STEP: Final = _row("OUT OF STEP", r"(?!)", "no prompt, even after ATI", Action.RESET)
USELESS: Final = _row("USELESS", r"(?!)", "one answer after the other without use", Action.RESET)
DISOBEYED: Final = _row("DISOBEYED", r"(?!)", "neither OK nor ? to an order", Action.RESET)

# What stands before an answer while the adapter looks for the protocol, sometimes on the answer's own line.
_PREAMBLE: Final = re.compile(r"(?:SEARCHING|BUS INIT:?)?[ .]*(?:OK)?")
_HEX: Final = re.compile(r"[0-9A-F][0-9A-F: ]*")
_IGNORED: Final = re.compile(r"|OK|SEARCHING.*|BUS INIT.*")


def failure_of(line: str) -> Failure | None:
    """Return the failure that this line tells, if any."""
    return next((f for f in FAILURES if f.pattern.search(line)), None)


@dataclass(slots=True)
class Reply:
    """What came after a command: upper-case lines without the echo, each with the time at which it was whole.

    `prompted` says whether the adapter gave its prompt; `sent_ns` is when the command was handed to the port.
    """

    sent_ns: int
    end_ns: int
    lines: list[tuple[int, str]] = field(default_factory=list)
    prompted: bool = False
    echoed: bool = False

    @property
    def text(self) -> str:
        """Give the lines as one text."""
        return "\n".join(line for _, line in self.lines)

    @property
    def ok(self) -> bool:
        """Say whether an adapter command was obeyed."""
        return any(line.endswith("OK") for _, line in self.lines)

    @property
    def failure(self) -> Failure | None:
        """Return the gravest failure that the lines tell: a reset outweighs the bus, the bus a missing value."""
        found = [f for f in (failure_of(line) for _, line in self.lines) if f is not None]
        return max(found, key=lambda f: f.action.value, default=None)

    def data(self) -> list[tuple[int, str]]:
        """Give the lines of hex digits, preambles and spaces removed; damaged and other lines are left out."""
        found = []
        for t_ns, line in self.lines:
            if failure_of(line) is not None:
                continue
            rest = _PREAMBLE.sub("", line, count=1)
            if _HEX.fullmatch(rest):
                found.append((t_ns, rest.replace(" ", "")))
        return found

    @property
    def garbled_lines(self) -> int:
        """Count lines with characters that no adapter writes."""
        return sum(1 for _, line in self.lines if "\ufffd" in line)

    @property
    def odd_lines(self) -> int:
        """Count lines that are neither data nor a known text."""
        known = sum(1 for _, line in self.lines if failure_of(line) is not None or _IGNORED.fullmatch(line))
        return max(len(self.lines) - known - len(self.data()), 0)
