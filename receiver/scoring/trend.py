"""How a score went: as it stood at the end of every week or month, and how that week or month was by itself."""

from bisect import bisect_left
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from math import fsum
from typing import Final, Literal

import numpy as np
from sqlalchemy import Engine

from agent.clock import NS_PER_S
from receiver.scoring.choosing import choose
from receiver.scoring.driven import History, read_history
from receiver.scoring.measures import measure
from receiver.scoring.model import Model
from receiver.scoring.result import Struct
from receiver.scoring.score import (
    DAY_NS,
    group,
    km_a_year,
    last_drive_utc_ns,
    mean,
    values_of,
)
from receiver.scoring.verdict import judge, shown
from receiver.words import time_zone

Step = Literal["week", "month"]
DEFAULT_STEPS: Final = {"week": 26, "month": 12}


class TrendPoint(Struct, frozen=True, kw_only=True):
    """One week (from Monday) or month, in the model's zone."""

    first_day: str  # ISO date
    km: float  # scored in it
    events: int  # that weigh
    score: int | None  # as it stood at its end, over the model's window
    credibility: float
    driving: int | None  # that week or month by itself, as if it were known for sure; None without kilometres


def trend(
    engine: Engine,
    device: str,
    model: Model,
    by: Step = "week",
    end_utc_ns: int | None = None,
    steps: int | None = None,
    since_utc_ns: int = 0,
) -> list[TrendPoint]:
    """Return the last weeks or months up to `end` (or the last drive), the oldest first; empty without dated trips.

    What was driven before `since` is not looked at.
    """
    end = last_drive_utc_ns(engine, device) if end_utc_ns is None else end_utc_ns
    if end is None:
        return []
    bounds = _bounds(end, by, DEFAULT_STEPS[by] if steps is None else steps, model.zone)
    start = max(bounds[0][1] - model.window_days * DAY_NS, since_utc_ns)
    history = read_history(engine, device, start, end, model.needs_curves)
    return trend_of(history, model, bounds, end)


def trend_of(
    history: History,
    model: Model,
    bounds: list[tuple[str, int]],
    end_utc_ns: int,
) -> list[TrendPoint]:
    """Return a point for every period between neighbours of `bounds` (first day, UTC ns), cut at `end`."""
    chosen = choose(history, model)
    measured = measure(model, chosen.trips)
    starts = [trip.start_utc_ns or 0 for trip in chosen.trips]
    first = min((utc for utc, _ in chosen.dated), default=end_utc_ns)

    def judged(begin: int, until: int, sure: bool) -> tuple[float, float] | None:
        low, high = bisect_left(starts, begin), bisect_left(starts, until)
        groups = group(model, chosen.trips[low:high])
        if not groups:
            return None
        km_year = km_a_year(chosen.dated, max(begin, first), until, model.min_days)
        verdicts = [judge(model, values_of(measured, g.of + low, km_year), np.inf if sure else g.km) for g in groups]
        return mean(verdicts, groups), verdicts[0].credibility if model.for_price else 0.0

    told = []
    for (day, begin), (_, after) in pairwise(bounds):
        until = min(after, end_utc_ns)
        stood = judged(until - model.window_days * DAY_NS, until, False)
        alone = judged(begin, until, True)
        own = chosen.trips[bisect_left(starts, begin) : bisect_left(starts, until)]
        told.append(
            TrendPoint(
                first_day=day,
                km=fsum(trip.km for trip in own),
                events=sum(len(trip.events) for trip in own),
                score=None if stood is None else shown(stood[0]),
                credibility=0.0 if stood is None else stood[1],
                driving=None if alone is None else shown(alone[0]),
            )
        )
    return told


def _bounds(end_utc_ns: int, by: Step, steps: int, zone_name: str) -> list[tuple[str, int]]:
    """Return the beginnings of the last periods up to the one that holds `end`, and of the one after it."""
    zone = time_zone(zone_name)
    last = datetime.fromtimestamp((end_utc_ns - 1) // NS_PER_S, UTC).astimezone(zone).date()
    day = last - timedelta(days=last.weekday()) if by == "week" else last.replace(day=1)
    days = [_moved(day, by, n) for n in range(1 - steps, 2)]
    return [(d.isoformat(), _utc_ns(datetime(d.year, d.month, d.day, tzinfo=zone))) for d in days]


def _moved(day: date, by: Step, steps: int) -> date:
    if by == "week":
        return day + timedelta(weeks=steps)
    months = day.year * 12 + day.month - 1 + steps
    return date(months // 12, months % 12 + 1, 1)


def _utc_ns(at: datetime) -> int:
    return round(at.timestamp()) * NS_PER_S
