"""What live driving and replay share: one spine, what keeps its output, and sync, which is told of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from agent.blocks import Block
from agent.detect.settings import DetectionSettings
from agent.fuse.settings import FusionSettings
from agent.records import Record
from agent.spine import Output, Spine
from agent.trips import TripSettings

if TYPE_CHECKING:
    from agent.sending import Sending


class Keeper(Protocol):
    """What keeps samples and records: a store, or the daemon's patient one."""

    def append(self, records: Sequence[tuple[int, Record]]) -> object:
        """Keep records, each with the time at which it became known."""

    def append_block(self, block: Block) -> None:
        """Keep samples in order of time."""


class Pipeline:
    """Drive the spine with blocks; keep records before samples, so that what was found is safe first."""

    def __init__(self, spine: Spine, keeper: Keeper | None = None, sending: "Sending | None" = None) -> None:
        self.spine = spine
        self.sending = sending
        self._keeper = keeper

    def step(self, block: Block) -> Output:
        """Take the next samples in order of time."""
        output = self.spine.step(block)
        self._keep(output)
        if self._keeper is not None and len(block):
            self._keeper.append_block(block)
        if self.sending is not None:
            self.sending.tell(output)
        return output

    def finish(self) -> Output:
        """Close what is open."""
        output = self.spine.finish()
        self._keep(output)
        return output

    def renew(self, fusion: FusionSettings, detection: DetectionSettings, trips: TripSettings) -> None:
        """Go on with a fresh spine under new settings; mount and time are kept."""
        self.finish()
        boot_time = self.spine.boot_time
        self.spine = Spine(fusion, detection, trips, mount=self.spine.mount, boot_time=boot_time)
        if boot_time.offset_ns is not None:
            self.spine.time_known(boot_time.offset_ns, boot_time.quality)

    def _keep(self, output: Output) -> None:
        if self._keeper is not None and output.records:
            self._keeper.append(output.records)
