"""What the database and the package say around a claim, put together as the facts that the checks look at.

Only signed records are read: rows of projections find them, the bodies speak. Times of another boot are set beside
those of the crash by both clocks, and left out where one of them is not known.
"""

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, Row, Table, and_, or_, select

from agent.clock import NS_PER_S
from agent.records import Crash, Event, Mount, Track
from receiver import contents, crashes, db, policies
from receiver.claiming import tables
from receiver.claiming.facts import (
    Evidence,
    Facts,
    Impact,
    Limits,
    Moment,
    OtherClaim,
    PackageFacts,
    Place,
    Point,
    Report,
)
from receiver.drive import unpack_track
from receiver.filestore import FileStore
from receiver.proof import entries_behind, record_of
from receiver.queries import with_clock_columns

log = logging.getLogger(__name__)

NEAR_DEG: Final = 0.01  # 1.1 km: coarse, the rule itself measures
NEAR_NS: Final = 600 * NS_PER_S  # coarse as well
MOST_OTHERS: Final = 50


class Zero(NamedTuple):
    """Time zero: in the boot of the crash, and in UTC where that is known."""

    device: str
    boot: str
    t_ns: int
    utc_ns: int | None


def facts(engine: Engine, claim: str, now_ns: int, limits: Limits, files: FileStore | None = None) -> Facts | None:
    """Return the facts around a claim, None where there is no such claim; without `files`, those of the records."""
    with db.reading(engine) as connection:
        c = db.claim
        own = connection.execute(select(c).where(c.c.id == claim)).one_or_none()
        if own is None:
            return None
        report = _report(connection, claim)
        row = _crash_row(connection, own, report, limits)
        base = Facts(
            claim=claim,
            now_utc_ns=now_ns,
            report=report,
            other_claims=tuple(_other_claims(connection, own)),
            other_devices=tuple(_other_devices(connection, own)),
            recorded=report is not None and _recorded(connection, own.device, report.loss_utc_ns, limits),
        )
        record = None if row is None else record_of(entries_behind(connection, [row]), row)
        if row is None or not isinstance(record, Crash):
            return base
        impact = _impact(row, record)
        zero = Zero(row.device, row.boot, record.t_ns, impact.utc_ns)
        spans = _engine_spans(connection, zero, limits)
        after = _track_points(connection, zero, spans, limits)
        power = _events(connection, zero, "power_lost", limits.power_s)
        turns = [
            *_events(connection, zero, "device_moved", limits.turned_within_s),
            *_turned(connection, zero, limits),
        ]
        others = _other_impacts(connection, impact)
        noticed = _noticed(connection, row.device, row.incident)
    if files is not None and not after:  # the track of the trip comes with its end; two sources would zigzag
        after = [*after, *_package_points(engine, files, row.device, row.incident, spans)]
    return Facts(
        claim=claim,
        now_utc_ns=now_ns,
        impact=impact,
        kind=record.kind,
        locked=record.locked,
        quality=row.quality or "none",
        noticed_utc_ns=noticed,
        report=base.report,
        recorded=True,
        after=tuple(sorted(after, key=lambda p: p.t_s)),
        power_cuts=tuple(power),
        turns=tuple(turns),
        package=_package(engine, row.device, row.incident),
        other_claims=base.other_claims,
        other_impacts=tuple(others),
        other_devices=base.other_devices,
    )


def zero_utc_ns(connection: Connection, device: str, incident: str) -> int | None:
    """Return when an incident was, None where no clock says."""
    t = db.crash
    query = with_clock_columns(t).where(t.c.device == device, t.c.incident == incident, db.boot_clock.c.offset_ns >= 0)
    row = connection.execute(query.order_by(t.c.complete.desc(), t.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else int(row.t_ns + row.offset_ns)


def incident_near(connection: Connection, device: str, utc_ns: int, within_s: float) -> str | None:
    """Return the incident of a device that lies nearest to a time, None where none is near."""
    row = _nearest(connection, device, utc_ns, within_s)
    return None if row is None else str(row.incident)


def _report(connection: Connection, claim: str) -> Report | None:
    t = tables.claim_report
    rows = connection.execute(select(t).where(t.c.claim == claim).order_by(t.c.number)).all()
    if not rows:
        return None
    last = rows[-1]  # a correction says more of time and place; the notice was given by the first
    place = None if last.latitude is None or last.longitude is None else Place(last.latitude, last.longitude)
    return Report(rows[0].reported_utc_ns, last.loss_utc_ns, place, Evidence("report", f"{claim}/{last.number}"))


def _crash_row(connection: Connection, claim: Row[Any], report: Report | None, limits: Limits) -> Row[Any] | None:
    t = db.crash
    query = with_clock_columns(t).where(t.c.device == claim.device, t.c.incident == claim.incident)
    found = connection.execute(query.order_by(t.c.complete.desc(), t.c.id.desc()).limit(1)).one_or_none()
    if found is None and report is not None:  # reported before the device was heard of
        found = _nearest(connection, claim.device, report.loss_utc_ns, limits.same_loss_s)
    return found


def _nearest(connection: Connection, device: str, utc_ns: int, within_s: float) -> Row[Any] | None:
    t = db.crash
    at = db.utc_ns(t)
    span = round(within_s * NS_PER_S)
    query = with_clock_columns(t).where(t.c.device == device, at >= utc_ns - span, at <= utc_ns + span)
    rows = connection.execute(query.order_by(t.c.complete.desc(), t.c.id.desc())).all()
    return min(rows, key=lambda r: abs(r.t_ns + r.offset_ns - utc_ns), default=None)


def _impact(row: Row[Any], record: Crash) -> Impact:
    place = None
    if record.latitude is not None and record.longitude is not None:
        place = Place(record.latitude, record.longitude)
    return Impact(
        device=row.device,
        incident=row.incident,
        utc_ns=None if row.offset_ns is None else record.t_ns + row.offset_ns,
        uncertainty_ns=row.uncertainty_ns or 0,
        place=place,
        accuracy_m=max(0.0, record.accuracy_m or 0.0),
        heading_deg=record.heading_deg,
        longitudinal_mps=record.delta_v_longitudinal_mps,
        lateral_mps=record.delta_v_lateral_mps,
        delta_v_mps=record.delta_v_mps,
        clipped=record.clipped,
        ref=_ref(row),
    )


def _ref(row: Row[Any]) -> Evidence:
    return Evidence("entry", f"{row.device}/{row.lineage}/{row.lane}/{row.seq}")


def _noticed(connection: Connection, device: str, incident: str) -> int | None:
    t = db.crash
    query = select(t.c.received_utc_ns).where(t.c.device == device, t.c.incident == incident)
    found: int | None = connection.execute(query.order_by(t.c.received_utc_ns).limit(1)).scalar()
    return found


def _overlaps(table: Table, zero: Zero, until_s: float, end: str = "t_ns") -> ColumnElement[bool]:
    """Select rows of the device that touch time zero to `until_s` after it, of any boot whose clock is known."""
    span = round(until_s * NS_PER_S)
    same = and_(table.c.boot == zero.boot, table.c[end] >= zero.t_ns, table.c.t_ns <= zero.t_ns + span)
    if zero.utc_ns is None:
        return and_(table.c.device == zero.device, same)
    other = and_(
        table.c.boot != zero.boot,
        db.utc_ns(table, end) >= zero.utc_ns,
        db.utc_ns(table) <= zero.utc_ns + span,
    )
    return and_(table.c.device == zero.device, or_(same, other))


def _after_s(zero: Zero, row: Row[Any], t_ns: int) -> float:
    if row.boot == zero.boot:
        return (t_ns - zero.t_ns) / NS_PER_S
    return float(t_ns + row.offset_ns - (zero.utc_ns or 0)) / NS_PER_S


class _Span(NamedTuple):
    """A trip, engine on to engine off, seconds from time zero."""

    start_s: float
    end_s: float
    boot: str
    t_ns: int


def _engine_spans(connection: Connection, zero: Zero, limits: Limits) -> list[_Span]:
    t = db.trip
    rows = connection.execute(with_clock_columns(t).where(_overlaps(t, zero, limits.watched_s, "end_ns"))).all()
    return [_Span(_after_s(zero, r, r.t_ns), _after_s(zero, r, r.end_ns), r.boot, r.t_ns) for r in rows]


def _engine_on(spans: Sequence[_Span], t_s: float) -> bool | None:
    """Say whether the engine ran; None where no trip tells, as one comes only when it has ended."""
    return any(s.start_s <= t_s <= s.end_s for s in spans) or None


def _track_points(connection: Connection, zero: Zero, spans: Sequence[_Span], limits: Limits) -> list[Point]:
    t = db.track
    points = []
    for span in spans:
        of = (t.c.device == zero.device, t.c.boot == span.boot, t.c.trip_t_ns == span.t_ns)
        rows = connection.execute(with_clock_columns(t).where(*of).order_by(t.c.t_ns)).all()
        entries = entries_behind(connection, rows)
        for row in rows:
            record = record_of(entries, row)
            if not isinstance(record, Track):
                continue
            for fix in unpack_track([record]):
                t_s = _after_s(zero, row, fix.t_ns)
                if 0 < t_s <= limits.watched_s:
                    place = Place(fix.latitude, fix.longitude)
                    points.append(Point(t_s, place, _engine_on(spans, t_s), _ref(row)))
    return points


def _package_points(
    engine: Engine, files: FileStore, device: str, incident: str, spans: Sequence[_Span]
) -> list[Point]:
    listed = crashes.held_files(engine, device, incident)
    if not any(f.name == "track.csv" for f in listed):
        return []
    track = contents.read(files, device, incident, [f for f in listed if f.name == "track.csv"]).track
    ref = Evidence("file", f"{device}/{incident}/track.csv")
    points = []
    for t_s, latitude, longitude in zip(
        track.t_s, track.column("latitude_deg"), track.column("longitude_deg"), strict=True
    ):
        if t_s > 0 and latitude is not None and longitude is not None and abs(latitude) <= 90 and abs(longitude) <= 180:
            points.append(Point(t_s, Place(latitude, longitude), _engine_on(spans, t_s), ref))
    return points


def _events(connection: Connection, zero: Zero, kind: str, until_s: float) -> list[Moment]:
    t = db.harsh_event
    query = with_clock_columns(t).where(_overlaps(t, zero, until_s), t.c.kind == kind)
    rows = connection.execute(query.order_by(t.c.id)).all()
    entries = entries_behind(connection, rows)
    found = []
    for row in rows:
        record = record_of(entries, row)
        if isinstance(record, Event):
            found.append(Moment(_after_s(zero, row, record.t_ns), abs(record.peak), _ref(row)))
    return found


def _turned(connection: Connection, zero: Zero, limits: Limits) -> list[Moment]:
    """Return how far gravity points elsewhere in the box than before, by the mounts that it learned."""
    t = db.mount
    earlier = (t.c.device == zero.device, t.c.boot == zero.boot, t.c.t_ns < zero.t_ns)
    query = with_clock_columns(t).where(*earlier).order_by(t.c.t_ns.desc()).limit(1)
    before = connection.execute(query).one_or_none()
    later = connection.execute(with_clock_columns(t).where(_overlaps(t, zero, limits.turned_within_s))).all()
    if before is None or not later:
        return []
    entries = entries_behind(connection, [before, *later])
    first = record_of(entries, before)
    found = []
    for row in later:
        record = record_of(entries, row)
        if isinstance(first, Mount) and isinstance(record, Mount):
            angle = _angle_deg(first.gravity, record.gravity)
            if angle is not None:
                found.append(Moment(_after_s(zero, row, record.t_ns), angle, _ref(row)))
    return found


def _angle_deg(a: Sequence[float], b: Sequence[float]) -> float | None:
    size = math.hypot(*a) * math.hypot(*b)
    if not size or not math.isfinite(size):
        return None
    cosine = sum(x * y for x, y in zip(a, b, strict=True)) / size
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def _other_impacts(connection: Connection, mine: Impact) -> list[Impact]:
    if mine.place is None or mine.utc_ns is None:
        return []
    t = db.crash
    at = db.utc_ns(t)
    wide = NEAR_DEG / max(0.1, math.cos(math.radians(mine.place.latitude)))
    query = with_clock_columns(t).where(
        t.c.device != mine.device,
        t.c.latitude.between(mine.place.latitude - NEAR_DEG, mine.place.latitude + NEAR_DEG),
        t.c.longitude.between(mine.place.longitude - wide, mine.place.longitude + wide),
        at.between(mine.utc_ns - NEAR_NS, mine.utc_ns + NEAR_NS),
    )
    rows = connection.execute(query.order_by(t.c.complete.desc(), t.c.id.desc()).limit(2 * MOST_OTHERS)).all()
    best: dict[tuple[str, str], Row[Any]] = {}
    for row in rows:
        best.setdefault((row.device, row.incident), row)
    found = []
    for row in best.values():
        record = record_of(entries_behind(connection, [row]), row)
        if isinstance(record, Crash):
            found.append(_impact(row, record))
    return found


def _other_claims(connection: Connection, claim: Row[Any]) -> Iterable[OtherClaim]:
    devices = {claim.device} | policies.devices_of(connection, policies.vins_of(connection, claim.device))
    c, r = db.claim, tables.claim_report
    rows = connection.execute(select(c).where(c.c.device.in_(sorted(devices)), c.c.id != claim.id)).all()
    for row in rows:
        utc_ns = zero_utc_ns(connection, row.device, row.incident)
        if utc_ns is None:
            said = select(r.c.loss_utc_ns).where(r.c.claim == row.id).order_by(r.c.number.desc()).limit(1)
            utc_ns = connection.execute(said).scalar()
        if utc_ns is not None:
            yield OtherClaim(row.id, utc_ns)


def _other_devices(connection: Connection, claim: Row[Any]) -> list[str]:
    p = tables.claim_party
    parties = connection.execute(select(p).where(p.c.claim == claim.id, p.c.number > 1)).all()
    named = {row.device for row in parties if row.device}
    named |= policies.devices_of(connection, [r.vin for r in parties], [r.plate for r in parties])
    return sorted(named - {claim.device})


def _recorded(connection: Connection, device: str, utc_ns: int, limits: Limits) -> bool:
    """Say whether the device told of a drive or an event near a time."""
    span = round(limits.same_loss_s * NS_PER_S)
    for table, end in ((db.trip, "end_ns"), (db.harsh_event, "t_ns")):
        near = (db.utc_ns(table, end) >= utc_ns - span, db.utc_ns(table) <= utc_ns + span)
        query = select(table.c.id).select_from(db.with_clock(table)).where(table.c.device == device, *near).limit(1)
        if connection.execute(query).first() is not None:
            return True
    return False


def _package(engine: Engine, device: str, incident: str) -> PackageFacts:
    now = crashes.package_now(engine, device, incident)
    check = now.check if now.state in ("proved", "failed") else None
    return PackageFacts(
        state=now.state,
        complete=now.complete,
        missing=tuple(f"{what} ({why})" for what, why in check.missing) if check else (),
        faults=tuple(f"{where}: {what}" for where, what in check.faults) if check else (),
        ref=Evidence("package", f"{device}/{incident}"),
    )
