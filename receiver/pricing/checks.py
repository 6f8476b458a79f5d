"""What must hold between the lines of a regime file, so that a slip is found when it is loaded and not in a price."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import get_args

from agent.errors import ConfigError, near_names
from receiver.pricing.money import ONE, clamp
from receiver.pricing.request import Standing
from receiver.pricing.schema import Bound, Compulsory, Floating, Limits, Names, Ncd, Own, Regime


def check_regime(regime: Regime, names: Names, path: str) -> None:
    """Check a regime; raise ConfigError naming file, table and row."""
    if (regime.expense is None) != (regime.tables == "premium"):
        raise ConfigError(f"{path}: expense: belongs to tables of pure risk premiums, and only to them")
    if regime.expense is not None and not 0 <= regime.expense.percent <= regime.expense.cap_percent < 100:
        raise ConfigError(
            f"{path}: expense: {regime.expense.percent} % is beyond the cap {regime.expense.cap_percent} %"
        )
    for number, row in enumerate(regime.in_force, 1):
        known_names(row.regions, [*names.regions, "*"], f"{path}: in_force: row {number}")
    known_names(regime.ncd.neutral, get_args(Standing), f"{path}: ncd: neutral")
    _check_ncd(regime.ncd, f"{path}: ncd")
    _check_claims(regime, names, path)
    _check_covers(regime, path)
    entrances = [name for name, own in regime.own.items() if own.telematics]
    if len(entrances) != (regime.telematics is not None):
        raise ConfigError(f"{path}: telematics: enters through exactly one own coefficient, not {len(entrances)}")
    if regime.telematics is not None and not 0 < regime.telematics.low <= 1 <= regime.telematics.high:
        raise ConfigError(f"{path}: telematics: low and high must hold 1 between them")
    if regime.telematics is not None and regime.telematics.k_km <= 0:
        raise ConfigError(f"{path}: telematics: k_km must be above 0")
    for name, own in regime.own.items():
        _check_own(own, names, f"{path}: own.{name}")
    if regime.traffic is not None:
        for number, violation in enumerate(regime.traffic.rows, 1):
            known_names([violation.region], names.regions, f"{path}: traffic: row {number}")
            _check_low_high(violation.low, violation.high, f"{path}: traffic: row {number}")
    _check_per_km(regime, path)


def _check_covers(regime: Regime, path: str) -> None:
    for name, cover in regime.covers.items():
        where = f"{path}: covers.{name}"
        known_names(cover.needs, regime.covers, f"{where}: needs")
        for inside in cover.includes:
            if inside in regime.covers:
                raise ConfigError(f"{where}: includes {inside}, which is also offered alone")
        if (cover.sum is not None) != (cover.rule == "base_and_percent") and cover.agreed_percent is None:
            raise ConfigError(f"{where}: sum: belongs to rule base_and_percent, and only to it")
        if "actual_value" in (cover.sum, "actual_value" if cover.agreed_percent is not None else None) and (
            regime.depreciation is None
        ):
            raise ConfigError(f"{where}: the actual value needs a table depreciation")


def _check_claims(regime: Regime, names: Names, path: str) -> None:
    """Check what is taken from a claim, and what a car loses in value."""
    covers = {*regime.covers, *(i for c in regime.covers.values() for i in c.includes)}
    for number, fault in enumerate(regime.deductible.by_fault, 1):
        where = f"{path}: deductible.by_fault: row {number}"
        known_names(fault.covers, covers, where)
        known_names(fault.use_class, names.use_classes, where)
        _check_percents([fault.secondary, fault.equal, fault.primary, fault.full], where)
    for number, absolute in enumerate(regime.deductible.absolute, 1):
        where = f"{path}: deductible.absolute: row {number}"
        known_names([absolute.cover], covers, where)
        _check_percents([absolute.percent], where)
    shares = regime.liability
    _check_percents([shares.none, shares.secondary, shares.equal, shares.primary, shares.full], f"{path}: liability")
    for number, row in enumerate(regime.depreciation.rows if regime.depreciation is not None else (), 1):
        where = f"{path}: depreciation: row {number}"
        known_names(row.use_class, names.use_classes, where)
        _check_percents([row.percent_per_month], where)
        _check_percents([row.rest_percent], where)


def _check_percents(values: Sequence[Decimal], where: str) -> None:
    if list(values) != sorted(values) or not 0 <= values[0] <= values[-1] <= 100:
        raise ConfigError(f"{where}: percentages must lie between 0 and 100 and not fall with fault")


def _check_per_km(regime: Regime, path: str) -> None:
    rule = regime.per_km
    if rule is None:
        return
    known_names(rule.covers, regime.covers, f"{path}: per_km: covers")
    if not 0 <= rule.minimum_km <= rule.reference_km <= rule.maximum_km or rule.reference_km == 0:
        raise ConfigError(f"{path}: per_km: minimum_km, reference_km and maximum_km must not fall")
    if not 0 <= rule.base_percent <= 100 or not 0 <= rule.tolerance_percent < 100:
        raise ConfigError(f"{path}: per_km: percentages must lie between 0 and 100")
    if not any(own.telematics for own in regime.own.values()):
        raise ConfigError(f"{path}: per_km: needs an own coefficient through which driving enters the price")
    if regime.total is not None:
        raise ConfigError(f"{path}: per_km: is bounded by the own coefficient and cannot stand beside [total]")


def _check_own(own: Own, names: Names, where: str) -> None:
    spans: dict[tuple[str, str], list[tuple[date, date, int]]] = defaultdict(list)
    for number, bound in enumerate(own.bounds, 1):
        at = f"{where}.bounds: row {number}"
        known_names(bound.regions, [*names.regions, "*"], at)
        known_names(bound.energies, names.energies, at)
        _check_low_high(bound.low, bound.high, at)
        for region in bound.regions:
            for energy in bound.energies:
                spans[region, energy].append((*_days(bound), number))
    for (region, energy), rows in spans.items():
        for (_, end, first), (start, _, number) in pairwise(sorted(rows)):
            what = f"{where}.bounds: row {number}: {region}, {energy}"
            if start < end:
                raise ConfigError(f"{what}: overlaps row {first} from {start}")
            if start > end and region == "*":
                raise ConfigError(f"{what}: leaves a gap after row {first} from {end} to {start}")


def _days(bound: Bound) -> tuple[date, date]:
    start, end = bound.starts or date.min, bound.ends or date.max
    return start, end


def _check_low_high(low: Decimal, high: Decimal, where: str) -> None:
    if not 0 < low <= high or clamp(ONE, low, high) != 1:
        raise ConfigError(f"{where}: low {low} and high {high} must hold 1 between them")


def _check_ncd(ncd: Ncd, where: str) -> None:
    if bool(ncd.years) == bool(ncd.levels):
        raise ConfigError(f"{where}: has either rows by year or rows by level")
    if bool(ncd.levels) != (ncd.level_rule is not None):
        raise ConfigError(f"{where}: level_rule: belongs to rows by level, and only to them")
    if ncd.levels:
        _check_steps([(r.level, r.factor) for r in ncd.levels], f"{where}.levels", rising=True)
        if 0 not in {r.level for r in ncd.levels}:
            raise ConfigError(f"{where}.levels: level 0 is missing")
        return
    for number, row in enumerate(ncd.years, 1):
        if (row.claim_free_years is None) == (row.claims is None):
            raise ConfigError(f"{where}.years: row {number}: is either for claim_free_years or for claims")
    free = [(r.claim_free_years, r.factor) for r in ncd.years if r.claim_free_years is not None]
    claims = [(r.claims, r.factor) for r in ncd.years if r.claims is not None]
    _check_steps(free, f"{where}.years (claim_free_years)", rising=False, first=0)
    _check_steps(claims, f"{where}.years (claims)", rising=True, first=1)


def _check_steps(rows: Sequence[tuple[int, Decimal]], where: str, rising: bool, first: int | None = None) -> None:
    """Check that whole steps follow each other and that more claims never cost less."""
    if not rows or (first is not None and rows[0][0] != first):
        raise ConfigError(f"{where}: must start with {first}")
    for number, ((step, factor), (following, other)) in enumerate(pairwise(rows), 2):
        if following != step + 1:
            raise ConfigError(f"{where}: row {number}: {following} does not follow {step}")
        if (other < factor) if rising else (other > factor):
            raise ConfigError(
                f"{where}: row {number}: factor {other} against {factor} before it: more claims would cost less"
            )


def check_compulsory(law: Compulsory, names: Names, path: str) -> None:
    """Check the compulsory cover; raise ConfigError naming file, table and row."""
    _check_editions(law.floating, f"{path}: floating")
    _check_editions(law.limits, f"{path}: limits")
    for number, edition in enumerate(law.floating, 1):
        where = f"{path}: floating: row {number}"
        seen: dict[str, str] = {}
        for row, zone in enumerate(edition.zones, 1):
            known_names(zone.regions, [*names.regions, "*"], f"{where}: zones: row {row}")
            for region in zone.regions:
                if region in seen:
                    raise ConfigError(f"{where}: zones: row {row}: {region} is already in zone {seen[region]}")
                seen[region] = zone.zone
            steps = [getattr(zone, name) for name in ("A3", "A2", "A1", "A4", "A5", "A6")]
            if any(later < earlier for earlier, later in pairwise(steps)) or min(steps) <= -100:
                raise ConfigError(f"{where}: zones: row {row}: more accidents would cost less")
        missing = [r for r in names.regions if r not in seen]
        if missing and "*" not in seen:
            raise ConfigError(f"{where}: zones: no zone has {', '.join(missing)}")


def _check_editions(editions: Sequence[Floating | Limits], where: str) -> None:
    if not editions:
        raise ConfigError(f"{where}: has no rows")
    for number, (before, after) in enumerate(pairwise(editions), 2):
        if before.ends is None or after.starts is None or before.ends != after.starts:
            fault = f"starts {after.starts}, but row {number - 1} ends {before.ends}"
            raise ConfigError(f"{where}: row {number}: {fault}: a gap or an overlap")
    for number, edition in enumerate(editions, 1):
        for moment in (edition.starts, edition.ends):
            if isinstance(moment, datetime) and moment.tzinfo is None:
                raise ConfigError(f"{where}: row {number}: {moment} needs its offset, e.g. +08:00")


def known_names(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Check that every name is known; raise ConfigError with near names."""
    known = list(known)
    for name in given:
        if name not in known:
            raise ConfigError(f"{where}: '{name}' is not known{near_names(name, known)}")
