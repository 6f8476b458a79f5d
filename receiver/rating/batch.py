"""Score every car of a month whose owner agreed: page by page, and past what is kept, so that a run cut short goes on.

A car is scored again where a trip or event of the time arrived, or a dispute was opened or decided, since it was kept.
A clock that a device learned later leaves no such sign: `again` scores everybody anew.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, and_, exists, func, or_, select

from receiver import db
from receiver.claiming.tables import dispute
from receiver.rating import periods, scores
from receiver.rating.tables import kept_score
from receiver.registry import consents
from receiver.scoring.model import Model

PAGE: Final = 50  # cars that are computed together and kept in one transaction: a run that is cut loses no more

Rows = list[dict[str, Any]]
What = tuple[str, Model, int]  # month, model, now


class Page(NamedTuple):
    """Some devices, and those of them that are to be computed."""

    vehicles: int
    not_agreed: int
    todo: list[str]


class Rated(NamedTuple):
    """What a run did."""

    vehicles: int
    not_agreed: int  # of them: whose owner has not agreed to a score
    computed: int
    changed: int  # kept anew or with another result than before


def score_all(
    engine: Engine,
    period: str,
    model: Model,
    now_ns: int,
    *,
    again: bool = False,
    workers: int = 1,
    told: Callable[[Rated], None] = lambda _: None,
) -> Rated:
    """Score every enrolled device for a month and keep that; `told` hears how far it is after every page.

    With `again` also those that nothing changed for. Memory is that of a page for each worker. Raise RatingError for
    no month or one to come.
    """
    ends = periods.begun(period, model.zone, now_ns)
    done = Rated(0, 0, 0, 0)
    pages = _pages(engine, (period, model, now_ns), ends, again)
    for page, rows in _computed(engine, pages, (period, model, now_ns), workers):
        changed = 0
        with engine.begin() as connection:
            agreed = consents.agreed(
                connection, page.todo, scores.PURPOSE, consents.ALWAYS_NS
            )  # and not withdrawn meanwhile
            for row in rows:
                changed += row["device"] in agreed and scores.keep(connection, row).computed_utc_ns == now_ns
        counts = (page.vehicles, page.not_agreed, len(rows), changed)
        done = Rated(*(a + b for a, b in zip(done, counts, strict=True)))
        told(done)
    return done


def _pages(engine: Engine, what: What, ends_ns: int, again: bool) -> Iterator[Page]:
    period, model, now_ns = what
    after = ""
    ids = db.device.c.id
    while True:
        with db.reading(engine) as connection:
            names = list(connection.execute(select(ids).where(ids > after).order_by(ids).limit(PAGE)).scalars())
            if not names:
                return
            agreed = consents.agreed(connection, names, scores.PURPOSE, now_ns)
            settled = set() if again else _settled(connection, agreed, period, ends_ns, model)
        todo = sorted(agreed - settled)
        yield Page(len(names), len(names) - len(agreed), todo)
        after = names[-1]


def _settled(connection: Connection, names: Collection[str], period: str, ends_ns: int, model: Model) -> set[str]:
    """Return the devices whose kept score of an ended month holds all that is known."""
    k = kept_score.c
    newer = [_arrived(table, ends_ns) for table in (db.trip, db.harsh_event)]
    since = or_(dispute.c.opened_utc_ns > k.checked_utc_ns, dispute.c.decided_utc_ns > k.checked_utc_ns)
    newer.append(exists().where(dispute.c.device == k.device, since))
    of = (k.device.in_(names), k.model == model.id, k.period == period, k.newest, k.final, k.digest == model.digest)
    return set(connection.execute(select(k.device).where(*of, ~or_(*newer))).scalars())


def _arrived(table: Any, ends_ns: int) -> Any:
    """Say that a record from before the end of the month arrived after the score was computed."""
    clock = db.boot_clock.c
    own = and_(clock.device == table.c.device, clock.boot == table.c.boot)
    offset = select(clock.offset_ns).where(own).scalar_subquery()
    began = func.coalesce(table.c.t_ns + offset, table.c.received_utc_ns)
    late = table.c.received_utc_ns > kept_score.c.checked_utc_ns
    return exists().where(table.c.device == kept_score.c.device, late, began < ends_ns)


def _computed(engine: Engine, pages: Iterator[Page], what: What, workers: int) -> Iterator[tuple[Page, Rows]]:
    if workers < 2:
        for page in pages:
            yield page, _rows(engine, page.todo, what)
        return
    url = engine.url.render_as_string(hide_password=False)
    # Not by fork: a copied connection to a database serves nobody.
    with ProcessPoolExecutor(workers, get_context("spawn"), _open, (url,)) as pool:
        waiting: deque[tuple[Page, Future[Rows]]] = deque()
        for page in pages:
            waiting.append((page, pool.submit(_worked, page.todo, what)))
            if len(waiting) > workers:  # no more is held than is worked on
                yield _taken(waiting)
        while waiting:
            yield _taken(waiting)


def _taken(waiting: deque[tuple[Page, Future[Rows]]]) -> tuple[Page, Rows]:
    page, rows = waiting.popleft()
    return page, rows.result()


def _rows(engine: Engine, names: Sequence[str], what: What) -> Rows:
    if not names:
        return []
    with db.reading(engine) as connection:
        return [scores.computed(connection, name, *what) for name in names]


_worker: list[Engine] = []


def _open(url: str) -> None:
    _worker.append(db.open_database(url))


def _worked(names: list[str], what: What) -> Rows:
    return _rows(_worker[0], names, what)
