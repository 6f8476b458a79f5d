"""Merge several ordered streams of batches by time, holding only what overlaps."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic

import numpy as np

from drivers.recording.batch import B, join, length, take, times


@dataclass(slots=True)
class Stream(Generic[B]):
    """One ordered stream that begins at or after `start_ns`; an item is (batch or None, no later t is below)."""

    items: Iterator[tuple[B | None, int]]
    start_ns: int = 0
    _waiting: list[B] = field(default_factory=list)
    _until_ns: int = 0
    _open: bool = False
    _ended: bool = False

    def advance(self) -> None:
        """Read one item."""
        self._open = True
        item = next(self.items, None)
        if item is None:
            self._ended = True
            return
        batch, self._until_ns = item
        if batch is not None and length(batch):
            self._waiting.append(batch)

    def certain_ns(self) -> int | None:
        """Return the time up to which everything has been read, None at the end of the stream."""
        if self._ended:
            return None
        return self._until_ns if self._open else self.start_ns

    def give(self, until_ns: int | None) -> Iterator[B]:
        """Yield what waits up to and including `until_ns`, all of it for None."""
        rest = []
        for batch in self._waiting:
            t = times(batch)
            n = len(t) if until_ns is None else int(np.searchsorted(t, until_ns, side="right"))
            if n:
                yield take(batch, slice(0, n))
            if n < len(t):
                rest.append(take(batch, slice(n, len(t))))
        self._waiting = rest


def merge(streams: list[Stream[B]]) -> Iterator[B]:
    """Yield batches ordered by time over all streams; at equal times the earlier stream in the list goes first.

    A stream is first read when the others have reached its start.
    """
    while True:
        certain = [(at, k) for k, stream in enumerate(streams) if (at := stream.certain_ns()) is not None]
        until_ns = min(certain)[0] if certain else None
        ready = [batch for stream in streams for batch in stream.give(until_ns)]
        if ready:
            joined = join(ready)
            if len(ready) > 1:
                t = times(joined)
                if not np.all(t[1:] >= t[:-1]):
                    joined = take(joined, np.argsort(t, kind="stable"))
            yield joined
        if not certain:
            return
        streams[min(certain)[1]].advance()


def timed(batches: Iterator[B]) -> Iterator[tuple[B | None, int]]:
    """Say of each batch how far it reaches, as `Stream` wants it."""
    for batch in batches:
        yield batch, int(times(batch)[-1])
