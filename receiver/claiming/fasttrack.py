"""Fast settlement of a knock between two insured cars (互碰自赔, domain.md B7): a rules check, not an adjuster."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from receiver.pricing.book import Fault


@dataclass(frozen=True, slots=True)
class Party:
    """One car of the accident; `fault` None while nobody has said."""

    compulsory: bool
    fault: Fault | None
    agrees: bool
    injured: bool
    loss: Decimal  # vehicle, cargo and property on board, yuan


class Condition(NamedTuple):
    """One condition: `name` is a key of the words."""

    name: str
    holds: bool


class FastTrack(NamedTuple):
    """Whether every condition holds, and each of them."""

    fast_track: bool
    conditions: list[Condition]
    limit: Decimal
    largest: Decimal


def fast_track(parties: Sequence[Party], limit: Decimal, *, outside_damage: bool = False) -> FastTrack:
    """Check the conditions; `limit` is the compulsory property limit of the moment of the accident."""
    largest = max((p.loss for p in parties), default=Decimal(0))
    conditions = [
        Condition("cars", len(parties) >= 2),
        Condition("compulsory", all(p.compulsory for p in parties)),
        Condition("injury", not any(p.injured for p in parties)),
        Condition("outside", not outside_damage),
        Condition("limit", largest <= limit),
        # each side has some: nobody has all of it, and nobody none
        Condition("fault", all(p.fault not in (None, "none", "full") for p in parties)),
        Condition("agreed", all(p.agrees for p in parties)),
    ]
    return FastTrack(all(c.holds for c in conditions), conditions, limit, largest)
