"""The records that the device keeps, signs and sends, and that the receiver stores: the shared vocabulary.

Every record is a frozen msgspec struct; its JSON form is the body of one signed lane entry. Times are monotonic ns
of one boot (`t_ns`); what UTC that was is said by the boot's `Clock` records and applied by whoever shows a time.
"""

import hashlib
from typing import Final, Literal

import msgspec

SCHEMA_VERSION: Final = 1

# Lanes, most urgent first: the order in which sync sends (DESIGN §6).
LANES: Final = ("crash", "reply", "event", "trip", "health", "clip", "track")

Severity = Literal["minor", "moderate", "severe"]
SEVERITIES: Final[tuple[Severity, ...]] = ("minor", "moderate", "severe")
EventKind = Literal[
    "harsh_braking",
    "harsh_acceleration",
    "harsh_cornering",
    "speeding",
    "idling",
    "over_rev",
    "fatigue",
    "device_moved",
    # impacts that are no crash
    "bump",
    "parked_impact",
    # the box and its surroundings
    "towed",
    "power_lost",
    "low_battery",
    "vin_mismatch",
    "gnss_lost",
    "gnss_jammed",
    "over_temperature",
    "disk_nearly_full",
    "clock_unknown",
    "dtc_set",
    "dtc_cleared",
    "camera_lost",
    "camera_frozen",
    "camera_blind",
    "camera_blurred",
    "camera_slow",
]
# How the car is driven: only these may ever weigh in a score. All others are about the box, the car or what befell it.
DRIVING_KINDS: Final[frozenset[str]] = frozenset(
    ("harsh_braking", "harsh_acceleration", "harsh_cornering", "speeding", "idling", "over_rev", "fatigue")
)
CrashKind = Literal["impact", "rollover", "suspected"]
TimeQuality = Literal["none", "restored", "ntp", "gnss"]
# refused: not allowed here; failed: it was allowed and could not be done
ReplyState = Literal["accepted", "done", "refused", "failed"]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all records share: nothing but being frozen and strict."""


class Window(Record, frozen=True, kw_only=True):
    """The state around an event at 10 Hz, kept so that it can be shown, disputed and recomputed.

    `start_ns` is the first row's time; the lists are equally long, None where a value was not known.
    """

    start_ns: int
    speed_mps: list[float | None]
    longitudinal_mps2: list[float | None]
    lateral_mps2: list[float | None]


class Event(Record, frozen=True, kw_only=True):
    """Something that happened, by which rule, seen by which sources; unconfirmed events never weigh in a score."""

    kind: EventKind
    severity: Severity
    confirmed: bool
    t_ns: int  # start
    duration_ns: int
    peak: float  # in `unit`, signed as measured (braking negative)
    unit: str
    speed_before_mps: float | None
    rule: str  # name and version, e.g. "harsh_braking/1"
    sources: list[str]
    latitude: float | None = None
    longitude: float | None = None
    window: Window | None = None
    trip_t_ns: int | None = None  # start of the trip that it belongs to
    limit_mps: float | None = None  # speeding: the limit that applied
    # from which it is minor, moderate, severe, in `unit`, as applied to this vehicle: what a person needs to judge it
    levels: tuple[float, float, float] | None = None
    detail: str = ""  # what it was about, where a number does not say it: a fault code, a VIN, the name of a part


class Quality(Record, frozen=True, kw_only=True):
    """How good a trip's data are, as shares of its duration (0..1) unless a unit is named."""

    gap_s: float  # total time without any sample
    longest_gap_s: float
    speed_share: dict[str, float]  # source name -> share of the time it gave a fresh, agreeing speed
    position_share: float
    mount_confidence: float  # 0..1; 0 without a learned mount
    time: TimeQuality


class Trip(Record, frozen=True, kw_only=True):
    """One trip, engine on to engine off, with what a price or a person needs; the track follows in its own lane."""

    start_ns: int
    end_ns: int
    start_latitude: float | None
    start_longitude: float | None
    end_latitude: float | None
    end_longitude: float | None
    distance_m: float  # by the fused speed, but no more than the positions' path where these cover the trip
    distance_by_source_m: dict[str, float]
    moving_s: float
    idle_s: float
    stops: int
    max_speed_mps: float
    speed_histogram_s: list[float]  # seconds per band of 10 km/h from 0; the last band is open
    night_s: float  # 22:00-05:00 local solar hours where `hour_of_day_s` is told, else 0
    hour_of_day_s: list[float]  # 24 entries, UTC hours; empty where the time was not known to a minute when it ended
    event_counts: dict[str, int]  # "kind.severity" confirmed events; "kind.unconfirmed"
    smoothness_mps2: float  # root mean square of longitudinal acceleration while moving
    quality: Quality
    track_points: int
    track_error_m: float  # stated bound: no removed fix lies farther from the simplified line


class Clock(Record, frozen=True, kw_only=True):
    """What UTC a boot's monotonic clock shows: utc_ns = t_ns + offset_ns, learned at `t_ns`, valid for the boot."""

    t_ns: int
    offset_ns: int
    quality: TimeQuality
    uncertainty_ns: int


class Mount(Record, frozen=True, kw_only=True):
    """How the box sits in the car: unit vectors in box axes; confidence 0..1."""

    t_ns: int
    gravity: tuple[float, float, float]  # direction of the rest reading of the accelerometer: up
    forward: tuple[float, float, float]
    confidence: float


class Health(Record, frozen=True, kw_only=True):
    """A state change of a device or of the box itself."""

    t_ns: int
    source: str  # device or part, e.g. "canbus:can0", "store", "gps"
    state: Literal["ok", "degraded", "lost"]
    detail: str  # one plain sentence
    counts: dict[str, int] = {}
    facts: dict[str, str] = {}  # what was learned, by name: the same in a form that a program reads


class Track(Record, frozen=True, kw_only=True):
    """Simplified positions of one trip, delta coded: degrees × 1e7 and ms since `start_ns`, first values absolute."""

    trip_start_ns: int
    start_ns: int
    error_m: float
    dt_ms: list[int]
    dlat_e7: list[int]
    dlon_e7: list[int]
    speed_cmps: list[int]  # cm/s at each point, -1 unknown


class Curve(Record, frozen=True, kw_only=True):
    """Speed and acceleration of one trip once a second, for the page: the value of largest magnitude in each second.

    Integers in cm/s and cm/s²; None where a value was not known.
    """

    trip_start_ns: int
    start_ns: int
    step_ms: int
    speed_cmps: list[int | None]
    longitudinal_cmps2: list[int | None]
    lateral_cmps2: list[int | None]


class Crash(Record, frozen=True, kw_only=True):
    """A collision: told as soon as it is known (`complete` false), and told again when all of it has been measured.

    Velocity changes are of the vehicle, in its axes (ISO 8855: x forward, y left), None where the mount is not known;
    they count from `t_ns`, time zero. The direction is where the force came from, seen from above: 0 the front,
    clockwise; its clock hour is 12 for the front, 3 for the right.
    """

    id: str  # the incident, 16 hex digits: `incident_id`
    kind: CrashKind
    t_ns: int  # time zero
    known_ns: int  # when the threshold was reached
    complete: bool
    locked: bool  # 25 km/h or more in 150 ms
    number: int  # 1, or more where it began within 5 s of the one before
    since_previous_ns: int | None
    delta_v_longitudinal_mps: float | None  # of largest magnitude within 300 ms
    delta_v_lateral_mps: float | None
    delta_v_mps: float | None  # largest resultant in the horizontal plane; None without an accelerometer
    delta_v_max_ns: int | None  # when that was reached, after time zero
    direction_deg: float | None
    direction_clock: int | None
    peak_mps2: float | None
    clipped: bool  # the sensor was at its rail: velocity changes are lower bounds
    roll_deg: float | None  # rollover: the angle to upright that was reached
    curve_step_ms: int
    curve_longitudinal_cmps: list[int]  # velocity change so far, from time zero; the resultant where no mount is known
    curve_lateral_cmps: list[int]  # empty where no mount is known
    speed_before_mps: float | None
    speed_after_mps: float | None
    confirmed_by: list[str]  # what else says so: "speed_collapse", "airbag", "fuel_cut", …
    sensors: list[str]
    rate_hz: float | None  # of the accelerometer
    mount_confidence: float
    rule: str
    latitude: float | None = None
    longitude: float | None = None
    accuracy_m: float | None = None
    position_age_ms: int | None = None  # of that place at time zero
    heading_deg: float | None = None
    trip_t_ns: int | None = None


class PackageFile(Record, frozen=True, kw_only=True):
    """One file of a package."""

    name: str  # without any folder
    size: int
    sha256: str


class Package(Record, frozen=True, kw_only=True):
    """The files around one incident that stand on the device, complete and signed, and wait to be fetched.

    `files` holds everything in the package folder, its manifest and the manifest's signature included.
    """

    incident: str
    t_ns: int  # time zero of the incident, or start of what was asked for
    complete: bool  # nothing will be added
    files: list[PackageFile]


class Reply(Record, frozen=True, kw_only=True):
    """What came of one command: told when it is taken up, and again when it is over.

    It names who asked and why, so that the owner sees it whoever asked. A device knows by its replies which commands
    it has had: none is obeyed twice.
    """

    id: str  # of the command, 32 hex digits
    t_ns: int
    command: str  # its name, e.g. "clip"
    state: ReplyState
    detail: str  # one plain sentence
    actor: str  # who asked, as the receiver says …
    reason: str  # … and why
    key: str  # that signed the command, 64 hex digits
    expires_utc_ns: int  # of the command
    incident: str | None = None  # the package that comes of it


def incident_id(boot: str, t_ns: int) -> str:
    """Name an incident by boot and time zero (in ms, since stored times are rounded): 16 hex digits."""
    return hashlib.sha256(f"{boot}:{t_ns // 1_000_000}".encode()).hexdigest()[:16]


# kind in a lane entry -> type of its body
KINDS: Final[dict[str, type[Record]]] = {
    "event": Event,
    "trip": Trip,
    "clock": Clock,
    "mount": Mount,
    "health": Health,
    "track": Track,
    "curve": Curve,
    "crash": Crash,
    "package": Package,
    "reply": Reply,
}
KIND_LANES: Final[dict[str, str]] = {
    "event": "event",
    "clock": "event",
    "trip": "trip",
    "mount": "health",
    "health": "health",
    "track": "track",
    "curve": "track",
    "crash": "crash",
    "package": "clip",
    "reply": "reply",
}
