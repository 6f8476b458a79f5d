"""Turn what to decode into rows of the kernels' tables: bit positions, conditions, ranges, and which path will do."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from drivers.decode import kernel
from drivers.decode.dbc import Signal
from drivers.decode.plan import Entry, NotAvailable, Take

MAX_BYTES: Final = 64  # of a CAN FD frame; longer messages travel by transport protocols


@dataclass(frozen=True, slots=True)
class _Condition:
    """`selector` must have a raw value in one of the inclusive `ranges`; where `counted`, else a sample is invalid."""

    selector: Signal
    ranges: Sequence[tuple[int, int]]
    counted: bool


# Mask and bits that select, mask and bits that make valid
_Gates = tuple[int, int, int, int]
NO_GATES: Final[_Gates] = (0, 0, 0, 0)


@dataclass(slots=True)
class Rows:
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
        asked: list[Signal] = []
        in_word = True
        for take in takes:
            first = len(self.conditions)
            conditions = _conditions(take, named)
            for c in conditions:
                if c.selector.name not in hidden:
                    hidden[c.selector.name] = self._append(_row(Take(c.selector, 0)))
                self.conditions.append((hidden[c.selector.name], len(self.ranges), len(c.ranges), c.counted))
                self.ranges.extend(c.ranges)
            plus = -1
            for part in reversed(take.plus):
                plus = self._append(_row(Take(part, 0, scale=take.scale), plus))
            gates = _gates(conditions)
            in_word = in_word and gates is not None and _is_in_word(take)
            rows.append(_row(take, plus, first, len(conditions), gates or NO_GATES))
            asked += [take.signal, *take.plus, *(c.selector for c in conditions)]
        at = len(self.signals)
        self.signals.extend(rows)
        path = kernel.ANY
        if in_word:
            asks = any(t.plus or t.valid or t.signal.selector for t in takes)
            path = kernel.IN_WORD if asks else kernel.PLAIN
        return at, len(rows), max((s.bytes_needed for s in asked), default=0), path

    def _append(self, row: tuple[Any, ...]) -> int:
        self.signals.append(row)
        return len(self.signals) - 1


def _conditions(take: Take, named: dict[str, Signal]) -> list[_Condition]:
    """List what must hold for a sample: its multiplexers, outermost first, then its validity signals (counted)."""
    found: list[_Condition] = []
    for part in (take.signal, *take.plus, *(v.signal for v in take.valid)):
        chain: list[_Condition] = []
        signal, seen = part, {part.name}
        while signal.selector is not None and signal.selector not in seen:
            seen.add(signal.selector)
            selector = named[signal.selector]
            chain.append(_Condition(selector, signal.selected_by, False))
            signal = selector
        found.extend(c for c in reversed(chain) if c not in found)
    return [*found, *(_Condition(v.signal, ((v.equals, v.equals),), True) for v in take.valid)]


def _gates(conditions: list[_Condition]) -> _Gates | None:
    """Fold conditions on bits of the first eight bytes into two masked comparisons; None when they do not fold."""
    gates = {False: (0, 0), True: (0, 0)}
    for c in conditions:
        signal = c.selector
        if len(c.ranges) != 1 or c.ranges[0][0] != c.ranges[0][1] or signal.first_bit + signal.length > 64:
            return None
        raw = c.ranges[0][0]
        if not _can_be(signal, raw):
            return None
        mask, bits = gates[c.counted]
        where, pattern = _in_first_word(signal, (1 << signal.length) - 1), _in_first_word(signal, raw)
        if mask & where and (mask & where) & (bits ^ pattern):
            return None  # two conditions that contradict each other
        gates[c.counted] = mask | where, bits | pattern
    return *gates[False], *gates[True]


def _can_be(signal: Signal, raw: int) -> bool:
    """Say whether the raw value fits in the signal's bits."""
    if signal.signed:
        return -(1 << signal.length - 1) <= raw < 1 << signal.length - 1
    return 0 <= raw < 1 << signal.length


def _in_first_word(signal: Signal, raw: int) -> int:
    """Return the first eight bytes, as a little-endian number, of a frame in which only `signal` is set, to `raw`."""
    raw &= (1 << signal.length) - 1
    if not signal.big_endian:
        return raw << signal.first_bit
    return int.from_bytes((raw << (64 - signal.first_bit - signal.length)).to_bytes(8, "big"), "little")


def _is_in_word(take: Take) -> bool:
    """Say whether the signal and what is added to it are whole bits of the first eight bytes."""
    return all(
        part.first_bit + part.length <= 64
        and part.length < 64
        and _kind(part, *_linear(Take(part, 0, take.scale, take.offset))) == kernel.BITS
        for part in (take.signal, *take.plus)
    )


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


def _row(
    take: Take, plus: int = -1, condition: int = 0, conditions: int = 0, gates: _Gates = NO_GATES
) -> tuple[Any, ...]:
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
        *gates,
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
