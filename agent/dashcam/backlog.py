"""What is on its way between two threads: bounded, so that a slow disk or encoder costs pictures, not memory."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")

LOOK_S: Final = 0.5  # longest wait; bounds how long stopping takes


@dataclass(frozen=True, slots=True)
class _Item(Generic[T]):
    what: T
    size: int


class Backlog(Generic[T]):
    """A queue of at most `most_bytes`; after something was dropped nothing is taken before the next key."""

    def __init__(
        self, most_bytes: int, size_of: Callable[[T], int], key_of: Callable[[T], bool], *, patient: bool = False
    ) -> None:
        """Take how many bytes an item has and whether it needs none before it; a `patient` giver waits for room."""
        self._most = most_bytes
        self._size_of = size_of
        self._key_of = key_of
        self._patient = patient
        self._changed = threading.Condition()
        self._items: deque[_Item[T]] = deque()
        self._bytes = 0
        self._skipping = False
        self._closed = False
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, what: T) -> bool:
        """Take an item; say whether there was room for it."""
        size = self._size_of(what)
        with self._changed:
            while self._patient and self._bytes + size > self._most and self._items and not self._closed:
                self._changed.wait(LOOK_S)
            full = self._bytes + size > self._most and bool(self._items)
            if full or self._closed or (self._skipping and not self._key_of(what)):
                self._skipping = True
                self.dropped += 1
                return False
            self._skipping = False
            self._items.append(_Item(what, size))
            self._bytes += size
            self._changed.notify_all()
            return True

    def take(self) -> T | None:
        """Return the oldest item; None when none came for a while, or at the end (`over`)."""
        with self._changed:
            if not self._items and not self._closed:
                self._changed.wait(LOOK_S)
            if not self._items:
                return None
            item = self._items.popleft()
            self._bytes -= item.size
            self._changed.notify_all()
            return item.what

    def close(self) -> None:
        """Take no more; what waits is still given."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def over(self) -> bool:
        """Say whether nothing will come any more."""
        return self._closed and not self._items
