"""All that `agent.toml` may say, one table for each part, assembled from the parts' own settings."""

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.clip.settings import ClipSettings
from agent.commands.settings import CommandSettings
from agent.config import build, read_toml, settings_file
from agent.consent.settings import ConsentSettings
from agent.crash.settings import CrashSettings
from agent.detect.settings import DetectionSettings
from agent.devices import DriverTables
from agent.enrolment.settings import EnrolmentSettings
from agent.errors import ConfigError, StoreError
from agent.evidence.settings import EvidenceSettings
from agent.feed import FeedSettings
from agent.fuse.settings import FusionSettings
from agent.guard.settings import GuardSettings, VehicleSettings
from agent.incident.settings import IncidentSettings
from agent.ladder import LadderSettings
from agent.link import BrokerSettings
from agent.overlay import VALUES, Overlay, laid_over
from agent.power.settings import PowerRules
from agent.store.database import StoreSettings
from agent.trips import TripSettings
from agent.update.settings import UpdateSettings
from agent.uplink import SyncSettings
from agent.upload.settings import BudgetSettings, UploadSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """How the daemon runs what is configured."""

    queue_samples: int = 400_000  # that wait for the spine, 18 bytes each: ten seconds of two saturated buses
    hold_s: float = 0.5  # a sample waits no longer for a feed that is silent; fixes come 0.05-0.3 s late
    prune_s: float = 3600.0  # between two looks for what is old in the store
    feed: FeedSettings = field(default_factory=FeedSettings)
    crashes: LadderSettings = field(default_factory=LadderSettings)

    def __post_init__(self) -> None:
        """Refuse a queue that cannot work."""
        if self.queue_samples < 1000 or not 0 < self.hold_s <= 10 or self.prune_s <= 0:
            raise ValueError("queue_samples must be 1000 or more, hold_s above 0 and at most 10, prune_s above 0")


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """The device's configuration."""

    fusion: FusionSettings = field(default_factory=FusionSettings)
    detection: DetectionSettings = field(default_factory=DetectionSettings)
    trips: TripSettings = field(default_factory=TripSettings)
    crash: CrashSettings = field(default_factory=CrashSettings)
    incident: IncidentSettings = field(default_factory=IncidentSettings)
    clips: ClipSettings = field(default_factory=ClipSettings)
    commands: CommandSettings = field(default_factory=CommandSettings)
    consent: ConsentSettings = field(default_factory=ConsentSettings)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    broker: BrokerSettings = field(default_factory=BrokerSettings)
    enrolment: EnrolmentSettings = field(default_factory=EnrolmentSettings)
    sync: SyncSettings = field(default_factory=SyncSettings)
    upload: UploadSettings = field(default_factory=UploadSettings)
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    power: PowerRules = field(default_factory=PowerRules)
    guard: GuardSettings = field(default_factory=GuardSettings)
    vehicle: VehicleSettings = field(default_factory=VehicleSettings)
    update: UpdateSettings = field(default_factory=UpdateSettings)
    daemon: DaemonSettings = field(default_factory=DaemonSettings)
    drivers: DriverTables = field(default_factory=DriverTables)

    def __post_init__(self) -> None:
        """Refuse windows that would let files stand in a crash's way."""
        if self.sync.window + self.upload.window > self.broker.in_flight:
            raise ValueError("sync.window and upload.window together must not exceed broker.in_flight")


def load_agent(path: Path | None = None, folder: Path | None = None) -> AgentConfig:
    """Read `agent.toml` (`path`, or the one in the configuration folder) over the defaults.

    With the store's `folder` what was changed from afar (agent.overlay) is laid over it; where that is wrong it is told
    and left out.
    """
    path = path or settings_file("agent.toml")
    table = read_toml(path)
    if folder is not None:
        try:
            above = Overlay(folder).in_force()
            return overlaid(table, above, path) if above else build(AgentConfig, table, str(path))
        except ConfigError as wrong:
            log.error("%s; what was changed from afar is left out", wrong)
    return build(AgentConfig, table, str(path))


def overlaid(table: dict[str, Any], above: dict[str, Any], path: Path) -> AgentConfig:
    """Return the settings of agent.toml's `table` with other values laid over it; raise ConfigError."""
    return build(AgentConfig, laid_over(table, above), f"{path} with {VALUES}")


def start_agent(path: Path | None, folder: Path) -> AgentConfig:
    """Read the settings for a start of the agent on `folder`: what is on trial is counted, or taken back if wrong."""
    overlay = Overlay(folder)
    overlay.start()
    path = path or settings_file("agent.toml")
    change = overlay.change()
    if change is not None and change.state == "trial":
        try:
            return overlaid(read_toml(path), overlay.table(), path)
        except ConfigError as wrong:
            with suppress(StoreError):  # the disk refuses: it is left out below, and taken back at another start
                overlay.drop(str(wrong))
    return load_agent(path, folder)
