"""Listen to a CAN bus ourselves for a few seconds, where no daemon holds it."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from agent import clock
from agent.blocks import ERROR, EXTENDED
from agent.clock import NS_PER_S
from agent.doctor.seen import Seen
from agent.errors import DriverError
from drivers.can.wire import CanSettings, make_wire

LISTEN_S: Final = 2.5  # every message of a car at 1 Hz and faster is there twice
# ISO 11898-1: bits of a data frame without data, interframe space included, and the share of the rest that stuffing
# adds: 20 % at worst, some 8 % in traffic
BITS, BITS_29, STUFFED = 47, 67, 1.08

# What a driver's error says -> the row of advice. The sentences are this product's own (drivers/can).
_CAUSES: Final = (
    ("no frames at any of", "can_silent"),
    ("bus-off", "can_bus_off"),
    ("is down", "can_down"),
    ("no bit rate is set", "can_no_bit_rate"),
    ("interface is gone", "can_missing"),
    ("refuses", "can_adapter_refuses"),
    ("cannot listen only", "can_adapter_refuses"),
    ("has no CAN", "can_no_kernel"),
    ("Permission denied", "not_permitted"),
    ("cannot open", "can_adapter_missing"),
    ("unplugged", "can_adapter_missing"),
)


def cause_of(error: str) -> str:
    """Return the code of what a CAN driver complains of."""
    return next((code for words, code in _CAUSES if words in error), "can_trouble")


@dataclass(slots=True)
class Heard:
    """What was on a bus in `seconds`."""

    seconds: float = 0.0
    frames: int = 0
    bits: float = 0.0
    ids: set[int] = field(default_factory=set)
    bit_rate: int | None = None
    counts: dict[str, int] = field(default_factory=dict)


def listen(settings: CanSettings, seen: Seen, seconds: float = LISTEN_S) -> Heard:
    """Open a bus, listen and close it; raise DriverError."""
    wire = make_wire(settings)
    seen.release.append(wire.close)
    heard = Heard()
    try:
        wire.open([])
    except DriverError as error:
        if "timeout" not in str(error):
            raise
        wire.open([])  # pyserial also calls it so when this process had to wait for the processor
    try:
        heard.bit_rate = wire.bit_rate
        begun_ns = clock.monotonic_ns()
        until_ns = begun_ns + round(min(seconds, seen.left_s()) * NS_PER_S)
        while (left_ns := until_ns - clock.monotonic_ns()) > 0:
            frames = wire.read(min(0.25, left_ns / NS_PER_S))
            good = (frames.flags & ERROR) == 0
            heard.frames += int(good.sum())
            heard.ids |= set(np.unique(frames.id[good]).tolist())
            head = np.where(frames.flags[good] & EXTENDED, BITS_29, BITS)
            heard.bits += float((head + 8 * frames.len[good].astype(np.int64)).sum()) * STUFFED
        heard.seconds = max(1e-9, (clock.monotonic_ns() - begun_ns) / NS_PER_S)
        heard.counts = dict(wire.counts)
    finally:
        wire.close()
    return heard


def load_words(heard: Heard, load: float | None) -> str:
    """Say what was heard in a few words."""
    rate = f"{heard.bit_rate} bit/s, " if heard.bit_rate else ""
    busy = f", load {load:.0%}" if load is not None else ""
    return f"{rate}{heard.frames / heard.seconds:.0f} frames a second, {len(heard.ids)} identifiers{busy}"
