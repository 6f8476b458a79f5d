"""Sealed entries back from the store with the hash before each, so that each can be proved without the store."""

from typing import NamedTuple

from agent.chain import START, Entry
from agent.records import KINDS, Record
from agent.store.database import Database


class Proof(NamedTuple):
    """An entry as it was sealed, and the chain hash that it follows."""

    entry: Entry
    previous: bytes
    number: int  # counts all entries of this store, in the order in which they were made


def proofs(database: Database, device: str, kind: type[Record], boot: str) -> list[Proof]:
    """Return the kept entries of one type and boot that `device` sealed, in the order in which they were stored."""
    table = next(name for name, cls in KINDS.items() if cls is kind)
    rows = database.rows(
        "SELECT l.name, e.lane, e.seq, b.id, e.t_ns, e.kind, e.body, e.hash, e.signature, "
        "IFNULL(before.hash, CASE WHEN lane.base = e.seq - 1 THEN lane.base_hash END), e.id "
        f"FROM {table} p JOIN entry e ON e.id = p.entry JOIN boot b ON b.number = e.boot "
        "JOIN lineage l ON l.number = e.lineage "
        "JOIN lane ON lane.lineage = e.lineage AND lane.lane = e.lane "
        "LEFT JOIN entry before ON before.lineage = e.lineage AND before.lane = e.lane AND before.seq = e.seq - 1 "
        "WHERE b.id = ? AND l.device = ? ORDER BY e.id",
        (boot, device),
    )
    # an entry whose predecessor is gone cannot be proved; retention prunes from the front and leaves none such
    return [
        Proof(Entry(*row), START if row[2] == 1 else previous, number)
        for *row, previous, number in rows
        if row[2] == 1 or previous is not None
    ]
