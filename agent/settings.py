"""All that `agent.toml` may say, one table for each part, assembled from the parts' own settings."""

from dataclasses import dataclass, field
from pathlib import Path

from agent.config import build, config_dir, read_toml
from agent.detect.settings import DetectionSettings
from agent.fuse.settings import FusionSettings
from agent.link import BrokerSettings
from agent.store.database import StoreSettings
from agent.trips import TripSettings
from agent.uplink import SyncSettings


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """The device's configuration."""

    fusion: FusionSettings = field(default_factory=FusionSettings)
    detection: DetectionSettings = field(default_factory=DetectionSettings)
    trips: TripSettings = field(default_factory=TripSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    broker: BrokerSettings = field(default_factory=BrokerSettings)
    sync: SyncSettings = field(default_factory=SyncSettings)


def load_agent(path: Path | None = None) -> AgentConfig:
    """Read `agent.toml` (`path`, or the one in the configuration folder) over the defaults."""
    path = path or config_dir() / "agent.toml"
    return build(AgentConfig, read_toml(path), str(path))
