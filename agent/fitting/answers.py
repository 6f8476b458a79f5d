"""What the wizard would ask, answered beforehand in a file (`roadwitness install --unattended FILE`)."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.config import build, read_toml
from agent.consent.settings import ConsentSettings
from agent.errors import ConfigError, near_names
from agent.fitting.photos import MOST
from agent.fitting.rules import DriveRules
from agent.fitting.search import Places
from agent.fitting.titles import TITLES


@dataclass(frozen=True, slots=True)
class EnrolmentAnswers:
    """How the receiver comes to know the box."""

    url: str = ""  # of the receiver, https://…
    code: str = ""  # one-time code of the insurer
    fingerprint: str = ""  # SHA-256 of the receiver's authority, where the code does not hold it


@dataclass(frozen=True, slots=True)
class VehicleAnswers:
    """The car, as its papers and the plate behind the windscreen have it."""

    vin: str = ""


@dataclass(frozen=True, slots=True)
class BindingAnswers:
    """How box and car are bound."""

    code: str = ""  # one-time code of the insurer for this car, eight letters and digits


@dataclass(frozen=True, slots=True)
class SheetAnswers:
    """Where the sheet goes, and what is on it."""

    folder: str = ""  # "" is `fitting` in the store's folder
    photos: tuple[str, ...] = ()  # files; at most four

    def __post_init__(self) -> None:
        """Refuse an album."""
        if len(self.photos) > MOST:
            raise ValueError(f"photos: at most {MOST}")


@dataclass(frozen=True, slots=True)
class Answers:
    """All of it; what is "" is asked where somebody sits, and is missing where nobody does."""

    by: str = ""  # who fits the box: name and workshop
    skip: dict[str, str] = field(default_factory=dict)  # step -> why it is left out; it stands on the sheet
    look: Places = field(default_factory=Places)
    enrolment: EnrolmentAnswers = field(default_factory=EnrolmentAnswers)
    vehicle: VehicleAnswers = field(default_factory=VehicleAnswers)
    binding: BindingAnswers = field(default_factory=BindingAnswers)
    consent: ConsentSettings = field(default_factory=ConsentSettings)
    drive: DriveRules = field(default_factory=DriveRules)
    sheet: SheetAnswers = field(default_factory=SheetAnswers)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)  # further tables of agent.toml, e.g. broker

    def __post_init__(self) -> None:
        """Refuse a step that there is not, and one that is left out without a reason."""
        for step, reason in self.skip.items():
            if step not in TITLES or step == "sheet":
                raise ValueError(f"skip: '{step}' is no step that can be left out{near_names(step, TITLES)}")
            if not reason.strip():
                raise ValueError(f'skip: {step}: say why, as in {step} = "no camera in this car"')


def load_answers(path: Path) -> Answers:
    """Read an answers file; raise ConfigError naming the file and the key that is wrong."""
    table = read_toml(path)
    settings = table.pop("settings", {})
    if not isinstance(settings, dict) or not all(isinstance(t, dict) for t in settings.values()):
        raise ConfigError(f"{path}: settings: expected tables, as in [settings.broker]")
    return replace(build(Answers, table, str(path)), settings=settings)
