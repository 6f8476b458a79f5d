"""What the verifier says of whole packages, kept beside them: nothing is shown as evidence that was not checked.

The verifier is the one that everybody may run (agent.evidence.verify_package); the key that it expects is the one with
which the device was enrolled. A package that fails is kept like any other, and what failed is named.
"""

import logging
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, Row, select

from agent.errors import StoreError
from agent.evidence import verify_package
from agent.known import known
from receiver import claims, db
from receiver.filestore import FileStore

log = logging.getLogger(__name__)

PROVED: Final = 0  # the verifier's exit code
UNREADABLE: Final = 2
MOST_LINES: Final = 100  # of one kind, kept of a report
MOST_LINE: Final = 500  # characters


@dataclass(frozen=True, slots=True)
class Check:
    """One verification: lines are the verifier's own words."""

    exit_code: int
    edition: int | None
    files: int
    records: int
    checked_utc_ns: int
    sentences: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)  # file or record, what is wrong with it
    notes: list[str] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)  # what the device says is not there, and why
    replayed: bool = False

    @property
    def proved(self) -> bool:
        """Say whether every file and record is as the enrolled device signed it."""
        return self.exit_code == PROVED

    @property
    def verdict(self) -> str:
        """Return the verifier's last line."""
        return self.sentences[-1] if self.sentences else "not proved"


class _Report(msgspec.Struct):
    """What of a check is kept as JSON."""

    sentences: list[str]
    faults: list[tuple[str, str]]
    notes: list[str]
    missing: list[tuple[str, str]]
    replayed: bool


def check(engine: Engine, files: FileStore, device: str, incident: str, now_ns: int) -> Check | None:
    """Verify a package that is whole and keep what was found; None where there is none, or it grew meanwhile.

    Raise OSError where the store cannot be read and StoreError for a device that is not enrolled.
    """
    with db.reading(engine) as connection:
        key = connection.execute(select(db.device.c.public_key).where(db.device.c.id == device)).scalar()
        digest = _whole(connection, device, incident)
        f = db.package_file
        named = select(f.c.name).where(f.c.device == device, f.c.incident == incident).order_by(f.c.name)
        names = list(connection.execute(named).scalars())
    if key is None:
        raise StoreError(f"package {incident}: device {device} is not enrolled; enrol it first")
    if digest is None:
        return None
    with files.exactly(device, incident, names) as folder:
        found = _verified(str(folder), key, incident, now_ns)
    with engine.begin() as connection:
        # a newer edition changes files under the eyes of the verifier: what it then says is about neither
        if _whole(connection, device, incident, locked=True) != digest:
            return None
        connection.execute(db.upsert(connection, db.package_check, _row(device, incident, digest, found), _KEY))
        if found.proved:
            claims.prove(connection, device, incident, now_ns)
    if not found.proved:
        log.error(
            "package %s of device %s is NOT PROVED: %s", incident, device, "; ".join(map(": ".join, found.faults))
        )
    return found


def of_row(row: Row[Any]) -> Check:
    """Return the check that a row of `package_check` keeps."""
    said = msgspec.json.decode(row.report, type=known(_Report))
    return Check(
        exit_code=row.exit_code,
        edition=row.edition,
        files=row.files,
        records=row.records,
        checked_utc_ns=row.checked_utc_ns,
        sentences=said.sentences,
        faults=said.faults,
        notes=said.notes,
        missing=said.missing,
        replayed=said.replayed,
    )


_KEY: Final = ("device", "incident")


def _whole(connection: Connection, device: str, incident: str, locked: bool = False) -> str | None:
    """Return the digest of the record that named the files of a whole package."""
    t = db.package_state
    query = select(t.c.digest).where(t.c.device == device, t.c.incident == incident, t.c.whole.is_(True))
    digest: str | None = connection.execute(query.with_for_update() if locked else query).scalar()
    return digest


def _verified(folder: str, key: str, incident: str, now_ns: int) -> Check:
    try:
        report = verify_package.verify(folder, key)
    except verify_package.UnreadableError:
        why = "is missing: there is no package to check"
        sentence = "NOT PROVED: the files that came are no package"
        return Check(UNREADABLE, None, 0, 0, now_ns, [sentence], [(verify_package.MANIFEST, why)])
    if report.facts.get("incident") not in (None, incident):
        report.fault(verify_package.MANIFEST, f"is of another incident than {incident}")
    edition = report.facts.get("edition")
    missing = report.facts.get("missing")
    return Check(
        exit_code=report.exit_code,
        edition=edition if isinstance(edition, int) and 0 < edition < 2**31 else None,
        files=report.files,
        records=report.records,
        checked_utc_ns=now_ns,
        sentences=[_line(s) for s in verify_package.sentences(report)][-MOST_LINES:],
        faults=[(_line(where), _line(cause)) for where, cause in report.faults[:MOST_LINES]],
        notes=[_line(n) for n in report.notes[:MOST_LINES]],
        missing=[
            (_line(str(gone.get("what"))), _line(str(gone.get("why"))))
            for gone in (missing if isinstance(missing, list) else [])[:MOST_LINES]
            if isinstance(gone, dict)
        ],
        replayed=any("replayed from a recording" in n for n in report.notes),
    )


def _line(text: str) -> str:
    """Bound one line and keep what a database can hold and a terminal can show."""
    return "".join(c if c.isprintable() else "?" for c in text[:MOST_LINE])


def _row(device: str, incident: str, digest: str, found: Check) -> dict[str, Any]:
    report = _Report(found.sentences, found.faults, found.notes, found.missing, found.replayed)
    return {
        "device": device,
        "incident": incident,
        "digest": digest,
        "exit_code": found.exit_code,
        "edition": found.edition,
        "files": found.files,
        "records": found.records,
        "report": msgspec.json.encode(report).decode(),
        "checked_utc_ns": found.checked_utc_ns,
    }
