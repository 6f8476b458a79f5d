"""Pay per kilometre: the yearly premium split into a base and a price per km, and what is due at the end of the year.

The final price stays where the pricing coefficient's bounds allow a yearly price to be: distance is then one more thing
that the insurer weighs in its own coefficient, and nothing else (decision 0217).
"""

from decimal import Decimal

from msgspec.structs import replace

from receiver.pricing.answer import PerKmOffer, PremiumLine, Settlement, Text
from receiver.pricing.book import RegimeRates
from receiver.pricing.covers import Basis
from receiver.pricing.factors import all_together, factors
from receiver.pricing.money import HUNDRED, ONE, ZERO, clamp, exact, product, ratio, to_factor, to_fen, total
from receiver.pricing.refusals import QuoteError
from receiver.pricing.request import QuoteRequest, Telematics
from receiver.pricing.tables import Facts
from receiver.pricing.words import join, say


def per_km_offer(
    rates: RegimeRates,
    request: QuoteRequest,
    region: str,
    facts: Facts,
    chosen: list[Basis],
    lines: list[PremiumLine],
    compulsory_yuan: Decimal,
) -> PerKmOffer | None:
    """Return the offer for the chosen covers; None where nobody asks for it or the product takes none of them."""
    rule, declared = rates.regime.per_km, request.km_per_year
    if rule is None or declared is None:
        return None
    here = [b for b in chosen if b.choice.cover in rule.covers]
    if not here:
        return None
    told = request.telematics
    if told is not None:
        request = replace(request, telematics=at_distance(told, rule.reference_km))
    used = factors(rates, request, region, facts)
    entrance = next(n for n, own in rates.own.items() if own.own.telematics)
    coefficient = next(f for f in used if f.name == entrance)
    multiplier = all_together(rates, used).value
    others = product(*(f.value for f in used if f is not coefficient))
    expense = rates.regime.expense.percent if rates.regime.expense is not None else ZERO
    rest = ONE - ratio(expense, HUNDRED)
    basis = total([b.yuan for b in here])
    low, high = coefficient.low or coefficient.value, coefficient.high or coefficient.value
    reference = to_fen(ratio(product(basis, multiplier), rest))
    base = to_fen(ratio(product(reference, rule.base_percent), HUNDRED))
    rate = to_factor(ratio(reference - base, Decimal(rule.reference_km)))
    offer = PerKmOffer(
        title=Text(rule.en, rule.zh),
        table=f"{rates.name} per_km",
        version=rule.version,
        source=rule.source,
        verified=rule.verified,
        covers=[b.choice.cover for b in here],
        other_yuan=to_fen(total([line.premium_yuan for line in lines if line.cover not in rule.covers])),
        reference_km=rule.reference_km,
        reference_yuan=reference,
        base_yuan=base,
        rate_yuan_per_km=rate,
        declared_km=declared,
        minimum_km=rule.minimum_km,
        maximum_km=rule.maximum_km,
        tolerance_percent=rule.tolerance_percent,
        floor_yuan=to_fen(ratio(product(basis, others, low), rest)),
        ceiling_yuan=to_fen(ratio(product(basis, others, high), rest)),
        deposit_yuan=ZERO,
        total_yuan=ZERO,
        multiplier=multiplier,
        reason=say("per_km", base=base, rate=rate, reference=rule.reference_km),
    )
    deposit = _price(offer, Decimal(declared))
    whole = total([deposit, offer.other_yuan, compulsory_yuan])
    return replace(offer, deposit_yuan=deposit, total_yuan=to_fen(whole))


def at_distance(told: Telematics, km_per_year: int) -> Telematics:
    """Return what a score would say of another distance a year; the same where it does not weigh distance."""
    mileage = told.mileage
    if mileage is None:
        return told
    with exact():
        low, high = Decimal(mileage.low_km), Decimal(mileage.high_km)
        share = clamp(Decimal(km_per_year), low, high) / clamp(Decimal(mileage.km_per_year), low, high)
        relativity = clamp(to_factor(told.relativity * share**mileage.exponent), Decimal("0.01"), HUNDRED)
    return replace(told, relativity=relativity, mileage=replace(mileage, km_per_year=km_per_year))


def settle(offer: PerKmOffer, km: int) -> Settlement:
    """Settle a year at the distance that was driven; raise QuoteError for a distance below 0.

    Within the tolerance nothing changes; beyond it only what lies beyond is billed or given back, so that no single
    kilometre makes a jump.
    """
    if km < 0:
        raise QuoteError("out_of_range", "km", why="0 or more", value=km)
    with exact():
        return _settle(offer, km)


def _settle(offer: PerKmOffer, km: int) -> Settlement:
    declared, driven = Decimal(offer.declared_km), Decimal(km)
    slack = ratio(product(declared, offer.tolerance_percent), HUNDRED)
    billed = declared + max(ZERO, driven - declared - slack) - max(ZERO, declared - slack - driven)
    final = _price(offer, billed)
    counted = clamp(billed, Decimal(offer.minimum_km), Decimal(offer.maximum_km))
    unbounded = to_fen(offer.base_yuan + product(offer.rate_yuan_per_km, counted))
    within = billed == declared
    key = "settled.within" if within else "settled"
    reason = say(key, km=km, billed=counted, tolerance=offer.tolerance_percent)
    if final != unbounded:
        reason = join(reason, say("settled.bounded", low=offer.floor_yuan, high=offer.ceiling_yuan))
    return Settlement(
        km=km,
        declared_km=offer.declared_km,
        billed_km=counted,
        final_yuan=final,
        deposit_yuan=offer.deposit_yuan,
        due_yuan=final - offer.deposit_yuan,
        bounded=final != unbounded,
        reason=reason,
    )


def _price(offer: PerKmOffer, km: Decimal) -> Decimal:
    counted = clamp(km, Decimal(offer.minimum_km), Decimal(offer.maximum_km))
    yuan = to_fen(offer.base_yuan + product(offer.rate_yuan_per_km, counted))
    return clamp(yuan, offer.floor_yuan, offer.ceiling_yuan)
