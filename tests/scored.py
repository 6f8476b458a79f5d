"""What the tests of scores share: drives as facts, made without a database, with every number chosen."""

from typing import Any

from msgspec.structs import replace

from receiver.scoring.driven import CurveFacts, DrivenEvent, DrivenTrip, EventFacts, History, QualityFacts, TripFacts
from receiver.scoring.model import Model, model
from receiver.scoring.result import EntryId, Line, ScoreResult
from receiver.scoring.score import score_history
from tests.pages import NOW, S

LINEAGE = "0123456789ab"
DAY = 86_400 * S
V1, V2, TESLA = (model(name) for name in ("relativity/1", "relativity/2", "tesla/1"))


def facts(km: float = 10.0, start_ns: int = 100 * S, seconds: float = 900.0, **changed: Any) -> TripFacts:
    """Return a quiet drive at 04:00 UTC, noon in Shanghai."""
    told = TripFacts(
        start_ns=start_ns,
        end_ns=start_ns + round(seconds * S),
        distance_m=km * 1000.0,
        moving_s=seconds,
        night_s=0.0,
        hour_of_day_s=[0.0] * 4 + [seconds] + [0.0] * 19,
        speed_histogram_s=[0.0] * 6 + [seconds] + [0.0] * 14,
        smoothness_mps2=0.6,
        quality=QualityFacts(gap_s=0.0, speed_share={"wheel": 1.0}, mount_confidence=0.9),
    )
    return replace(told, **changed)


def driven(n: int, told: TripFacts | None, utc_ns: int | None = None, **changed: Any) -> DrivenTrip:
    """Return trip number `n`, a day after the one before."""
    at = NOW - 200 * DAY + n * DAY if utc_ns is None else utc_ns
    start = told.start_ns if told else 0
    made = DrivenTrip(EntryId(LINEAGE, "trip", n + 1), f"boot-{n}", start, at, "gnss", told)
    for name, value in changed.items():
        setattr(made, name, value)
    return made


def happened(
    seq: int, trip: DrivenTrip, kind: str = "harsh_braking", severity: str = "severe", **changed: Any
) -> DrivenEvent:
    """Return a confirmed event of a trip; entry `seq` of its lane."""
    told = {"confirmed": True, "t_ns": 200 * S + seq * S, "duration_ns": S, "peak": -4.6, "sources": ["wheel", "gnss"]}
    event = EventFacts(kind=kind, severity=severity, **{**told, **changed})  # type: ignore[arg-type]
    return DrivenEvent(EntryId(LINEAGE, "event", seq), trip.key, kind, severity, event)


def speeding(seq: int, trip: DrivenTrip, seconds: float, share: float, limit_mps: float = 20.0) -> DrivenEvent:
    """Return driving at `share` of a limit."""
    told = {"duration_ns": round(seconds * S), "peak": share * limit_mps, "limit_mps": limit_mps}
    return happened(seq, trip, "speeding", "minor", **told)


def curve(longitudinal: list[int | None], lateral: list[int | None], start_ns: int = 100 * S) -> CurveFacts:
    return CurveFacts(start_ns=start_ns, step_ms=1000, longitudinal_cmps2=longitudinal, lateral_cmps2=lateral)


def scored(
    trips: list[DrivenTrip],
    events: list[DrivenEvent] | tuple[DrivenEvent, ...] = (),
    of: Model = V1,
    disputed: tuple[EntryId, ...] = (),
    days: float | None = None,
) -> ScoreResult:
    """Score drives; `days` fixes the length of the period."""
    end = None if days is None else min(t.start_utc_ns or NOW for t in trips) + round(days * DAY)
    return score_history(History("rw-1", list(trips), list(events), frozenset(disputed)), of, None, end)


def line(result: ScoreResult, term: str) -> Line:
    return next(one for one in result.lines if one.term == term)


def adds_up(result: ScoreResult) -> None:
    """Check that every hundredth of a point lost is told once."""
    assert result.score is not None
    assert result.lost == 100 * (100 - result.score)
    assert result.lost == result.not_yet_known + sum(one.lost for one in result.lines)
    assert result.not_yet_known >= 0
    for one in result.lines:
        assert one.lost >= 0
        assert one.lost == sum(share.lost for share in one.shares)
        assert all(share.lost > 0 for share in one.shares)
        assert one.scored or one.lost == 0
