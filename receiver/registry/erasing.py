"""Erasure at the receiver: step by step, each in a transaction of its own, so that it may be killed and goes on.

What tells of driving goes; entries become tombstones, so that lanes stay provable. Kept are policies, claims with what
was assessed and paid, the logs, and the evidence of crashes whose claims are not settled: without it neither side could
prove anything (PIPL article 47 with the duty to settle the claim). Such an erasure is "held" and ends with the claim.
"""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, and_, delete, func, or_, select, update

from agent.chain import Entry
from receiver import access, db
from receiver.access import Look
from receiver.filestore import FileStore
from receiver.rating.tables import kept_score
from receiver.registry import consents, erasures, exporting, gate, tables
from receiver.registry.erasures import Erasure
from receiver.registry.refusals import RegistryError

log = logging.getLogger(__name__)

AT_ONCE: Final = 500  # entries in one transaction: 50 ms, for which others wait on SQLite
SETTLED: Final = "settled"
BY: Final = "erasure"
_DRIVEN: Final = (db.trip, db.harsh_event, db.track, db.curve)
# What goes beside entries, by purpose; recording takes everything along.
FILES: Final = ("recording", "video", "clip", "track")
# purpose -> the command whose answers alone go with it; clips by a rule of the device have no command
ASKED: Final = {"clip": "clip", "track": "track"}
SCORES: Final = ("recording", "scoring")


def run(engine: Engine, files: FileStore | None, now_ns: int, stopped: Callable[[], bool] = lambda: False) -> list[int]:
    """Do what is open and what is held and may go now; return the numbers of those that are done.

    Safe to call again, from any process, wherever it was cut. Raise OSError where the file store refuses.
    """
    with db.reading(engine) as connection:
        todo = erasures.unfinished(connection)
    done = []
    for erasure in todo:
        if stopped():
            break
        if _erase(engine, files, erasure, now_ns, stopped):
            done.append(erasure.id)
    if done and engine.dialect.name == "sqlite":
        with engine.connect() as raw:
            raw.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what was overwritten stands there too
    return done


def ask(
    engine: Engine, now_ns: int, *, owner: str = "", device: str = "", by: str = access.LOCAL, address: str = ""
) -> list[int]:
    """Withdraw all that an owner agreed to, or for one device, and ask for the erasure of all; return the numbers.

    What is erased already is asked for again: more may have come before it was withdrawn. Devices that are another
    owner's now are left alone.
    """
    with db.reading(engine) as connection:
        devices = sorted(exporting.devices_ever(connection, owner)) if owner else [device]
        if device and connection.execute(select(db.device.c.id).where(db.device.c.id == device)).first() is None:
            raise RegistryError(f"device {device[:64]!r}: is not enrolled", "device", 404)
    made = []
    for one in devices:
        access.append(engine, Look(by, address, one[:64], "", "erasure", f"ask {owner}"[:100]), now_ns)
        with engine.begin() as connection:
            of = owner or consents.owner_of(connection, one)
            consents.end(connection, one, by, "erasure asked for", now_ns)
            made.append(erasures.open_for(connection, one, of, "recording", by, now_ns))
    return made


def _erase(engine: Engine, files: FileStore | None, erasure: Erasure, now_ns: int, stopped: Callable[[], bool]) -> bool:
    """Do one erasure as far as it may go; say whether it is done."""
    with db.reading(engine) as connection:
        until_ns = _until_ns(connection, erasure, now_ns)
        kept = _kept(connection, erasure.device)
    for step in _steps(engine, files, erasure, until_ns, kept):
        if stopped():
            return False
        with engine.begin() as connection:
            _overwrite(connection)
            for what, n in step(connection).items():
                _count(connection, erasure.id, what, n)
    state = "held" if kept and erasure.purpose in ("recording", "video") else "done"
    if state == erasure.state and kept == erasure.kept:
        return False
    access.append(
        engine, Look(BY, "", erasure.device, "", "erasure", f"{erasure.id} {erasure.purpose} {state}"), now_ns
    )
    with engine.begin() as connection:
        t = tables.erasure
        values: dict[str, Any] = {"state": state, "kept": json.dumps(kept), "until_utc_ns": until_ns}
        values["done_utc_ns"] = now_ns if state == "done" else None
        connection.execute(update(t).where(t.c.id == erasure.id).values(**values))
    log.info("erasure %d of device %s (%s): %s", erasure.id, erasure.device, erasure.purpose, state)
    return state == "done"


Step = Callable[[Connection], dict[str, int]]


def _steps(engine: Engine, files: FileStore | None, erasure: Erasure, until_ns: int, kept: list[str]) -> Iterator[Step]:
    device, purpose = erasure.device, erasure.purpose
    if purpose == "recording":
        while True:
            with db.reading(engine) as connection:
                some = _entries(connection, device, until_ns, kept)
            if not some:
                break
            yield lambda connection, some=some: _bury(connection, some)  # type: ignore[misc]
        for table in _DRIVEN:
            yield lambda c, t=table: {t.name: _delete(c, t, t.c.device == device, t.c.received_utc_ns <= until_ns)}  # type: ignore[misc]
        gone = (db.crash.c.device == device, db.crash.c.received_utc_ns <= until_ns, db.crash.c.incident.not_in(kept))
        yield lambda c: {"crash": _delete(c, db.crash, *gone)}
        yield lambda c: {"parked": _delete(c, db.parked, db.parked.c.device == device)}
        yield lambda c: _forget_place(c, device)
    if purpose in FILES:
        with db.reading(engine) as connection:
            incidents = _packages(connection, device, until_ns, kept, purpose)
        for incident in incidents:
            if files is not None:
                files.remove(device, incident)  # first: a row never outlives its files
            yield lambda c, i=incident: _drop_package(c, device, i)  # type: ignore[misc]
    if purpose in SCORES:
        s = kept_score.c  # what is computed since it was agreed to again stays: a held erasure comes by every minute
        told = (s.device == device, s.computed_utc_ns <= until_ns)
        yield lambda c: {"kept_score": _delete(c, kept_score, *told)}


def _until_ns(connection: Connection, erasure: Erasure, now_ns: int) -> int:
    """Return until when what was received goes: until the owner agreed again, else until now."""
    t = tables.consent
    again = (t.c.device == erasure.device, t.c.purpose == erasure.purpose, t.c.given.is_(True))
    first = select(func.min(t.c.at_utc_ns)).where(*again, t.c.at_utc_ns > erasure.asked_utc_ns)
    found = connection.execute(first).scalar()
    return now_ns if found is None else int(found)


def _kept(connection: Connection, device: str) -> list[str]:
    """Return the incidents whose claims are not settled."""
    t = db.claim
    query = select(t.c.incident).where(t.c.device == device, t.c.state != SETTLED).order_by(t.c.incident)
    return list(connection.execute(query).scalars())


def _entries(connection: Connection, device: str, until_ns: int, kept: list[str]) -> list[Any]:
    """Return the next entries that still say what they must not."""
    e = db.entry
    evidence = []
    for kind, table in (("crash", db.crash), ("package", db.package)):
        same = and_(*(e.c[name] == table.c[name] for name in ("device", "lineage", "lane", "seq")))
        named = select(table.c.id).where(same, table.c.incident.not_in(kept)).exists()
        evidence.append(and_(e.c.kind == kind, named))
    says = or_(e.c.kind.in_(sorted(gate.DRIVING)), *evidence)
    where = (e.c.device == device, e.c.received_utc_ns <= until_ns, e.c.flag != gate.ERASED)
    return list(connection.execute(select(e).where(*where, says).limit(AT_ONCE)).all())


def _bury(connection: Connection, rows: list[Any]) -> dict[str, int]:
    """Make tombstones of entries."""
    e = db.entry
    for row in rows:
        entry = Entry(row.lineage, row.lane, row.seq, row.boot, row.t_ns, row.kind, bytes(row.body), b"", b"")
        own = and_(*(e.c[name] == getattr(row, name) for name in ("device", "lineage", "lane", "seq")))
        month = e.c.received_utc_ns == row.received_utc_ns  # by which PostgreSQL finds the partition
        values = {"body": gate.digest(row.device, entry), "flag": gate.ERASED}
        connection.execute(update(e).where(own, month, e.c.flag != gate.ERASED).values(**values))
    return {"entry": len(rows)}


def _forget_place(connection: Connection, device: str) -> dict[str, int]:
    """Forget where the car was last, unless its owner agreed again since."""
    if not gate.withheld(connection, [device]):
        return {}
    t = db.live
    nothing = {"position_boot": None, "position_t_ns": None, "latitude": None, "longitude": None, "speed_mps": None}
    known = (t.c.device == device, t.c.position_boot.is_not(None))
    return {"live": connection.execute(update(t).where(*known).values(**nothing)).rowcount}


def _packages(connection: Connection, device: str, until_ns: int, kept: list[str], purpose: str) -> list[str]:
    """Return the packages that go with a purpose: all, those that show video, or those that were asked for by it."""
    p, s, c, r = db.package, db.package_state, db.crash, db.reply
    rows = select(p.c.incident).where(p.c.device == device, p.c.received_utc_ns <= until_ns)
    late = select(p.c.incident).where(p.c.device == device, p.c.received_utc_ns > until_ns)
    known = set(connection.execute(rows).scalars()) - set(connection.execute(late).scalars()) - set(kept)
    # killed between two steps, a package may have lost its row before its state
    states = set(connection.execute(select(s.c.incident).where(s.c.device == device)).scalars()) - set(kept)
    known |= states - set(connection.execute(late).scalars())
    if purpose == "recording":
        return sorted(known)
    asked = select(r.c.incident, r.c.command).where(r.c.device == device, r.c.incident.is_not(None))
    answers = {row.incident: row.command for row in connection.execute(asked)}
    wanted = ASKED.get(purpose, "clip")
    known = {i for i in known if answers.get(i, "clip") == wanted}
    if purpose in ASKED:
        known -= set(connection.execute(select(c.c.incident).where(c.c.device == device)).scalars())
    return sorted(known)


def _drop_package(connection: Connection, device: str, incident: str) -> dict[str, int]:
    removed = 0
    for table in (db.package_file, db.package_state, db.package_check, db.package):
        gone = _delete(connection, table, table.c.device == device, table.c.incident == incident)
        removed = max(removed, gone if table is db.package_file else 0)
    t, f = db.transfer, db.package_file
    needed = select(f.c.file).where(f.c.device == device)
    _delete(connection, t, t.c.device == device, t.c.file.not_in(needed))
    return {"package": 1, "file": removed}


def _delete(connection: Connection, table: Table, *where: Any) -> int:
    return connection.execute(delete(table).where(*where)).rowcount


def _overwrite(connection: Connection) -> None:
    """Have SQLite overwrite what it frees; PostgreSQL gives it up to its vacuum."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON")


def _count(connection: Connection, erasure: int, what: str, n: int) -> None:
    t = tables.erasure
    row = connection.execute(select(t.c.removed).where(t.c.id == erasure).with_for_update()).scalar_one()
    counts = json.loads(row)
    counts[what] = counts.get(what, 0) + n
    connection.execute(update(t).where(t.c.id == erasure).values(removed=json.dumps(counts, sort_keys=True)))
