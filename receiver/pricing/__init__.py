"""From a vehicle, its history and its score to a price that explains itself (docs/pricing.md).

Pure calculation over the rate tables of `config/regimes`: no clock, no database, no network. The same request, rate
book and day give the same bytes.
"""

from receiver.pricing.answer import Quote, Settlement
from receiver.pricing.book import RateBook, load_book
from receiver.pricing.perkm import settle
from receiver.pricing.quote import quote
from receiver.pricing.refusals import QuoteError
from receiver.pricing.request import QuoteRequest, parse_request
from receiver.pricing.whatif import Change, Comparison, what_if

__all__ = [
    "Change",
    "Comparison",
    "Quote",
    "QuoteError",
    "QuoteRequest",
    "RateBook",
    "Settlement",
    "load_book",
    "parse_request",
    "quote",
    "settle",
    "what_if",
]
