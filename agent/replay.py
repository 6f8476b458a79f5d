"""Replay recordings through the product; decoder, spine, store and sync are the live car's own."""

import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.boottime import BootTime
from agent.clock import NS_PER_S, iso_utc
from agent.config import config_dir
from agent.errors import ConfigError
from agent.pipeline import Pipeline
from agent.records import Crash, Event, Mount, Trip
from agent.settings import AgentConfig, load_agent
from agent.spine import Output, Spine
from drivers.decode.decode import Decode
from drivers.decode.profile import list_profiles, load_profile
from drivers.replay import Replay

if TYPE_CHECKING:
    from agent.incident.writer import IncidentWriter
    from agent.sending import Sending
    from agent.store import Store

READ_TIMEOUT_S = 1.0


@dataclass(slots=True)
class Replayed:
    """What a replay found."""

    recording: dict[str, Any]
    mount: Mount | None
    trips: list[Trip]
    events: list[Event]
    crashes: list[Crash]
    boot_time: BootTime
    counts: dict[str, int]
    sync: dict[str, Any] | None = None
    end_ns: int = 0  # of the last sample

    def report(self, wall_s: float) -> dict[str, Any]:
        """Return the JSON object of `replay --json`; times count from the recording's first frame."""
        frames, duration_s = self.recording["frames"], self.recording["duration_s"]
        report: dict[str, Any] = {
            "recording": self.recording,
            "speed": {
                "wall_s": round(wall_s, 3),
                "frames_per_s": round((frames or self.recording["samples"]) / wall_s, 1),
                "realtime_factor": round(duration_s / wall_s, 1),
            },
            "mount": _mount(self.mount),
            "trips": [self._trip(t) for t in self.trips],
            "events": [self._event(e) for e in self.events],
            "crashes": [self._crash(c) for c in self.crashes],
            "rejected": {k: v for k, v in self.counts.items() if v},
            "time": {"quality": self.boot_time.quality},
        }
        if self.sync is not None:
            report["sync"] = self.sync
        return report

    def _utc(self, t_ns: int) -> str | None:
        offset = self.boot_time.offset_ns
        return None if offset is None else iso_utc(t_ns + offset)

    def _trip(self, trip: Trip) -> dict[str, Any]:
        return {
            "start_t_s": round(trip.start_ns / NS_PER_S, 3),
            "end_t_s": round(trip.end_ns / NS_PER_S, 3),
            "start_utc": self._utc(trip.start_ns),
            "distance_m": round(trip.distance_m, 1),
            "duration_s": round((trip.end_ns - trip.start_ns) / NS_PER_S, 3),
            "moving_s": round(trip.moving_s, 1),
            "idle_s": round(trip.idle_s, 1),
            "stops": trip.stops,
            "max_speed_mps": round(trip.max_speed_mps, 2),
            "distance_by_source_m": {k: round(v, 1) for k, v in trip.distance_by_source_m.items()},
            "track_points": trip.track_points,
        }

    def _event(self, event: Event) -> dict[str, Any]:
        before = event.speed_before_mps
        return {
            "kind": event.kind,
            "severity": event.severity,
            "confirmed": event.confirmed,
            "t_s": round(event.t_ns / NS_PER_S, 3),
            "utc": self._utc(event.t_ns),
            "duration_s": round(event.duration_ns / NS_PER_S, 3),
            "peak": round(event.peak, 3),
            "unit": event.unit,
            "speed_before_mps": None if before is None else round(before, 2),
            "rule": event.rule,
            "sources": event.sources,
        }

    def _crash(self, crash: Crash) -> dict[str, Any]:
        return {
            "incident": crash.id,
            "kind": crash.kind,
            "t_s": round(crash.t_ns / NS_PER_S, 4),
            "utc": self._utc(crash.t_ns),
            "known_after_s": round((crash.known_ns - crash.t_ns) / NS_PER_S, 3),
            "complete": crash.complete,
            "locked": crash.locked,
            "number": crash.number,
            "delta_v_mps": crash.delta_v_mps,
            "delta_v_longitudinal_mps": crash.delta_v_longitudinal_mps,
            "delta_v_lateral_mps": crash.delta_v_lateral_mps,
            "direction_clock": crash.direction_clock,
            "peak_mps2": crash.peak_mps2,
            "clipped": crash.clipped,
            "speed_before_mps": crash.speed_before_mps,
            "speed_after_mps": crash.speed_after_mps,
            "confirmed_by": crash.confirmed_by,
            "sensors": crash.sensors,
            "latitude": crash.latitude,
            "longitude": crash.longitude,
            "rule": crash.rule,
        }


def _mount(mount: Mount | None) -> dict[str, Any] | None:
    if mount is None:
        return None
    return {
        "gravity": [round(x, 4) for x in mount.gravity],
        "forward": [round(x, 4) for x in mount.forward],
        "confidence": round(mount.confidence, 3),
    }


def run(
    files: list[Path],
    *,
    profile: str = "",
    dbc: Path | None = None,
    store: Path | None = None,
    uplink: str = "",
    config: Path | None = None,
    wait_s: float = 60.0,
    progress: Callable[[int], None] | None = None,
) -> Replayed:
    """Replay `files` (merged by time) and return what was found; raise RoadwitnessError for what a person can mend."""
    settings = load_agent(config)
    folder = config_dir()
    if dbc is not None and not profile:
        names = ", ".join(sorted(list_profiles(folder)))
        raise ConfigError(f"{dbc}: a DBC file needs --profile to say which signals mean what (known: {names})")
    decode = Decode(load_profile(profile, folder, dbc) if profile else None, folder)
    source = Replay(files, decode)
    with ExitStack() as stack:
        stack.callback(source.close)
        source.open()
        kept = None
        if store is not None:
            from agent.store import Store

            kept = stack.enter_context(Store.open(store, settings.store))
        boot = uuid.uuid4().hex
        if kept is not None:
            kept.begin_boot(boot, recorded=True)
        sending = None
        if kept is not None and uplink:
            from agent.sending import Sending  # the network's libraries cost a tenth of a second

            broker = replace(settings.broker, url=uplink)
            sending = Sending(kept, broker, settings.sync, boot, upload=settings.upload, budget=settings.budget)
            stack.callback(sending.stop)
        incidents = None
        if store is not None:
            from agent.incident.folder import PACKAGES
            from agent.incident.recorder import Recorder
            from agent.incident.writer import IncidentWriter

            incidents = IncidentWriter(store / PACKAGES, Recorder(settings.incident, boot))
        found = _pump(source, settings, boot, kept, progress, sending, incidents)
        if kept is not None and store is not None and found.crashes:
            from agent.clerk import Clerk

            told = sending.wake if sending is not None else lambda: None
            Clerk.of(kept, store, boot, settings, found.end_ns, told).finish(found.end_ns)
        found.recording = _described(decode, source)
        found.counts |= decode.counts
        if sending is not None:
            found.sync = sending.finish(wait_s)
    return found


def _pump(
    source: Replay,
    settings: AgentConfig,
    boot: str,
    store: "Store | None",
    progress: Callable[[int], None] | None,
    sending: "Sending | None",
    incidents: "IncidentWriter | None",
) -> Replayed:
    """Drive the spine with everything that `source` gives; keep it in `store`, and tell where the car is."""
    boot_time = BootTime(recorded=True)
    spine = Spine(
        settings.fusion, settings.detection, settings.trips, boot_time=boot_time, crash=settings.crash, boot=boot
    )
    pipeline = Pipeline(spine, store, sending, incidents)
    found = Replayed({}, None, [], [], [], boot_time, {})
    start_utc_ns = source.recording.start_utc_ns
    if start_utc_ns is not None:
        clock = boot_time.restore(0, start_utc_ns)
        spine.clock_known(clock)
        if store is not None:
            store.append([(0, clock)])
    while (block := source.read(READ_TIMEOUT_S)) is not None:
        _take(found, pipeline.step(block))
        if len(block):
            found.end_ns = int(block["t"][-1])
        if progress is not None:
            summary = source.recording
            progress(summary.frames + summary.samples)
    _take(found, pipeline.finish())
    if incidents is not None:
        incidents.finish()
    found.mount, found.counts = spine.mount, spine.counts
    return found


def _take(found: Replayed, output: Output) -> None:
    found.trips += output.trips
    found.events += output.events
    known = {crash.id: crash for crash in (*found.crashes, *output.crashes)}  # told twice: the later, complete one
    found.crashes = list(known.values())


def _described(decode: Decode, source: Replay) -> dict[str, Any]:
    """Return the `recording` object of the report."""
    summary = source.recording
    unknown = decode.unknown_ids
    problems = list(summary.problems)
    if decode.profile is None and unknown and summary.frames:
        problems.append(
            f"no vehicle profile: {len(unknown)} ids were not decoded; name one with --profile"
            f" ({', '.join(sorted(list_profiles(config_dir())))})"
        )
    return {
        "frames": summary.frames,
        "samples": summary.samples + decode.samples,
        "duration_s": round(summary.duration_s, 3),
        "unknown_ids": len(unknown),
        "bad_lines": summary.bad_lines,
        "error_frames": summary.error_frames,
        "remote_frames": summary.remote_frames,
        "time_steps": summary.time_steps,
        "out_of_range": summary.out_of_range,
        "truncated": summary.truncated,
        "unknown_channels": summary.unknown_channels,
        "profile": decode.profile.name if decode.profile else None,
        "start_utc": None if summary.start_utc_ns is None else iso_utc(summary.start_utc_ns),
        "buses": summary.buses,
        "problems": problems,
    }
