"""From values of terms to relativity, credibility and points, and from points lost back to terms, exactly.

The score depends on the terms only through their sum, so its Aumann-Shapley shares along the straight way from the
best driving to this one are proportional to each term's distance from its best (Aumann and Shapley, Values of
Non-Atomic Games, 1974); they add up whatever the map, the clamps and the credibility between (decision 0220).
"""

from collections.abc import Sequence
from math import exp, fsum, log
from typing import NamedTuple

import numpy as np

from receiver.scoring.model import Model, Term

Values = Sequence[float | None]  # one for each term, in the model's order; None where nobody knows


class Verdict(NamedTuple):
    """What one set of values comes to; points are 0..100 and unrounded."""

    relativity: float
    relativity_without_mileage: float
    credibility: float
    points: float
    not_yet_known: float  # points that the best driving would lack as well, for want of kilometres
    lost: list[float]  # points lost by term


def effective(term: Term, value: float) -> float:
    """Return the value within what the term counts, on the scale that its coefficient is for."""
    if term.bounds_km is not None:
        low, high = term.bounds_km
        return log(min(max(value, low), high) / term.reference_km)
    bounded = max(value, term.best)
    return bounded if term.cap is None else min(bounded, term.cap)


def effect(term: Term, value: float | None) -> float:
    """Return the term's addend to ln(relativity); 0, as the average vehicle's, where the value is not known."""
    return 0.0 if value is None else term.coefficient * (effective(term, value) - term.centre)


def best_value(term: Term) -> float:
    """Return the value at which the term costs nothing."""
    return term.bounds_km[0] if term.bounds_km is not None else term.best


def judge(model: Model, values: Values, km: float) -> Verdict:
    """Judge values measured over `km` scored kilometres (above 0)."""
    told = list(zip(model.terms, values, strict=True))
    effects = [effect(term, value) for term, value in told]
    spared = [
        e - effect(term, None if value is None else best_value(term)) if term.scored else 0.0
        for (term, value), e in zip(told, effects, strict=True)
    ]
    scored = fsum(e for (term, _), e in zip(told, effects, strict=True) if term.scored)
    credibility = model.credibility(km)
    points = model.points(_credible(model.base * exp(scored), credibility))
    best = model.points(_credible(model.base * exp(scored - fsum(spared)), credibility))
    whole = fsum(spared)
    rate = (best - points) / whole if whole > 0.0 else 0.0
    return Verdict(
        relativity=model.base * exp(fsum(effects)),
        relativity_without_mileage=model.base
        * exp(fsum(e for (term, _), e in zip(told, effects, strict=True) if term.measure != "mileage")),
        credibility=credibility,
        points=points,
        not_yet_known=100.0 - best,
        lost=[rate * each for each in spared],
    )


def _credible(relativity: float, credibility: float) -> float:
    """Mix what was seen with the average, as the price does (1 + Z (r - 1))."""
    return 1.0 + credibility * (relativity - 1.0)


def allot(total: int, weights: Sequence[float]) -> list[int]:
    """Share whole hundredths in proportion to weights of at least 0, by largest remainder: they add up to `total`."""
    w = np.asarray(weights, dtype=np.float64)
    whole = float(w.sum())
    if total == 0 or whole <= 0.0:
        return [0] * len(w)
    exact = w / whole * total
    parts = np.floor(exact).astype(np.int64)
    missing = total - int(parts.sum())
    # Rounding of `exact` can leave one too many as well; the first in the order gives or takes.
    order = (
        np.argsort(parts - exact, kind="stable")[: abs(missing)] if missing >= 0 else np.flatnonzero(parts)[:-missing]
    )
    parts[order] += 1 if missing >= 0 else -1
    shared: list[int] = parts.tolist()
    return shared


def shown(points: float) -> int:
    """Round points to a whole score, halves up."""
    return int(points + 0.5)
