"""What the page of a score is given: a result and its course, turned into words, links and bars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final
from urllib.parse import quote

from agent.clock import NS_PER_S
from receiver import charts
from receiver.behind import Behind
from receiver.charts import Bar
from receiver.scoring import telling
from receiver.scoring.model import Model
from receiver.scoring.result import Advice, EntryId, Line, ScoreResult, Share
from receiver.scoring.trend import TrendPoint
from receiver.views import MOST_BANDS, SPEED_BAND_KMH, Figure, when_of
from receiver.words import Words

MOST_SHARES: Final = 8  # named under one line; the others are counted
MOST_LEFT: Final = 20


@dataclass(frozen=True, slots=True)
class Cause:
    """A trip or an event behind points; without an address its record is not there any more."""

    name: str
    address: str
    points: str


@dataclass(frozen=True, slots=True)
class Loss:
    """One line of what was lost; `width` is percent of the longest bar, `looks` known, evidence or price."""

    name: str
    value: str
    best: str
    note: str
    points: str
    width: float
    looks: str
    causes: list[Cause]
    causes_total: int
    more: str


@dataclass(frozen=True, slots=True)
class Raise:
    """One change and what it would give."""

    name: str
    change: str
    gain: str
    score: str


@dataclass(frozen=True, slots=True)
class Month:
    """One month of the course; heights are percent of the scale, None where nothing was driven."""

    label: str
    year: str
    score: int | None
    driving: int | None
    km: str
    events: int


@dataclass(frozen=True, slots=True)
class Beside:
    """One line of two models side by side."""

    name: str
    here: str
    there: str


@dataclass(frozen=True, slots=True)
class ScoreView:
    """A score in words and bars."""

    score: int | None
    sentence: str
    credibility: list[str]
    period: str
    figures: list[Figure]
    bands: list[Bar]
    losses: list[Loss]
    nothing: str
    advice: list[Raise]
    months: list[Month]
    ignored: list[str]
    left: list[tuple[str, Cause]]
    unpriced: bool
    model: str
    digest: str
    assumed: str
    price: str


def score(
    words: Words,
    result: ScoreResult,
    model: Model,
    course: Sequence[TrendPoint],
    found: Mapping[EntryId, Behind],
    linked: bool = True,
) -> ScoreView:
    """Put one score into words; `found` names the trips and events behind it, `linked` leads to them."""
    text = words.text
    scored = [line for line in result.lines if line.scored]
    longest = max([line.lost for line in scored] + [result.not_yet_known, 1])
    free = [line for line in scored if line.lost == 0]
    shown = sorted((line for line in scored if line.lost), key=lambda line: (-line.lost, line.term))
    losses = [_loss(words, result.device, line, longest, found) for line in shown]
    if result.score is not None and model.for_price:
        losses.append(_unknown(words, result, model, longest))
    names = [text.among("score.term", line.term) for line in free if line.value is not None]
    told = ScoreView(
        score=result.score,
        sentence=telling.headline(text, result) if result.score is None else text("my_score.of", score=result.score),
        credibility=_credibility(words, result, model),
        period=_period(words, result),
        figures=_figures(words, result),
        bands=_bands(words, result),
        losses=losses,
        nothing=text("my_score.nothing", terms=text("score.and").join(names)) if names else "",
        advice=[_raise(words, one) for one in result.advice],
        months=[_month(words, point) for point in course],
        ignored=list(telling.left_out(text, result)),
        left=_left(words, result, found),
        unpriced=not model.for_price,
        model=name_of(words, model),
        digest=result.digest[:12],
        assumed=_assumed(words, result),
        price=_price(words, result),
    )
    return told if linked else _unlinked(told)


def _unlinked(told: ScoreView) -> ScoreView:
    """Return the same without a way to trips: who may see a score need not see where somebody was."""
    bare = [replace(one, causes=[replace(c, address="") for c in one.causes]) for one in told.losses]
    return replace(told, losses=bare, left=[(why, replace(c, address="")) for why, c in told.left])


def name_of(words: Words, model: Model) -> str:
    """Name a model with its version."""
    return f"{words.text.among('my_score.model_name', model.name)} {model.version}"


def entries(result: ScoreResult) -> set[EntryId]:
    """Return the signed entries that the page names."""
    wanted = {s.event or s.trip for line in result.lines for s in _largest(line.shares)}
    wanted |= {out.trip for out in result.left_out[-MOST_LEFT:]}
    return wanted | {event.event for event in result.ignored[-MOST_LEFT:]}


def beside(words: Words, one: ScoreResult, other: ScoreResult) -> list[Beside]:
    """Return the points lost by term under two models."""
    text = words.text
    costs = [{line.term: line.lost for line in r.lines if line.scored} for r in (one, other)]
    told = []
    for term in dict.fromkeys([*costs[0], *costs[1]]):
        here, there = (telling.points(cost[term]) if term in cost else text("score.no_term") for cost in costs)
        told.append(Beside(text.among("score.term", term), here, there))
    unknown = [telling.points(r.not_yet_known) for r in (one, other)]
    return [*told, Beside(text("score.term.evidence"), *unknown)]


def _largest(shares: Sequence[Share]) -> list[Share]:
    return sorted(shares, key=lambda s: (-s.lost, s.trip, s.event or s.trip))[:MOST_SHARES]


def _loss(words: Words, device: str, line: Line, longest: int, found: Mapping[EntryId, Behind]) -> Loss:
    text = words.text
    named = _largest(line.shares)
    rest = sum(s.lost for s in line.shares) - sum(s.lost for s in named)
    more = ""
    if len(line.shares) > len(named):
        more = text("my_score.more", n=len(line.shares) - len(named), points=telling.points(rest))
    return Loss(
        name=text.among("score.term", line.term),
        value=telling.value(text, line.value, line.unit),
        best=text("my_score.best", value=telling.value(text, line.best, line.unit)),
        note=text("my_score.capped", value=telling.value(text, line.cap, line.unit)) if line.capped else "",
        points=telling.points(line.lost),
        width=100.0 * line.lost / longest,
        looks="known",
        causes=[_cause(words, device, s.event or s.trip, found, telling.points(s.lost)) for s in named],
        causes_total=len(line.shares),
        more=more,
    )


def _unknown(words: Words, result: ScoreResult, model: Model, longest: int) -> Loss:
    """Return the line of what only more kilometres can give."""
    text = words.text
    return Loss(
        name=text("score.term.evidence"),
        value=text("score.unit.km", n=f"{result.km:,.0f}"),
        best="",
        note=text("my_score.unknown", half=f"{model.credibility_km:,.0f}"),
        points=telling.points(result.not_yet_known),
        width=100.0 * result.not_yet_known / longest,
        looks="evidence",
        causes=[],
        causes_total=0,
        more="",
    )


def _cause(words: Words, device: str, entry: EntryId, found: Mapping[EntryId, Behind], points: str) -> Cause:
    text, one = words.text, found.get(entry)
    if one is None:
        return Cause(text("my_score.gone", entry=f"{entry.lane} {entry.seq}"), "", points)
    when = when_of(words, one.clock.utc_ns(one.t_ns), one.received_utc_ns)
    trip = f"/vehicles/{quote(device, safe='')}/trips/{one.trip_id}"
    if not one.mark:
        return Cause(text("my_score.trip", when=when, km=words.km(one.distance_m)), trip, points)
    kind, severity = text.among("kind", one.kind), text.among("severity", one.severity)
    named = text("my_score.event", kind=kind, severity=severity, when=when)
    address = f"{trip}#event-{one.mark}" if one.trip_id else f"/vehicles/{quote(device, safe='')}/events"
    return Cause(named, address, points)


def _credibility(words: Words, result: ScoreResult, model: Model) -> list[str]:
    """Say in plain words how far the score is believed, and why."""
    text = words.text
    if result.score is None:
        return []
    km = f"{result.km:,.0f}"
    if not model.for_price:
        return [text("my_score.unpriced", km=km)]
    share = words.percent(result.credibility)
    said = [text("my_score.believed", km=km, share=share, start=result.start)]
    if result.credibility < 0.5:
        said.append(text("my_score.little", half=f"{model.credibility_km:,.0f}"))
    return said


def _period(words: Words, result: ScoreResult) -> str:
    if result.period is None:
        return ""
    first, last = words.date(result.period.start_utc_ns), words.date(result.period.end_utc_ns - NS_PER_S)
    return words.text("my_score.period", first=first, last=last)


def _figures(words: Words, result: ScoreResult) -> list[Figure]:
    text, e = words.text, result.exposure
    unknown = text("score.unknown")

    def share(value: float | None) -> tuple[str, str]:
        return (unknown, "") if value is None else (words.percent(value), "%")

    year = None if result.period is None else result.period.km_year
    return [
        Figure(text("my_score.km"), f"{e.km:,.0f}", text("unit.km")),
        Figure(text("my_score.trips"), f"{e.trips:,}", ""),
        Figure(text("my_score.hours"), words.duration(3600 * e.hours), ""),
        Figure(text("my_score.night"), *share(e.night_share)),
        Figure(text("my_score.peak"), *share(e.peak_share)),
        Figure(text("my_score.year"), unknown if year is None else f"{year:,.0f}", "" if year is None else "km"),
        Figure(text("my_score.quality"), *share(e.quality)),
    ]


def _bands(words: Words, result: ScoreResult) -> list[Bar]:
    hours = result.exposure.speed_bands_h[:MOST_BANDS]
    while hours and hours[-1] <= 0:
        hours.pop()
    labels = [f"{SPEED_BAND_KMH * i}" for i in range(len(hours))]
    return charts.bars([3600 * h for h in hours], words.duration, labels)


def _raise(words: Words, one: Advice) -> Raise:
    text = words.text
    now, then = telling.value(text, one.now, one.unit), telling.value(text, one.then, one.unit)
    gain = f"+{telling.points(one.gain)}"
    total = text("my_score.then", score=one.score)
    if one.term == "evidence":
        return Raise(text("my_score.raise_evidence"), text("my_score.change_evidence"), gain, total)
    return Raise(text.among("score.term", one.term), text("my_score.change", now=now, then=then), gain, total)


def _month(words: Words, point: TrendPoint) -> Month:
    day = date.fromisoformat(point.first_day)
    label = words.text.listed("time.months")[day.month - 1]
    return Month(label, f"{day.year}", point.score, point.driving, f"{point.km:,.0f}", point.events)


def _left(words: Words, result: ScoreResult, found: Mapping[EntryId, Behind]) -> list[tuple[str, Cause]]:
    """Return the latest trips that were not scored and events that weigh nothing, each with its reason."""
    text = words.text
    told = [
        (text(f"my_score.why.{out.reason}"), _cause(words, result.device, out.trip, found, ""))
        for out in reversed(result.left_out[-MOST_LEFT:])
    ]
    told += [
        (text(f"my_score.why.{out.reason}"), _cause(words, result.device, out.event, found, ""))
        for out in reversed(result.ignored[-MOST_LEFT:])
    ]
    return told


def _assumed(words: Words, result: ScoreResult) -> str:
    """Say which terms stand on data and which on judgement."""
    text = words.text
    by = {
        s: [text.among("score.term", x.term) for x in result.lines if x.status == s] for s in ("calibrated", "assumed")
    }
    said = [text(f"my_score.{status}", terms=text("score.and").join(names)) for status, names in by.items() if names]
    return (" " if text.language == "en" else "").join(said)


def _price(words: Words, result: ScoreResult) -> str:
    if not result.for_price or result.score is None:
        return ""
    return words.text("score.relativity", r=f"{result.relativity:.3f}", z=f"{100 * result.credibility:.0f}")
