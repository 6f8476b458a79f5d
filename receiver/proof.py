"""The signed entries behind what a page shows, and whether they still prove it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, and_, select

from agent import chain
from agent.chain import Entry
from agent.known import known
from agent.records import KINDS, Record
from receiver import db

Key = tuple[str, str, int]  # lineage, lane, sequence number

_decoders: Final = {kind: msgspec.json.Decoder(known(record)) for kind, record in KINDS.items()}


@dataclass(frozen=True, slots=True)
class Proof:
    """What holds the records of a page together; checked again for this page, not only on arrival."""

    records: int
    good: int  # signature and chain hash are right
    broken: int
    unlinked: int  # signed, but the record before it is lost
    lane: str
    seq: int
    lineage: str
    hash: str
    received_utc_ns: int


def entries_behind(connection: Connection, rows: Iterable[Row[Any]]) -> dict[Key, Row[Any]]:
    """Return the signed entries behind rows of projections of one device, and those before them in their lanes."""
    wanted: dict[tuple[str, str, str], set[int]] = {}
    for row in rows:
        wanted.setdefault((row.device, row.lineage, row.lane), set()).update((row.seq, row.seq - 1))
    table = db.entry
    found = {}
    for (device, lineage, lane), numbers in wanted.items():
        own = and_(table.c.device == device, table.c.lineage == lineage, table.c.lane == lane)
        for row in connection.execute(select(table).where(own, table.c.seq.in_(sorted(numbers)))):
            found[lineage, lane, row.seq] = row
    return found


def record_of(entries: dict[Key, Row[Any]], row: Row[Any]) -> Any:
    """Return the record behind a row, or None when the entry was removed or altered since it was stored."""
    entry = entries.get((row.lineage, row.lane, row.seq))
    if entry is None:
        return None
    try:
        record: Record = _decoders[entry.kind].decode(entry.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return record


def prove(
    device: str, public_key: str, trip_row: Row[Any], rows: Sequence[Row[Any]], entries: dict[Key, Row[Any]]
) -> Proof:
    """Check signature and chain of the entries behind `rows` again; the trip's own entry is named."""
    key = bytes.fromhex(public_key)
    good = unlinked = 0
    for row in rows:
        at = (row.lineage, row.lane, row.seq)
        found, before = entries.get(at), entries.get((row.lineage, row.lane, row.seq - 1))
        if found is None:
            continue
        entry = Entry(
            *at, found.boot, found.t_ns, found.kind, bytes(found.body), bytes(found.hash), bytes(found.signature)
        )
        previous = chain.START if row.seq == 1 else bytes(before.hash) if before is not None else None
        if not chain.signed_by(key, entry):
            continue
        if previous is None or found.flag == "unlinked":
            unlinked += 1
        elif chain.linked(device, previous, entry):
            good += 1
    top = entries[trip_row.lineage, trip_row.lane, trip_row.seq]
    return Proof(
        records=len(rows),
        good=good,
        broken=len(rows) - good - unlinked,
        unlinked=unlinked,
        lane=top.lane,
        seq=top.seq,
        lineage=top.lineage,
        hash=bytes(top.hash).hex(),
        received_utc_ns=top.received_utc_ns,
    )
