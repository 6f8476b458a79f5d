"""How long a quote takes beside the bare sum: the same premiums from plain dicts, with nothing explained."""

from collections.abc import Callable
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from time import perf_counter_ns
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from receiver.pricing import load_book, parse_request, quote, what_if
from receiver.pricing.request import CompulsoryHistory, CoverChoice, History, QuoteRequest, Telematics, Vehicle
from receiver.pricing.whatif import Change

ROUNDS = 3000
DAY = date(2026, 12, 1)
REQUEST = QuoteRequest(
    region="shandong",
    start=DAY,
    vehicle=Vehicle(
        use_class="family",
        seats=5,
        energy="fuel",
        first_registration=date(2024, 8, 1),
        new_price_yuan=Decimal(120_000),
        model="SAMPLE-SEDAN",
    ),
    covers=[
        CoverChoice(cover="VD"),
        CoverChoice(cover="TPL", limit_yuan=Decimal(1_000_000)),
        CoverChoice(cover="OCC", driver_limit_yuan=Decimal(30_000), passenger_limit_yuan=Decimal(20_000)),
    ],
    history=History(standing="renewal", insured_years=3, claims_three_years=0, lapse_months=0),
    compulsory=CompulsoryHistory(standing="renewal", clean_years=3),
    telematics=Telematics(relativity=Decimal("0.8"), km=Decimal(3000), score_version="s", consent="c"),
)

# the same rates as a program would hold them that only wants the number
VD = {("SAMPLE-SEDAN", "family"): [(12, "1500"), (24, "1410"), (72, "1395"), (10**6, "1440")]}
TPL = {("family", 1_000_000): "1457.30"}
OCC = {"family": ("0.00273", "0.001755")}
NCD = {-4: "0.5", -3: "0.6", -2: "0.7", -1: "0.8", 0: "1", 1: "1.2", 2: "1.4", 3: "1.6", 4: "1.8", 5: "2"}
ZONE = {"shandong": ("1", "0.9", "0.8", "0.7")}
FEN = Decimal("0.01")


def hard_coded(number: Any, fen: Callable[[Any], Any]) -> Callable[[], Any]:
    """Return a calculation of the total without bounds by date, checks, reasons or without-score price."""
    damage = {key: [(below, number(p)) for below, p in rows] for key, rows in VD.items()}
    liability = {key: number(p) for key, p in TPL.items()}
    occupants = {key: (number(a), number(b)) for key, (a, b) in OCC.items()}
    levels = {level: number(f) for level, f in NCD.items()}
    zones = {region: tuple(number(f) for f in fs) for region, fs in ZONE.items()}
    one, low, high, least, most, k = (number(x) for x in ("1", "0.8", "1.2", "0.5", "1.5", "2000"))
    rest, base, driver_limit, passenger_limit = (number(x) for x in ("0.75", "950", "30000", "20000"))

    def total(request: QuoteRequest = REQUEST) -> Any:
        car, history, told, law = request.vehicle, request.history, request.telematics, request.compulsory
        assert history is not None and told is not None and law is not None  # noqa: PT018
        assert history.insured_years is not None and history.claims_three_years is not None  # noqa: PT018
        first, start = car.first_registration, request.start
        months = (start.year - first.year) * 12 + start.month - first.month
        pure = [next(p for below, p in damage[car.model or "", car.use_class] if months < below)]
        pure.append(liability[car.use_class, 1_000_000])
        driver, passenger = occupants[car.use_class]
        pure.append(driver_limit * driver + passenger_limit * passenger * (car.seats - 1))
        level = max(-4, min(5, history.claims_three_years - min(history.insured_years, 3)))
        km = number(told.km)
        score = min(max(one + km / (km + k) * (number(told.relativity) - one), low), high)
        multiplier = levels[level] * min(max(score, least), most) / rest
        return sum(fen(p * multiplier) for p in pure) + base * zones[request.region][min(law.clean_years, 3)]

    return total


def measure(work: Callable[[], object]) -> tuple[float, float]:
    """Return median and 99th percentile in µs."""
    for _ in range(200):
        work()
    took = np.empty(ROUNDS)
    for n in range(ROUNDS):
        start = perf_counter_ns()
        work()
        took[n] = (perf_counter_ns() - start) / 1e3
    return float(np.median(took)), float(np.percentile(took, 99))


def main() -> None:
    """Print a table: each way to a price, median and p99, and its ratio to the bare sum."""
    book = load_book()
    answer = quote(REQUEST, book, DAY)
    floats = hard_coded(float, lambda yuan: round(yuan, 2))
    decimals = hard_coded(Decimal, lambda yuan: yuan.quantize(FEN, ROUND_HALF_UP))
    assert decimals() == answer.total_yuan, "both ways must give the same price"
    assert abs(floats() - float(answer.total_yuan)) < 0.005, "both ways must give the same price"
    text = msgspec.json.encode(REQUEST)
    without = replace(REQUEST, telematics=None)
    change = Change(history=History(standing="new"))
    ways: dict[str, Callable[[], object]] = {
        "bare sum of floats": floats,
        "bare sum of decimals": decimals,
        "quote": lambda: quote(REQUEST, book, DAY),
        "quote without a score": lambda: quote(without, book, DAY),
        "quote with pay per km": lambda: quote(replace(REQUEST, km_per_year=9000), book, DAY),
        "JSON in, quote, JSON out": lambda: msgspec.json.encode(quote(parse_request(text), book, DAY)),
        "what-if, two quotes": lambda: what_if(REQUEST, change, book, DAY),
    }
    print(
        f"{len(REQUEST.covers)} covers and the compulsory one; answer {len(msgspec.json.encode(answer))} bytes of JSON"
    )
    print(f"{'way':28}{'median µs':>11}{'p99 µs':>10}{'ratio':>8}")
    bare = 0.0
    for name, work in ways.items():
        median, p99 = measure(work)
        bare = bare or median
        print(f"{name:28}{median:11.1f}{p99:10.1f}{median / bare:8.1f}")
    start = perf_counter_ns()
    load_book()
    print(f"reading and checking all rate tables: {(perf_counter_ns() - start) / 1e6:.0f} ms, once")
