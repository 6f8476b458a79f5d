"""Records in words: one line each, as they happen, for people at a terminal."""

import re
from collections.abc import Callable
from math import ceil
from typing import Any, Final

from agent.clock import NS_PER_S
from agent.guard.memory import SOURCE as MEMORY
from agent.local.messages import Line
from agent.records import Clock, Crash, Event, Health, Mount, Package, Record, Reply, Trip

_KMH: Final = 3.6
_FOLDERS: Final = re.compile(r"(?<![\w/])/(?:[^/:\s]+/)+")  # a device's own name says enough
_MOST: Final = 300  # characters of a line


def line_of(number: int, t_ns: int, record: Record) -> Line | None:
    """Return the line of a record that became known at `t_ns`; None for what nobody reads line by line."""
    known = _WORDS.get(type(record))
    if known is None or (isinstance(record, Health) and record.source == MEMORY):
        return None
    kind, words = known
    severity, text = words(record)
    return Line(number=number, t_ns=t_ns, kind=kind, severity=severity, text=" ".join(text.split())[:_MOST])


def _event(event: Event) -> tuple[Any, str]:
    parts = [event.kind.replace("_", " ") + ("" if event.confirmed else ", unconfirmed")]
    if event.kind == "speeding" and event.limit_mps is not None:
        parts.append(f"{event.peak * _KMH:.0f} km/h where {event.limit_mps * _KMH:.0f} are allowed")
    elif event.unit:
        parts.append(f"{event.peak:.3g} {event.unit}")
    if event.speed_before_mps is not None and event.kind != "speeding":
        parts.append(f"from {event.speed_before_mps * _KMH:.0f} km/h")
    if event.detail:
        parts.append(event.detail)
    if event.sources:
        parts.append("seen by " + ", ".join(event.sources))
    return event.severity, "; ".join(parts)


def _crash(crash: Crash) -> tuple[Any, str]:
    parts = [f"CRASH: {crash.kind}" + ("" if crash.complete else ", still measured")]
    if crash.delta_v_mps is not None:
        parts.append(f"velocity change {'over ' if crash.clipped else ''}{crash.delta_v_mps * _KMH:.0f} km/h")
    if crash.direction_clock is not None:
        parts.append(f"force from {crash.direction_clock} o'clock")
    if crash.speed_before_mps is not None:
        parts.append(f"at {crash.speed_before_mps * _KMH:.0f} km/h")
    return "severe", "; ".join(parts)


def _trip(trip: Trip) -> tuple[Any, str]:
    minutes = (trip.end_ns - trip.start_ns) / NS_PER_S / 60
    events = sum(n for kind, n in trip.event_counts.items() if not kind.endswith(".unconfirmed"))
    return "", f"trip over: {trip.distance_m / 1000:.1f} km in {minutes:.0f} min; {events} confirmed events"


def _health(health: Health) -> tuple[Any, str]:
    name = health.source.partition(":")[0]
    named = health.detail.startswith((health.source, name))
    return health.state, _FOLDERS.sub("", health.detail if named else f"{health.source}: {health.detail}")


def _clock(clock: Clock) -> tuple[Any, str]:
    source = _TIME_FROM.get(clock.quality, clock.quality)
    return "", f"time learned: {source}, good to {_within(clock.uncertainty_ns / NS_PER_S)}"


_TIME_FROM: Final = {"gnss": "from satellites", "ntp": "from the network", "restored": "as it was saved"}


def _within(seconds: float) -> str:
    """Say how well a time is known, as people say it; rounded up."""
    if seconds < 1.0:
        return f"{seconds * 1000:.0f} ms"
    for unit, lasts_s in (("day", 86_400.0), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= lasts_s:
            n = ceil(seconds / lasts_s)
            return f"{n} {unit}s" if n > 1 else f"{'an' if unit == 'hour' else 'a'} {unit}"
    return f"{seconds:.2g} s"


def _mount(mount: Mount) -> tuple[Any, str]:
    return "", f"mount learned: how the box sits in the car is known to {mount.confidence:.0%}"


def _package(package: Package) -> tuple[Any, str]:
    size = sum(file.size for file in package.files)
    whole = "complete" if package.complete else "not complete yet"
    return "", f"package {package.incident}: {len(package.files)} files, {size / 1e6:.1f} MB, {whole}"


def _reply(reply: Reply) -> tuple[Any, str]:
    return "", f"command {reply.command} of {reply.actor}: {reply.state}; {reply.detail}"


_WORDS: Final[dict[type[Record], tuple[str, Callable[[Any], tuple[Any, str]]]]] = {
    Event: ("event", _event),
    Crash: ("crash", _crash),
    Trip: ("trip", _trip),
    Health: ("health", _health),
    Clock: ("clock", _clock),
    Mount: ("mount", _mount),
    Package: ("package", _package),
    Reply: ("reply", _reply),
}
