"""How well a detector's events agree with the truth: recall, precision, severity, per kind (docs/sources.md D5).

An event is the truth's when it is of the same kind and they overlap within ±1 s. Recall asks for what is certainly
moderate or worse; precision accepts what may rightly be called so. A second event for one manoeuvre is a false one.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

import msgspec

from sim.truth import LEVELS, TruthEvent

MATCH_S: Final = 1.0
MODERATE: Final = LEVELS.index("moderate")


@dataclass(frozen=True, slots=True)
class Said:
    """What a detector said: kind, severity, start and duration in s since the drive began, and its peak."""

    kind: str
    severity: str
    confirmed: bool
    t_s: float
    duration_s: float
    peak: float


@dataclass(slots=True)
class Score:
    """Counts for one kind, which add up over drives; `missed` and `false` keep the cases to look at."""

    due: int = 0  # certainly moderate or worse
    found: int = 0  # of those, said confirmed and moderate or worse
    claimed: int = 0  # said confirmed and moderate or worse
    right: int = 0  # of those, may rightly be called so
    unconfirmed: int = 0  # said, any severity, unconfirmed
    unconfirmed_false: int = 0  # of those, nothing there at all
    minor_false: int = 0  # said confirmed minor, nothing there that may be called so
    severity_right: int = 0  # of the matched pairs, severity among the rightful ones
    pairs: int = 0
    peak_error: float = 0.0  # sum of |difference of magnitudes|
    time_error_s: float = 0.0  # sum of |difference of starts|
    missed: list[dict[str, Any]] = field(default_factory=list)
    false: list[dict[str, Any]] = field(default_factory=list)

    @property
    def recall(self) -> float:
        """Return the share of certain events that were found; nan without any."""
        return self.found / self.due if self.due else float("nan")

    @property
    def precision(self) -> float:
        """Return the share of claims that were right; nan without any."""
        return self.right / self.claimed if self.claimed else float("nan")

    def add(self, other: "Score") -> None:
        """Add another drive's counts."""
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))


def score(true: Sequence[TruthEvent], said: Sequence[Said]) -> dict[str, Score]:
    """Compare one drive's events with its truth; both in s since the drive began."""
    kinds = sorted({e.kind for e in true} | {s.kind for s in said})
    return {kind: _score([e for e in true if e.kind == kind], [s for s in said if s.kind == kind]) for kind in kinds}


def _overlap(event: TruthEvent, said: Said) -> bool:
    return said.t_s <= event.t_s + event.duration_s + MATCH_S and event.t_s <= said.t_s + said.duration_s + MATCH_S


def _score(true: list[TruthEvent], said: list[Said]) -> Score:
    result = Score(due=sum(_least(e) >= MODERATE for e in true))
    matched: dict[int, Said] = {}
    # the best claims choose first: confirmed before unconfirmed, severe before minor, then by time
    for claim in sorted(said, key=lambda s: (not s.confirmed, -LEVELS.index(s.severity), s.t_s)):
        if not claim.confirmed:
            # what was seen but not confirmed weighs nothing, so it neither finds nor accuses
            result.unconfirmed += 1
            result.unconfirmed_false += not any(_overlap(e, claim) for e in true)
            continue
        free = [i for i, e in enumerate(true) if i not in matched and _overlap(e, claim)]
        best = min(free, key=lambda i: abs(true[i].t_s - claim.t_s), default=None)
        level = LEVELS.index(claim.severity)
        if best is None:
            result.claimed += level >= MODERATE
            result.minor_false += level < MODERATE
            result.false.append({"said": asdict(claim), "true": None})
            continue
        event = true[best]
        matched[best] = claim
        result.pairs += 1
        result.severity_right += claim.severity in event.severities
        result.peak_error += abs(abs(claim.peak) - abs(event.peak))
        result.time_error_s += abs(claim.t_s - event.t_s)
        if level >= MODERATE:
            result.claimed += 1
            if LEVELS.index(event.severities[-1]) >= MODERATE:
                result.right += 1
            else:
                result.false.append({"said": asdict(claim), "true": msgspec.structs.asdict(event)})
    for i, event in enumerate(true):
        if _least(event) < MODERATE:
            continue
        if i in matched and LEVELS.index(matched[i].severity) >= MODERATE:
            result.found += 1
        else:
            seen = [asdict(s) for s in said if _overlap(event, s)]
            result.missed.append({"true": msgspec.structs.asdict(event), "said": seen})
    return result


def _least(event: TruthEvent) -> int:
    return LEVELS.index(event.severities[0])
