"""After a crash or a power cut: walk a boot's stored samples again, so that the drive that was going on is not lost.

Detection is a pure function of samples and samples are durable within a second; so nothing else has to be saved.
"""

from collections.abc import Callable
from typing import Final

from agent.boottime import BootTime
from agent.clock import NS_PER_S
from agent.incident.recorder import Recorder
from agent.incident.tables import BACK_NS
from agent.records import Clock, Crash, Event, Health, Mount, Record, Trip
from agent.settings import AgentConfig
from agent.spine import Spine
from agent.store import Store

CHUNK_NS: Final = 300 * NS_PER_S  # of samples read at once: 12 MB for two saturated buses
SAME_NS: Final = NS_PER_S  # stored times are rounded: an event of one kind this near is the one that is kept already


def resumed(
    store: Store,
    boot: str,
    settings: AgentConfig,
    boot_time: BootTime,
    working: Callable[[], None],
    recorder: Recorder | None = None,
) -> tuple[Spine, list[tuple[int, Record]]]:
    """Return a spine that has seen what is stored of `boot` since its last trip, and the records that were missing.

    `working` is called after each chunk. The `recorder` sees the same samples, and is told of the boot's mounts.
    """
    kinds = (Clock, Mount, Trip, Event, Crash)
    kept: list[Record] = [s.record for kind in kinds for s in store.records(kind, boot)]
    mounts = [r for r in kept if isinstance(r, Mount)]
    spine = Spine(
        settings.fusion,
        settings.detection,
        settings.trips,
        mount=mounts[-1] if mounts else None,
        boot_time=boot_time,
        crash=settings.crash,
        boot=boot,
        crashes=[r for r in kept if isinstance(r, Crash)],
        events=[r for r in kept if isinstance(r, Event)],
    )
    for record in kept:
        if isinstance(record, Clock):
            boot_time.resume(record)
            spine.clock_known(record)
    missing: list[tuple[int, Record]] = []
    span = store.span(boot)
    if span is not None:
        at_ns = max([span[0], *(r.end_ns + 1 for r in kept if isinstance(r, Trip))])
        if recorder is not None:
            recorder.step(store.read_block(at_ns - BACK_NS, at_ns, boot), [], [])
        while at_ns <= span[1]:
            block = store.read_block(at_ns, at_ns + CHUNK_NS, boot)
            output = spine.step(block)
            if recorder is not None:
                recorder.step(block, output.rows, [])
            missing += [(t, r) for t, r in output.records if not _is_kept(r, kept)]
            at_ns += CHUNK_NS
            working()
    if recorder is not None:
        for mount in [*mounts, *(r for _, r in missing if isinstance(r, Mount))]:
            recorder.mount_known(mount)
    return spine, missing


def finish_boot(store: Store, boot: str, settings: AgentConfig, working: Callable[[], None]) -> int:
    """End the drives of an earlier boot that was cut; return how many trips were recovered."""
    spine, missing = resumed(store, boot, settings, BootTime(), working)
    kept: list[Record] = [s.record for kind in (Mount, Event) for s in store.records(kind, boot)]
    missing += [(t, r) for t, r in spine.finish().records if not _is_kept(r, kept)]
    trips = [r for _, r in missing if isinstance(r, Trip)]
    store.begin_boot(boot)
    for trip in trips:
        detail = f"a drive of {trip.distance_m / 1000:.1f} km was cut and is recovered"
        missing.append((trip.end_ns, Health(t_ns=trip.end_ns, source="agent", state="degraded", detail=detail)))
    if missing:
        store.append(missing)
    return len(trips)


def _is_kept(record: Record, kept: list[Record]) -> bool:
    """Say whether the store holds this finding already."""
    if isinstance(record, Mount):
        return any(isinstance(k, Mount) and k.t_ns >= record.t_ns for k in kept)
    if not isinstance(record, Event):
        return False
    return any(isinstance(k, Event) and k.kind == record.kind and abs(k.t_ns - record.t_ns) <= SAME_NS for k in kept)
