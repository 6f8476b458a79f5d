"""Small records and blocks for the store's tests."""

import numpy as np

from agent.blocks import BLOCK, Block
from agent.records import Clock, Event, Health, Quality, TimeQuality, Track, Trip

S = 1_000_000_000
DAY_NS = 86_400 * S
UTC_2026 = 1_790_000_000 * S


def event(t_ns: int, kind: str = "harsh_braking") -> Event:
    return Event(
        kind=kind,  # type: ignore[arg-type]
        severity="moderate",
        confirmed=True,
        t_ns=t_ns,
        duration_ns=S,
        peak=-3.5,
        unit="m/s2",
        speed_before_mps=12.0,
        rule="harsh_braking/1",
        sources=["can", "imu"],
    )


def health(t_ns: int) -> Health:
    return Health(t_ns=t_ns, source="gps", state="lost", detail="no fix")


def clock(t_ns: int, utc_ns: int, quality: TimeQuality = "gnss", uncertainty_ns: int = 1000) -> Clock:
    return Clock(t_ns=t_ns, offset_ns=utc_ns - t_ns, quality=quality, uncertainty_ns=uncertainty_ns)


def trip(start_ns: int, end_ns: int) -> Trip:
    return Trip(
        start_ns=start_ns,
        end_ns=end_ns,
        start_latitude=None,
        start_longitude=None,
        end_latitude=None,
        end_longitude=None,
        distance_m=1000.0,
        distance_by_source_m={},
        moving_s=50.0,
        idle_s=10.0,
        stops=1,
        max_speed_mps=20.0,
        speed_histogram_s=[60.0],
        night_s=0.0,
        hour_of_day_s=[],
        event_counts={},
        smoothness_mps2=0.4,
        quality=Quality(
            gap_s=0.0, longest_gap_s=0.0, speed_share={}, position_share=0.0, mount_confidence=0.0, time="none"
        ),
        track_points=0,
        track_error_m=0.0,
    )


def track(trip_start_ns: int) -> Track:
    return Track(
        trip_start_ns=trip_start_ns,
        start_ns=trip_start_ns,
        error_m=5.0,
        dt_ms=[0, 1000],
        dlat_e7=[1, 2],
        dlon_e7=[3, 4],
        speed_cmps=[100, -1],
    )


def drive(seconds: float, start_ns: int = 0, rate_hz: int = 20, seed: int = 0) -> Block:
    """Two channels at `rate_hz`, times on the store's 0.1 ms, values on their quanta: it comes back as it is."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate_hz)
    block = np.zeros(2 * n, BLOCK)
    block["t"] = np.repeat(start_ns + np.arange(n) * (S // rate_hz), 2)
    block["channel"] = np.tile([1, 60], n)
    block["value"] = rng.integers(0, 60_000, 2 * n) / 1000
    return block
