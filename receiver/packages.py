"""Packages: what a stored Package record lets the receiver expect, how far it is, and what happens when it is whole.

`arrived` is called once all files of a package stand in the store, at least once for each record that made it whole,
by the process that received the last of them or, when that died, by any other.
"""

import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, Engine, delete, exists, insert, select, update
from sqlalchemy.sql import ColumnElement

from agent import clock
from agent.filemessages import LARGEST, record_digest, safe_name
from agent.records import Package
from receiver import checks, db
from receiver.claiming import assessing
from receiver.filestore import FileStore
from receiver.projections import INCIDENT, Known

log = logging.getLogger(__name__)

MOST_FILES: Final = 100  # in one package; ours have about ten
UNUSABLE: Final = "package names files that cannot be kept"
_HEX: Final = frozenset("0123456789abcdef")


class Arrival(NamedTuple):
    """A package whose files are all in the store."""

    device: str
    incident: str
    digest: str  # of the record that names its files: another record, another arrival
    complete: bool  # nothing will be added


class FileProgress(NamedTuple):
    """How far one file of a package is."""

    name: str
    size: int
    received: int  # bytes
    held: bool  # whole, checked, in the store


class Progress(NamedTuple):
    """How far a package is."""

    device: str
    incident: str
    whole: bool
    complete: bool
    whole_utc_ns: int | None
    files: list[FileProgress]

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(f.size for f in self.files)

    @property
    def received(self) -> int:
        """Return the bytes that have come."""
        return sum(f.received for f in self.files)


def arrived(engine: Engine, files: FileStore, arrival: Arrival) -> None:
    """Take a package that has become whole: it stands in `files.folder(device, incident)`.

    The same package may be given again after a restart. Raise RoadwitnessError or OSError to be called again later.
    """
    found = checks.check(engine, files, arrival.device, arrival.incident, clock.wall_ns())
    assessing.look_again(engine, files, arrival.device, arrival.incident, clock.wall_ns())
    told = "was replaced while it was checked" if found is None else found.verdict
    log.info("package %s of device %s is whole: %s", arrival.incident, arrival.device, told)


def expect(connection: Connection, device: str, known: Sequence[Known], now_ns: int) -> tuple[list[str], int]:
    """Take what Package records name; return the ids of their files, and how many records could not be used."""
    named: list[str] = []
    refused = 0
    for entry, record, _ in known:
        if isinstance(record, Package):
            if not _usable(connection, device, record):
                refused += 1
                continue
            digest = record_digest(entry.body)
            row = {
                "device": device,
                "incident": record.incident,
                "digest": digest,
                "lineage": entry.lineage,
                "lane": entry.lane,
                "seq": entry.seq,
                "complete": record.complete,
                "whole": False,
                "whole_utc_ns": None,
                "told": False,
            }
            where = _package(device, record.incident)
            before = connection.execute(select(db.package_state.c.digest).where(*where)).scalar()
            if before == digest:
                continue  # sealed anew by a store that was an older copy of itself
            connection.execute(db.upsert(connection, db.package_state, row, ["device", "incident"]))
            _name_files(connection, device, record, now_ns)
            mark_whole(connection, device, record.incident, now_ns)
            named += [f.sha256 for f in record.files]
    return named, refused


def _usable(connection: Connection, device: str, record: Package) -> bool:
    """Say whether every file has a safe name of its own, and one size, also in the device's other packages."""
    sizes: dict[str, int] = {}
    for f in record.files:
        if not safe_name(f.name) or len(f.sha256) != 64 or not set(f.sha256) <= _HEX or not 0 <= f.size <= LARGEST:
            return False
        if sizes.setdefault(f.sha256, f.size) != f.size:
            return False
    if not 0 < len(record.files) <= MOST_FILES or not INCIDENT.fullmatch(record.incident):
        return False
    if len({f.name.lower() for f in record.files}) != len(record.files):  # some stores do not tell case apart
        return False
    table = db.transfer
    rows = connection.execute(
        select(table.c.file, table.c.size).where(table.c.device == device, table.c.file.in_(list(sizes)))
    )
    return all(sizes[row.file] == row.size for row in rows)


def _name_files(connection: Connection, device: str, record: Package, now_ns: int) -> None:
    """Write the files of a package, keeping what is held already; names that it has no more are forgotten."""
    table = db.package_file
    here = (table.c.device == device, table.c.incident == record.incident)
    before = {row.name: row for row in connection.execute(select(table).where(*here))}
    connection.execute(delete(table).where(*here))
    rows = []
    for f in record.files:
        same = before.get(f.name)
        held = same is not None and same.file == f.sha256 and bool(same.held)
        names = {"device": device, "incident": record.incident, "name": f.name}
        rows.append({**names, "file": f.sha256, "size": f.size, "held": held})
        transfer = {
            "device": device,
            "file": f.sha256,
            "size": f.size,
            "state": "waiting",
            "partial": "",
            "ranges": "[]",
            "received": 0,
            "revision": 0,
            "updated_utc_ns": now_ns,
        }
        connection.execute(db.upsert(connection, db.transfer, transfer, ["device", "file"], {}))
    connection.execute(insert(table), rows)


def mark_whole(connection: Connection, device: str, incident: str, now_ns: int) -> None:
    """Note that a package is whole if every file of it is held."""
    # Two receivers may bring the last two files at once: the second to come here must see what the first wrote.
    connection.execute(select(db.package_state.c.whole).where(*_package(device, incident)).with_for_update()).all()
    f = db.package_file
    lacking = exists(select(f.c.name).where(f.c.device == device, f.c.incident == incident, f.c.held.is_(False)))
    connection.execute(
        update(db.package_state)
        .where(*_package(device, incident), db.package_state.c.whole.is_(False), ~lacking)
        .values(whole=True, whole_utc_ns=now_ns, told=False)
    )


def untold(engine: Engine) -> list[Arrival]:
    """Return the whole packages with which `arrived` has not dealt."""
    t = db.package_state
    with db.reading(engine) as connection:
        rows = connection.execute(
            select(t.c.device, t.c.incident, t.c.digest, t.c.complete).where(t.c.told.is_(False), t.c.whole.is_(True))
        )
        return [Arrival(row.device, row.incident, row.digest, bool(row.complete)) for row in rows]


def told(engine: Engine, arrival: Arrival) -> None:
    """Note that `arrived` has dealt with a package, unless another record has named other files since."""
    t = db.package_state
    with engine.begin() as connection:
        where = (*_package(arrival.device, arrival.incident), t.c.digest == arrival.digest)
        connection.execute(update(t).where(*where).values(told=True))


def progress(engine: Engine, device: str | None = None, incident: str | None = None) -> list[Progress]:
    """Return how far packages are, by device and incident: all, those of one device, or one."""
    s, f, t = db.package_state, db.package_file, db.transfer
    query = (
        select(s.c.device, s.c.incident, s.c.whole, s.c.complete, s.c.whole_utc_ns)
        .add_columns(f.c.name, f.c.size, f.c.held, t.c.received, t.c.state)
        .join(f, (f.c.device == s.c.device) & (f.c.incident == s.c.incident))
        .join(t, (t.c.device == f.c.device) & (t.c.file == f.c.file))
        .order_by(s.c.device, s.c.incident, f.c.name)
    )
    if device is not None:
        query = query.where(s.c.device == device)
    if incident is not None:
        query = query.where(s.c.incident == incident)
    found: dict[tuple[str, str], Progress] = {}
    with db.reading(engine) as connection:
        for row in connection.execute(query):
            package = found.setdefault(
                (row.device, row.incident),
                Progress(row.device, row.incident, bool(row.whole), bool(row.complete), row.whole_utc_ns, []),
            )
            received = row.size if row.held else row.received
            package.files.append(FileProgress(row.name, row.size, received, bool(row.held)))
    return list(found.values())


def remove(engine: Engine, files: FileStore, device: str, incident: str) -> None:
    """Forget a package and delete its files: for retention, and for an owner's right to have them deleted.

    The signed record stays; the device is not asked again. Files that another package of the device names stay there.
    """
    f, t = db.package_file, db.transfer
    with engine.begin() as connection:
        here = (f.c.device == device, f.c.incident == incident)
        mine = list(connection.execute(select(f.c.file).where(*here)).scalars())
        connection.execute(delete(f).where(*here))
        connection.execute(delete(db.package_state).where(*_package(device, incident)))
        others = set(connection.execute(select(f.c.file).where(f.c.device == device, f.c.file.in_(mine))).scalars())
        gone = (t.c.device == device, t.c.file.in_([name for name in mine if name not in others]))
        partials = list(connection.execute(select(t.c.partial).where(*gone)).scalars())
        connection.execute(delete(t).where(*gone))
    for partial in partials:
        files.drop(partial)
    files.remove(device, incident)


def _package(device: str, incident: str) -> tuple[ColumnElement[bool], ...]:
    return (db.package_state.c.device == device, db.package_state.c.incident == incident)
