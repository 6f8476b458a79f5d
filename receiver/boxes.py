"""What technicians ask about all boxes: one page of them, those that need somebody, those in the wrong car.

No trip, no place, no score is read here. What a box said of itself counts for WARN_NS: it says it again when it starts.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, or_, select, true

from agent import messages
from agent.clock import NS_PER_S
from agent.known import known
from agent.messages import Birth, MessageError
from agent.records import Health
from agent.vin import vin_valid
from receiver import db, fleet
from receiver.queries import Page, paged
from receiver.registry import bindings, tables
from receiver.registry.bindings import Mismatch

PAGE: Final = 50  # boxes on a page
DAY_NS: Final = 86_400 * NS_PER_S
WARN_NS: Final = 30 * DAY_NS
SILENT_NS: Final = 7 * DAY_NS  # a car that stands longer without a word is looked after: battery, SIM, box
MOST_MISMATCHES: Final = 200
MEMORY: Final = "guard"  # what the rules on the box remember: nothing about its health
CONSENT: Final = "consent"
Shown = Literal["all", "attention", "offline"]
SHOWN: Final[tuple[Shown, ...]] = ("all", "attention", "offline")
Recording = Literal["agreed", "withdrawn", "nobody", "paper"]


@dataclass(frozen=True, slots=True)
class Box:
    """One enrolled box as a line of the list. Times are UTC ns, None where nothing was heard."""

    id: str
    state: str  # accepted, blocked
    online: bool
    seen_utc_ns: int | None
    version: str  # of its software, empty before its first birth
    waiting: int  # records that were on the box only when it last connected
    lost: int
    refused: int
    warnings: tuple[str, ...]  # sources that are not well
    recording: Recording
    vin: str  # of the car that it is bound to, empty for none
    mismatch: bool


def page(
    connection: Connection, shown: Shown, wanted: str, number: int, now_ns: int, size: int = PAGE
) -> tuple[list[Box], Page]:
    """Return one page of the enrolled boxes, by name; `wanted` is a part of a name or of a VIN."""
    if shown == "attention":
        ids = attention(connection, now_ns)
        if wanted:
            ids &= set(connection.execute(select(db.device.c.id).where(_named(wanted))).scalars())
        part = paged(number, len(ids), size)
        names = sorted(ids)[(part.number - 1) * size : part.number * size]
        return _of(connection, names, now_ns), part
    d, live = db.device, db.live
    away = or_(live.c.online.is_(None), live.c.online.is_(False))
    where = and_(_named(wanted), away if shown == "offline" else true())
    joined = d.outerjoin(live, live.c.device == d.c.id)
    total = connection.execute(select(func.count()).select_from(joined).where(where)).scalar_one()
    part = paged(number, total, size)
    chosen = select(d.c.id).select_from(joined).where(where).order_by(d.c.id)
    names = list(connection.execute(chosen.offset((part.number - 1) * size).limit(size)).scalars())
    return _of(connection, names, now_ns), part


def one(connection: Connection, device: str, now_ns: int) -> Box | None:
    """Return one enrolled box, None for another."""
    return next(iter(_of(connection, [device], now_ns)), None)


def attention(connection: Connection, now_ns: int) -> set[str]:
    """Return the trusted boxes that are silent, unwell, in another car than bound, or lost or were refused something.

    Boxes that say that nobody agreed are unwell. One pass over the health records of WARN_NS, so it takes its time.
    """
    d, live, h, r = db.device, db.live, db.hole, db.refused
    since = now_ns - WARN_NS
    away = or_(live.c.online.is_(None), live.c.online.is_(False))
    heard = func.coalesce(live.c.seen_utc_ns, d.c.enrolled_utc_ns)
    silent = select(d.c.id).select_from(d.outerjoin(live, live.c.device == d.c.id))
    of = (
        silent.where(away, heard < now_ns - SILENT_NS),
        select(h.c.device).where(h.c.noted_utc_ns >= since),
        select(r.c.device).where(r.c.last_utc_ns >= since),
        _last_words(since),
    )
    found = {m.device for m in mismatches(connection)[0]}
    for query in of:
        found.update(connection.execute(query.distinct()).scalars())
    return found & set(connection.execute(select(d.c.id).where(d.c.state == "accepted")).scalars())


def birth_of(row: Row[Any]) -> Birth | None:
    """Return what a box said when it connected last; None before that, or where it cannot be read any more."""
    if not row.birth:
        return None
    try:
        return messages.decode_birth(bytes(row.birth))
    except MessageError:
        return None


def recording(connection: Connection, devices: Collection[str], doubting: Collection[str]) -> dict[str, Recording]:
    """Return whether each box may record: as agreed here, else on paper; `doubting` say that nobody agreed."""
    t = tables.consent
    newest = select(func.max(t.c.id)).where(t.c.device.in_(devices), t.c.purpose == "recording").group_by(t.c.device)
    given = {r.device: bool(r.given) for r in connection.execute(select(t).where(t.c.id.in_(newest)))}
    found: dict[str, Recording] = {}
    for device in devices:
        if device in given:
            found[device] = "agreed" if given[device] else "withdrawn"
        else:
            found[device] = "nobody" if device in doubting else "paper"
    return found


def mismatches(connection: Connection) -> tuple[list[Mismatch], bool]:
    """Return the boxes whose car tells another VIN than it is bound to, by name, and whether there are more of them."""
    found: list[Mismatch] = []
    for device in sorted(_suspects(connection)):
        if len(found) == MOST_MISMATCHES:
            return found, True
        found += bindings.mismatches(connection, device)
    return found, False


def _of(connection: Connection, names: Sequence[str], now_ns: int) -> list[Box]:
    """Return the lines of some boxes, by name."""
    d, live = db.device, db.live
    joined = d.outerjoin(live, live.c.device == d.c.id)
    query = select(d, live.c.online, live.c.seen_utc_ns).select_from(joined).where(d.c.id.in_(names))
    rows = connection.execute(query.order_by(d.c.id)).all()
    unwell = _unwell(connection, names, now_ns)
    b = tables.binding
    bound = {
        r.device: r.vin
        for r in connection.execute(
            select(b.c.device, b.c.vin).where(b.c.device.in_(names), b.c.ended_utc_ns.is_(None))
        )
    }
    elsewhere = {m.device for name in bound for m in bindings.mismatches(connection, name)}
    waiting, lost, refused = (
        fleet.waiting_of(connection, rows),
        fleet.lost_of(connection, list(names)),
        fleet.refused_of(connection, list(names)),
    )
    may = recording(connection, names, {n for n, sources in unwell.items() if CONSENT in sources})
    births = {row.id: birth_of(row) for row in rows}
    return [
        Box(
            id=row.id,
            state=row.state,
            online=bool(row.online),
            seen_utc_ns=row.seen_utc_ns or None,
            version=_version(births[row.id]),
            waiting=waiting[row.id],
            lost=lost.get(row.id, 0),
            refused=refused.get(row.id, 0),
            warnings=tuple(s for s in unwell.get(row.id, ()) if s != CONSENT),
            recording=may[row.id],
            vin=bound.get(row.id, ""),
            mismatch=row.id in elsewhere,
        )
        for row in rows
    ]


def _version(birth: Birth | None) -> str:
    return "" if birth is None else birth.versions.get("roadwitness", "")


def _named(wanted: str) -> ColumnElement[bool]:
    if not wanted:
        return true()
    b = tables.binding
    cars = select(b.c.device).where(b.c.ended_utc_ns.is_(None), b.c.vin.contains(wanted.upper(), autoescape=True))
    return or_(db.device.c.id.contains(wanted.lower(), autoescape=True), db.device.c.id.in_(cars))


def _last_words(since_ns: int, *columns: ColumnElement[Any], of: Sequence[str] | None = None) -> Select[Any]:
    """Select the devices whose last word of a source, received since a time, is that it is not well."""
    h = db.health
    within = h.c.received_utc_ns >= since_ns
    newest = select(func.max(h.c.id).label("id")).where(h.c.source != MEMORY)
    newest = newest.where(within if of is None else h.c.device.in_(of))  # what the better index is for
    last = newest.group_by(h.c.device, h.c.source).subquery()
    return select(h.c.device, *columns).select_from(h.join(last, last.c.id == h.c.id)).where(within, h.c.state != "ok")


def _unwell(connection: Connection, names: Sequence[str], now_ns: int) -> dict[str, list[str]]:
    h = db.health
    found: dict[str, list[str]] = {}
    query = _last_words(now_ns - WARN_NS, h.c.source, of=names).order_by(h.c.source)
    for row in connection.execute(query):
        found.setdefault(row.device, []).append(row.source)
    return found


def _suspects(connection: Connection) -> set[str]:
    """Return the bound devices of which the newest VIN that was read, or an event, speaks against their binding."""
    b, h, e = tables.binding, db.health, db.entry
    since_bound = and_(b.c.device == h.c.device, b.c.ended_utc_ns.is_(None), h.c.received_utc_ns >= b.c.bound_utc_ns)
    newest = select(func.max(h.c.id)).select_from(h.join(b, since_bound)).where(h.c.source.like("%:vin"))
    newest = newest.group_by(h.c.device)
    same = and_(*(e.c[n] == h.c[n] for n in ("device", "lineage", "lane", "seq")))
    present = and_(b.c.device == h.c.device, b.c.ended_utc_ns.is_(None))
    read = select(h.c.device, b.c.vin, e.c.body).select_from(h.join(e, same).join(b, present)).where(h.c.id.in_(newest))
    found = {row.device for row in connection.execute(read) if _vin(bytes(row.body)) != row.vin}
    v = db.harsh_event
    told = and_(b.c.device == v.c.device, b.c.ended_utc_ns.is_(None), v.c.received_utc_ns >= b.c.bound_utc_ns)
    events = select(v.c.device).select_from(v.join(b, told)).where(v.c.kind == "vin_mismatch").distinct()
    return found | set(connection.execute(events).scalars())


def _vin(body: bytes) -> str:
    try:
        vin = msgspec.json.decode(body, type=known(Health)).facts.get("vin", "")
    except msgspec.DecodeError:
        return ""
    return vin if vin_valid(vin) else ""
