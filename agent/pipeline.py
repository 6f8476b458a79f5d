"""What live driving and replay share: one spine, what keeps its output, and sync, which is told of it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from agent.blocks import Block, empty_block
from agent.crash.settings import CrashSettings
from agent.detect.settings import DetectionSettings
from agent.fuse.settings import FusionSettings
from agent.records import Record
from agent.spine import Output, Spine
from agent.trips import TripSettings

if TYPE_CHECKING:
    from agent.guard.guard import Guard
    from agent.incident.writer import IncidentWriter
    from agent.sending import Sending


class Keeper(Protocol):
    """What keeps samples and records: a store, or the daemon's patient one."""

    def append(self, records: Sequence[tuple[int, Record]]) -> object:
        """Keep records, each with the time at which it became known."""

    def append_block(self, block: Block) -> None:
        """Keep samples in order of time."""

    def flush(self) -> None:
        """Make the samples taken so far durable now."""


class Pipeline:
    """Drive the spine with blocks; keep records before samples, so that what was found is safe first.

    From a crash on the samples are made durable at once, and its package is begun: power may be gone in a moment.
    """

    def __init__(
        self,
        spine: Spine,
        keeper: Keeper | None = None,
        sending: "Sending | None" = None,
        incidents: "IncidentWriter | None" = None,
    ) -> None:
        self.spine = spine
        self.sending = sending
        self._keeper = keeper
        self.thin: Callable[[Block], Block] = _all_of  # what of the samples is worth keeping
        self.incidents = incidents
        self.guard: Guard | None = None  # recordings have neither a box nor a car of their own
        self._recording = True

    def step(self, block: Block) -> Output:
        """Take the next samples in order of time."""
        output = self.spine.step(block)
        if self.guard is not None:
            output.records += self.guard.step(block, output.rows, self.spine)
        self._keep(output)
        if not self._recording:
            return Output()
        if self._keeper is not None and len(block):
            self._keeper.append_block(self.thin(block))
            if output.crashes or (self.incidents is not None and self.incidents.recorder.growing):
                self._keeper.flush()
        if self.sending is not None:
            self.sending.tell(output)
        if self.incidents is not None:
            self.incidents.step(block, output)
        return output

    def busy(self) -> str:
        """Say why the agent should not end now, "" where it may; any thread may ask."""
        if self.spine.driving:
            return "the car is on a trip"
        growing = self.incidents is not None and self.incidents.recorder.growing
        return "a crash is being recorded" if growing else ""

    def heard(self) -> bool | None:
        """Say whether the receiver answers; None while nothing is sent. Any thread may ask."""
        sending = self.sending
        return None if sending is None else sending.heard

    def tend(self) -> None:
        """Try again what the disk refused."""
        if self.incidents is not None:
            self.incidents.tend()

    def finish(self) -> Output:
        """Close what is open."""
        output = self.spine.finish()
        self._keep(output)
        if self.incidents is not None and self._recording:
            self.incidents.step(empty_block(), output)
        return output

    def park(self) -> Output:
        """Close the trip; the car is parked."""
        output = self.spine.park()
        self._keep(output)
        return output

    def renew(
        self, fusion: FusionSettings, detection: DetectionSettings, trips: TripSettings, crash: CrashSettings
    ) -> None:
        """Go on with a fresh spine under new settings; mount and time are kept."""
        self.finish()
        self._begin(fusion, detection, trips, crash)

    def record(
        self,
        on: bool,
        incidents: "IncidentWriter",
        fusion: FusionSettings,
        detection: DetectionSettings,
        trips: TripSettings,
        crash: CrashSettings,
    ) -> None:
        """Record from now on, or no more: nothing of before goes over, but crashes under way keep their evidence.

        The keeper is told by itself what it may take; `incidents` begins with the new state.
        """
        if self.incidents is not None and self._recording:
            self.incidents.finish()
        self._recording, self.incidents = on, incidents
        self._begin(fusion, detection, trips, crash)

    def _begin(
        self, fusion: FusionSettings, detection: DetectionSettings, trips: TripSettings, crash: CrashSettings
    ) -> None:
        """Go on with a fresh spine; mount and time are kept."""
        old, boot_time = self.spine, self.spine.boot_time
        self.spine = Spine(fusion, detection, trips, mount=old.mount, boot_time=boot_time, crash=crash, boot=old.boot)
        offset_ns, uncertainty_ns = boot_time.offset_ns, boot_time.uncertainty_ns
        if offset_ns is not None and uncertainty_ns is not None:
            self.spine.time_known(offset_ns, boot_time.quality, uncertainty_ns)

    def _keep(self, output: Output) -> None:
        if self._keeper is not None and output.records:
            self._keeper.append(output.records)


def _all_of(block: Block) -> Block:
    return block
