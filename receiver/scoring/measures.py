"""What a model can measure: for every trip an amount and the basis it is divided by, and the events behind the amount.

A term's value over any set of trips is `factor` × Σ amount / Σ basis, so that twice the same driving is the same value
(T-SCORE-3). Mileage alone is not a ratio of this kind: it needs the length of the period.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from agent.clock import NS_PER_S
from agent.records import SEVERITIES
from receiver.scoring.driven import CurveFacts, DrivenEvent, DrivenTrip, EventFacts
from receiver.scoring.model import Confidence, Model, Term
from receiver.scoring.result import EntryId
from receiver.words import time_zone

G_MPS2: Final = 9.80665
PEAK_HOURS: Final = ((7, 9), (17, 19))  # E3.1
BAND_KMH: Final = 10.0  # of Trip.speed_histogram_s
PERCENT: Final = 100.0
HARSH: Final = frozenset(("harsh_braking", "harsh_acceleration", "harsh_cornering"))

Floats = npt.NDArray[np.float64]
# amount, basis (None where the box did not see it), the events behind the amount
Found = tuple[float, float | None, list[tuple[EntryId, float]]]


@dataclass(frozen=True, slots=True)
class Measured:
    """One term over all trips, in their order."""

    term: Term
    amount: Floats
    basis: Floats  # NaN where the box did not see it
    events: list[list[tuple[EntryId, float]]]  # by trip; where empty, the trip itself stands behind its amount

    def value(self, of: slice | npt.NDArray[np.intp]) -> float | None:
        """Return the term's value over some trips, None where none of them saw it."""
        basis = self.basis[of]
        seen = ~np.isnan(basis)
        if not seen.any():
            return None
        whole = float(basis[seen].sum())
        return FACTORS[self.term.measure] * float(self.amount[of].sum()) / whole if whole > 0.0 else 0.0

    def excess(self, n: int) -> float:
        """Return what trip `n` adds to the amount beyond the term's best value, at least 0."""
        basis = float(self.basis[n])
        spared = 0.0 if np.isnan(basis) else self.term.best / FACTORS[self.term.measure] * basis
        return max(0.0, float(self.amount[n]) - spared)


# Rates are per 100 km of a basis in km; shares are in per cent.
FACTORS: Final[dict[str, float]] = {
    "events": 100.0,
    "speeding": PERCENT,
    "night": PERCENT,
    "peak": PERCENT,
    "fast": PERCENT,
    "roughness": 1.0,
    "mileage": 1.0,
    "hard_braking": PERCENT,
    "hard_turning": PERCENT,
    "not_measured": 1.0,
}


def measure(model: Model, trips: Sequence[DrivenTrip]) -> list[Measured]:
    """Measure every term of a model on every trip."""
    zone = time_zone(model.zone)
    told = []
    for term in model.terms:
        find = _FINDERS[term.measure]
        found = [find(term, trip, model.confidence, zone) for trip in trips]
        amount = np.array([f[0] for f in found], dtype=np.float64)
        basis = np.array([np.nan if f[1] is None else f[1] for f in found], dtype=np.float64)
        told.append(Measured(term, amount, basis, [f[2] for f in found]))
    return told


def _events(term: Term, trip: DrivenTrip, confidence: Confidence | None, _: ZoneInfo) -> Found:
    if not trip.events:
        return 0.0, trip.km, []
    severities = term.severities or SEVERITIES
    parts = [
        (event.id, _weight(event.facts, trip, confidence))
        for event in trip.events
        if event.facts and event.facts.kind in term.kinds and event.facts.severity in severities
    ]
    return sum(weight for _, weight in parts), trip.km, parts


def _weight(event: EventFacts, trip: DrivenTrip, confidence: Confidence | None) -> float:
    """Return what a confirmed event weighs: less where an uncertain mount is half of what confirms it."""
    if confidence is None or event.kind not in HARSH or "imu" not in event.sources:
        return 1.0
    if len(set(event.sources) - {"imu"}) >= confidence.enough_sources:
        return 1.0
    assert trip.facts is not None
    known = trip.facts.quality.mount_confidence
    return next(weight for level, weight in confidence.mount if known >= level)


def _speeding(term: Term, trip: DrivenTrip, confidence: Confidence | None, zone: ZoneInfo) -> Found:
    """Return km above the limit: at least the event's time at the limit itself, which nobody can dispute."""
    if not trip.events:
        return 0.0, trip.km, []
    parts = []
    for event in trip.events:
        e = event.facts
        if e and e.kind == "speeding" and e.limit_mps and e.peak >= term.over_share * e.limit_mps:
            parts.append((event.id, max(0.0, e.duration_ns / NS_PER_S) * e.limit_mps / 1000.0))
    total = sum(km for _, km in parts)
    if total > trip.km:  # a defect of the device: no more than the trip itself
        parts = [(entry, km * trip.km / total) for entry, km in parts]
    return min(total, trip.km), trip.km, parts


def _night(term: Term, trip: DrivenTrip, confidence: Confidence | None, zone: ZoneInfo) -> Found:
    assert trip.facts is not None
    driven = sum(trip.facts.hour_of_day_s)  # the same seconds that night_s is a part of
    return min(trip.facts.night_s, driven), driven or None, []


def _peak(term: Term, trip: DrivenTrip, confidence: Confidence | None, zone: ZoneInfo) -> Found:
    assert trip.facts is not None
    return seconds_within(trip, term.hours, zone), sum(trip.facts.hour_of_day_s) or None, []


def seconds_within(trip: DrivenTrip, hours: Sequence[tuple[int, int]], zone: ZoneInfo) -> float:
    """Return the seconds driven within hours of the day in `zone`."""
    if trip.facts is None or trip.start_utc_ns is None:
        return 0.0
    offset = datetime.fromtimestamp(trip.start_utc_ns / NS_PER_S, UTC).astimezone(zone).utcoffset()
    shift = offset.total_seconds() / 3600.0 if offset else 0.0
    inside = _inside(shift, tuple(hours))
    return sum([seconds * inside[hour] for hour, seconds in enumerate(trip.facts.hour_of_day_s) if seconds > 0.0])


@lru_cache(maxsize=256)
def _inside(shift: float, hours: tuple[tuple[int, int], ...]) -> list[float]:
    """Return for each hour of UTC which part of it lies in `hours` of a zone `shift` hours ahead."""
    return [_overlap((hour + shift) % 24.0, hours) for hour in range(24)]


def _overlap(start: float, hours: Sequence[tuple[int, int]]) -> float:
    """Return which part of the hour that begins at `start` lies in `hours`: zones may be half an hour apart."""
    spans = [(a + day, b + day) for a, b in hours for day in (0, 24)]
    return sum(max(0.0, min(start + 1.0, b) - max(start, a)) for a, b in spans)


def _fast(term: Term, trip: DrivenTrip, confidence: Confidence | None, zone: ZoneInfo) -> Found:
    assert trip.facts is not None
    bands = trip.facts.speed_histogram_s
    return sum(bands[int(term.above_kmh / BAND_KMH) :]), sum(bands) or None, []


def _roughness(term: Term, trip: DrivenTrip, confidence: Confidence | None, zone: ZoneInfo) -> Found:
    assert trip.facts is not None
    return trip.facts.smoothness_mps2 * trip.facts.moving_s, trip.facts.moving_s or None, []


def _mileage(term: Term, trip: DrivenTrip, confidence: Confidence | None, zone: ZoneInfo) -> Found:
    return trip.km, None, []  # its value comes from the period


def _hard(braking: bool) -> "Finder":
    def find(term: Term, trip: DrivenTrip, confidence: Confidence | None, zone: ZoneInfo) -> Found:
        over, among, seen = 0, 0, False
        for curve in trip.curves:
            seen = seen or any(v is not None for v in _axis(curve, braking))
            force = _force(curve, trip.contested, braking)
            over += int(np.count_nonzero(force > term.over_g * G_MPS2))
            among += int(np.count_nonzero(force > term.among_g * G_MPS2))
        return float(over), float(among) if seen else None, []

    return find


def _force(curve: CurveFacts, contested: Sequence[EventFacts], braking: bool) -> Floats:
    """Return the force of each second in m/s², 0 where unknown or while a disputed event lasted."""
    force: Floats = np.array([0 if v is None else v for v in _axis(curve, braking)], dtype=np.float64) / 100.0
    force = -force if braking else np.abs(force)
    step_ns = curve.step_ms * 1_000_000
    for event in contested:
        first, last = ((t - curve.start_ns) // step_ns for t in (event.t_ns, event.t_ns + max(0, event.duration_ns)))
        force[max(0, first) : max(0, last + 1)] = 0.0
    return force


def _axis(curve: CurveFacts, braking: bool) -> list[int | None]:
    return curve.longitudinal_cmps2 if braking else curve.lateral_cmps2


def _not_measured(term: Term, trip: DrivenTrip, confidence: Confidence | None, zone: ZoneInfo) -> Found:
    return 0.0, None, []


Finder = Callable[[Term, DrivenTrip, Confidence | None, ZoneInfo], Found]
_FINDERS: Final[dict[str, Finder]] = {
    "events": _events,
    "speeding": _speeding,
    "night": _night,
    "peak": _peak,
    "fast": _fast,
    "roughness": _roughness,
    "mileage": _mileage,
    "hard_braking": _hard(True),
    "hard_turning": _hard(False),
    "not_measured": _not_measured,
}


def exposure_events(trips: Sequence[DrivenTrip]) -> dict[str, int]:
    """Count the events that weigh by "kind.severity", in a fixed order."""
    counts: dict[str, int] = {}
    for event in (e for trip in trips for e in trip.events):
        name = _name(event)
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def _name(event: DrivenEvent) -> str:
    return f"{event.kind}.{event.severity}"
