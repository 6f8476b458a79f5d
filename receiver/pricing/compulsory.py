"""The compulsory cover's premium: base × (1 + floating). No score, mileage or insurer's coefficient comes here."""

from datetime import date

from receiver.pricing.answer import CompulsoryLine, FactorLine, Text
from receiver.pricing.book import EVERYWHERE, CompulsoryRates, holds
from receiver.pricing.money import HUNDRED, ONE, ZERO, product, ratio, to_fen
from receiver.pricing.refusals import QuoteError
from receiver.pricing.request import CompulsoryHistory
from receiver.pricing.schema import Floating, Zone
from receiver.pricing.tables import Facts
from receiver.pricing.words import STANDINGS, TITLES, say

TRAILERS = ("nonop_truck", "op_truck")


def compulsory_line(
    rates: CompulsoryRates, history: CompulsoryHistory, region: str, day: date, facts: Facts, trailer: bool
) -> CompulsoryLine:
    """Return the premium of a policy that starts on `day`; raise QuoteError for a vehicle without a row."""
    law = rates.law
    found = rates.base.find(facts)
    base = found.value("premium")
    if trailer:
        if facts["use_class"] not in TRAILERS:
            raise QuoteError("not_used", "vehicle.trailer", TRAILERS, why="trailers belong to trucks")
        base = ratio(product(base, law.trailer_percent), HUNDRED)
    edition = _edition(rates, day)
    zone = _zone(edition, region)
    code = accident_code(history)
    factor = ONE + ratio(getattr(zone, code) if code else ZERO, HUNDRED)
    if history.standing != "renewal":
        reason = say("floating.neutral", standing=STANDINGS[history.standing])
    else:
        reason = say(f"floating.{code or 'base'}")
    floating = FactorLine(
        name="floating",
        title=TITLES["floating"],
        value=factor,
        raw=factor,
        table=f"{law.name} floating, zone {zone.zone}",
        version=edition.version,
        source=edition.source,
        verified=edition.verified,
        reason=reason,
    )
    return CompulsoryLine(
        title=Text(law.en, law.zh),
        base_yuan=base,
        zone=zone.zone,
        code=code,
        floating=floating,
        premium_yuan=to_fen(product(base, factor)),
        table=rates.base.name,
        rows=[found.number],
        version=law.base.version,
        source=found.row.source or law.base.source,
        verified=law.base.verified if found.row.verified is None else found.row.verified,
    )


def accident_code(history: CompulsoryHistory) -> str:
    """Return A1 … A6 of the floating rates, "" where the premium does not float (docs/sources.md P4)."""
    accidents = max(history.accidents_last_year, int(history.fatal_last_year))
    if accidents and history.clean_years:
        raise QuoteError(
            "out_of_range", "compulsory.clean_years", why="0 with accidents last year", value=history.clean_years
        )
    if history.standing != "renewal":
        return ""
    if history.fatal_last_year:
        return "A6"
    if accidents:
        return "A5" if accidents > 1 else "A4"
    return f"A{min(history.clean_years, 3)}" if history.clean_years else ""


def _edition(rates: CompulsoryRates, day: date) -> Floating:
    for edition in rates.law.floating:
        if holds(edition, day):
            return edition
    known = [f"from {e.starts}" for e in rates.law.floating]
    raise QuoteError("no_row", "start", known, value=day, table=f"{rates.law.name} floating")


def _zone(edition: Floating, region: str) -> Zone:
    for wanted in (region, EVERYWHERE):
        for zone in edition.zones:
            if wanted in zone.regions:
                return zone
    raise QuoteError("unknown_region", "region", value=region)
