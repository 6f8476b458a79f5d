"""A request becomes a quote: pure calculation, no clock, no I/O; the same request and rate book give the same bytes."""

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal

from msgspec.structs import replace

from receiver.moments import FIRST, LAST, within
from receiver.pricing.answer import CompulsoryLine, FactorLine, PerKmOffer, PremiumLine, Quote, Text
from receiver.pricing.book import RateBook, RegimeRates
from receiver.pricing.compulsory import compulsory_line
from receiver.pricing.covers import Basis, bases, facts_of
from receiver.pricing.factors import all_together, factors
from receiver.pricing.money import HUNDRED, ONE, ZERO, exact, product, ratio, to_fen, total, trim
from receiver.pricing.perkm import per_km_offer
from receiver.pricing.refusals import QuoteError
from receiver.pricing.request import QuoteRequest, check_request
from receiver.pricing.schema import Table
from receiver.pricing.tables import Facts
from receiver.pricing.words import ROUNDING


def quote(request: QuoteRequest, book: RateBook, on: date) -> Quote:
    """Price a request as of the day `on`; raise QuoteError naming the field that has no row or is wrong."""
    with exact():
        return _quote(request, book, on)


def _quote(request: QuoteRequest, book: RateBook, on: date) -> Quote:
    check_request(request)
    region = book.region(request.region)
    if request.start < on:
        raise QuoteError("out_of_range", "start", why=f"not before {on}", value=request.start)
    if not within(request.start):
        raise QuoteError("out_of_range", "start", why=f"{FIRST.year} to {LAST.year}", value=request.start)
    if not request.covers and request.compulsory is None:
        raise QuoteError("nothing", "covers")
    if request.vehicle.use_class not in book.names.use_classes:
        raise _unknown_word("vehicle.use_class", request.vehicle.use_class, list(book.names.use_classes))
    if request.vehicle.energy not in book.names.energies:
        raise _unknown_word("vehicle.energy", request.vehicle.energy, list(book.names.energies))
    rates = book.regime(region, request.start, request.regime)
    facts = facts_of(request)
    compulsory = None
    if request.compulsory is not None:
        compulsory = compulsory_line(
            book.compulsory, request.compulsory, region, request.start, facts, request.vehicle.trailer
        )
    lines: list[PremiumLine] = []
    used: list[FactorLine] = []
    multiplier = None
    found: list[Basis] = []
    if request.covers:
        found = bases(rates, request, facts)
        used = factors(rates, request, region, facts)
        multiplier = all_together(rates, used)
        plain_multiplier = _without_score(rates, request, region, facts, multiplier)
        lines = [premium_line(rates, basis, multiplier.value, plain_multiplier) for basis in found]
    offer = per_km_offer(rates, request, region, facts, found, lines, _yuan(compulsory))
    commercial = total([line.premium_yuan for line in lines])
    plain_total = total([_yuan(compulsory), *(line.without_telematics_yuan for line in lines)])
    whole = total([commercial, _yuan(compulsory)])
    told = request.telematics
    return Quote(
        regime=rates.name,
        regime_version=rates.regime.version,
        regime_title=Text(rates.regime.en, rates.regime.zh),
        currency="CNY",
        quoted_on=on,
        valid_until=min(on + timedelta(days=rates.regime.quote_valid_days), request.start),
        starts=request.start,
        ends=year_later(request.start),
        region=region,
        region_title=Text(book.names.regions[region].en, book.names.regions[region].zh),
        factors=used,
        multiplier=multiplier,
        lines=lines,
        commercial_yuan=to_fen(commercial),
        compulsory=compulsory,
        compulsory_yuan=to_fen(_yuan(compulsory)),
        total_yuan=to_fen(whole),
        without_telematics_yuan=to_fen(plain_total),
        telematics_effect_yuan=to_fen(whole - plain_total),
        score_version=told.score_version if told is not None else None,
        consent=told.consent if told is not None else None,
        rounding=ROUNDING,
        unverified=_unverified(rates, used, found, [*lines, *([offer] if offer is not None else [])], compulsory),
        per_km=offer,
        request=request,
    )


def premium_line(rates: RegimeRates, basis: Basis, multiplier: Decimal, plain_multiplier: Decimal) -> PremiumLine:
    """Make a cover's premium: basis × multiplier / (1 - expenses), exact, then rounded once."""
    cover, choice = basis.rates.cover, basis.choice
    expense = rates.regime.expense.percent if rates.regime.expense is not None else ZERO
    rest = ONE - ratio(expense, HUNDRED)
    row = basis.rows[0].row if len(basis.rows) == 1 else None
    return PremiumLine(
        cover=choice.cover,
        title=Text(cover.en, cover.zh),
        limit_yuan=basis.limit_yuan,
        driver_limit_yuan=choice.driver_limit_yuan,
        passenger_limit_yuan=choice.passenger_limit_yuan,
        of=choice.of,
        formula=basis.formula,
        basis_yuan=basis.yuan,
        expense_percent=expense,
        benchmark_yuan=to_fen(ratio(basis.yuan, rest)),
        multiplier=trim(multiplier),
        premium_yuan=to_fen(ratio(product(basis.yuan, multiplier), rest)),
        without_telematics_yuan=to_fen(ratio(product(basis.yuan, plain_multiplier), rest)),
        table=basis.rates.table.name,
        rows=[f.number for f in basis.rows],
        version=cover.version,
        source=row.source if row is not None and row.source is not None else cover.source,
        verified=all(cover.verified if f.row.verified is None else f.row.verified for f in basis.rows),
        note=Text(cover.note_en, cover.note_zh),
    )


def year_later(day: date) -> date:
    """Return the first day that a year's policy no longer covers; 29 February ends with 28 February."""
    try:
        return day.replace(year=day.year + 1)
    except ValueError:
        return date(day.year + 1, 3, 1)


def _without_score(
    rates: RegimeRates, request: QuoteRequest, region: str, facts: Facts, multiplier: FactorLine
) -> Decimal:
    if request.telematics is None:
        return multiplier.value
    return all_together(rates, factors(rates, replace(request, telematics=None), region, facts)).value


def _yuan(compulsory: CompulsoryLine | None) -> Decimal:
    return compulsory.premium_yuan if compulsory is not None else ZERO


def _unknown_word(field: str, value: str, known: list[str]) -> QuoteError:
    return QuoteError("no_row", field, known, value=value, table="names")


def _unverified(
    rates: RegimeRates,
    used: list[FactorLine],
    found: list[Basis],
    lines: Sequence[PremiumLine | PerKmOffer],
    compulsory: CompulsoryLine | None,
) -> list[str]:
    """List the tables of this price that nobody has read in their source."""
    told: dict[str, None] = {}
    all_lines: list[FactorLine | PremiumLine | PerKmOffer | CompulsoryLine] = [p for f in used for p in (f, *f.parts)]
    all_lines.extend(lines)
    if compulsory is not None:
        all_lines.extend((compulsory, compulsory.floating))
    for line in all_lines:
        if not line.verified:
            told[f"{line.table} ({line.version}): {line.source}"] = None
    behind: dict[str, Table | None] = {"expense": rates.regime.expense if found else None}
    behind["depreciation"] = rates.regime.depreciation if any(b.depreciated for b in found) else None
    for name, table in behind.items():
        if table is not None and not table.verified:
            told[f"{rates.name} {name} ({table.version}): {table.source}"] = None
    return list(told)
