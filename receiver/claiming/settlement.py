"""What a claim pays: the compulsory cover first, then the commercial ones, each line with the rule that made it.

Pure and exact: Decimal yuan, every line rounded half up to the fen once. Rates come from the rate book: the compulsory
limits by the moment of the accident, deductibles by the clause book that was sold (decision 0225). A proposal is for
a person to accept; nothing here pays, and no evidence flag enters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal, cast, get_args

import msgspec

from receiver.pricing.book import Fault, RateBook, RegimeRates
from receiver.pricing.money import HUNDRED, ZERO, to_fen

Head = Literal[
    "death", "medical", "property", "vehicle", "driver", "passenger", "theft", "glass", "scratch", "fire", "equipment"
]
HEADS: Final[tuple[Head, ...]] = get_args(Head)
GRADES: Final[tuple[Fault, ...]] = get_args(Fault)
THIRD: Final[tuple[Head, ...]] = ("death", "medical", "property")
JQX: Final = "JQX"
TPL: Final = "TPL"


@dataclass(frozen=True, slots=True)
class Rule:
    """How a head of loss is covered: by what, in proportion to fault or not, capped before or after deductibles.

    Before, with the occupants' and the third parties' covers: their clauses take the deductible from the limit
    (from memory, unverified). After, where T-DED-2 says so.
    """

    cover: str  # of policy_cover
    tariff: str  # of the rate book
    by_share: bool
    cap_first: bool


OWN: Final[dict[Head, Rule]] = {
    "vehicle": Rule("VD", "VD", by_share=True, cap_first=True),
    "driver": Rule("OCC.driver", "OCC", by_share=True, cap_first=True),
    "passenger": Rule("OCC.passenger", "OCC", by_share=True, cap_first=True),
    "theft": Rule("THEFT", "THEFT", by_share=False, cap_first=True),
    "glass": Rule("GLASS", "GLASS", by_share=False, cap_first=True),
    "scratch": Rule("SCRATCH", "SCRATCH", by_share=False, cap_first=False),
    "fire": Rule("FIRE", "FIRE", by_share=False, cap_first=True),
    "equipment": Rule("EQUIP", "EQUIP", by_share=True, cap_first=True),
}
_THIRD_RULE: Final = Rule(TPL, TPL, by_share=True, cap_first=True)
_COLLISION_ONLY: Final = frozenset({"theft", "glass", "scratch", "fire"})  # nobody's fault share enters


@dataclass(frozen=True, slots=True)
class Loss:
    """One loss in yuan; what others have paid of it (another car's compulsory cover) is no longer a loss."""

    head: Head
    amount: Decimal
    paid_by_others: Decimal = ZERO
    person: int = 0  # of several occupants: each has a sum of his own


@dataclass(frozen=True, slots=True)
class Held:
    """A commercial cover that was bought, and what it has paid before."""

    sum: Decimal | None = None
    waived: bool = False
    paid_before: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Case:
    """All that the calculation looks at. `share` is 0…1 where the police gave one, else the clauses' by fault."""

    accident_at: datetime  # aware
    fault: Fault
    losses: Sequence[Loss]
    regime: str
    covers: Mapping[str, Held] = field(default_factory=dict)
    share: Decimal | None = None
    compulsory_here: bool = True  # the same insurer holds the compulsory cover
    use_class: str = "family"
    fast_track: bool = False


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a proposal: how much of which loss, by which rule. Percents are 0…100, amounts yuan."""

    cover: str
    head: str
    rule: str  # key of the words: compulsory, compulsory_elsewhere, fast, fast_other, cover, no_cover
    claimed: Decimal
    base: Decimal  # what the line began with: the loss, less what others and the compulsory cover paid
    share_percent: Decimal = HUNDRED
    fault_percent: Decimal = ZERO
    absolute_percent: Decimal = ZERO
    limit: Decimal | None = None
    capped: bool = False
    ended: bool = False  # the cover has paid its sum and ends
    paid: Decimal = ZERO
    due: Decimal = ZERO  # from another insurer's compulsory cover
    person: int = 0


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """What should be paid, line by line."""

    lines: list[Line]
    total: Decimal
    claimed: Decimal
    share_percent: Decimal
    fault: str
    regime: str
    regime_version: str
    limits_version: str  # edition of the compulsory limits
    fast_track: bool


def settle(case: Case, book: RateBook) -> Proposal:
    """Calculate; raise QuoteError where the rate book does not know the moment, ValueError for a case that is none."""
    _check(case)
    rates = book.regimes.get(case.regime)
    if rates is None:
        raise ValueError(f"regime {case.regime!r} is unknown; known: {', '.join(book.regimes)}")
    share = rates.liability_percent(case.fault) if case.share is None else case.share * HUNDRED
    lines: list[Line] = []
    used: dict[tuple[str, int], Decimal] = {}  # of a cover's sum, by earlier lines of this accident
    residual = ZERO
    if case.fast_track:
        lines += _fast(case, book)
    else:
        residual = _compulsory(case, book, share > 0, lines)
    third = sum((_open(loss) for loss in case.losses if loss.head in THIRD), ZERO)
    if third and not case.fast_track:
        lines.append(_commercial(case, rates, _THIRD_RULE, "third", residual, third, share, 0, used))
    for head, person, claimed in _own(case):
        if case.fast_track and head == "vehicle":
            continue
        rule = OWN[head]
        of_share = HUNDRED if head in _COLLISION_ONLY else share
        lines.append(_commercial(case, rates, rule, head, claimed, claimed, of_share, person, used))
    edition = book.compulsory.limits(case.accident_at)
    return Proposal(
        lines=lines,
        total=sum((line.paid for line in lines), ZERO),
        claimed=sum((_open(loss) for loss in case.losses), ZERO),
        share_percent=share,
        fault=case.fault,
        regime=rates.name,
        regime_version=rates.regime.version,
        limits_version=edition.version,
        fast_track=case.fast_track,
    )


def grade(share_percent: int) -> Fault:
    """Return the share of fault that goes with the percentage that the police gave."""
    known: dict[int, Fault] = {0: "none", 50: "equal", 100: "full"}
    return known.get(share_percent) or ("secondary" if share_percent < 50 else "primary")


def _check(case: Case) -> None:
    if case.accident_at.tzinfo is None:
        raise ValueError("the moment of the accident needs a time zone")
    if case.share is not None and not 0 <= case.share <= 1:
        raise ValueError("the share of liability lies between 0 and 1")
    if (case.share == 0) != (case.fault == "none") and case.share is not None:
        raise ValueError(f"a share of {case.share} does not go with fault {case.fault!r}")
    for loss in case.losses:
        if loss.head not in HEADS:
            raise ValueError(f"head {loss.head!r} is unknown; known: {', '.join(HEADS)}")
        if loss.amount < 0 or loss.paid_by_others < 0:
            raise ValueError("a loss is not negative")
    for code, held in case.covers.items():
        if held.paid_before < 0 or (held.sum is not None and held.sum < 0):
            raise ValueError(f"cover {code}: its amounts are not negative")


def _open(loss: Loss) -> Decimal:
    return max(ZERO, loss.amount - loss.paid_by_others)


def _of_head(case: Case, head: Head) -> Decimal:
    return sum((_open(loss) for loss in case.losses if loss.head == head), ZERO)


def _own(case: Case) -> list[tuple[Head, int, Decimal]]:
    """Add up what belongs under one sum: a head, for occupants each person."""
    found: dict[tuple[Head, int], Decimal] = {}
    for loss in case.losses:
        if loss.head in OWN:
            key = (loss.head, loss.person if loss.head == "passenger" else 0)
            found[key] = found.get(key, ZERO) + _open(loss)
    order = {head: n for n, head in enumerate(HEADS)}
    return [(head, person, found[head, person]) for head, person in sorted(found, key=lambda k: (order[k[0]], k[1]))]


def _compulsory(case: Case, book: RateBook, at_fault: bool, lines: list[Line]) -> Decimal:
    """Add the compulsory lines and return what they leave to the commercial cover."""
    amounts = book.compulsory.amounts(case.accident_at, at_fault)
    residual = ZERO
    for head in THIRD:
        claimed = _of_head(case, head)
        if not claimed:
            continue
        limit = cast(Decimal, getattr(amounts, head))
        due = to_fen(min(claimed, limit))
        residual += claimed - min(claimed, limit)
        lines.append(
            Line(
                cover=JQX,
                head=head,
                rule="compulsory" if case.compulsory_here else "compulsory_elsewhere",
                claimed=claimed,
                base=claimed,
                limit=limit,
                capped=claimed > limit,
                paid=due if case.compulsory_here else ZERO,
                due=ZERO if case.compulsory_here else due,
            )
        )
    return residual


def _fast(case: Case, book: RateBook) -> list[Line]:
    """Return the lines of a fast settlement: the own car by the own compulsory cover, the other car by theirs."""
    limit = book.compulsory.amounts(case.accident_at, at_fault=True).property
    lines = []
    own, others = _of_head(case, "vehicle"), _of_head(case, "property")
    if own:
        due = to_fen(min(own, limit))
        lines.append(
            Line(
                cover=JQX,
                head="vehicle",
                rule="fast",
                claimed=own,
                base=own,
                limit=limit,
                capped=own > limit,
                paid=due if case.compulsory_here else ZERO,
                due=ZERO if case.compulsory_here else due,
            )
        )
    if others:
        lines.append(Line(cover=JQX, head="property", rule="fast_other", claimed=others, base=ZERO, due=to_fen(others)))
    return lines


def _commercial(
    case: Case,
    rates: RegimeRates,
    rule: Rule,
    head: str,
    base: Decimal,
    claimed: Decimal,
    share: Decimal,
    person: int,
    used: dict[tuple[str, int], Decimal],
) -> Line:
    code, tariff = _within(rates, rule)
    held = case.covers.get(code)
    if held is None:
        return Line(
            cover=code, head=head, rule="no_cover", claimed=claimed, base=base, share_percent=share, person=person
        )
    by_share = rule.by_share
    fault = rates.fault_deductible(tariff, case.fault, case.use_class) if by_share and not held.waived else ZERO
    absolute = rates.absolute_deductible(rule.tariff)
    kept = (HUNDRED - fault) * (HUNDRED - absolute) / (HUNDRED * HUNDRED)
    ends = rates.ends_at_sum(rule.tariff)
    before = used.get((code, person), ZERO) + (held.paid_before if ends else ZERO)
    limit = None if held.sum is None else max(ZERO, held.sum - before)
    owed = base * share / HUNDRED
    if rule.cap_first:
        capped = limit is not None and owed > limit
        paid = to_fen((owed if limit is None else min(owed, limit)) * kept)
    else:
        capped = limit is not None and owed * kept > limit
        paid = to_fen(owed * kept if limit is None else min(owed * kept, limit))
    used[code, person] = used.get((code, person), ZERO) + paid
    return Line(
        cover=code,
        head=head,
        rule="cover",
        claimed=claimed,
        base=base,
        share_percent=share,
        fault_percent=fault,
        absolute_percent=absolute,
        limit=limit,
        capped=capped,
        ended=ends and limit is not None and paid >= limit,
        paid=paid,
        person=person,
    )


def _within(rates: RegimeRates, rule: Rule) -> tuple[str, str]:
    """Return the cover that pays under this clause book: since 2020 theft, glass and self-ignition are part of VD."""
    for name, cover in rates.regime.covers.items():
        if rule.tariff in cover.includes:
            return name, name
    return rule.cover, rule.tariff
