"""What the pages and the command line ask of the database about crashes; every function returns plain dataclasses.

An incident has two crash records, early and complete; the complete one is shown as soon as it is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, case, func, select

from agent.records import Crash
from receiver import checks, db
from receiver.checks import Check
from receiver.claims import BY_DEVICE
from receiver.proof import Proof, entries_behind, prove, record_of
from receiver.queries import Altered, BootClock, Page, clock_of, paged, with_clock_columns

PAGE: Final = 50  # crashes in a vehicle's list; more are listed by command
PackageState = Literal["none", "arriving", "checking", "proved", "failed"]


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file of a package and how far it is."""

    name: str
    size: int
    sha256: str
    received: int  # bytes
    held: bool  # whole, its hash checked, in the store


@dataclass(frozen=True, slots=True)
class PackageNow:
    """How far the package of an incident is: nothing announced, on its way, whole, proved or failed."""

    state: PackageState = "none"
    complete: bool = False  # the device will add nothing
    size: int = 0
    received: int = 0
    whole_utc_ns: int | None = None
    check: Check | None = None  # of what is there now; of an earlier edition while a newer one arrives


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """The claim of an incident."""

    id: str
    opened_utc_ns: int
    suspected: bool
    state: str


@dataclass(frozen=True, slots=True)
class CrashRow:
    """One incident in a list."""

    device: str
    incident: str
    kind: str
    complete: bool
    clock: BootClock
    t_ns: int
    received_utc_ns: int  # of its first record
    delta_v_mps: float | None
    direction_clock: int | None
    clipped: bool
    speed_before_mps: float | None
    package: PackageNow
    claim: ClaimRow | None

    @property
    def utc_ns(self) -> int | None:
        """Return when it was, None where the boot never learned the time."""
        return self.clock.utc_ns(self.t_ns)


@dataclass(frozen=True, slots=True)
class CrashPage:
    """Everything about one incident but what its files hold."""

    row: CrashRow
    record: Crash
    files: list[PackageFile]
    proof: Proof
    trip_id: int | None


def crashes(
    engine: Engine,
    device: str | None = None,
    page: int = 1,
    size: int = PAGE,
    only: Sequence[ColumnElement[bool]] = (),
) -> tuple[list[CrashRow], Page]:
    """Return one page of incidents, of one device or of all, of whose claims `only` is true, the last first."""
    c = db.claim  # one for each incident, and those that somebody opened without a crash
    of = [c.c.opened_by == BY_DEVICE, *only, *([] if device is None else [c.c.device == device])]
    with db.reading(engine) as connection:
        total = connection.execute(select(func.count()).select_from(c).where(*of)).scalar_one()
        shown = paged(page, total, size)
        chosen = select(c.c.device, c.c.incident).where(*of).order_by(c.c.opened_utc_ns.desc(), c.c.id)
        wanted = connection.execute(chosen.offset((shown.number - 1) * size).limit(size)).all()
        found = [rows for row in wanted if (rows := _rows(connection, row.device, row.incident))]
        return [_crash_row(connection, rows) for rows in found], shown


def crash(engine: Engine, device: str, incident: str) -> CrashPage | None:
    """Return one incident, or None; raise Altered when its record is none any more."""
    with db.reading(engine) as connection:
        rows = _rows(connection, device, incident)
        if not rows:
            return None
        shown = rows[0]
        entries = entries_behind(connection, rows)
        record = record_of(entries, shown)
        if not isinstance(record, Crash):
            raise Altered
        key = connection.execute(select(db.device.c.public_key).where(db.device.c.id == device)).scalar()
        return CrashPage(
            row=_crash_row(connection, rows),
            record=record,
            files=_files(connection, device, incident),
            proof=prove(device, key or "", shown, rows, entries),
            trip_id=_trip_id(connection, shown),
        )


def known(engine: Engine, device: str, incident: str) -> bool:
    """Say whether there is a crash of that name."""
    t = db.crash
    with db.reading(engine) as connection:
        query = select(t.c.id).where(t.c.device == device, t.c.incident == incident).limit(1)
        return connection.execute(query).first() is not None


def package_now(engine: Engine, device: str, incident: str) -> PackageNow:
    """Return how far a package is."""
    with db.reading(engine) as connection:
        return _package(connection, device, incident)


def version(engine: Engine, device: str, incident: str) -> str:
    """Return what changes when the page of an incident would."""
    t, s, f = db.crash, db.package_state, db.package_file
    with db.reading(engine) as connection:
        newest = connection.execute(
            select(func.max(t.c.id)).where(t.c.device == device, t.c.incident == incident)
        ).scalar()
        of = (s.c.device == device, s.c.incident == incident)
        digest = connection.execute(select(s.c.digest).where(*of)).scalar() or ""
        held = select(func.count()).where(f.c.device == device, f.c.incident == incident, f.c.held.is_(True))
        package = _package(connection, device, incident)
        checked = package.check.checked_utc_ns if package.check else 0
        parts = (newest or 0, digest[:12], connection.execute(held).scalar_one(), package.state, checked)
    return ".".join(map(str, parts))


def held_file(engine: Engine, device: str, incident: str, name: str) -> PackageFile | None:
    """Return a file of a package if it stands in the store."""
    f = db.package_file
    where = (f.c.device == device, f.c.incident == incident, f.c.name == name, f.c.held.is_(True))
    with db.reading(engine) as connection:
        row = connection.execute(select(f).where(*where)).one_or_none()
    return None if row is None else PackageFile(row.name, row.size, row.file, row.size, held=True)


def listed_files(engine: Engine, device: str, incident: str) -> list[PackageFile]:
    """Return the files that a package has, those too that have not come yet."""
    with db.reading(engine) as connection:
        return _files(connection, device, incident)


def held_files(engine: Engine, device: str, incident: str) -> list[PackageFile]:
    """Return the files of a package when all of them stand in the store, else []."""
    with db.reading(engine) as connection:
        files = _files(connection, device, incident)
    return files if all(f.held for f in files) else []


def _rows(connection: Connection, device: str, incident: str) -> Sequence[Row[Any]]:
    """Return the records of an incident, that which is shown first."""
    t = db.crash
    query = with_clock_columns(t).where(t.c.device == device, t.c.incident == incident)
    found: Sequence[Row[Any]] = connection.execute(query.order_by(t.c.complete.desc(), t.c.id.desc())).all()
    return found


def _crash_row(connection: Connection, rows: Sequence[Row[Any]]) -> CrashRow:
    row = rows[0]
    c = db.claim
    claim = connection.execute(select(c).where(c.c.device == row.device, c.c.incident == row.incident)).one_or_none()
    return CrashRow(
        device=row.device,
        incident=row.incident,
        kind=row.kind,
        complete=bool(row.complete),
        clock=clock_of(row),
        t_ns=row.t_ns,
        received_utc_ns=min(r.received_utc_ns for r in rows),
        delta_v_mps=row.delta_v_mps,
        direction_clock=row.direction_clock,
        clipped=bool(row.clipped),
        speed_before_mps=row.speed_before_mps,
        package=_package(connection, row.device, row.incident),
        claim=None if claim is None else ClaimRow(claim.id, claim.opened_utc_ns, bool(claim.suspected), claim.state),
    )


def _package(connection: Connection, device: str, incident: str) -> PackageNow:
    s, c = db.package_state, db.package_check
    state = connection.execute(select(s).where(s.c.device == device, s.c.incident == incident)).one_or_none()
    if state is None:
        return PackageNow()
    size, received = connection.execute(_sums(device, incident)).one()
    row = connection.execute(select(c).where(c.c.device == device, c.c.incident == incident)).one_or_none()
    check = None if row is None else checks.of_row(row)
    now: PackageState = "arriving"
    if state.whole:
        current = row is not None and row.digest == state.digest
        now = "checking" if check is None or not current else "proved" if check.proved else "failed"
    return PackageNow(now, bool(state.complete), int(size or 0), int(received or 0), state.whole_utc_ns, check)


def _sums(device: str, incident: str) -> Any:
    f, t = db.package_file, db.transfer
    received = case((f.c.held.is_(True), f.c.size), else_=func.coalesce(t.c.received, 0))
    joined = f.outerjoin(t, and_(t.c.device == f.c.device, t.c.file == f.c.file))
    of = (f.c.device == device, f.c.incident == incident)
    return select(func.sum(f.c.size), func.sum(received)).select_from(joined).where(*of)


def _files(connection: Connection, device: str, incident: str) -> list[PackageFile]:
    f, t = db.package_file, db.transfer
    joined = f.outerjoin(t, and_(t.c.device == f.c.device, t.c.file == f.c.file))
    query = select(f, t.c.received).select_from(joined).where(f.c.device == device, f.c.incident == incident)
    return [
        PackageFile(row.name, row.size, row.file, row.size if row.held else row.received or 0, bool(row.held))
        for row in connection.execute(query.order_by(f.c.name))
    ]


def _trip_id(connection: Connection, row: Row[Any]) -> int | None:
    t = db.trip
    own = (t.c.device == row.device, t.c.boot == row.boot, t.c.t_ns == row.trip_t_ns)
    found: int | None = connection.execute(select(t.c.id).where(*own).limit(1)).scalar()
    return found
