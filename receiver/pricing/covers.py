"""What each cover's table gives for a vehicle: its pure risk premium, or its tariff premium under the oldest regime."""

from collections.abc import Callable
from decimal import Decimal
from typing import Final, NamedTuple

from receiver.pricing.book import CoverRates, RegimeRates
from receiver.pricing.money import HUNDRED, ONE, ZERO, plain, product, ratio, total
from receiver.pricing.refusals import QuoteError
from receiver.pricing.request import CoverChoice, QuoteRequest
from receiver.pricing.tables import Facts, Found


class Basis(NamedTuple):
    """A cover before expenses and factors; `limit_yuan` is the sum that was used."""

    choice: CoverChoice
    rates: CoverRates
    yuan: Decimal
    formula: str
    rows: list[Found]
    limit_yuan: Decimal | None = None
    depreciated: bool = False  # does the table of depreciation stand behind it?


def facts_of(request: QuoteRequest) -> dict[str, object]:
    """Return what the tables are asked with; age in whole months on the policy's first day."""
    vehicle, start = request.vehicle, request.start
    first = vehicle.first_registration
    if first > start:
        raise QuoteError("out_of_range", "vehicle.first_registration", why=f"not after {start}", value=first)
    months = (start.year - first.year) * 12 + start.month - first.month - (start.day < first.day)
    return {
        "use_class": vehicle.use_class,
        "energy": vehicle.energy,
        "seats": vehicle.seats,
        "tonnes": vehicle.tonnes,
        "cc": vehicle.cc,
        "model": vehicle.model,
        "origin": vehicle.origin,
        "age": months,
        "price": vehicle.new_price_yuan,
    }


def bases(rates: RegimeRates, request: QuoteRequest, facts: Facts) -> list[Basis]:
    """Return the basis of every chosen cover in the order of choice; raise QuoteError naming the field."""
    chosen: dict[str, CoverChoice] = {}
    for choice in request.covers:
        if choice.cover in chosen:
            raise QuoteError("twice", f"covers.{choice.cover}", value=choice.cover)
        _check_offered(rates, choice.cover)
        chosen[choice.cover] = choice
    found: dict[str, Basis] = {}
    for choice in chosen.values():
        cover = rates.covers[choice.cover]
        for needed in cover.cover.needs:
            if needed not in chosen:
                raise QuoteError("needs_cover", f"covers.{choice.cover}", value=choice.cover, needed=needed)
        _check_fields(choice, cover)
        if cover.cover.rule != "share":
            found[choice.cover] = _RULES[cover.cover.rule](rates, cover, choice, facts)
    for name in [n for n in chosen if n not in found]:
        found[name] = _share(rates.covers[name], chosen[name], found)
    return [found[name] for name in chosen]


def actual_value(rates: RegimeRates, facts: Facts, field: str) -> Decimal:
    """Return the new price less depreciation; raise QuoteError where the price or the rate is not known."""
    price, table = facts["price"], rates.regime.depreciation
    assert table is not None, "checked when the regime was loaded"
    if price is None:
        raise QuoteError("missing", "vehicle.new_price_yuan", why=f"for {field}")
    for row in table.rows:
        if facts["use_class"] in row.use_class:
            rest = max(HUNDRED - row.percent_per_month * facts["age"], row.rest_percent)
            return ratio(product(price, rest), HUNDRED)
    known = [c for r in table.rows for c in r.use_class]
    use = facts["use_class"]
    raise QuoteError("no_row", "vehicle.use_class", known, value=use, table=f"{rates.name} depreciation")


def _check_offered(rates: RegimeRates, cover: str) -> None:
    if cover in rates.covers:
        return
    for name, other in rates.covers.items():
        if cover in other.cover.includes:
            raise QuoteError("included", f"covers.{cover}", rates.covers, value=cover, within=name, regime=rates.name)
    raise QuoteError("not_offered", f"covers.{cover}", rates.covers, value=cover, regime=rates.name)


def _check_fields(choice: CoverChoice, rates: CoverRates) -> None:
    """Refuse what this cover's rule would leave aside: a person who gives a number expects it to count."""
    rule = rates.cover.rule
    used = {
        "premium": {"limit_yuan"} if rates.cover.limits or rates.cover.agreed_percent is not None else set(),
        "base_and_percent": {"limit_yuan"},
        "per_seat": {"driver_limit_yuan", "passenger_limit_yuan"},
        "share": {"of"},
    }[rule]
    for name in ("limit_yuan", "driver_limit_yuan", "passenger_limit_yuan", "of"):
        if getattr(choice, name) not in (None, []) and name not in used:
            raise QuoteError("not_used", f"covers.{choice.cover}.{name}", sorted(used), why=f"not for {choice.cover}")


def _premium(rates: RegimeRates, cover: CoverRates, choice: CoverChoice, facts: Facts) -> Basis:
    """Take the row's premium; an agreed value beside the actual one adds or takes its percent of the difference."""
    field = f"covers.{choice.cover}"
    if cover.cover.limits:
        _check_limit(cover, choice.limit_yuan, f"{field}.limit_yuan")
        facts = {**facts, "limit": choice.limit_yuan}
    found = cover.table.find(facts, field)
    premium = found.value("premium")
    percent = cover.cover.agreed_percent
    if percent is None:
        return Basis(choice, cover, premium, plain(premium), [found], choice.limit_yuan)
    if choice.limit_yuan is None:
        return Basis(choice, cover, premium, plain(premium), [found])
    actual = actual_value(rates, facts, f"{field}.limit_yuan")
    agreed = _within(choice.limit_yuan, ONE, facts["price"], f"{field}.limit_yuan")
    yuan = max(ZERO, premium + ratio(product(agreed - actual, percent), HUNDRED))
    formula = f"{plain(premium)} + ({plain(agreed)} - {plain(actual)}) × {plain(percent)} %"
    return Basis(choice, cover, yuan, formula, [found], agreed, depreciated=True)


def _base_and_percent(rates: RegimeRates, cover: CoverRates, choice: CoverChoice, facts: Facts) -> Basis:
    field = f"covers.{choice.cover}.limit_yuan"
    found = cover.table.find(facts, f"covers.{choice.cover}")
    insured = choice.limit_yuan
    depreciated = insured is None and cover.cover.sum == "actual_value"
    low, high = cover.cover.low or ONE, cover.cover.high or facts["price"]
    if insured is not None:
        if high is None:
            raise QuoteError("missing", "vehicle.new_price_yuan", why=f"for {field}")
        insured = _within(insured, low, high, field)
    elif cover.cover.sum == "chosen":
        raise QuoteError("missing", field, [f"{plain(low)} to {plain(high)}"])
    elif cover.cover.sum == "actual_value":
        insured = actual_value(rates, facts, field)
    elif (insured := facts["price"]) is None:
        raise QuoteError("missing", "vehicle.new_price_yuan", why=f"for {field}")
    base, percent = found.value("base"), found.value("percent")
    yuan = base + ratio(product(insured, percent), HUNDRED)
    formula = f"{plain(base)} + {plain(insured)} × {plain(percent)} %"
    return Basis(choice, cover, yuan, formula, [found], insured, depreciated)


def _per_seat(_rates: RegimeRates, cover: CoverRates, choice: CoverChoice, facts: Facts) -> Basis:
    """Driver's and passengers' limits per person; passengers are all seats but the driver's, not to be chosen."""
    field = f"covers.{choice.cover}"
    found = cover.table.find(facts, field)
    low, high = cover.cover.low or ONE, cover.cover.high or Decimal("1e9")
    parts: list[tuple[Decimal, str]] = []
    for limit, percent, people, name in (
        (choice.driver_limit_yuan, found.value("driver_percent"), 1, "driver_limit_yuan"),
        (choice.passenger_limit_yuan, found.value("passenger_percent"), facts["seats"] - 1, "passenger_limit_yuan"),
    ):
        if limit is not None:
            insured = _within(limit, low, high, f"{field}.{name}")
            formula = f"{plain(insured)} × {plain(percent)} %" + (f" × {people}" if name[0] == "p" else "")
            parts.append((ratio(product(insured, percent, Decimal(people)), HUNDRED), formula))
    if not parts:
        raise QuoteError(
            "missing", f"{field}.driver_limit_yuan", [f"{plain(low)} to {plain(high)}"], why="or passengers'"
        )
    return Basis(choice, cover, total([y for y, _ in parts]), " + ".join(f for _, f in parts), [found])


def _share(cover: CoverRates, choice: CoverChoice, chosen: dict[str, Basis]) -> Basis:
    """Take percents of other covers' premiums."""
    known = cover.table.knows("cover")
    field = f"covers.{choice.cover}.of"
    if not choice.of:
        raise QuoteError("missing", field, known)
    rows, parts = [], []
    for name in choice.of:
        if choice.of.count(name) > 1:
            raise QuoteError("twice", field, value=name)
        if name not in known:
            raise QuoteError("no_row", field, known, value=name, table=cover.table.name)
        if name not in chosen:
            raise QuoteError("needs_cover", field, chosen, value=choice.cover, needed=name)
        found = cover.table.find({"cover": name})
        percent = found.value("percent")
        rows.append(found)
        parts.append((ratio(product(chosen[name].yuan, percent), HUNDRED), f"{name} × {plain(percent)} %"))
    return Basis(choice, cover, total([y for y, _ in parts]), " + ".join(f for _, f in parts), rows)


_RULES: Final[dict[str, Callable[[RegimeRates, CoverRates, CoverChoice, Facts], Basis]]] = {
    "premium": _premium,
    "base_and_percent": _base_and_percent,
    "per_seat": _per_seat,
}


def _check_limit(cover: CoverRates, limit: Decimal | None, field: str) -> None:
    known = [plain(x) for x in cover.cover.limits]
    if limit is None:
        raise QuoteError("missing", field, known)
    if limit not in cover.cover.limits:
        raise QuoteError("no_row", field, known, value=plain(limit), table=cover.table.name)


def _within(value: Decimal, low: Decimal, high: Decimal, field: str) -> Decimal:
    if not low <= value <= high:
        raise QuoteError("out_of_range", field, why=f"{plain(low)} to {plain(high)}", value=plain(value))
    return value
