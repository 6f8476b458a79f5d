"""The rate book: all files of `config/regimes`, read, checked and made ready to be looked up."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from agent.errors import ConfigError, near_names
from receiver.pricing.checks import check_compulsory, check_regime
from receiver.pricing.reading import read
from receiver.pricing.refusals import QuoteError
from receiver.pricing.schema import (
    Amounts,
    Bound,
    Compulsory,
    Cover,
    Dated,
    Floating,
    InForce,
    Limits,
    Names,
    Own,
    Regime,
)
from receiver.pricing.tables import RateTable

EVERYWHERE: Final = "*"
VALUES_OF_RULE: Final = {
    "premium": ("premium",),
    "base_and_percent": ("base", "percent"),
    "per_seat": ("driver_percent", "passenger_percent"),
    "share": ("percent",),
}
FAULTS: Final = ("none", "secondary", "equal", "primary", "full")

Fault = Literal["none", "secondary", "equal", "primary", "full"]


@dataclass(frozen=True, slots=True)
class CoverRates:
    """A cover and its table."""

    cover: Cover
    table: RateTable


@dataclass(frozen=True, slots=True)
class OwnRates:
    """An own coefficient and the insurer's filed values."""

    own: Own
    filed: RateTable

    def bound(self, region: str, energy: str, day: date) -> Bound:
        """Return the bounds there and then, a region's own before those of all; raise QuoteError without any."""
        fits = [b for b in self.own.bounds if energy in b.energies and holds(b, day)]
        for wanted in (region, EVERYWHERE):
            for b in fits:
                if wanted in b.regions:
                    return b
        known = sorted({e for b in self.own.bounds for e in b.energies})
        raise QuoteError(
            "no_row", "vehicle.energy", known, value=f"{energy} on {day}", table=f"{self.filed.name} bounds"
        )


@dataclass(frozen=True, slots=True)
class RegimeRates:
    """A regime with its tables."""

    regime: Regime
    covers: dict[str, CoverRates]
    own: dict[str, OwnRates]
    path: Path

    @property
    def name(self) -> str:
        """Return the regime's name, e.g. 2020."""
        return self.regime.name

    def fault_deductible(self, cover: str, fault: Fault, use_class: str) -> Decimal:
        """Return the percent that the insured bears for a share of fault, 0 where the regime takes nothing."""
        if fault == "none":
            return Decimal(0)
        rows = [r for r in self.regime.deductible.by_fault if cover in r.covers]
        for row in sorted(rows, key=lambda r: not r.use_class):
            if not row.use_class or use_class in row.use_class:
                return Decimal(getattr(row, fault))
        return Decimal(0)

    def absolute_deductible(self, cover: str) -> Decimal:
        """Return the percent that the insured bears each time, 0 where there is none."""
        return next((a.percent for a in self.regime.deductible.absolute if a.cover == cover), Decimal(0))

    def ends_at_sum(self, cover: str) -> bool:
        """Say whether a cover ends when what was paid has reached its sum."""
        return any(a.cover == cover and a.ends_at_sum for a in self.regime.deductible.absolute)

    def liability_percent(self, fault: Fault) -> Decimal:
        """Return the percent of a loss for a share of fault where the police give no percentage."""
        return Decimal(getattr(self.regime.liability, fault))


@dataclass(frozen=True, slots=True)
class CompulsoryRates:
    """The compulsory cover with its base premiums."""

    law: Compulsory
    base: RateTable
    path: Path

    def limits(self, accident_at: datetime) -> Limits:
        """Return the limits of the moment of an accident (aware datetime); raise QuoteError before the first."""
        for edition in self.law.limits:
            if (edition.starts is None or edition.starts <= accident_at) and (
                edition.ends is None or accident_at < edition.ends
            ):
                return edition
        known = [f"from {e.starts}" for e in self.law.limits]
        raise QuoteError("no_row", "accident_at", known, value=accident_at, table=f"{self.law.name} limits")

    def amounts(self, accident_at: datetime, at_fault: bool) -> Amounts:
        """Return the limits by kind of loss, for a driver at fault or without any fault."""
        edition = self.limits(accident_at)
        return edition.at_fault if at_fault else edition.no_fault


@dataclass(frozen=True, slots=True)
class RateBook:
    """Everything that a price is made of."""

    names: Names
    compulsory: CompulsoryRates
    regimes: dict[str, RegimeRates]

    def region(self, given: str) -> str:
        """Return a region's id from its id or Chinese name; raise QuoteError for any other."""
        if given in self.names.regions:
            return given
        for name, title in self.names.regions.items():
            if title.zh == given:
                return name
        raise QuoteError("unknown_region", "region", self.names.regions, value=given)

    def regime(self, region: str, day: date, wanted: str | None = None) -> RegimeRates:
        """Return the regime in force in a region on a day; raise QuoteError if there is none or `wanted` is another."""
        for rates in self.regimes.values():
            if in_force(rates.regime.in_force, region, day):
                if wanted is not None and wanted != rates.name:
                    raise QuoteError("not_in_force", "regime", [rates.name], value=wanted, day=day, region=region)
                return rates
        raise QuoteError("no_regime", "start", self.spans(region), day=day, region=region)

    def spans(self, region: str) -> list[str]:
        """Say when which regime holds in a region."""
        told = []
        for name, rates in self.regimes.items():
            row = _row(rates.regime.in_force, region)
            if row is not None:
                told.append(f"{name}: {row.starts or '…'} to {row.ends or '…'}")
        return told


def holds(row: Dated | Floating, day: date) -> bool:
    """Say whether a dated row holds on a day."""
    return (row.starts is None or row.starts <= day) and (row.ends is None or day < row.ends)


def in_force(rows: Sequence[InForce], region: str, day: date) -> bool:
    """Say whether a regime holds in a region on a day; a region's own row replaces the one of all others."""
    row = _row(rows, region)
    return row is not None and holds(row, day)


def _row(rows: Sequence[InForce], region: str) -> InForce | None:
    own = [r for r in rows if region in r.regions]
    return next(iter(own or [r for r in rows if EVERYWHERE in r.regions]), None)


def regimes_dir() -> Path:
    """Return the folder of the rate tables: the system's, a checkout's, or the installed one."""
    candidates = [
        Path("/etc/roadwitness/regimes"),
        Path(__file__).resolve().parents[2] / "config" / "regimes",
        Path(sys.prefix) / "share" / "roadwitness" / "config" / "regimes",
    ]
    for folder in candidates:
        if folder.is_dir():
            return folder
    looked = ", ".join(str(c) for c in candidates)
    raise ConfigError(f"no folder with rate tables found; looked in {looked}; reinstall the package or give --regimes")


def load_book(folder: Path | None = None) -> RateBook:
    """Read names.toml, compulsory.toml and, as regimes, all other files; raise ConfigError naming what is wrong."""
    folder = folder or regimes_dir()
    names = read(folder / "names.toml", Names)
    compulsory = load_compulsory(folder / "compulsory.toml", names)
    paths = sorted(p for p in folder.glob("*.toml") if p.name not in ("names.toml", "compulsory.toml"))
    if not paths:
        raise ConfigError(f"{folder}: holds no regime (a TOML file beside names.toml)")
    regimes: dict[str, RegimeRates] = {}
    for path in paths:
        rates = load_regime(path, names)
        if rates.name in regimes:
            raise ConfigError(f"{path}: name '{rates.name}' is taken by {regimes[rates.name].path}")
        regimes[rates.name] = rates
    _check_spans(regimes, names.regions)
    return RateBook(names, compulsory, regimes)


def load_compulsory(path: Path, names: Names) -> CompulsoryRates:
    """Read the compulsory cover's file; raise ConfigError naming table and row."""
    law = read(path, Compulsory)
    check_compulsory(law, names, str(path))
    base = RateTable(f"{law.name} base", law.base.rows, ("premium",), f"{path}: base")
    check_names(base, names, f"{path}: base")
    return CompulsoryRates(law, base, path)


def load_regime(path: Path, names: Names) -> RegimeRates:
    """Read one regime's file; raise ConfigError naming table and row."""
    regime = read(path, Regime)
    check_regime(regime, names, str(path))
    covers: dict[str, CoverRates] = {}
    for name, cover in regime.covers.items():
        where = f"{path}: covers.{name}"
        table = RateTable(f"{regime.name} {name}", cover.rows, VALUES_OF_RULE[cover.rule], where)
        check_names(table, names, where)
        _check_limits(cover, table, where)
        covers[name] = CoverRates(cover, table)
    own: dict[str, OwnRates] = {}
    for name, coefficient in regime.own.items():
        where = f"{path}: own.{name}.filed"
        filed = RateTable(f"{regime.name} {name}", coefficient.filed, ("factor",), where)
        check_names(filed, names, where)
        own[name] = OwnRates(coefficient, filed)
    return RegimeRates(regime, covers, own, path)


def check_names(table: RateTable, names: Names, where: str) -> None:
    """Check a table's use classes and energies against names.toml."""
    for key, known in (("use_class", names.use_classes), ("energy", names.energies)):
        if key in table.keys:
            for name in table.knows(key):
                if name not in known:
                    raise ConfigError(f"{where}: {key} '{name}' is not in names.toml{near_names(name, known)}")


def _check_limits(cover: Cover, table: RateTable, where: str) -> None:
    if "limit" not in table.keys:
        return
    for limit in table.knows("limit"):
        if limit not in cover.limits:
            raise ConfigError(f"{where}: a row has limit {limit}, which is not among its limits")


def _check_spans(regimes: dict[str, RegimeRates], regions: Iterable[str]) -> None:
    """Check that no region has two regimes on one day."""
    for region in regions:
        spans = []
        for rates in regimes.values():
            row = _row(rates.regime.in_force, region)
            if row is not None:
                spans.append((row.starts or date.min, row.ends or date.max, rates))
        spans.sort(key=lambda s: s[0])
        for (_, end, first), (start, _, second) in pairwise(spans):
            if start < end:
                raise ConfigError(f"{second.path}: in_force: overlaps regime {first.name} in {region} from {start}")
            if start > end:
                raise ConfigError(f"{second.path}: in_force: no regime in {region} from {end} to {start}")
