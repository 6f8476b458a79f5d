"""A feed runs one driver in a thread and owns its troubles: opening again, waiting longer, saying so once.

Expected trouble is a DriverError: logged and published when it begins and when it is over, whatever happens between.
Anything else is a bug or a wrong configuration and ends the process (agent.daemon raises it).
"""

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar, runtime_checkable

from agent import clock
from agent.account import Account
from agent.clock import NS_PER_S
from agent.errors import DriverError
from agent.intake import Intake
from agent.records import Health
from agent.rest import Rest
from drivers import Driver

log = logging.getLogger(__name__)
T = TypeVar("T")

READ_S: Final = 0.5  # longest read without samples; bounds how long stopping takes
FACTS_NS: Final = NS_PER_S  # standing facts are compared so often
SECONDS_WORDS: Final = 120.0  # beyond this, durations are told in minutes


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """How patient a feed is with its device."""

    retry_s: float = 1.0  # first wait after a loss, doubled each time …
    retry_cap_s: float = 60.0  # … up to this: a plugged-in adapter is back within a minute
    steady_s: float = 10.0  # open for so long without an error is recovered, also where a device is silent
    hang_s: float = 15.0  # a read that takes longer hangs: its thread is given up, the device opened anew
    open_s: float = 180.0  # the same for opening: an ELM327 whose rate is unknown takes two minutes

    def __post_init__(self) -> None:
        """Refuse waits that contradict each other."""
        if not 0 < self.retry_s <= self.retry_cap_s:
            raise ValueError("retry_s must be above 0 and not above retry_cap_s")
        if self.hang_s < 4 * READ_S or self.open_s < 4 * READ_S or self.steady_s <= 0:
            raise ValueError(f"hang_s and open_s must be {4 * READ_S:g} or more, steady_s above 0")


@runtime_checkable
class Knowing(Protocol):
    """A driver that knows standing facts about its device."""

    def health(self) -> list[Health]:
        """Return what stands, at most one for each source."""


@runtime_checkable
class Counting(Protocol):
    """A driver that counts what it met."""

    @property
    def counts(self) -> dict[str, int]:
        """Return the counters."""


class Feed(threading.Thread):
    """Open, read, close, again and again until stopped.

    `patient` is for recordings, which wait for room in the queue instead of losing samples.
    """

    def __init__(
        self,
        make: Callable[[], Driver],
        intake: Intake,
        settings: FeedSettings,
        *,
        patient: bool = False,
        lost_since_ns: int | None = None,
        before: "Feed | None" = None,
        rng: random.Random | None = None,
    ) -> None:
        self._driver = make()
        super().__init__(name=self._driver.name, daemon=True)  # a thread that hangs must not keep the process
        self._make = make
        self._intake = intake
        self._settings = settings
        self._patient = patient
        self._rng = rng or random.Random()
        self._stopping = threading.Event()
        self._given_up = threading.Event()
        self._before = before
        self._busy: tuple[str, int] | None = None
        self._lost_since_ns = lost_since_ns
        self._attempts = 0  # to open, in this outage
        self._losses = 0  # in a row, without a steady time between them
        self._opened_ns = 0
        self._spoken = False
        self._told: dict[str, str] = {self.name: "lost"} if lost_since_ns is not None else {}
        self._learned: dict[str, dict[str, str]] = {}
        self._facts_due_ns = 0
        self._rest: Rest = before._rest if before is not None else Rest()
        self.account: Account = Account("opening", clock.monotonic_ns()) if before is None else replace(before.account)
        self.ended = False  # the driver has nothing more to give: a recording is over

    def run(self) -> None:
        """Feed until stopped; hand what is not a DriverError to the daemon."""
        try:
            self._live()
        except BaseException as bug:  # raised again in the main thread, which ends the process
            if self._given_up.is_set():
                log.warning("%s: the thread that hung ended with %s: %s", self.name, type(bug).__name__, bug)
            else:
                self._intake.fail(bug)

    def stop(self) -> None:
        """End after the present read."""
        self._stopping.set()
        self._rest.interrupt()

    def rest(self, pause_s: float, *, closed: bool = False) -> None:
        """Leave the vehicle alone, wait `pause_s` after each read, or close the device; any thread may call it."""
        self._rest.begin(self._driver, pause_s, closed=closed)

    def wake(self) -> None:
        """Ask and read again at once; any thread may call it."""
        self._rest.end(self._driver)

    def lend(self) -> None:
        """Close the device for somebody else, parked or not, until `take_back`; `account` says when it is closed."""
        self._rest.lend()

    def take_back(self) -> None:
        """Open the device again, unless the car is parked and it is closed for that."""
        self._rest.take_back()

    @property
    def lent(self) -> bool:
        """Say whether the device is meant for somebody else now."""
        return self._rest.lent

    @property
    def resting(self) -> bool:
        """Say whether the device is left alone because the car is parked."""
        return not self._rest.awake

    @property
    def told(self) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        """Return states and facts as told last, by source."""
        return dict(self._told), dict(self._learned)

    def hanging(self, now_ns: int) -> str | None:
        """Return the step in which the driver hangs, None while it does not."""
        busy = self._busy
        if busy is None or self._stopping.is_set():
            return None
        step, since_ns = busy
        limit_s = self._settings.open_s if step == "open" else self._settings.hang_s
        return step if now_ns - since_ns > limit_s * NS_PER_S else None

    def barred(self, now_ns: int) -> bool:
        """Say whether the device cannot be had because a thread that was given up still has it."""
        lost_ns = self._lost_since_ns
        return (
            self._before is not None
            and self._before.is_alive()
            and self._attempts > 0
            and lost_ns is not None
            and now_ns - lost_ns > self._settings.retry_cap_s * NS_PER_S
        )

    def replace(self, now_ns: int, step: str) -> "Feed":
        """Give up this feed, whose thread hangs in `step`; return a fresh one for the same device, not started.

        Should the thread come back, it closes what it has of the device and ends; nothing it brings is taken.
        """
        self._given_up.set()
        self._stopping.set()
        self._intake.leave(self.name)  # after what was just being put
        limit_s = self._settings.open_s if step == "open" else self._settings.hang_s
        detail = f"{self.name}: hangs in {step} for {limit_s:g} s; the device is opened anew"
        since_ns = now_ns if self._lost_since_ns is None else self._lost_since_ns
        self.account.failed(detail, now_ns)
        if self._lost_since_ns is None:
            log.warning("%s", detail)
            self._tell(now_ns, "lost", detail)
        return Feed(
            self._make,
            self._intake,
            self._settings,
            patient=self._patient,
            lost_since_ns=since_ns,
            before=self,
            rng=self._rng,
        )

    def _live(self) -> None:
        while not self._stopping.is_set() and not self.ended:
            if self._rest.closed:
                self._intake.leave(self.name)
                self.account.note("closed", clock.monotonic_ns())
                self._rest.while_closed(self._stopping)
                continue
            try:
                self._session()
            except DriverError as trouble:
                if not self._stopping.is_set():
                    self._lost(trouble)
            finally:
                self._during("close", self._driver.close)
            if not (self._rest.closed or self.ended or self._stopping.is_set()):
                self._rest.between_attempts(self._pause_s())
        if not self._stopping.is_set():
            self.account.note("ended", clock.monotonic_ns())
            self._intake.leave(self.name)

    def _session(self) -> None:
        """Open and read until trouble, the end, or `stop`."""
        self._rest.apply(self._driver)
        if self._lost_since_ns is None:
            self.account.note("opening", clock.monotonic_ns())
        self._during("open", self._driver.open)
        self._opened_ns = clock.monotonic_ns()
        if self._lost_since_ns is None:
            self.account.note("open", self._opened_ns)
        while not self._stopping.is_set() and not self._rest.closed:
            block = self._during("read", lambda: self._driver.read(self._rest.read_s(READ_S)))
            if block is None:
                self.ended = True
                return
            if self._stopping.is_set():
                return  # given up while it hung: a successor reads the device
            now_ns = clock.monotonic_ns()
            if len(block):
                self.account.samples += len(block)
                self.account.newest_ns = now_ns
                self._intake.put(self.name, block, now_ns, patient=self._patient, unless=self._given_up)
            self._well(now_ns, len(block) > 0)
            self._rest.between_reads()

    def _during(self, step: str, act: Callable[[], T]) -> T:
        self._busy = (step, clock.monotonic_ns())
        try:
            return act()
        finally:
            self._busy = None

    def _well(self, now_ns: int, spoke: bool) -> None:
        """Note that a read went well."""
        steady = now_ns - self._opened_ns >= self._settings.steady_s * NS_PER_S
        if steady:
            self._losses = 0
        if self._lost_since_ns is not None:
            if spoke or steady:
                self._recovered(now_ns)
        elif spoke and not self._spoken:
            self._tell(now_ns, "ok", f"{self.name}: gives samples")
        self._spoken |= spoke
        if now_ns >= self._facts_due_ns:  # the question whether it knows any is slow, too
            self._facts_due_ns = now_ns + FACTS_NS
            self.account.counts = self._counts()
            for fact in self._driver.health() if isinstance(self._driver, Knowing) else ():
                if (self._told.get(fact.source, "ok"), self._learned.get(fact.source, {})) != (fact.state, fact.facts):
                    self._told[fact.source], self._learned[fact.source] = fact.state, fact.facts
                    self._intake.tell(fact)

    def _lost(self, trouble: DriverError) -> None:
        self._losses += 1
        self._attempts += 1
        self._intake.leave(self.name)
        self.account.failed(str(trouble), clock.monotonic_ns())
        if self._lost_since_ns is None:
            self._lost_since_ns = clock.monotonic_ns()
            log.warning("%s; it is tried again until it works", trouble)
            self._tell(self._lost_since_ns, "lost", str(trouble))

    def _recovered(self, now_ns: int) -> None:
        assert self._lost_since_ns is not None
        away_s = (now_ns - self._lost_since_ns) / NS_PER_S
        tries = max(self._attempts, 1)
        text = f"{self.name}: works again after {_words(away_s)} and {tries} attempt{'s' if tries > 1 else ''}"
        log.warning("%s", text)
        self._lost_since_ns, self._attempts = None, 0
        self.account.note("open", now_ns)
        self._tell(now_ns, "ok", text)

    def _tell(self, t_ns: int, state: str, detail: str) -> None:
        self._told[self.name] = state
        self._intake.tell(
            Health(t_ns=t_ns, source=self.name, state=state, detail=detail, counts=self._counts())  # type: ignore[arg-type]
        )

    def _counts(self) -> dict[str, int]:
        """Return the driver's and the queue's counters that are not 0."""
        counts = dict(self._driver.counts) if isinstance(self._driver, Counting) else {}
        return {k: v for k, v in (counts | self._intake.counts(self.name)).items() if v}

    def _pause_s(self) -> float:
        """Return the wait before the next attempt, with jitter of half of it: adapters share one USB hub."""
        longest_s = min(self._settings.retry_cap_s, self._settings.retry_s * 2.0 ** min(max(self._losses - 1, 0), 30))
        return longest_s * self._rng.uniform(0.5, 1.0)


def _words(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < SECONDS_WORDS else f"{seconds / 60:.0f} min"
