"""The one-pass parser of candump text: bytes in, arrays of frames out.

Both forms of can-utils are understood, line by line (source: can-utils lib.h, comments of parse_canframe and
sprint_long_canframe; candump.c for the times):

    (1627274455.012500) can0 7E8#03412F8C [R|T]     log form: id#data, id##<flags>data, id#R[dlc]
     (000.001234)  can0  RX - -  7E8   [8]  03 41   console form, with or without direction

The text must be followed by GUARD newlines, so that no loop needs a bound; a line is whole when its newline lies
before `stop`. A line is at most LONGEST bytes long, else it is a bad line.
"""

from typing import Final

import numba as nb
import numpy as np
import numpy.typing as npt

from agent.blocks import BIT_RATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, REMOTE
from drivers.recording.base import MOST_BUSES

GUARD: Final = 16  # the parser looks at most this far beyond a byte that is not a newline
LONGEST: Final = 4096  # the longest valid line, 64 bytes with spaces and text, is below 400
NAME: Final = 32  # bytes of a bus name kept in the table; Linux allows 15

# Slots of `state`.
N_BUSES, LINES, BAD, FIRST_BAD, ERRORS, REMOTES, NULS, DELTA, LAST_T, SKIPPING, WIDE, FRAMES = range(12)
STATE: Final = 12

_HEX: Final = np.full(256, 255, np.int64)
_HEX[ord("0") : ord("9") + 1] = np.arange(10)
_HEX[ord("A") : ord("F") + 1] = np.arange(10, 16)
_HEX[ord("a") : ord("f") + 1] = np.arange(10, 16)

_TEN_TO: Final = 10 ** np.arange(10, dtype=np.int64)

_LF, _CR, _TAB, _SPACE, _NUL = 10, 13, 9, 32, 0
_ZERO, _NINE, _OPEN, _CLOSE, _DOT, _HASH, _UNDERSCORE = 48, 57, 40, 41, 46, 35, 95
_R, _T, _X, _B, _E, _LEFT, _RIGHT, _QUOTE, _MINUS = 82, 84, 88, 66, 69, 91, 93, 39, 45
_LOWER: Final = 32
_MOST_SECONDS: Final = 9_000_000_000  # keeps ns within int64

_SIGNATURE = (
    "int64(uint8[::1], int64, int64, boolean, int64[::1], uint8[:, ::1], uint8[::1], "
    "int64[::1], uint8[::1], uint32[::1], uint8[::1], uint8[::1], uint8[:, ::1])"
)


@nb.njit(_SIGNATURE, cache=True, nogil=True)
def parse(
    text: npt.NDArray[np.uint8],
    start: int,
    stop: int,
    last: bool,
    state: npt.NDArray[np.int64],
    names: npt.NDArray[np.uint8],
    name_lengths: npt.NDArray[np.uint8],
    t: npt.NDArray[np.int64],
    bus: npt.NDArray[np.uint8],
    id: npt.NDArray[np.uint32],
    flags: npt.NDArray[np.uint8],
    length: npt.NDArray[np.uint8],
    data: npt.NDArray[np.uint8],
) -> int:
    """Parse whole lines of text[start:stop] until the outputs are full; return where to go on.

    `last` says that no text follows, so that the last line needs no newline. state int64[STATE]; names
    uint8[MOST_BUSES, NAME] and name_lengths uint8[MOST_BUSES] are the table of bus names. Outputs: t int64[n] raw ns
    of the stamp (sum of the stamps when state[DELTA]), the others as in agent.blocks.Frames; state[FRAMES] says how
    many. state[WIDE] is set when the next line needs data 64 bytes wide.
    """
    n = 0
    p = start
    width = data.shape[1]
    capacity = len(t)
    state[WIDE] = 0
    while n < capacity:
        if state[SKIPPING] == 0:
            while p < stop and text[p] == _NUL:  # what a power cut leaves at the end of what was written
                state[NULS] += 1
                p += 1
        if p >= stop:
            break
        begin = p
        ok = False
        blank = False
        if state[SKIPPING] == 0:
            while text[p] == _SPACE or text[p] == _TAB or text[p] == _CR:
                p += 1
            blank = text[p] == _LF and p - begin <= LONGEST
            while True:  # a frame of straight-line code that `break` leaves when the line is bad
                # time
                if text[p] != _OPEN:
                    break
                p += 1
                seconds = 0
                digits = 0
                while _ZERO <= text[p] <= _NINE and digits < 11:
                    seconds = seconds * 10 + (text[p] - _ZERO)
                    p += 1
                    digits += 1
                if digits == 0 or seconds > _MOST_SECONDS:
                    break
                nanos = 0
                if text[p] == _DOT:
                    p += 1
                    digits = 0
                    while _ZERO <= text[p] <= _NINE and digits < 9:
                        nanos = nanos * 10 + (text[p] - _ZERO)
                        p += 1
                        digits += 1
                    nanos *= _TEN_TO[9 - digits]
                    while _ZERO <= text[p] <= _NINE:  # finer than a nanosecond
                        p += 1
                if text[p] != _CLOSE:
                    break
                p += 1
                if text[p] != _SPACE and text[p] != _TAB:
                    break
                while text[p] == _SPACE or text[p] == _TAB:
                    p += 1
                # bus
                name_at = p
                while text[p] > _SPACE:
                    p += 1
                name_length = p - name_at
                if name_length == 0 or name_length > NAME or (text[p] != _SPACE and text[p] != _TAB):
                    break
                while text[p] == _SPACE or text[p] == _TAB:
                    p += 1
                # direction and FD flags of candump -x
                flag = 0
                if (text[p] == _R or text[p] == _T) and text[p + 1] == _X and text[p + 2] == _SPACE:
                    p += 2
                    while (
                        text[p] == _SPACE
                        or text[p] == _MINUS
                        or ((text[p] == _B or text[p] == _E) and text[p + 1] == _SPACE)
                    ):
                        if text[p] == _B:
                            flag |= BIT_RATE_SWITCH
                        elif text[p] == _E:
                            flag |= ERROR_STATE
                        p += 1
                # identifier
                ident = 0
                digits = 0
                while _HEX[text[p]] < 16 and digits < 9:
                    ident = ident * 16 + _HEX[text[p]]
                    p += 1
                    digits += 1
                if digits == 0 or digits > 8:
                    break
                if digits > 3:
                    flag |= EXTENDED
                elif ident > 0x7FF:
                    break
                if ident & 0x20000000:
                    flag = (flag | ERROR) & ~EXTENDED
                ident &= 0x1FFFFFFF
                # data
                count = 0
                most = 8
                bad = False
                if text[p] == _HASH:
                    p += 1
                    if text[p] == _HASH:
                        p += 1
                        bits = _HEX[text[p]]
                        if bits > 15:
                            break
                        p += 1
                        most = 64
                        flag |= FD
                        if bits & 1:
                            flag |= BIT_RATE_SWITCH
                        if bits & 2:
                            flag |= ERROR_STATE
                    if most == 8 and (text[p] == _R or text[p] == _R + _LOWER):
                        flag |= REMOTE
                        p += 1
                        if _HEX[text[p]] < 16:
                            p += 1
                    else:
                        while count < width:  # bytes as they come nearly always
                            high = _HEX[text[p]]
                            low = _HEX[text[p + 1]]
                            if high + low > 30 or count >= most:
                                break
                            data[n, count] = high * 16 + low
                            count += 1
                            p += 2
                        while True:  # the end, a dot between bytes, or too many of them
                            high = _HEX[text[p]]
                            if high > 15:
                                if text[p] == _DOT and count > 0:
                                    p += 1
                                    high = _HEX[text[p]]
                                    if high > 15:
                                        bad = True
                                        break
                                else:
                                    break
                            low = _HEX[text[p + 1]]
                            if low > 15 or count >= most:
                                bad = True
                                break
                            if count >= width:
                                state[WIDE] = 1
                                break
                            data[n, count] = high * 16 + low
                            count += 1
                            p += 2
                    if text[p] == _UNDERSCORE and _HEX[text[p + 1]] < 16:  # raw DLC 9..F of a classic frame
                        p += 2
                    while text[p] == _SPACE or text[p] == _TAB:
                        p += 1
                    if text[p] == _R or text[p] == _T:
                        p += 1
                        while text[p] == _SPACE or text[p] == _TAB:
                            p += 1
                else:
                    if text[p] != _SPACE:
                        break
                    while text[p] == _SPACE:
                        p += 1
                    if text[p] != _LEFT:
                        break
                    p += 1
                    want = 0
                    digits = 0
                    while _ZERO <= text[p] <= _NINE and digits < 3:
                        want = want * 10 + (text[p] - _ZERO)
                        p += 1
                        digits += 1
                    if digits == 2:  # candump writes the length of FD frames with two digits
                        flag |= FD
                        most = 64
                    if digits == 0 or want > most or text[p] != _RIGHT:
                        break
                    p += 1
                    while text[p] == _SPACE:
                        p += 1
                    if text[p] == _R + _LOWER:  # "remote request"
                        flag |= REMOTE
                        while text[p] >= _SPACE:
                            p += 1
                    else:
                        if want > width:
                            state[WIDE] = 1
                        while count < want and state[WIDE] == 0:
                            high = _HEX[text[p]]
                            if high > 15:
                                bad = True
                                break
                            low = _HEX[text[p + 1]]
                            if low > 15:
                                bad = True
                                break
                            data[n, count] = high * 16 + low
                            count += 1
                            p += 2
                            while text[p] == _SPACE:
                                p += 1
                        if text[p] == _QUOTE or (text[p] == _E and flag & ERROR):  # text of -a, or ERRORFRAME
                            while text[p] >= _SPACE:
                                p += 1
                if state[WIDE] or bad:
                    break
                while text[p] == _CR or text[p] == _SPACE or text[p] == _TAB:
                    p += 1
                if text[p] != _LF or p - begin > LONGEST:
                    break
                if p >= stop and not last:
                    break
                # the bus name enters the table only with a whole valid line
                number = -1
                for k in range(state[N_BUSES]):
                    if name_lengths[k] == name_length:
                        same = True
                        for j in range(name_length):
                            if names[k, j] != text[name_at + j]:
                                same = False
                                break
                        if same:
                            number = k
                            break
                if number < 0:
                    if state[N_BUSES] >= MOST_BUSES:
                        break
                    number = state[N_BUSES]
                    state[N_BUSES] += 1
                    name_lengths[number] = name_length
                    for j in range(name_length):
                        names[number, j] = text[name_at + j]
                ok = True
                stamp = seconds * 1_000_000_000 + nanos
                if state[DELTA]:
                    stamp = min(state[LAST_T] + stamp, _MOST_SECONDS * 1_000_000_000)
                    state[LAST_T] = stamp
                t[n] = stamp
                bus[n] = number
                id[n] = ident
                flags[n] = flag
                length[n] = count
                break
            if state[WIDE]:
                for j in range(width):
                    data[n, j] = 0
                p = begin
                break
        while text[p] != _LF:
            p += 1
        if p >= stop and not last:  # the rest of the line has not been read yet
            for j in range(width):
                data[n, j] = 0
            if state[SKIPPING] == 0 and stop - begin > LONGEST:
                # no valid line is this long: count it once and drop the rest of it as it comes
                state[SKIPPING] = 1
                state[LINES] += 1
                state[BAD] += 1
                if state[FIRST_BAD] == 0:
                    state[FIRST_BAD] = state[LINES]
            p = stop if state[SKIPPING] else begin
            break
        if state[SKIPPING]:
            state[SKIPPING] = 0
        else:
            state[LINES] += 1
            if ok:
                if flags[n] & ERROR:
                    state[ERRORS] += 1
                elif flags[n] & REMOTE:
                    state[REMOTES] += 1
                n += 1
            else:
                for j in range(width):
                    data[n, j] = 0
                if not blank:
                    state[BAD] += 1
                    if state[FIRST_BAD] == 0:
                        state[FIRST_BAD] = state[LINES]
        p = min(p + 1, stop)
    state[FRAMES] = n
    return p
