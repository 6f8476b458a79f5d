"""Requests for prices, and rate tables with a line changed, for the tests of receiver/pricing."""

import shutil
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from receiver.pricing import Quote, QuoteRequest, RateBook, load_book, quote
from receiver.pricing.request import CompulsoryHistory, CoverChoice, History, Telematics, Vehicle

SHIPPED = Path(__file__).parents[1] / "config" / "regimes"
D = Decimal

CAR = Vehicle(
    use_class="family",
    seats=5,
    energy="fuel",
    first_registration=date(2021, 3, 1),
    new_price_yuan=D(120_000),
    model="SAMPLE-SEDAN",
)
NEW = History(standing="new")
CLEAN_RECORD = CompulsoryHistory(standing="renewal", clean_years=3)


@cache
def book() -> RateBook:
    """Return the shipped rate book."""
    return load_book(SHIPPED)


def request_of(**given: Any) -> QuoteRequest:
    """Return a request for VD alone under the regime of 2020 with its first bounds, over which `given` lies."""
    made = QuoteRequest(
        region="shandong", start=date(2021, 6, 1), vehicle=CAR, covers=[CoverChoice(cover="VD")], history=NEW
    )
    return replace(made, **given)


def in_2015(**given: Any) -> QuoteRequest:
    """Return the same under the regime of 2015."""
    car = replace(CAR, first_registration=date(2016, 3, 1))
    return request_of(**{"start": date(2016, 6, 1), "vehicle": car, **given})


def in_2006(**given: Any) -> QuoteRequest:
    """Return the same under the regime of 2006."""
    car = replace(CAR, first_registration=date(2012, 3, 1))
    return request_of(**{"start": date(2012, 6, 1), "vehicle": car, **given})


def priced(request: QuoteRequest, with_book: RateBook | None = None) -> Quote:
    """Quote a request on its own first day."""
    return quote(request, with_book or book(), request.start)


def telematics(relativity: str, km: str = "3000", **given: Any) -> Telematics:
    """Return what a score says."""
    return Telematics(
        **{
            "relativity": D(relativity),
            "km": D(km),
            "score_version": "expert-1",
            "consent": "consent-1",
            **given,
        }
    )


def factor(quoted: Quote, name: str) -> Any:
    """Return a factor or, by `outer.inner`, a part of one."""
    outer, _, inner = name.partition(".")
    found = next(f for f in quoted.factors if f.name == outer)
    return next(p for p in found.parts if p.name == inner) if inner else found


def edited(folder: Path, name: str, old: str, new: str) -> Path:
    """Copy the shipped tables into `folder` and replace one text in one file, as a person with an editor would."""
    copy = folder / "regimes"
    if not copy.exists():
        shutil.copytree(SHIPPED, copy)
    path = copy / name
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1, f"{name} has no {old!r}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return copy
