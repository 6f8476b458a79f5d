"""Months, by which scores are kept: their bounds in the insurer's zone."""

import re
from datetime import UTC, datetime
from typing import Final

from agent.clock import NS_PER_S
from agent.errors import RoadwitnessError
from receiver.words import time_zone

FIRST_YEAR: Final = 2000
LAST_YEAR: Final = 2200  # 64 bits of nanoseconds end in 2262
_MONTH: Final = re.compile(r"([0-9]{4})-([0-9]{2})")


class RatingError(RoadwitnessError):
    """A score or quote that cannot be kept or found."""


def bounds(period: str, zone: str) -> tuple[int, int]:
    """Return the first UTC nanosecond of a month and that of the next; raise RatingError for what is no month."""
    found = _MONTH.fullmatch(period)
    year, month = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (FIRST_YEAR <= year <= LAST_YEAR and 1 <= month <= 12):
        raise RatingError(f"period {period[:32]!r}: write a month like 2026-10, of {FIRST_YEAR} to {LAST_YEAR}")
    return _start_ns(year, month, zone), _start_ns(year + month // 12, month % 12 + 1, zone)


def begun(period: str, zone: str, now_ns: int) -> int:
    """Return when a month ends or ended; raise RatingError for what is no month or has not begun."""
    begins, ends = bounds(period, zone)
    if begins > now_ns:
        raise RatingError(f"period {period}: has not begun; nothing was driven in it yet")
    return ends


def last_ended(now_ns: int, zone: str) -> str:
    """Return the month before the one that a moment lies in: the last whose score no longer moves by driving."""
    return before(now_ns, zone, 2)[1]


def before(now_ns: int, zone: str, n: int) -> list[str]:
    """Return the month that a moment lies in and those before it, `n` in all, the latest first."""
    at = datetime.fromtimestamp(now_ns // NS_PER_S, UTC).astimezone(time_zone(zone))
    latest = at.year * 12 + at.month - 1
    return [f"{month // 12:04d}-{month % 12 + 1:02d}" for month in range(latest, latest - n, -1)]


def _start_ns(year: int, month: int, zone: str) -> int:
    return round(datetime(year, month, 1, tzinfo=time_zone(zone)).timestamp()) * NS_PER_S
