"""What a perfect observer would say of a drive: events by the published rules, from the true motion alone.

A rule's quantity is the 1 s mean of longitudinal and the 0.5 s mean of lateral acceleration of the car along the road.
Near a threshold honest instruments may disagree, so each event carries every severity that its peak ± `GUARD` allows;
"none" among them means that saying nothing is right as well.
"""

from dataclasses import dataclass
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from sim.roads import Floats
from sim.vehicle import DT, Motion

GUARD: Final = 0.08
LEVELS: Final = ("none", "minor", "moderate", "severe")
Level = Literal["none", "minor", "moderate", "severe"]

# m/s², minor/moderate/severe for a passenger car: docs/sources.md D1, recommended defaults
HARSH: Final[dict[str, tuple[float, float, float]]] = {
    "harsh_braking": (2.5, 3.0, 4.4),
    "harsh_acceleration": (2.5, 3.0, 4.0),
    "harsh_cornering": (3.0, 4.0, 5.5),
}
GATE_MPS: Final[dict[str, float]] = {
    "harsh_braking": 10 / 3.6,
    "harsh_acceleration": 10 / 3.6,
    "harsh_cornering": 30 / 3.6,
}
HOLD_S: Final = 0.3
RELEASE: Final = 0.83
MERGE_S: Final = 2.0
REFRACTORY_S: Final = 3.0 + 0.3  # and what smoothing may add


class TruthEvent(msgspec.Struct, frozen=True):
    """One manoeuvre that really happened; `severities` are all that may rightly be said, "none" included."""

    kind: str
    t_s: float  # the rule's quantity crosses the lowest threshold
    duration_s: float
    peak: float  # largest magnitude of the rule's quantity, signed; in `unit`
    unit: str
    speed_before_mps: float
    severity: str  # by the thresholds exactly
    severities: list[str]


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds of the rules that last: minor, moderate, severe; Chinese law and the trade's practice."""

    # 10 % above the highest limit is warned of, 20 % and 50 % cost penalty points (order 163 of 2021)
    speeding_mps: tuple[float, float, float] = (132 / 3.6, 144 / 3.6, 180 / 3.6)
    speeding_release_mps: float = 126 / 3.6
    speeding_hold_s: float = 10.0
    speeding_merge_s: float = 5.0
    idling_s: tuple[float, float, float] = (300.0, 900.0, 3600.0)
    rev_rpm: tuple[float, float, float] = (5500.0, 6050.0, 6600.0)
    rev_hold_s: float = 2.0
    driving_s: tuple[float, float, float] = (
        4 * 3600.0,
        5 * 3600.0,
        6 * 3600.0,
    )  # Road Traffic Safety Law regulation, art. 62(7)
    rest_s: float = 20 * 60.0


def rule_quantities(motion: Motion) -> tuple[Floats, Floats]:
    """Return the 1 s mean of longitudinal and the 0.5 s mean of lateral acceleration, centred, at every step."""
    return centred_mean(motion.longitudinal, 1.0), centred_mean(motion.lateral, 0.5)


def centred_mean(values: Floats, seconds: float) -> Floats:
    """Return the mean over a window of `seconds` about each step; beyond the ends the car stands."""
    half = round(seconds / DT / 2)
    total = np.concatenate([np.zeros(half + 1), np.cumsum(values)])
    total = np.concatenate([total, np.full(half, total[-1])])
    return np.asarray((total[2 * half :] - total[: len(total) - 2 * half])[: len(values)] / (2 * half))


def harsh_events(motion: Motion) -> list[TruthEvent]:
    """Find every harsh manoeuvre in the true motion, planned or not."""
    longitudinal, lateral = rule_quantities(motion)
    return sorted(
        [
            *_excursions("harsh_braking", -longitudinal, -1.0, motion.speed),
            *_excursions("harsh_acceleration", longitudinal, 1.0, motion.speed),
            *_excursions("harsh_cornering", np.abs(lateral), 0.0, motion.speed, np.sign(lateral)),
        ],
        key=lambda e: e.t_s,
    )


def _excursions(
    kind: str, quantity: Floats, sign: float, speed: Floats, direction: Floats | None = None
) -> list[TruthEvent]:
    minor = HARSH[kind][0]
    gate = GATE_MPS[kind]
    events: list[TruthEvent] = []
    ended = -(10**9)
    for first, last in _spans(quantity, minor * (1 - GUARD), minor * RELEASE):
        span = slice(first, last)
        moving = speed[span]
        surely = _held(np.where(moving >= gate * (1 + GUARD), quantity[span], 0.0))
        exactly = _held(np.where(moving >= gate, quantity[span], 0.0))
        perhaps = float(np.where(moving >= gate * (1 - GUARD), quantity[span], 0.0).max())
        least, most = _level(kind, surely * (1 - GUARD)), _level(kind, perhaps * (1 + GUARD))
        if most == 0:
            continue
        top = first + int(np.argmax(quantity[span]))
        # from where the force and the speed both count; an event that only may be one, from its peak
        loud = quantity[span] >= min(minor, float(quantity[top]) * 0.999)
        over = np.flatnonzero(loud & (moving >= gate)) if (loud & (moving >= gate)).any() else np.array([top - first])
        start, end = first + int(over[0]), first + int(over[-1])
        event = TruthEvent(
            kind=kind,
            t_s=round(start * DT, 3),
            duration_s=round((end - start) * DT, 3),
            peak=round(float(quantity[top]) * (sign if direction is None else float(direction[top])), 3),
            unit="m/s2",
            speed_before_mps=round(float(speed[max(start - round(0.5 / DT), 0)]), 2),
            severity=LEVELS[_level(kind, exactly)],
            severities=list(LEVELS[least : most + 1]),
        )
        if start - ended < REFRACTORY_S / DT:
            event = _joined(events.pop(), event)
        events.append(event)
        ended = end
    return events


def _joined(one: TruthEvent, two: TruthEvent) -> TruthEvent:
    """Make one event of two within the refractory time: whoever reports either part is right."""
    parts = [LEVELS.index(level) for e in (one, two) for level in (e.severities[0], e.severities[-1])]
    louder = max(one, two, key=lambda e: abs(e.peak))
    return msgspec.structs.replace(
        one,
        duration_s=round(two.t_s + two.duration_s - one.t_s, 3),
        peak=louder.peak,
        severity=louder.severity,
        severities=list(LEVELS[min(parts) : max(parts) + 1]),
    )


def _spans(quantity: Floats, enter: float, leave: float, merge_s: float = MERGE_S) -> list[tuple[int, int]]:
    """Return [first, last) of the stretches above `enter`, kept until below `leave`, merged when close."""
    above = quantity >= enter
    edges = np.flatnonzero(np.diff(above.astype(np.int8), prepend=0, append=0))
    released = quantity < leave
    spans: list[tuple[int, int]] = []
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if spans and (first - spans[-1][1] < merge_s / DT or not released[spans[-1][1] : first].any()):
            spans[-1] = (spans[-1][0], last)
        else:
            spans.append((first, last))
    return spans


def _held(quantity: Floats) -> float:
    """Return the highest level that `quantity` stays at or above for `HOLD_S` without a break."""
    width = round(HOLD_S / DT)
    if len(quantity) < width:
        return 0.0
    # the minimum over each window, by doubling: windows of 2, 4, 8 … steps, then two overlapping ones
    low, size = quantity, 1
    while size * 2 <= width:
        low = np.minimum(low[:-size], low[size:])
        size *= 2
    rest = width - size
    if rest:
        low = np.minimum(low[:-rest], low[rest:])
    return float(low.max())


def _level(kind: str, value: float) -> int:
    return sum(value >= threshold for threshold in HARSH[kind])


def lasting_events(motion: Motion, rules: Rules) -> list[TruthEvent]:
    """Find speeding, idling, over-revving and driving without rest: a level that is held for a time."""
    running = (motion.ignition > 0.5) & (motion.rpm > 300.0)
    standing = (motion.speed < 0.1) & running
    events = []
    for first, last in _runs(standing):
        duration = (last - first) * DT
        events += _lasting("idling", first, last, duration, rules.idling_s, "s", motion, duration)
    fast = _spans(motion.speed, rules.speeding_mps[0] * 0.98, rules.speeding_release_mps, rules.speeding_merge_s)
    ended = None
    for first, last in fast:
        if (last - first) * DT >= rules.speeding_hold_s:
            top = _held_for(motion.speed[first:last], rules.speeding_hold_s)
            peak = float(motion.speed[first:last].max())
            found = _lasting("speeding", first, last, top, rules.speeding_mps, "m/s", motion, peak)
            # worn tyres shift the crossing of a threshold by a second: a short pause may or may not end the event
            if found and ended is not None and first - ended < (rules.speeding_merge_s + 2.0) / DT:
                found = [_joined(events.pop(), found[0])]
            events += found
            ended = last if found else ended
    for first, last in _runs(motion.rpm >= rules.rev_rpm[0] * 0.98):
        if (last - first) * DT >= rules.rev_hold_s * 0.8:
            top = _held_for(motion.rpm[first:last], rules.rev_hold_s)
            peak = float(motion.rpm[first:last].max())
            events += _lasting("over_rev", first, last, top, rules.rev_rpm, "rpm", motion, peak)
    for first, last in _spans(motion.speed, 0.5, 0.5, rules.rest_s):
        duration = (last - first) * DT
        events += _lasting("fatigue", first, last, duration, rules.driving_s, "s", motion, duration)
    return sorted(events, key=lambda e: e.t_s)


def _lasting(
    kind: str,
    first: int,
    last: int,
    held: float,
    thresholds: tuple[float, ...],
    unit: str,
    motion: Motion,
    peak: float,
) -> list[TruthEvent]:
    # instruments of speed and engine speed agree within 2 %; tyres and their wear make the difference
    least = sum(held * 0.98 >= t for t in thresholds)
    exact = sum(held >= t for t in thresholds)
    most = sum(peak * 1.02 >= t for t in thresholds)
    if most == 0:
        return []
    return [
        TruthEvent(
            kind=kind,
            t_s=round(first * DT, 3),
            duration_s=round((last - first) * DT, 3),
            peak=round(peak, 3),
            unit=unit,
            speed_before_mps=round(float(motion.speed[max(first - 1, 0)]), 2),
            severity=LEVELS[exact],
            severities=list(LEVELS[least : most + 1]),
        )
    ]


def _held_for(values: Floats, seconds: float) -> float:
    """Return the highest level held for `seconds`, on a grid of 0.1 s."""
    coarse = values[:: round(0.1 / DT)]
    width = max(round(seconds / 0.1), 1)
    if len(coarse) < width:
        return float(coarse.min())
    return float(np.lib.stride_tricks.sliding_window_view(coarse, width).min(axis=1).max())


def _runs(inside: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return [first, last) of each stretch of True."""
    edges = np.flatnonzero(np.diff(inside.astype(np.int8), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def trips(motion: Motion, least_m: float = 50.0) -> list[tuple[float, float]]:
    """Return start and end in s of each stretch with the ignition on in which the car goes somewhere."""
    last = len(motion.distance) - 1
    runs = [
        (a, b) for a, b in _runs(motion.ignition > 0.5) if motion.distance[min(b, last)] - motion.distance[a] > least_m
    ]
    return [(round(a * DT, 3), round(b * DT, 3)) for a, b in runs]


def stops(motion: Motion, least_s: float = 1.0) -> list[tuple[float, float]]:
    """Return start and end in s of each standstill of at least `least_s` between two moving stretches."""
    found = _runs(motion.speed < 0.05)
    inner = [(a, b) for a, b in found if a > 0 and b < len(motion.speed)]
    return [(round(a * DT, 3), round(b * DT, 3)) for a, b in inner if (b - a) * DT >= least_s]


def hills(motion: Motion, grade: float = 0.05, least_s: float = 5.0) -> list[tuple[float, float]]:
    """Return start and end in s of each climb or descent that leaks gravity forward: no event, however it feels."""
    steep = (np.abs(np.tan(motion.slope)) >= grade) & (motion.speed > 1.0)
    return [(round(a * DT, 3), round(b * DT, 3)) for a, b in _runs(steep) if (b - a) * DT >= least_s]
