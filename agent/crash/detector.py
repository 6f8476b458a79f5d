"""The crash detector: samples in, crashes and impacts that are none out."""

from agent.blocks import Block
from agent.crash.settings import CrashSettings
from agent.records import Crash, Event, Mount
from agent.state import State


class CrashDetector:
    """Finds collisions in the samples of one boot or one recording."""

    def __init__(self, settings: CrashSettings, boot: str, mount: Mount | None = None) -> None:
        self._settings = settings
        self._boot = boot
        self._mount = mount
        self.counts: dict[str, int] = {}

    def mount_known(self, mount: Mount) -> None:
        """Take how the box sits in the car as fusion has just learned it."""
        self._mount = mount

    def step(self, block: Block, rows: State) -> list[Crash | Event]:
        """Take the next samples in time order and the rows of state that became known; return what was found."""
        return []

    def finish(self) -> list[Crash | Event]:
        """End the boot or the recording: complete what is open."""
        return []
