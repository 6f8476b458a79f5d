"""The only file that reads a clock. Durations are monotonic nanoseconds; wall time is a fact about a boot."""

import ctypes
import threading
import time
from datetime import UTC, datetime

NS_PER_S = 1_000_000_000
EARLIEST_NS = 1_735_689_600 * NS_PER_S  # 2025-01-01: no live device of ours is older


def monotonic_ns() -> int:
    """Return nanoseconds of a clock that never steps."""
    return time.monotonic_ns()


def wall_ns() -> int:
    """Return this machine's idea of UTC in nanoseconds since 1970; it may be wrong and may step."""
    return time.time_ns()


def wall_minus_monotonic_ns() -> int:
    """Return what to take from a wall time to get the monotonic one; good to microseconds, jumps when UTC is set.

    A thread may lose its core between the clocks: a reading that took long is made again, twice at most.
    """
    best_ns = distance_ns = 0
    for attempt in range(3):
        before_ns = time.monotonic_ns()
        wall = time.time_ns()
        took_ns = time.monotonic_ns() - before_ns
        if attempt == 0 or took_ns < best_ns:
            best_ns, distance_ns = took_ns, wall - before_ns - took_ns // 2
        if best_ns < 2_000:
            break
    return distance_ns


class _Timex(ctypes.Structure):
    """Linux's struct timex as far as it is read here; the kernel fills 208 bytes (adjtimex(2))."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror_us", ctypes.c_long),
        ("esterror_us", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 24),
    )


def kernel_error_ns() -> int | None:
    """Return how far the wall clock may be off by the kernel's own account, None while nobody keeps it right."""
    timex = _Timex()  # modes 0: only asked, nothing is set
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    unsynchronised = 0x40  # STA_UNSYNC; state 5 is TIME_ERROR
    if state < 0 or state == 5 or timex.status & unsynchronised:
        return None
    return int(timex.maxerror_us) * 1000


def wait(event: threading.Event, seconds: float) -> bool:
    """Wait until `event` is set or `seconds` have passed; say whether it is set."""
    return event.wait(seconds)


def iso_utc(utc_ns: int) -> str:
    """Write nanoseconds since 1970 as ISO 8601 UTC with milliseconds, e.g. 2026-11-01T08:00:00.000Z."""
    return datetime.fromtimestamp(utc_ns / NS_PER_S, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
