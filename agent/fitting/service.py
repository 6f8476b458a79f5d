"""Start and stop the agent: systemd's service on a box; on a workbench, a process of our own that ends with us."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final, Protocol

from agent import clock
from agent.clock import NS_PER_S
from agent.dashcam.settings import load_dashcam
from agent.errors import ConfigError, RoadwitnessError
from agent.local import client
from agent.local.client import LocalError
from agent.local.messages import Status

UNIT: Final = "roadwitness-agent.service"
DASHCAM: Final = "roadwitness-dashcam.service"
SYSTEMD: Final = Path("/run/systemd/system")
START_S: Final = 90.0  # the store is checked first, and kernels are compiled where `warm` was not run
STOP_S: Final = 30.0  # TimeoutStopSec of the unit
LOOK_S: Final = 0.2
_never: Final = threading.Event()


class ServiceError(RoadwitnessError):
    """The agent cannot be started or stopped."""


class Service(Protocol):
    """What starts and stops the agent; all of it may be called again."""

    def start(self) -> None:
        """Start it, and at every boot from now on; raise ServiceError."""

    def stop(self) -> None:
        """Stop it; raise ServiceError."""

    def disable(self) -> None:
        """Stop it, and the dashcam, for good: not at the next boot either; raise ServiceError."""

    def close(self) -> None:
        """End what was only started for us."""

    def said(self) -> str:
        """Return where its log is, for people."""


class Systemd:
    """The installed services."""

    def start(self) -> None:
        """Start the agent now and at every boot, and the dashcam where cameras are configured."""
        _systemctl("enable", UNIT)
        _systemctl("restart", UNIT)
        if _films():
            _systemctl("enable", "--now", DASHCAM)

    def stop(self) -> None:
        """Stop the agent."""
        _systemctl("stop", UNIT)

    def disable(self) -> None:
        """Stop both services and do not start them at boot."""
        _systemctl("disable", "--now", UNIT, DASHCAM)

    def close(self) -> None:
        """Leave the services running."""

    def said(self) -> str:
        """Name the journal."""
        return f"journalctl -u {UNIT}"


class Own:
    """An agent as our own child, for a workbench without the services: it ends with us."""

    def __init__(self, config: Path, store: Path) -> None:
        self._config, self._store = config, store
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        self.stop()
        self._store.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "agent", "agent", "--config", str(self._config), "--store", str(self._store)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self) -> None:
        """End it, and wait until it has; also one on this store that somebody else started."""
        if self._process is None:
            self._stop_other()
        self.close()

    def close(self) -> None:
        """End what we started."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _stop_other(self) -> None:
        """End an agent on this store that somebody started by hand, or that an earlier run left."""
        try:
            number = client.status(self._store, 5.0).pid
            os.kill(number, signal.SIGTERM)
        except (LocalError, ProcessLookupError):
            return
        deadline_ns = clock.monotonic_ns() + round(STOP_S * NS_PER_S)
        while Path(f"/proc/{number}").exists() and clock.monotonic_ns() < deadline_ns:
            clock.wait(_never, LOOK_S)

    def disable(self) -> None:
        """End it."""
        self.stop()

    def said(self) -> str:
        """Name its log."""
        return str(self._log)

    @property
    def _log(self) -> Path:
        return self._store / "agent.log"


def service_of(config: Path, store: Path, systemd: Path = SYSTEMD) -> Service:
    """Return systemd's service where it is installed and runs this store, else an agent of our own."""
    installed = store == Path("/var/lib/roadwitness") and systemd.is_dir()
    return Systemd() if installed else Own(config, store)


def awaited(store: Path, service: Service, seconds: float = START_S) -> Status:
    """Return the status of an agent that was just started; raise ServiceError where it does not come up."""
    deadline_ns = clock.monotonic_ns() + round(seconds * NS_PER_S)
    while True:
        try:
            return client.status(store, 5.0)
        except LocalError as trouble:
            if clock.monotonic_ns() >= deadline_ns:
                raise ServiceError(f"the agent does not come up: {trouble}; see: {service.said()}") from trouble
        clock.wait(_never, LOOK_S)


def _films() -> bool:
    try:
        return bool(load_dashcam().cameras)
    except ConfigError:
        return False


def _systemctl(*words: str) -> None:
    try:
        done = subprocess.run(
            ["systemctl", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=START_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise ServiceError(f"systemctl {' '.join(words)}: {e}; is systemd running?") from e
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ServiceError(f"systemctl {' '.join(words)}: {said[-1] if said else 'failed'}; use sudo")
