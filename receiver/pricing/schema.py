"""What a regime file may say. Amounts are yuan, ages years; bands go from `from` to below `below`.

Every table carries its version, its source and whether that was read (`verified`); a row may differ from its table.
"""

from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from msgspec import Struct, field


class Table(Struct, frozen=True, kw_only=True):
    """Where a table comes from."""

    version: str
    source: str
    verified: bool


class Row(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of a rate table: first what it is for, then what it says."""

    use_class: str | list[str] | None = None
    energy: str | list[str] | None = None
    cover: str | None = None
    model: str | None = None
    origin: str | None = None
    limit: Decimal | None = None
    seats_from: Decimal | None = None
    seats_below: Decimal | None = None
    tonnes_from: Decimal | None = None
    tonnes_below: Decimal | None = None
    cc_from: Decimal | None = None
    cc_below: Decimal | None = None
    age_from: Decimal | None = None
    age_below: Decimal | None = None
    price_from: Decimal | None = None
    price_below: Decimal | None = None

    premium: Decimal | None = None
    base: Decimal | None = None
    percent: Decimal | None = None
    driver_percent: Decimal | None = None
    passenger_percent: Decimal | None = None
    factor: Decimal | None = None

    source: str | None = None
    verified: bool | None = None


class Rows(Table, frozen=True, kw_only=True):
    """A rate table."""

    rows: list[Row]


class Name(Struct, frozen=True, kw_only=True):
    """A word of the tables in both languages."""

    en: str
    zh: str


class Names(Struct, frozen=True, kw_only=True):
    """Regions, use classes and energy types that all files share (names.toml)."""

    source: str
    regions: dict[str, Name]
    use_classes: dict[str, Name]
    energies: dict[str, Name]


class Dated(Struct, frozen=True, kw_only=True):
    """Days on which something holds: `ends` is the first day on which it no longer does."""

    starts: date | None = None
    ends: date | None = None


class InForce(Dated, frozen=True, kw_only=True):
    """Where and when a regime holds; "*" is every region that no other row of the file names."""

    regions: list[str]


class Bound(InForce, frozen=True, kw_only=True):
    """How far an own coefficient may go there and then."""

    energies: list[str]
    low: Decimal
    high: Decimal
    source: str | None = None
    verified: bool | None = None


class Own(Table, frozen=True, kw_only=True):
    """A coefficient that the insurer sets by itself, inside bounds that the regulator sets."""

    en: str
    zh: str
    telematics: bool  # does the score enter here?
    filed: list[Row]  # the insurer's own value without telematics
    bounds: list[Bound]


class Telematics(Table, frozen=True, kw_only=True):
    """How the score becomes a factor: 1 + Z (r - 1) within low and high, Z = km / (km + k_km)."""

    k_km: Decimal
    low: Decimal
    high: Decimal


class Expense(Table, frozen=True, kw_only=True):
    """The share of a premium that pays costs; the filed one may not exceed the cap."""

    percent: Decimal
    cap_percent: Decimal


class NcdYear(Struct, frozen=True, kw_only=True):
    """A row of the one-year table: by years without a claim, or by last year's claims."""

    factor: Decimal
    claim_free_years: int | None = None
    claims: int | None = None
    source: str | None = None
    verified: bool | None = None


class NcdLevel(Struct, frozen=True, kw_only=True):
    """A row of the three-year table."""

    level: int
    factor: Decimal
    source: str | None = None
    verified: bool | None = None


class LevelRule(Struct, frozen=True, kw_only=True):
    """How a claims history becomes a level: claims - insured years, within the table."""

    years_counted: int  # so many insured years lower the level, one each
    clean_years_for_lowest: int  # so many insured years in a row without a claim reach the lowest
    lapse_months_only_up: int  # from here on a lapse keeps the level from falling
    lapse_months_reset: int  # beyond this it sets the level to 0


class Ncd(Table, frozen=True, kw_only=True):
    """Claims history to factor; either by year or by level."""

    neutral: list[str]  # standings that have factor 1 whatever the history says
    years: list[NcdYear] = field(default_factory=list)
    levels: list[NcdLevel] = field(default_factory=list)
    level_rule: LevelRule | None = None  # with levels


class Violation(Struct, frozen=True, kw_only=True):
    """Bounds of the traffic-violation factor in a region that has one."""

    region: str
    low: Decimal
    high: Decimal


class Traffic(Table, frozen=True, kw_only=True):
    """Where traffic violations weigh; elsewhere the factor is 1."""

    rows: list[Violation]


class Total(Table, frozen=True, kw_only=True):
    """A bound on the product of all factors."""

    low: Decimal | None = None
    high: Decimal | None = None


class Cover(Rows, frozen=True, kw_only=True):
    """A cover: what may be chosen and how its price is found.

    rule "premium": the row's premium. "base_and_percent": base + sum × percent. "per_seat": driver's limit × percent
    and passengers' limit × percent × (seats - 1). "share": percent of other covers' premiums.
    sum "new_price", "actual_value" (new price less depreciation) or "chosen".
    """

    en: str
    zh: str
    rule: Literal["premium", "base_and_percent", "per_seat", "share"]
    sum: Literal["new_price", "actual_value", "chosen"] | None = None
    limits: list[Decimal] = field(default_factory=list)  # the sums that are offered
    low: Decimal | None = None  # or from here
    high: Decimal | None = None  # to here
    needs: list[str] = field(default_factory=list)
    includes: list[str] = field(default_factory=list)  # covers that are part of this one
    agreed_percent: Decimal | None = None  # premium: percent of what the agreed value lies above the actual one
    note_en: str = ""
    note_zh: str = ""


class Depreciation(Struct, frozen=True, kw_only=True):
    """How a car loses value: percent of the new price a month, never below a rest."""

    use_class: list[str]
    percent_per_month: Decimal
    rest_percent: Decimal


class DepreciationTable(Table, frozen=True, kw_only=True):
    """Depreciation by use class."""

    rows: list[Depreciation]


class FaultDeductible(Struct, frozen=True, kw_only=True):
    """Percent that the insured bears by share of fault."""

    covers: list[str]
    secondary: Decimal
    equal: Decimal
    primary: Decimal
    full: Decimal
    use_class: list[str] = field(default_factory=list)  # empty: all that no other row names


class AbsoluteDeductible(Struct, frozen=True, kw_only=True):
    """Percent that the insured bears each time, whoever is at fault; WAIVER does not give it back."""

    cover: str
    percent: Decimal
    ends_at_sum: bool = False  # the cover ends when payments have reached its sum
    source: str | None = None
    verified: bool | None = None


class Deductible(Table, frozen=True, kw_only=True):
    """What is taken from a claim."""

    by_fault: list[FaultDeductible]
    absolute: list[AbsoluteDeductible]


class Liability(Table, frozen=True, kw_only=True):
    """Percent of a loss by share of fault where the police give no percentage."""

    none: Decimal
    secondary: Decimal
    equal: Decimal
    primary: Decimal
    full: Decimal


class PerKm(Table, frozen=True, kw_only=True):
    """The pay-per-kilometre product: a base and a price per km in place of the yearly premium."""

    en: str
    zh: str
    covers: list[str]
    reference_km: int  # the yearly premium is what this distance would cost
    base_percent: Decimal  # of the yearly premium that is due without driving
    minimum_km: int  # billed at least
    maximum_km: int  # billed at most
    tolerance_percent: Decimal  # of the declared distance that is neither billed nor given back


class Regime(Struct, frozen=True, kw_only=True):
    """One law of commercial motor premiums."""

    name: str
    version: str
    en: str
    zh: str
    source: str
    tables: Literal["premium", "pure_risk"]  # what the covers' tables hold
    quote_valid_days: int
    in_force: list[InForce]
    ncd: Ncd
    covers: dict[str, Cover]
    deductible: Deductible
    liability: Liability
    expense: Expense | None = None
    own: dict[str, Own] = field(default_factory=dict)
    traffic: Traffic | None = None
    telematics: Telematics | None = None
    total: Total | None = None
    depreciation: DepreciationTable | None = None
    per_km: PerKm | None = None


class Zone(Struct, frozen=True, kw_only=True):
    """Percent by which the compulsory premium floats in some regions."""

    zone: str
    regions: list[str]
    A1: Decimal
    A2: Decimal
    A3: Decimal
    A4: Decimal
    A5: Decimal
    A6: Decimal


class Floating(Table, frozen=True, kw_only=True):
    """One edition of the floating rates, by the policy's first day."""

    starts: date | None = None
    ends: date | None = None
    zones: list[Zone]


class Amounts(Struct, frozen=True, kw_only=True):
    """Limits of the compulsory cover by kind of loss."""

    death: Decimal
    medical: Decimal
    property: Decimal


class Limits(Table, frozen=True, kw_only=True):
    """One edition of the limits, by the moment of the accident (not of the policy)."""

    starts: datetime | None = None
    ends: datetime | None = None
    at_fault: Amounts
    no_fault: Amounts


class Compulsory(Struct, frozen=True, kw_only=True):
    """The compulsory cover (compulsory.toml)."""

    name: str
    version: str
    en: str
    zh: str
    trailer_percent: Decimal
    base: Rows
    floating: list[Floating]
    limits: list[Limits]
