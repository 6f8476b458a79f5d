"""Days and moments that people write: only those of a calendar that insurance has use for, so that none overflows."""

from datetime import UTC, date, datetime
from typing import Final

from agent.clock import NS_PER_S
from agent.errors import RoadwitnessError

FIRST: Final = date(1990, 1, 1)  # before there was a motor insurer's database
LAST: Final = date(2200, 12, 31)  # 64 bits of nanoseconds end in 2262; room is left for what is added to a day
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def within(day: date) -> bool:
    """Say whether a day is one that can be reckoned with."""
    return FIRST <= day <= LAST


def checked(name: str, day: date) -> date:
    """Return a day that can be reckoned with; raise RoadwitnessError naming what it is for."""
    if not within(day):
        raise RoadwitnessError(f"{name} {day}: lies outside {FIRST.year} to {LAST.year}; check the year")
    return day


def read_day(name: str, text: str) -> date:
    """Read a day as people write it; raise RoadwitnessError naming the option."""
    try:
        day = date.fromisoformat(text)
    except ValueError as e:
        raise RoadwitnessError(f"{name} {text[:40]!r}: write it like 2026-12-31") from e
    return checked(name, day)


def read_moment(name: str, text: str) -> int:
    """Read a moment with its zone, UTC ns; raise RoadwitnessError naming the option."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as e:
        raise RoadwitnessError(f"{name} {text[:40]!r}: write it like 2026-11-01T08:00:00Z") from e
    if at.tzinfo is None:
        said = f"{name} {text[:40]!r}: the zone is missing; write it like 2026-11-01T16:00:00+08:00"
        raise RoadwitnessError(said)
    checked(name, at.date())
    since = at - _EPOCH
    return (since.days * 86400 + since.seconds) * NS_PER_S + since.microseconds * 1000
