"""Samples: buffered, committed a few times a second as pieces, then folded into one compressed block a minute.

The cut between blocks depends on the samples' times alone, so that any split of the input stores the same bytes; the
pieces depend on the wall, and are gone once their block is written.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np

from agent.blocks import Block, join_blocks
from agent.columnar import MAX_SAMPLES, decode, encode, round_time
from agent.errors import StoreError
from agent.store.database import Database, StoreSettings
from agent.store.lanes import Boot

_BLOCK_SAMPLES: Final = MAX_SAMPLES // 4
_WAITING_SAMPLES: Final = MAX_SAMPLES  # kept in memory (19 MB) while the disk is full; then the oldest go, counted
_NS: Final = 1_000_000_000
_APART_NS: Final = _NS // 5  # between two commits; each writes some 8 KiB more than its samples need
_BEHIND_NS: Final = 10 * _NS  # samples that are older do not come live

_log = logging.getLogger("agent.store")


class Samples:
    """The buffered samples of the current boot, and the blocks of all."""

    def __init__(self, database: Database, settings: StoreSettings, monotonic_ns: Callable[[], int]) -> None:
        self._database = database
        self._settings = settings
        self._monotonic_ns = monotonic_ns
        self._committed_ns = monotonic_ns()
        self._retry_ns = self._committed_ns  # after a failure, no attempt before this time
        self._boot: Boot | None = None
        self._waiting: list[Block] = []  # not in a block yet
        self._unsaved: list[Block] = []  # of these, not even in a piece
        self._count = 0
        self._span = (0, 0)  # first and last time waiting
        self._ahead_ns: int | None = None  # the newest sample that was made durable before it was taken
        self._lost: list[tuple[int, int, int, int]] = []  # boot, samples, start, end: dropped but not yet written down
        (self._bytes,) = database.rows("SELECT IFNULL(SUM(bytes), 0) FROM block")[0]
        if not database.read_only:
            self._fold_left_over()

    def begin(self, boot: Boot) -> None:
        """Finish the samples of the boot before, and store what follows under `boot`."""
        if self._boot != boot:
            self.finish()
            self._boot = boot

    def append(self, block: Block, last: bool = False) -> None:
        """Take samples; write what is due. They stay in memory, and are tried again, when writing raises StoreError."""
        assert self._boot is not None
        if len(block):
            own = block.copy()  # the caller may use its array again
            start, end = int(own["t"][0]), int(own["t"][-1])
            self._span = (start, end) if not self._count else (self._span[0], max(self._span[1], end))
            self._waiting.append(own)
            self._unsaved.append(own)
            self._count += len(own)
        now = self._monotonic_ns()
        if now < self._retry_ns and not last:
            self._shed()
            return
        try:
            self._write_due(now, last)
        except StoreError:
            self._retry_ns = now + int(self._settings.piece_s * _NS)
            self._shed()
            raise

    def _write_due(self, now: int, last: bool) -> None:
        block_ns = int(self._settings.block_s * _NS)
        while self._count and (last or self._span[1] - self._span[0] >= block_ns or self._count >= _BLOCK_SAMPLES):
            self._write_block(block_ns)
        if self._unsaved and self._is_due(now):
            self._committed_ns = now
            self.flush()

    def _is_due(self, now: int) -> bool:
        """Say whether the oldest sample that is not durable gets too old; samples of a recording have no age."""
        piece_ns = self._settings.piece_s * _NS
        since_ns = now - self._committed_ns
        age_ns = now - int(self._unsaved[0]["t"][0])
        return since_ns >= piece_ns or (since_ns >= _APART_NS and piece_ns <= age_ns <= _BEHIND_NS)

    def flush(self) -> None:
        """Make everything taken so far durable."""
        if not self._unsaved or self._boot is None:
            return
        joined = join_blocks(self._unsaved)
        with self._database.transaction() as connection:
            for at in range(0, len(joined), _BLOCK_SAMPLES):
                _insert(connection, "piece", self._boot.number, joined[at : at + _BLOCK_SAMPLES])
            if self._ahead_ns is not None and joined["t"][-1] >= self._ahead_ns:
                connection.execute("DELETE FROM ahead")
                self._ahead_ns = None
            self._write_lost(connection)
        self._lost.clear()
        self._unsaved.clear()

    def keep_ahead(self, block: Block) -> None:
        """Make samples durable that are not taken yet; they replace those that were kept so before."""
        self.flush()
        if not len(block) or self._boot is None:
            return
        newest = block[-_BLOCK_SAMPLES:]
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM ahead")
            _insert(connection, "ahead", self._boot.number, newest)
        self._ahead_ns = int(newest["t"][-1])

    def finish(self) -> None:
        """Fold everything taken so far into blocks."""
        while self._count:
            self._write_block(int(self._settings.block_s * _NS))

    def read(self, start_ns: int, end_ns: int, boot: str, channels: Iterable[int] | None = None) -> Block:
        """Return the stored samples with start_ns ≤ t < end_ns of one boot by time, without damaged blocks."""
        if self._unsaved:
            self.flush()
        wanted = None if channels is None else np.fromiter(channels, np.uint16)
        found = []
        for table in ("block", "piece"):
            for number, data in self._database.rows(
                f"SELECT s.id, s.data FROM {table} s JOIN boot b ON b.number = s.boot "
                "WHERE b.id = ? AND s.start_ns < ? AND s.end_ns >= ? ORDER BY s.id",
                (boot, end_ns, start_ns),
            ):
                try:
                    block = decode(data)
                except ValueError as e:
                    _log.error("%s: %s %d of boot %s is left out: %s", self._database.path, table, number, boot, e)
                    continue
                keep = (block["t"] >= start_ns) & (block["t"] < end_ns)
                if wanted is not None:
                    keep &= np.isin(block["channel"], wanted)
                found.append(block[keep])
        return join_blocks(found)

    def _write_block(self, block_ns: int) -> None:
        """Fold the oldest waiting samples into one block; make room by dropping the oldest blocks."""
        assert self._boot is not None
        joined = join_blocks(self._waiting)
        cut = min(int(np.searchsorted(joined["t"], joined["t"][0] + block_ns)), _BLOCK_SAMPLES)
        with self._database.transaction() as connection:
            size = self._bytes + _insert(connection, "block", self._boot.number, joined[:cut])
            connection.execute("DELETE FROM piece")
            if size > self._settings.block_bytes:
                _, freed = drop_oldest(connection, size - self._settings.block_bytes)
                size -= freed
            self._write_lost(connection)
        self._bytes = size
        self._lost.clear()
        rest = joined[cut:]
        self._waiting = [rest] if len(rest) else []
        self._unsaved = list(self._waiting)
        self._count = len(rest)
        if len(rest):
            self._span = (int(rest["t"][0]), int(rest["t"][-1]))

    def forget(self) -> None:
        """Drop what was taken and is in no block."""
        self._waiting, self._unsaved, self._count = [], [], 0
        self._ahead_ns = None
        self._lost.clear()

    def recount(self) -> None:
        """Learn the size of the blocks again after others were dropped."""
        (self._bytes,) = self._database.rows("SELECT IFNULL(SUM(bytes), 0) FROM block")[0]

    def _shed(self) -> None:
        """Where more waits than memory may hold, drop the older half and remember how much."""
        if self._boot is None or self._count <= _WAITING_SAMPLES:
            return
        joined = join_blocks(self._waiting)
        gone, kept = joined[: len(joined) // 2], joined[len(joined) // 2 :].copy()
        self._lost.append((self._boot.number, len(gone), int(gone["t"][0]), int(gone["t"][-1])))
        self._waiting, self._unsaved, self._count = [kept], [kept], len(kept)
        self._span = (int(kept["t"][0]), int(kept["t"][-1]))

    def _write_lost(self, connection: sqlite3.Connection) -> None:
        for boot, samples, start, end in self._lost:
            _count_dropped(connection, boot, "disk full", samples, start, end)

    def _fold_left_over(self) -> None:
        """Turn the pieces that the last life left behind into blocks, and behind them what it had no time to take."""
        by_boot: dict[int, list[Block]] = {}
        for boot, block in self._decoded("piece"):
            by_boot.setdefault(boot, []).append(block)
        for boot, block in self._decoded("ahead"):
            by_boot.setdefault(boot, []).append(self._never_taken(boot, block))
        if not by_boot:
            return
        with self._database.transaction() as connection:
            for boot, blocks in by_boot.items():
                joined = join_blocks(blocks)
                for at in range(0, len(joined), _BLOCK_SAMPLES):
                    self._bytes += _insert(connection, "block", boot, joined[at : at + _BLOCK_SAMPLES])
            connection.execute("DELETE FROM piece")
            connection.execute("DELETE FROM ahead")

    def _decoded(self, table: str) -> Iterator[tuple[int, Block]]:
        for boot, data in self._database.rows(f"SELECT boot, data FROM {table} ORDER BY id"):
            try:
                yield boot, decode(data)
            except ValueError as e:
                _log.error("%s: a second of samples of boot %d is lost: %s", self._database.path, boot, e)

    def _never_taken(self, boot: int, ahead: Block) -> Block:
        """Return the samples that are later than all that were taken."""
        ((taken_ns,),) = self._database.rows(
            "SELECT MAX(end_ns) FROM (SELECT boot, end_ns FROM block UNION ALL SELECT boot, end_ns FROM piece) "
            "WHERE boot = ?",
            (boot,),
        )
        return ahead if taken_ns is None else ahead[ahead["t"] > taken_ns]


def drop_oldest(connection: sqlite3.Connection, least_bytes: int) -> tuple[int, int]:
    """Drop the oldest blocks until `least_bytes` are freed; count their samples; return samples and bytes dropped."""
    chosen = []
    freed = 0
    for row in connection.execute("SELECT id, boot, samples, start_ns, end_ns, bytes FROM block ORDER BY id"):
        if freed >= least_bytes:
            break
        chosen.append(row)
        freed += row[5]
    return drop_blocks(connection, chosen, "store.block_bytes"), freed


def drop_blocks(connection: sqlite3.Connection, rows: list[tuple[int, int, int, int, int, int]], reason: str) -> int:
    """Drop blocks given as (id, boot, samples, start, end, bytes), count their samples by boot; return the samples."""
    for number, boot, samples, start, end, _ in rows:
        connection.execute("DELETE FROM block WHERE id = ?", (number,))
        _count_dropped(connection, boot, reason, samples, start, end)
    return sum(row[2] for row in rows)


def _count_dropped(connection: sqlite3.Connection, boot: int, reason: str, samples: int, start: int, end: int) -> None:
    connection.execute(
        "INSERT INTO dropped VALUES (?, ?, ?, ?, ?) ON CONFLICT (boot, reason) DO UPDATE SET "
        "samples = samples + excluded.samples, start_ns = MIN(start_ns, excluded.start_ns), "
        "end_ns = MAX(end_ns, excluded.end_ns)",
        (boot, reason, samples, start, end),
    )


def _insert(connection: sqlite3.Connection, table: str, boot: int, block: Block) -> int:
    data = encode(block)
    connection.execute(
        f"INSERT INTO {table} (boot, start_ns, end_ns, samples, bytes, data) VALUES (?, ?, ?, ?, ?, ?)",
        (boot, round_time(int(block["t"].min())), round_time(int(block["t"].max())), len(block), len(data), data),
    )
    return len(data)
