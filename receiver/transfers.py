"""Files on their way: chunks are checked, made durable, and only then told to be held.

A chunk's bytes are on disk before the transaction that counts them commits, under the lock of the file's row, and bytes
that are held are never written again; so several receivers may share a database and a folder. A whole file is hashed,
put in its place, and only then called done. Whatever is lost on the way is asked for again.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Engine, bindparam, func, or_, select, update

from agent import ranges
from agent.clock import NS_PER_S
from agent.filemessages import (
    MAX_CHUNK,
    MAX_RANGES,
    FileAddress,
    Files,
    OpenFile,
    decode_init,
    file_address,
)
from agent.messages import MessageError
from agent.ranges import Ranges
from receiver import db, packages
from receiver.filestore import FileStore

log = logging.getLogger(__name__)

UNKNOWN_FILE: Final = "no package names this file"
OTHER_FILE: Final = "file is not what its package names"
BAD_CHUNK: Final = "chunk is not what its checksum says"
EMPTY_CHUNK: Final = "chunk is empty or too large"
BEYOND: Final = "chunk lies beyond the end of its file"
TOO_MANY_HOLES: Final = "file has too many holes"
TOO_LARGE: Final = "file is larger than this receiver takes"
DEVICE_FULL: Final = "the device's share of this receiver's store is used up"
STORE_FULL: Final = "this receiver's store is full"
NOT_WHOLE: Final = "contents are not what the package names"
LEFTOVER_NS: Final = 86_400 * NS_PER_S
MOST_TOLD: Final = 32  # files in one answer: a device opens 8 at once

# Statements that every group of chunks needs, built once: building them costs more than running them.
_T, _F, _S = db.transfer, db.package_file, db.package_state
_TOLD: Final = (
    select(_T.c.file, _T.c.size, _T.c.state, _T.c.ranges, _T.c.revision)
    .where(_T.c.device == bindparam("device"))
    .where(or_(_T.c.state == "open", _T.c.file.in_(bindparam("files", expanding=True))))
    .order_by(_T.c.updated_utc_ns.desc())
    .limit(bindparam("most"))
)
_LACKING: Final = select(_F.c.file).where(
    _F.c.device == bindparam("device"), _F.c.file.in_(bindparam("files", expanding=True)), _F.c.held.is_(False)
)
_WHOLE: Final = (
    select(_S.c.incident, _S.c.digest)
    .join(_F, (_F.c.device == _S.c.device) & (_F.c.incident == _S.c.incident))
    .where(_S.c.device == bindparam("device"), _S.c.whole.is_(True))
    .where(_F.c.file.in_(bindparam("files", expanding=True)))
    .distinct()
    .limit(bindparam("most"))
)
_SESSION: Final = select(db.device.c.session).where(db.device.c.id == bindparam("device"))
_STATE: Final = select(db.device.c.state).where(db.device.c.id == bindparam("device"))
_LOCKED: Final = select(_T).where(_T.c.device == bindparam("device"), _T.c.file == bindparam("name")).with_for_update()
_HELD: Final = (
    update(_T)
    .where(_T.c.device == bindparam("of_device"), _T.c.file == bindparam("of_file"))
    .values(
        {name: bindparam(name) for name in ("state", "partial", "ranges", "received", "revision", "updated_utc_ns")}
    )
)

Count = Callable[[Connection, str, str, int], None]
_ranges: Final = msgspec.json.Decoder(list[tuple[int, int]])


class FileMessage(NamedTuple):
    """One message about a file, as it came."""

    device: str
    rest: str  # of the topic, after file/
    payload: bytes


@dataclass
class _Said:
    """What happened to the files of one device in one group of messages."""

    touched: dict[str, None] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    trouble: str = ""


class _Wanted(NamedTuple):
    where: FileAddress
    data: bytes


class Transfers:
    """Takes messages about files; one per process."""

    def __init__(self, engine: Engine, files: FileStore, count: Count) -> None:
        self._engine = engine
        self._files = files
        self._count = count
        self._troubled = False

    def take(self, group: Sequence[FileMessage], now_ns: int) -> list[Files]:
        """Store what came and return the answer for every device; a group is one transaction.

        Raise sqlalchemy's DBAPIError when the database fails: the same group may be given again.
        """
        said: dict[str, _Said] = {}
        ends: list[tuple[str, FileAddress]] = []
        wanted = self._checked(group, now_ns)
        for device, of_device in groupby(sorted(wanted, key=lambda w: w[0]), key=lambda w: w[0]):
            said[device] = _Said()
            with self._guarded(said[device]), self._engine.begin() as connection:
                chunks = sorted((c for _, c in of_device), key=lambda c: c.where.file)
                for file, of_file in groupby(chunks, key=lambda c: c.where.file):
                    of_this = list(of_file)
                    self._take_file(connection, device, file, of_this, said[device], now_ns)
                    ends += [(device, c.where) for c in of_this if c.where.step == "fin"][:1]
        for device, where in ends:
            with self._guarded(said[device]):
                self._end(device, where.file, said[device], now_ns)
        if not said:
            return []
        with db.reading(self._engine) as connection:
            return [self._answer(connection, device, s) for device, s in said.items()]

    def tell(self, connection: Connection, device: str, files: Sequence[str]) -> Files:
        """Return what is lacking of files that a record has just named."""
        return self._answer(connection, device, _Said(touched=dict.fromkeys(files[:MOST_TOLD])))

    def tend(self, now_ns: int) -> None:
        """Remove unfinished files that a crash left behind and no transfer knows."""
        with db.reading(self._engine) as connection:
            known = set(connection.execute(select(db.transfer.c.partial)).scalars())
        try:
            self._files.leftovers(known, now_ns - LEFTOVER_NS)
        except OSError as e:
            log.warning("unfinished files cannot be looked through: %s", e)

    # one group

    def _checked(self, group: Sequence[FileMessage], now_ns: int) -> list[tuple[str, _Wanted]]:
        """Return the messages that are well formed and come from devices that may send."""
        good: list[tuple[str, _Wanted]] = []
        states: dict[str, str] = {}
        for message in group:
            try:
                where = _well_formed(message)
                if message.device not in states:
                    states[message.device] = self._state(message.device)
                if states[message.device] != "accepted":
                    raise MessageError(states[message.device])
            except MessageError as e:
                with self._engine.begin() as connection:
                    known = states.get(message.device, "") == "accepted" or self._known(connection, message.device)
                    self._count(connection, message.device if known else "", str(e), now_ns)
                continue
            good.append((message.device, _Wanted(where, message.payload)))
        return good

    def _state(self, device: str) -> str:
        with db.reading(self._engine) as connection:
            state = connection.execute(_STATE, {"device": device}).scalar()
        if state is None:
            return "device is not enrolled"
        return "accepted" if state == "accepted" else "device is blocked"

    @staticmethod
    def _known(connection: Connection, device: str) -> bool:
        return connection.execute(select(db.device.c.id).where(db.device.c.id == device)).scalar() is not None

    @contextmanager
    def _guarded(self, said: _Said) -> Iterator[None]:
        """Turn the disk's refusal into words for the device; nothing of the transaction was kept."""
        try:
            yield
        except OSError as e:
            said.trouble = f"the receiver cannot store files: {e.strerror or 'its store refuses them'}"[:200]
            if not self._troubled:
                log.error("package files cannot be stored: %s; free space there, or check its owner", e)
            self._troubled = True
        else:
            if self._troubled and not said.trouble:
                log.warning("package files are stored again")
                self._troubled = False

    def _take_file(
        self, connection: Connection, device: str, file: str, chunks: list[_Wanted], said: _Said, now_ns: int
    ) -> None:
        row = _locked(connection, device, file)
        if row is None:
            said.refused[file] = UNKNOWN_FILE
            self._count(connection, device, UNKNOWN_FILE, now_ns)
            return
        said.touched[file] = None
        fitting = [c for c in chunks if self._fits(connection, device, row, c, now_ns)]
        if row.state == "done":
            return
        if row.state == "waiting":
            refusal = self._no_room(connection, device, row.size)
            if refusal:
                said.refused[file] = refusal
                self._count(connection, device, refusal, now_ns)
                return
        held = _ranges.decode(row.ranges)
        partial, fresh = row.partial, False
        # What is on disk must reach as far as what is said to be held: else it was lost, whole or in part.
        if not partial or self._files.length(partial) < (held[-1][1] if held else 0):
            self._files.drop(partial)
            partial, held, fresh = self._files.begin(), [], True
        after, pieces = held, list[tuple[int, memoryview]]()
        for where, data in fitting:
            if where.step != "chunk":
                continue
            start, end = where.number, where.number + len(data)
            joined = ranges.add(after, start, end)
            if len(joined) > MAX_RANGES:
                self._count(connection, device, TOO_MANY_HOLES, now_ns)
                continue
            view = memoryview(data)
            pieces += [(low, view[low - start : high - start]) for low, high in _outside(after, start, end)]
            after = joined
        if pieces:
            self._files.write(partial, pieces)
        if pieces or fresh:
            values = {
                "state": "open",
                "partial": partial,
                "ranges": msgspec.json.encode(after).decode(),
                "received": ranges.total(after),
                "revision": row.revision + 1,
                "updated_utc_ns": now_ns,
            }
            connection.execute(_HELD, {**values, "of_device": device, "of_file": file})

    def _fits(self, connection: Connection, device: str, row: Any, chunk: _Wanted, now_ns: int) -> bool:
        """Say whether a message agrees with what the package names; count it where it does not."""
        where, data = chunk
        reason = ""
        if where.step == "init":
            init = decode_init(data)
            reason = "" if (init.size, init.checksum) == (row.size, where.file) else OTHER_FILE
        elif where.step == "fin":
            reason = "" if (where.number, where.checksum) == (row.size, where.file) else OTHER_FILE
        elif where.number + len(data) > row.size:
            reason = BEYOND
        if reason:
            self._count(connection, device, reason, now_ns)
        return not reason

    def _no_room(self, connection: Connection, device: str, size: int) -> str:
        t, settings = db.transfer, self._files.settings
        if size > settings.max_file_bytes:
            return TOO_LARGE
        taken = select(func.coalesce(func.sum(t.c.size), 0)).where(t.c.state != "waiting")
        if connection.execute(taken.where(t.c.device == device)).scalar_one() + size > settings.max_device_bytes:
            return DEVICE_FULL
        return STORE_FULL if connection.execute(taken).scalar_one() + size > settings.max_total_bytes else ""

    # the end of a file

    def _end(self, device: str, file: str, said: _Said, now_ns: int) -> None:
        """Check a file that has all its bytes and put it in its places; say nothing of one that has not."""
        with db.reading(self._engine) as connection:
            row = connection.execute(select(db.transfer).where(*_transfer(device, file))).one_or_none()
            f = db.package_file
            named = connection.execute(select(f).where(f.c.device == device, f.c.file == file)).all()
        places = [place for place in named if not place.held]
        if row is None or not places or (row.state == "open" and row.received < row.size) or row.state == "waiting":
            return
        try:
            if row.state == "done":
                self._copy_to(device, [p for p in named if p.held], places)
            elif self._files.digest(row.partial) == file:
                for place in places:
                    self._files.put(row.partial, device, place.incident, place.name)
            else:
                said.refused[file] = NOT_WHOLE
        except FileNotFoundError:
            self._begin_again(device, row, "", now_ns)
            return
        if file in said.refused:
            self._begin_again(device, row, NOT_WHOLE, now_ns)
            return
        with self._engine.begin() as connection:
            values = {"state": "done", "partial": "", "revision": row.revision + 1, "updated_utc_ns": now_ns}
            connection.execute(update(db.transfer).where(*_transfer(device, file)).values(**values))
            for place in places:
                f = db.package_file
                same = (f.c.device == device, f.c.incident == place.incident, f.c.name == place.name, f.c.file == file)
                connection.execute(update(f).where(*same).values(held=True))
                packages.mark_whole(connection, device, place.incident, now_ns)
        self._files.drop(row.partial)

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
            now = _locked(connection, device, row.file)
            if now is None or now.partial != row.partial or now.state != row.state:
                return  # another receiver was faster
            if reason:
                self._count(connection, device, reason, now_ns)
            values = {
                "state": "waiting",
                "partial": "",
                "ranges": "[]",
                "received": 0,
                "revision": now.revision + 1,
                "updated_utc_ns": now_ns,
            }
            connection.execute(update(db.transfer).where(*_transfer(device, row.file)).values(**values))
            f, s = db.package_file, db.package_state
            these = (f.c.device == device, f.c.file == row.file)
            lost = list(connection.execute(select(f.c.incident).where(*these)).scalars())
            connection.execute(update(f).where(*these).values(held=False))
            connection.execute(update(s).where(s.c.device == device, s.c.incident.in_(lost)).values(whole=False))
        self._files.drop(row.partial)

    # answers

    def _answer(self, connection: Connection, device: str, said: _Said) -> Files:
        """Tell of the files just touched and of all that are open."""
        names = list(said.touched)
        rows = connection.execute(_TOLD, {"device": device, "files": names, "most": MOST_TOLD + len(names)}).all()
        opened, done = {}, []
        for row in rows:
            if row.file in said.refused:
                continue
            if row.state == "done":
                done.append(row.file)
            else:
                opened[row.file] = OpenFile(row.revision, ranges.missing(_ranges.decode(row.ranges), row.size))
        whole: dict[str, str] = {}
        if done:
            lacking = set(connection.execute(_LACKING, {"device": device, "files": done}).scalars())
            opened |= {r.file: OpenFile(r.revision, []) for r in rows if r.file in lacking}
            done = [file for file in done if file not in lacking]
            packed = connection.execute(_WHOLE, {"device": device, "files": done, "most": MOST_TOLD})
            whole = {row.incident: row.digest for row in packed}
        session = connection.execute(_SESSION, {"device": device}).scalar_one()
        return Files(
            device=device,
            session=session,
            open=opened,
            done=done,
            refused=said.refused,
            packages=whole,
            trouble=said.trouble,
        )


def _well_formed(message: FileMessage) -> FileAddress:
    where = file_address(message.rest)
    if where.step == "init":
        decode_init(message.payload)
    elif where.step == "chunk":
        if not 0 < len(message.payload) <= MAX_CHUNK:
            raise MessageError(EMPTY_CHUNK)
        if hashlib.sha256(message.payload).hexdigest() != where.checksum:
            raise MessageError(BAD_CHUNK)
    return where


def _outside(held: Ranges, start: int, end: int) -> Ranges:
    """Return what of start ≤ x < end is not held."""
    left: Ranges = [(start, end)]
    for low, high in held:
        left = ranges.remove(left, low, high)
    return left


def _transfer(device: str, file: str) -> tuple[Any, ...]:
    return (db.transfer.c.device == device, db.transfer.c.file == file)


def _locked(connection: Connection, device: str, file: str) -> Any:
    """Return the row of a file, locked until the transaction ends; None where no package names it."""
    return connection.execute(_LOCKED, {"device": device, "name": file}).one_or_none()
