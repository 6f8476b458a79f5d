"""Making files durable, and finishing whole ones: the slow part of receiving them, for a thread of its own.

A file's bytes are on disk before the transaction that writes its row, so the row never says more than is durable. What
a process knew beyond it dies with the process and is asked for again.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, bindparam, select, update

from agent import ranges
from agent.known import known
from agent.ranges import Ranges
from receiver import db, packages
from receiver.filestore import FileStore
from receiver.underway import Key, Underway

log = logging.getLogger(__name__)

NOT_WHOLE: Final = "contents are not what the package names"
# A file is made durable after so many bytes, if its second does not end before: a power cut costs no more …
SETTLE_BYTES: Final = 8 * 1024 * 1024
# … and where the disk cannot follow, whoever writes waits for it at four times that.
MOST_UNSETTLED: Final = 4 * SETTLE_BYTES

Count = Callable[[Connection, str, str, int], None]

_T: Final = db.transfer
_LOCKED: Final = select(_T).where(_T.c.device == bindparam("device"), _T.c.file == bindparam("name")).with_for_update()
HELD: Final = (
    update(_T)
    .where(_T.c.device == bindparam("of_device"), _T.c.file == bindparam("of_file"))
    .values(
        {name: bindparam(name) for name in ("state", "partial", "ranges", "received", "revision", "updated_utc_ns")}
    )
)
decode_ranges: Final = msgspec.json.Decoder(known(list[tuple[int, int]])).decode


class Settling:
    """Makes the files of `underway` durable and finishes them; any thread may call it.

    `alone` turns false when another process is seen to write the same rows.
    """

    def __init__(
        self, engine: Engine, files: FileStore, count: Count, underway: dict[Key, Underway], alone: bool
    ) -> None:
        self._engine = engine
        self._files = files
        self._count = count
        self._underway = underway
        self.alone = alone

    def settle(self, key: Key, now_ns: int) -> None:
        """Make what was written of a file durable, and write its row; raise OSError where the disk refuses.

        Nothing happens to a file of which nothing new was written, or with which another thread is busy.
        """
        entry = self._underway.get(key)
        if entry is not None and entry.work.acquire(blocking=False):
            try:
                self._settle(entry, now_ns)
            finally:
                entry.work.release()

    def advance(self, key: Key, now_ns: int) -> None:
        """Make a file durable and hash what has come of it, while the rest comes; raise as `settle` does."""
        self.settle(key, now_ns)
        entry = self._underway.get(key)
        if entry is not None and self.alone and entry.work.acquire(blocking=False):
            try:
                entry.hash_on(self._files)
            except FileNotFoundError:
                self.drop(entry)
            finally:
                entry.work.release()

    def put_down(self, keys: Iterable[Key], now_ns: int) -> None:
        """Make files durable and forget them; raise as `settle` does."""
        for key in keys:
            try:
                self.settle(key, now_ns)
            finally:
                self._underway.pop(key, None)

    def drop(self, entry: Underway) -> None:
        """Forget what is not in the row: the bytes are gone, or may be."""
        key = (entry.device, entry.file)
        if self._underway.get(key) is entry:
            self._underway.pop(key, None)

    def finish(self, key: Key, now_ns: int) -> str:
        """Check a file that has all its bytes and put it in its places; return why it is refused, or ""."""
        entry = self._underway.get(key)
        if entry is None:
            return self._end(*key, None, now_ns)
        with entry.work:
            self._settle(entry, now_ns)
            return self._end(*key, entry, now_ns)

    def _settle(self, entry: Underway, now_ns: int) -> None:
        held = entry.held
        if held == entry.durable:
            return
        try:
            if self._files.length(entry.partial) < held[-1][1]:
                raise FileNotFoundError(entry.partial)
            self._files.settle(entry.partial)
        except FileNotFoundError:
            self.drop(entry)
            return
        except OSError:
            # The kernel tells once that it lost bytes and then takes their pages for clean: what is not in the row
            # must be sent again, whatever the next fsync says.
            self.drop(entry)
            raise
        with self._engine.begin() as connection:
            row = locked(connection, entry.device, entry.file)
            if row is None or row.partial != entry.partial or row.state != "open":
                self.drop(entry)  # it was deleted, or begun again by another receiver
                return
            if row.revision != entry.row_revision and self.alone:
                log.warning("another receiver shares this database: files are made durable with every group of chunks")
                self.alone = False
            for low, high in decode_ranges(row.ranges):
                held = ranges.add(held, low, high)
            revision = row.revision + 1
            connection.execute(HELD, values(entry.device, entry.file, entry.partial, held, revision, now_ns))
        entry.durable, entry.row_revision = held, revision

    def _end(self, device: str, file: str, entry: Underway | None, now_ns: int) -> str:
        with db.reading(self._engine) as connection:
            row = connection.execute(select(db.transfer).where(*_transfer(device, file))).one_or_none()
            f = db.package_file
            named = connection.execute(select(f).where(f.c.device == device, f.c.file == file)).all()
        places = [place for place in named if not place.held]
        if row is None or not places or (row.state == "open" and row.received < row.size) or row.state == "waiting":
            return ""
        try:
            if row.state == "done":
                self._copy_to(device, [p for p in named if p.held], places)
            elif self._digest(row, entry) == file:
                for place in places:
                    self._files.put(row.partial, device, place.incident, place.name)
            else:
                self._begin_again(device, row, NOT_WHOLE, now_ns)
                return NOT_WHOLE
        except FileNotFoundError:
            self._begin_again(device, row, "", now_ns)
            return ""
        with self._engine.begin() as connection:
            changes = {"state": "done", "partial": "", "revision": row.revision + 1, "updated_utc_ns": now_ns}
            connection.execute(update(db.transfer).where(*_transfer(device, file)).values(**changes))
            for place in places:
                f = db.package_file
                same = (f.c.device == device, f.c.incident == place.incident, f.c.name == place.name, f.c.file == file)
                connection.execute(update(f).where(*same).values(held=True))
                packages.mark_whole(connection, device, place.incident, now_ns)
        self._underway.pop((device, file), None)
        self._files.drop(row.partial)
        return ""

    def _digest(self, row: Any, entry: Underway | None) -> str:
        """Return the hash of a file that has all its bytes, going on from what was hashed while it came."""
        if self._files.length(row.partial) < row.size:
            raise FileNotFoundError(row.partial)
        if entry is None or entry.partial != row.partial:
            whole: Ranges = [(0, row.size)] if row.size else []
            entry = Underway(row.device, row.file, row.size, row.partial, whole, whole, 0, 0)
        return entry.hash_on(self._files)

    def _copy_to(self, device: str, held: Sequence[Any], places: Sequence[Any]) -> None:
        """Put a file that another package has already brought in its further places."""
        for place in places:
            if not held:
                raise FileNotFoundError
            source = self._files.path(device, held[0].incident, held[0].name)
            self._files.copy(source, self._files.path(device, place.incident, place.name))

    def _begin_again(self, device: str, row: Any, reason: str, now_ns: int) -> None:
        """Ask for a whole file again: its bytes are gone, or are not what they should be."""
        with self._engine.begin() as connection:
            now = locked(connection, device, row.file)
            if now is None or now.partial != row.partial or now.state != row.state:
                return  # another receiver was faster
            if reason:
                self._count(connection, device, reason, now_ns)
            changes = values(device, row.file, "", [], now.revision + 1, now_ns) | {"state": "waiting"}
            connection.execute(HELD, changes)
            f, s = db.package_file, db.package_state
            these = (f.c.device == device, f.c.file == row.file)
            lost = list(connection.execute(select(f.c.incident).where(*these)).scalars())
            connection.execute(update(f).where(*these).values(held=False))
            connection.execute(update(s).where(s.c.device == device, s.c.incident.in_(lost)).values(whole=False))
        self._underway.pop((device, row.file), None)
        self._files.drop(row.partial)


def locked(connection: Connection, device: str, file: str) -> Any:
    """Return the row of a file, locked until the transaction ends; None where no package names it."""
    return connection.execute(_LOCKED, {"device": device, "name": file}).one_or_none()


def values(device: str, file: str, partial: str, held: Ranges, revision: int, now_ns: int) -> dict[str, Any]:
    """Return what `HELD` writes in the row of an open file."""
    return {
        "of_device": device,
        "of_file": file,
        "state": "open",
        "partial": partial,
        "ranges": msgspec.json.encode(held).decode(),
        "received": ranges.total(held),
        "revision": revision,
        "updated_utc_ns": now_ns,
    }


def _transfer(device: str, file: str) -> tuple[Any, ...]:
    return (db.transfer.c.device == device, db.transfer.c.file == file)
