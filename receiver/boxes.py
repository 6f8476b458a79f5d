"""What technicians ask about all boxes: one page of them, those that need somebody, those in the wrong car.

No trip, no place, no score is read here. What a box said of itself counts for WARN_NS: it says it again when it starts.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, and_, exists, func, or_, select, true

from agent import messages
from agent.clock import NS_PER_S
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
    d, live = db.device, db.live
    joined = d.outerjoin(live, live.c.device == d.c.id)
    where = and_(_chosen(connection, shown, now_ns), _named(wanted))
    total = connection.execute(select(func.count()).select_from(joined).where(where)).scalar_one()
    part = paged(number, total, size)
    query = select(d, live.c.online, live.c.seen_utc_ns).select_from(joined).where(where).order_by(d.c.id)
    rows = connection.execute(query.offset((part.number - 1) * size).limit(size)).all()
    return listed(connection, rows, now_ns), part


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


def listed(connection: Connection, rows: Sequence[Row[Any]], now_ns: int) -> list[Box]:
    """Return rows of `device` with `live` as lines."""
    names = [row.id for row in rows]
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
        fleet.lost_of(connection, names),
        fleet.refused_of(connection, names),
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


def _chosen(connection: Connection, shown: Shown, now_ns: int) -> ColumnElement[bool]:
    d, live = db.device, db.live
    away = or_(live.c.online.is_(None), live.c.online.is_(False))
    if shown == "offline":
        return away
    if shown == "all":
        return true()
    since = now_ns - WARN_NS
    silent = and_(away, func.coalesce(live.c.seen_utc_ns, d.c.enrolled_utc_ns) < now_ns - SILENT_NS)
    h, r = db.hole, db.refused
    of = (
        select(h.c.device).where(h.c.noted_utc_ns >= since),
        select(r.c.device).where(r.c.last_utc_ns >= since, r.c.device != ""),
        _last_words(now_ns),
    )
    strays = [m.device for m in mismatches(connection)[0]]
    return and_(d.c.state == "accepted", or_(silent, d.c.id.in_(strays), *(d.c.id.in_(one) for one in of)))


def _last_words(now_ns: int, *columns: ColumnElement[Any]) -> Any:
    """Select the devices of health records that are not well and that nothing of the same source followed."""
    h = db.health
    later = h.alias("later")
    over = exists().where(later.c.device == h.c.device, later.c.source == h.c.source, later.c.id > h.c.id)
    bad = (h.c.state != "ok", h.c.source != MEMORY, h.c.received_utc_ns >= now_ns - WARN_NS)
    return select(h.c.device, *columns).where(*bad, ~over)


def _unwell(connection: Connection, names: Sequence[str], now_ns: int) -> dict[str, list[str]]:
    h = db.health
    found: dict[str, list[str]] = {}
    query = _last_words(now_ns, h.c.source).where(h.c.device.in_(names)).order_by(h.c.source)
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
        vin = msgspec.json.decode(body, type=Health).facts.get("vin", "")
    except msgspec.DecodeError:
        return ""
    return vin if vin_valid(vin) else ""
