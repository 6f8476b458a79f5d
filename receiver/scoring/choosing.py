"""Which trips are scored and which events weigh; everything that is not used is listed with its reason."""

from dataclasses import dataclass, replace
from typing import Final

from agent.clock import NS_PER_S
from agent.records import SEVERITIES
from receiver.scoring.driven import DrivenEvent, DrivenTrip, History, TripFacts
from receiver.scoring.model import Model
from receiver.scoring.result import EntryId, Ignored, IgnoredReason, LeftOut, LeftOutReason

LONGEST_TRIP_S: Final = 48 * 3600.0
FASTEST_MPS: Final = 100.0
SLACK_S: Final = 120.0  # sums of seconds are rounded and end with the last sample, not with the trip


@dataclass(frozen=True, slots=True)
class Selection:
    """The trips that are scored, in the order of time, with only the events that weigh; and all that does not."""

    trips: list[DrivenTrip]
    left_out: list[LeftOut]
    ignored: list[Ignored]
    dated: list[tuple[int, float]]  # UTC and km of every trip with a time and a distance, scored or not


def choose(history: History, model: Model) -> Selection:
    """Choose what is scored; what is disputed weighs nothing until somebody rejects the dispute."""
    contested, weighs = history.disputed, _weighs(model)
    ordered = sorted(history.trips, key=lambda t: (t.start_utc_ns or 0, t.id))
    newest = {trip.key: trip.id for trip in sorted(history.trips, key=lambda t: t.id)}
    events: dict[tuple[str, int] | None, list[DrivenEvent]] = {}
    for event in sorted(history.events, key=lambda e: e.id):
        events.setdefault(event.trip if event.trip in newest else None, []).append(event)
    ignored = [_ignored(event, "no_trip") for event in events.get(None, [])]
    chosen: list[DrivenTrip] = []
    left_out: list[LeftOut] = []
    dated: list[tuple[int, float]] = []
    for trip in ordered:
        reason = _unfit(trip, model) if newest[trip.key] == trip.id else "duplicate"
        if reason is None and trip.id in contested:
            reason = "disputed"
        if reason in (None, "too_short", "quality_low", "not_measured") and trip.start_utc_ns is not None:
            dated.append((trip.start_utc_ns, trip.km))
        if reason is not None:
            known = trip.facts is not None and reason != "implausible"
            left_out.append(LeftOut(trip=trip.id, reason=reason, km=trip.km if known else None))
        if reason == "duplicate":
            continue
        own = events.get(trip.key, [])
        if reason is not None:
            ignored += [_ignored(event, "trip_left_out") for event in own]
            continue
        kept, nothing = _sorted_out(own, contested, weighs)
        ignored += nothing
        disputes = [e.facts for e in own if e.facts and e.id in contested]
        chosen.append(replace(trip, events=kept, contested=disputes))
    return Selection(chosen, left_out, sorted(ignored, key=lambda i: i.event), dated)


def _weighs(model: Model) -> frozenset[tuple[str, str]]:
    """Return every (kind, severity) that a term of the model counts."""
    told = {(kind, s) for term in model.terms for kind in term.kinds for s in term.severities or SEVERITIES}
    if any(term.measure == "speeding" for term in model.terms):
        told |= {("speeding", severity) for severity in SEVERITIES}
    return frozenset(told)


def _sorted_out(
    events: list[DrivenEvent], contested: frozenset[EntryId], weighs: frozenset[tuple[str, str]]
) -> tuple[list[DrivenEvent], list[Ignored]]:
    kept: list[DrivenEvent] = []
    ignored: list[Ignored] = []
    seen: set[tuple[str, int]] = set()
    for event in events:
        facts = event.facts
        reason: IgnoredReason
        if facts is None:
            reason = "altered"
        elif not facts.confirmed:
            reason = "unconfirmed"
        elif event.id in contested:
            reason = "disputed"
        elif (facts.kind, facts.severity) not in weighs:
            reason = "not_in_model"
        elif (facts.kind, facts.t_ns) in seen:
            reason = "duplicate"
        else:
            seen.add((facts.kind, facts.t_ns))
            kept.append(event)
            continue
        ignored.append(_ignored(event, reason))
    return kept, ignored


def _ignored(event: DrivenEvent, reason: IgnoredReason) -> Ignored:
    return Ignored(event=event.id, kind=event.kind, severity=event.severity, reason=reason)


def _unfit(trip: DrivenTrip, model: Model) -> LeftOutReason | None:
    facts, rules = trip.facts, model.trips
    if facts is None:
        return "altered"
    if not _plausible(facts):
        return "implausible"
    if trip.start_utc_ns is None or trip.time not in rules.times:
        return "time_unknown"
    if facts.distance_m < rules.min_km * 1000.0:
        return "too_short"
    seconds = (facts.end_ns - facts.start_ns) / NS_PER_S
    covered = max(facts.quality.speed_share.values(), default=0.0)
    poor = covered < rules.min_speed_share or facts.quality.gap_s > rules.max_gap_share * seconds
    if poor:
        return "quality_low"
    return "not_measured" if model.needs_curves and not trip.curves else None


def _plausible(facts: TripFacts) -> bool:
    """Say whether the numbers can be those of a drive: a record is right by type and signed, but may say anything."""
    seconds = (facts.end_ns - facts.start_ns) / NS_PER_S
    if not 0.0 < seconds <= LONGEST_TRIP_S or not 0.0 <= facts.distance_m <= FASTEST_MPS * seconds:
        return False
    parts = (facts.hour_of_day_s, facts.speed_histogram_s, [facts.moving_s], [facts.night_s])
    if any(min(part, default=0.0) < 0.0 or sum(part) > seconds + SLACK_S for part in parts):
        return False
    shares = (facts.quality.mount_confidence, *facts.quality.speed_share.values())
    in_bounds = 0.0 <= facts.smoothness_mps2 <= FASTEST_MPS and facts.quality.gap_s >= 0.0
    return in_bounds and len(facts.hour_of_day_s) in (0, 24) and all(0.0 <= s <= 1.0 for s in shares)
