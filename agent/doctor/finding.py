"""What one check found: the type that the command, the wizard, the sheet, the bundle and a remote reply all share."""

from typing import Any, Final, Literal

import msgspec

State = Literal["pass", "warn", "fail", "unknown"]
STATES: Final[tuple[State, ...]] = ("fail", "warn", "unknown", "pass")  # worst first
Fact = str | int | float | bool | None
Facts = dict[str, Any]  # of Fact


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check's answer; all but a pass have a row in the table of advice.

    `check` is "group.what", e.g. "can.bus"; `device` says which one where a car has several, e.g. "canbus:can0".
    """

    check: str
    state: State
    found: str  # what was found, in a few words, e.g. "12.6 V"
    advice: str = ""  # code of the row in advice.toml, "" where it passed
    facts: Facts = {}  # the same in a form that a program reads; they fill the row's {words}
    device: str = ""

    @property
    def group(self) -> str:
        """Return what is checked: power, clock, storage, can, …"""
        return self.check.partition(".")[0]


def well(check: str, found: str, /, *, device: str = "", **facts: Fact) -> Finding:
    """Return a pass."""
    return Finding(check=check, state="pass", found=found, device=device, facts=facts)


def ill(state: State, check: str, advice: str, found: str, /, *, device: str = "", **facts: Fact) -> Finding:
    """Return what is no pass, with its code in the table of advice."""
    return Finding(check=check, state=state, found=found, advice=advice, device=device, facts=facts)


def lasting(seconds: float) -> str:
    """Say how long something lasts."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def worst(findings: list[Finding]) -> State:
    """Return the worst state; nothing found at all is unknown."""
    present = {finding.state for finding in findings}
    return next((state for state in STATES if state in present), "unknown")
