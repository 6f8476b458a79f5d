"""The factors of a commercial premium: claims history, traffic violations, own coefficients with the score inside."""

from decimal import Decimal

from receiver.pricing.answer import FactorLine, Text
from receiver.pricing.book import RegimeRates
from receiver.pricing.money import HUNDRED, ONE, clamp, product, ratio, to_factor, trim
from receiver.pricing.refusals import QuoteError
from receiver.pricing.request import History, QuoteRequest, Telematics
from receiver.pricing.schema import LevelRule, Ncd, NcdLevel, NcdYear, Table
from receiver.pricing.tables import Facts
from receiver.pricing.words import STANDINGS, TITLES, join, say


def factors(rates: RegimeRates, request: QuoteRequest, region: str, facts: Facts) -> list[FactorLine]:
    """Return all factors in the order of the formula; raise QuoteError for what the tables do not know."""
    for name in request.own:
        if name not in rates.own:
            raise QuoteError("not_used", f"own.{name}", rates.own, why=f"regime {rates.name} has other coefficients")
    lines = [ncd_factor(rates, request.history)]
    traffic = _traffic(rates, request, region)
    if traffic is not None:
        lines.append(traffic)
    lines.extend(_own(rates, request, name, region, facts) for name in rates.own)
    if request.telematics is not None and rates.regime.telematics is None:
        lines.append(_one(rates, "telematics", say("score.no_place")))
    return lines


def all_together(rates: RegimeRates, lines: list[FactorLine]) -> FactorLine:
    """Return the product of the factors inside the regime's bounds for it, if it has any."""
    raw = product(*(line.value for line in lines))
    rule = rates.regime.total
    low, high = (rule.low, rule.high) if rule is not None else (None, None)
    value = clamp(raw, low, high)
    reason = say("total")
    if value != raw:
        reason = say("total.low" if value > raw else "total.high", raw=raw, low=low, high=high)
    table = _origin(rates, rule, "total")
    return _line("total", TITLES["total"], value, table, reason, raw=raw, low=low, high=high)


def ncd_factor(rates: RegimeRates, history: History | None) -> FactorLine:
    """Return the no-claim factor; raise QuoteError naming what the history lacks."""
    ncd = rates.regime.ncd
    if history is None:
        raise QuoteError("missing", "history", why="for commercial covers")
    if history.standing in ncd.neutral:
        reason = say("ncd.neutral", standing=STANDINGS[history.standing])
        return _line("ncd", TITLES["ncd"], ONE, _origin(rates, ncd, "ncd"), reason)
    if history.standing != "renewal":
        raise QuoteError(
            "not_used", "history.standing", ["renewal", *ncd.neutral], why=f"regime {rates.name} has no such standing"
        )
    row: NcdLevel | NcdYear
    if ncd.level_rule is not None:
        row, reason = _by_level(ncd, ncd.level_rule, history)
    else:
        row, reason = _by_year(ncd, history)
    verified = ncd.verified if row.verified is None else row.verified
    return _line("ncd", TITLES["ncd"], row.factor, _origin(rates, ncd, "ncd", row.source, verified), reason)


def ncd_level(ncd: Ncd, rule: LevelRule, history: History) -> int:
    """Return the level of the three-year rule (docs/sources.md P3); raise QuoteError naming what is missing."""
    years = _needed(history.insured_years, "insured_years")
    claims = _needed(history.claims_three_years, "claims_three_years")
    lapse = _needed(history.lapse_months, "lapse_months")
    lowest, highest = ncd.levels[0].level, ncd.levels[-1].level
    if lapse > rule.lapse_months_reset:
        return 0
    if claims == 0 and years >= rule.clean_years_for_lowest:
        level = lowest
    else:
        level = max(lowest, min(highest, claims - min(years, rule.years_counted)))
    if lapse >= rule.lapse_months_only_up:
        previous = history.previous_level
        if previous is None:
            raise QuoteError("missing", "history.previous_level", why=f"after a lapse of {lapse} months")
        if not lowest <= previous <= highest:
            raise QuoteError("out_of_range", "history.previous_level", why=f"{lowest} to {highest}", value=previous)
        level = max(level, previous)
    return level


def _by_level(ncd: Ncd, rule: LevelRule, history: History) -> tuple[NcdLevel, Text]:
    level = ncd_level(ncd, rule, history)
    years, claims, lapse = history.insured_years, history.claims_three_years, history.lapse_months or 0
    row = next(r for r in ncd.levels if r.level == level)
    if lapse > rule.lapse_months_reset:
        return row, say("ncd.lapsed", months=lapse)
    if lapse >= rule.lapse_months_only_up and level == history.previous_level:
        return row, say("ncd.only_up", level=level, months=lapse, previous=history.previous_level)
    if level == ncd.levels[0].level:
        return row, say("ncd.lowest", level=level, years=years)
    key = "ncd.capped" if level == ncd.levels[-1].level else "ncd.level"
    return row, say(key, level=level, claims=claims, years=years)


def _by_year(ncd: Ncd, history: History) -> tuple[NcdYear, Text]:
    claims = _needed(history.claims_last_year, "claims_last_year")
    if claims:
        with_claims = [r for r in ncd.years if r.claims is not None]
        return with_claims[min(claims, len(with_claims)) - 1], say("ncd.claims", claims=claims)
    years = _needed(history.claim_free_years, "claim_free_years")
    without = [r for r in ncd.years if r.claim_free_years is not None]
    return without[min(years, len(without) - 1)], say("ncd.free", years=years)


def _needed(value: int | None, name: str) -> int:
    if value is None:
        raise QuoteError("missing", f"history.{name}", why="under this regime")
    return value


def _traffic(rates: RegimeRates, request: QuoteRequest, region: str) -> FactorLine | None:
    table, given = rates.regime.traffic, request.traffic_violation
    row = next((r for r in table.rows if r.region == region), None) if table is not None else None
    if table is None or row is None:
        if given is not None:
            known = [r.region for r in table.rows] if table is not None else []
            raise QuoteError("not_used", "traffic_violation", known, why=f"{region} has no such factor")
        return _one(rates, "traffic", say("traffic.none")) if table is not None else None
    span = f"{row.low} to {row.high}"
    if given is None:
        raise QuoteError("missing", "traffic_violation", [span], why=f"in {region}")
    if not row.low <= given <= row.high:
        raise QuoteError("out_of_range", "traffic_violation", why=span, value=given)
    origin = _origin(rates, table, "traffic")
    return _line(
        "traffic", TITLES["traffic"], given, origin, say("traffic.here", value=given), low=row.low, high=row.high
    )


def _own(rates: RegimeRates, request: QuoteRequest, name: str, region: str, facts: Facts) -> FactorLine:
    """Return clamp(A × F): the insurer's own value A, the score's factor F where it enters, the regulator's bounds."""
    own = rates.own[name]
    filed = own.filed.find(facts)
    given = request.own.get(name)
    value_a = filed.value("factor") if given is None else given
    origin = _origin(rates, own.own, name, filed.row.source, filed.row.verified)
    reason_a = say("filed.table") if given is None else say("filed.given", filed=filed.value("factor"))
    part_a = _line("filed", TITLES["filed"], value_a, origin, reason_a)
    bound = own.bound(region, request.vehicle.energy, request.start)
    parts, raw, reason = [part_a], value_a, say("own.plain")
    if own.own.telematics:
        score = telematics_factor(rates, request.telematics)
        parts.append(score)
        if request.telematics is not None:
            raw, reason = product(value_a, score.value), say("own.score", own=value_a, score=score.value)
    value = clamp(raw, bound.low, bound.high)
    if value != raw:
        reason = join(reason, say("own.low" if value > raw else "own.high", raw=raw, low=bound.low, high=bound.high))
    verified = own.own.verified if bound.verified is None else bound.verified
    origin = _origin(rates, own.own, f"{name} bounds", bound.source, verified)
    title = Text(own.own.en, own.own.zh)
    return _line(name, title, value, origin, reason, raw=raw, low=bound.low, high=bound.high, parts=parts)


def telematics_factor(rates: RegimeRates, told: Telematics | None) -> FactorLine:
    """Return F = clamp(1 + Z (r - 1), low, high), Z = km / (km + K); 1 without a score (docs/sources.md P3)."""
    rule = rates.regime.telematics
    if told is None or rule is None:
        return _one(rates, "telematics", say("score.none"))
    credibility = ratio(told.km, told.km + rule.k_km)
    raw = to_factor(ONE + product(credibility, told.relativity - ONE))
    value = clamp(raw, rule.low, rule.high)
    percent = (credibility * HUNDRED).quantize(Decimal("0.01"))
    reason = say("score.used", r=told.relativity, km=told.km, z=percent)
    if value != raw:
        reason = join(reason, say("score.bounded", raw=raw, low=rule.low, high=rule.high))
    name, _, source, verified = _origin(rates, rule, "telematics")
    origin = (name, f"{rule.version}, score {told.score_version}", source, verified)
    return _line("telematics", TITLES["telematics"], value, origin, reason, raw=raw, low=rule.low, high=rule.high)


Origin = tuple[str, str, str, bool]  # table, version, source, verified


def _origin(
    rates: RegimeRates, table: Table | None, name: str, source: str | None = None, verified: bool | None = None
) -> Origin:
    """Say where a number comes from: its row's word before its table's; without a table it is the regime's formula."""
    full = f"{rates.name} {name}"
    if table is None:
        return full, rates.regime.version, rates.regime.source, True
    return full, table.version, source or table.source, table.verified if verified is None else verified


def _one(rates: RegimeRates, name: str, reason: Text) -> FactorLine:
    table = {"traffic": rates.regime.traffic, "telematics": rates.regime.telematics}[name]
    return _line(name, TITLES[name], ONE, (*_origin(rates, table, name)[:3], True), reason)


def _line(
    name: str,
    title: Text,
    value: Decimal,
    origin: Origin,
    reason: Text,
    raw: Decimal | None = None,
    low: Decimal | None = None,
    high: Decimal | None = None,
    parts: list[FactorLine] | None = None,
) -> FactorLine:
    table, version, source, verified = origin
    return FactorLine(
        name=name,
        title=title,
        value=trim(value),
        raw=trim(value if raw is None else raw),
        low=low,
        high=high,
        bounded=raw is not None and raw != value,
        table=table,
        version=version,
        source=source,
        verified=verified,
        reason=reason,
        parts=parts or [],
    )
