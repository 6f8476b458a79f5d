"""What a group of batches does to the lanes of devices: read at first, planned in memory, written at last.

The rows of the devices are locked from the first read to the commit, in one order everywhere, so that several receivers
neither store an entry twice nor wait for each other in a circle.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, Table, bindparam, delete, select, update
from sqlalchemy.sql import ColumnElement

from agent import chain
from agent.chain import START, Entry
from agent.messages import Batch
from receiver import bulk, db

Key = tuple[str, str, str]  # device, lineage, lane


class Lane(NamedTuple):
    """Where one lane stands: what is held of it without a gap."""

    seq: int
    hash: bytes


NEW: Final = Lane(0, START)


class Hole(NamedTuple):
    """Entries that neither side holds any more."""

    key: Key
    first_seq: int
    last_seq: int


@dataclass
class Book:
    """The lanes of some devices as they were found and as they shall be, and what has to be written for it."""

    devices: dict[str, Row[Any]]  # those that are enrolled
    found: dict[Key, Lane]
    held: dict[Key, Lane]
    parked: dict[Key, dict[int, bytes | None]]  # payloads by their first number; None: still in the database
    fresh: dict[Key, list[tuple[Entry, str]]] = field(default_factory=dict)  # with their flags
    holes: list[Hole] = field(default_factory=list)
    taken: list[tuple[Key, int]] = field(default_factory=list)  # what waited in the database and does no more

    def at(self, key: Key) -> Lane:
        """Return where a lane stands."""
        return self.held.get(key, NEW)

    def waiting(self, device: str) -> int:
        """Return how many batches of a device wait."""
        return sum(len(those) for key, those in self.parked.items() if key[0] == device)

    def park(self, key: Key, first_seq: int, payload: bytes) -> None:
        """Let a batch wait, in place of one with the same beginning."""
        waiting = self.parked.setdefault(key, {})
        if waiting.get(first_seq, b"") is None:
            self.taken.append((key, first_seq))
        waiting[first_seq] = payload

    def unpark(self, connection: Connection, key: Key) -> bytes | None:
        """Take the next waiting batch of a lane out, if what is held reaches it."""
        waiting = self.parked.get(key)
        first = min(waiting) if waiting else 0
        if not waiting or first > self.at(key).seq + 1:
            return None
        payload = waiting.pop(first)
        if payload is None:
            self.taken.append((key, first))
            t = db.parked.c
            stored = select(t.payload).where(*_of(db.parked, key), t.first_seq == first)
            payload = bytes(connection.execute(stored).scalar_one())
        return payload

    def hash_before(self, connection: Connection, key: Key, first_seq: int) -> bytes | None:
        """Return the hash of the entry before `first_seq`, or None where there is none."""
        held = self.at(key)
        if first_seq == 1:
            return START
        if first_seq == held.seq + 1:
            return held.hash
        for entry, _ in self.fresh.get(key, ()):
            if entry.seq == first_seq - 1:
                return entry.hash
        t = db.entry.c
        found = connection.execute(select(t.hash).where(*_of(db.entry, key), t.seq == first_seq - 1)).scalar()
        return None if found is None else bytes(found)


def open_book(connection: Connection, devices: Iterable[str]) -> Book:
    """Lock those of the devices that are enrolled, and read where their lanes stand."""
    table, lane, parked = db.device, db.lane_state, db.parked
    found = select(table).where(table.c.id.in_(sorted(set(devices)))).order_by(table.c.id).with_for_update()
    rows = {row.id: row for row in connection.execute(found)}
    book = Book(rows, {}, {}, {})
    if rows:
        for r in connection.execute(select(lane).where(lane.c.device.in_(list(rows)))):
            book.found[r.device, r.lineage, r.lane] = Lane(r.seq, bytes(r.hash))
        key = (parked.c.device, parked.c.lineage, parked.c.lane, parked.c.first_seq)
        for r in connection.execute(select(*key).where(parked.c.device.in_(list(rows)))):
            book.parked.setdefault((r.device, r.lineage, r.lane), {})[r.first_seq] = None
    book.held = dict(book.found)
    return book


def link(device: str, batch: Batch, before: bytes | None) -> list[Entry]:
    """Return a batch's entries with their chain hashes, from the hash before them or from the batch's own anchor."""
    entries = []
    lineage, lane = batch.lineage, batch.lane
    for seq, row in enumerate(batch.rows, batch.first_seq):
        if before is None:
            before = batch.anchor
        else:
            signed = chain.signed_bytes(device, lineage, lane, seq, row.boot, row.t_ns, row.kind, row.body)
            before = chain.link(before, signed)
        entries.append(Entry(lineage, lane, seq, row.boot, row.t_ns, row.kind, row.body, before, row.signature))
    return entries


_COLUMNS: Final = (
    "device", "lineage", "lane", "seq", "boot", "t_ns", "kind", "body", "hash", "signature", "flag", "received_utc_ns",
)  # fmt: skip
_AT: Final = db.lane_state.c
_MOVE: Final = (
    update(db.lane_state)
    .where(_AT.device == bindparam("of"), _AT.lineage == bindparam("life"), _AT.lane == bindparam("name"))
    .values(seq=bindparam("to_seq"), hash=bindparam("to_hash"))
)


def close_book(connection: Connection, book: Book, now_ns: int) -> None:
    """Write what the book says: entries, positions, holes, and what waits."""
    rows = [
        (key[0], e.lineage, e.lane, e.seq, e.boot, e.t_ns, e.kind, e.body, e.hash, e.signature, flag, now_ns)
        for key, those in book.fresh.items()
        for e, flag in those
    ]
    if rows:
        bulk.put(connection, db.entry, _COLUMNS, rows)
    moved = {key: lane for key, lane in sorted(book.held.items()) if lane != book.found.get(key)}
    older = [_position(key, lane) for key, lane in moved.items() if key in book.found]
    newer = [{**_names(key), **lane._asdict()} for key, lane in moved.items() if key not in book.found]
    if older:
        connection.execute(_MOVE, older)
    if newer:
        connection.execute(db.lane_state.insert(), newer)
    if book.holes:
        noted = [{**_names(h.key), "first_seq": h.first_seq, "last_seq": h.last_seq} for h in book.holes]
        connection.execute(db.hole.insert(), [{**row, "noted_utc_ns": now_ns} for row in noted])
    for key, first_seq in book.taken:
        connection.execute(delete(db.parked).where(*_of(db.parked, key), db.parked.c.first_seq == first_seq))
    parked = [
        {**_names(key), "first_seq": first_seq, "payload": payload}
        for key, those in book.parked.items()
        for first_seq, payload in those.items()
        if payload is not None
    ]
    if parked:
        connection.execute(db.parked.insert(), parked)


def _of(table: Table, key: Key) -> Sequence[ColumnElement[bool]]:
    return tuple(table.c[name] == value for name, value in _names(key).items())


def _names(key: Key) -> dict[str, Any]:
    return dict(zip(("device", "lineage", "lane"), key, strict=True))


def _position(key: Key, lane: Lane) -> dict[str, Any]:
    return {"of": key[0], "life": key[1], "name": key[2], "to_seq": lane.seq, "to_hash": lane.hash}
