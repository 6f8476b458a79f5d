"""The steps of a fitting as a table: what each does, how it is left out, what it records, and the work itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.fitting.driving import drive, mount
from agent.fitting.entering import binding, consent, enrolment, vehicle
from agent.fitting.finding import devices, wiring
from agent.fitting.finishing import sheet
from agent.fitting.fitting import Fitting
from agent.fitting.sheet import Item
from agent.fitting.titles import TITLES


@dataclass(frozen=True, slots=True)
class Step:
    """One step; `work` shows what it does through the fitting's talk and returns what goes on the sheet."""

    name: str
    does: str
    records: str  # what stays on the box, beside the items on the sheet
    work: Callable[[Fitting], list[Item]]
    can_skip: bool = True

    @property
    def title(self) -> str:
        """Return what it is called."""
        return TITLES[self.name]


STEPS: Final = (
    Step(
        "devices",
        "Looks for what is plugged in and writes it into agent.toml, after showing it.",
        "agent.toml",
        devices,
    ),
    Step("wiring", "Examines power, wires and devices, as `roadwitness doctor` does.", "", wiring),
    Step("enrolment", "Makes the box known to the receiver, by a one-time code.", "key and certificate", enrolment),
    Step("vin", "Reads the VIN from the car and compares it with the papers.", "agent.toml: [vehicle]", vehicle),
    Step("binding", "Binds box and car at the receiver, by the insurer's code.", "a row at the receiver", binding),
    Step(
        "consent",
        "Notes where the owner's consent is kept; without it nothing is recorded.",
        "agent.toml: [consent]",
        consent,
    ),
    Step("mount", "Learns how the box sits, on the first minutes of driving.", "in the agent's store", mount),
    Step("drive", "Checks everything on a drive of about ten minutes.", "a trip", drive),
    Step(
        "sheet",
        "Examines the network, signs the sheet, and tells the receiver.",
        "the sheet, a health record",
        sheet,
        can_skip=False,
    ),
)
