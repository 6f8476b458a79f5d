"""A store that the daemon can live with: what a full or broken disk refuses waits in memory and is tried again."""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from agent.blocks import Block, empty_block
from agent.clock import NS_PER_S
from agent.errors import StoreError
from agent.records import Clock, Health, Record, Reply
from agent.store import Store

log = logging.getLogger(__name__)

RETRY_NS: Final = 5 * NS_PER_S
# What says nothing of a person: how the box is, what time it is, and what was answered to whoever asked for more.
ALWAYS: Final = (Clock, Health, Reply)


class PatientStore:
    """Append to `store`; records that it refuses are kept in order and without bound, for they are few.

    Samples the store keeps itself. Trouble is logged once and its end once.
    """

    def __init__(self, store: Store, monotonic_ns: Callable[[], int]) -> None:
        self._store = store
        self._monotonic_ns = monotonic_ns
        self._waiting: list[tuple[int, Record]] = []
        self._retry_ns = 0
        self._since_ns: int | None = None
        self._recording = True
        self.listener: Callable[[Sequence[tuple[int, Record]]], None] | None = None  # hears what is kept

    @property
    def waiting(self) -> int:
        """How many records the disk has not taken yet."""
        return len(self._waiting)

    def record(self, on: bool) -> None:
        """Take everything, or nothing but ALWAYS: the owner agrees, or does not; what waits is judged likewise."""
        self._recording = on
        self._waiting = self._permitted(self._waiting)

    def append(self, records: Sequence[tuple[int, Record]]) -> None:
        """Store records now, or when the disk takes them again."""
        kept = self._permitted(records)
        self._waiting += kept
        if kept and self.listener is not None:
            self.listener(kept)
        if self._waiting and (self._since_ns is None or self._monotonic_ns() >= self._retry_ns):
            self._try()

    def append_block(self, block: Block) -> None:
        """Take samples; the store keeps a million of them in memory while it cannot write."""
        try:
            self._store.append_block(block if self._recording else empty_block())
        except StoreError as trouble:
            self._refused(trouble)

    def keep_ahead(self, block: Block) -> None:
        """Make samples durable that are not appended yet, if the disk takes them."""
        try:
            self._store.keep_ahead(block if self._recording else empty_block())
        except StoreError as trouble:
            self._refused(trouble)

    def flush(self) -> None:
        """Make the samples taken so far durable now, if the disk takes them."""
        try:
            self._store.flush()
        except StoreError as trouble:
            self._refused(trouble)

    def tend(self) -> None:
        """Write what is due, also when nothing new comes."""
        self.append_block(empty_block())
        self.append([])

    def last(self) -> None:
        """Write everything that waits; raise StoreError when that is impossible."""
        if self._waiting:
            self._store.append(self._waiting)
            self._waiting = []
        self._store.flush()

    def _permitted(self, records: Sequence[tuple[int, Record]]) -> list[tuple[int, Record]]:
        return [(t, r) for t, r in records if self._recording or isinstance(r, ALWAYS)]

    def _try(self) -> None:
        try:
            self._store.append(self._waiting)
        except StoreError as trouble:
            self._refused(trouble)
            return
        self._waiting = []
        if self._since_ns is not None:
            now_ns = self._monotonic_ns()
            text = f"the store takes records again after {(now_ns - self._since_ns) / NS_PER_S:.0f} s"
            self._since_ns = None
            log.warning("%s", text)
            self.append([(now_ns, Health(t_ns=now_ns, source="store", state="ok", detail=text))])

    def _refused(self, trouble: StoreError) -> None:
        now_ns = self._monotonic_ns()
        self._retry_ns = now_ns + RETRY_NS
        if self._since_ns is None:
            self._since_ns = now_ns
            log.error("%s; records wait in memory", trouble)
            self._waiting.append((now_ns, Health(t_ns=now_ns, source="store", state="lost", detail=str(trouble))))
