"""What may be repaired without thinking: each repair is named, safe to do twice, and touches neither data nor the car.

A repair is done only where its finding is there, and only after a person, or --yes, has said so. CAN interfaces are
brought up listening only.
"""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.doctor.context import Context
from agent.doctor.finding import Finding
from agent.owner import as_owner

COMMAND_S: Final = 30.0
DASHCAM_UNIT: Final = "roadwitness-dashcam"
AGENT_UNIT: Final = "roadwitness-agent"


@dataclass(frozen=True, slots=True)
class Repair:
    """What can be done about a finding, in words, and what does it: returns "" or why it did not work."""

    finding: Finding
    words: str
    act: Callable[[], str]


def repairs(findings: list[Finding], context: Context) -> list[Repair]:
    """Return what may be repaired, each thing once, in the order of the findings."""
    found: list[Repair] = []
    for finding in findings:
        make = _MAKERS.get(finding.advice)
        repair = make(finding, context) if make is not None else None
        if repair is not None and repair.words not in [other.words for other in found]:
            found.append(repair)
    return found


def _folder(finding: Finding, context: Context) -> Repair:
    folder = Path(str(finding.facts["folder"]))

    def make() -> str:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            return f"{folder}: {error.strerror or error}"
        return ""

    return Repair(finding, f"make the folder {folder}", make)


def _key(finding: Finding, context: Context) -> Repair:
    file = Path(str(finding.facts["file"]))

    def close() -> str:
        try:
            with as_owner(file.parent):
                os.chmod(file, 0o600)
        except OSError as error:
            return f"{file}: {error.strerror or error}"
        return ""

    return Repair(finding, f"close {file} to others (chmod 600)", close)


def _interface(finding: Finding, context: Context) -> Repair:
    name, rate = str(finding.facts["interface"]), str(finding.facts["bit_rate"])
    steps = (
        ("ip", "link", "set", name, "down"),
        ("ip", "link", "set", name, "type", "can", "bitrate", rate, "listen-only", "on"),
        ("ip", "link", "set", name, "up"),
    )
    return Repair(finding, f"bring {name} up at {rate} bit/s, listening only", lambda: _run(*steps))


def _start(unit: str) -> Callable[[Finding, Context], Repair]:
    return lambda finding, context: _unit(finding, context, "start", str(finding.facts.get("unit", unit)))


def _enable(finding: Finding, context: Context) -> Repair:
    return _unit(finding, context, "enable", str(finding.facts["unit"]))


def _unit(finding: Finding, context: Context, verb: str, unit: str) -> Repair:
    # a unit that failed too often is not started before its failures are forgotten
    forget = ((context.systemctl, "reset-failed", unit),) if verb == "start" else ()
    words = f"let {unit} start with the box" if verb == "enable" else f"start {unit}"
    return Repair(finding, words, lambda: _run(*forget, (context.systemctl, verb, unit), lenient=len(forget)))


def _gpsd(finding: Finding, context: Context) -> Repair | None:
    if not finding.device.startswith(("gps:127.0.0.1:", "gps:localhost:")):
        return None  # another machine's
    units = ("gpsd.socket", "gpsd.service")
    return Repair(finding, "restart gpsd", lambda: _run((context.systemctl, "restart", *units)))


def _run(*commands: tuple[str, ...], lenient: int = 0) -> str:
    """Run commands one after the other; return what the first that failed said. The first `lenient` may fail."""
    for number, command in enumerate(commands):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            return f"{command[0]}: {getattr(error, 'strerror', None) or error}"
        if done.returncode != 0 and number >= lenient:
            said = (done.stderr or done.stdout).strip().splitlines()
            return f"{' '.join(command)}: {said[-1] if said else f'exit code {done.returncode}'}"
    return ""


_MAKERS: Final[dict[str, Callable[[Finding, Context], Repair | None]]] = {
    "store_missing": _folder,
    "key_open": _key,
    "can_down": _interface,
    "can_no_bit_rate": _interface,
    "agent_not_running": _start(AGENT_UNIT),
    "dashcam_not_running": _start(DASHCAM_UNIT),
    "unit_failed": _start(AGENT_UNIT),
    "unit_stopped": _start(AGENT_UNIT),
    "unit_not_enabled": _enable,
    "gpsd_unreachable": _gpsd,
}
