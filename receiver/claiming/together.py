"""Two of our devices in one crash: do both records tell of the same collision?

By momentum m1·Δv1 = −m2·Δv2 [DELTAV]: the changes are in inverse ratio of the masses and point against each other.
Masses are not known to us, so the ratio must only be one that two cars or vans can have.
"""

import math
from collections.abc import Sequence
from typing import Literal

from agent.clock import NS_PER_S
from receiver.claiming.facts import Evidence, Facts, Impact, Limits, metres

Told = tuple[Literal["clear", "flag", "unknown"], str, dict[str, float | int | str | bool | None], list[Evidence]]


def near(mine: Impact, others: Sequence[Impact], limits: Limits) -> list[Impact]:
    """Return the impacts of other devices at the same time and place, the nearest in time first."""
    found = []
    for other in others:
        if None in (mine.utc_ns, other.utc_ns, mine.place, other.place):
            continue
        allowed_ns = limits.together_s * NS_PER_S + mine.uncertainty_ns + other.uncertainty_ns
        allowed_m = limits.together_m + mine.accuracy_m + other.accuracy_m
        apart_ns = abs(_apart_ns(mine, other))
        if apart_ns <= allowed_ns and mine.place and other.place and metres(mine.place, other.place) <= allowed_m:
            found.append((apart_ns, other))
    return [other for _, other in sorted(found, key=lambda pair: pair[0])]


def other_party(f: Facts, limits: Limits) -> Told:
    """Compare with the nearest impact of another device; a declared party whose device measured nothing is told."""
    if f.impact is None:
        return "unknown", "no_impact", {}, []
    there = near(f.impact, f.other_impacts, limits)
    silent = [d for d in f.other_devices if d not in {i.device for i in there}]
    if silent:
        return "flag", "silent", {"devices": ", ".join(silent[:20]), "found": len(there)}, []
    if not there:
        return "clear", "none", {"found": 0}, []
    return _compared(f.impact, there[0], len(there), limits)


def _compared(mine: Impact, other: Impact, found: int, limits: Limits) -> Told:
    place_m = metres(mine.place, other.place) if mine.place and other.place else 0.0
    figures: dict[str, float | int | str | bool | None] = {
        "found": found,
        "device": other.device,
        "incident": other.incident,
        "apart_s": round(_apart_ns(mine, other) / NS_PER_S, 3),
        "apart_m": round(place_m, 1),
        "ratio": None,
        "angle_deg": None,
    }
    refs = [other.ref]
    if not mine.delta_v_mps or not other.delta_v_mps:
        return "unknown", "not_comparable", figures, refs
    ratio = mine.delta_v_mps / other.delta_v_mps
    figures["ratio"] = round(ratio, 3)
    # a clipped sensor gives a lower bound: only what cannot grow into the allowed range is wrong
    too_small = ratio < 1 / limits.mass_ratio and not mine.clipped
    too_large = ratio > limits.mass_ratio and not other.clipped
    if too_small or too_large:
        return "flag", "ratio", figures, refs
    one, two = _over_ground(mine), _over_ground(other)
    if one is None or two is None:
        return "clear", "plausible", figures, refs
    angle = math.degrees(math.acos(max(-1.0, min(1.0, _dot(one, two) / math.sqrt(_dot(one, one) * _dot(two, two))))))
    figures["angle_deg"] = round(angle, 1)
    if 180.0 - angle > limits.opposed_deg:
        return "flag", "direction", figures, refs
    return "clear", "plausible", figures, refs


def _over_ground(i: Impact) -> tuple[float, float] | None:
    """Return the velocity change to the east and north; heading is clockwise from north, y is to the left."""
    if i.heading_deg is None or i.longitudinal_mps is None or i.lateral_mps is None:
        return None
    if math.hypot(i.longitudinal_mps, i.lateral_mps) == 0.0:
        return None
    sine, cosine = math.sin(math.radians(i.heading_deg)), math.cos(math.radians(i.heading_deg))
    x, y = i.longitudinal_mps, i.lateral_mps
    return x * sine - y * cosine, x * cosine + y * sine


def _dot(a: tuple[float, float], b: tuple[float, float]) -> float:
    return a[0] * b[0] + a[1] * b[1]


def _apart_ns(a: Impact, b: Impact) -> int:
    return 0 if a.utc_ns is None or b.utc_ns is None else b.utc_ns - a.utc_ns
