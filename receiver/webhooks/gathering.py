"""What happened since the last look, read from what the receiver keeps anyway: nothing has to remember to tell.

Each source has a position; events and the position move in one transaction, so that none is left out. A hook that is
new begins with what happens from now on.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, String, cast, exists, func, insert, literal, select, update

from agent.clock import NS_PER_S, iso_utc
from receiver import db
from receiver.claiming.tables import claim_history
from receiver.rating import periods
from receiver.rating.tables import kept_score
from receiver.scoring.model import DEFAULT_MODEL
from receiver.scoring.model import model as model_named
from receiver.webhooks.settings import HookSettings
from receiver.webhooks.tables import outbox, read

AT_ONCE: Final = 500
_H: Final = 3600 * NS_PER_S
# Two processes may commit packages in another order than they took the time: so far back it is looked again.
_OVERLAP_NS: Final = _H
_SCORES_EVERY_NS: Final = 600 * NS_PER_S  # they change once a month, and by late trips
_RUN_NS: Final = 24 * _H


class Happened(NamedTuple):
    """One event; its id is the same however often it is found."""

    type: str
    id: str
    utc_ns: int
    data: dict[str, Any]


class Found(NamedTuple):
    """Events after a position, and the position after them."""

    events: list[Happened]
    position: int


class Source(NamedTuple):
    """Where events of some types come from: `start` is where a new hook begins."""

    types: frozenset[str]
    start: Callable[[Connection, int, HookSettings], int]
    after: Callable[[Connection, "Look"], Found]


class Look(NamedTuple):
    """What a source is asked: what happened after a position, for a hook."""

    hook: str
    settings: HookSettings
    position: int
    now_ns: int


def gather(engine: Engine, hooks: Mapping[str, HookSettings], now_ns: int) -> int:
    """Write what happened since the last call into the outbox of every hook that wants it; return how many are new."""
    new = 0
    for hook, settings in hooks.items():
        for name, source in SOURCES.items():
            if source.types & set(settings.events):
                with engine.begin() as connection:
                    new += _gather(connection, hook, name, source, settings, now_ns)
    return new


def _gather(connection: Connection, hook: str, name: str, source: Source, settings: HookSettings, now_ns: int) -> int:
    mine = (read.c.hook == hook, read.c.source == name)
    position = connection.execute(select(read.c.position).where(*mine).with_for_update()).scalar()
    if position is None:
        row = {"hook": hook, "source": name, "position": source.start(connection, now_ns, settings)}
        connection.execute(db.upsert(connection, read, row, ["hook", "source"], {}))
        return 0
    found = source.after(connection, Look(hook, settings, position, now_ns))
    new = 0
    for event in found.events:
        if event.type not in settings.events:
            continue
        told = {"id": event.id, "type": event.type, "time": iso_utc(event.utc_ns), "data": event.data}
        row = {
            "hook": hook,
            "event": event.id,
            "type": event.type,
            "body": json.dumps(told, ensure_ascii=False, sort_keys=True),
            "state": "waiting",
            "attempts": 0,
            "made_utc_ns": now_ns,
            "next_utc_ns": now_ns,
            "why": "",
        }
        same = select(outbox.c.id).where(outbox.c.hook == hook, outbox.c.event == event.id)
        if connection.execute(same).scalar() is None:  # the position's row is locked: nobody else writes for this hook
            connection.execute(insert(outbox).values(**row))
            new += 1
    if found.position != position:
        connection.execute(update(read).where(*mine).values(position=found.position))
    return new


def _last_step(connection: Connection, _: int, __: HookSettings) -> int:
    return int(connection.execute(select(func.max(claim_history.c.seq))).scalar() or 0)


def _steps(connection: Connection, look: Look) -> Found:
    """Read the history of claims, which is numbered without gaps in the order of its transactions."""
    t, c = claim_history, db.claim
    columns = (t, c.c.device, c.c.incident)
    query = select(*columns).outerjoin(c, c.c.id == t.c.claim).where(t.c.seq > look.position).order_by(t.c.seq)
    rows = connection.execute(query.limit(AT_ONCE)).all()
    events = []
    for row in rows:
        if not row.claim or row.before == row.after:
            continue
        data = {"claim": row.claim, "device": row.device, "incident": row.incident, "state": row.after}
        if row.what == "opened":
            events.append(Happened("claim.opened", f"claim.opened:{row.claim}", row.utc_ns, data))
        else:
            moved = {**data, "before": row.before, "by": row.what}
            events.append(Happened("claim.moved", f"claim.moved:{row.claim}:{row.seq}", row.utc_ns, moved))
    return Found(events, rows[-1].seq if rows else look.position)


def _now(_: Connection, now_ns: int, __: HookSettings) -> int:
    return now_ns


def _packages(connection: Connection, look: Look) -> Found:
    t = db.package_state
    since = t.c.whole_utc_ns > look.position - _OVERLAP_NS
    rows = connection.execute(select(t).where(t.c.whole.is_(True), since).order_by(t.c.whole_utc_ns)).all()
    events = [
        Happened(
            "package.whole",
            f"package.whole:{row.device}:{row.incident}:{row.digest[:16]}",
            row.whole_utc_ns,
            {"device": row.device, "incident": row.incident, "complete": bool(row.complete), "digest": row.digest},
        )
        for row in rows
    ]
    return Found(events, max([look.position, *(row.whole_utc_ns for row in rows)]))


def _silence(_: Connection, now_ns: int, settings: HookSettings) -> int:
    return now_ns - round(settings.lost_after_h * _H)


def _lost(connection: Connection, look: Look) -> Found:
    """Find devices whose last message fell behind the limit since the last look."""
    t, limit = db.live, _silence(connection, look.now_ns, look.settings)
    since = (t.c.seen_utc_ns > look.position, t.c.seen_utc_ns <= limit)
    accepted = select(db.device.c.id).where(db.device.c.state == "accepted")
    rows = connection.execute(select(t.c.device, t.c.seen_utc_ns).where(*since, t.c.device.in_(accepted))).all()
    events = [
        Happened(
            "device.lost",
            f"device.lost:{row.device}:{row.seen_utc_ns}",
            look.now_ns,
            {"device": row.device, "last_heard": iso_utc(row.seen_utc_ns)},
        )
        for row in rows
    ]
    return Found(events, max([look.position, *(row.seen_utc_ns for row in rows)]))


def _scores(connection: Connection, look: Look) -> Found:
    """Find the scores of the last two months that ended, under the model that prices use, that were not told yet.

    A month is scored in one run that may take hours, all under the time at which it began.
    """
    if look.now_ns - look.position < _SCORES_EVERY_NS:
        return Found([], look.position)
    t, model = kept_score, model_named(DEFAULT_MODEL)
    last = periods.last_ended(look.now_ns, model.zone)
    before = periods.last_ended(periods.bounds(last, model.zone)[0], model.zone)
    parts = (t.c.device, literal(":"), t.c.model, literal(":"), t.c.period, literal(":"), cast(t.c.revision, String))
    name: ColumnElement[str] = literal("score.published:")
    for part in parts:
        name = name.concat(part)
    told = exists().where(outbox.c.hook == look.hook, outbox.c.event == name)
    fresh = t.c.computed_utc_ns > look.position - _RUN_NS
    of = (t.c.model == model.id, t.c.period.in_([before, last]), t.c.newest.is_(True), t.c.final.is_(True), fresh)
    columns = (t.c.device, t.c.vin, t.c.model, t.c.period, t.c.revision, t.c.score, t.c.km, t.c.credibility)
    query = select(*columns, t.c.relativity, t.c.computed_utc_ns, name.label("event")).where(*of, ~told)
    rows = connection.execute(query.order_by(t.c.period, t.c.device).limit(AT_ONCE)).all()
    events = []
    for row in rows:
        data = {n: getattr(row, n) for n in ("device", "vin", "model", "period", "revision", "score", "km")}
        data |= {"credibility": row.credibility, "relativity": row.relativity}
        events.append(Happened("score.published", row.event, row.computed_utc_ns, data))
    return Found(events, look.now_ns if len(rows) < AT_ONCE else look.position)


SOURCES: Final[dict[str, Source]] = {
    "claims": Source(frozenset({"claim.opened", "claim.moved"}), _last_step, _steps),
    "packages": Source(frozenset({"package.whole"}), _now, _packages),
    "scores": Source(frozenset({"score.published"}), _now, _scores),
    "silence": Source(frozenset({"device.lost"}), _silence, _lost),
}
