"""What happened since the last look, read from what the receiver keeps anyway: nothing has to remember to tell.

Each source has a position; events and the position move in one transaction, so that none is left out. A hook that is
new begins with what happens from now on.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, func, insert, select, update

from agent.clock import NS_PER_S, iso_utc
from receiver import db
from receiver.claiming.tables import claim_history
from receiver.webhooks.settings import HookSettings
from receiver.webhooks.tables import outbox, read

AT_ONCE: Final = 500
_H: Final = 3600 * NS_PER_S
# Two processes may commit packages in another order than they took the time: so far back it is looked again.
_OVERLAP_NS: Final = _H


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
    after: Callable[[Connection, int, int, HookSettings], Found]


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
    found = source.after(connection, position, now_ns, settings)
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


def _steps(connection: Connection, position: int, _: int, __: HookSettings) -> Found:
    """Read the history of claims, which is numbered without gaps in the order of its transactions."""
    t, c = claim_history, db.claim
    columns = (t, c.c.device, c.c.incident)
    query = select(*columns).outerjoin(c, c.c.id == t.c.claim).where(t.c.seq > position).order_by(t.c.seq)
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
    return Found(events, rows[-1].seq if rows else position)


def _now(_: Connection, now_ns: int, __: HookSettings) -> int:
    return now_ns


def _packages(connection: Connection, position: int, _: int, __: HookSettings) -> Found:
    t = db.package_state
    since = t.c.whole_utc_ns > position - _OVERLAP_NS
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
    return Found(events, max([position, *(row.whole_utc_ns for row in rows)]))


def _silence(_: Connection, now_ns: int, settings: HookSettings) -> int:
    return now_ns - round(settings.lost_after_h * _H)


def _lost(connection: Connection, position: int, now_ns: int, settings: HookSettings) -> Found:
    """Find devices whose last message fell behind the limit since the last look."""
    t, limit = db.live, _silence(connection, now_ns, settings)
    since = (t.c.seen_utc_ns > position, t.c.seen_utc_ns <= limit)
    accepted = select(db.device.c.id).where(db.device.c.state == "accepted")
    rows = connection.execute(select(t.c.device, t.c.seen_utc_ns).where(*since, t.c.device.in_(accepted))).all()
    events = [
        Happened(
            "device.lost",
            f"device.lost:{row.device}:{row.seen_utc_ns}",
            now_ns,
            {"device": row.device, "last_heard": iso_utc(row.seen_utc_ns)},
        )
        for row in rows
    ]
    return Found(events, max([position, *(row.seen_utc_ns for row in rows)]))


SOURCES: Final[dict[str, Source]] = {
    "claims": Source(frozenset({"claim.opened", "claim.moved"}), _last_step, _steps),
    "packages": Source(frozenset({"package.whole"}), _now, _packages),
    "silence": Source(frozenset({"device.lost"}), _silence, _lost),
}
