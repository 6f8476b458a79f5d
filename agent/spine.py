"""The spine: blocks in, records out. Merged samples become vehicle state, events, trips; nothing here does I/O.

The same object serves the live car, a recording at any speed and the simulator: it knows no clock and no device, and
any split of the same samples into blocks gives the same records.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from msgspec.structs import replace

from agent.aftermath import Aftermath
from agent.blocks import Block, empty_block
from agent.boottime import BootTime
from agent.clock import NS_PER_S
from agent.crash.detector import CrashDetector
from agent.crash.settings import CrashSettings
from agent.curve import CurveRing
from agent.detect.detector import Detector
from agent.detect.settings import DetectionSettings
from agent.fuse.fusion import Fusion
from agent.fuse.settings import FusionSettings
from agent.incident.same import Same
from agent.records import Clock, Crash, Event, Mount, Record, TimeQuality, Track, Trip
from agent.state import State
from agent.trips import Trips, TripSettings

# A trip's start is placed back at engine-on, which may lie this far before the first motion.
CURVE_HISTORY_S = 3600
# A mount is known 1.5 s after its time (rows look ahead); crashes are judged by it from here on, in blocks of any size.
MOUNT_AFTER_NS = 2 * NS_PER_S


@dataclass(slots=True)
class Output:
    """What one step gave: rows of state, and records with the time at which each became known."""

    rows: list[State] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    trips: list[Trip] = field(default_factory=list)
    crashes: list[Crash] = field(default_factory=list)
    records: list[tuple[int, Record]] = field(default_factory=list)


class Spine:
    """Fusion, detection, crashes, trips and boot time in one chain.

    `boot` names incidents; `crashes` and `events` are those that the store holds of this boot, so that none is told
    twice.
    """

    def __init__(
        self,
        fusion: FusionSettings,
        detection: DetectionSettings,
        trips: TripSettings,
        *,
        mount: Mount | None = None,
        boot_time: BootTime | None = None,
        crash: CrashSettings | None = None,
        boot: str = "",
        crashes: Iterable[Crash] = (),
        events: Iterable[Event] = (),
    ) -> None:
        self.boot = boot
        self.speed: tuple[int, float] | None = None  # the latest: ns, m/s or NaN
        self._fusion = Fusion(fusion, mount)
        self._collisions = CrashDetector(crash or CrashSettings(), boot, mount)
        self._mounts: list[Mount] = []  # that the crash detector will be told of
        self._same = Same(crashes)
        self._aftermath = Aftermath(events)
        self._reached_ns = 0
        self._detector = Detector(detection)
        self._trips = Trips(trips)
        self._curves = CurveRing()
        self.boot_time = boot_time or BootTime()

    @property
    def mount(self) -> Mount | None:
        """How the box sits in the car, None until learned."""
        return self._fusion.mount

    @property
    def counts(self) -> dict[str, int]:
        """What fusion and the crash detector rejected, by reason."""
        time = {"week_rollovers": self.boot_time.rollovers, "clock_steps": self.boot_time.steps}
        return {**self._fusion.counts, **self._collisions.counts, **time}

    @property
    def driving(self) -> bool:
        """Say whether a trip is going on."""
        return self._trips.current is not None

    def trip_start(self, t_ns: int) -> int | None:
        """Return the start of the trip, ended lately or going on, that was under way at a time."""
        return self._trips.start_of(t_ns)

    def clock_known(self, clock: Clock) -> None:
        """Take a clock record that was learned outside (a recording's stamps, a saved offset)."""
        self.time_known(clock.offset_ns, clock.quality, clock.uncertainty_ns)

    def time_known(self, offset_ns: int, quality: TimeQuality, uncertainty_ns: int) -> None:
        """Take what UTC the boot's clock shows (utc_ns = t_ns + offset_ns), and how far it may be off."""
        self._trips.set_clock(offset_ns, quality, uncertainty_ns)

    def step(self, block: Block) -> Output:
        """Take the next samples in time order."""
        output = Output()
        for clock in self.boot_time.learn(block):
            self.clock_known(clock)
            output.records.append((clock.t_ns, clock))
        rows = self._fusion.step(block)
        if len(block):
            self._reached_ns = int(block["t"][-1])
        self._learn_mount(output)
        found = self._collide(block, rows)  # first: what a collision did to the car is no way of driving
        self._detect(rows, output, self._reached_ns)
        self._tell_found(found, output)
        return output

    def finish(self) -> Output:
        """End the boot or the recording: close what is open."""
        output = Output()
        rows = self._fusion.finish()
        self._learn_mount(output)
        found = [*self._collide(empty_block(), rows), *self._judge(self._collisions.finish())]
        self._detect(rows, output, None)
        self._tell_found(found, output)
        events = self._aftermath.step(self._detector.finish(), None)
        trips = self._trips.finish(events)
        self._tell(events, trips, output)
        return output

    def park(self) -> Output:
        """End the trip: the engine has been off for long enough, and what measures goes on."""
        output = Output()
        events = self._aftermath.step([], None)
        self._tell(events, self._trips.finish(events), output)
        return output

    def _learn_mount(self, output: Output) -> None:
        mounts = self._fusion.take_mounts()
        self._mounts += mounts
        output.records += [(mount.t_ns, mount) for mount in mounts]

    def _detect(self, rows: State, output: Output, reached_ns: int | None) -> None:
        events: list[Event] = []
        if len(rows):
            self.speed = (int(rows["t"][-1]), float(rows["speed"][-1]))
            output.rows.append(rows)
            self._curves.step(rows)
            events += [_device_moved(t_ns, angle_deg) for t_ns, angle_deg in self._fusion.take_moved()]
            events += self._detector.step(rows)
        events = self._aftermath.step(events, reached_ns)
        self._tell(events, self._trips.step(rows, events), output)
        if len(rows) and self._trips.current is None:
            self._curves.forget(int(rows["t"][-1]) // NS_PER_S - CURVE_HISTORY_S)

    def _collide(self, block: Block, rows: State) -> list[Crash | Event]:
        """Look for crashes; a mount counts from the same sample on, however the samples are cut into blocks."""
        found: list[Crash | Event] = []
        while self._mounts and len(block) and block["t"][-1] >= (known_ns := self._mounts[0].t_ns + MOUNT_AFTER_NS):
            at = int(np.searchsorted(block["t"], known_ns))
            rows_at = int(np.searchsorted(rows["t"], known_ns))
            found += self._collisions.step(block[:at], rows[:rows_at])
            self._collisions.mount_known(self._mounts.pop(0))
            block, rows = block[at:], rows[rows_at:]
        return self._judge([*found, *self._collisions.step(block, rows)])

    def _judge(self, found: list[Crash | Event]) -> list[Crash | Event]:
        for crash in found:
            if isinstance(crash, Crash):
                self._aftermath.crashed(self._same.named(crash))
        return found

    def _tell_found(self, found: list[Crash | Event], output: Output) -> None:
        """Tell of crashes, and of impacts that are none: these are no way of driving and count in no trip."""
        self._tell([event for event in found if isinstance(event, Event)], [], output)
        for crash in found:
            known = self._same.admit(crash) if isinstance(crash, Crash) else None
            if known is not None:
                known = replace(known, trip_t_ns=self._trips.start_of(known.t_ns))
                output.crashes.append(known)
                output.records.append((known.known_ns, known))

    def _tell(self, events: list[Event], trips: list[tuple[Trip, list[Track]]], output: Output) -> None:
        for event in events:
            if self._aftermath.is_told(event):
                continue  # it counts in its trip, and is in the store
            known = replace(event, trip_t_ns=self._trips.start_of(event.t_ns))
            output.events.append(known)
            output.records.append((event.t_ns + event.duration_ns, known))
        for trip, tracks in trips:
            curves = self._curves.cut(trip.start_ns, trip.end_ns)
            output.trips.append(trip)
            output.records += [(trip.end_ns, record) for record in (trip, *tracks, *curves)]


def _device_moved(t_ns: int, angle_deg: float) -> Event:
    return Event(
        kind="device_moved",
        severity="minor",
        confirmed=False,
        t_ns=t_ns,
        duration_ns=0,
        peak=angle_deg,
        unit="deg",
        speed_before_mps=None,
        rule="device_moved/1",
        sources=["imu"],
    )
