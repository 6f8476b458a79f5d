"""The decode kernels: CAN frames in, samples out, one pass to find each frame's message and one to take its signals.

A frame's data are read as little-endian 64-bit words. A little-endian signal is a shift and a mask of one word or of
two neighbours; a big-endian one the same on the byte-swapped word. Tables are built by drivers.decode.tables.
"""

from typing import Any, Final

import numpy as np
from numba import from_dtype, njit, types

from agent.blocks import BLOCK, ERROR, EXTENDED, REMOTE

# A message's rows in the signal table, and which path of `decode` all of them can take
ANY, IN_WORD, PLAIN = range(3)
MESSAGE: Final = np.dtype(
    [("first", "<i4"), ("count", "<i4"), ("bytes_needed", "u1"), ("path", "u1")],
    align=True,
)
# kind: how raw bits become a number
BITS, WIDE_INTEGER, WIDE_UNSIGNED, FLOAT32, FLOAT64 = range(5)
SIGNAL: Final = np.dtype(
    [
        ("shift", "<u8"),  # fast path: to the right, of the (swapped) first word
        ("mask", "<u8"),
        ("sign", "<u8"),  # the sign bit of a signed signal, else 0
        (
            "select_mask",
            "<u8",
        ),  # fast path: these bits of the first word must be select_bits, or it is not in the frame
        ("select_bits", "<u8"),
        ("valid_mask", "<u8"),  # fast path: these bits of the first word must be valid_bits, or it is invalid
        ("valid_bits", "<u8"),
        ("na_from", "<u8"),  # bits at or above this mean 'not available' or 'error' where has_na
        ("scale", "<f8"),
        ("offset", "<f8"),
        ("low", "<f8"),
        ("high", "<f8"),
        ("first_bit", "<i4"),  # in the order of its bytes, 0..511
        ("length", "<i4"),
        ("plus", "<i4"),  # row whose value is added (and so on from there), or -1
        ("condition", "<i4"),  # first row in the condition table
        ("conditions", "<i4"),
        ("channel", "<u2"),
        ("bytes_needed", "u1"),
        ("big_endian", "u1"),
        ("kind", "u1"),
        ("has_na", "u1"),
    ],
    align=True,
)
# A signal is taken only where `selector` (a row of the signal table) has a raw value in one of `ranges` ranges
CONDITION: Final = np.dtype(
    [("selector", "<i4"), ("range", "<i4"), ("ranges", "<i4"), ("counted", "<i4")],
    align=True,
)
RANGE: Final = np.dtype([("low", "<i8"), ("high", "<i8")], align=True)

# Places in the array of counters
DECODED, OUT_OF_RANGE, NOT_AVAILABLE, INVALID, UNKNOWN_UNCOUNTED = range(5)
COUNTERS: Final = 5

# The first row of the message table: no signals, what an identifier nobody described leads to
NO_MESSAGE: Final = 0

# Keys of the two hash tables: identifier, bit 32 = parameter group, bits 40.. = bus; bit 63 marks a used place
USED: Final = np.uint64(1 << 63)
GROUP_BIT: Final = np.uint64(1 << 32)
BUS_SHIFT: Final = np.uint64(40)
HASH_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio (Knuth, TAOCP vol. 3, §6.4)
HASH_SHIFT: Final = np.uint64(40)

_U0, _U8, _U63, _U64 = np.uint64(0), np.uint64(8), np.uint64(63), np.uint64(64)
_HIGH16 = np.uint64(0xFF00FF00FF00FF00)
_LOW16 = np.uint64(0x00FF00FF00FF00FF)
_HIGH32 = np.uint64(0xFFFF0000FFFF0000)
_LOW32 = np.uint64(0x0000FFFF0000FFFF)
_U16, _U32 = np.uint64(16), np.uint64(32)

_message = types.Array(from_dtype(MESSAGE), 1, "C")
_signal = types.Array(from_dtype(SIGNAL), 1, "C")
_condition = types.Array(from_dtype(CONDITION), 1, "C")
_range = types.Array(from_dtype(RANGE), 1, "C")
_block = types.Array(from_dtype(BLOCK), 1, "C")


@njit("uint64(uint64)", cache=True, nogil=True, inline="always")
def swap_bytes(word: Any) -> Any:
    """Reverse the eight bytes of `word` (the compiler makes one instruction of it)."""
    word = ((word & _HIGH16) >> _U8) | ((word & _LOW16) << _U8)
    word = ((word & _HIGH32) >> _U16) | ((word & _LOW32) << _U16)
    return (word >> _U32) | (word << _U32)


@njit("int64(uint64, uint64[::1])", cache=True, nogil=True)
def place_of(key: Any, keys: Any) -> Any:
    """Return where `key` is in the open hash table `keys` (a power of two long), or the free place where it belongs."""
    last = np.uint64(keys.shape[0] - 1)
    place = ((key * HASH_FACTOR) >> HASH_SHIFT) & last
    while keys[np.int64(place)] != key and keys[np.int64(place)] != _U0:
        place = (place + np.uint64(1)) & last
    return np.int64(place)


@njit("uint64(uint32)", cache=True, nogil=True)
def parameter_group(identifier: Any) -> Any:
    """Return the J1939 parameter group of a 29-bit identifier: without priority, source, and a PDU1's destination."""
    group = (np.uint64(identifier) >> _U8) & np.uint64(0x3FFFF)
    if (group & np.uint64(0xFF00)) < np.uint64(0xF000):  # PDU format below 240: the low byte is a destination
        group = group & np.uint64(0x3FF00)
    return group


@njit(
    types.UniTuple(types.int64, 2)(  # type: ignore[no-untyped-call]
        types.uint8[::1],
        types.uint32[::1],
        types.uint8[::1],
        types.int32[:, ::1],
        types.int64[:, ::1],
        types.uint64[::1],
        types.int32[::1],
        types.uint64[::1],
        types.int64[::1],
        _message,
        types.int32[:, ::1],
        types.int64[::1],
    ),
    cache=True,
    nogil=True,
)
def match(
    bus: Any,
    identifier: Any,
    flags: Any,
    standard: Any,
    standard_counts: Any,
    keys: Any,
    values: Any,
    unknown_keys: Any,
    unknown_counts: Any,
    messages: Any,
    found: Any,
    counters: Any,
) -> Any:
    """List in `found` (frame, message) the frames to decode; return how many, and how many samples may come out.

    `standard` [bus, 11-bit id] and the hash table `keys`/`values` (29-bit ids, then parameter groups) give messages;
    every 11-bit identifier is counted in `standard_counts`, 29-bit ones that nothing describes in `unknown_counts`,
    whose last place says how many places are used. Remote and error frames carry nothing to decode and count nowhere.
    """
    samples = 0
    n = np.uint64(0)
    for i in range(bus.shape[0]):
        flag = flags[i]
        b, number = bus[i], identifier[i]
        if flag & (REMOTE | ERROR | EXTENDED) == 0 and number < 2048:
            # no branch on whether the identifier is known: the processor could not predict it
            standard_counts[b, number] += 1
            message = standard[b, number]
        elif flag & (REMOTE | ERROR):
            continue
        else:
            key = (np.uint64(b) << BUS_SHIFT) | USED
            place = place_of(key | np.uint64(number), keys)
            if keys[place] == _U0:
                place = place_of(key | GROUP_BIT | parameter_group(number), keys)
            if keys[place] == _U0:
                place = place_of(key | np.uint64(number), unknown_keys)
                if unknown_keys[place] != _U0:
                    unknown_counts[place] += 1
                elif unknown_counts[-1] < unknown_keys.shape[0] // 2:
                    unknown_keys[place] = key | np.uint64(number)
                    unknown_counts[place] = 1
                    unknown_counts[-1] += 1
                else:
                    counters[UNKNOWN_UNCOUNTED] += 1
                continue
            message = values[place]
        count = messages[np.uint32(message)].count
        found[n, 0] = i
        found[n, 1] = message
        samples += count
        n += np.uint64(count > 0)
    return np.int64(n), np.int64(samples)


@njit(
    types.uint64(types.uint64[:, ::1], types.int64, types.int64, types.int64, types.uint8),
    cache=True,
    nogil=True,
    inline="always",
)
def take_bits(words: Any, i: Any, first: Any, length: Any, big_endian: Any) -> Any:
    """Return `length` (1..64) bits of frame `i` from bit `first`, right-aligned; they may cross into the next word."""
    j = first >> 6
    within = first & 63
    crosses = within + length > 64
    if big_endian:
        bits = swap_bytes(words[i, j])
        if crosses:
            bits = (bits << np.uint64(within)) | (swap_bytes(words[i, j + 1]) >> np.uint64(64 - within))
            bits = bits >> np.uint64(64 - length)
        else:
            bits = bits >> np.uint64(64 - within - length)
    else:
        bits = words[i, j] >> np.uint64(within)
        if crosses:
            bits = bits | (words[i, j + 1] << np.uint64(64 - within))
    return bits & (np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - length))


@njit(types.int64(types.uint64[:, ::1], types.int64, _signal, types.int64), cache=True, nogil=True, inline="always")
def raw_of(words: Any, i: Any, signals: Any, s: Any) -> Any:
    """Return signal `s` of frame `i` as a sign-extended raw integer."""
    bits = take_bits(words, i, signals[s].first_bit, signals[s].length, signals[s].big_endian)
    return np.int64((bits ^ signals[s].sign) - signals[s].sign)


@njit(types.float64(types.uint64[:, ::1], types.int64, _signal, types.int64), cache=True, nogil=True, inline="always")
def value_of(words: Any, i: Any, signals: Any, s: Any) -> Any:
    """Return the value of signal `s` of frame `i`, whatever its kind."""
    kind = signals[s].kind
    scale, offset = signals[s].scale, signals[s].offset
    if kind == WIDE_INTEGER:
        return np.float64(raw_of(words, i, signals, s) * np.int64(scale) + np.int64(offset))
    if kind == BITS:
        return np.float64(raw_of(words, i, signals, s)) * scale + offset
    bits = take_bits(words, i, signals[s].first_bit, signals[s].length, signals[s].big_endian)
    if kind == WIDE_UNSIGNED:
        return np.float64(bits) * scale + offset
    if kind == FLOAT32:
        return np.float64(np.uint32(bits).view(np.float32)) * scale + offset
    return np.float64(np.uint64(bits).view(np.float64)) * scale + offset


@njit(
    types.int64(types.uint64[:, ::1], types.int64, types.int64, _signal, types.int64, _condition, _range),
    cache=True,
    nogil=True,
    inline="always",
)
def is_present(words: Any, i: Any, have: Any, signals: Any, s: Any, conditions: Any, ranges: Any) -> Any:
    """Return 1 if the conditions of signal `s` hold in frame `i` of `have` bytes, 0 if not selected, -1 if invalid."""
    first = signals[s].condition
    for c in range(first, first + signals[s].conditions):
        selector = np.int64(conditions[c].selector)
        holds = False
        if signals[selector].bytes_needed <= have:
            raw = raw_of(words, i, signals, selector)
            at = conditions[c].range
            for r in range(at, at + conditions[c].ranges):
                if ranges[r].low <= raw <= ranges[r].high:
                    holds = True
        if not holds:
            return -1 if conditions[c].counted else 0
    return 1


@njit(
    types.int64(
        types.int64[::1],
        types.uint8[::1],
        types.uint64[:, ::1],
        types.int32[:, ::1],
        _message,
        _signal,
        _condition,
        _range,
        _block,
        types.int64[::1],
    ),
    cache=True,
    nogil=True,
)
def decode(
    t: Any,
    lengths: Any,
    words: Any,
    found: Any,
    messages: Any,
    signals: Any,
    conditions: Any,
    ranges: Any,
    out: Any,
    counters: Any,
) -> Any:
    """Write the samples of the frames listed in `found` into `out`, in that order, and return how many there are.

    `words` are the data as little-endian 64-bit words; `out` has room for the samples that `match` announced and one
    more, because a sample is written before it is judged.
    """
    k = np.uint64(0)  # unsigned: spares the test for negative indices
    most = 8 * words.shape[1]
    for j in range(found.shape[0]):
        i, m = np.int64(found[j, 0]), np.uint32(found[j, 1])
        now = t[i]
        first = np.uint64(messages[m].first)
        count = np.uint64(messages[m].count)
        have = min(np.int64(lengths[i]), most)
        path = messages[m].path
        if path != ANY and messages[m].bytes_needed <= have:
            little = words[i, 0]
            big = swap_bytes(little)
            for s in range(first, first + count):
                signal = signals[s]
                word = big if signal.big_endian else little
                bits = (word >> signal.shift) & signal.mask
                value = np.float64(np.int64((bits ^ signal.sign) - signal.sign)) * signal.scale + signal.offset
                if path == IN_WORD:
                    if little & signal.select_mask != signal.select_bits:
                        continue
                    if little & signal.valid_mask != signal.valid_bits:
                        counters[INVALID] += 1
                        continue
                    part = np.int64(signal.plus)
                    while part >= 0:
                        other = signals[np.uint64(part)]
                        word = big if other.big_endian else little
                        more = (word >> other.shift) & other.mask
                        value += np.float64(np.int64((more ^ other.sign) - other.sign)) * other.scale + other.offset
                        part = np.int64(other.plus)
                sample = out[k]
                sample.t = now
                sample.channel = signal.channel
                sample.value = value
                if bits >= signal.na_from:
                    counters[NOT_AVAILABLE] += 1
                elif signal.low <= value <= signal.high:
                    k += np.uint64(1)
                else:
                    counters[OUT_OF_RANGE] += 1
            continue
        for s in range(first, first + count):
            if signals[s].bytes_needed > have:
                continue
            if signals[s].conditions:
                present = is_present(words, i, have, signals, s, conditions, ranges)
                if present <= 0:
                    counters[INVALID] -= present
                    continue
            if signals[s].has_na:
                bits = take_bits(words, i, signals[s].first_bit, signals[s].length, signals[s].big_endian)
                if bits >= signals[s].na_from:
                    counters[NOT_AVAILABLE] += 1
                    continue
            value = value_of(words, i, signals, s)
            complete = True
            part = np.int64(signals[s].plus)
            while part >= 0:
                complete = complete and signals[part].bytes_needed <= have
                if complete:
                    value += value_of(words, i, signals, part)
                part = np.int64(signals[part].plus)
            if not complete:
                continue
            if signals[s].low <= value <= signals[s].high:
                out[k].t = now
                out[k].channel = signals[s].channel
                out[k].value = value
                k += np.uint64(1)
            else:
                counters[OUT_OF_RANGE] += 1
    counters[DECODED] += found.shape[0]
    return np.int64(k)
