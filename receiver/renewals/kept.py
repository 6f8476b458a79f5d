"""What the list of renewals says of score and price, from what is kept: how the score went, what was quoted last."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from sqlalchemy import Connection, select

from receiver.policies import Policy
from receiver.rating.quotes import yuan
from receiver.rating.tables import kept_quote, kept_score
from receiver.scoring.model import DEFAULT_MODEL

_AT_ONCE: Final = 500  # a statement takes no more parameters than that for sure


class Trend(NamedTuple):
    """The score of the first month of the policy that one is kept of, and of the last, 0 to 100."""

    then: float
    now: float


class Prices(NamedTuple):
    """What was paid and what was quoted last for the renewal, yuan a year."""

    old: Decimal
    new: Decimal


def trends(connection: Connection, policies: Sequence[Policy]) -> dict[str, Trend]:
    """Return by policy how the score went since it began; of no other car that had the device."""
    k = kept_score.c
    months: dict[str, list[tuple[str, str, int]]] = {}
    for devices in _some(sorted({p.device for p in policies if p.device})):
        of = (k.device.in_(devices), k.model == DEFAULT_MODEL, k.newest, k.score.is_not(None))
        for row in connection.execute(select(k.device, k.vin, k.period, k.score).where(*of).order_by(k.period)):
            months.setdefault(row.device, []).append((row.vin, row.period, row.score))
    told = {}
    for policy in policies:
        begun, own = f"{policy.starts:%Y-%m}", months.get(policy.device, [])
        since = [score for vin, month, score in own if month >= begun and policy.vin in ("", vin)]
        if len(since) > 1:
            told[policy.id] = Trend(since[0], since[-1])
    return told


def prices(connection: Connection, policies: Sequence[Policy]) -> dict[str, Prices]:
    """Return by policy what was paid and what was quoted last."""
    paid = {p.id: p.premium_fen for p in policies if p.premium_fen}
    told = {}
    q = kept_quote.c
    for names in _some(sorted(paid)):
        quoted = select(q.policy, q.total_fen).where(q.policy.in_(names)).order_by(q.given_utc_ns, q.id)
        for row in connection.execute(quoted):
            told[row.policy] = Prices(yuan(paid[row.policy]), yuan(row.total_fen))
    return told


def _some(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _AT_ONCE):
        yield names[start : start + _AT_ONCE]
