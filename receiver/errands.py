"""A thread for slow work: what is given to it is done one after another, each thing once, and never without bound."""

import logging
import threading
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from agent import clock

log = logging.getLogger(__name__)

MOST_WAITING: Final = 1000  # a device has 8 files open at once; what is beyond is asked for again
AGAIN_S: Final = 1.0
ATTEMPTS: Final = 3  # of something that the database refuses although it works

Task = TypeVar("Task", bound=Hashable)


class Errands(threading.Thread, Generic[Task]):
    """Does tasks in a thread until stopped; while the database is away the first one waits for it.

    `regular`, where given, is done every `every_s` and once more at the end.
    """

    def __init__(
        self,
        name: str,
        do: Callable[[Task], None],
        regular: Callable[[], None] | None = None,
        every_s: float = 3600.0,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._do = do
        self._regular = regular
        self._every_s = every_s
        self._lock = threading.Lock()
        self._tasks: dict[Task, None] = {}  # in the order in which they came
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._due_ns = 0
        self._troubled = False

    def give(self, task: Task) -> bool:
        """Add a task, unless it waits already; say whether there was room."""
        with self._lock:
            fits = task in self._tasks or len(self._tasks) < MOST_WAITING
            if fits:
                self._tasks[task] = None
        self._woken.set()
        return fits

    def soon(self) -> None:
        """Do what is regular at once."""
        self._due_ns = 0
        self._woken.set()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Finish the task at hand, leave the others, do once more what is regular, and end."""
        self._stopping.set()
        self._woken.set()
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        """Work until stopped."""
        while not self._stopping.is_set():
            self._woken.clear()
            self._fall_due()
            with self._lock:
                task = next(iter(self._tasks), None)
                if task is not None:
                    del self._tasks[task]  # given again while it is done, it is done again
            if task is None:
                clock.wait(self._woken, max(0.0, (self._due_ns - clock.monotonic_ns()) / clock.NS_PER_S))
            else:
                self._see_through(lambda given=task: self._do(given))  # type: ignore[misc]
        if self._regular is not None:
            self._see_through(self._regular)

    def _fall_due(self) -> None:
        now_ns = clock.monotonic_ns()
        if now_ns >= self._due_ns:
            self._due_ns = now_ns + round(self._every_s * clock.NS_PER_S)
            if self._regular is not None:
                self._see_through(self._regular)

    def _see_through(self, do: Callable[[], None]) -> None:
        """Do something; wait where the database is away, give up where it refuses, or where we are wrong."""
        failures = 0
        while True:
            try:
                do()
            except DBAPIError as e:
                failures += 1
                away = isinstance(e, OperationalError | InterfaceError)
                if not self._troubled:
                    log.warning("%s: the database does not work: %s", self.name, str(e.orig).strip().splitlines()[0])
                self._troubled = True
                if self._stopping.is_set() or (not away and failures >= ATTEMPTS):
                    return  # a later process, or the device, asks for it again
                clock.wait(self._stopping, AGAIN_S)
            except Exception:  # the thread's top: one bug must not end the work for all other files and packages
                log.exception("%s: something was given up", self.name)
                return
            else:
                self._troubled = False
                return
