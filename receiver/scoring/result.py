"""What a score says, for pages, prices and renewals: plain structs, the same bytes for the same records and model.

Points lost are whole hundredths, so that every table adds up exactly: the lines of `losses` to `lost`, the shares of
one line to its own. Nothing here says where a car was: kilometres, times and the numbers of signed entries only.
"""

from typing import Literal

import msgspec

LeftOutReason = Literal[
    "time_unknown", "too_short", "quality_low", "not_measured", "disputed", "implausible", "altered", "duplicate"
]
IgnoredReason = Literal["unconfirmed", "disputed", "no_trip", "trip_left_out", "altered", "duplicate", "not_in_model"]


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    """What all parts of a result share."""


class EntryId(msgspec.Struct, frozen=True, order=True):
    """The signed entry of a device behind a trip or an event."""

    lineage: str
    lane: str
    seq: int


class Share(Struct, frozen=True, kw_only=True):
    """How many hundredths of a point one trip, or one event of it, costs within its line."""

    trip: EntryId
    event: EntryId | None  # None: the trip as a whole
    lost: int


class Line(Struct, frozen=True, kw_only=True):
    """One term of the model: what was measured, what it does to the risk, and what it costs."""

    term: str
    value: float | None  # in `unit`, before the cap; None where the box does not measure it or cannot know it yet
    unit: str
    best: float
    cap: float | None
    capped: bool
    log_effect: float  # coefficient × (capped value − centre): its addend to ln(relativity)
    scored: bool  # False: it moves the relativity for the price, not the score
    status: Literal["assumed", "calibrated", "published"]
    lost: int  # hundredths of a point
    shares: list[Share]


class LeftOut(Struct, frozen=True, kw_only=True):
    """A trip that was not scored, and why."""

    trip: EntryId
    reason: LeftOutReason
    km: float | None


class Ignored(Struct, frozen=True, kw_only=True):
    """An event that weighs nothing, and why."""

    event: EntryId
    kind: str
    severity: str
    reason: IgnoredReason


class Exposure(Struct, frozen=True, kw_only=True):
    """How much was driven, when and how fast, in the trips that were scored; shares are 0..1, None without a basis."""

    trips: int
    km: float
    hours: float
    night_share: float | None  # of driving time, 22:00-05:00 local solar time
    peak_share: float | None  # of driving time, 07-09 and 17-19 h in the model's zone
    speed_bands_h: list[float]  # hours per band of 10 km/h from 0; the last band is open
    roughness_mps2: float | None  # time-weighted root mean square of lengthwise acceleration
    events: dict[str, int]  # "kind.severity" of driving events that are confirmed and not disputed
    left_out_km: float
    quality: float | None  # share of all kilometres of the period that could be scored


class Period(Struct, frozen=True, kw_only=True):
    """The time that was looked at: from the later of its start and the first trip in it, up to, not including, end."""

    start_utc_ns: int
    end_utc_ns: int
    days: float
    km_year: float | None  # all dated kilometres, as a year's; None for too short a period


class Advice(Struct, frozen=True, kw_only=True):
    """One change and what it would give: `score` afterwards, everything else being as it is."""

    term: str  # of the model, or "evidence": more kilometres driven as until now
    now: float
    then: float
    unit: str
    gain: int  # hundredths of a point
    score: int


class Mileage(Struct, frozen=True, kw_only=True):
    """The part of a relativity that is distance: (km a year / reference) ^ exponent, flat beyond its bounds."""

    km_year: float
    reference_km: float
    exponent: float
    low_km: float
    high_km: float


class ScoreResult(Struct, frozen=True, kw_only=True):
    """The score of one vehicle and all that explains it.

    A price takes `model`, `digest`, `relativity`, `credibility` and `km`, and only where `for_price` is true; without
    evidence these are 1, 0 and 0, so that nothing moves.
    """

    device: str
    model: str  # "name/version"
    digest: str  # SHA-256 of the model's file
    for_price: bool
    score: int | None  # 0..100; None without a scored trip
    start: int | None  # what the score is before anything is known; None where the model has no such point
    relativity: float  # r: expected claims of a year against the average vehicle; 1 where not `for_price`
    relativity_without_mileage: float  # the same for a price by the kilometre
    mileage: Mileage | None  # what is between the two; None where a year's kilometres are not known or not weighed
    credibility: float  # Z = km / (km + K)
    km: float
    period: Period | None
    exposure: Exposure
    lost: int  # 100 × (100 − score)
    not_yet_known: int  # hundredths of a point that only more kilometres can give
    lines: list[Line]
    left_out: list[LeftOut]
    ignored: list[Ignored]
    advice: list[Advice]
