"""A score becomes what a price asks of it."""

from decimal import Decimal

from receiver.pricing.money import to_factor
from receiver.pricing.request import ScoredMileage, Telematics
from receiver.scoring.model import Model
from receiver.scoring.result import ScoreResult

DIGEST_SHOWN = 12  # hex digits: enough to tell two files of one version apart


def telematics_of(result: ScoreResult, model: Model, consent: str) -> Telematics | None:
    """Return the telematics part of a request from a score and its model; None for a model that is not for prices.

    `consent` is the id of the owner's consent to use the score for a price: without one there is nothing to call this
    with. Without evidence the relativity is 1 and the price that of the tables.
    """
    if not result.for_price:
        return None
    mileage = None
    for term in model.terms:
        if term.measure == "mileage" and term.bounds_km is not None:
            driven = next((line.value for line in result.lines if line.term == term.name), None)
            mileage = ScoredMileage(
                km_per_year=round(term.reference_km if driven is None else driven),
                exponent=to_factor(Decimal(repr(term.coefficient))),
                low_km=round(term.bounds_km[0]),
                high_km=round(term.bounds_km[1]),
            )
    return Telematics(
        relativity=to_factor(Decimal(repr(result.relativity))),
        km=Decimal(repr(result.km)).quantize(Decimal("0.1")),
        score_version=f"{result.model} {result.digest[:DIGEST_SHOWN]}",
        consent=consent,
        score=result.score,
        mileage=mileage,
    )
