"""What the evidence says around one claim: the input of the checks, free of any database.

Times count from time zero of the impact.
"""

import math
import tomllib
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from agent.errors import ConfigError

EARTH_M: Final = 6_371_008.8  # mean radius (IUGG)
LIMITS: Final = Path(__file__).with_name("limits.toml")


class Evidence(NamedTuple):
    """Where something stands: `kind` entry (device/lineage/lane/seq), file, claim, report, policy or package."""

    kind: str
    ref: str


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the checks; their sources stand in limits.toml."""

    notice_h: float
    place_m: float
    moved_m: float
    watched_s: float
    left_m: float
    step_m: float
    power_s: float
    turned_deg: float
    turned_within_s: float
    same_loss_s: float
    package_h: float
    clock_s: float
    together_s: float
    together_m: float
    mass_ratio: float
    opposed_deg: float


@cache
def limits(path: Path = LIMITS) -> Limits:
    """Read the limits; raise ConfigError naming the file and the limit that lacks or is not above zero."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read: {e}") from e
    names = [f.name for f in fields(Limits)]
    for name in sorted(set(names) ^ set(table)):
        raise ConfigError(f"{path}: '{name}' is {'missing' if name in names else 'no limit of a check'}")
    for name in names:
        value = table[name].get("value") if isinstance(table[name], dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigError(f"{path}: {name}.value must be a number above 0")
    return Limits(**{name: float(table[name]["value"]) for name in names})


class Place(NamedTuple):
    """Degrees, WGS-84."""

    latitude: float
    longitude: float


class Report(NamedTuple):
    """What somebody declared."""

    reported_utc_ns: int
    loss_utc_ns: int
    place: Place | None
    ref: Evidence


class Impact(NamedTuple):
    """A crash as a device measured it."""

    device: str
    incident: str
    utc_ns: int | None
    uncertainty_ns: int
    place: Place | None
    accuracy_m: float
    heading_deg: float | None
    longitudinal_mps: float | None
    lateral_mps: float | None
    delta_v_mps: float | None
    clipped: bool
    ref: Evidence


class Point(NamedTuple):
    """Where the car was after time zero; `engine_on` None where nothing tells."""

    t_s: float
    place: Place
    engine_on: bool | None
    ref: Evidence


class Moment(NamedTuple):
    """When something befell the box, and how much of it."""

    t_s: float
    amount: float
    ref: Evidence


class PackageFacts(NamedTuple):
    """How far the package is: none, arriving, checking, proved, failed."""

    state: str = "none"
    complete: bool = False
    missing: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    ref: Evidence = Evidence("package", "")


class OtherClaim(NamedTuple):
    """Another claim of the same car."""

    claim: str
    utc_ns: int


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the checks look at."""

    claim: str
    now_utc_ns: int
    impact: Impact | None = None
    kind: str = ""  # of the impact
    locked: bool = False
    quality: str = "none"  # of the boot's clock
    noticed_utc_ns: int | None = None  # when the receiver held the device's own first record
    report: Report | None = None
    recorded: bool = False  # the device has records of the claimed time
    after: tuple[Point, ...] = ()  # in time order
    power_cuts: tuple[Moment, ...] = ()
    turns: tuple[Moment, ...] = ()  # amounts in degrees
    package: PackageFacts = field(default_factory=PackageFacts)
    other_claims: tuple[OtherClaim, ...] = ()
    other_impacts: tuple[Impact, ...] = ()  # of other devices, near in time and place
    other_devices: tuple[str, ...] = ()  # of declared parties that have a box of ours


def metres(a: Place, b: Place) -> float:
    """Return the great-circle distance (haversine on the mean sphere), exact to 0.5 %."""
    p, q = math.radians(a.latitude), math.radians(b.latitude)
    d = math.sin((q - p) / 2) ** 2
    d += math.cos(p) * math.cos(q) * math.sin(math.radians(b.longitude - a.longitude) / 2) ** 2
    return 2 * EARTH_M * math.asin(min(1.0, math.sqrt(d)))
