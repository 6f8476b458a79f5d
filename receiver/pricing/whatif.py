"""What would it cost if: the same request with something changed, and the difference line by line."""

from datetime import date
from decimal import Decimal

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from receiver.pricing.answer import FactorLine, Quote, Text
from receiver.pricing.book import RateBook
from receiver.pricing.money import ZERO, to_fen
from receiver.pricing.perkm import at_distance
from receiver.pricing.quote import quote
from receiver.pricing.request import CompulsoryHistory, CoverChoice, History, QuoteRequest, Telematics


class Change(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is different; what is left out stays."""

    km_per_year: int | UnsetType = UNSET
    covers: list[CoverChoice] | UnsetType = UNSET
    history: History | UnsetType = UNSET
    compulsory: CompulsoryHistory | UnsetType | None = UNSET
    telematics: Telematics | UnsetType | None = UNSET


class Difference(Struct, frozen=True, kw_only=True):
    """A cover before and after; None where it is not in the price."""

    name: str
    title: Text
    before_yuan: Decimal | None
    after_yuan: Decimal | None
    difference_yuan: Decimal


class FactorDifference(Struct, frozen=True, kw_only=True):
    """A factor that changed, and why it is what it is now."""

    name: str
    title: Text
    before: Decimal | None
    after: Decimal | None
    reason: Text


class Comparison(Struct, frozen=True, kw_only=True):
    """Two quotes; `lines` add up to the difference of the totals."""

    before: Quote
    after: Quote
    lines: list[Difference]
    factors: list[FactorDifference]
    difference_yuan: Decimal
    per_km_difference_yuan: Decimal | None


def what_if(request: QuoteRequest, change: Change, book: RateBook, on: date) -> Comparison:
    """Price a request as it is and as changed; raise QuoteError for either."""
    return compare(quote(request, book, on), quote(changed(request, change), book, on))


def changed(request: QuoteRequest, change: Change) -> QuoteRequest:
    """Apply a change. Another distance moves a score that weighs distance by the score's own exponent."""
    given = {name: value for name in change.__struct_fields__ if (value := getattr(change, name)) is not UNSET}
    after: QuoteRequest = replace(request, **given)
    if change.km_per_year is not UNSET and after.telematics is not None and after.km_per_year:
        after = replace(after, telematics=at_distance(after.telematics, after.km_per_year))
    return after


def compare(before: Quote, after: Quote) -> Comparison:
    """Say what differs between two quotes."""
    both = [_premiums(before), _premiums(after)]
    lines = []
    for name in dict.fromkeys((*both[0], *both[1])):
        title, old = both[0].get(name, (None, None))
        new_title, new = both[1].get(name, (None, None))
        shown = title or new_title
        assert shown is not None
        difference = to_fen((new or ZERO) - (old or ZERO))
        lines.append(Difference(name=name, title=shown, before_yuan=old, after_yuan=new, difference_yuan=difference))
    per_km = None
    if before.per_km is not None and after.per_km is not None:
        per_km = after.per_km.total_yuan - before.per_km.total_yuan
    return Comparison(
        before=before,
        after=after,
        lines=lines,
        factors=_factors(before, after),
        difference_yuan=after.total_yuan - before.total_yuan,
        per_km_difference_yuan=per_km,
    )


def _premiums(quoted: Quote) -> dict[str, tuple[Text, Decimal]]:
    found = {line.cover: (line.title, line.premium_yuan) for line in quoted.lines}
    if quoted.compulsory is not None:
        found["compulsory"] = (quoted.compulsory.title, quoted.compulsory.premium_yuan)
    return found


def _factors(before: Quote, after: Quote) -> list[FactorDifference]:
    old, new = _by_name(before), _by_name(after)
    told = []
    for name in dict.fromkeys((*old, *new)):
        was, now = old.get(name), new.get(name)
        shown = now or was
        assert shown is not None
        if was is None or now is None or was.value != now.value:
            told.append(
                FactorDifference(
                    name=name,
                    title=shown.title,
                    before=was.value if was is not None else None,
                    after=now.value if now is not None else None,
                    reason=shown.reason,
                )
            )
    return told


def _by_name(quoted: Quote) -> dict[str, FactorLine]:
    found = {f"{f.name}.{part.name}": part for f in quoted.factors for part in f.parts}
    found.update({f.name: f for f in quoted.factors})
    if quoted.compulsory is not None:
        found["floating"] = quoted.compulsory.floating
    return found
