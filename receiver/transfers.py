"""Files on their way: chunks are checked and written, made durable in groups, and a whole file is stored and told.

What `take` tells is what need not be sent again to this process; it frees nothing at the device. `settle` fsyncs a
file and then writes its row, which therefore never says more than is durable. `finish` does both, compares the hash,
puts the file in its place, and only then calls it done. Whatever is lost on the way is asked for again.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Engine, bindparam, func, or_, select

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
from receiver import db
from receiver.filestore import FileStore
from receiver.settling import HELD, MOST_UNSETTLED, SETTLE_BYTES, Count, Settling, decode_ranges, locked, values
from receiver.underway import LEASE, Key, Underway

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
LEFTOVER_NS: Final = 86_400 * NS_PER_S
MOST_TOLD: Final = 32  # files in one answer: a device opens 8 at once
MOST_UNDERWAY: Final = 1000  # files known by heart, of 1 KB each; beyond them all are settled and forgotten

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
_SENDER: Final = select(db.device.c.state, db.device.c.session).where(db.device.c.id == bindparam("device"))


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


class _Sender(NamedTuple):
    state: str  # accepted, or why nothing is taken
    session: str


class Taken(NamedTuple):
    """What came of a group of messages."""

    answers: list[Files]
    ends: list[Key]  # files that may be whole: give them to `finish`
    full: list[Key]  # files with much that is not durable: give them to `settle`


class Transfers:
    """Takes messages about files; one per process. `take` belongs to one thread, all else may be called by others.

    One process alone (`alone`) remembers the files that are under way and makes them durable later; several that share
    a database do so with every group, since each must see what the others hold.
    """

    def __init__(self, engine: Engine, files: FileStore, count: Count, alone: bool = True) -> None:
        self._engine = engine
        self._files = files
        self._count = count
        self._underway: dict[Key, Underway] = {}
        self._settling = Settling(engine, files, count, self._underway, alone)
        self._troubled = False
        self._senders: dict[str, _Sender] = {}

    def take(self, group: Sequence[FileMessage], now_ns: int, at_once: bool = False) -> Taken:
        """Write what came and return the answer for every device; `at_once` makes it durable before.

        Raise sqlalchemy's DBAPIError when the database fails: the same group may be given again.
        """
        said: dict[str, _Said] = {}
        ends: list[Key] = []
        wanted = self._checked(group, now_ns)
        for device, of_device in groupby(sorted(wanted, key=lambda w: w[0]), key=lambda w: w[0]):
            said[device] = _Said()
            chunks = sorted((c for _, c in of_device), key=lambda c: c.where.file)
            for file, of_file in groupby(chunks, key=lambda c: c.where.file):
                of_this = list(of_file)
                with self._guarded(said[device]):
                    self._take_file(device, file, of_this, said[device], now_ns)
                ends += [(device, file) for c in of_this if c.where.step == "fin"][:1]
        if at_once or not self._settling.alone:
            for device, s in said.items():
                with self._guarded(s):
                    self._settling.put_down([k for k in self._underway.copy() if k[0] == device], now_ns)
                self.forget_sender(device)
        elif len(self._underway) > MOST_UNDERWAY:
            with self._guarded(_Said()):
                self._settling.put_down(list(self._underway)[: MOST_UNDERWAY // 2], now_ns)
        full = [k for k, u in self._underway.copy().items() if k[0] in said and u.unsettled >= SETTLE_BYTES]
        return Taken([self._tell(device, s) for device, s in said.items()], ends, full)

    def tell(self, connection: Connection, device: str, files: Sequence[str]) -> Files:
        """Return what is lacking of files that a record has just named."""
        return self._answer(connection, device, _Said(touched=dict.fromkeys(files[:MOST_TOLD])))

    def resume(self, device: str, now_ns: int) -> Files | None:
        """Return what is lacking of a device's unfinished files, where there are any: for a process that begins.

        The device then sends again at once what was under way to a process that died.
        """
        with db.reading(self._engine) as connection:
            unfinished = select(_T.c.file).where(_T.c.device == device, _T.c.state == "open").limit(MOST_TOLD)
            names = list(connection.execute(unfinished).scalars())
        if not names or self._sender(device).state != "accepted":
            return None
        for name in names:
            if (device, name) not in self._underway and self._settling.alone:
                self._open(device, name, _Said(), now_ns)
        return msgspec.structs.replace(self._tell(device, _Said(touched=dict.fromkeys(names))), anew=True)

    def forget_sender(self, device: str) -> None:
        """Read anew whether a device may send, and its session."""
        self._senders.pop(device, None)

    def settle(self, key: Key, now_ns: int) -> None:
        """Make what was written of a file durable and hash it on; raises DBAPIError."""
        try:
            self._settling.advance(key, now_ns)
        except OSError as e:
            self._trouble(e)  # what was lost is not in the row: the device is asked for it again

    def settle_all(self, now_ns: int) -> None:
        """Make everything durable, and look anew who may send: once a second and at the end; raises DBAPIError."""
        self._senders.clear()
        for key in list(self._underway):
            self.settle(key, now_ns)

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
        for message in group:
            state = ""
            try:
                where = _well_formed(message)
                if where.step != "chunk":
                    self.forget_sender(message.device)
                state = self._sender(message.device).state
                if state != "accepted":
                    raise MessageError(state)
            except MessageError as e:
                with self._engine.begin() as connection:
                    known = state == "accepted" or self._known(connection, message.device)
                    self._count(connection, message.device if known else "", str(e), now_ns)
                continue
            good.append((message.device, _Wanted(where, message.payload)))
        return good

    def _sender(self, device: str) -> _Sender:
        known = self._senders.get(device)
        if known is None:
            with db.reading(self._engine) as connection:
                row = connection.execute(_SENDER, {"device": device}).one_or_none()
            if row is None:
                return _Sender("device is not enrolled", "")  # strangers are not remembered
            known = _Sender("accepted" if row.state == "accepted" else "device is blocked", row.session)
            self._senders[device] = known
        return known

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
            self._trouble(e)
        else:
            if self._troubled and not said.trouble:
                log.warning("package files are stored again")
                self._troubled = False

    def _trouble(self, error: OSError) -> None:
        if not self._troubled:
            log.error("package files cannot be stored: %s; free space there, or check its owner", error)
        self._troubled = True

    def _take_file(self, device: str, file: str, chunks: list[_Wanted], said: _Said, now_ns: int) -> None:
        entry = self._underway.get((device, file))
        if entry is None or self._files.length(entry.partial) < (entry.held[-1][1] if entry.held else 0):
            entry = self._open(device, file, said, now_ns)
            if entry is None:
                return
        said.touched[file] = None
        # while an answer about the end of a file is on its way, its row is done and nothing of it is open
        fitting = [c for c in chunks if self._fits(entry, c, now_ns)]
        after, pieces = entry.held, list[tuple[int, memoryview]]()
        for where, data in fitting:
            if where.step != "chunk" or not entry.partial:
                continue
            start, end = where.number, where.number + len(data)
            joined = ranges.add(after, start, end)
            if len(joined) > MAX_RANGES:
                self._refuse(device, TOO_MANY_HOLES, now_ns)
                continue
            view = memoryview(data)
            pieces += [(low, view[low - start : high - start]) for low, high in _outside(after, start, end)]
            after = joined
        if not pieces:
            return
        try:
            self._files.write(entry.partial, pieces)
        except FileNotFoundError:
            self._settling.drop(entry)  # finished or deleted meanwhile: the row says what there is
            return
        entry.held = after
        entry.revision += 1
        if entry.unsettled > MOST_UNSETTLED:
            self._settling.settle((device, file), now_ns)

    def _open(self, device: str, file: str, said: _Said, now_ns: int) -> Underway | None:
        """Return a file as its row says it, begun where it was not or where its bytes were lost; None if refused."""
        self._underway.pop((device, file), None)
        with self._engine.begin() as connection:
            row = locked(connection, device, file)
            if row is None:
                said.refused[file] = UNKNOWN_FILE
                self._count(connection, device, UNKNOWN_FILE, now_ns)
                return None
            if row.state == "done":
                return Underway(device, file, row.size, "", [], [], row.revision, row.revision)
            if row.state == "waiting":
                refusal = self._no_room(connection, device, row.size)
                if refusal:
                    said.refused[file] = refusal
                    self._count(connection, device, refusal, now_ns)
                    return None
            held = decode_ranges(row.ranges)
            partial, fresh = row.partial, False
            # What is on disk must reach as far as what is said to be held: else it was lost, whole or in part.
            if not partial or self._files.length(partial) < (held[-1][1] if held else 0):
                self._files.drop(partial)
                partial, held, fresh = self._files.begin(), [], True
            revision = row.revision
            if fresh or self._settling.alone:
                revision += LEASE if self._settling.alone else 1
                connection.execute(HELD, values(device, file, partial, held, revision, now_ns))
        entry = Underway(device, file, row.size, partial, held, held, row.revision + 1, revision)
        self._underway[device, file] = entry
        return entry

    def _fits(self, entry: Underway, chunk: _Wanted, now_ns: int) -> bool:
        """Say whether a message agrees with what the package names; count it where it does not."""
        where, data = chunk
        reason = ""
        if where.step == "init":
            init = decode_init(data)
            reason = "" if (init.size, init.checksum) == (entry.size, where.file) else OTHER_FILE
        elif where.step == "fin":
            reason = "" if (where.number, where.checksum) == (entry.size, where.file) else OTHER_FILE
        elif where.number + len(data) > entry.size:
            reason = BEYOND
        if reason:
            self._refuse(entry.device, reason, now_ns)
        return not reason

    def _refuse(self, device: str, reason: str, now_ns: int) -> None:
        with self._engine.begin() as connection:
            self._count(connection, device, reason, now_ns)

    def _no_room(self, connection: Connection, device: str, size: int) -> str:
        t, settings = db.transfer, self._files.settings
        if size > settings.max_file_bytes:
            return TOO_LARGE
        taken = select(func.coalesce(func.sum(t.c.size), 0)).where(t.c.state != "waiting")
        if connection.execute(taken.where(t.c.device == device)).scalar_one() + size > settings.max_device_bytes:
            return DEVICE_FULL
        return STORE_FULL if connection.execute(taken).scalar_one() + size > settings.max_total_bytes else ""

    # the end of a file

    def finish(self, key: Key, now_ns: int) -> Files:
        """Check a file that has all its bytes and put it in its places; return what is then to be told.

        It takes as long as the store does. Raise DBAPIError when the database fails: it may be called again.
        """
        device, file = key
        said = _Said(touched={file: None})
        with self._guarded(said):
            refusal = self._settling.finish(key, now_ns)
            if refusal:
                said.refused[file] = refusal
        return self._tell(device, said)

    # answers

    def _tell(self, device: str, said: _Said) -> Files:
        """Tell of the files just touched and of all that are open; from memory, where that knows them."""
        mine = {file: u for (of, file), u in self._underway.copy().items() if of == device}
        if said.refused or not said.touched or not said.touched.keys() <= mine.keys():
            with db.reading(self._engine) as connection:
                return self._answer(connection, device, said)
        return Files(
            device=device,
            session=self._sender(device).session,
            open={file: _told(mine[file]) for file in list(said.touched) + list(mine)[:MOST_TOLD]},
            trouble=said.trouble,
        )

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
                entry = self._underway.get((device, row.file))
                as_in_row = OpenFile(row.revision, ranges.missing(decode_ranges(row.ranges), row.size))
                opened[row.file] = as_in_row if entry is None else _told(entry)
        whole: dict[str, str] = {}
        if done:
            lacking = set(connection.execute(_LACKING, {"device": device, "files": done}).scalars())
            opened |= {r.file: OpenFile(r.revision, []) for r in rows if r.file in lacking}
            done = [file for file in done if file not in lacking]
            packed = connection.execute(_WHOLE, {"device": device, "files": done, "most": MOST_TOLD})
            whole = {row.incident: row.digest for row in packed}
        sender = connection.execute(_SENDER, {"device": device}).one()
        return Files(
            device=device,
            session=sender.session,
            open=opened,
            done=done,
            refused=said.refused,
            packages=whole,
            trouble=said.trouble,
        )


def _told(entry: Underway) -> OpenFile:
    revision = entry.revision  # before what it stands for, which another thread may add to
    return OpenFile(revision, ranges.missing(entry.held, entry.size))


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
