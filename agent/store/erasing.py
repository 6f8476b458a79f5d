"""Erasure of what a person withdrew: samples, trips, tracks, events, and the crashes that the receiver holds.

Lanes stay provable. What the receiver acknowledged goes from the front, as by retention, and the chain goes on from the
hash that is kept. What it does not hold yet cannot be left out of a chain: the rest is sealed anew under the next
lineage, as after a restored copy. Bytes are overwritten in the file; what a card's controller keeps is beyond us.
"""

import sqlite3
from collections.abc import Collection
from typing import Final, NamedTuple

from agent.store.database import Database
from agent.store.lanes import Lanes
from agent.store.samples import Samples, drop_blocks

REASON: Final = "consent withdrawn"
# Of a crash that the receiver does not hold yet the evidence stays until it does: decision 0258.
GOES: Final = ("event", "trip", "track", "curve")
_LANES: Final = ("event", "trip", "track", "crash")


class Erased(NamedTuple):
    """What was removed: samples in blocks, and records."""

    samples: int
    records: int


def erase(database: Database, lanes: Lanes, samples: Samples, incidents: Collection[str]) -> Erased:
    """Remove everything but health, time, replies and what `incidents` does not name of crashes; durable on return.

    `incidents` are those whose packages are gone. Legal again at any time, also after a power cut in the middle of it.
    """
    with database.lock:
        with database.in_words("erasing"):
            database.connection.execute("PRAGMA secure_delete = ON")
        records = _unsent(database, lanes, incidents)
        samples.forget()
        with database.transaction() as connection:
            blocks = connection.execute("SELECT id, boot, samples, start_ns, end_ns, bytes FROM block").fetchall()
            dropped = drop_blocks(connection, blocks, REASON)
            connection.execute("DELETE FROM piece")
            connection.execute("DELETE FROM ahead")
            records += _acknowledged(connection)
            _forget_packages(connection, incidents)
        samples.recount()
        with database.in_words("giving space back"):
            database.connection.execute("PRAGMA incremental_vacuum").fetchall()
            database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            database.connection.execute("PRAGMA secure_delete = OFF")
    return Erased(dropped, records)


def left(database: Database) -> bool:
    """Say whether there is anything that `erase` would remove of lanes and samples."""
    return bool(
        database.rows(
            "SELECT 1 FROM block UNION ALL SELECT 1 FROM piece UNION ALL SELECT 1 FROM ahead "
            "UNION ALL SELECT 1 FROM entry e "
            "JOIN lane l ON l.lineage = e.lineage AND l.lane = e.lane "
            f"WHERE e.kind IN ({_marks(GOES)}) OR (e.kind = 'crash' AND e.seq <= l.position) LIMIT 1",
            GOES,
        )
    )


def _unsent(database: Database, lanes: Lanes, incidents: Collection[str]) -> int:
    """Take what the receiver does not hold out of the lanes, which then begin a lineage; return how many records."""
    ids = database.rows(
        "SELECT e.id FROM entry e JOIN lane l ON l.lineage = e.lineage AND l.lane = e.lane WHERE e.seq > l.position "
        f"AND (e.kind IN ({_marks(GOES)}) "
        f"OR e.id IN (SELECT entry FROM package WHERE incident IN ({_marks(incidents)})))",
        (*GOES, *incidents),
    )

    def drop(connection: sqlite3.Connection) -> None:
        for table in (*GOES, "package"):
            connection.executemany(f"DELETE FROM {table} WHERE entry = ?", ids)
        connection.executemany("DELETE FROM entry WHERE id = ?", ids)

    if ids:
        lanes.renew(REASON, drop)
    return len(ids)


def _acknowledged(connection: sqlite3.Connection) -> int:
    """Remove the acknowledged front of the lanes that tell of driving; return how many records."""
    gone = 0
    for lineage, lane, position, base in connection.execute(
        f"SELECT lineage, lane, position, base FROM lane WHERE lane IN ({_marks(_LANES)})", _LANES
    ).fetchall():
        last = connection.execute(
            "SELECT seq, hash FROM entry WHERE lineage = ? AND lane = ? AND seq <= ? ORDER BY seq DESC LIMIT 1",
            (lineage, lane, position),
        ).fetchone()
        if last is None:
            continue
        chosen = (lineage, lane, position)
        for table in ("event", "trip", "track", "curve", "crash"):
            connection.execute(
                f"DELETE FROM {table} WHERE entry IN "
                "(SELECT id FROM entry WHERE lineage = ? AND lane = ? AND seq <= ?)",
                chosen,
            )
        connection.execute("DELETE FROM entry WHERE lineage = ? AND lane = ? AND seq <= ?", chosen)
        connection.execute(
            "UPDATE lane SET base = ?, base_hash = ? WHERE lineage = ? AND lane = ?", (*last, lineage, lane)
        )
        gone += last[0] - base
    return gone


def _forget_packages(connection: sqlite3.Connection, incidents: Collection[str]) -> None:
    """Expect no upload of packages that are gone; their records stay in their lane, which the receiver holds."""
    for incident in incidents:
        connection.execute("DELETE FROM package WHERE incident = ?", (incident,))
        connection.execute("DELETE FROM uploaded_package WHERE incident = ?", (incident,))


def _marks(values: Collection[str]) -> str:
    return ", ".join("?" * len(values))
