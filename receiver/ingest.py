"""Ingest: a batch is verified, stored and projected in one transaction, and only then acknowledged.

An entry is stored when its device is enrolled, its chain follows what is held, and its signature is good; everything
else is refused and counted. Batches that come too early wait, a few per lane; what comes twice is recognised by its
number and its hash. `take` returns the acknowledgements that its caller must publish.
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.engine import Row
from sqlalchemy.sql import ColumnElement

from agent import chain, messages
from agent.chain import START, Entry
from agent.filemessages import Files, encode_files
from agent.messages import Ack, Batch, Birth, MessageError
from receiver import claims, commands, db, packages, projections
from receiver.commands import Outgoing
from receiver.filestore import FileStore
from receiver.transfers import FileMessage, Transfers
from receiver.underway import Key

log = logging.getLogger(__name__)

MOST_PENDING: Final = 1000  # devices that wait for enrolment; the one silent longest makes room
# Batches of a lane that may wait for the one before them: twice a device's window of 4 (agent.sync).
MOST_PARKED: Final = 8
_CORES: Final = min(4, os.cpu_count() or 1)

UNKNOWN_DEVICE: Final = "device is not enrolled"
BLOCKED_DEVICE: Final = "device is blocked"
OTHER_LANE: Final = "batch is of another lane than its topic"
OTHER_DEVICE: Final = "message is of another device than its topic"
OTHER_KEY: Final = "birth has another key than was enrolled"
BROKEN_CHAIN: Final = "hash chain is broken"
BROKEN_SIGNATURE: Final = "signature is not the device's"
NO_FILES: Final = "this receiver keeps no files"
TOO_EARLY: Final = "too many batches wait for one that is missing"


class Received(NamedTuple):
    """What came of a group of messages about files."""

    outgoing: list[Outgoing]
    ends: list[Key]  # files for `finish_file`
    full: list[Key]  # files for `settle_file`


@dataclass
class Counts:
    """What ingest did since it started."""

    messages: int = 0
    entries: int = 0
    duplicates: int = 0
    flagged: int = 0
    parked: int = 0
    holes: int = 0
    refused: dict[str, int] = field(default_factory=dict)


class Ingest:
    """Takes messages one by one and keeps what can be proved. One per process; several may share one PostgreSQL.

    Without `files` the packages' records are stored and the files themselves refused.
    """

    def __init__(self, engine: Engine, files: FileStore | None = None) -> None:
        self._engine = engine
        alone = engine.dialect.name == "sqlite"  # a database for several receivers is PostgreSQL
        self._transfers = None if files is None else Transfers(engine, files, self._count, alone)
        self._named: list[str] = []  # files that the batch at hand named first
        self._verifiers = ThreadPoolExecutor(_CORES, "verify")
        self.counts = Counts()

    def take(self, topic: str, payload: bytes, now_ns: int) -> list[Outgoing]:
        """Store one message that came at `now_ns` (UTC) and return the acknowledgements to publish.

        Raise sqlalchemy's DBAPIError when the database fails: nothing was stored, and the same message may be tried
        again. Nothing in the message itself raises.
        """
        self.counts.messages += 1
        try:
            where = messages.address(topic)
        except MessageError as e:
            self._refuse("", str(e), now_ns)
            return []
        try:
            if where.what == "up":
                return self._take_batch(where.device, where.lane, payload, now_ns)
            if where.what == "birth":
                return self._take_birth(where.device, payload, now_ns)
            if where.what == "status":
                self._take_status(where.device, payload, now_ns)
            if where.what == "live":
                self._take_live(where.device, payload, now_ns)
            if where.what == "file":
                return self.take_files([FileMessage(where.device, where.lane, payload)], now_ns)
        except MessageError as e:
            return self._refuse(where.device, str(e), now_ns, where.lane)
        return []

    def take_files(self, group: Sequence[FileMessage], now_ns: int) -> list[Outgoing]:
        """Store messages about files durably, finish whole files, and return the answers; raises as `take` does."""
        if self._transfers is None:
            return self.receive_files(group, now_ns).outgoing
        taken = self._transfers.take(group, now_ns, at_once=True)
        ended = {key[0] for key in taken.ends}
        answers = [files for files in taken.answers if files.device not in ended]
        return [_answer(f) for f in answers + [self._transfers.finish(key, now_ns) for key in taken.ends]]

    def receive_files(self, group: Sequence[FileMessage], now_ns: int) -> Received:
        """Store messages about files, not durably yet, and return the answers and what remains to be done.

        Raises as `take` does.
        """
        if self._transfers is None:
            for message in group:
                self._refuse(message.device, NO_FILES, now_ns)
            return Received([], [], [])
        taken = self._transfers.take(group, now_ns)
        return Received([_answer(files) for files in taken.answers], taken.ends, taken.full)

    def finish_file(self, key: Key, now_ns: int) -> Outgoing:
        """Check and store a file that may be whole; return the answer. Raises DBAPIError, and may be called again."""
        assert self._transfers is not None
        return _answer(self._transfers.finish(key, now_ns))

    def settle_file(self, key: Key, now_ns: int) -> None:
        """Make what has come of a file durable. Raises DBAPIError, and may be called again."""
        if self._transfers is not None:
            self._transfers.settle(key, now_ns)

    def settle(self, now_ns: int) -> None:
        """Make what has come of all files durable; raises as `settle_file` does."""
        if self._transfers is not None:
            self._transfers.settle_all(now_ns)

    def resume(self, device: str, now_ns: int) -> list[Outgoing]:
        """Return what a device should hear of its unfinished files from a process that has just begun."""
        told = None if self._transfers is None else self._transfers.resume(device, now_ns)
        return [] if told is None else [_answer(told)]

    def tend(self, now_ns: int) -> None:
        """Clear away what earlier crashes left; now and then."""
        if self._transfers is not None:
            self._transfers.tend(now_ns)

    def greet(self) -> list[Outgoing]:
        """Return acknowledgements for devices that were enrolled or blocked since the last call."""
        with self._engine.begin() as connection:
            rows = connection.execute(select(db.device).where(db.device.c.greeted.is_(False))).all()
            for row in rows:
                connection.execute(update(db.device).where(db.device.c.id == row.id).values(greeted=True))
            return [self._ack(connection, row) for row in rows if row.lineage]

    # births and statuses

    def _take_birth(self, device: str, payload: bytes, now_ns: int) -> list[Outgoing]:
        birth = messages.decode_birth(payload)
        if birth.device != device:
            raise MessageError(OTHER_DEVICE)
        with self._engine.begin() as connection:
            known = _device(connection, device)
            if known is None:
                self._wait_for_enrolment(connection, birth, payload, now_ns)
                return [
                    _outgoing(
                        Ack(device=device, state="unknown", lineage=birth.lineage, session=birth.session, lanes={})
                    )
                ]
            if known.public_key != birth.public_key:
                raise MessageError(OTHER_KEY)
            connection.execute(
                update(db.device)
                .where(db.device.c.id == device)
                .values(lineage=birth.lineage, session=birth.session, birth=payload, birth_utc_ns=now_ns, greeted=True)
            )
            _seen(connection, device, now_ns)
            again = commands.again(connection, device, now_ns) if known.state == "accepted" else []
            answers = [self._ack(connection, _known(connection, device)), *again]
        if self._transfers is not None:
            self._transfers.forget_sender(device)  # its session is another one
        return answers

    def _wait_for_enrolment(self, connection: Connection, birth: Birth, payload: bytes, now_ns: int) -> None:
        pending = db.pending_device
        row = {"id": birth.device, "public_key": birth.public_key, "birth": payload, "last_utc_ns": now_ns}
        again = {"birth": payload, "last_utc_ns": now_ns}
        connection.execute(db.upsert(connection, pending, {**row, "first_utc_ns": now_ns}, ["id"], again))
        surplus = connection.execute(select(func.count()).select_from(pending)).scalar_one() - MOST_PENDING
        if surplus > 0:
            oldest = select(pending.c.id).order_by(pending.c.last_utc_ns, pending.c.id).limit(surplus)
            connection.execute(delete(pending).where(pending.c.id.in_(oldest.scalar_subquery())))

    def _take_status(self, device: str, payload: bytes, now_ns: int) -> None:
        status = messages.decode_status(payload)
        if status.device != device:
            raise MessageError(OTHER_DEVICE)
        with self._engine.begin() as connection:
            if _device(connection, device) is None:
                return  # its birth makes it known; that it is on line is nobody's concern yet
            _seen(connection, device, now_ns, status.state)

    def _take_live(self, device: str, payload: bytes, now_ns: int) -> None:
        live = messages.decode_live(payload)
        if live.device != device:
            raise MessageError(OTHER_DEVICE)
        with self._engine.begin() as connection:
            known = _device(connection, device)
            if known is None or known.state != "accepted":
                return
            _seen(connection, device, now_ns)
            projections.move_to(
                connection,
                device,
                projections.Place(live.boot, live.t_ns, live.latitude, live.longitude, live.speed_mps),
            )

    # batches

    def _take_batch(self, device: str, lane: str, payload: bytes, now_ns: int) -> list[Outgoing]:
        batch = messages.decode_batch(payload)
        if batch.lane != lane:
            raise MessageError(OTHER_LANE)
        refused: dict[messages.Lane, str] = {}
        self._named = []
        with self._engine.begin() as connection:
            known = _device(connection, device)
            if known is None:
                raise MessageError(UNKNOWN_DEVICE)
            if known.state != "accepted":
                raise MessageError(BLOCKED_DEVICE)
            key = bytes.fromhex(known.public_key)
            held = _lane(connection, device, batch.lineage, lane)
            after = self._store(connection, device, key, held, batch, payload, now_ns)
            if after is not held:
                self._unpark(connection, device, key, after, now_ns)
            _seen(connection, device, now_ns)
            known = _known(connection, device)
            answers = [self._ack(connection, known, refused, batch.lineage)]
            if self._transfers is not None and self._named:
                answers.append(_answer(self._transfers.tell(connection, device, self._named)))
            return answers

    def _store(
        self,
        connection: Connection,
        device: str,
        key: bytes,
        held: "_Lane",
        batch: Batch,
        payload: bytes,
        now_ns: int,
    ) -> "_Lane":
        """Store what is new in a batch and return where its lane then stands; raise MessageError to refuse it."""
        anchored = bool(batch.anchor) and batch.first_seq > held.seq + 1
        if batch.first_seq > held.seq + 1 and not anchored:
            self._park(connection, device, batch, payload, now_ns)
            return held
        if batch.last_seq <= held.seq:
            self.counts.duplicates += len(batch.rows)
            return held
        before = _hash_before(connection, device, held, batch.first_seq)
        if before is None and not batch.anchor:
            raise MessageError(BROKEN_CHAIN)  # it reaches back into a hole
        entries = _link(device, batch, before)
        known = held.seq - batch.first_seq  # index of the last entry that is held already
        if known >= 0 and entries[known].hash != held.hash:
            raise MessageError(BROKEN_CHAIN)
        fresh = entries[max(0, known + 1) :]
        if not self._signed(key, fresh):
            raise MessageError(BROKEN_SIGNATURE)
        if anchored:
            self._note_hole(connection, device, held, batch.first_seq, now_ns)
        self._write(connection, device, fresh, anchored, now_ns)
        self.counts.duplicates += len(entries) - len(fresh)
        after = _Lane(held.lineage, held.lane, batch.last_seq, fresh[-1].hash)
        where = _lane_key(device, after)
        connection.execute(update(db.lane_state).where(*where).values(seq=after.seq, hash=after.hash))
        return after

    def _signed(self, key: bytes, entries: list[Entry]) -> bool:
        """Say whether the device signed every entry; verification is most of the work and leaves the GIL alone."""
        parts = [entries[i::_CORES] for i in range(min(_CORES, 1 + len(entries) // 16))]
        if len(parts) < _CORES:
            return all(chain.signed_by(key, e) for e in entries)
        return all(self._verifiers.map(lambda part: all(chain.signed_by(key, e) for e in part), parts))

    def _write(self, connection: Connection, device: str, fresh: list[Entry], anchored: bool, now_ns: int) -> None:
        rows = []
        known: list[projections.Known] = []
        for i, e in enumerate(fresh):
            read, flag = projections.read(e)
            if read is not None:
                known.append(read)
            else:
                self.counts.flagged += 1
            rows.append(
                {
                    "device": device,
                    "lineage": e.lineage,
                    "lane": e.lane,
                    "seq": e.seq,
                    "boot": e.boot,
                    "t_ns": e.t_ns,
                    "kind": e.kind,
                    "body": e.body,
                    "hash": e.hash,
                    "signature": e.signature,
                    "flag": flag or ("unlinked" if anchored and i == 0 else ""),
                    "received_utc_ns": now_ns,
                }
            )
        connection.execute(insert(db.entry), rows)
        projections.project(connection, device, known, now_ns)
        claims.report(connection, device, known, now_ns)
        commands.hear(connection, device, known, now_ns)
        named, unusable = packages.expect(connection, device, known, now_ns)
        self._named += named
        for _ in range(unusable):
            self._count(connection, device, packages.UNUSABLE, now_ns)
        self.counts.entries += len(rows)

    def _note_hole(self, connection: Connection, device: str, held: "_Lane", first_seq: int, now_ns: int) -> None:
        self.counts.holes += 1
        log.error("device %s, lane %s: entries %d to %d are lost", device, held.lane, held.seq + 1, first_seq - 1)
        row = {
            "device": device,
            "lineage": held.lineage,
            "lane": held.lane,
            "first_seq": held.seq + 1,
            "last_seq": first_seq - 1,
            "noted_utc_ns": now_ns,
        }
        connection.execute(insert(db.hole), row)

    # batches that came too early

    def _park(self, connection: Connection, device: str, batch: Batch, payload: bytes, now_ns: int) -> None:
        parked = db.parked
        where = _parked_of(device, batch.lineage, batch.lane)
        waiting = connection.execute(select(func.count()).select_from(parked).where(*where)).scalar_one()
        if waiting >= MOST_PARKED:
            self._count(connection, device, TOO_EARLY, now_ns)  # not the lane's fault: the device sends it again
            return
        row = {"device": device, "lineage": batch.lineage, "lane": batch.lane, "first_seq": batch.first_seq}
        connection.execute(
            db.upsert(connection, parked, {**row, "payload": payload}, ["device", "lineage", "lane", "first_seq"])
        )
        self.counts.parked += 1

    def _unpark(self, connection: Connection, device: str, key: bytes, held: "_Lane", now_ns: int) -> None:
        """Store the waiting batches of a lane that now follow what is held, and drop those that are overtaken."""
        parked = db.parked
        where = _parked_of(device, held.lineage, held.lane)
        rows = connection.execute(select(parked).where(*where).order_by(parked.c.first_seq)).all()
        for row in rows:
            if row.first_seq > held.seq + 1:
                break
            connection.execute(delete(parked).where(*where, parked.c.first_seq == row.first_seq))
            payload = bytes(row.payload)
            try:
                held = self._store(connection, device, key, held, messages.decode_batch(payload), payload, now_ns)
            except MessageError as e:
                self._count(connection, device, str(e), now_ns)

    # refusals and acknowledgements

    def _refuse(self, device: str, reason: str, now_ns: int, lane: str = "") -> list[Outgoing]:
        """Count a refusal; an enrolled device is told why its lane stands still."""
        with self._engine.begin() as connection:
            known = _device(connection, device) if device else None
            self._count(connection, known.id if known else "", reason, now_ns)
            if known is None or not lane or not known.lineage:
                return []
            return [self._ack(connection, known, {lane: reason[:200]})]  # type: ignore[dict-item]

    def _count(self, connection: Connection, device: str, reason: str, now_ns: int) -> None:
        if reason not in self.counts.refused:
            log.warning("refused from %s: %s; counted from now on", device or "a stranger", reason)
        self.counts.refused[reason] = self.counts.refused.get(reason, 0) + 1
        table = db.refused
        row = {"device": device, "reason": reason[:64], "count": 1, "last_utc_ns": now_ns}
        again = {"count": table.c.count + 1, "last_utc_ns": now_ns}
        connection.execute(db.upsert(connection, table, row, ["device", "reason"], again))

    def _ack(
        self,
        connection: Connection,
        known: "Row[tuple[object, ...]]",
        refused: dict[messages.Lane, str] | None = None,
        lineage: str = "",
    ) -> Outgoing:
        """Build what the receiver holds of a device: of the lineage that it was born with, if its birth is known."""
        lineage = known.lineage or lineage
        table = db.lane_state
        rows = connection.execute(
            select(table).where(table.c.device == known.id, table.c.lineage == lineage, table.c.seq > 0)
        ).all()
        state: Literal["accepted", "blocked"] = "accepted" if known.state == "accepted" else "blocked"
        if state == "blocked":
            rows = []
        return _outgoing(
            Ack(
                device=known.id,
                state=state,
                lineage=lineage,
                session=known.session,
                lanes={row.lane: row.seq for row in rows},
                hashes={row.lane: bytes(row.hash).hex() for row in rows},
                refused=refused or {},
            )
        )


class _Lane(NamedTuple):
    """Where one lane stands: what is held of it without a gap."""

    lineage: str
    lane: str
    seq: int
    hash: bytes


def _outgoing(ack: Ack) -> Outgoing:
    return Outgoing(messages.topic(ack.device, "ack"), messages.encode_ack(ack))


def _answer(files: Files) -> Outgoing:
    return Outgoing(messages.topic(files.device, "files"), encode_files(files))


def _device(connection: Connection, device: str) -> "Row[tuple[object, ...]] | None":
    return connection.execute(select(db.device).where(db.device.c.id == device)).one_or_none()


def _known(connection: Connection, device: str) -> "Row[tuple[object, ...]]":
    return connection.execute(select(db.device).where(db.device.c.id == device)).one()


def _lane_key(device: str, lane: _Lane) -> Sequence[ColumnElement[bool]]:
    table = db.lane_state
    return (table.c.device == device, table.c.lineage == lane.lineage, table.c.lane == lane.lane)


def _parked_of(device: str, lineage: str, lane: str) -> Sequence[ColumnElement[bool]]:
    table = db.parked
    return (table.c.device == device, table.c.lineage == lineage, table.c.lane == lane)


def _lane(connection: Connection, device: str, lineage: str, lane: str) -> _Lane:
    """Return where a lane stands, locked until the transaction ends."""
    start = _Lane(lineage, lane, 0, START)
    row = {"device": device, **start._asdict()}
    connection.execute(db.upsert(connection, db.lane_state, row, ["device", "lineage", "lane"], {}))
    found = connection.execute(select(db.lane_state).where(*_lane_key(device, start)).with_for_update()).one()
    return _Lane(lineage, lane, found.seq, bytes(found.hash))


def _hash_before(connection: Connection, device: str, held: _Lane, first_seq: int) -> bytes | None:
    """Return the hash of the stored entry before `first_seq`, or None where there is none."""
    if first_seq == 1:
        return START
    if first_seq == held.seq + 1:
        return held.hash
    table = db.entry
    same = (table.c.device == device, table.c.lineage == held.lineage, table.c.lane == held.lane)
    found = connection.execute(select(table.c.hash).where(*same, table.c.seq == first_seq - 1)).scalar()
    return None if found is None else bytes(found)


def _link(device: str, batch: Batch, before: bytes | None) -> list[Entry]:
    """Return a batch's entries with their chain hashes, from the hash before them or from the batch's own anchor."""
    entries = []
    for seq, row in enumerate(batch.rows, batch.first_seq):
        signed = chain.signed_bytes(device, batch.lineage, batch.lane, seq, row.boot, row.t_ns, row.kind, row.body)
        before = batch.anchor if before is None else chain.link(before, signed)
        entries.append(
            Entry(batch.lineage, batch.lane, seq, row.boot, row.t_ns, row.kind, row.body, before, row.signature)
        )
    return entries


def _seen(connection: Connection, device: str, now_ns: int, state: Literal["online", "offline", ""] = "") -> None:
    """Note that a device was heard, and whether it is connected where that is said."""
    live = db.live
    row = {"device": device, "online": state != "offline", "since_utc_ns": now_ns, "seen_utc_ns": now_ns}
    connection.execute(db.upsert(connection, live, row, ["device"], {"seen_utc_ns": now_ns}))
    if state:
        online = state == "online"
        changed = (live.c.device == device, live.c.online.is_not(online))
        connection.execute(update(live).where(*changed).values(online=online, since_utc_ns=now_ns))
