"""The command `doctor`: what the doctor finds in this box, with the next step for each finding.

Places are rounded to a kilometre: a technician may know what is wrong with a box, not where it is.

doctor.json   {"format", "findings": [{check, state, found, advice, facts, device, next}]}, worst first
"""

from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

from agent.commandmessages import DoctorArguments
from agent.commands.reading import Found
from agent.doctor import Context, examine, next_step
from agent.doctor.finding import STATES
from agent.support.redact import Redactor

FORMAT: Final = "roadwitness-doctor/1"
FILE: Final = "doctor.json"


class Examining:
    """Has the box examined whose daemon it runs in: the doctor asks that through its local socket."""

    def __init__(self, folder: Path, config: Path | None) -> None:
        self._folder = folder
        self._config = config

    def read(self, wanted: DoctorArguments) -> Found:
        """Return what was found; raise RoadwitnessError."""
        context = Context(store=self._folder, config=self._config, groups=tuple(wanted.groups), inside=True)
        findings = examine(context)
        findings = sorted(findings, key=lambda f: STATES.index(f.state))
        rows = Redactor().plain([msgspec.to_builtins(f) | {"next": next_step(f)} for f in findings])
        counted = Counter(f.state for f in findings)
        told = ", ".join(f"{counted[state]} {state}" for state in STATES if counted[state])
        data = msgspec.json.encode({"format": FORMAT, "findings": rows})
        return Found({FILE: msgspec.json.format(data, indent=1) + b"\n"}, told or "nothing was examined")
