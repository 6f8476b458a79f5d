"""The text of an slcan adapter, parsed as it comes: bytes in, arrays of frames out (Lawicel CAN232 manual).

    tiiildd…  Tiiiiiiiildd…   data frame, 11 and 29-bit identifier    r R  remote frame
    diiildd…  Diiiiiiiildd…   CAN FD frame, one-digit length code     b B  the same with bit-rate switch
    z Z, nothing              a command or frame was taken            BEL  it was refused
    F.. V.... N....           status flags, version, serial number

Lines end in CR. A frame may carry 4 more digits, the adapter's milliseconds modulo 60,000 (command Z1).
"""

from typing import Any, Final

import numpy as np
from numba import njit, types

from agent.blocks import BIT_RATE_SWITCH, EXTENDED, FD, REMOTE

LONGEST: Final = 160  # a line of 64 FD bytes with its stamp has 142
NO_TICK: Final = -1

# slots of `state`
LENGTH, TAKEN, REFUSED, GARBAGE, STATUS, STATUSES, OVERLONG, FRAMES = range(8)

_CR, _BEL, _LF = 13, 7, 10
_HEX: Final = np.full(256, 255, np.int64)
_HEX[ord("0") : ord("9") + 1] = np.arange(10)
_HEX[ord("A") : ord("F") + 1] = np.arange(10, 16)
_HEX[ord("a") : ord("f") + 1] = np.arange(10, 16)
_LENGTHS: Final = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64], np.int64)
_REPLIES: Final = np.zeros(256, np.bool_)
_REPLIES[[ord("z"), ord("Z")]] = True
_TEXTS: Final = np.zeros(256, np.bool_)  # answers to questions that are not ours to read
_TEXTS[[ord("V"), ord("v"), ord("N"), ord("S")]] = True
_KIND: Final = np.full(256, -1, np.int64)  # flags of a frame by its first letter
_KIND[ord("t")] = 0
_KIND[ord("T")] = EXTENDED
_KIND[ord("r")] = REMOTE
_KIND[ord("R")] = REMOTE | EXTENDED
_KIND[ord("d")] = FD
_KIND[ord("D")] = FD | EXTENDED
_KIND[ord("b")] = FD | BIT_RATE_SWITCH
_KIND[ord("B")] = FD | BIT_RATE_SWITCH | EXTENDED
_STATUS: Final = ord("F")
_TICKS: Final = 60_000


@njit(
    types.int64(
        types.Array(types.uint8, 1, "C"),
        types.int64,
        types.int64,
        types.uint8[::1],
        types.int64[::1],
        types.int64[::1],
        types.int64[::1],
        types.uint32[::1],
        types.uint8[::1],
        types.uint8[::1],
        types.uint8[:, ::1],
    ),
    cache=True,
    nogil=True,
)
def parse(
    text: Any,
    start: Any,
    stop: Any,
    line: Any,
    state: Any,
    ends: Any,
    ticks: Any,
    ident: Any,
    flags: Any,
    length: Any,
    data: Any,
) -> Any:
    """Parse text[start:stop] until it or the outputs end; return where to go on. state[FRAMES] says how many frames.

    line uint8[LONGEST] keeps a line that is not whole yet, state[LENGTH] how much of it. ends int64[n] the index
    behind each frame's CR · ticks int64[n] the adapter's ms or NO_TICK · data uint8[n, 64], zero beyond the length.
    """
    n = np.int64(0)
    have = state[LENGTH]
    p = np.int64(start)
    width = data.shape[1]
    while p < stop and n < len(ends):
        c = text[p]
        p += 1
        if c not in (_CR, _BEL):
            if c == _LF and have == 0:
                continue
            if have < LONGEST:
                line[have] = c
                have += 1
            else:
                state[OVERLONG] = 1
            continue
        size = have
        have = np.int64(0)
        if state[OVERLONG]:
            state[OVERLONG] = 0
            state[GARBAGE] += 1
            continue
        if c == _BEL:
            state[REFUSED] += 1
            if size:
                state[GARBAGE] += 1
            continue
        if size == 0:
            state[TAKEN] += 1
            continue
        first = line[0]
        kind = _KIND[first]
        if kind < 0:
            if size == 1 and _REPLIES[first]:
                state[TAKEN] += 1
            elif first == _STATUS and size == 3 and _HEX[line[1]] < 16 and _HEX[line[2]] < 16:
                state[STATUS] |= _HEX[line[1]] * 16 + _HEX[line[2]]
                state[STATUSES] += 1
            elif not (_TEXTS[first] and size <= 32):
                state[GARBAGE] += 1
            continue
        digits = 8 if kind & EXTENDED else 3
        good = size >= digits + 2
        number = np.int64(0)
        bytes_here = np.int64(0)
        if good:
            for k in range(digits):
                digit = _HEX[line[1 + k]]
                good = good and digit < 16
                number = number * 16 + digit
            code = _HEX[line[1 + digits]]
            good = good and code < (16 if kind & FD else 9) and number <= (0x1FFFFFFF if kind & EXTENDED else 0x7FF)
            if good:
                bytes_here = _LENGTHS[code]
        body = 2 + digits
        text_end = body + (np.int64(0) if kind & REMOTE else 2 * bytes_here)
        tick = np.int64(NO_TICK)
        if good and size == text_end + 4:
            tick = np.int64(0)
            for k in range(text_end, size):
                digit = _HEX[line[k]]
                good = good and digit < 16
                tick = tick * 16 + digit
            good = good and tick < _TICKS
        elif size != text_end:
            good = False
        if good and not kind & REMOTE:
            for k in range(bytes_here):
                high, low = _HEX[line[body + 2 * k]], _HEX[line[body + 2 * k + 1]]
                good = good and high < 16 and low < 16
                data[n, k] = (high * 16 + low) & 255
        if not good:
            state[GARBAGE] += 1
            for k in range(width):
                data[n, k] = 0
            continue
        if kind & REMOTE:
            bytes_here = np.int64(0)
        for k in range(bytes_here, width):
            data[n, k] = 0
        ends[n] = p
        ticks[n] = tick
        ident[n] = number
        flags[n] = kind
        length[n] = bytes_here
        n += 1
    state[LENGTH] = have
    state[FRAMES] = n
    return p


# slots of the clock's `state`
LAST, OFFSET, TICK, BEGUN, WRAPS = range(5)
_MS: Final = 1_000_000
_LATE_NS: Final = 1_000_000_000  # no serial line holds a frame back so long: the adapter's clock began anew
DRIFT_NS: Final = 100_000  # per second: 100 ppm, twice what a cheap crystal drifts


@njit(
    types.void(types.int64[::1], types.int64[::1], types.int64, types.int64, types.int64, types.int64[::1]),
    cache=True,
    nogil=True,
)
def stamp(ends: Any, ticks: Any, size: Any, since_ns: Any, now_ns: Any, state: Any) -> None:
    """Turn `ends` into monotonic times in place: a batch of `size` bytes that came between `since_ns` and `now_ns`.

    Without ticks the bytes are taken to have come evenly. With ticks the adapter's clock gives the distances and the
    least delay seen gives its offset, let go by DRIFT_NS a second so that it follows a crystal that drifts.
    """
    for i in range(len(ends)):
        if ticks[i] < 0:
            continue
        if state[BEGUN] and state[TICK] - ticks[i] > _TICKS // 2:
            state[WRAPS] += 1
        state[TICK] = ticks[i]
        ticks[i] = (state[WRAPS] * _TICKS + ticks[i]) * _MS
        offset = now_ns - ticks[i]
        if not state[BEGUN] or offset < state[OFFSET] or offset - state[OFFSET] > _LATE_NS:
            state[OFFSET] = offset
            state[BEGUN] = 1
    for i in range(len(ends)):
        t = since_ns + (now_ns - since_ns) * ends[i] // size
        if ticks[i] >= 0:
            t = min(ticks[i] + state[OFFSET], now_ns)
        t = max(t, state[LAST])
        ends[i] = t
        state[LAST] = t
    if state[BEGUN] and now_ns > since_ns:
        state[OFFSET] += (now_ns - since_ns) * DRIFT_NS // 1_000_000_000
