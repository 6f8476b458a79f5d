"""What may go, and when: samples by size and age, records only once acknowledged and old.

A record that the receiver does not hold is never removed, of whatever lane: the receiver takes each lane without
gaps. Age counts only where the date is known, by the boot's own clock records or because a later boot is dated.
"""

import bisect
from dataclasses import dataclass

from agent.commandmessages import LONGEST_LIFE_NS
from agent.records import Clock
from agent.store.database import Database, StoreSettings
from agent.store.reading import best_utc
from agent.store.samples import drop_blocks
from agent.store.schema import PROJECTIONS

_DAY_NS = 86_400 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What was removed."""

    samples: int
    blocks: int
    entries: int


def prune(database: Database, settings: StoreSettings, now_utc_ns: int | None) -> PruneReport:
    """Remove what the settings allow; without a known `now_utc_ns` nothing is old.

    Replayed recordings have the recording's date, which says nothing of how long they have been kept: they go by size
    only. (Size is enforced as blocks are written.)
    """
    if now_utc_ns is None:
        return PruneReport(0, 0, 0)
    with database.transaction() as connection:
        dates = _Dates(database)
        blocks = [
            row
            for row in database.rows("SELECT id, boot, samples, start_ns, end_ns, bytes FROM block ORDER BY id")
            if dates.older(row[1], row[4], now_utc_ns - settings.block_days * _DAY_NS)
        ]
        samples = drop_blocks(connection, blocks, "store.block_days")
        entries = 0
        limit = now_utc_ns - settings.acknowledged_days * _DAY_NS
        for lineage, lane, position, base in database.rows("SELECT lineage, lane, position, base FROM lane"):
            last: tuple[int, bytes] | None = None
            # Entries go from the front only, so that the rest still links to the chain hash kept in `base_hash`.
            for seq, boot, t_ns, digest in connection.execute(
                "SELECT seq, boot, t_ns, hash FROM entry WHERE lineage = ? AND lane = ? AND seq <= ? ORDER BY seq",
                (lineage, lane, position),
            ):
                if not dates.older(boot, t_ns, limit):
                    break
                last = (seq, digest)
            if last is None:
                continue
            seq, digest = last
            chosen = (lineage, lane, seq)
            for table in PROJECTIONS:
                # a clock dates what is still kept of its boot, a reply says that a command was had before
                if table not in ("clock", "reply"):
                    connection.execute(
                        f"DELETE FROM {table} WHERE entry IN "
                        "(SELECT id FROM entry WHERE lineage = ? AND lane = ? AND seq <= ?)",
                        chosen,
                    )
            connection.execute("DELETE FROM entry WHERE lineage = ? AND lane = ? AND seq <= ?", chosen)
            connection.execute(
                "UPDATE lane SET base = ?, base_hash = ? WHERE lineage = ? AND lane = ?", (seq, digest, lineage, lane)
            )
            entries += seq - base
        connection.execute(
            "DELETE FROM clock WHERE entry NOT IN (SELECT id FROM entry) AND boot NOT IN (SELECT boot FROM block "
            "UNION SELECT boot FROM piece UNION SELECT boot FROM entry)"
        )
        connection.execute(
            "DELETE FROM reply WHERE entry NOT IN (SELECT id FROM entry) AND expires_utc_ns < ?",
            (now_utc_ns - LONGEST_LIFE_NS,),
        )
    with database.lock, database.in_words("giving space back"):
        database.connection.execute("PRAGMA incremental_vacuum").fetchall()
    return PruneReport(samples, len(blocks), entries)


class _Dates:
    """When things happened, as far as the clock records of all boots tell."""

    def __init__(self, database: Database) -> None:
        self._recorded = {number for (number,) in database.rows("SELECT number FROM boot WHERE recorded")}
        self._clocks: dict[int, list[Clock]] = {}
        for boot, t, offset, quality, uncertainty in database.rows(
            "SELECT boot, t_ns, offset_ns, quality, uncertainty_ns FROM clock WHERE quality != 'none' ORDER BY entry"
        ):
            if boot not in self._recorded:
                clock = Clock(t_ns=t, offset_ns=offset, quality=quality, uncertainty_ns=uncertainty)
                self._clocks.setdefault(boot, []).append(clock)
        self._dated = sorted(self._clocks)

    def older(self, boot: int, t_ns: int, limit_utc_ns: float) -> bool:
        """Say whether something certainly happened before `limit_utc_ns`."""
        if boot in self._recorded:
            return False
        own = best_utc(self._clocks.get(boot, []), t_ns)
        if own is not None:
            return own.utc_ns + own.uncertainty_ns < limit_utc_ns
        # Undated: it was over before the first dated boot after it began.
        later = bisect.bisect_right(self._dated, boot)
        if later == len(self._dated):
            return False
        begun = best_utc(self._clocks[self._dated[later]], 0)
        return begun is not None and begun.utc_ns + begun.uncertainty_ns < limit_utc_ns
