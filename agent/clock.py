"""The only file that reads a clock. Durations are monotonic nanoseconds; wall time is a fact about a boot."""

import threading
import time
from datetime import UTC, datetime

NS_PER_S = 1_000_000_000


def monotonic_ns() -> int:
    """Return nanoseconds of a clock that never steps."""
    return time.monotonic_ns()


def wall_ns() -> int:
    """Return this machine's idea of UTC in nanoseconds since 1970; it may be wrong and may step."""
    return time.time_ns()


def wall_minus_monotonic_ns() -> int:
    """Return what to take from a wall time to get the monotonic one; good to the microsecond, jumps when UTC is set.

    Of three readings the one that took least time counts: a thread may lose its core between two clocks.
    """
    readings = []
    for _ in range(3):
        before_ns = time.monotonic_ns()
        wall = time.time_ns()
        after_ns = time.monotonic_ns()
        readings.append((after_ns - before_ns, wall - (before_ns + after_ns) // 2))
    return min(readings)[1]


def wait(event: threading.Event, seconds: float) -> bool:
    """Wait until `event` is set or `seconds` have passed; say whether it is set."""
    return event.wait(seconds)


def iso_utc(utc_ns: int) -> str:
    """Write nanoseconds since 1970 as ISO 8601 UTC with milliseconds, e.g. 2026-11-01T08:00:00.000Z."""
    return datetime.fromtimestamp(utc_ns / NS_PER_S, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
