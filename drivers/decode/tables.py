"""Compile signals into the arrays that the kernels walk, and run the kernels over batches of frames.

`compile_all` takes every signal of a DBC, its index as channel; drivers.decode.profile chooses and names channels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agent.blocks import BLOCK, Block, Frames
from agent.errors import ConfigError
from drivers.decode import kernel
from drivers.decode.dbc import Database, Signal
from drivers.decode.plan import Entry, NotAvailable, Take

MAX_BYTES: Final = 64  # of a CAN FD frame; longer messages travel by transport protocols
UNKNOWN_PLACES: Final = 1 << 13  # half of them may be used: distinct unknown 29-bit identifiers that are counted apart
MIN_HASH_PLACES: Final = 16


@dataclass(frozen=True, slots=True)
class Tables:
    """What the kernels need; `left_out` says, a line each, which signals no frame can carry."""

    entries: tuple[Entry, ...]
    messages: npt.NDArray[np.void]
    signals: npt.NDArray[np.void]
    conditions: npt.NDArray[np.void]
    ranges: npt.NDArray[np.void]
    signal_names: tuple[str, ...] = ()  # of compile_all: channel number -> "Message.Signal"
    left_out: tuple[str, ...] = ()


def compile_all(database: Database, buses: str = "*") -> Tables:
    """Compile every signal of `database`; its index in `signal_names` is its channel."""
    names: list[str] = []
    entries = []
    for message in database.messages:
        absent: NotAvailable = "j1939" if message.j1939 else "none"
        takes = []
        for signal in message.signals:
            takes.append(Take(signal, len(names), not_available=absent))
            names.append(f"{message.name}.{signal.name}")
        entries.append(Entry(message, buses, tuple(takes)))
    if len(names) > np.iinfo(np.uint16).max:
        raise ConfigError(f"{database.path}: {len(names)} signals are more than 65,535; use a profile that chooses")
    return compile_entries(entries, tuple(names))


def compile_entries(entries: Iterable[Entry], signal_names: tuple[str, ...] = ()) -> Tables:
    """Compile the chosen signals of the chosen messages."""
    rows = _Rows()
    entries = tuple(entries)
    messages = np.zeros(1 + len(entries), kernel.MESSAGE)  # the first is kernel.NO_MESSAGE
    for i, entry in enumerate(entries):
        messages[1 + i] = rows.add(entry)
    return Tables(
        entries,
        messages,
        np.array(rows.signals, kernel.SIGNAL),
        np.array(rows.conditions, kernel.CONDITION),
        np.array(rows.ranges, kernel.RANGE),
        signal_names,
        tuple(rows.left_out),
    )


@dataclass(slots=True)
class _Rows:
    """The tables while they grow."""

    signals: list[tuple[Any, ...]] = field(default_factory=list)
    conditions: list[tuple[int, int, int, int]] = field(default_factory=list)
    ranges: list[tuple[int, int]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, entry: Entry) -> tuple[int, int, int, int]:
        """Add the rows of one message: first what they refer to, then the rows themselves in one run."""
        message = entry.message
        named = {s.name: s for s in message.signals}
        takes = []
        for take in entry.takes:
            wrong = [s for s in (take.signal, *take.plus) if s.bytes_needed > MAX_BYTES or s.length > 64]
            if wrong:
                s = wrong[0]
                self.left_out.append(
                    f"{message.name}.{s.name}: {s.length} bits from bit {s.start} do not fit in a frame or in 64 bits"
                )
            else:
                takes.append(take)
        hidden: dict[str, int] = {}
        rows = []
        for take in takes:
            first = len(self.conditions)
            for selector, ranges, counted in _conditions(take, named):
                if selector.name not in hidden:
                    hidden[selector.name] = self._append(_row(Take(selector, 0), -1, 0, 0))
                self.conditions.append((hidden[selector.name], len(self.ranges), len(ranges), counted))
                self.ranges.extend(ranges)
            plus = -1
            for part in reversed(take.plus):
                plus = self._append(_row(Take(part, 0, scale=take.scale), plus, 0, 0))
            rows.append(_row(take, plus, first, len(self.conditions) - first))
        at = len(self.signals)
        self.signals.extend(rows)
        plain = all(_is_plain(take) for take in takes)
        return at, len(rows), max((t.signal.bytes_needed for t in takes), default=0), plain

    def _append(self, row: tuple[Any, ...]) -> int:
        self.signals.append(row)
        return len(self.signals) - 1


def _conditions(take: Take, named: dict[str, Signal]) -> list[tuple[Signal, Sequence[tuple[int, int]], int]]:
    """List what must hold for a sample: its multiplexers, outermost first, then its validity signals (counted)."""
    found: list[tuple[Signal, Sequence[tuple[int, int]], int]] = []
    for part in (take.signal, *take.plus, *(v.signal for v in take.valid)):
        chain: list[tuple[Signal, Sequence[tuple[int, int]], int]] = []
        signal, seen = part, {part.name}
        while signal.selector is not None and signal.selector not in seen:
            seen.add(signal.selector)
            selector = named[signal.selector]
            chain.append((selector, signal.selected_by, 0))
            signal = selector
        found.extend(c for c in reversed(chain) if c not in found)
    return [*found, *((v.signal, ((v.equals, v.equals),), 1) for v in take.valid)]


def _linear(take: Take) -> tuple[float, float]:
    """Return the factor and offset from raw bits to the channel."""
    return take.signal.scale * take.scale, take.signal.offset * take.scale + take.offset


def _is_plain(take: Take) -> bool:
    """Say whether the kernel's fast path will do: whole bits of the first eight bytes and nothing to ask before."""
    signal = take.signal
    return (
        signal.first_bit + signal.length <= 64
        and signal.length < 64
        and _kind(signal, *_linear(take)) == kernel.BITS
        and not take.plus
        and signal.selector is None
        and not take.valid
    )


def _kind(signal: Signal, scale: float, offset: float) -> int:
    if signal.is_float:
        return kernel.FLOAT32 if signal.length == 32 else kernel.FLOAT64
    if signal.length == 64 and not signal.signed:
        return kernel.WIDE_UNSIGNED
    whole = float(scale).is_integer() and float(offset).is_integer()
    reach = (1 << signal.length) * abs(scale) + abs(offset)
    # whole numbers above 2^53 are exact in 64-bit integers; beyond those a float is as good as it gets
    return kernel.WIDE_INTEGER if whole and 2.0**53 < reach <= 2.0**63 else kernel.BITS


def _row(take: Take, plus: int, condition: int, conditions: int) -> tuple[Any, ...]:
    """Return a row of the signal table, in the order of kernel.SIGNAL."""
    signal = take.signal
    length, first = signal.length, signal.first_bit
    na_from = _not_available_from(length, take.not_available)
    in_word = first + length <= 64
    scale, offset = _linear(take)
    return (
        (64 - first - length if signal.big_endian else first) if in_word else 0,
        (1 << length) - 1,
        1 << (length - 1) if signal.signed and not signal.is_float else 0,
        (1 << 64) - 1 if na_from is None else na_from,
        scale,
        offset,
        take.low,
        take.high,
        first,
        length,
        plus,
        condition,
        conditions,
        take.channel,
        signal.bytes_needed,
        signal.big_endian,
        _kind(signal, scale, offset),
        na_from is not None,
    )


def _not_available_from(length: int, rule: NotAvailable) -> int | None:
    """Return the lowest raw value that means 'not available' or 'error'; None when none does.

    J1939-71 table 1: the highest byte 0xFE is an error and 0xFF not available in numbers of 8 bits and more; states
    of two bits are 10 error, 11 not available, and longer states likewise use their two highest values.
    """
    if rule == "all_ones":
        return (1 << length) - 1
    if rule == "none" or length < 2:
        return None
    return 0xFE << (length - 8) if length >= 8 else (1 << length) - 2


class Decoder:
    """Decodes batches of frames by `tables`; the state is counters only, so any split of the input gives the same."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.frames = 0
        self._counters = np.zeros(kernel.COUNTERS, np.int64)
        self._unknown: dict[tuple[str, int], int] = {}
        self._buses: list[str] = []
        self._route([])
        self._found = np.empty((0, 2), np.int32)
        self._out = np.empty(0, BLOCK)

    def decode(self, frames: Frames, buses: list[str]) -> Block:
        """Return the samples of `frames`, ordered as the frames are; `buses` names the bus numbers.

        The block is the decoder's own buffer and is overwritten by the next call: copy what is kept.
        """
        if buses != self._buses:
            self._fold_unknown()
            self._route(list(buses))
        n = len(frames.t)
        if n == 0:
            return self._out[:0]
        if int(frames.bus.max()) >= len(buses):
            raise ValueError(f"bus number {int(frames.bus.max())} has no name among {len(buses)}")
        self.frames += n
        if len(self._found) < n:
            self._found = np.empty((n, 2), np.int32)
        t = self.tables
        known, most = kernel.match(
            frames.bus,
            frames.id,
            frames.flags,
            self._standard,
            self._standard_counts,
            self._keys,
            self._values,
            self._unknown_keys,
            self._unknown_counts,
            t.messages,
            self._found,
            self._counters,
        )
        if len(self._out) <= most:
            self._out = np.empty(1 + most + most // 4, BLOCK)
        words = frames.data.view(np.uint64)
        k = kernel.decode(
            frames.t,
            frames.len,
            words,
            self._found[:known],
            t.messages,
            t.signals,
            t.conditions,
            t.ranges,
            self._out,
            self._counters,
        )
        return self._out[:k]

    @property
    def decoded(self) -> int:
        """Frames whose message has signals to take."""
        return int(self._counters[kernel.DECODED])

    @property
    def out_of_range(self) -> int:
        """Samples dropped because they were outside their range or not finite."""
        return int(self._counters[kernel.OUT_OF_RANGE])

    @property
    def not_available(self) -> int:
        """Samples dropped because their raw value means 'not available' or 'error'."""
        return int(self._counters[kernel.NOT_AVAILABLE])

    @property
    def invalid(self) -> int:
        """Samples dropped because a validity signal said no."""
        return int(self._counters[kernel.INVALID])

    @property
    def unknown_uncounted(self) -> int:
        """Frames of unknown 29-bit identifiers that came after the table of such identifiers was full."""
        return int(self._counters[kernel.UNKNOWN_UNCOUNTED])

    @property
    def unknown_ids(self) -> dict[tuple[str, int], int]:
        """How many frames each (bus, identifier) had that no message describes."""
        self._fold_unknown()
        return dict(self._unknown)

    def _fold_unknown(self) -> None:
        """Move the kernel's counts of unknown identifiers into the dictionary, which outlives a change of buses."""
        unknown = np.where(self._standard == kernel.NO_MESSAGE, self._standard_counts, 0)
        found = [(int(b), int(i), int(unknown[b, i])) for b, i in np.argwhere(unknown)]
        for place in np.flatnonzero(self._unknown_keys):
            key = int(self._unknown_keys[place])
            found.append((key >> 40 & 0xFF, key & 0x1FFF_FFFF, int(self._unknown_counts[place])))
            self._unknown_counts[place] = 0
        self._standard_counts[:] = 0
        for bus, identifier, count in found:
            if count:
                name = self._buses[bus], identifier
                self._unknown[name] = self._unknown.get(name, 0) + count

    def _route(self, buses: list[str]) -> None:
        """Build the look-up tables for these buses; where two messages claim an identifier, the last one decodes."""
        self._buses = buses
        self._standard = np.full((len(buses), 2048), kernel.NO_MESSAGE, np.int32)
        routes: dict[int, int] = {}
        for m, entry in enumerate(self.tables.entries, start=1):
            for bus, name in enumerate(buses):
                if not fnmatchcase(name, entry.buses):
                    continue
                message = entry.message
                if not message.extended:
                    self._standard[bus, message.id] = m
                    continue
                key = int(kernel.USED) | bus << int(kernel.BUS_SHIFT)
                if message.j1939:
                    key |= int(kernel.GROUP_BIT) | int(kernel.parameter_group(message.id))
                else:
                    key |= message.id
                routes[key] = m
        places = MIN_HASH_PLACES
        while places < 2 * len(routes):
            places *= 2
        self._keys = np.zeros(places, np.uint64)
        self._values = np.zeros(places, np.int32)
        for key, m in routes.items():
            place = kernel.place_of(key, self._keys)
            self._keys[place], self._values[place] = key, m
        self._standard_counts = np.zeros((len(buses), 2048), np.int64)
        self._unknown_keys = np.zeros(UNKNOWN_PLACES, np.uint64)
        self._unknown_counts = np.zeros(UNKNOWN_PLACES + 1, np.int64)  # the last is how many places are used
