"""How long a quote takes beside the bare sum: the same premiums from plain dicts and floats, with nothing explained."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from time import perf_counter_ns

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
VD = {("SAMPLE-SEDAN", "family"): [(12, 1500.0), (24, 1410.0), (72, 1395.0), (10**6, 1440.0)]}
TPL = {("family", 1_000_000): 1457.30}
OCC = {"family": (0.00273, 0.001755)}
NCD = {-4: 0.5, -3: 0.6, -2: 0.7, -1: 0.8, 0: 1.0, 1: 1.2, 2: 1.4, 3: 1.6, 4: 1.8, 5: 2.0}
ZONE = {"shandong": (1.0, 0.9, 0.8, 0.7)}


def hard_coded(request: QuoteRequest = REQUEST) -> float:
    """Return the total by floats, without bounds by date, checks, reasons or exact arithmetic."""
    car, history, told = request.vehicle, request.history, request.telematics
    assert history is not None
    assert history.insured_years is not None
    assert history.claims_three_years is not None
    assert request.compulsory is not None
    assert told is not None
    months = (
        (request.start.year - car.first_registration.year) * 12 + request.start.month - car.first_registration.month
    )
    pure = [next(p for below, p in VD[car.model or "", car.use_class] if months < below)]
    pure.append(TPL[car.use_class, 1_000_000])
    driver, passenger = OCC[car.use_class]
    pure.append(30_000 * driver + 20_000 * passenger * (car.seats - 1))
    level = max(-4, min(5, history.claims_three_years - min(history.insured_years, 3)))
    z = float(told.km) / (float(told.km) + 2000.0)
    score = min(max(1.0 + z * (float(told.relativity) - 1.0), 0.8), 1.2)
    multiplier = NCD[level] * min(max(score, 0.5), 1.5) / 0.75
    compulsory = 950.0 * ZONE[request.region][min(request.compulsory.clean_years, 3)]
    return sum(round(p * multiplier, 2) for p in pure) + compulsory


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
    assert abs(float(answer.total_yuan) - hard_coded()) < 0.005, "both ways must give the same price"
    text = msgspec.json.encode(REQUEST)
    without = replace(REQUEST, telematics=None)
    change = Change(history=History(standing="new"))
    ways: dict[str, Callable[[], object]] = {
        "bare sum of floats": hard_coded,
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
