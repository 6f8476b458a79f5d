"""The one-pass parser of long sample CSV: bytes in, block out.

Lines hold a time in seconds, a channel name and a value, in the columns that the header gives. The text must be
followed by a newline; a line is whole when its newline lies before `stop`.
"""

from typing import Final

import numba as nb
import numpy as np
import numpy.typing as npt

from agent.blocks import BLOCK, Block

LONGEST: Final = 4096  # bytes of a line; a valid one is below 150
NAME: Final = 64  # bytes of a channel name; the longest in the table has 49
SLOTS: Final = 1024  # of the hash table of channel names
MOST_UNKNOWN: Final = 64  # unknown names that are kept apart; the last slot holds all further ones

# Slots of `state`.
LINES, BAD, FIRST_BAD, OUTSIDE, N_UNKNOWN, SKIPPING, SAMPLES = range(7)
STATE: Final = 7

_LF, _CR, _TAB, _SPACE, _QUOTE, _PLUS, _MINUS, _DOT, _ZERO, _NINE, _E = 10, 13, 9, 32, 34, 43, 45, 46, 48, 57, 101
_LOWER: Final = 32
_TEN_TO: Final = 10.0 ** np.arange(23)  # exact in float64
_MOST_SECONDS: Final = 9e9  # keeps ns within int64
_MANTISSA: Final = 10**17

_BLOCK = nb.types.Array(nb.from_dtype(BLOCK), 1, "C")
_TEXT = nb.types.Array(nb.types.uint8, 1, "C")
_NAMES = nb.types.Array(nb.types.uint8, 2, "C")
_INTS = nb.types.Array(nb.types.int64, 1, "C")
_FLOATS = nb.types.Array(nb.types.float64, 1, "C")


@nb.njit([nb.int64(_TEXT, nb.int64, nb.int64)], cache=True, nogil=True)
def name_hash(text: npt.NDArray[np.uint8], begin: int, end: int) -> int:
    """Return the slot of the name text[begin:end] (FNV-1a, 32 bits, folded to the table's size)."""
    h = 2166136261
    for i in range(begin, end):
        h = ((h ^ text[i]) * 16777619) & 0xFFFFFFFF
    return (h ^ (h >> 16)) % SLOTS


@nb.njit("UniTuple(float64, 2)(uint8[::1], int64, int64)", cache=True, nogil=True, error_model="numpy")
def number(text: npt.NDArray[np.uint8], begin: int, end: int) -> tuple[float, float]:
    """Read text[begin:end] as a decimal number; return (1.0, value), or (0.0, 0.0) when it is none.

    Exact to the last bit up to 15 digits, within 2 units of the last place beyond. `nan`, `inf` and an empty field
    are the number NaN.
    """
    p = begin
    sign = 1.0
    if p < end and (text[p] == _MINUS or text[p] == _PLUS):
        if text[p] == _MINUS:
            sign = -1.0
        p += 1
    if p == end:
        return (1.0 if begin == end else 0.0), (np.nan if begin == end else 0.0)
    first = text[p] | _LOWER
    if first in (110, 105) and end - p <= 8:  # n(an), i(nf), i(nfinity)
        return 1.0, np.nan
    mantissa = 0
    exponent = 0
    digits = 0
    while p < end and _ZERO <= text[p] <= _NINE:
        if mantissa < _MANTISSA:
            mantissa = mantissa * 10 + (text[p] - _ZERO)
        else:
            exponent += 1
        digits += 1
        p += 1
    if p < end and text[p] == _DOT:
        p += 1
        while p < end and _ZERO <= text[p] <= _NINE:
            if mantissa < _MANTISSA:
                mantissa = mantissa * 10 + (text[p] - _ZERO)
                exponent -= 1
            digits += 1
            p += 1
    if digits == 0:
        return 0.0, 0.0
    if p < end and (text[p] | _LOWER) == _E:
        p += 1
        negative = False
        if p < end and (text[p] == _MINUS or text[p] == _PLUS):
            negative = text[p] == _MINUS
            p += 1
        if p == end:
            return 0.0, 0.0
        written = 0
        while p < end and _ZERO <= text[p] <= _NINE:
            if written < 1000:
                written = written * 10 + (text[p] - _ZERO)
            p += 1
        exponent += -written if negative else written
    if p != end:
        return 0.0, 0.0
    value = float(mantissa)
    while exponent < 0 and value != 0.0:
        step = min(-exponent, 22)
        value /= _TEN_TO[step]
        exponent += step
    while exponent > 0 and value != 0.0 and value < np.inf:
        step = min(exponent, 22)
        value *= _TEN_TO[step]
        exponent -= step
    return 1.0, sign * value


@nb.njit(nb.int64(_NAMES, _INTS, nb.int64, _TEXT, nb.int64, nb.int64), cache=True, nogil=True)
def _same(
    names: npt.NDArray[np.uint8],
    lengths: npt.NDArray[np.int64],
    k: int,
    text: npt.NDArray[np.uint8],
    begin: int,
    end: int,
) -> int:
    if lengths[k] != end - begin:
        return 0
    for j in range(end - begin):
        if names[k, j] != text[begin + j]:
            return 0
    return 1


@nb.njit(
    nb.int64(
        _TEXT, nb.int64, nb.int64, nb.boolean, nb.int64, _INTS, _INTS, _INTS, _NAMES, _INTS, _INTS, _FLOATS, _FLOATS,
        _NAMES, _INTS, _INTS, _BLOCK,
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def parse(
    text: npt.NDArray[np.uint8],
    start: int,
    stop: int,
    last: bool,
    separator: int,
    columns: npt.NDArray[np.int64],
    state: npt.NDArray[np.int64],
    slots: npt.NDArray[np.int64],
    names: npt.NDArray[np.uint8],
    lengths: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int64],
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    unknown: npt.NDArray[np.uint8],
    unknown_lengths: npt.NDArray[np.int64],
    unknown_counts: npt.NDArray[np.int64],
    out: Block,
) -> int:
    """Parse whole lines of text[start:stop] until `out` is full; return where to go on.

    columns int64[3] are the positions of time, channel and value · slots int64[SLOTS] leads from a name's hash to
    its row in names uint8[k, NAME], lengths, numbers, low, high (linear probing, −1 is empty) · unknown names are
    counted in the last three. state int64[STATE]; state[SAMPLES] says how many samples `out` got.
    """
    n = 0
    p = start
    capacity = len(out)
    begins = np.zeros(3, np.int64)
    ends = np.zeros(3, np.int64)
    while n < capacity and p < stop:
        begin = p
        field = 0
        found = 0
        begins[:] = 0
        ends[:] = 0
        while True:  # one field each turn
            field_at = p
            while text[p] != separator and text[p] != _LF:
                p += 1
            for c in range(3):
                if columns[c] == field:
                    begins[c] = field_at
                    ends[c] = p
                    found += 1
            field += 1
            if text[p] == _LF:
                break
            p += 1
        if p >= stop and not last:
            if state[SKIPPING] == 0 and stop - begin > LONGEST:
                state[SKIPPING] = 1
                state[LINES] += 1
                state[BAD] += 1
                if state[FIRST_BAD] == 0:
                    state[FIRST_BAD] = state[LINES]
            p = stop if state[SKIPPING] else begin
            break
        line_end = p
        p = min(p + 1, stop)
        if state[SKIPPING]:
            state[SKIPPING] = 0
            continue
        state[LINES] += 1
        good = found == 3 and line_end - begin <= LONGEST
        if good:
            for c in range(3):
                b = begins[c]
                e = ends[c]
                while b < e and (text[b] <= _SPACE or text[b] == _QUOTE):
                    b += 1
                while e > b and (text[e - 1] <= _SPACE or text[e - 1] == _QUOTE):
                    e -= 1
                begins[c] = b
                ends[c] = e
            is_time, seconds = number(text, begins[0], ends[0])
            is_value, value = number(text, begins[2], ends[2])
            good = is_time != 0.0 and is_value != 0.0 and abs(seconds) <= _MOST_SECONDS and ends[1] > begins[1]
        else:
            blank = line_end - begin <= LONGEST
            for i in range(begin, line_end):
                if text[i] > _SPACE:
                    blank = False
                    break
            if blank:
                continue
        if not good:
            state[BAD] += 1
            if state[FIRST_BAD] == 0:
                state[FIRST_BAD] = state[LINES]
            continue
        b = begins[1]
        e = ends[1]
        row = -1
        slot = name_hash(text, b, e)
        while slots[slot] >= 0:
            if _same(names, lengths, slots[slot], text, b, e):
                row = slots[slot]
                break
            slot = (slot + 1) % SLOTS
        if row < 0:
            e = min(e, b + NAME)
            k = 0
            while k < state[N_UNKNOWN] and not _same(unknown, unknown_lengths, k, text, b, e):
                k += 1
            if k == state[N_UNKNOWN] and k < MOST_UNKNOWN:
                state[N_UNKNOWN] += 1
                unknown_lengths[k] = e - b
                for j in range(e - b):
                    unknown[k, j] = text[b + j]
            unknown_counts[k] += 1
            continue
        if not (low[row] <= value <= high[row]) or not np.isfinite(value):
            state[OUTSIDE] += 1
            continue
        whole = np.floor(seconds)
        fraction = seconds - whole
        if abs(seconds) >= 1e8:  # a Unix time: float64 resolves 0.24 microseconds of it
            nanos = np.int64(np.rint(fraction * 1e6)) * 1000
        else:
            nanos = np.int64(np.rint(fraction * 1e9))
        out[n]["t"] = np.int64(whole) * 1_000_000_000 + nanos
        out[n]["channel"] = numbers[row]
        out[n]["value"] = value
        n += 1
    state[SAMPLES] = n
    return p
