"""What the steps of a fitting are called, on the screen and on the sheet."""

from typing import Final

TITLES: Final[dict[str, str]] = {
    "devices": "Devices",
    "enrolment": "Enrolment",
    "wiring": "Wiring",
    "vin": "Vehicle",
    "binding": "Binding",
    "consent": "Consent",
    "mount": "Mount",
    "drive": "Acceptance drive",
    "sheet": "Sheet",
}
