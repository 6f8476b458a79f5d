"""All cars of a month: how the kept scores lie, and what another version of the model would make of the same driving.

Everything is added up in the database from kept rows: no trip is read, and no place or name is in any answer.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Any, Final

from sqlalchemy import Connection, Engine, exists, func, literal, select, union_all

from receiver import db
from receiver.queries import Page, paged
from receiver.rating import periods
from receiver.rating.batch import Rated, score_all
from receiver.rating.periods import RatingError
from receiver.rating.scores import KeptScore
from receiver.rating.tables import kept_score
from receiver.scoring.model import Model
from receiver.scoring.result import Struct

MOVERS: Final = 20
PAGE: Final = 50  # cars on a page
MONTHS: Final = 25  # that can be chosen: two years and the present month
QUANTILES: Final = (10, 25, 50, 75, 90)


class Distribution(Struct, frozen=True, kw_only=True):
    """How the scores of one month and model lie."""

    model: str
    period: str
    vehicles: int  # for which one is kept
    scored: int  # that have driven enough for a number
    final: int  # of the vehicles: computed after the month had ended
    km: float
    trips: int
    counts: list[int]  # vehicles by score, 0 to 100
    mean: float | None
    quantiles: dict[int, int]  # percent of the scored vehicles -> score that they do not exceed
    credibility: float | None  # mean
    relativity: float | None  # mean, 1 is the average car

    def tens(self) -> list[int]:
        """Return vehicles by ten points: 0 to 9, 10 to 19 … 90 to 100."""
        return [sum(self.counts[n : n + 10 if n < 90 else 101]) for n in range(0, 100, 10)]


class Mover(Struct, frozen=True, kw_only=True):
    """A car that two models see most differently."""

    device: str
    score_a: int
    score_b: int
    relativity_a: float
    relativity_b: float
    credibility_a: float
    credibility_b: float
    km: float

    @property
    def shift(self) -> int:
        """Return how many points it would gain."""
        return self.score_b - self.score_a


class Backtest(Struct, frozen=True, kw_only=True):
    """The same month under two models."""

    a: Distribution
    b: Distribution
    both: int  # vehicles with a number under either
    only_a: int
    only_b: int
    shifts: dict[int, int]  # points gained under b -> vehicles
    mean_shift: float | None
    moved_over_5: int  # vehicles that gain or lose more than five points
    correlation: float | None  # of ranks (Spearman): 1 where the order stays
    movers: list[Mover]  # the most moved first


def distribution(connection: Connection, model: str, period: str) -> Distribution:
    """Return how the kept scores of a month lie; without any, everything is 0 or None."""
    k = kept_score.c
    columns = (k.score, func.count(), func.sum(k.km), func.sum(k.trips), func.sum(k.credibility))
    more = (func.sum(k.relativity), func.count().filter(k.final))
    of = (k.model == model, k.period == period, k.newest)
    rows = connection.execute(select(*columns, *more).where(*of).group_by(k.score)).all()
    counts = [0] * 101
    for row in rows:
        if row[0] is not None:
            counts[row[0]] = row[1]
    told = [row for row in rows if row[0] is not None]
    scored = sum(counts)
    return Distribution(
        model=model,
        period=period,
        vehicles=sum(row[1] for row in rows),
        scored=scored,
        final=sum(row[6] for row in rows),
        km=float(sum(row[2] for row in rows)),
        trips=int(sum(row[3] for row in rows)),
        counts=counts,
        mean=sum(n * count for n, count in enumerate(counts)) / scored if scored else None,
        quantiles=_quantiles(counts, scored),
        credibility=float(sum(row[4] for row in told)) / scored if scored else None,
        relativity=float(sum(row[5] for row in told)) / scored if scored else None,
    )


def listed(connection: Connection, model: str, period: str, page: int) -> tuple[list[KeptScore], Page]:
    """Return one page of a month's cars, by device."""
    k = kept_score.c
    of = (k.model == model, k.period == period, k.newest)
    total = connection.execute(select(func.count()).select_from(kept_score).where(*of)).scalar_one()
    shown = paged(page, total, PAGE)
    query = select(*(k[name] for name in KeptScore._fields)).where(*of).order_by(k.device)
    rows = connection.execute(query.offset((shown.number - 1) * PAGE).limit(PAGE))
    return [KeptScore(*row) for row in rows], shown


def months(connection: Connection, model: Model, now_ns: int) -> list[str]:
    """Return the months of the last MONTHS of which something is kept under a model, the latest first."""
    k = kept_score.c
    candidates = periods.before(now_ns, model.zone, MONTHS)
    found = [select(literal(p)).where(exists().where(k.model == model.id, k.period == p)) for p in candidates]
    return sorted(connection.execute(union_all(*found)).scalars(), reverse=True)


def enrolled(connection: Connection) -> int:
    """Return how many devices are trusted."""
    query = select(func.count()).select_from(db.device).where(db.device.c.state == "accepted")
    return connection.execute(query).scalar_one()


def compare(connection: Connection, model_a: str, model_b: str, period: str, movers: int = MOVERS) -> Backtest:
    """Compare what is kept of a month under two models; raise RatingError where one has nothing."""
    a, b = (distribution(connection, name, period) for name in (model_a, model_b))
    for one in (a, b):
        if not one.vehicles:
            raise RatingError(f"backtest: nothing is kept of {period} under {one.model}; score it first")
    x, y = kept_score.alias("x"), kept_score.alias("y")
    same = (x.c.device == y.c.device) & (x.c.period == y.c.period)
    of = (x.c.model == model_a, y.c.model == model_b, x.c.period == period, x.c.newest, y.c.newest)
    numbers = (x.c.score.is_not(None), y.c.score.is_not(None))
    joined = x.join(y, same)
    pairs = select(x.c.score, y.c.score, func.count()).select_from(joined).where(*of, *numbers)
    joint = [tuple(row) for row in connection.execute(pairs.group_by(x.c.score, y.c.score)).all()]
    both = sum(n for _, _, n in joint)
    shifts: dict[int, int] = {}
    for score_a, score_b, n in joint:
        shifts[score_b - score_a] = shifts.get(score_b - score_a, 0) + n
    moved = func.abs(y.c.score - x.c.score)
    columns: list[Any] = [x.c.device, x.c.score, y.c.score, x.c.relativity, y.c.relativity]
    columns += [x.c.credibility, y.c.credibility, x.c.km]
    most = select(*columns).select_from(joined).where(*of, *numbers, moved > 0).order_by(moved.desc(), x.c.device)
    return Backtest(
        a=a,
        b=b,
        both=both,
        only_a=a.scored - both,
        only_b=b.scored - both,
        shifts=dict(sorted(shifts.items())),
        mean_shift=sum(points * n for points, n in shifts.items()) / both if both else None,
        moved_over_5=sum(n for points, n in shifts.items() if abs(points) > 5),
        correlation=_correlation(joint),
        movers=[_mover(row) for row in connection.execute(most.limit(movers)).all()],
    )


def backtest(
    engine: Engine,
    model_a: Model,
    model_b: Model,
    period: str,
    now_ns: int,
    *,
    workers: int = 1,
    told: Callable[[Rated], None] = lambda _: None,
) -> Backtest:
    """Score a month under both models where that is not kept yet, and compare; raise RatingError."""
    for each in (model_a, model_b):
        score_all(engine, period, each, now_ns, workers=workers, told=told)
    with engine.connect() as connection:
        return compare(connection, model_a.id, model_b.id, period)


def _mover(row: Sequence[Any]) -> Mover:
    return Mover(**dict(zip(Mover.__struct_fields__, row, strict=True)))


def _quantiles(counts: list[int], scored: int) -> dict[int, int]:
    found, below = {}, 0
    left = [q for q in QUANTILES if scored]
    for score, n in enumerate(counts):
        below += n
        while left and 100 * below >= left[0] * scored:
            found[left.pop(0)] = score
    return found


def _correlation(joint: Sequence[Any]) -> float | None:
    """Return Spearman's rank correlation, ties at their mean rank; None where one side does not vary."""
    n = sum(count for _, _, count in joint)
    ranks = [_mean_ranks(joint, side) for side in (0, 1)]
    middle = (n + 1) / 2
    parts = [(ranks[0][a] - middle, ranks[1][b] - middle, count) for a, b, count in joint]
    spread = [sum(part[side] ** 2 * part[2] for part in parts) for side in (0, 1)]
    if not all(s > 0.0 for s in spread):
        return None
    return float(sum(x * y * count for x, y, count in parts)) / sqrt(spread[0] * spread[1])


def _mean_ranks(joint: Sequence[Any], side: int) -> dict[int, float]:
    counts: dict[int, int] = {}
    for row in joint:
        counts[row[side]] = counts.get(row[side], 0) + row[2]
    ranks, below = {}, 0
    for score in sorted(counts):
        ranks[score] = below + (counts[score] + 1) / 2
        below += counts[score]
    return ranks
