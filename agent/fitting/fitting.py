"""One fitting: what all its steps share."""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent import clock
from agent.clock import NS_PER_S
from agent.doctor.context import Context
from agent.fitting import progress as kept
from agent.fitting.answers import Answers
from agent.fitting.configuring import Configuration
from agent.fitting.progress import Progress
from agent.fitting.rules import Expected
from agent.fitting.service import Service, awaited
from agent.fitting.sheet import Item, ItemState
from agent.fitting.talk import Talk
from agent.local import client
from agent.local.client import LocalError
from agent.local.messages import Status

LOOK_S: Final = 0.5
_never: Final = threading.Event()


@dataclass(slots=True)
class Fitting:
    """The box that is fitted, who talks, and how far it is."""

    store: Path
    config: Path  # agent.toml of this box
    answers: Answers
    talk: Talk
    service: Service
    progress: Progress
    photos: list[Path] = field(default_factory=list)
    made: dict[str, Path] = field(default_factory=dict)  # the sheet's files by their endings
    verdict: str = ""

    def keep(self) -> None:
        """Keep how far it is."""
        kept.save(self.store, self.progress)

    def configuration(self) -> Configuration:
        """Return agent.toml as it stands now."""
        return Configuration(self.config)

    def running(self) -> Status:
        """Return the status of an agent that runs with agent.toml as it stands now, started where it does not.

        Raise ServiceError where it does not come up.
        """
        wanted = hashlib.sha256(self.config.read_bytes()).hexdigest() if self.config.exists() else ""
        if self.progress.applied != wanted or not self._answers():
            self.talk.say("Starting the agent …", "dim")
            self.service.start()
            status = awaited(self.store, self.service)
            self.progress.applied = wanted
            self.keep()
            return status
        return awaited(self.store, self.service)

    def present(self) -> Status:
        """Return the status of the agent that runs, whatever it was started with; one is started where none does."""
        try:
            return client.status(self.store)
        except LocalError:
            return self.running()

    def awaited(self, true: Callable[[Status], bool], seconds: float) -> Status:
        """Return the agent's status when something has become true of it, or after `seconds`; raise LocalError."""
        deadline_ns = clock.monotonic_ns() + round(seconds * NS_PER_S)
        while True:
            status = client.status(self.store)
            if true(status) or clock.monotonic_ns() >= deadline_ns:
                return status
            clock.wait(_never, LOOK_S)

    def context(self, *groups: str) -> Context:
        """Return what the doctor needs."""
        return Context(store=self.store, config=self.config, groups=groups)

    def expected(self) -> Expected:
        """Return what this car has, by its configuration."""
        drivers = self.configuration().settings.drivers
        cans = [*drivers.canbus.values(), *drivers.obdcan.values()]
        imu_hz = max((s.rate_hz for s in drivers.imu.values()), default=0.0)
        cameras: tuple[str, ...] = ()
        if self._answers():
            cameras = tuple(camera.name for camera in awaited(self.store, self.service).cameras)
        return Expected(
            speeds=bool(drivers.gps) + bool(drivers.elm327) + bool(cans),
            gnss=bool(drivers.gps),
            imu_hz=imu_hz,
            mount=not any(i.state == "skip" for i in self.progress.done.get("mount", [])),
            cameras=cameras,
            supply=bool(drivers.elm327) or any(p.voltage for p in drivers.power.values()),
            broker=self.configuration().get("broker", "url") is not None,
        )

    def _answers(self) -> bool:
        try:
            client.status(self.store, 5.0)
        except LocalError:
            return False
        return True


def item(step: str, name: str, state: ItemState, value: str, advice: str = "") -> Item:
    """Return an item whose texts fit on a sheet."""
    return Item(step=step, name=name[:200], state=state, value=value[:500], advice=advice[:500])
