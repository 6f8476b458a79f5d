"""What the detector found, turned into records."""

from dataclasses import dataclass, field
from math import isnan
from typing import Any, Final, Literal

from agent.crash.measure import CURVE_STEP_MS, Measure, Trace
from agent.records import Crash, CrashKind, Event, Severity, incident_id

VERSION: Final = 1  # of every rule below; raised when a rule changes what it finds
Plan = Literal["told", "knock", "collapse", "standing", "parked", "clipped", "roll", "suspect"]


@dataclass(slots=True)
class Place:
    """Where the vehicle was; `t_ns` says when it was there."""

    latitude: float
    longitude: float
    accuracy_m: float | None
    heading_deg: float | None
    t_ns: int


@dataclass(slots=True)
class Incident:
    """One collision on its way from the threshold to its complete record."""

    kind: CrashKind
    zero_ns: int
    known_ns: int
    plan: Plan = "told"  # what must still be looked at before it may be told
    due: list[int] = field(default_factory=list)  # ns: when to look again
    decide_ns: int = 0
    measure_ns: int | None = None  # when all of it is in the ring
    gravity: Any = None  # float64[3] as at the threshold
    number: int = 1
    since_previous_ns: int | None = None
    mount_confidence: float = 0.0
    seen: Trace | None = None  # the last trace that reached back to time zero
    measured: Measure | None = None
    roll_deg: float | None = None
    speed_before_mps: float | None = None
    speed_after_mps: float | None = None
    source: int = -1  # of the speed that collapsed
    held_s: float = 0.0  # for how long that had not changed before
    end_ns: int = 0  # of the pulse, or of the collapse
    rate_hz: float | None = None
    confirmed_by: list[str] = field(default_factory=list)
    sensors: list[str] = field(default_factory=list)
    place: Place | None = None

    def confirm(self, by: str) -> None:
        """Note once what else says so."""
        if by not in self.confirmed_by:
            self.confirmed_by.append(by)


def crash(incident: Incident, boot: str, complete: bool) -> Crash:
    """Write the record of an incident as it is known now."""
    m, place = incident.measured, incident.place
    direction = m.direction_deg if m else None
    clock = None if direction is None else (round(direction / 30.0) % 12 or 12)
    return Crash(
        id=incident_id(boot, incident.zero_ns),
        kind=incident.kind,
        t_ns=incident.zero_ns,
        known_ns=incident.known_ns,
        complete=complete,
        locked=m.locked if m else False,
        number=incident.number,
        since_previous_ns=incident.since_previous_ns,
        delta_v_longitudinal_mps=_rounded(m.longitudinal_mps, 3) if m else None,
        delta_v_lateral_mps=_rounded(m.lateral_mps, 3) if m else None,
        delta_v_mps=_rounded(m.resultant_mps, 3) if m else None,
        delta_v_max_ns=m.max_ns if m else None,
        direction_deg=None if direction is None else round(direction, 1) % 360.0,
        direction_clock=clock,
        peak_mps2=_rounded(m.peak_mps2, 2) if m else None,
        clipped=m.clipped if m else False,
        roll_deg=_rounded(incident.roll_deg, 1),
        curve_step_ms=CURVE_STEP_MS,
        curve_longitudinal_cmps=m.longitudinal_cmps if m else [],
        curve_lateral_cmps=m.lateral_cmps if m else [],
        speed_before_mps=_rounded(incident.speed_before_mps, 3),
        speed_after_mps=_rounded(incident.speed_after_mps, 3),
        confirmed_by=list(incident.confirmed_by),
        sensors=list(incident.sensors),
        rate_hz=_rounded(incident.rate_hz, 1),
        mount_confidence=round(incident.mount_confidence, 3),
        rule=f"{incident.kind}/{VERSION}",
        latitude=_rounded(place.latitude, 7) if place else None,
        longitude=_rounded(place.longitude, 7) if place else None,
        accuracy_m=_rounded(place.accuracy_m, 1) if place else None,
        position_age_ms=(incident.zero_ns - place.t_ns) // 1_000_000 if place else None,
        heading_deg=_rounded(place.heading_deg, 1) if place else None,
    )


def bump(
    kind: Literal["bump", "parked_impact"],
    severity: Severity,
    begin_ns: int,
    end_ns: int,
    peak_mps2: float,
    speed_mps: float | None,
    levels_mps2: tuple[float, float, float],
    place: Place | None,
) -> Event:
    """Write a blow that is no crash; one sensor says so, so it is not confirmed."""
    return Event(
        kind=kind,
        severity=severity,
        confirmed=False,
        t_ns=begin_ns,
        duration_ns=max(end_ns - begin_ns, 0),
        peak=round(peak_mps2, 2),
        unit="m/s2",
        speed_before_mps=_rounded(speed_mps, 3),
        rule=f"{kind}/{VERSION}",
        sources=["imu"],
        latitude=_rounded(place.latitude, 7) if place else None,
        longitude=_rounded(place.longitude, 7) if place else None,
        levels=levels_mps2,
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None or isnan(value) else round(float(value), digits)
