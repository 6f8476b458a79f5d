"""What every check may lean on: the configuration, what the running daemon says, and what it has stored."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from agent import clock
from agent.boot import kernel_boot_id
from agent.clock import NS_PER_S
from agent.config import config_dir, settings_file
from agent.dashcam.settings import DashcamConfig, load_dashcam
from agent.devices import makers
from agent.doctor.context import Context
from agent.errors import ConfigError, RoadwitnessError, StoreError
from agent.local.client import HangingDaemonError, LocalError, NoAccessError, NoDaemonError, status
from agent.local.messages import Device, Status
from agent.settings import AgentConfig, load_agent
from agent.store import Store
from agent.store.database import LOCK_FILE
from agent.tls import Moment
from drivers import Driver

ASK_S: Final = 3.0  # for the daemon's first answer; one that is parked looks up once a second
BETWEEN_S: Final = 2.5  # between the two answers that rates come from: two fixes, a thousand frames


class Later:
    """The daemon's second answer, some time after the first: asked for once, by whoever needs it first."""

    def __init__(self, folder: Path, first: Status) -> None:
        self._folder = folder
        self._first = first
        self._lock = threading.Lock()
        self._answer: Status | None = None
        self._never = threading.Event()

    def __call__(self) -> Status:
        """Return it; raise LocalError when the daemon has ended meanwhile."""
        with self._lock:
            if self._answer is None:
                passed_s = (clock.monotonic_ns() - self._first.t_ns) / NS_PER_S
                clock.wait(self._never, max(0.0, BETWEEN_S - passed_s))
                self._answer = status(self._folder, ASK_S)
            return self._answer


@dataclass(frozen=True, slots=True)
class Seen:
    """The same for all checks, but for `deadline_ns` and `release`."""

    context: Context
    boot: str = ""
    config: Path | None = None  # agent.toml, None where no configuration folder is found
    settings: AgentConfig | None = None  # None where the configuration is wrong
    config_trouble: str = ""
    dashcam: DashcamConfig | None = None  # None without a dashcam.toml, and where it is wrong
    dashcam_trouble: str = ""
    status: Status | None = None  # of the daemon, None where it cannot be asked
    later: Later | None = None
    held: bool = False  # somebody runs on this store and holds its wires
    agent_trouble: str = ""  # why it cannot be asked
    agent_hangs: bool = False
    agent_denied: bool = False  # this user may not ask it, which says nothing of how it is
    deadline_ns: int = 0  # monotonic; the check is given up then
    release: list[Callable[[], None]] = field(default_factory=list)  # what closes that which a check opens

    def of(self, deadline_ns: int, release: list[Callable[[], None]]) -> "Seen":
        """Return the same for one check."""
        return replace(self, deadline_ns=deadline_ns, release=release)

    def left_s(self, spare_s: float = 0.5) -> float:
        """Return how long this check may still take, less what it keeps for its own words."""
        return max(0.0, (self.deadline_ns - clock.monotonic_ns()) / NS_PER_S - spare_s)

    def moment(self) -> Moment:
        """Return what time it is, as certificates are judged: the daemon's time, the network's, or only a bound."""
        utc = self.status.utc if self.status is not None else None
        if utc is not None and utc.quality in ("gnss", "ntp") and utc.offset_ns is not None:
            return Moment(clock.monotonic_ns() + utc.offset_ns, True)
        return Moment(self.context.wall_ns(), True) if self.context.kernel_error_ns() is not None else Moment()

    def drivers(self, *kinds: str) -> list[Driver]:
        """Return the configured devices of these kinds, not opened; none where the configuration is wrong."""
        if self.settings is None:
            return []
        try:
            made = [make() for make in makers(self.settings.drivers, config_dir())]
        except RoadwitnessError:
            return []
        return [driver for driver in made if kind_of(driver) in kinds]

    def device(self, name: str) -> Device | None:
        """Return what the daemon says of a device; None without a daemon, or where it does not have it."""
        devices = self.status.devices if self.status is not None else []
        return next((device for device in devices if device.name == name), None)

    def two(self, name: str) -> tuple[Device, Device, float] | None:
        """Return a device's two answers and the seconds between them, for rates."""
        first = self.device(name)
        if first is None or self.status is None or self.later is None:
            return None
        try:
            later = self.later()
        except LocalError:
            return None
        second = next((device for device in later.devices if device.name == name), None)
        seconds = (later.t_ns - self.status.t_ns) / NS_PER_S
        return None if second is None or seconds <= 0 else (first, second, seconds)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store for reading, beside its writer; raise StoreError."""
        try:
            store = Store.open(self.context.store, read_only=True)
        except OSError as error:  # a folder that this user may not enter
            raise StoreError(f"{self.context.store}: {error.strerror or error}; run it with sudo") from error
        try:
            yield store
        finally:
            store.close()


def kind_of(driver: Driver) -> str:
    """Return the kind that a driver's name begins with: "canbus:can0" is a canbus."""
    return driver.name.partition(":")[0]


def look_around(context: Context) -> Seen:
    """Read the configuration and ask the daemon; wrong and absent ones are told, never raised."""
    seen = Seen(context, kernel_boot_id())
    try:
        path = context.config or settings_file("agent.toml")
        seen = replace(seen, config=path, settings=load_agent(path))
    except ConfigError as error:
        seen = replace(seen, config=seen.config or context.config, config_trouble=str(error))
    seen = _with_dashcam(seen)
    try:
        first = status(context.store, ASK_S)
    except NoDaemonError as error:
        return replace(seen, held=_locked(context), agent_trouble=str(error))
    except LocalError as error:
        return replace(
            seen,
            held=True,
            agent_trouble=str(error),
            agent_hangs=isinstance(error, HangingDaemonError),
            agent_denied=isinstance(error, NoAccessError),
        )
    return replace(seen, status=first, later=Later(context.store, first), held=True)


def _with_dashcam(seen: Seen) -> Seen:
    path = seen.context.dashcam
    if path is None:
        beside = seen.config.with_name("dashcam.toml") if seen.config is not None else None
        path = beside if beside is not None and beside.exists() else None
    if path is None:
        return seen
    try:
        return replace(seen, dashcam=load_dashcam(path))
    except ConfigError as error:
        return replace(seen, dashcam_trouble=str(error))


def _locked(context: Context) -> bool:
    """Say whether a process holds the store's lock; asked of the kernel's list, because trying would be in its way."""
    try:
        file = (context.store / LOCK_FILE).stat()
        locks = (context.proc / "locks").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return any(line.split()[5:6] and line.split()[5].endswith(f":{file.st_ino}") for line in locks.splitlines())
