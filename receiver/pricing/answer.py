"""What a price is answered with: every factor, bound, table and reason, so that a person can work it out again."""

from datetime import date
from decimal import Decimal

from msgspec import Struct, field

from receiver.pricing.request import QuoteRequest


class Text(Struct, frozen=True):
    """A sentence in both languages."""

    en: str
    zh: str


class FactorLine(Struct, frozen=True, kw_only=True):
    """A factor: `raw` is what came out before its bounds, `bounded` whether they changed it."""

    name: str
    title: Text
    value: Decimal
    raw: Decimal
    low: Decimal | None = None
    high: Decimal | None = None
    bounded: bool = False
    table: str
    version: str
    source: str
    verified: bool
    reason: Text
    parts: list["FactorLine"] = field(default_factory=list)


class PremiumLine(Struct, frozen=True, kw_only=True):
    """One cover: what the table gives, the benchmark premium, and the premium, rounded here and nowhere else."""

    cover: str
    title: Text
    limit_yuan: Decimal | None = None
    driver_limit_yuan: Decimal | None = None
    passenger_limit_yuan: Decimal | None = None
    of: list[str] = field(default_factory=list)
    formula: str  # how basis_yuan came to be
    basis_yuan: Decimal  # pure risk premium, or tariff premium, exact
    expense_percent: Decimal
    benchmark_yuan: Decimal  # basis / (1 - expenses), shown to the fen, not used further
    multiplier: Decimal
    premium_yuan: Decimal
    without_telematics_yuan: Decimal
    table: str
    rows: list[int]  # of the table, from 1
    version: str
    source: str
    verified: bool
    note: Text


class CompulsoryLine(Struct, frozen=True, kw_only=True):
    """The compulsory cover; nothing of telematics is in it."""

    title: Text
    base_yuan: Decimal
    zone: str
    code: str  # A1 … A6, "" for none
    floating: FactorLine
    premium_yuan: Decimal
    table: str
    rows: list[int]
    version: str
    source: str
    verified: bool


class PerKmOffer(Struct, frozen=True, kw_only=True):
    """The same covers paid by distance: base + rate × km, inside floor and ceiling, settled at the end of the year."""

    title: Text
    table: str
    version: str
    source: str
    verified: bool
    covers: list[str]
    other_yuan: Decimal  # chosen covers that are paid by the year
    reference_km: int
    reference_yuan: Decimal  # yearly premium of these covers at that distance
    base_yuan: Decimal
    rate_yuan_per_km: Decimal
    declared_km: int
    minimum_km: int
    maximum_km: int
    tolerance_percent: Decimal
    floor_yuan: Decimal  # what the pricing coefficient's lower bound allows
    ceiling_yuan: Decimal
    deposit_yuan: Decimal  # at the declared distance, without other_yuan
    total_yuan: Decimal  # deposit, other covers and compulsory cover
    multiplier: Decimal
    reason: Text


class Quote(Struct, frozen=True, kw_only=True):
    """A price for one year."""

    regime: str
    regime_version: str
    regime_title: Text
    currency: str
    quoted_on: date
    valid_until: date
    starts: date
    ends: date
    region: str
    region_title: Text
    factors: list[FactorLine]
    multiplier: FactorLine | None  # the product of all factors; None without commercial covers
    lines: list[PremiumLine]
    commercial_yuan: Decimal
    compulsory: CompulsoryLine | None
    compulsory_yuan: Decimal
    total_yuan: Decimal
    without_telematics_yuan: Decimal  # total without the score
    telematics_effect_yuan: Decimal
    score_version: str | None
    consent: str | None
    rounding: Text
    unverified: list[str]  # tables in this price that nobody has read in their source
    per_km: PerKmOffer | None
    request: QuoteRequest


class Settlement(Struct, frozen=True, kw_only=True):
    """The end of a pay-per-kilometre year."""

    km: int
    declared_km: int
    billed_km: Decimal
    final_yuan: Decimal
    deposit_yuan: Decimal
    due_yuan: Decimal  # below 0: to be given back
    bounded: bool
    reason: Text
