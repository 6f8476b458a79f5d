"""The one rounding rule: half up, a premium to the fen once, a measured factor to six places before it multiplies.

Everything else is exact decimal arithmetic, so that a person with paper reaches the same fen (decision 0215).
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from typing import Final

FEN: Final = Decimal("0.01")
FACTOR: Final = Decimal("0.000001")
ONE: Final = Decimal(1)
ZERO: Final = Decimal(0)
HUNDRED: Final = Decimal(100)
# 50 digits: a base of 12 digits times seven factors of 6 places stays exact until the one division by (1 - expenses).
_CONTEXT: Final = Context(prec=50, rounding=ROUND_HALF_UP)


def exact() -> AbstractContextManager[Context]:
    """Open the arithmetic of prices: a caller's own precision or rounding has no say in it."""
    return localcontext(_CONTEXT)


def to_fen(yuan: Decimal) -> Decimal:
    """Round an amount half up to 0.01 yuan."""
    return yuan.quantize(FEN, context=_CONTEXT)


def to_factor(value: Decimal) -> Decimal:
    """Round a measured or derived factor half up to six places: as it is shown, so it multiplies."""
    return value.quantize(FACTOR, context=_CONTEXT)


def product(*values: Decimal) -> Decimal:
    """Multiply without rounding."""
    result = ONE
    for value in values:
        result = _CONTEXT.multiply(result, value)
    return result


def total(values: Iterable[Decimal]) -> Decimal:
    """Add amounts without rounding."""
    result = ZERO
    for value in values:
        result = _CONTEXT.add(result, value)
    return result


def ratio(numerator: Decimal, denominator: Decimal) -> Decimal:
    """Divide, good to 50 digits."""
    return _CONTEXT.divide(numerator, denominator)


def clamp(value: Decimal, low: Decimal | None, high: Decimal | None) -> Decimal:
    """Bring a value inside its bounds; None is no bound."""
    if low is not None and value < low:
        return low
    if high is not None and value > high:
        return high
    return value


def trim(value: Decimal) -> Decimal:
    """Drop idle zeros behind the point."""
    short = value.normalize(_CONTEXT)
    return short if short.as_tuple().exponent <= 0 else short.quantize(ONE, context=_CONTEXT)  # type: ignore[operator]


def plain(value: Decimal) -> str:
    """Write a number without exponent and idle zeros: 0.60 as 0.6, 1E+3 as 1000."""
    if value == value.to_integral_value():
        return f"{value:.0f}"
    return f"{value:f}".rstrip("0")
