"""Plausible records for tests that need some of each kind."""

from agent.records import (
    Clock,
    Crash,
    Event,
    Health,
    Mount,
    Package,
    PackageFile,
    Quality,
    Record,
    Reply,
    Track,
    Trip,
    Window,
    incident_id,
)

S = 1_000_000_000


def clock_record(t_ns: int = S, offset_ns: int = 1_790_000_000 * S, quality: str = "gnss") -> Clock:
    return Clock(t_ns=t_ns, offset_ns=offset_ns, quality=quality, uncertainty_ns=300_000_000)  # type: ignore[arg-type]


def event(n: int = 1, trip_t_ns: int | None = S) -> Event:
    t_ns = n * 10 * S
    speeds: list[float | None] = [round(14.0 - 0.31 * i, 2) for i in range(30)]
    forces: list[float | None] = [round(-0.1 * (i % 9) - 0.013 * n, 3) for i in range(30)]
    return Event(
        kind="harsh_braking",
        severity="moderate",
        confirmed=True,
        t_ns=t_ns,
        duration_ns=900_000_000,
        peak=-4.2 - n / 1000,
        unit="m/s2",
        speed_before_mps=14.0,
        rule="harsh_braking/1",
        sources=["imu", "wheel"],
        latitude=48.1 + n * 1e-4,
        longitude=11.5,
        window=Window(start_ns=t_ns - S, speed_mps=speeds, longitudinal_mps2=forces, lateral_mps2=[None] * 30),
        trip_t_ns=trip_t_ns,
    )


def trip(n: int = 1) -> Trip:
    return Trip(
        start_ns=n * S,
        end_ns=(n + 1800) * S,
        start_latitude=48.1,
        start_longitude=11.5,
        end_latitude=48.2,
        end_longitude=11.6,
        distance_m=12_345.6 + n,
        distance_by_source_m={"wheel": 12_340.0, "gnss": 12_360.5},
        moving_s=1500.0,
        idle_s=300.0,
        stops=4,
        max_speed_mps=25.3,
        speed_histogram_s=[300.0, 120.0, 200.0, 300.0, 400.0, 480.0],
        night_s=0.0,
        hour_of_day_s=[0.0] * 24,
        event_counts={"harsh_braking.moderate": 2, "speeding.minor": 1, "idling.unconfirmed": 1},
        smoothness_mps2=0.71,
        quality=Quality(
            gap_s=0.4,
            longest_gap_s=0.2,
            speed_share={"wheel": 1.0, "gnss": 0.98},
            position_share=0.99,
            mount_confidence=0.93,
            time="gnss",
        ),
        track_points=3,
        track_error_m=5.0,
    )


def track(n: int = 1) -> Track:
    return Track(
        trip_start_ns=n * S,
        start_ns=n * S,
        error_m=5.0,
        dt_ms=[0, 1000, 2000],
        dlat_e7=[481_000_000, 1000, 900],
        dlon_e7=[115_000_000, -500, -700],
        speed_cmps=[1390, 1400, -1],
    )


def health(n: int = 1) -> Health:
    return Health(t_ns=n * S, source="gps", state="lost", detail=f"no fix for {n} s", counts={"fixes": n})


def mount(n: int = 1) -> Mount:
    return Mount(t_ns=n * S, gravity=(1.0, 0.0, 0.0), forward=(0.0, -1.0, 0.0), confidence=0.93)


def crash(n: int = 1) -> Crash:
    t_ns = n * 100 * S
    return Crash(
        id=incident_id("boot-1", t_ns),
        kind="impact",
        t_ns=t_ns,
        known_ns=t_ns + 40_000_000,
        complete=True,
        locked=False,
        number=1,
        since_previous_ns=None,
        delta_v_longitudinal_mps=-6.2,
        delta_v_lateral_mps=0.4,
        delta_v_mps=6.21,
        delta_v_max_ns=110_000_000,
        direction_deg=3.7,
        direction_clock=12,
        peak_mps2=98.1,
        clipped=False,
        roll_deg=None,
        curve_step_ms=10,
        curve_longitudinal_cmps=[-round(62 * i / 3) for i in range(31)],
        curve_lateral_cmps=list(range(31)),
        speed_before_mps=13.9,
        speed_after_mps=0.0,
        confirmed_by=["speed_collapse"],
        sensors=["imu", "gnss"],
        rate_hz=400.0,
        mount_confidence=0.93,
        rule="impact/1",
        latitude=48.1,
        longitude=11.5,
        accuracy_m=2.1,
        position_age_ms=400,
        heading_deg=12.0,
        trip_t_ns=S,
    )


def package(n: int = 1) -> Package:
    files = [PackageFile(name=name, size=1000 + n, sha256="ab" * 32) for name in ("crash.json", "manifest.json")]
    return Package(incident=incident_id("boot-1", n * 100 * S), t_ns=n * 100 * S, complete=True, files=files)


def reply(n: int = 1, state: str = "accepted") -> Reply:
    return Reply(
        id=f"{n:032x}",
        t_ns=n * S,
        command="clip",
        state=state,  # type: ignore[arg-type]
        detail="video of 12.0 s",
        actor="adjuster",
        reason="claim 17",
        key="ab" * 32,
        expires_utc_ns=1_790_000_000 * S,
        incident=f"{n:016x}",
    )


def some(n: int) -> list[tuple[int, Record]]:
    """Return n records of several kinds in turn, with the time at which each is written."""
    makers = (event, clock_record, trip, health, track, mount)
    return [((i + 1) * S, makers[i % len(makers)](i + 1)) for i in range(n)]
