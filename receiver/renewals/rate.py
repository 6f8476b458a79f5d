"""How many policies were renewed: which count, and which new policy continues which old one (domain.md A8, T-REN-1).

VIN wins; the plate decides only where one side has no VIN. Two VINs that differ under one plate are for a person to
look at: counted, not renewed, and listed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from sqlalchemy import Connection

from receiver import policies
from receiver.policies import Policy

LEAST_DAYS: Final = 183  # founding document S0, line 161
# The documents name no grace: the twelve-step method ends its rescue on day 7 after the end (proposed).
GRACE_DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class Renewals:
    """Ids of the policies that ended, by what became of them."""

    renewed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    review: list[str] = field(default_factory=list)  # counted as not renewed until a person has looked
    excluded: dict[str, str] = field(default_factory=dict)  # and why: short, unconfirmed

    @property
    def renewable(self) -> int:
        """Return how many could be renewed."""
        return len(self.renewed) + len(self.lost) + len(self.review)

    @property
    def rate_percent(self) -> Decimal | None:
        """Return renewed / renewable × 100, None where nothing could be renewed."""
        if not self.renewable:
            return None
        share = Decimal(100) * len(self.renewed) / self.renewable
        return share.quantize(Decimal("0.01"), ROUND_HALF_UP)


def renewals(ended: Iterable[Policy], newer: Sequence[Policy], grace_days: int = GRACE_DAYS) -> Renewals:
    """Match the policies that ended with newer ones."""
    found = Renewals()
    by_vin: dict[str, list[Policy]] = {}
    by_plate: dict[str, list[Policy]] = {}
    for policy in newer:
        for index, key in ((by_vin, policy.vin), (by_plate, policy.plate)):
            if key:
                index.setdefault(key, []).append(policy)
    for old in ended:
        reason = excluded(old)
        if reason:
            found.excluded[old.id] = reason
            continue
        near = [p for p in (*by_vin.get(old.vin, ()), *by_plate.get(old.plate, ())) if continues(old, p, grace_days)]
        if any(same_car(old, p) for p in near):
            found.renewed.append(old.id)
        elif near:
            found.review.append(old.id)
        else:
            found.lost.append(old.id)
    return found


def excluded(old: Policy) -> str:
    """Say why a policy is not counted: "short", "unconfirmed", or "" where it is."""
    return "short" if old.days < LEAST_DAYS else "" if old.sales_confirmed else "unconfirmed"


def continues(old: Policy, new: Policy, grace_days: int = GRACE_DAYS) -> bool:
    """Say whether a policy follows on another in time: begins before the grace is over and ends later."""
    latest = old.ends + timedelta(1 + grace_days)
    return new.id != old.id and old.starts < new.starts <= latest and new.ends > old.ends


def same_car(old: Policy, new: Policy) -> bool:
    """Say whether two policies are of one car."""
    if old.vin and new.vin:
        return old.vin == new.vin
    return bool(old.plate) and old.plate == new.plate


def between(connection: Connection, first: date, last: date) -> Renewals:
    """Count the renewals of policies that ended between two days, both included."""
    ended = policies.ending(connection, first, last)
    earliest = min((p.starts for p in ended), default=first)
    return renewals(ended, policies.starting(connection, earliest, last + timedelta(1 + GRACE_DAYS)))
