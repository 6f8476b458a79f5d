"""What the page of a quote is given: every factor with its bound, every cover, and what else it might cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from receiver.pricing import Quote, settle
from receiver.pricing.answer import CompulsoryLine, FactorLine, PerKmOffer, PremiumLine
from receiver.pricing.answer import Text as Said
from receiver.pricing.money import plain, total
from receiver.pricing.whatif import Comparison
from receiver.words import Words

DISTANCES: Final = (5_000, 10_000, 15_000, 20_000, 30_000)  # km a year of the table of pay-per-kilometre


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor; places on its bar are percent, None without bounds on both sides."""

    name: str
    value: str
    raw: str
    bounds: str
    bit: bool
    at: float | None
    one: float | None  # where 1 lies: nothing dearer, nothing cheaper
    reason: str
    origin: str
    verified: bool
    inner: bool


@dataclass(frozen=True, slots=True)
class CoverLine:
    """One cover's premium."""

    name: str
    sums: str
    how: str
    note: str
    premium: str
    without: str
    origin: str
    verified: bool


@dataclass(frozen=True, slots=True)
class Distance:
    """What a year comes to at a distance."""

    km: str
    total: str
    difference: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class PerKm:
    """Pay per kilometre beside the yearly price."""

    total: str
    declared: str
    reason: str
    bounds: str
    tolerance: str
    rows: list[Distance]


@dataclass(frozen=True, slots=True)
class Change:
    """One line of what differs from the present state."""

    name: str
    before: str
    after: str
    difference: str


@dataclass(frozen=True, slots=True)
class QuoteView:
    """A quote in words."""

    total: str
    without: str
    effect: str
    effect_looks: str  # less, more or same
    scored: bool
    commercial: str
    compulsory: str
    regime: str
    region: str
    period: str
    valid: str
    factors: list[Factor]
    lines: list[CoverLine]
    per_km: PerKm | None
    versions: list[str]
    unverified: list[str]
    rounding: str


def quote(words: Words, told: Quote) -> QuoteView:
    """Put a quote into words."""
    text, language = words.text, words.text.language
    effect = told.telematics_effect_yuan
    factors = [*_factors(words, told.factors), *([] if told.multiplier is None else _factors(words, [told.multiplier]))]
    lines = [_cover(words, line) for line in told.lines]
    if told.compulsory is not None:
        factors += _factors(words, [told.compulsory.floating])
        lines.append(_compulsory(words, told.compulsory))
    return QuoteView(
        total=yuan(words, told.total_yuan),
        without=yuan(words, told.without_telematics_yuan),
        effect=signed(words, effect),
        effect_looks="less" if effect < 0 else "more" if effect > 0 else "same",
        scored=told.score_version is not None,
        commercial=yuan(words, told.commercial_yuan),
        compulsory=yuan(words, told.compulsory_yuan),
        regime=said(told.regime_title, language),
        region=said(told.region_title, language),
        period=text("my_quote.period", first=day(words, told.starts), last=day(words, told.ends)),
        valid=text("my_quote.valid", day=day(words, told.valid_until)),
        factors=factors,
        lines=lines,
        per_km=None if told.per_km is None else _per_km(words, told.per_km, told),
        versions=_versions(words, told),
        unverified=told.unverified,
        rounding=said(told.rounding, language),
    )


def changes(words: Words, told: Comparison) -> list[Change]:
    """Return what differs between two quotes, line by line and in all; [] where nothing does."""
    language = words.text.language
    listed = [
        Change(
            said(line.title, language),
            _amount(words, line.before_yuan),
            _amount(words, line.after_yuan),
            signed(words, line.difference_yuan),
        )
        for line in told.lines
        if line.difference_yuan
    ]
    listed += [
        Change(said(f.title, language), _plain(f.before), _plain(f.after), said(f.reason, language))
        for f in told.factors
    ]
    return listed


def said(both: Said, language: str) -> str:
    """Return a text of the rate tables in a language."""
    return str(getattr(both, language))


def yuan(words: Words, amount: Decimal) -> str:
    """Write an amount with its unit, to the fen where it has any."""
    shown = f"{amount:,.0f}" if amount == amount.to_integral_value() else f"{amount:,.2f}"
    return words.text("my_quote.yuan", n=shown.replace("-", "−"))


def signed(words: Words, amount: Decimal) -> str:
    """Write a difference with its sign."""
    return f"+{yuan(words, amount)}" if amount > 0 else yuan(words, amount)


def day(words: Words, at: date) -> str:
    """Write a calendar day."""
    month, weekday = words.text.listed("time.months")[at.month - 1], words.text.listed("time.weekdays")[at.weekday()]
    return words.text("time.date", year=at.year, month=month, day=at.day, weekday=weekday)


def _amount(words: Words, amount: Decimal | None) -> str:
    return "–" if amount is None else yuan(words, amount)


def _plain(value: Decimal | None) -> str:
    return "–" if value is None else plain(value)


def _factors(words: Words, lines: Sequence[FactorLine], inner: bool = False) -> list[Factor]:
    told = []
    for line in lines:
        told.append(_factor(words, line, inner))
        told += _factors(words, line.parts, inner=True)
    return told


def _factor(words: Words, f: FactorLine, inner: bool) -> Factor:
    text, language = words.text, words.text.language
    low, high, at, one = f.low, f.high, None, None
    bounds = ""
    if low is not None and high is not None:
        bounds = text("my_quote.bounds", low=plain(low), high=plain(high))
        if high > low:
            at = float(100 * (f.value - low) / (high - low))
            one = float(100 * (1 - low) / (high - low)) if low <= 1 <= high else None
    elif low is not None or high is not None:
        bounds = text("my_quote.bound_low", low=plain(low)) if low is not None else ""
        bounds = text("my_quote.bound_high", high=plain(high)) if high is not None else bounds
    return Factor(
        name=said(f.title, language),
        value=plain(f.value),
        raw=plain(f.raw),
        bounds=bounds,
        bit=f.bounded,
        at=at,
        one=one,
        reason=said(f.reason, language),
        origin=text("my_quote.origin", table=f.table, version=f.version, source=f.source),
        verified=f.verified,
        inner=inner,
    )


def _cover(words: Words, line: PremiumLine) -> CoverLine:
    text, language = words.text, words.text.language
    sums = []
    for key in ("limit_yuan", "driver_limit_yuan", "passenger_limit_yuan"):
        amount = getattr(line, key)
        if amount is not None:
            sums.append(text(f"my_quote.of.{key}", amount=yuan(words, amount)))
    how = text(
        "my_quote.how",
        formula=line.formula,
        expense=plain(line.expense_percent),
        benchmark=yuan(words, line.benchmark_yuan),
        multiplier=plain(line.multiplier),
    )
    origin = text("my_quote.origin", table=line.table, version=line.version, source=line.source)
    return CoverLine(
        name=said(line.title, language),
        sums=text("event.separator").join(sums),
        how=how,
        note=said(line.note, language),
        premium=yuan(words, line.premium_yuan),
        without=yuan(words, line.without_telematics_yuan),
        origin=origin,
        verified=line.verified,
    )


def _compulsory(words: Words, line: CompulsoryLine) -> CoverLine:
    text = words.text
    how = text(
        "my_quote.how_compulsory",
        base=yuan(words, line.base_yuan),
        floating=plain(line.floating.value),
        zone=line.zone,
    )
    return CoverLine(
        name=said(line.title, text.language),
        sums="",
        how=how,
        note=text("my_quote.compulsory_note"),
        premium=yuan(words, line.premium_yuan),
        without=yuan(words, line.premium_yuan),
        origin=text("my_quote.origin", table=line.table, version=line.version, source=line.source),
        verified=line.verified,
    )


def _per_km(words: Words, offer: PerKmOffer, told: Quote) -> PerKm:
    text = words.text
    fixed = total([offer.other_yuan, told.compulsory_yuan])
    inside = {km for km in DISTANCES if offer.minimum_km <= km <= offer.maximum_km}
    rows = []
    for km in sorted(inside | {offer.declared_km}):
        whole = offer.total_yuan if km == offer.declared_km else total([_priced(offer, km), fixed])
        shown = signed(words, whole - told.total_yuan)
        rows.append(Distance(f"{km:,}", yuan(words, whole), shown, km == offer.declared_km))
    return PerKm(
        total=yuan(words, offer.total_yuan),
        declared=f"{offer.declared_km:,}",
        reason=said(offer.reason, text.language),
        bounds=text(
            "my_quote.per_km_bounds", floor=yuan(words, offer.floor_yuan), ceiling=yuan(words, offer.ceiling_yuan)
        ),
        tolerance=text("my_quote.per_km_tolerance", percent=plain(offer.tolerance_percent)),
        rows=rows,
    )


def _priced(offer: PerKmOffer, km: int) -> Decimal:
    """Return what the covers paid by distance cost in a year of `km`, as it is settled."""
    return settle(offer, km).final_yuan


def _versions(words: Words, told: Quote) -> list[str]:
    text = words.text
    lines = [text("my_quote.version_regime", regime=told.regime, version=told.regime_version)]
    if told.score_version is not None:
        lines.append(text("my_quote.version_score", version=told.score_version))
        lines.append(text("my_quote.version_consent", consent=told.consent or ""))
    return lines
