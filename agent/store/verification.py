"""Checks everything kept: the chain and signature of every entry, every head, and every stored block."""

from dataclasses import dataclass, field

from agent.chain import START, Entry, linked, signed_by
from agent.columnar import decode
from agent.store.database import Database


@dataclass(frozen=True, slots=True)
class Fault:
    """The first entry of a lane that does not hold, or a damaged block (lane "block", seq its number)."""

    lineage: str
    lane: str
    seq: int
    cause: str


@dataclass(slots=True)
class VerifyReport:
    """What was checked and what does not hold."""

    entries: int = 0
    blocks: int = 0
    faults: list[Fault] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Say whether everything holds."""
        return not self.faults


def verify(database: Database, public_key: bytes | None) -> VerifyReport:
    """Check all lanes of all lineages, and all blocks; `public_key` is the one to trust, else the store's own word."""
    report = VerifyReport()
    for number, name, device, own_key in database.rows("SELECT number, name, device, public_key FROM lineage"):
        for lane, head, head_hash, base, base_hash in database.rows(
            "SELECT lane, head, head_hash, base, base_hash FROM lane WHERE lineage = ? ORDER BY lane", (number,)
        ):
            fault = _lane_fault(
                database, report, number, name, device, public_key or own_key, (lane, head, head_hash, base, base_hash)
            )
            if fault is not None:
                report.faults.append(fault)
    for table in ("block", "piece", "ahead"):
        for (number,) in database.rows(f"SELECT id FROM {table} ORDER BY id"):
            for (data,) in database.rows(f"SELECT data FROM {table} WHERE id = ?", (number,)):
                report.blocks += 1
                try:
                    decode(data)
                except ValueError as e:
                    report.faults.append(Fault("", table, number, str(e)))
    return report


def _lane_fault(
    database: Database,
    report: VerifyReport,
    number: int,
    lineage: str,
    device: str,
    public_key: bytes,
    state: tuple[str, int, bytes, int, bytes],
) -> Fault | None:
    """Return the first thing wrong with one lane."""
    lane, head, head_hash, base, base_hash = state
    if base == 0 and base_hash != START:
        return Fault(lineage, lane, 0, "the chain does not begin at its start")
    seq, previous = base, base_hash
    while True:
        # A batch at a time, so that the writer is not held up by a long check.
        batch = database.rows(
            "SELECT e.lane, e.seq, b.id, e.t_ns, e.kind, e.body, e.hash, e.signature FROM entry e "
            "JOIN boot b ON b.number = e.boot "
            "WHERE e.lineage = ? AND e.lane = ? AND e.seq > ? ORDER BY e.seq LIMIT 500",
            (number, lane, seq),
        )
        for row in batch:
            entry = Entry(lineage, *row)
            if entry.seq != seq + 1:
                return Fault(lineage, lane, seq + 1, "entry is missing")
            if not linked(device, previous, entry):
                return Fault(lineage, lane, entry.seq, "entry was altered, or its chain is broken")
            if not signed_by(public_key, entry):
                return Fault(lineage, lane, entry.seq, "signature is not by the device's key")
            report.entries += 1
            seq, previous = entry.seq, entry.hash
        if not batch:
            break
    if seq < head:
        return Fault(lineage, lane, seq + 1, "entry is missing at the end")
    if seq > head or previous != head_hash:
        return Fault(lineage, lane, seq, "the lane does not end where the store says it ends")
    return None
