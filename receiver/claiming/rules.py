"""The checks of a claim against the evidence: pure rules, each with what it looked at, what it found, and where.

A finding is never a refusal: nothing here knows an amount or a state (PIPL art. 24: no decision by machine alone).
People decide; a flag tells them where to look. Words for findings are in text/*.toml under the rule's name and reason.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, Literal

import msgspec

from agent.clock import NS_PER_S
from receiver.claiming.facts import Evidence, Facts, Limits, Place, Point, metres
from receiver.claiming.together import other_party

Result = Literal["clear", "flag", "unknown"]
Figure = float | int | str | bool | None
NS_PER_H: Final = 3600 * NS_PER_S
GOOD_CLOCKS: Final = ("gnss", "ntp")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule found: `figures` are its inputs and results, `limits` what they were held against."""

    rule: str  # name and version, as events have it
    result: Result
    reason: str  # key of the words
    figures: dict[str, Figure] = {}
    limits: dict[str, float] = {}
    evidence: list[Evidence] = []

    @property
    def name(self) -> str:
        """Return the rule's name without its version."""
        return self.rule.partition("/")[0]


def check(facts: Facts, limits: Limits) -> list[Finding]:
    """Apply every rule, in the order of RULES."""
    return [rule(facts, limits) for rule in RULES.values()]


def report_delay(f: Facts, k: Limits) -> Finding:
    """Hold the notice against 48 h: the insured's report, and the device's own first record."""
    if f.impact is None or f.impact.utc_ns is None:
        # without a device's time zero the declared time is all there is
        zero_ns = None if f.report is None else f.report.loss_utc_ns
    else:
        zero_ns = f.impact.utc_ns
    refs = _refs(f)
    held = {"notice_h": k.notice_h}
    if zero_ns is None:
        return _found("report_delay", "unknown", "no_time", evidence=refs, limits=held)
    told_s = None if f.impact is None or f.noticed_utc_ns is None else (f.noticed_utc_ns - zero_ns) / NS_PER_S
    delay_h = None if f.report is None else (f.report.reported_utc_ns - zero_ns) / NS_PER_H
    late = delay_h is not None and delay_h > k.notice_h
    figures: dict[str, Figure] = {
        "notice_delay_h": None if delay_h is None else round(delay_h, 4),
        "late": late,
        "device_notice": told_s is not None,
        "device_notice_s": None if told_s is None else round(told_s, 3),
    }
    unsure_ns = 0 if f.impact is None else f.impact.uncertainty_ns
    reason = "in_time"
    if late:
        reason = ">48h"
    elif delay_h is not None and delay_h * NS_PER_H < -unsure_ns:
        reason = "before_impact"
    elif delay_h is None:
        reason = "device_only"
    result: Result = "flag" if reason in (">48h", "before_impact") else "clear"
    return _found("report_delay", result, reason, figures, held, refs)


def place_mismatch(f: Facts, k: Limits) -> Finding:
    """Hold the declared place against that of time zero."""
    held = {"place_m": k.place_m}
    if f.impact is None or f.impact.place is None:
        return _found("place_mismatch", "unknown", "no_fix", limits=held, evidence=_refs(f))
    if f.report is None or f.report.place is None:
        return _found("place_mismatch", "unknown", "not_declared", limits=held, evidence=_refs(f))
    apart_m = metres(f.impact.place, f.report.place)
    far = apart_m > k.place_m
    figures: dict[str, Figure] = {
        "distance_m": round(apart_m, 2),
        "place_mismatch": far,
        "accuracy_m": round(f.impact.accuracy_m, 1),
        "latitude": f.impact.place.latitude,
        "longitude": f.impact.place.longitude,
        "declared_latitude": f.report.place.latitude,
        "declared_longitude": f.report.place.longitude,
    }
    return _found("place_mismatch", "flag" if far else "clear", "far" if far else "near", figures, held, _refs(f))


def moved_after(f: Facts, k: Limits) -> Finding:
    """Say whether the car was moved from where it was at time zero."""
    held = {"moved_m": k.moved_m, "watched_s": k.watched_s}
    watched = _watched(f, k)
    if f.impact is None or f.impact.place is None or not watched:
        return _found("moved_after", "unknown", "no_track", limits=held, evidence=_refs(f))
    zero = f.impact.place
    farthest = max(watched, key=lambda p: metres(zero, p.place))
    displaced_m = metres(zero, farthest.place)
    moved = displaced_m > k.moved_m
    figures: dict[str, Figure] = {
        "displacement_m": round(displaced_m, 1),
        "moved": moved,
        "after_s": round(farthest.t_s, 1),
        "engine_on": farthest.engine_on,
        "watched_until_s": round(watched[-1].t_s, 1),
    }
    reason = "still" if not moved else "driven" if farthest.engine_on else "pushed_or_towed"
    return _found("moved_after", "flag" if moved else "clear", reason, figures, held, _refs(f, farthest.ref))


def left_scene(f: Facts, k: Limits) -> Finding:
    """Add up what was driven with the engine on within 10 min of a locked event."""
    held = {"left_m": k.left_m, "watched_s": k.watched_s}
    watched = _watched(f, k)
    if f.impact is None or not watched:
        return _found("left_scene", "unknown", "no_track", limits=held, evidence=_refs(f))
    driven_m = _driven_m(f.impact.place, watched, k.step_m)
    far = driven_m > k.left_m
    figures: dict[str, Figure] = {"driven_m": round(driven_m, 1), "left_scene": far and f.locked, "locked": f.locked}
    if far and not f.locked:
        # after a light collision the law wants the road cleared: no flag
        return _found("left_scene", "clear", "light", figures, held, _refs(f))
    return _found("left_scene", "flag" if far else "clear", "left" if far else "stayed", figures, held, _refs(f))


def power_cut(f: Facts, k: Limits) -> Finding:
    """Say whether the box lost its supply within 5 min of time zero."""
    held = {"power_s": k.power_s}
    if f.impact is None:
        return _found("power_cut", "unknown", "no_impact", limits=held)
    cut = next((c for c in f.power_cuts if 0 <= c.t_s < k.power_s), None)
    whole = f.package.state == "proved" and f.package.complete
    if cut is None:
        return _found("power_cut", "clear", "supplied", {"tamper_power": False}, held, _refs(f))
    figures: dict[str, Figure] = {"tamper_power": True, "after_s": round(cut.t_s, 1), "package_complete": whole}
    return _found("power_cut", "flag", "cut", figures, held, _refs(f, cut.ref))


def device_moved(f: Facts, k: Limits) -> Finding:
    """Say whether the box sat differently after time zero."""
    held = {"turned_deg": k.turned_deg, "turned_within_s": k.turned_within_s}
    if f.impact is None:
        return _found("device_moved", "unknown", "no_impact", limits=held)
    turns = [t for t in f.turns if 0 <= t.t_s <= k.turned_within_s]
    turn = max(turns, key=lambda t: t.amount, default=None)
    if turn is None or turn.amount <= k.turned_deg:
        largest = None if turn is None else round(turn.amount, 1)
        return _found("device_moved", "clear", "as_before", {"angle_deg": largest}, held, _refs(f))
    figures: dict[str, Figure] = {"angle_deg": round(turn.amount, 1), "after_s": round(turn.t_s, 1)}
    if f.kind == "rollover":  # the car lies on its side: the box with it
        return _found("device_moved", "unknown", "rollover", figures, held, _refs(f, turn.ref))
    return _found("device_moved", "flag", "turned", figures, held, _refs(f, turn.ref))


def no_impact(f: Facts, k: Limits) -> Finding:
    """Say whether the device measured an impact at the claimed time."""
    held = {"same_loss_s": k.same_loss_s}
    if f.impact is None:
        if not f.recorded:
            return _found("no_impact", "unknown", "no_record", {"recorded": False}, held, _refs(f))
        return _found("no_impact", "flag", "none", {"recorded": True}, held, _refs(f))
    apart_s = None
    if f.report is not None and f.impact.utc_ns is not None:
        apart_s = round((f.report.loss_utc_ns - f.impact.utc_ns) / NS_PER_S, 1)
    figures: dict[str, Figure] = {"apart_s": apart_s, "kind": f.kind, "delta_v_kmh": _kmh(f.impact.delta_v_mps)}
    if apart_s is not None and abs(apart_s) > k.same_loss_s:
        return _found("no_impact", "flag", "other_time", figures, held, _refs(f))
    if f.kind == "suspected":
        return _found("no_impact", "unknown", "suspected", figures, held, _refs(f))
    return _found("no_impact", "clear", "measured", figures, held, _refs(f))


def evidence(f: Facts, k: Limits) -> Finding:
    """Say whether the package is there, proved and complete."""
    held = {"package_h": k.package_h}
    p = f.package
    figures: dict[str, Figure] = {
        "state": p.state,
        "complete": p.complete,
        "missing": ", ".join(p.missing[:20]),
        "faults": "; ".join(p.faults[:20]),
    }
    refs = [p.ref] if p.ref.ref else []
    since_ns = f.noticed_utc_ns
    overdue = since_ns is not None and f.now_utc_ns - since_ns > k.package_h * NS_PER_H
    if f.impact is None:
        return _found("evidence", "unknown", "no_impact", figures, held)
    if p.state == "failed":
        return _found("evidence", "flag", "failed", figures, held, refs)
    if p.state != "proved":
        reason = "missing" if overdue else "awaited"
        return _found("evidence", "flag" if overdue else "unknown", reason, figures, held, refs)
    if p.missing or not p.complete:
        return _found("evidence", "flag", "incomplete", figures, held, refs)
    return _found("evidence", "clear", "proved", figures, held, refs)


def clock(f: Facts, k: Limits) -> Finding:
    """Say whether the time of the impact can be relied on."""
    held = {"clock_s": k.clock_s}
    if f.impact is None:
        return _found("clock", "unknown", "no_impact", limits=held)
    unsure_s = round(f.impact.uncertainty_ns / NS_PER_S, 3)
    figures: dict[str, Figure] = {"quality": f.quality, "uncertainty_s": unsure_s}
    if f.impact.utc_ns is None or f.quality == "none":
        return _found("clock", "flag", "unset", figures, held, _refs(f))
    if f.quality not in GOOD_CLOCKS:
        return _found("clock", "flag", "restored", figures, held, _refs(f))
    unsure = unsure_s > k.clock_s
    return _found("clock", "flag" if unsure else "clear", "unsure" if unsure else "sure", figures, held, _refs(f))


def duplicate(f: Facts, k: Limits) -> Finding:
    """Look for another claim of the same car and the same time."""
    held = {"same_loss_s": k.same_loss_s}
    zero_ns = _zero_ns(f)
    if zero_ns is None:
        return _found("duplicate", "unknown", "no_time", limits=held)
    near = [c for c in f.other_claims if abs(c.utc_ns - zero_ns) <= k.same_loss_s * NS_PER_S]
    if not near:
        return _found("duplicate", "clear", "only", {"claims": 0}, held)
    named = ", ".join(c.claim for c in near[:20])
    refs = [Evidence("claim", c.claim) for c in near[:20]]
    return _found("duplicate", "flag", "again", {"claims": len(near), "others": named}, held, refs)


def crossed(f: Facts, k: Limits) -> Finding:
    """Hold the impact against that of another of our devices at the same time and place."""
    result, reason, figures, refs = other_party(f, k)
    held = {
        "together_s": k.together_s,
        "together_m": k.together_m,
        "mass_ratio": k.mass_ratio,
        "opposed_deg": k.opposed_deg,
    }
    return _found("other_party", result, reason, figures, held, [*_refs(f), *refs])


RULES: Final[dict[str, Callable[[Facts, Limits], Finding]]] = {
    "report_delay": report_delay,
    "place_mismatch": place_mismatch,
    "no_impact": no_impact,
    "moved_after": moved_after,
    "left_scene": left_scene,
    "power_cut": power_cut,
    "device_moved": device_moved,
    "evidence": evidence,
    "clock": clock,
    "duplicate": duplicate,
    "other_party": crossed,
}


def _found(
    rule: str,
    result: Result,
    reason: str,
    figures: dict[str, Figure] | None = None,
    limits: dict[str, float] | None = None,
    evidence: Sequence[Evidence] = (),
) -> Finding:
    return Finding(
        rule=f"{rule}/1",
        result=result,
        reason=reason,
        figures=figures or {},
        limits=limits or {},
        evidence=list(evidence),
    )


def _refs(f: Facts, *more: Evidence) -> list[Evidence]:
    own = [f.impact.ref] if f.impact is not None else []
    return own + ([f.report.ref] if f.report is not None else []) + list(more)


def _zero_ns(f: Facts) -> int | None:
    if f.impact is not None and f.impact.utc_ns is not None:
        return f.impact.utc_ns
    return None if f.report is None else f.report.loss_utc_ns


def _watched(f: Facts, k: Limits) -> list[Point]:
    return [p for p in f.after if 0 < p.t_s <= k.watched_s]


def _driven_m(zero: Place | None, points: Sequence[Point], step_m: float) -> float:
    """Add up the moves with the engine on; moves below `step_m` count once they have added up to it."""
    at = [*([] if zero is None else [zero]), *(p.place for p in points)]
    on = [*([] if zero is None else [points[0].engine_on]), *(p.engine_on for p in points)]
    driven_m, anchor = 0.0, at[0]
    for (_, here), engine_on in zip(pairwise(at), on[1:], strict=True):
        moved_m = metres(anchor, here)
        if moved_m >= step_m:
            driven_m += moved_m if engine_on else 0.0
            anchor = here
    return driven_m


def _kmh(mps: float | None) -> float | None:
    return None if mps is None else round(mps * 3.6, 1)
