"""Ingest: what a message brings is verified, stored and projected in one transaction, and only then acknowledged.

What becomes of batches is in receiver.batches, of files in receiver.transfers; births and statuses are dealt with here.
`take` returns the acknowledgements that its caller must publish.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from sqlalchemy import Connection, Engine, delete, func, select, update
from sqlalchemy.engine import Row

from agent import messages
from agent.filemessages import Files, encode_files
from agent.messages import Ack, Birth, MessageError
from receiver import commands, db, lanes, migrations, partitions, projections
from receiver.batches import Batches, Read, acknowledgement, read
from receiver.commands import Outgoing
from receiver.filestore import FileStore
from receiver.projections import Place
from receiver.registry import gate
from receiver.transfers import FileMessage, Transfers
from receiver.underway import Key

log = logging.getLogger(__name__)

MOST_PENDING: Final = 1000  # devices that wait for enrolment; the one silent longest makes room

OTHER_DEVICE: Final = "message is of another device than its topic"
OTHER_KEY: Final = "birth has another key than was enrolled"
NO_FILES: Final = "this receiver keeps no files"


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
        self._batches = Batches()
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
                return self._take_batches([read(where, payload)], now_ns)
            if where.what == "birth":
                return self._take_birth(where.device, payload, now_ns)
            if where.what == "status":
                self._take_status(where.device, payload, now_ns)
            if where.what == "live":
                self._take_live(where.device, payload, now_ns)
            if where.what == "file":
                return self.take_files([FileMessage(where.device, where.lane, payload)], now_ns)
        except MessageError as e:
            self._refuse(where.device, str(e), now_ns)
        return []

    def take_batches(self, group: Sequence[tuple[str, bytes]], now_ns: int) -> list[Outgoing]:
        """Store batches, given as topic and payload, in one transaction; raises as `take` does.

        Each is judged as if it had come alone; a device is answered once for all of its batches.
        """
        self.counts.messages += len(group)
        return self._take_batches([read(messages.address(topic), payload) for topic, payload in group], now_ns)

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
        """Make the months that come next, and clear away what earlier crashes left; now and then."""
        if self._engine.dialect.name == "postgresql":
            with self._engine.begin() as connection:
                migrations.lock(connection)
                partitions.make_months(connection, now_ns)
        if self._transfers is not None:
            self._transfers.tend(now_ns)

    def greet(self) -> list[Outgoing]:
        """Return acknowledgements for devices that were enrolled or blocked since the last call."""
        with self._engine.begin() as connection:
            rows = connection.execute(
                select(db.device).where(db.device.c.greeted.is_(False)).order_by(db.device.c.id)
            ).all()
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
            if known is None or known.state != "accepted" or gate.withheld(connection, [device]):
                return
            _seen(connection, device, now_ns)
            place = Place(live.boot, live.t_ns, live.latitude, live.longitude, live.speed_mps)
            projections.move_to(connection, {device: place})

    # batches

    def _take_batches(self, group: Sequence[Read], now_ns: int) -> list[Outgoing]:
        with self._engine.begin() as connection:
            done, answers = self._batches.store(connection, group, now_ns)
            for device in sorted(done.heard):
                _seen(connection, device, now_ns)
            for (device, reason), n in sorted(done.reasons.items()):
                self._count(connection, device, reason, now_ns, n)
            if self._transfers is not None:
                tell = self._transfers.tell
                answers += [_answer(tell(connection, device, named)) for device, named in done.named.items()]
        for name in ("entries", "duplicates", "flagged", "parked", "holes"):
            setattr(self.counts, name, getattr(self.counts, name) + getattr(done, name))
        return answers

    # refusals and acknowledgements

    def _refuse(self, device: str, reason: str, now_ns: int) -> None:
        """Count a refusal."""
        with self._engine.begin() as connection:
            known = _device(connection, device) if device else None
            self._count(connection, known.id if known else "", reason, now_ns)

    def _count(self, connection: Connection, device: str, reason: str, now_ns: int, times: int = 1) -> None:
        if reason not in self.counts.refused:
            log.warning("refused from %s: %s; counted from now on", device or "a stranger", reason)
        self.counts.refused[reason] = self.counts.refused.get(reason, 0) + times
        table = db.refused
        row = {"device": device, "reason": reason[:64], "count": times, "last_utc_ns": now_ns}
        again = {"count": table.c.count + times, "last_utc_ns": now_ns}
        connection.execute(db.upsert(connection, table, row, ["device", "reason"], again))

    def _ack(self, connection: Connection, known: "Row[tuple[object, ...]]") -> Outgoing:
        """Build what the receiver holds of a device, of the lineage that it was born with."""
        table = db.lane_state
        mine = select(table).where(table.c.device == known.id, table.c.lineage == known.lineage)
        held = {row.lane: lanes.Lane(row.seq, bytes(row.hash)) for row in connection.execute(mine)}
        return acknowledgement(known, known.lineage, held)


def _outgoing(ack: Ack) -> Outgoing:
    return Outgoing(messages.topic(ack.device, "ack"), messages.encode_ack(ack))


def _answer(files: Files) -> Outgoing:
    return Outgoing(messages.topic(files.device, "files"), encode_files(files))


def _device(connection: Connection, device: str) -> "Row[tuple[object, ...]] | None":
    return connection.execute(select(db.device).where(db.device.c.id == device)).one_or_none()


def _known(connection: Connection, device: str) -> "Row[tuple[object, ...]]":
    return connection.execute(select(db.device).where(db.device.c.id == device)).one()


def _seen(connection: Connection, device: str, now_ns: int, state: Literal["online", "offline", ""] = "") -> None:
    """Note that a device was heard, and whether it is connected where that is said."""
    live = db.live
    row = {"device": device, "online": state != "offline", "since_utc_ns": now_ns, "seen_utc_ns": now_ns}
    connection.execute(db.upsert(connection, live, row, ["device"], {"seen_utc_ns": now_ns}))
    if state:
        online = state == "online"
        changed = (live.c.device == device, live.c.online.is_not(online))
        connection.execute(update(live).where(*changed).values(online=online, since_utc_ns=now_ns))
