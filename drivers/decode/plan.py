"""What to decode: which signals of which messages on which buses, into which channels, believed under which conditions.

Kept apart from drivers.decode.tables so that a profile can be read and checked without loading numba.
"""

import sys
from dataclasses import dataclass
from typing import Final, Literal

from drivers.decode.dbc import Message, Signal

NotAvailable = Literal["none", "all_ones", "j1939"]
LARGEST: Final = sys.float_info.max  # a range that keeps every finite value


@dataclass(frozen=True, slots=True)
class Valid:
    """A sample counts only where `signal` of the same message has this raw value."""

    signal: Signal
    equals: int


@dataclass(frozen=True, slots=True)
class Take:
    """One signal to decode: into which channel, with a factor and offset after the DBC's, and a range."""

    signal: Signal
    channel: int
    scale: float = 1
    offset: float = 0
    low: float = -LARGEST
    high: float = LARGEST
    plus: tuple[Signal, ...] = ()  # of the same message, added before scale and offset apply
    valid: tuple[Valid, ...] = ()
    not_available: NotAvailable = "none"


@dataclass(frozen=True, slots=True)
class Entry:
    """One message on the buses whose names match `buses` (shell pattern), with the signals to take from it."""

    message: Message
    buses: str
    takes: tuple[Take, ...]
