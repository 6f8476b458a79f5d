"""Whose policy ends soon, what is to be done next, how the score moved and what the new price differs by."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Final, NamedTuple

from sqlalchemy import Connection

from receiver import policies
from receiver.moments import checked
from receiver.policies import Policy
from receiver.renewals.kept import Prices, Trend, prices, trends
from receiver.renewals.rate import GRACE_DAYS, continues, excluded, same_car
from receiver.renewals.schedule import Contact, contacts, schedule

AHEAD_DAYS: Final = 90  # the earliest step of any schedule


class Due(NamedTuple):
    """One policy to be renewed; `next` is what is to be done first from today on, None when all is done."""

    policy: Policy
    days_left: int  # negative after the end
    contacts: list[Contact]
    next: Contact | None
    today: list[Contact]
    escalated: bool
    excluded: str  # why it does not count: short, unconfirmed; or ""
    score: Trend | None
    prices: Prices | None

    @property
    def score_change(self) -> float | None:
        """Return how many points the score rose."""
        return None if self.score is None else round(self.score.now - self.score.then, 1)

    @property
    def price_difference(self) -> Decimal | None:
        """Return the new price less the old one."""
        return None if self.prices is None else self.prices.new - self.prices.old


def due(connection: Connection, today: date, by: str = "V2") -> list[Due]:
    """Return the policies that end within 90 days or ended a week ago and are not renewed, the most urgent first.

    Raise ConfigError for a schedule that there is not, RoadwitnessError for a day of another age.
    """
    chosen = schedule(by)
    checked("day", today)
    ending = policies.ending(connection, today - timedelta(GRACE_DAYS), today + timedelta(AHEAD_DAYS))
    earliest = min((p.starts for p in ending), default=today)
    newer = policies.starting(connection, earliest, today + timedelta(AHEAD_DAYS + 1 + GRACE_DAYS))
    by_vin, by_plate = _indexed(newer, "vin"), _indexed(newer, "plate")
    scores, quoted = trends(connection, ending), prices(connection, ending)
    found = []
    for policy in ending:
        candidates = (*by_vin.get(policy.vin, ()), *by_plate.get(policy.plate, ()))
        if any(continues(policy, p) and same_car(policy, p) for p in candidates):
            continue
        planned = contacts(chosen, policy.ends, policy.use_class)
        found.append(
            Due(
                policy=policy,
                days_left=(policy.ends - today).days,
                contacts=planned,
                next=next((c for c in planned if (c.until or c.day) >= today), None),
                today=[c for c in planned if c.day <= today <= (c.until or c.day)],
                escalated=any(c.kind == "escalate" and c.day <= today for c in planned),
                excluded=excluded(policy),
                score=scores.get(policy.id),
                prices=quoted.get(policy.id),
            )
        )
    return found


def _indexed(found: list[Policy], name: str) -> dict[str, list[Policy]]:
    index: dict[str, list[Policy]] = {}
    for policy in found:
        if getattr(policy, name):
            index.setdefault(getattr(policy, name), []).append(policy)
    return index
