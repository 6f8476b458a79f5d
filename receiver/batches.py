"""Batches: each is judged alone, and those that came together are stored in one transaction.

An entry is stored when its device is enrolled, its chain follows what is held, and its signature is good; everything
else is refused and counted. A batch that comes too early waits, a few per lane. Statements and commits are paid once
for a group, and its devices are answered once: thousands of devices send a few entries each.
"""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import Connection, Row

from agent import chain, messages
from agent.chain import Entry
from agent.messages import Ack, Address, Batch, MessageError
from agent.records import LANES
from receiver import claims, commands, lanes, packages, projections
from receiver.commands import Outgoing
from receiver.lanes import Book, Hole, Key, Lane
from receiver.projections import Known
from receiver.registry import gate

log = logging.getLogger(__name__)

# Batches of a lane that may wait for the one before them: twice a device's window of 4 (agent.sync).
MOST_PARKED: Final = 8
_CORES: Final = min(4, os.cpu_count() or 1)
_WORTH_THREADS: Final = 16  # entries for each core: below them, handing over costs what it saves

UNKNOWN_DEVICE: Final = "device is not enrolled"
BLOCKED_DEVICE: Final = "device is blocked"
OTHER_LANE: Final = "batch is of another lane than its topic"
BROKEN_CHAIN: Final = "hash chain is broken"
BROKEN_SIGNATURE: Final = "signature is not the device's"
TOO_EARLY: Final = "too many batches wait for one that is missing"


class Read(NamedTuple):
    """A message about a lane: its batch, or why there is none."""

    device: str
    lane: str
    payload: bytes
    batch: Batch | None
    wrong: str = ""


@dataclass
class Done:
    """What came of a group."""

    entries: int = 0
    duplicates: int = 0
    flagged: int = 0
    parked: int = 0
    holes: int = 0
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)  # refusals by device, empty for strangers
    heard: dict[str, str] = field(default_factory=dict)  # devices of which something was taken: lineage of the last
    refused: dict[str, dict[str, str]] = field(default_factory=dict)  # what to tell them: why, by lane
    named: dict[str, list[str]] = field(default_factory=dict)  # files that their records named first


def read(where: Address, payload: bytes) -> Read:
    """Decode a message of a lane."""
    try:
        batch = messages.decode_batch(payload)
    except MessageError as e:
        return Read(where.device, where.lane, payload, None, str(e))
    if batch.lane != where.lane:
        return Read(where.device, where.lane, payload, None, OTHER_LANE)
    return Read(where.device, where.lane, payload, batch)


class Batches:
    """Stores groups of batches; one per process, for the sake of its threads."""

    def __init__(self) -> None:
        self._verifiers = ThreadPoolExecutor(_CORES, "verify")

    def store(self, connection: Connection, group: Sequence[Read], now_ns: int) -> tuple[Done, list[Outgoing]]:
        """Store what can be proved, and return what was done and the acknowledgements to publish after the commit."""
        done = Done()
        book = lanes.open_book(connection, [r.device for r in group])
        for r in group:
            try:
                self._take(connection, book, r, done)
            except MessageError as e:
                _refuse(book, r, str(e), done)
        _write(connection, book, done, now_ns)
        return done, _answers(book, group, done)

    def _take(self, connection: Connection, book: Book, r: Read, done: Done) -> None:
        """Enter what is new in a batch, and in those that waited for it; raise MessageError to refuse it."""
        if r.batch is None:
            raise MessageError(r.wrong)
        row = book.devices.get(r.device)
        if row is None:
            raise MessageError(UNKNOWN_DEVICE)
        if row.state != "accepted":
            raise MessageError(BLOCKED_DEVICE)
        public_key = bytes.fromhex(row.public_key)
        key = (r.device, r.batch.lineage, r.lane)
        before = book.at(key)
        self._enter(connection, book, key, public_key, r.batch, r.payload, done)
        while book.at(key) is not before and (payload := book.unpark(connection, key)) is not None:
            try:
                self._enter(connection, book, key, public_key, messages.decode_batch(payload), payload, done)
            except MessageError as e:
                done.reasons[r.device, str(e)] += 1
        done.heard[r.device] = r.batch.lineage
        done.refused.get(r.device, {}).pop(r.lane, None)  # what was refused before it no longer stops the lane

    def _enter(
        self, connection: Connection, book: Book, key: Key, public_key: bytes, batch: Batch, payload: bytes, done: Done
    ) -> None:
        held = book.at(key)
        anchored = bool(batch.anchor) and batch.first_seq > held.seq + 1
        if batch.first_seq > held.seq + 1 and not anchored:
            _park(book, key, batch.first_seq, payload, done)
            return
        if batch.last_seq <= held.seq:
            done.duplicates += len(batch.rows)
            return
        before = book.hash_before(connection, key, batch.first_seq)
        if before is None and not batch.anchor:
            raise MessageError(BROKEN_CHAIN)  # it reaches back into a hole
        entries = lanes.link(key[0], batch, before)
        known = held.seq - batch.first_seq  # index of the last entry that is held already
        if known >= 0 and entries[known].hash != held.hash:
            raise MessageError(BROKEN_CHAIN)
        fresh = entries[max(0, known + 1) :]
        if not self._signed(public_key, fresh):
            raise MessageError(BROKEN_SIGNATURE)
        if anchored:
            log.error(
                "device %s, lane %s: entries %d to %d are lost", key[0], key[2], held.seq + 1, batch.first_seq - 1
            )
            book.holes.append(Hole(key, held.seq + 1, batch.first_seq - 1))
            done.holes += 1
        first_flag = "unlinked" if anchored else ""
        book.fresh.setdefault(key, []).extend((e, "" if i else first_flag) for i, e in enumerate(fresh))
        book.held[key] = Lane(batch.last_seq, fresh[-1].hash)
        done.duplicates += len(entries) - len(fresh)

    def _signed(self, key: bytes, entries: list[Entry]) -> bool:
        """Say whether the device signed every entry; verification is most of the work and leaves the GIL alone."""
        if len(entries) < _WORTH_THREADS * _CORES:
            return all(chain.signed_by(key, e) for e in entries)
        parts = [entries[i::_CORES] for i in range(_CORES)]
        return all(self._verifiers.map(lambda part: all(chain.signed_by(key, e) for e in part), parts))


def _park(book: Book, key: Key, first_seq: int, payload: bytes, done: Done) -> None:
    """Let a batch wait for the one before it."""
    if len(book.parked.get(key, ())) >= MOST_PARKED or book.waiting(key[0]) >= MOST_PARKED * len(LANES):
        done.reasons[key[0], TOO_EARLY] += 1  # not the lane's fault: the device sends it again
        return
    book.park(key, first_seq, payload)
    done.parked += 1


def _refuse(book: Book, r: Read, reason: str, done: Done) -> None:
    """Note a refusal; an enrolled device is told why its lane stands still."""
    if r.device in book.devices:
        done.reasons[r.device, reason] += 1
        done.refused.setdefault(r.device, {})[r.lane] = reason[:200]
    else:
        done.reasons["", reason] += 1


def _write(connection: Connection, book: Book, done: Done, now_ns: int) -> None:
    """Write entries and all that follows from them."""
    known: dict[str, list[Known]] = {}
    telling: dict[str, set[str]] = {}  # devices by the kinds of record that are more than a row
    withheld = gate.withheld(connection, {key[0] for key in book.fresh})
    for key, those in book.fresh.items():
        for i, (entry, _) in enumerate(those):
            if entry.kind in gate.DRIVING and key[0] in withheld:
                those[i] = gate.tombstone(key[0], entry), gate.ERASED
                continue
            understood, why = projections.read(entry)
            if understood is None:
                done.flagged += 1
                those[i] = entry, why
                continue
            known.setdefault(key[0], []).append(understood)
            if entry.kind in _TELLING:
                telling.setdefault(entry.kind, set()).add(key[0])
        done.entries += len(those)
    lanes.close_book(connection, book, now_ns)
    projections.project(connection, known, now_ns)
    for device in sorted(telling.get("reply", ())):
        commands.hear(connection, device, known[device], now_ns)
    for device in sorted(telling.get("package", ())):
        named, unusable = packages.expect(connection, device, known[device], now_ns)
        if named:
            done.named[device] = named
        if unusable:
            done.reasons[device, packages.UNUSABLE] += unusable
    if "crash" in telling:  # last: it takes the one lock of all claims, and who holds it must wait for nobody
        claims.report(connection, {device: known[device] for device in sorted(telling["crash"])}, now_ns)


_TELLING: Final = ("reply", "package", "crash")


def _answers(book: Book, group: Sequence[Read], done: Done) -> list[Outgoing]:
    """Return one acknowledgement for each enrolled device of a group, unless nobody knows of which lineage it is."""
    answers = []
    for device in dict.fromkeys(r.device for r in group):
        row = book.devices.get(device)
        lineage = "" if row is None else row.lineage or done.heard.get(device, "")
        if row is not None and lineage:
            held = {key[2]: lane for key, lane in book.held.items() if key[:2] == (device, lineage)}
            answers.append(acknowledgement(row, lineage, held, done.refused.get(device)))
    return answers


def acknowledgement(
    row: "Row[Any]", lineage: str, held: dict[str, Lane], refused: dict[str, str] | None = None
) -> Outgoing:
    """Build what the receiver holds of a device's lineage."""
    state: Literal["accepted", "blocked"] = "accepted" if row.state == "accepted" else "blocked"
    shown = {lane: at for lane, at in held.items() if at.seq > 0 and state == "accepted"}
    ack = Ack(
        device=row.id,
        state=state,
        lineage=lineage,
        session=row.session,
        lanes={lane: at.seq for lane, at in shown.items()},  # type: ignore[misc]
        hashes={lane: at.hash.hex() for lane, at in shown.items()},  # type: ignore[misc]
        refused=refused or {},  # type: ignore[arg-type]
    )
    return Outgoing(messages.topic(ack.device, "ack"), messages.encode_ack(ack))
