"""Lanes: append-only logs, each with its sequence, hash chain, signature and acknowledged position.

Entries belong to a *lineage*, the life of one database under one key. A lineage ends when the file was rebuilt, when
the key changed, or when the receiver acknowledges more than is here (the file was restored from an old copy): then
what was not acknowledged is sealed anew under the next lineage, so that no (lineage, lane, seq) ever names two things.
"""

import logging
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.chain import START, Entry, canonical, device_id, public_bytes, seal
from agent.errors import StoreError
from agent.messages import MAX_BODY
from agent.records import KIND_LANES, KINDS, LANES, Record
from agent.store.database import Database
from agent.store.schema import PROJECTIONS

_KIND_OF: Final[dict[type[Record], str]] = {cls: kind for kind, cls in KINDS.items()}
_ENVELOPE_BYTES: Final = 200  # hash, signature, names and lengths around a body on the wire, about

_ENTRY_COLUMNS: Final = "e.lane, e.seq, b.id, e.t_ns, e.kind, e.body, e.hash, e.signature"
_INSERT_ENTRY: Final = "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_PROJECTION: Final = {
    kind: f"INSERT INTO {kind} (entry, boot, t_ns, {', '.join(columns)}) VALUES (?, ?, ?{', ?' * len(columns)})"
    for kind, (_, columns) in PROJECTIONS.items()
}

_log = logging.getLogger("agent.store")


class _Lane(NamedTuple):
    """Where a lane of the current lineage stands."""

    head: int = 0
    head_hash: bytes = START
    position: int = 0


class Boot(NamedTuple):
    """The boot that records are stored under."""

    number: int
    id: str


class Lanes:
    """The lanes of one open store; `key` is None where it was opened for reading."""

    def __init__(self, database: Database, key: Ed25519PrivateKey | None) -> None:
        self._database = database
        self._key = key
        self._number = 0
        self._lanes: dict[str, _Lane] = {}
        self.lineage = self.device = ""
        self.public_key = b""
        self._load()
        if key is None:
            return
        own = public_bytes(key)
        if self._number == 0:
            with database.transaction() as connection:
                self._begin(connection, own, "new store")
        elif own != self.public_key:
            self.renew("the device key changed")
        else:
            return
        self._load()

    def append(self, boot: Boot, records: Sequence[tuple[int, Record]]) -> list[Entry]:
        """Chain, sign and store records with their projections; durable on return, all or none."""
        if self._key is None:
            raise StoreError(f"{self._database.path}: store was opened for reading only")
        # The lock outlasts the transaction: whoever sees an entry must find the head that counts it.
        with self._database.lock:
            with self._database.transaction() as connection:
                lanes = dict(self._lanes)
                entries: list[Entry] = []
                rows = []
                projected: dict[str, list[tuple[object, ...]]] = {}
                (first_id,) = connection.execute("SELECT IFNULL(MAX(id), 0) + 1 FROM entry").fetchone()
                for number, (t_ns, record) in enumerate(records, first_id):
                    kind = _KIND_OF[type(record)]
                    name = KIND_LANES[kind]
                    lane = lanes[name]
                    body = canonical(record)
                    if len(body) > MAX_BODY:
                        raise ValueError(f"a {kind} of {len(body)} bytes cannot be sent; the limit is {MAX_BODY}")
                    entry = seal(
                        self._key,
                        self.device,
                        self.lineage,
                        lane.head_hash,
                        name,
                        lane.head + 1,
                        boot.id,
                        t_ns,
                        kind,
                        body,
                    )
                    lanes[name] = lane._replace(head=entry.seq, head_hash=entry.hash)
                    entries.append(entry)
                    rows.append(_entry_row(number, self._number, boot.number, entry))
                    time_attribute, columns = PROJECTIONS[kind]
                    values = [getattr(record, column) for column in columns]
                    projected.setdefault(kind, []).append(
                        (number, boot.number, getattr(record, time_attribute), *values)
                    )
                connection.executemany(_INSERT_ENTRY, rows)
                for kind, projection in projected.items():
                    connection.executemany(_INSERT_PROJECTION[kind], projection)
                self._save(connection, lanes)
            self._lanes = lanes
        return entries

    def pending(self, lane: str, after: int, limit_bytes: int) -> list[Entry]:
        """Return entries of `lane` from sequence `after` + 1 on: about `limit_bytes` in all, at least one if any."""
        sql = (
            f"SELECT {_ENTRY_COLUMNS} FROM entry e JOIN boot b ON b.number = e.boot "
            "WHERE e.lineage = ? AND e.lane = ? AND e.seq > ? ORDER BY e.seq"
        )
        found: list[Entry] = []
        size = 0
        with self._database.lock, self._database.in_words("reading"):
            cursor = self._database.connection.execute(sql, (self._number, lane, after))
            for row in cursor:
                size += len(row[5]) + _ENVELOPE_BYTES
                if found and size > limit_bytes:
                    break
                found.append(Entry(self.lineage, *row))
            cursor.close()
        return found

    def sign(self, message: bytes) -> bytes:
        """Sign with the device's key."""
        assert self._key is not None
        return self._key.sign(message)

    def heads(self) -> dict[str, int]:
        """Return the last sequence of every lane, 0 where it is empty."""
        self._refresh()
        return {name: lane.head for name, lane in self._lanes.items()}

    def positions(self) -> dict[str, int]:
        """Return the sequence up to which every lane is acknowledged."""
        self._refresh()
        return {name: lane.position for name, lane in self._lanes.items()}

    def oldest_waiting(self) -> dict[str, tuple[str, int]]:
        """Return boot and time of the first entry of every lane that is not acknowledged, where one is."""
        waiting = [(name, lane.position) for name, lane in self._lanes.items() if lane.head > lane.position]
        found: dict[str, tuple[str, int]] = {}
        for name, position in waiting:
            rows = self._database.rows(
                "SELECT b.id, e.t_ns FROM entry e JOIN boot b ON b.number = e.boot "
                "WHERE e.lineage = ? AND e.lane = ? AND e.seq > ? ORDER BY e.seq LIMIT 1",
                (self._number, name, position),
            )
            if rows:
                found[name] = (rows[0][0], rows[0][1])
        return found

    def acknowledge(self, positions: Mapping[str, int], hashes: Mapping[str, bytes]) -> None:
        """Move positions forward; a receiver that is ahead, or holds something else, tells of an older copy: renew."""
        with self._database.lock:
            known = {name: seq for name, seq in positions.items() if name in self._lanes}
            ahead = [name for name, seq in known.items() if seq > self._lanes[name].head]
            if ahead:
                self.renew(f"the receiver holds more of lane {ahead[0]} than this store, which is an older copy")
                return
            other = [name for name, seq in known.items() if name in hashes and self._differs(name, seq, hashes[name])]
            if other:
                self.renew(f"the receiver holds other records in lane {other[0]}; this store is an older copy")
                return
            lanes = dict(self._lanes)
            for name, seq in known.items():
                lanes[name] = lanes[name]._replace(position=max(seq, lanes[name].position))
            if lanes != self._lanes:
                with self._database.transaction() as connection:
                    self._save(connection, lanes)
                self._lanes = lanes

    def _differs(self, lane: str, seq: int, digest: bytes) -> bool:
        """Say whether the chain hash at `seq` is known here and is not `digest`."""
        kept = self._database.rows(
            "SELECT hash FROM entry WHERE lineage = ?1 AND lane = ?2 AND seq = ?3 UNION ALL "
            "SELECT base_hash FROM lane WHERE lineage = ?1 AND lane = ?2 AND base = ?3",
            (self._number, lane, seq),
        )
        return bool(kept) and kept[0][0] != digest

    def renew(self, reason: str, first: Callable[[sqlite3.Connection], None] | None = None) -> None:
        """Begin the next lineage and seal under it, in order, everything that was not acknowledged.

        `first` may take entries away before that, in the same transaction.
        """
        assert self._key is not None
        own = public_bytes(self._key)
        with self._database.transaction() as connection:
            old = self._number
            if first is not None:
                first(connection)
            moved = connection.execute(
                "SELECT e.id, e.lane, b.number, b.id, e.t_ns, e.kind, e.body FROM entry e "
                "JOIN boot b ON b.number = e.boot JOIN lane l ON l.lineage = e.lineage AND l.lane = e.lane "
                "WHERE e.lineage = ? AND e.seq > l.position ORDER BY e.lane, e.seq",
                (old,),
            ).fetchall()
            # The old lineage now ends at its positions.
            connection.execute(
                "UPDATE lane SET head = position, head_hash = IFNULL((SELECT hash FROM entry e WHERE e.lineage = "
                "lane.lineage AND e.lane = lane.lane AND e.seq = lane.position), base_hash) WHERE lineage = ?",
                (old,),
            )
            number, name, device, lanes = self._begin(connection, own, reason)
            for entry_id, lane_name, boot_number, boot_id, t_ns, kind, body in moved:
                lane = lanes[lane_name]
                entry = seal(
                    self._key, device, name, lane.head_hash, lane_name, lane.head + 1, boot_id, t_ns, kind, body
                )
                lanes[lane_name] = lane._replace(head=entry.seq, head_hash=entry.hash)
                connection.execute("DELETE FROM entry WHERE id = ?", (entry_id,))
                connection.execute(_INSERT_ENTRY, _entry_row(entry_id, number, boot_number, entry))
            self._write(connection, number, lanes)
        self._load()
        _log.warning("store begins lineage %s: %s; %d records are sealed anew", self.lineage, reason, len(moved))

    def _begin(
        self, connection: sqlite3.Connection, public_key: bytes, reason: str
    ) -> tuple[int, str, str, dict[str, _Lane]]:
        name, device = secrets.token_hex(6), device_id(public_key)
        cursor = connection.execute(
            "INSERT INTO lineage (name, device, public_key, reason) VALUES (?, ?, ?, ?)",
            (name, device, public_key, reason),
        )
        number = cursor.lastrowid or 0
        connection.executemany(
            "INSERT INTO lane VALUES (?, ?, 0, ?, 0, 0, ?)", [(number, lane, START, START) for lane in LANES]
        )
        return number, name, device, {lane: _Lane() for lane in LANES}

    def _load(self) -> None:
        rows = self._database.rows("SELECT number, name, device, public_key FROM lineage ORDER BY number DESC LIMIT 1")
        if rows:
            self._number, self.lineage, self.device, self.public_key = rows[0]
        lanes = self._database.rows(
            "SELECT lane, head, head_hash, position FROM lane WHERE lineage = ?", (self._number,)
        )
        self._lanes = {name: _Lane() for name in LANES}
        self._lanes.update({name: _Lane(head, head_hash, position) for name, head, head_hash, position in lanes})

    def _refresh(self) -> None:
        if self._key is None:  # another process writes
            self._load()

    def _save(self, connection: sqlite3.Connection, lanes: Mapping[str, _Lane]) -> None:
        self._write(connection, self._number, {n: lane for n, lane in lanes.items() if lane != self._lanes[n]})

    @staticmethod
    def _write(connection: sqlite3.Connection, number: int, lanes: Mapping[str, _Lane]) -> None:
        connection.executemany(
            "INSERT INTO lane VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6) ON CONFLICT (lineage, lane) "
            "DO UPDATE SET head = ?3, head_hash = ?4, position = ?5",
            [(number, name, lane.head, lane.head_hash, lane.position, START) for name, lane in lanes.items()],
        )


def _entry_row(number: int, lineage: int, boot: int, entry: Entry) -> tuple[object, ...]:
    return (
        number,
        lineage,
        entry.lane,
        entry.seq,
        boot,
        entry.t_ns,
        entry.kind,
        entry.body,
        entry.hash,
        entry.signature,
    )
