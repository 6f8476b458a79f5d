"""What would raise a score: one change at a time, everything else as it is, the largest gain first."""

from collections.abc import Sequence
from math import fsum
from typing import Final, Protocol

from receiver.scoring.model import Model, Term
from receiver.scoring.result import Advice
from receiver.scoring.verdict import Values, best_value, judge, shown

MOST: Final = 5
HALF: Final = 0.5  # of what is above the best: half as many brakings, half as much night driving
KM_SHARE: Final = 0.9  # a tenth less driving: nobody halves the way to work
MORE_KM: Final = 1000.0


class _Group(Protocol):
    @property
    def km(self) -> float: ...
    @property
    def weight(self) -> float: ...


def advise(model: Model, values: Sequence[Values], groups: Sequence[_Group], points: float) -> list[Advice]:
    """Return what would raise the score most; `values` are those of the groups, `points` what they come to now."""
    km = fsum(g.km for g in groups)
    told = []
    for n, term in enumerate(model.terms):
        known = [(g, v[n]) for g, v in zip(groups, values, strict=True)]
        if not term.scored or all(value is None for _, value in known):
            continue
        changed = [_improved(model, n, v) for v in values]
        weight = fsum(g.weight for g, x in known if x is not None)
        now = fsum(g.weight * x for g, x in known if x is not None) / weight
        then = (
            fsum(g.weight * x for g, x in zip(groups, (v[n] for v in changed), strict=True) if x is not None) / weight
        )
        told.append(_told(model, term.name, (now, then, term.unit), changed, groups, 0.0, points))
    if model.credibility_km > 0.0:
        told.append(_told(model, "evidence", (km, km + MORE_KM, "km"), values, groups, MORE_KM, points))
    return sorted((a for a in told if a.gain > 0), key=lambda a: (-a.gain, a.term))[:MOST]


def _improved(model: Model, n: int, values: Values) -> list[float | None]:
    """Return the values with term `n` better, and with it those that count the same driving."""
    term, now = model.terms[n], values[n]
    then = _better(term, now)
    fewer = 0.0 if now is None or then is None else max(0.0, now - then)
    told = []
    for other, value in zip(model.terms, values, strict=True):
        if other is term:
            told.append(then)
        elif value is None or other.measure != term.measure:
            told.append(value)
        elif _part_of(other, term):
            told.append(_better(other, value))
        elif _part_of(term, other) and term.measure == "events":
            told.append(max(0.0, value - fewer))
        else:  # who no longer drives far above the limit may still drive above it
            told.append(value)
    return told


def _part_of(one: Term, other: Term) -> bool:
    """Say whether everything that `one` counts is counted by `other` as well."""
    if one.measure == "events":
        return set(one.kinds) <= set(other.kinds) and set(one.severities) < set(other.severities)
    return one.measure == "speeding" and one.over_share > other.over_share


def _better(term: Term, value: float | None) -> float | None:
    if value is None:
        return None
    if term.bounds_km is not None:
        return value * KM_SHARE
    best = best_value(term)
    counted = value if term.cap is None else min(value, term.cap)  # above the cap half of it might not show
    return best + HALF * max(0.0, counted - best)


def _told(
    model: Model,
    term: str,
    change: tuple[float, float, str],
    values: Sequence[Values],
    groups: Sequence[_Group],
    more_km: float,
    points: float,
) -> Advice:
    then = fsum(g.weight * judge(model, v, g.km + more_km).points for g, v in zip(groups, values, strict=True))
    gain = round(100.0 * (then - points))
    return Advice(term=term, now=change[0], then=change[1], unit=change[2], gain=gain, score=shown(then))
