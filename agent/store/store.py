"""The store as the rest of the agent sees it: append, acknowledge, read back, prune, verify.

One process writes (a lock file says so); within it any thread may call any method. Others open with `read_only`.
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from agent import clock
from agent.blocks import Block
from agent.chain import Entry
from agent.errors import StoreError
from agent.identity import load_or_create_key
from agent.known import known
from agent.records import Event, Health, Record, Track, Trip
from agent.store import erasing, proofs, reading, retention, verification
from agent.store.database import Database, StoreSettings, open_for_reading, open_for_writing
from agent.store.lanes import Boot, Lanes
from agent.store.replies import ReplyTable
from agent.store.samples import Samples
from agent.store.uploads import UploadTable


class Store:
    """An open store. Appending raises StoreError when the disk is full, and works again once there is space."""

    def __init__(
        self, database: Database, lanes: Lanes, samples: Samples, settings: StoreSettings, moved_aside: str | None
    ) -> None:
        """Take the opened parts; callers use `open`."""
        self._database = database
        self._lanes = lanes
        self._samples = samples
        self._settings = settings
        self._boot: Boot | None = None
        self.uploads = UploadTable(database)
        self.replies = ReplyTable(database)
        self.moved_aside = moved_aside  # the sentence for people when a damaged file was replaced

    @classmethod
    def open(
        cls,
        directory: Path,
        settings: StoreSettings | None = None,
        *,
        read_only: bool = False,
        monotonic_ns: Callable[[], int] = clock.monotonic_ns,
    ) -> Self:
        """Open the store in `directory`, as its only writer unless `read_only`.

        A writer makes folder, key and file where they are missing, checks the file and moves a damaged one aside.
        Raise StoreError with one line when that is impossible.
        """
        settings = settings or StoreSettings()
        if read_only:
            database, moved_aside = open_for_reading(directory), None
        else:
            database, moved_aside = open_for_writing(directory, settings.max_bytes)
        try:
            lanes = Lanes(database, None if read_only else load_or_create_key(directory))
            return cls(database, lanes, Samples(database, settings, monotonic_ns), settings, moved_aside)
        except BaseException:
            database.close()
            raise

    @property
    def folder(self) -> Path:
        """The folder that the store stands in."""
        return self._database.path.parent

    @property
    def path(self) -> Path:
        """The store's file."""
        return self._database.path

    @property
    def device(self) -> str:
        """The device's name, from its key."""
        return self._lanes.device

    @property
    def public_key(self) -> bytes:
        """The device's raw Ed25519 public key, 32 bytes."""
        return self._lanes.public_key

    @property
    def lineage(self) -> str:
        """The current lineage; it may change in `acknowledge`."""
        return self._lanes.lineage

    def sign(self, message: bytes) -> bytes:
        """Sign with the device's key, as sync does for the message by which the device makes itself known."""
        return self._lanes.sign(message)

    def begin_boot(self, boot_id: str, *, recorded: bool = False) -> int:
        """Store what follows under `boot_id` and return its number: 1 for the store's first boot, then upwards.

        `recorded` says that the data are replayed. The same id again, as after a restart of the agent within one boot,
        gives the same number.
        """
        with self._database.lock:
            with self._database.transaction() as connection:
                connection.execute(
                    "INSERT INTO boot (id, recorded) VALUES (?, ?) ON CONFLICT (id) DO NOTHING", (boot_id, recorded)
                )
                (number,) = connection.execute("SELECT number FROM boot WHERE id = ?", (boot_id,)).fetchone()
            boot = Boot(number, boot_id)
            self._samples.begin(boot)
            self._boot = boot
            return boot.number

    def last_boot(self) -> str | None:
        """Return the id of the latest boot that was driven, not replayed; None before the first."""
        rows = self._database.rows("SELECT id FROM boot WHERE NOT recorded ORDER BY number DESC LIMIT 1")
        return rows[0][0] if rows else None

    def boots(self) -> list[str]:
        """Return the ids of all boots that were driven, not replayed, the first one first."""
        return [id_ for (id_,) in self._database.rows("SELECT id FROM boot WHERE NOT recorded ORDER BY number")]

    def span(self, boot: str) -> tuple[int, int] | None:
        """Return the first and the last time of the samples stored of a boot; None where there are none."""
        (found,) = self._database.rows(
            "SELECT MIN(s.start_ns), MAX(s.end_ns) FROM (SELECT boot, start_ns, end_ns FROM block UNION ALL "
            "SELECT boot, start_ns, end_ns FROM piece) s JOIN boot b ON b.number = s.boot WHERE b.id = ?",
            (boot,),
        )
        return None if found[0] is None else (found[0], found[1])

    def append(self, records: Sequence[tuple[int, Record]]) -> list[Entry]:
        """Store (t_ns, record) pairs in their lanes, chained and signed: all or none, and durable on return."""
        return self._lanes.append(self._current(), records)

    def append_block(self, block: Block, *, last: bool = False) -> None:
        """Take samples in order of time; durable after about a second, at once with `last`.

        On StoreError the samples are kept in memory (a million, then the oldest go and are counted) and tried again
        with the next call.
        """
        with self._database.lock:
            self._current()
            self._samples.append(block, last)

    def keep_ahead(self, block: Block) -> None:
        """Make samples durable that have come but wait for their turn, in order of time; `append_block` follows.

        After a power cut those that were never appended stand behind those that were.
        """
        with self._database.lock:
            self._current()
            self._samples.keep_ahead(block)

    def flush(self) -> None:
        """Make all samples taken so far durable."""
        with self._database.lock:
            self._samples.flush()

    def read_block(self, start_ns: int, end_ns: int, boot: str, channels: Iterable[int] | None = None) -> Block:
        """Return the samples with start_ns ≤ t < end_ns of one boot, as stored (agent.columnar), ordered by time."""
        with self._database.lock:
            return self._samples.read(start_ns, end_ns, boot, channels)

    def pending(self, lane: str, after: int, limit_bytes: int) -> list[Entry]:
        """Return the current lineage's entries of `lane` after a sequence: about `limit_bytes`, at least one if any."""
        return self._lanes.pending(lane, after, limit_bytes)

    def heads(self) -> dict[str, int]:
        """Return the last sequence of every lane of the current lineage, 0 where it is empty."""
        return self._lanes.heads()

    def positions(self) -> dict[str, int]:
        """Return the sequence up to which every lane of the current lineage is acknowledged."""
        return self._lanes.positions()

    def oldest_waiting(self) -> dict[str, tuple[str, int]]:
        """Return boot and time of the first entry that the receiver does not hold, by lane, where one waits."""
        return self._lanes.oldest_waiting()

    def acknowledge(self, positions: Mapping[str, int], hashes: Mapping[str, bytes] | None = None) -> None:
        """Take what the receiver says it holds of the current lineage; positions only move forward.

        `hashes` are the receiver's chain hashes at those positions. A position beyond the head, or another hash than
        ours, means that this file is an older copy of itself: a new lineage begins and everything not acknowledged is
        sealed anew under it (see agent.store.lanes).
        """
        self._lanes.acknowledge(positions, hashes or {})

    def utc_of(self, boot: str, t_ns: int) -> reading.Utc | None:
        """Return what UTC `t_ns` of a boot was, with quality and uncertainty; None while it was never learned."""
        return reading.utc_of(self._database, boot, t_ns)

    def trips(self) -> list[reading.Stored[Trip]]:
        """Return the kept trips, oldest first."""
        return reading.records(self._database, Trip)

    def events(self, trip: reading.Stored[Trip] | None = None) -> list[reading.Stored[Event]]:
        """Return the kept events, oldest first; those that began during `trip` where one is given."""
        if trip is None:
            return reading.records(self._database, Event)
        return reading.records(self._database, Event, trip.boot, trip.record.start_ns, trip.record.end_ns + 1)

    def tracks(self, trip: reading.Stored[Trip]) -> list[reading.Stored[Track]]:
        """Return the parts of one trip's simplified track, in order."""
        parts = reading.records(self._database, Track, trip.boot)
        return [part for part in parts if part.record.trip_start_ns == trip.record.start_ns]

    def records(self, kind: type[reading.R], boot: str | None = None) -> list[reading.Stored[reading.R]]:
        """Return the kept records of one type in the order in which they happened."""
        return reading.records(self._database, kind, boot)

    def proofs(self, kind: type[Record], boot: str) -> list[proofs.Proof]:
        """Return the kept entries of one type and boot under the device's present key, each with the hash before it."""
        return proofs.proofs(self._database, self.device, kind, boot)

    def replayed(self, boot: str) -> bool:
        """Say whether a boot's data come from a recording."""
        return self._database.rows("SELECT recorded FROM boot WHERE id = ?", (boot,)) == [(1,)]

    def last_health(self, source: str) -> Health | None:
        """Return what was last stored of a source by this device in any boot, recordings apart."""
        rows = self._database.rows(
            "SELECT e.body FROM health p JOIN entry e ON e.id = p.entry JOIN boot b ON b.number = p.boot "
            "WHERE p.source = ? AND NOT b.recorded ORDER BY p.entry DESC LIMIT 1",
            (source,),
        )
        try:
            return msgspec.json.decode(rows[0][0], type=known(Health)) if rows else None
        except msgspec.DecodeError:
            return None  # damaged: `verify` tells

    def dropped(self) -> dict[str, int]:
        """Return how many samples were dropped, by reason."""
        return dict(self._database.rows("SELECT reason, SUM(samples) FROM dropped GROUP BY reason"))

    def used_share(self, least_free_bytes: int) -> float | None:
        """Return how much of the room is used, 0..1: of `max_bytes` or of the disk, whichever is fuller.

        A disk with more than `least_free_bytes` free does not count. None while neither can be read.
        """
        shares: list[float] = []
        try:
            ((used,),) = self._database.rows(
                "SELECT (c.page_count - f.freelist_count) * s.page_size FROM pragma_page_count c, "
                "pragma_freelist_count f, pragma_page_size s"
            )
            shares.append(used / self._settings.max_bytes)
            disk = os.statvfs(self._database.path.parent)
        except (StoreError, OSError):
            return max(shares, default=None)
        if disk.f_bavail * disk.f_frsize <= least_free_bytes and disk.f_blocks:
            shares.append(1.0 - disk.f_bavail / disk.f_blocks)
        return max(shares)

    def prune(self, now_utc_ns: int | None) -> retention.PruneReport:
        """Remove old samples and old acknowledged records; `now_utc_ns` None while the date is not known."""
        report = retention.prune(self._database, self._settings, now_utc_ns)
        self.uploads.prune()
        self._samples.recount()
        return report

    def to_erase(self) -> bool:
        """Say whether there is anything that tells of driving, crashes aside that the receiver does not hold yet."""
        return erasing.left(self._database)

    def erase(self, incidents: Collection[str]) -> erasing.Erased:
        """Remove all that tells of driving, and what is known of the packages `incidents`, which must be gone.

        The lineage may be another one afterwards: sync must not run meanwhile. Raise StoreError.
        """
        return erasing.erase(self._database, self._lanes, self._samples, incidents)

    def verify(self, public_key: bytes | None = None) -> verification.VerifyReport:
        """Check every entry's chain and signature and every block; trust `public_key`, else the key the store names."""
        return verification.verify(self._database, public_key)

    def close(self) -> None:
        """Write the last samples and close; legal twice. The file closes even when that raises StoreError."""
        with self._database.lock:
            try:
                self._samples.finish()
            finally:
                self._database.close()

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _current(self) -> Boot:
        if self._boot is None:
            raise StoreError(f"{self._database.path}: nothing can be stored before begin_boot")
        return self._boot
