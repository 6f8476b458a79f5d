"""What a price is asked for. Nothing in it has a default that could change a price: what is not known is asked for."""

import json
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct, field

from agent.known import known
from receiver.pricing.reading import numbers, said_of_place, strays
from receiver.pricing.refusals import QuoteError

MOST: Final = Decimal(10**9)  # yuan, kilometres: beyond this it is no car's
PLACES: Final = -6  # so that all arithmetic stays exact (money.py)
MOST_EXPONENT: Final = 2  # at 1 risk is proportional to distance
MOST_SEATS: Final = 200
MOST_COUNT: Final = 100
MOST_COVERS: Final = 40
MOST_BYTES: Final = 64 * 1024

Standing = Literal["renewal", "new", "transferred", "not_floating"]


class Vehicle(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The vehicle as its papers say; the tables ask for model, origin, price, weight or engine where they need them."""

    use_class: str
    seats: int
    energy: str
    first_registration: date
    new_price_yuan: Decimal | None = None
    model: str | None = None
    origin: str | None = None
    tonnes: Decimal | None = None
    cc: Decimal | None = None
    trailer: bool = False


class CoverChoice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cover: its limit or sum, or the occupants' two limits per person, or the covers that a waiver is for."""

    cover: str
    limit_yuan: Decimal | None = None
    driver_limit_yuan: Decimal | None = None
    passenger_limit_yuan: Decimal | None = None
    of: list[str] = field(default_factory=list)


class History(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Claims under commercial covers, as the industry platform tells them; each regime says which it needs."""

    standing: Standing
    claim_free_years: int | None = None  # 2006, 2015
    claims_last_year: int | None = None  # 2006, 2015
    insured_years: int | None = None  # 2020: in a row
    claims_three_years: int | None = None  # 2020
    lapse_months: int | None = None  # 2020: since the last policy ended
    previous_level: int | None = None  # 2020: needed after a lapse of some months


class CompulsoryHistory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Accidents at fault under the compulsory cover."""

    standing: Literal["renewal", "new", "transferred"]
    clean_years: int = 0  # whole years in a row without an accident at fault
    accidents_last_year: int = 0  # at fault, with or without death
    fatal_last_year: bool = False


class ScoredMileage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of a relativity that is distance: (km a year / average) ^ exponent, flat beyond its bounds."""

    km_per_year: int  # that the relativity was made with
    exponent: Decimal
    low_km: int
    high_km: int


class Telematics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a score says: relativity 1 is the average car's risk."""

    relativity: Decimal
    km: Decimal  # that were measured: how far it can be believed
    score_version: str
    consent: str  # id of the owner's consent to use the score for a price
    score: int | None = None
    mileage: ScoredMileage | None = None  # where the score weighs distance


class QuoteRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a price is asked for: compulsory cover, commercial covers or both, for one year from `start`."""

    region: str
    start: date
    vehicle: Vehicle
    covers: list[CoverChoice] = field(default_factory=list)
    history: History | None = None
    compulsory: CompulsoryHistory | None = None
    traffic_violation: Decimal | None = None  # only in the regions that have the factor
    own: dict[str, Decimal] = field(default_factory=dict)  # an underwriter's coefficient in place of the filed one
    telematics: Telematics | None = None
    km_per_year: int | None = None  # expected; asks for the pay-per-kilometre offer too
    regime: str | None = None  # must then be the one in force


def parse_request(text: bytes | str) -> QuoteRequest:
    """Read a request in JSON; raise QuoteError naming the field that is wrong."""
    if len(text) > MOST_BYTES:
        raise QuoteError("not_valid", "request", why=f"longer than {MOST_BYTES} bytes")
    try:
        value = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError, ArithmeticError) as e:
        raise QuoteError("not_valid", "request", why=f"no JSON: {e}") from e
    return convert_request(value)


def convert_request(value: Any) -> QuoteRequest:
    """Make a request of JSON's own types; raise QuoteError naming the field that is wrong."""
    try:
        request = msgspec.convert(value, known(QuoteRequest))
    except msgspec.ValidationError as e:
        for stray in strays(QuoteRequest, value):
            path = f"{stray.path}.{stray.key}" if stray.path else stray.key
            raise QuoteError("unknown_key", path, stray.known) from e
        where, _, said = said_of_place(str(e)).rpartition(": ")
        if said.startswith("object missing required field `"):
            missing = said.split("`")[1]
            raise QuoteError("missing", f"{where}.{missing}" if where else missing) from e
        raise QuoteError("not_valid", where or "request", why=said) from e
    check_request(request)
    return request


def check_request(request: QuoteRequest) -> None:
    """Check that every number is one that a car can have; raise QuoteError naming the field."""
    for path, number in numbers(request):
        if not number.is_finite():
            raise QuoteError("not_valid", path, why=f"{number} is no number")
        exponent = number.as_tuple().exponent
        if not 0 <= number <= MOST or not isinstance(exponent, int) or exponent < PLACES:
            raise QuoteError("out_of_range", path, why=f"0 to {MOST:,} with at most 6 places", value=str(number)[:40])
    _within(request.vehicle.seats, 1, MOST_SEATS, "vehicle.seats")
    if len(request.covers) > MOST_COVERS:
        raise QuoteError("out_of_range", "covers", why=f"at most {MOST_COVERS}", value=len(request.covers))
    if request.km_per_year is not None:
        _within(request.km_per_year, 1, int(MOST), "km_per_year")
    for name, part in (("history", request.history), ("compulsory", request.compulsory)):
        for key in part.__struct_fields__ if part is not None else ():
            count = getattr(part, key)
            if isinstance(count, int) and not isinstance(count, bool) and key != "previous_level":
                _within(count, 0, MOST_COUNT * 12, f"{name}.{key}")
    if request.telematics is not None:
        _check_telematics(request.telematics)


def _check_telematics(told: Telematics) -> None:
    if not told.consent.strip():
        raise QuoteError("no_consent", "telematics.consent")
    if not told.score_version.strip():
        raise QuoteError("missing", "telematics.score_version")
    if not Decimal("0.01") <= told.relativity <= 100:
        raise QuoteError("out_of_range", "telematics.relativity", why="0.01 to 100", value=told.relativity)
    if told.mileage is not None:
        path = "telematics.mileage"
        if told.mileage.exponent > MOST_EXPONENT:
            raise QuoteError(
                "out_of_range", f"{path}.exponent", why=f"0 to {MOST_EXPONENT}", value=told.mileage.exponent
            )
        _within(told.mileage.low_km, 1, int(MOST), f"{path}.low_km")
        _within(told.mileage.high_km, told.mileage.low_km, int(MOST), f"{path}.high_km")
        _within(told.mileage.km_per_year, 0, int(MOST), f"{path}.km_per_year")


def _within(value: int, low: int, high: int, path: str) -> None:
    if not low <= value <= high:
        raise QuoteError("out_of_range", path, why=f"{low} to {high}", value=value)
