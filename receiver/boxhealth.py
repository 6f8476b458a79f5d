"""What technicians ask about one box: what it last said of its parts, what befell it, what it still holds.

Places and trips are never read, and of events only those about the box itself.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, and_, func, select

from agent.known import known
from agent.messages import Birth
from agent.records import LANES, Event, EventKind, Health
from receiver import boxes, db, queries
from receiver.proof import entries_behind, record_of
from receiver.queries import BootClock
from receiver.registry import bindings, consents
from receiver.registry.bindings import Binding, Mismatch
from receiver.registry.consents import Consent

MOST_SAID: Final = 2000  # newest health records that are searched for the last word of every source
MOST_EVENTS: Final = 20
MOST_FILES: Final = 20
MOST_BINDINGS: Final = 20
# Of what befell the box; knocks, jolts and towing tell of the car and of where somebody went.
KINDS: Final[tuple[EventKind, ...]] = (
    "device_moved",
    "power_lost",
    "low_battery",
    "vin_mismatch",
    "gnss_lost",
    "gnss_jammed",
    "over_temperature",
    "disk_nearly_full",
    "clock_unknown",
    "dtc_set",
    "dtc_cleared",
    "camera_lost",
    "camera_frozen",
    "camera_blind",
    "camera_blurred",
    "camera_slow",
)


class Said(NamedTuple):
    """The last word of one source."""

    source: str
    state: str  # ok, degraded, lost
    detail: str  # one sentence of the box, in English
    received_utc_ns: int
    counts: dict[str, int]
    facts: dict[str, str]


class Befell(NamedTuple):
    """One event about the box; `utc_ns` is None where the box did not know the time."""

    kind: str
    severity: str
    utc_ns: int | None
    received_utc_ns: int
    detail: str


class Lane(NamedTuple):
    """How many records of one lane only the box held when it last connected.

    How many there were in all is not told: of trips and crashes that would tell how somebody drives.
    """

    name: str
    waiting: int


class File(NamedTuple):
    """A file of a package that is not whole yet."""

    file: str  # SHA-256
    size: int
    received: int
    state: str  # waiting, open
    updated_utc_ns: int


@dataclass(frozen=True, slots=True)
class Report:
    """Everything about one box."""

    box: boxes.Box
    public_key: str
    enrolled_utc_ns: int
    birth_utc_ns: int | None
    birth: Birth | None
    clock: BootClock | None  # of the boot in which it last connected
    said: list[Said]
    befell: list[Befell]
    lanes: list[Lane]
    refusals: list[tuple[str, int, int]]  # reason, how often, when last
    consents: dict[str, Consent]
    bindings: list[Binding]
    mismatches: list[Mismatch]
    files: list[File]
    files_waiting: int


def report(connection: Connection, device: str, now_ns: int) -> Report | None:
    """Return everything about one enrolled box, None for another."""
    d = db.device
    row = connection.execute(select(d).where(d.c.id == device)).one_or_none()
    box = boxes.one(connection, device, now_ns)
    if row is None or box is None:
        return None
    birth = boxes.birth_of(row)
    files, waiting = _files(connection, device)
    return Report(
        box=box,
        public_key=row.public_key,
        enrolled_utc_ns=row.enrolled_utc_ns,
        birth_utc_ns=row.birth_utc_ns,
        birth=birth,
        clock=None if birth is None else _clock(connection, device, birth.boot),
        said=said(connection, device),
        befell=befell(connection, device),
        lanes=_lanes(connection, device, birth),
        refusals=_refusals(connection, device),
        consents=consents.standing(connection, device),
        bindings=bindings.listed(connection, device=device, most=MOST_BINDINGS),
        mismatches=bindings.mismatches(connection, device),
        files=files,
        files_waiting=waiting,
    )


def said(connection: Connection, device: str) -> list[Said]:
    """Return the last word of every source of a box, what is not well first."""
    h, e = db.health, db.entry
    recent = select(h.c.id, h.c.source).where(h.c.device == device).order_by(h.c.id.desc()).limit(MOST_SAID).subquery()
    newest = select(func.max(recent.c.id)).where(recent.c.source != boxes.MEMORY).group_by(recent.c.source)
    same = and_(*(e.c[n] == h.c[n] for n in ("device", "lineage", "lane", "seq")))
    columns = (h.c.source, h.c.state, h.c.detail, h.c.received_utc_ns, e.c.body)
    query = select(*columns).select_from(h.outerjoin(e, same)).where(h.c.id.in_(newest))
    found = [_said(row) for row in connection.execute(query)]
    order = {"lost": 0, "degraded": 1}
    return sorted(found, key=lambda one: (order.get(one.state, 2), one.source))


def befell(connection: Connection, device: str) -> list[Befell]:
    """Return what befell a box itself, the latest first."""
    t = db.harsh_event
    query = queries.with_clock_columns(t).where(t.c.device == device, t.c.kind.in_(KINDS))
    rows = connection.execute(query.order_by(t.c.id.desc()).limit(MOST_EVENTS)).all()
    entries = entries_behind(connection, rows)
    found = []
    for row in rows:
        record: Event | None = record_of(entries, row)
        utc_ns = queries.clock_of(row).utc_ns(row.t_ns)
        detail = "" if record is None else record.detail
        found.append(Befell(row.kind, row.severity, utc_ns, row.received_utc_ns, detail))
    return found


def _said(row: Any) -> Said:
    counts: dict[str, int] = {}
    facts: dict[str, str] = {}
    try:
        record = msgspec.json.decode(bytes(row.body or b""), type=known(Health))
        counts, facts = record.counts, record.facts
    except msgspec.DecodeError:  # erased, or altered since it was stored: the columns still tell
        pass
    return Said(row.source, row.state, row.detail, row.received_utc_ns, counts, facts)


def _clock(connection: Connection, device: str, boot: str) -> BootClock | None:
    t = db.boot_clock
    row = connection.execute(select(t).where(t.c.device == device, t.c.boot == boot)).one_or_none()
    return None if row is None else BootClock(row.offset_ns, row.quality, row.uncertainty_ns)


def _lanes(connection: Connection, device: str, birth: Birth | None) -> list[Lane]:
    if birth is None:
        return []
    t = db.lane_state
    of = (t.c.device == device, t.c.lineage == birth.lineage)
    held = {row.lane: row.seq for row in connection.execute(select(t.c.lane, t.c.seq).where(*of))}
    heads: dict[str, int] = dict(birth.heads.items())
    return [Lane(lane, max(0, heads.get(lane, 0) - held.get(lane, 0))) for lane in LANES]


def _refusals(connection: Connection, device: str) -> list[tuple[str, int, int]]:
    t = db.refused
    query = select(t.c.reason, t.c.count, t.c.last_utc_ns).where(t.c.device == device).order_by(t.c.last_utc_ns.desc())
    return [(str(reason), int(n), int(last)) for reason, n, last in connection.execute(query)]


def _files(connection: Connection, device: str) -> tuple[list[File], int]:
    t = db.transfer
    of = (t.c.device == device, t.c.state != "done")
    columns = [t.c[name] for name in File._fields]
    rows = connection.execute(select(*columns).where(*of).order_by(t.c.updated_utc_ns.desc()).limit(MOST_FILES))
    total = connection.execute(select(func.count()).select_from(t).where(*of)).scalar_one()
    return [File(*row) for row in rows], total
