"""Score models: one TOML file each in `config/scores`, checked when it is read; a published file never changes.

A model is a sum of terms on the logarithm of a relativity and a map from that to 0..100. Which measures exist is said
by `receiver.scoring.measures`; everything else, every coefficient, bound and rule for trips, is in the file.
"""

import hashlib
import math
import re
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from agent.errors import ConfigError, near_names
from agent.known import known
from agent.records import DRIVING_KINDS, SEVERITIES
from receiver.words import time_zone

DEFAULT_MODEL: Final = "relativity/2"
Measure = Literal[
    "events",
    "speeding",
    "night",
    "peak",
    "fast",
    "roughness",
    "mileage",
    "hard_braking",
    "hard_turning",
    "not_measured",
]
_FILE: Final = re.compile(r"(?P<name>[a-z]+)-(?P<version>[1-9][0-9]*)")


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Term(_Strict, frozen=True, kw_only=True):
    """One addend of ln(relativity): coefficient × (min(value, cap) − centre)."""

    name: str
    measure: Measure
    coefficient: float
    status: Literal["assumed", "calibrated", "published"]
    source: str
    unit: str
    centre: float = 0.0  # where it adds nothing: the average vehicle
    best: float = 0.0  # the lowest value there is
    cap: float | None = None
    scored: bool = True  # False: in the relativity for the price, not in the score
    kinds: tuple[str, ...] = ()  # events
    severities: tuple[str, ...] = ()  # events
    over_share: float = 0.0  # speeding: from this share of the limit on, as the event's peak says
    above_kmh: float = 0.0  # fast: a multiple of 10
    hours: tuple[tuple[int, int], ...] = ()  # peak: from, to
    reference_km: float = 0.0  # mileage: ln(km a year / reference)
    bounds_km: tuple[float, float] | None = None  # mileage: beyond them it stays as it is there
    over_g: float = 0.0  # hard_braking, hard_turning: seconds above this …
    among_g: float = 0.0  # … among those above this


class Scale(_Strict, frozen=True, kw_only=True):
    """The map to points: linear in the relativity, `hundred_at` is 100, `zero_at` is 0, flat beyond."""

    hundred_at: float
    zero_at: float


class TripRules(_Strict, frozen=True, kw_only=True):
    """Which trips are scored."""

    min_km: float
    min_speed_share: float  # best source's share of the trip with a fresh, agreeing speed
    max_gap_share: float  # of the trip without any sample
    times: tuple[str, ...]  # qualities of time that place a trip in its day


class Confidence(_Strict, frozen=True, kw_only=True):
    """What a confirmed event weighs that stands on the inertial sensor and fewer than `enough_sources` others."""

    enough_sources: int
    mount: tuple[tuple[float, float], ...]  # (from this confidence of the mount on, weight), falling


class Model(_Strict, frozen=True, kw_only=True):
    """A whole model file; `base` × exp(Σ terms) is the relativity."""

    name: str
    version: int
    title: str
    for_price: bool
    zone: str  # of days, weeks and peak hours: one for the insurer, not one by car
    window_days: int
    min_days: float  # of a period from which on a year's mileage is known
    credibility_km: float  # K; 0: whatever was driven counts in full
    daily: bool  # each day on its own, then the mean by kilometres
    scale: Scale
    trips: TripRules
    terms: tuple[Term, ...]
    base: float = 1.0
    confidence: Confidence | None = None
    digest: str = ""

    @property
    def id(self) -> str:
        """Return "name/version"."""
        return f"{self.name}/{self.version}"

    @property
    def needs_curves(self) -> bool:
        """Say whether the model looks at the forces of every second."""
        return any(term.measure in ("hard_braking", "hard_turning") for term in self.terms)

    def points(self, relativity: float) -> float:
        """Map a relativity to 0..100, unrounded."""
        share = (self.scale.zero_at - relativity) / (self.scale.zero_at - self.scale.hundred_at)
        return 100.0 * min(max(share, 0.0), 1.0)

    def credibility(self, km: float) -> float:
        """Return Z = km / (km + K) (Bühlmann, over kilometres); 0 without any, 1 for infinitely many."""
        if km == math.inf:
            return 1.0
        return km / (km + self.credibility_km) if km > 0.0 else 0.0


def models() -> list[str]:
    """Return the ids of all models, by name and version."""
    found = (_FILE.fullmatch(path.stem) for path in _folder().glob("*.toml"))
    return [f"{m['name']}/{m['version']}" for m in sorted((m for m in found if m), key=_order)]


def _order(match: re.Match[str]) -> tuple[str, int]:
    return match["name"], int(match["version"])


@cache
def model(wanted: str = DEFAULT_MODEL) -> Model:
    """Return a model by its id; raise ConfigError naming those that exist."""
    known = models()
    if wanted not in known:
        raise ConfigError(f"score model {wanted!r}: unknown{near_names(wanted, known)}; there are {', '.join(known)}")
    return read_model(_folder() / f"{wanted.replace('/', '-')}.toml")


def read_model(path: Path) -> Model:
    """Read one model file; raise ConfigError naming the file and what is wrong."""
    try:
        data = path.read_bytes()
        table = tomllib.loads(data.decode("utf-8"))
        found = msgspec.convert({**table, "digest": hashlib.sha256(data).hexdigest()}, known(Model))
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: not valid TOML: {e}") from e
    except msgspec.ValidationError as e:
        raise ConfigError(f"{path}: {e}") from e
    if path.stem != found.id.replace("/", "-"):
        raise ConfigError(f"{path}: says it is {found.id}; name the file {found.id.replace('/', '-')}.toml")
    time_zone(found.zone)
    for wrong in _faults(found):
        raise ConfigError(f"{path}: {wrong}")
    return found


def _faults(found: Model) -> list[str]:
    """Say what would make a score wrong or unfair: above all, a term by which worse driving could score better."""
    told = []
    names = [term.name for term in found.terms]
    if len(set(names)) != len(names) or not names:
        told.append("terms: each needs a name of its own, and there must be one")
    if not 0.0 < found.scale.hundred_at < found.scale.zero_at:
        told.append("scale: hundred_at must be above 0 and below zero_at")
    if found.credibility_km < 0.0 or found.window_days < 1 or found.base <= 0.0:
        told.append("credibility_km, window_days or base: below what it can be")
    if found.confidence is not None:
        weights = [weight for _, weight in found.confidence.mount]
        levels = [level for level, _ in found.confidence.mount]
        if levels != sorted(levels, reverse=True) or weights != sorted(weights, reverse=True) or levels[-1:] != [0.0]:
            told.append("confidence.mount: levels and weights must fall, the last level is 0.0")
        if any(not 0.0 <= weight <= 1.0 for weight in weights):
            told.append("confidence.mount: weights are 0 to 1")
    if found.daily and any(term.measure == "mileage" for term in found.terms):
        told.append("daily: a day says nothing about a year's mileage")
    for term in found.terms:
        told += [f"term {term.name}: {wrong}" for wrong in _term_faults(term)]
    if any(not math.isfinite(number) for number in _numbers(msgspec.to_builtins(found))):
        told.append("a number is not finite")
    return told


def _term_faults(term: Term) -> list[str]:
    told = []
    if term.coefficient < 0.0:
        told.append("coefficient is below 0: more of it would raise the score")
    if term.best > term.centre and term.measure != "mileage":
        told.append("best is above centre")
    if term.cap is not None and term.cap <= term.best:
        told.append("cap is not above best")
    if not term.source.strip():
        told.append("has no source")
    if not set(term.kinds) <= DRIVING_KINDS or not set(term.severities) <= set(SEVERITIES):
        told.append("kinds or severities that no driving event has")
    for measure, needed in _NEEDED.items():
        if (term.measure == measure) != bool(getattr(term, needed)):
            told.append(f"'{needed}' goes with measure '{measure}'")
    if (term.measure in ("hard_braking", "hard_turning")) != (0.0 < term.among_g < term.over_g):
        told.append("'over_g' above 'among_g' goes with measures 'hard_braking' and 'hard_turning'")
    if term.above_kmh % 10.0:
        told.append("above_kmh must be a multiple of 10, as the speed bands of trips are")
    if term.bounds_km and not (0.0 < term.bounds_km[0] < term.bounds_km[1] and term.reference_km > 0.0):
        told.append("bounds_km must rise from above 0, and reference_km be above 0")
    return told


_NEEDED: Final = {
    "events": "kinds",
    "speeding": "over_share",
    "peak": "hours",
    "fast": "above_kmh",
    "mileage": "bounds_km",
}


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict | list | tuple):
        inner = value.values() if isinstance(value, dict) else value
        return [number for one in inner for number in _numbers(one)]
    return [value] if isinstance(value, float) else []


def _folder() -> Path:
    candidates = [
        Path("/etc/roadwitness/scores"),
        Path(__file__).resolve().parents[2] / "config" / "scores",
        Path(sys.prefix) / "share" / "roadwitness" / "config" / "scores",
    ]
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise ConfigError(f"no score models found; looked in {', '.join(map(str, candidates))}; reinstall the package")
