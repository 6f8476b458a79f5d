"""All feeds of a daemon: begun together, watched for hanging ones, ended together."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from agent import clock
from agent.clock import NS_PER_S
from agent.feed import Feed, FeedSettings
from agent.intake import Intake
from drivers import Driver

log = logging.getLogger(__name__)

STOP_S: Final = 2.0  # for the feeds to end; one that hangs is left behind
MOST_HANGS: Final = 3  # of one device in a run; then only a new process helps


class DeviceHangsError(RuntimeError):
    """A driver hung again and again; the process ends so that the kernel releases the device."""


class Feeds:
    """One feed for each of `makers`, none before `start`; one thread, that of the spine, may call it."""

    def __init__(
        self, makers: Sequence[Callable[[], Driver]], intake: Intake, settings: FeedSettings, *, patient: bool
    ) -> None:
        self._makers, self._intake, self._settings, self._patient = makers, intake, settings, patient
        self._feeds: list[Feed] = []
        self._hangs: dict[str, int] = {}

    def __iter__(self) -> Iterator[Feed]:
        return iter(self._feeds)

    def start(self) -> str:
        """Begin to read every device; return their names."""
        for make in self._makers:
            feed = Feed(make, self._intake, self._settings, patient=self._patient)
            self._feeds.append(feed)
            feed.start()
        return ", ".join(feed.name for feed in self._feeds)

    def hangs(self, name: str) -> int:
        """Return how often a device hung in this run."""
        return self._hangs.get(name, 0)

    def watch(self, now_ns: int, crashes: int) -> None:
        """Open devices that hang anew; raise DeviceHangsError where that does not help, if no run crashed before."""
        for i, feed in enumerate(self._feeds):
            if not crashes and feed.barred(now_ns):  # if that did not help, the other devices are worth more
                raise DeviceHangsError(f"{feed.name} is still held by a thread that hangs in it")
            step = feed.hanging(now_ns)
            if step is None:
                continue
            self._hangs[feed.name] = self._hangs.get(feed.name, 0) + 1
            if self._hangs[feed.name] > MOST_HANGS:
                raise DeviceHangsError(f"{feed.name} hung {MOST_HANGS + 1} times, now in {step}")
            self._feeds[i] = feed.replace(now_ns, step)
            self._feeds[i].start()

    @property
    def over(self) -> bool:
        """Say whether every device has ended for good: the recordings are over."""
        return all(feed.ended and not feed.is_alive() for feed in self._feeds)

    def stop(self) -> None:
        """Let every feed end; one that hangs in its device dies with the process."""
        self._intake.close()
        for feed in self._feeds:
            feed.stop()
        deadline_ns = clock.monotonic_ns() + round(STOP_S * NS_PER_S)
        for feed in self._feeds:
            feed.join(max(0.0, (deadline_ns - clock.monotonic_ns()) / NS_PER_S))
            if feed.is_alive():
                log.warning("%s: does not end within %g s and is left behind", feed.name, STOP_S)
