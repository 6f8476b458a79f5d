"""A score in words, one language at a time: what was lost for what, what was left out, what would raise it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from receiver.scoring.result import Advice, Line, ScoreResult
from receiver.scoring.trend import TrendPoint
from receiver.texts import Text

# unit of a term -> digits that say something
_DIGITS: Final = {"per_100_km": 2, "percent_km": 1, "percent_time": 1, "mps2": 2, "km_year": 0, "km": 0}


def points(hundredths: int) -> str:
    """Write hundredths of a point: 12.5 points as 12.50, since lines must add up to the eye as well."""
    return f"{hundredths / 100:.2f}"


def value(text: Text, amount: float | None, unit: str) -> str:
    """Write what was measured with its unit."""
    if amount is None:
        return text("score.unknown")
    return text(f"score.unit.{unit}", n=f"{amount:,.{_DIGITS.get(unit, 1)}f}")


def headline(text: Text, result: ScoreResult) -> str:
    """Return the score in a sentence, with how sure it is."""
    if result.score is None:
        return text("score.none")
    km = f"{result.km:,.0f}"
    if not result.for_price:
        return text("score.headline_unpriced", score=result.score, km=km)
    share = f"{100 * result.credibility:.0f}"
    return text("score.headline", score=result.score, km=km, share=share, start=result.start)


def line(text: Text, one: Line) -> str:
    """Return what one term was, what would be best, and which points it costs."""
    name, measured = text.among("score.term", one.term), value(text, one.value, one.unit)
    if not one.scored:
        return text("score.line_unscored", term=name, value=measured)
    if one.value is None:
        return text("score.line_unknown", term=name)
    key = "score.line_capped" if one.capped else "score.line"
    return text(key, term=name, value=measured, points=points(one.lost))


def advice(text: Text, one: Advice) -> str:
    """Return one thing that would raise the score, and by how much."""
    now, then = value(text, one.now, one.unit), value(text, one.then, one.unit)
    gain = points(one.gain)
    if one.term == "evidence":
        return text("score.raise_evidence", gain=gain, score=one.score)
    return text("score.raise", term=text.among("score.term", one.term), now=now, then=then, gain=gain, score=one.score)


def left_out(text: Text, result: ScoreResult) -> Iterator[str]:
    """Return how many trips and events do not count, by reason."""
    for reason, n in sorted(Counter(trip.reason for trip in result.left_out).items()):
        yield text.many(f"score.left_out.{reason}", n)
    for why, n in sorted(Counter(event.reason for event in result.ignored).items()):
        yield text.many(f"score.ignored.{why}", n)


def whole(text: Text, result: ScoreResult) -> Iterator[str]:
    """Return all of it, for a terminal."""
    yield text("score.of", device=result.device, model=result.model)
    yield headline(text, result)
    if result.score is not None:
        yield text("score.lost", points=points(result.lost))
        if result.for_price:
            yield "  " + text("score.line_evidence", points=points(result.not_yet_known))
        nothing = [each for each in result.lines if each.scored and each.value is not None and each.lost == 0]
        for one in sorted((each for each in result.lines if each not in nothing), key=lambda each: -each.lost):
            yield "  " + line(text, one)
            for share in sorted(one.shares, key=lambda each: -each.lost)[:3]:
                at = share.event or share.trip
                key = "score.share_event" if share.event else "score.share_trip"
                yield "    " + text(key, entry=f"{at.lineage} {at.lane} {at.seq}", points=points(share.lost))
        if nothing:
            terms = text("score.and").join(text.among("score.term", each.term) for each in nothing)
            yield "  " + text("score.line_nothing", terms=terms)
    if result.for_price:
        yield text("score.relativity", r=f"{result.relativity:.3f}", z=f"{100 * result.credibility:.0f}")
    for n, each in enumerate(result.advice):
        yield (text("score.raise_title") + " " if n == 0 else "  ") + advice(text, each)
    yield from left_out(text, result)


def side_by_side(text: Text, one: ScoreResult, other: ScoreResult) -> Iterator[str]:
    """Return the same driving under two models, term by term."""
    said = [text("score.none_short") if r.score is None else str(r.score) for r in (one, other)]
    yield text("score.beside", a=one.model, a_score=said[0], b=other.model, b_score=said[1])
    costs = [{each.term: each.lost for each in r.lines if each.scored} for r in (one, other)]
    for term in dict.fromkeys([*costs[0], *costs[1]]):
        a, b = (points(each[term]) if term in each else text("score.no_term") for each in costs)
        yield "  " + text("score.beside_line", term=text.among("score.term", term), a=a, b=b)
    evidence = [points(r.not_yet_known) for r in (one, other)]
    yield "  " + text("score.beside_line", term=text("score.term.evidence"), a=evidence[0], b=evidence[1])


def course(text: Text, told: Sequence[TrendPoint]) -> Iterator[str]:
    """Return how the score went, a line for each week or month."""
    none = text("score.none_short")
    for one in told:
        stood, alone = (none if n is None else str(n) for n in (one.score, one.driving))
        yield text("score.course", day=one.first_day, score=stood, alone=alone, km=f"{one.km:,.0f}", events=one.events)
