"""The inbox: where sync's thread leaves what came on the command topic, and the clerk's thread finds it."""

import threading
from collections import deque
from typing import Final

from agent.commandmessages import MAX_COMMAND

MOST: Final = 64  # payloads that wait; the receiver sends again at the next birth what was not answered


class Inbox:
    """Takes payloads from any thread; never raises, never grows beyond MOST of 4 KiB each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._payloads: deque[bytes] = deque()
        self._too_large = self._too_many = 0
        self.woken = threading.Event()  # something came

    def put(self, payload: bytes) -> None:
        """Take a payload as it came, unread."""
        with self._lock:
            if len(payload) > MAX_COMMAND:
                self._too_large += 1
            elif len(self._payloads) >= MOST:
                self._too_many += 1
            else:
                self._payloads.append(payload)
        self.woken.set()

    def take(self) -> tuple[list[bytes], int, int]:
        """Return what came, and how many payloads were dropped since the last call: too large, and too many."""
        with self._lock:
            found, dropped = list(self._payloads), (self._too_large, self._too_many)
            self._payloads.clear()
            self._too_large = self._too_many = 0
        return found, *dropped
