"""Byte budgets: how much of each lane and class of files was sent on this day and in this month.

Counters are kept ahead of what is spent, by a lease, so that a restart may count up to a lease too much and never
too little, without a write for every message. Without a known date the last known day goes on: nothing is renewed.
"""

import datetime
from collections.abc import Callable
from typing import Final, Protocol

from agent.clock import NS_PER_S
from agent.upload.settings import BudgetSettings

DAY_NS: Final = 86_400 * NS_PER_S
NEVER_STOPPED: Final = "crash"
# A car starts some ten times a day: 640 KB counted too much is well below a day's budget.
LEASE: Final = 64 * 1024
LEASES: Final = {"video": 1024 * 1024}  # sixteen chunks to a write
# A lease that lasted less than a second is doubled, so that a fast link costs a few writes and not fifty a second.
SHORT_NS: Final = NS_PER_S
MOST_LEASE: Final = 16 * 1024 * 1024
LOOK_NS: Final = 60 * NS_PER_S  # between two looks at the date
# Topic length, packet header and PUBACK of a message with QoS 1, beside its payload.
ENVELOPE: Final = 64


class TrafficTable(Protocol):
    """Where counters outlive a restart; `Store.uploads` on a device."""

    def traffic(self) -> dict[tuple[int, str], int]:
        """Return the bytes counted so far, by day and class."""

    def keep_traffic(self, day: int, kind: str, count: int) -> None:
        """Keep the bytes of one day and class."""


class Budget:
    """Says what may be sent and counts what was; `utc_ns` gives the date where it is known."""

    def __init__(self, settings: BudgetSettings, table: TrafficTable, utc_ns: Callable[[int], int | None]) -> None:
        self._settings = settings
        self._table = table
        self._utc_ns = utc_ns
        self._kept = table.traffic()
        self._spent = dict(self._kept)
        self._day = max((day for day, _ in self._kept), default=0)
        self._look_ns = 0
        self._now_ns = 0
        self._leases: dict[str, tuple[int, int]] = {}  # by class: when the last one was taken, and how much

    def allows(self, kind: str, size: int, now_ns: int) -> bool:
        """Say whether `size` more bytes of a lane or class of files may be sent."""
        self._now_ns = now_ns
        self._look_at_the_date(now_ns)
        if kind == NEVER_STOPPED or not self._settings.metered:
            return True
        of_day = getattr(self._settings.day, kind)
        of_month = getattr(self._settings.month, kind)
        more = size + ENVELOPE
        if of_day and self._spent.get((self._day, kind), 0) + more > of_day:
            return False
        return not of_month or self.of_month(kind) + more <= of_month

    def spend(self, kind: str, size: int) -> None:
        """Count what was just sent."""
        key = (self._day, kind)
        spent = self._spent.get(key, 0) + size + ENVELOPE
        self._spent[key] = spent
        if spent > self._kept.get(key, 0):
            self._keep(key, spent + self._lease(kind))

    def of_month(self, kind: str) -> int:
        """Return the bytes of a class in the present UTC month."""
        month = _month(self._day)
        return sum(n for (day, name), n in self._spent.items() if name == kind and _month(day) == month)

    def close(self) -> None:
        """Give back what was leased and not spent."""
        for key, kept in list(self._kept.items()):
            if kept != self._spent.get(key, kept):
                self._keep(key, self._spent[key])

    def _lease(self, kind: str) -> int:
        least = LEASES.get(kind, LEASE)
        taken_ns, lease = self._leases.get(kind, (self._now_ns - SHORT_NS, least))
        lease = least if self._now_ns - taken_ns >= SHORT_NS else min(2 * lease, MOST_LEASE)
        self._leases[kind] = (self._now_ns, lease)
        return lease

    def _keep(self, key: tuple[int, str], count: int) -> None:
        self._table.keep_traffic(*key, count)
        self._kept[key] = count

    def _look_at_the_date(self, now_ns: int) -> None:
        if now_ns < self._look_ns:
            return
        self._look_ns = now_ns + LOOK_NS
        utc_ns = self._utc_ns(now_ns)
        if utc_ns is not None:
            self._day = utc_ns // DAY_NS


def _month(day: int) -> tuple[int, int]:
    date = datetime.date(1970, 1, 1) + datetime.timedelta(days=day)
    return date.year, date.month
