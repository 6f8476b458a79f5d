"""The score of a vehicle: read, choose, measure, judge, and say what each point lost is for."""

from dataclasses import dataclass
from datetime import UTC, datetime
from math import fsum
from typing import Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import Engine, func, select

from agent.clock import NS_PER_S
from receiver import db
from receiver.scoring.advice import advise
from receiver.scoring.choosing import Selection, choose
from receiver.scoring.driven import DrivenTrip, History, read_history
from receiver.scoring.measures import PEAK_HOURS, Measured, exposure_events, measure, seconds_within
from receiver.scoring.model import Model
from receiver.scoring.result import EntryId, Exposure, Line, Mileage, Period, ScoreResult, Share
from receiver.scoring.verdict import Verdict, allot, best_value, effect, judge, shown
from receiver.words import time_zone

DAY_NS: Final = 86_400 * NS_PER_S
YEAR_DAYS: Final = 365.25
KEPT: Final = 1e-12  # a share of a day's loss below this is rounding

Of = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Group:
    """Trips that are judged together: all of them, or those of one day."""

    of: Of
    km: float
    weight: float  # share of the kilometres


def score_vehicle(
    engine: Engine,
    device: str,
    model: Model,
    start_utc_ns: int | None = None,
    end_utc_ns: int | None = None,
) -> ScoreResult:
    """Score one vehicle over the trips that began in [start, end).

    Without an end: up to the end of its last trip; without a start: the model's window before the end.
    """
    end = last_drive_utc_ns(engine, device) if end_utc_ns is None else end_utc_ns
    start = end - model.window_days * DAY_NS if start_utc_ns is None and end is not None else start_utc_ns
    history = read_history(engine, device, start, end, model.needs_curves)
    return score_history(history, model, start, end)


def score_history(
    history: History,
    model: Model,
    start_utc_ns: int | None = None,
    end_utc_ns: int | None = None,
) -> ScoreResult:
    """Score what was read; the order of trips and events does not matter."""
    chosen = choose(history, model)
    measured = measure(model, chosen.trips)
    period = _period(chosen, model, start_utc_ns, end_utc_ns)
    groups = group(model, chosen.trips)
    km_year = period.km_year if period else None
    values = [values_of(measured, g.of, km_year) for g in groups]
    verdicts = [judge(model, v, g.km) for v, g in zip(values, groups, strict=True)]
    km = fsum(trip.km for trip in chosen.trips)
    overall = values_of(measured, _all(chosen.trips), km_year) if chosen.trips else [None] * len(model.terms)
    points = mean(verdicts, groups) if groups else None
    score = None if points is None else shown(points)
    lost = 0 if score is None else 100 * (100 - score)
    unknown = fsum(g.weight * v.not_yet_known for g, v in zip(groups, verdicts, strict=True))
    by_term = [fsum(g.weight * v.lost[n] for g, v in zip(groups, verdicts, strict=True)) for n in range(len(measured))]
    not_yet_known, *allotted = allot(lost, [unknown, *by_term])
    priced = model.for_price and bool(verdicts)
    return ScoreResult(
        device=history.device,
        model=model.id,
        digest=model.digest,
        for_price=model.for_price,
        score=score,
        start=shown(model.points(1.0)) if model.for_price else None,
        relativity=verdicts[0].relativity if priced else 1.0,
        relativity_without_mileage=verdicts[0].relativity_without_mileage if priced else 1.0,
        mileage=_mileage(model, km_year) if priced else None,
        credibility=verdicts[0].credibility if priced else 0.0,
        km=km,
        period=period,
        exposure=_exposure(chosen, model, km),
        lost=lost,
        not_yet_known=not_yet_known,
        lines=[
            _line(m, value, part, _shares(m, n, part, chosen.trips, groups, verdicts))
            for n, (m, value, part) in enumerate(zip(measured, overall, allotted, strict=True))
        ],
        left_out=chosen.left_out,
        ignored=chosen.ignored,
        advice=advise(model, values, groups, points) if points is not None else [],
    )


def last_drive_utc_ns(engine: Engine, device: str) -> int | None:
    """Return when the last trip with a known time ended."""
    ended = func.max(db.trip.c.end_ns + db.boot_clock.c.offset_ns)
    with db.reading(engine) as connection:
        found: int | None = connection.execute(
            select(ended).select_from(db.with_clock(db.trip)).where(db.trip.c.device == device)
        ).scalar()
    return found


def group(model: Model, trips: list[DrivenTrip]) -> list[Group]:
    """Put trips into the groups in which the model judges them; those without a kilometre are none."""
    if not trips:
        return []
    km = np.array([trip.km for trip in trips], dtype=np.float64)
    if not model.daily:
        return [Group(_all(trips), float(km.sum()), 1.0)]
    zone = time_zone(model.zone)
    days: dict[object, list[int]] = {}
    for n, trip in enumerate(trips):
        assert trip.start_utc_ns is not None
        days.setdefault(datetime.fromtimestamp(trip.start_utc_ns / NS_PER_S, UTC).astimezone(zone).date(), []).append(n)
    whole = float(km.sum())
    told = (np.array(numbers, dtype=np.intp) for numbers in days.values())
    return [Group(of, float(km[of].sum()), float(km[of].sum()) / whole) for of in told]


def values_of(measured: list[Measured], of: Of, km_year: float | None) -> list[float | None]:
    """Return the value of every term over some trips."""
    return [km_year if m.term.measure == "mileage" else m.value(of) for m in measured]


def mean(verdicts: list[Verdict], groups: list[Group]) -> float:
    """Return the points of all groups, weighted by their kilometres."""
    return fsum(g.weight * v.points for g, v in zip(groups, verdicts, strict=True))


def km_a_year(dated: list[tuple[int, float]], start_utc_ns: int, end_utc_ns: int, min_days: float) -> float | None:
    """Return the kilometres of [start, end) as those of a year; None for less than `min_days`."""
    days = (end_utc_ns - start_utc_ns) / DAY_NS
    if days < min_days or days <= 0.0:
        return None
    return fsum(km for utc, km in dated if start_utc_ns <= utc < end_utc_ns) / days * YEAR_DAYS


def _all(trips: list[DrivenTrip]) -> Of:
    return np.arange(len(trips), dtype=np.intp)


def _period(chosen: Selection, model: Model, start: int | None, end: int | None) -> Period | None:
    """Return the period, which begins no earlier than the first trip: a box cannot know what was before it."""
    if not chosen.dated:
        return None
    first = min(utc for utc, _ in chosen.dated)
    begin = first if start is None else max(start, first)
    last = (
        max(t.start_utc_ns + _length_ns(t) for t in chosen.trips if t.start_utc_ns is not None)
        if chosen.trips
        else first
    )
    until = max(last, begin) if end is None else end
    km_year = km_a_year(chosen.dated, begin, until, model.min_days)
    return Period(start_utc_ns=begin, end_utc_ns=until, days=(until - begin) / DAY_NS, km_year=km_year)


def _length_ns(trip: DrivenTrip) -> int:
    return trip.facts.end_ns - trip.facts.start_ns if trip.facts else 0


def _exposure(chosen: Selection, model: Model, km: float) -> Exposure:
    facts = [trip.facts for trip in chosen.trips if trip.facts]
    driven = fsum(fsum(f.hour_of_day_s) for f in facts)
    peak = fsum(seconds_within(trip, PEAK_HOURS, time_zone(model.zone)) for trip in chosen.trips)
    moving = fsum(f.moving_s for f in facts)
    widest = max((len(f.speed_histogram_s) for f in facts), default=0)
    bands = np.zeros(widest)
    for f in facts:
        bands[: len(f.speed_histogram_s)] += f.speed_histogram_s
    left = fsum(out.km or 0.0 for out in chosen.left_out if out.reason != "duplicate")
    return Exposure(
        trips=len(facts),
        km=km,
        hours=fsum((f.end_ns - f.start_ns) / NS_PER_S for f in facts) / 3600.0,
        night_share=min(1.0, fsum(f.night_s for f in facts) / driven) if driven > 0.0 else None,
        peak_share=min(1.0, peak / driven) if driven > 0.0 else None,
        speed_bands_h=(bands / 3600.0).tolist(),
        roughness_mps2=fsum(f.smoothness_mps2 * f.moving_s for f in facts) / moving if moving > 0.0 else None,
        events=exposure_events(chosen.trips),
        left_out_km=left,
        quality=km / (km + left) if km + left > 0.0 else None,
    )


def _mileage(model: Model, km_year: float | None) -> Mileage | None:
    for term in model.terms:
        if term.bounds_km is not None and km_year is not None:
            low, high = term.bounds_km
            return Mileage(
                km_year=km_year,
                reference_km=term.reference_km,
                exponent=term.coefficient,
                low_km=low,
                high_km=high,
            )
    return None


def _line(measured: Measured, value: float | None, lost: int, shares: list[Share]) -> Line:
    term = measured.term
    cap = term.bounds_km[1] if term.bounds_km is not None else term.cap
    return Line(
        term=term.name,
        value=value,
        unit=term.unit,
        best=best_value(term),
        cap=cap,
        capped=value is not None and cap is not None and value > cap,
        log_effect=effect(term, value),
        scored=term.scored,
        status=term.status,
        lost=lost,
        shares=shares,
    )


def _shares(
    measured: Measured, n: int, lost: int, trips: list[DrivenTrip], groups: list[Group], verdicts: list[Verdict]
) -> list[Share]:
    """Share a line's loss among the trips and events behind it, each day's loss among those of the day."""
    if lost == 0:
        return []
    owners: list[tuple[EntryId, EntryId | None]] = []
    weights: list[float] = []
    for each, verdict in zip(groups, verdicts, strict=True):
        loss = each.weight * verdict.lost[n]
        excess = [measured.excess(int(k)) for k in each.of]
        whole = fsum(excess)
        if loss <= KEPT or whole <= 0.0:
            continue
        for k, part in zip(each.of.tolist(), excess, strict=True):
            if part <= 0.0:
                continue
            events = measured.events[k] or [(None, 1.0)]
            among = fsum(weight for _, weight in events)
            for event, weight in events:
                owners.append((trips[k].id, event))
                weights.append(loss * part / whole * weight / among)
    told = zip(owners, allot(lost, weights), strict=True)
    return [Share(trip=trip, event=event, lost=part) for (trip, event), part in told if part]
