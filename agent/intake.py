"""What stands between the feeds and the spine: a bounded queue of samples, merged by time; records are never dropped.

A sample goes on as soon as every other feed has reached its time, or when it has waited `hold_ns` of wall time for
one that is silent. One that comes after later ones went on is late: it is counted and dropped, so that what detection
saw is what the store holds. When the queue is full the oldest samples go, counted by feed. No clock is read here.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from agent.blocks import Block, empty_block, join_blocks
from agent.clock import NS_PER_S
from agent.records import Health

log = logging.getLogger(__name__)

ROOM_S = 0.5  # a recording that waits for room looks again after this


@dataclass(slots=True)
class _Source:
    """One feed: its samples that wait, each block with the time at which it came."""

    reached_ns: int | None = None  # time of the newest sample; None: holds nobody (lost, ended, nothing said yet)
    waiting: deque[tuple[int, Block]] = field(default_factory=deque)
    dropped: int = 0
    late: int = 0


class Intake:
    """The queue of all feeds; `put` and `tell` from any thread, `take` from the spine's."""

    def __init__(self, most_samples: int, hold_ns: int, urgent: Callable[[Block], bool] = lambda _: False) -> None:
        """Take bounds, and what says of a feed's samples that the spine should look at once."""
        self._urgent = urgent
        self._most = most_samples
        self._hold_ns = self._usual_ns = hold_ns
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._woken = threading.Event()
        self._sources: dict[str, _Source] = {}
        self._records: list[Health] = []
        self._bug: BaseException | None = None
        self._count = 0
        self._felt = False
        self._released_ns: int | None = None
        self._dropping = 0  # dropped since the queue filled up; 0 while it does not drop
        self._closed = False
        self.high_water = 0  # most samples that ever waited

    @property
    def woken(self) -> threading.Event:
        """Set when the spine should look at once; the spine clears it."""
        return self._woken

    def put(
        self,
        name: str,
        block: Block,
        now_ns: int,
        *,
        patient: bool = False,
        unless: threading.Event | None = None,
    ) -> None:
        """Take the samples of one feed, which may use its array again; a `patient` feed waits where there is no room.

        Order of time is the feed's promise within itself. Nothing is taken once `unless` is set: then another reads
        the device.
        """
        own = block.copy()
        with self._lock:
            while patient and self._count > self._most // 2 and not self._closed:
                self._woken.set()
                self._room.wait(ROOM_S)
            if unless is not None and unless.is_set():
                return
            source = self._sources.setdefault(name, _Source())
            if self._released_ns is not None:
                late = int(np.searchsorted(own["t"], self._released_ns, side="left"))
                source.late += late
                own = own[late:]
            if not len(own):
                return
            source.reached_ns = int(own["t"][-1])
            source.waiting.append((now_ns, own))
            self._count += len(own)
            if self._urgent(own):
                self._felt = True
                self._woken.set()
            if self._count > self._most:
                self._drop(now_ns)
            self.high_water = max(self.high_water, self._count)
            if self._count > self._most // 4:
                self._woken.set()

    def linger(self, extra_s: float) -> None:
        """Let samples wait for so much longer than usual: feeds that rest bring theirs late."""
        self._hold_ns = self._usual_ns + round(extra_s * NS_PER_S)

    def leave(self, name: str) -> None:
        """Let a feed that is lost or has ended hold nobody; its samples that wait go on."""
        with self._lock:
            self._sources.setdefault(name, _Source()).reached_ns = None
        self._woken.set()

    def tell(self, record: Health) -> None:
        """Take a record for the store; it is never dropped."""
        with self._lock:
            self._records.append(record)

    def fail(self, bug: BaseException) -> None:
        """Hand over what ended a thread; `raise_bug` raises it in the spine's, and with that the process ends."""
        with self._lock:
            self._bug = self._bug or bug
        self._woken.set()

    def raise_bug(self) -> None:
        """Raise what ended a thread, if anything did."""
        if self._bug is not None:
            raise self._bug

    def take(self, now_ns: int, *, everything: bool = False) -> tuple[Block, list[Health]]:
        """Return the samples that may go on, in order of time, and all records; all samples with `everything`."""
        with self._lock:
            records, self._records = self._records, []
            reached = [s.reached_ns for s in self._sources.values() if s.reached_ns is not None]
            parts = []
            if everything or not reached:
                mark = None
            else:
                mark = min(reached)
                for source in self._sources.values():
                    for came_ns, block in source.waiting:
                        if came_ns > now_ns - self._hold_ns:
                            break
                        mark = max(mark, int(block["t"][-1]))
            for source in self._sources.values():
                parts += self._ripe(source, mark)
            joined = join_blocks(parts) if parts else empty_block()
            if len(joined):
                self._released_ns = max(self._released_ns or int(joined["t"][-1]), int(joined["t"][-1]))
                self._count -= len(joined)
                self._room.notify_all()
            if self._dropping and self._count < self._most // 2:
                records.append(self._health(now_ns, "ok", f"the spine keeps up again; {self._dropping} samples lost"))
                self._dropping = 0
            return joined, records

    def felt(self) -> bool:
        """Say whether urgent samples came since this was asked last."""
        with self._lock:
            felt, self._felt = self._felt, False
        return felt

    def waiting(self) -> Block:
        """Return a copy of the samples that have come and wait for their turn, in order of time."""
        with self._lock:
            return join_blocks([b for s in self._sources.values() for _, b in s.waiting]).copy()

    def close(self) -> None:
        """Let nobody wait for room any more."""
        with self._lock:
            self._closed = True
            self._room.notify_all()

    def counts(self, name: str) -> dict[str, int]:
        """Return how many samples of a feed were dropped and late, where any were."""
        source = self._sources.get(name, _Source())
        found = {"dropped": source.dropped, "late": source.late}
        return {k: v for k, v in found.items() if v}

    def _ripe(self, source: _Source, mark: int | None) -> list[Block]:
        """Remove and return a feed's samples up to `mark`, all when it is None."""
        parts: list[Block] = []
        while source.waiting:
            came_ns, block = source.waiting[0]
            n = len(block) if mark is None else int(np.searchsorted(block["t"], mark, side="right"))
            if n:
                parts.append(block[:n])
            if n < len(block):
                source.waiting[0] = (came_ns, block[n:])
                break
            source.waiting.popleft()
        return parts

    def _drop(self, now_ns: int) -> None:
        """Drop the blocks that came first until the rest fits."""
        if not self._dropping:
            detail = f"more than {self._most} samples wait for the spine: the oldest are dropped"
            self._records.append(self._health(now_ns, "degraded", detail))
        while self._count > self._most:
            source = min((s for s in self._sources.values() if s.waiting), key=lambda s: s.waiting[0][0])
            came_ns, block = source.waiting.popleft()
            n = min(len(block), self._count - self._most)
            if n < len(block):
                source.waiting.appendleft((came_ns, block[n:]))
            source.dropped += n
            self._dropping += n
            self._count -= n

    def _health(self, now_ns: int, state: str, detail: str) -> Health:
        log.warning("%s", detail)
        dropped = {name: s.dropped for name, s in self._sources.items() if s.dropped}
        return Health(t_ns=now_ns, source="queue", state=state, detail=detail, counts=dropped)  # type: ignore[arg-type]
