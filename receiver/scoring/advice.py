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
        changed = [[_better(term, x) if k == n else x for k, x in enumerate(v)] for v in values]
        weight = fsum(g.weight for g, x in known if x is not None)
        now = fsum(g.weight * x for g, x in known if x is not None) / weight
        then = (
            fsum(g.weight * x for g, x in zip(groups, (v[n] for v in changed), strict=True) if x is not None) / weight
        )
        told.append(_told(model, term.name, (now, then, term.unit), changed, groups, 0.0, points))
    if model.credibility_km > 0.0:
        told.append(_told(model, "evidence", (km, km + MORE_KM, "km"), values, groups, MORE_KM, points))
    return sorted((a for a in told if a.gain > 0), key=lambda a: (-a.gain, a.term))[:MOST]


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
