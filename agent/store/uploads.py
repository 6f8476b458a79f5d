"""What the store remembers of uploads: which packages wait, how much of each file is acknowledged, bytes by day.

The receiver's answers are the truth; what stands here is the last one heard, for people and for retention.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from agent.filemessages import record_digest
from agent.known import known
from agent.records import Package
from agent.store.database import Database

# The newest record of each incident, and whether the receiver has told that its files are whole. Only records that
# the receiver holds: it takes no file before it knows what to expect.
_NEWEST: Final = """
SELECT p.incident, e.body, e.seq <= l.position, u.digest FROM package p JOIN entry e ON e.id = p.entry
JOIN lane l ON l.lineage = e.lineage AND l.lane = e.lane LEFT JOIN uploaded_package u ON u.incident = p.incident
WHERE p.entry = (SELECT MAX(entry) FROM package q WHERE q.incident = p.incident) ORDER BY p.entry
"""
_decoder: Final = msgspec.json.Decoder(known(Package))


@dataclass(frozen=True, slots=True)
class StoredPackage:
    """A package as its newest record names it."""

    package: Package
    digest: str  # of the record's body: agent.filemessages.record_digest
    announced: bool  # the receiver holds the record
    acknowledged: bool  # the receiver holds every file


class UploadTable:
    """Reads and writes the upload tables of an open store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def packages(self) -> list[StoredPackage]:
        """Return every package that the store knows, oldest first."""
        found = []
        for _, body, announced, told in self._database.rows(_NEWEST):
            try:
                package = _decoder.decode(body)
            except msgspec.DecodeError:
                continue  # damaged: `verify` tells
            digest = record_digest(body)
            found.append(StoredPackage(package, digest, bool(announced), told == digest))
        return found

    def acknowledge(self, incident: str, digest: str) -> None:
        """Keep that the receiver holds all files of a package, as that record names them."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO uploaded_package VALUES (?1, ?2) ON CONFLICT (incident) DO UPDATE SET digest = ?2",
                (incident, digest),
            )

    def reopen(self, incident: str) -> None:
        """Keep that the receiver does not hold a package any more."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM uploaded_package WHERE incident = ?", (incident,))

    def progress(self) -> dict[str, int]:
        """Return how many bytes of each file the receiver was last known to hold, by the file's SHA-256."""
        return dict(self._database.rows("SELECT file, acknowledged FROM uploaded_file"))

    def keep_progress(self, acknowledged: dict[str, int]) -> None:
        """Keep how many bytes of some files the receiver holds."""
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT INTO uploaded_file VALUES (?1, ?2) ON CONFLICT (file) DO UPDATE SET acknowledged = ?2",
                list(acknowledged.items()),
            )

    def prune(self) -> None:
        """Forget how far the files of packages are that nobody waits for, and packages that the store knows no more."""
        waiting = {f.sha256 for p in self.packages() if not p.acknowledged for f in p.package.files}
        with self._database.transaction() as connection:
            gone = [(file,) for (file,) in connection.execute("SELECT file FROM uploaded_file") if file not in waiting]
            connection.executemany("DELETE FROM uploaded_file WHERE file = ?", gone)
            connection.execute("DELETE FROM uploaded_package WHERE incident NOT IN (SELECT incident FROM package)")

    def traffic(self) -> dict[tuple[int, str], int]:
        """Return the bytes counted so far, by day (days since 1970-01-01 UTC) and class."""
        return {(day, kind): n for day, kind, n in self._database.rows("SELECT day, kind, bytes FROM traffic")}

    def keep_traffic(self, day: int, kind: str, count: int) -> None:
        """Keep the bytes of one day and class."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO traffic VALUES (?1, ?2, ?3) ON CONFLICT (day, kind) DO UPDATE SET bytes = ?3",
                (day, kind, count),
            )
            # A month's budget needs this month's days; the one before is for people.
            connection.execute("DELETE FROM traffic WHERE day < ? - 62", (day,))
