"""What a platform is still to be told of a device: positions from its stored records, in the order of its lanes.

A position needs a time that a satellite or NTP gave. A record whose boot has no such time waits while that boot may
still learn it; it is passed over once a later boot stands in the same lane, because clocks travel in a more urgent one.
"""

from collections.abc import Iterator, Sequence
from math import atan2, cos, degrees, radians, sin
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, and_, func, select

from agent.clock import NS_PER_S
from agent.known import known
from agent.records import Crash, Event, Track
from receiver import db
from receiver.drive import unpack_track
from receiver.gcj02 import from_wgs84
from receiver.jt808 import alarms, messages, tables
from receiver.jt808.messages import Location

LANES: Final = ("crash", "event", "track")  # most urgent first; each holds the kind of its name
TRUSTED: Final = ("ntp", "gnss")
_AT_ONCE: Final = 8  # records read from a lane at a time: a track has up to 500 points
_ENOUGH: Final = 200  # positions handed over at a time
_FIRST_S, _LAST_S = 946_656_000, 4_102_415_999  # years 2000 to 2099 in GMT+8, as two digits can say
_decoders: Final[dict[str, Any]] = {
    "crash": msgspec.json.Decoder(known(Crash)),
    "event": msgspec.json.Decoder(known(Event)),
    "track": msgspec.json.Decoder(known(Track)),
}


class Mark(NamedTuple):
    """How far a lane is done: `seq` wholly, and `part` positions of the next record."""

    lineage: str
    lane: str
    seq: int
    part: int


class Due(NamedTuple):
    """One position to tell and the mark that its confirmation moves; without a position only the mark moves."""

    location: Location | None
    mark: Mark
    received_utc_ns: int


class Place(NamedTuple):
    """Where a device is now."""

    boot: str
    t_ns: int
    utc_ns: int
    latitude: float
    longitude: float
    speed_mps: float | None


def due(connection: Connection, device: str, allowed: tuple[int, int], datum: str) -> list[Due]:
    """Return what comes next, some 200 positions at most; `allowed` is a span of UTC ns, its end excluded."""
    found: list[Due] = []
    state, done = db.lane_state, tables.sent
    same = and_(done.c.device == state.c.device, done.c.lineage == state.c.lineage, done.c.lane == state.c.lane)
    columns = (state.c.lineage, state.c.lane, state.c.seq, done.c.seq.label("done"), done.c.part)
    query = select(*columns).select_from(state.outerjoin(done, same))
    query = query.where(state.c.device == device, state.c.lane.in_(LANES), state.c.seq > func.coalesce(done.c.seq, 0))
    lanes = sorted(connection.execute(query).all(), key=lambda r: (LANES.index(r.lane), r.lineage))
    for lane in lanes:
        for each in _of_lane(connection, device, lane, allowed, datum):
            found.append(each)
            if len(found) >= _ENOUGH:
                return found
    return found


def live(connection: Connection, devices: Sequence[str]) -> dict[str, Place]:
    """Return where devices are now, as far as the time of that is known."""
    table, clock = db.live, db.boot_clock
    same = and_(clock.c.device == table.c.device, clock.c.boot == table.c.position_boot)
    query = select(table, clock.c.offset_ns).select_from(table.join(clock, same))
    query = query.where(table.c.device.in_(devices), clock.c.quality.in_(TRUSTED), table.c.latitude.is_not(None))
    rows = connection.execute(query.where(table.c.longitude.is_not(None)))
    return {
        r.device: Place(
            r.position_boot, r.position_t_ns, r.position_t_ns + r.offset_ns, r.latitude, r.longitude, r.speed_mps
        )
        for r in rows
    }


def located(
    utc_ns: int,
    place: tuple[float, float] | None,
    datum: str,
    *,
    alarm: int = 0,
    driving: bool = False,
    speed_mps: float | None = None,
    direction_deg: float = 0.0,
) -> Location | None:
    """Return a position as the wire has it, or None for a time that the wire cannot say; heights are not known."""
    utc_s = utc_ns // NS_PER_S
    if not _FIRST_S <= utc_s <= _LAST_S:
        return None
    status = messages.ACC if driving else 0
    latitude = longitude = 0.0
    if place is not None and abs(place[0]) <= 90.0 and abs(place[1]) <= 180.0:
        status |= messages.FIXED
        latitude, longitude = place
        if datum == "gcj02":
            status |= messages.SHIFTED
            latitude, longitude = from_wgs84(latitude, longitude)
    return Location(
        alarm=alarm,
        status=status,
        latitude_e6=round(latitude * 1e6),
        longitude_e6=round(longitude * 1e6),
        altitude_m=0,
        speed_kmh10=min(round(max(speed_mps or 0.0, 0.0) * 36.0), 0xFFFF),
        direction_deg=round(direction_deg) % 360,
        utc_s=utc_s,
        items=((messages.OVERSPEED, b"\0"),) if alarm & alarms.OVERSPEED else (),  # 0: not tied to an area
    )


def _of_lane(connection: Connection, device: str, lane: Any, allowed: tuple[int, int], datum: str) -> Iterator[Due]:
    entry, clock = db.entry, db.boot_clock
    own = and_(entry.c.device == device, entry.c.lineage == lane.lineage, entry.c.lane == lane.lane)
    same = and_(clock.c.device == entry.c.device, clock.c.boot == entry.c.boot, clock.c.quality.in_(TRUSTED))
    query = select(entry, clock.c.offset_ns).select_from(entry.outerjoin(clock, same))
    query = query.where(own, entry.c.kind == lane.lane, entry.c.seq > (lane.done or 0), entry.c.seq <= lane.seq)
    skip = lane.part or 0
    for row in connection.execute(query.order_by(entry.c.seq).limit(_AT_ONCE)).all():
        if row.offset_ns is None:
            later = select(entry.c.seq).where(own, entry.c.seq > row.seq, entry.c.boot != row.boot).limit(1)
            if connection.execute(later).scalar() is None:
                return
            places: list[Location | None] = []
        else:
            places = _locations(connection, device, row, allowed, datum)
        for n, location in enumerate(places[:-1], 1):
            if n > skip:
                yield Due(location, Mark(row.lineage, row.lane, row.seq - 1, n), row.received_utc_ns)
        last = places[-1] if places and len(places) > skip else None
        yield Due(last, Mark(row.lineage, row.lane, row.seq, 0), row.received_utc_ns)
        skip = 0


def _locations(
    connection: Connection, device: str, row: Any, allowed: tuple[int, int], datum: str
) -> list[Location | None]:
    """Return the positions of one record, None in the place of each that must not or cannot be told."""
    try:
        record = _decoders[row.kind].decode(row.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    match record:
        case Crash():
            alarm = 0 if _told_before(connection, device, row, record) else alarms.CRASH[record.kind]
            heading, until_ns = record.heading_deg or 0.0, record.t_ns
        case Event():
            alarm, heading, until_ns = alarms.of_event(record.kind, record.confirmed), 0.0, record.t_ns
        case Track():
            return _of_track(connection, device, row, record, allowed, datum)
        case _:
            return []
    utc_ns = until_ns + row.offset_ns
    if not alarm or not allowed[0] <= utc_ns < allowed[1]:
        return []
    place = None if record.latitude is None or record.longitude is None else (record.latitude, record.longitude)
    driving, speed = record.trip_t_ns is not None, record.speed_before_mps
    told = located(
        utc_ns, place, datum, alarm=alarm, driving=driving, speed_mps=speed, direction_deg=heading if place else 0.0
    )
    return [told]


def _told_before(connection: Connection, device: str, row: Any, crash: Crash) -> bool:
    """Say whether an earlier record of the same crash set the same bits: a crash is recorded twice and told once."""
    table = db.crash
    alike = [kind for kind, bits in alarms.CRASH.items() if bits == alarms.CRASH[crash.kind]]
    before = and_(table.c.lineage == row.lineage, table.c.seq < row.seq, table.c.kind.in_(alike))
    query = select(table.c.id).where(table.c.device == device, table.c.incident == crash.id, before).limit(1)
    return connection.execute(query).scalar() is not None


def _of_track(
    connection: Connection, device: str, row: Any, track: Track, allowed: tuple[int, int], datum: str
) -> list[Location | None]:
    fixes = unpack_track([track])
    if not fixes:
        return []
    spans = _alarm_spans(connection, device, row.boot, fixes[0].t_ns, fixes[-1].t_ns)
    told: list[Location | None] = []
    heading = 0.0
    for n, fix in enumerate(fixes):
        utc_ns = fix.t_ns + row.offset_ns
        if n + 1 < len(fixes):
            heading = _bearing(fix, fixes[n + 1])
        if not allowed[0] <= utc_ns < allowed[1]:
            told.append(None)
            continue
        alarm = 0
        for bits, start_ns, end_ns in spans:
            alarm |= bits if start_ns <= fix.t_ns <= end_ns else 0
        place, speed = (fix.latitude, fix.longitude), fix.speed_mps
        told.append(located(utc_ns, place, datum, alarm=alarm, driving=True, speed_mps=speed, direction_deg=heading))
    return told


def _alarm_spans(
    connection: Connection, device: str, boot: str, from_ns: int, to_ns: int
) -> list[tuple[int, int, int]]:
    """Return (bits, start, end) of the events that last into a time: a flag stands until its cause is gone."""
    table = db.harsh_event
    columns = (table.c.kind, table.c.confirmed, table.c.t_ns, table.c.duration_ns)
    within = and_(table.c.t_ns <= to_ns, table.c.t_ns >= from_ns - table.c.duration_ns)
    of = and_(table.c.device == device, table.c.boot == boot, table.c.kind.in_(alarms.KINDS))
    rows = connection.execute(select(*columns).where(of, within).order_by(table.c.t_ns).limit(1000))
    spans = ((alarms.of_event(r.kind, bool(r.confirmed)), r.t_ns, r.t_ns + r.duration_ns) for r in rows)
    return [s for s in spans if s[0]]


def _bearing(a: Any, b: Any) -> float:
    """Return the course from one fix to the next, degrees from north."""
    lat_a, lat_b, east = radians(a.latitude), radians(b.latitude), radians(b.longitude - a.longitude)
    x = sin(east) * cos(lat_b)
    y = cos(lat_a) * sin(lat_b) - sin(lat_a) * cos(lat_b) * cos(east)
    return degrees(atan2(x, y)) % 360.0
