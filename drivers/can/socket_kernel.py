"""What recvmmsg left in memory becomes arrays of frames.

Layouts are those of 64-bit little-endian Linux: struct mmsghdr (64 bytes, recvmmsg(2)), struct cmsghdr (cmsg(3)),
struct can_frame and canfd_frame (linux/can.h), classes of error frames (linux/can/error.h).
"""

from typing import Any, Final

import numpy as np
from numba import njit, types

from agent.blocks import BIT_RATE_SWITCH, ERROR_STATE, EXTENDED, FD, REMOTE
from drivers.can.stamps import NO_STAMP

CLASSIC: Final = 16  # sizeof(struct can_frame)
LONG: Final = 72  # sizeof(struct canfd_frame)

# words of a struct mmsghdr
IOV, IOVLEN, CONTROL, CONTROLLEN, MSG_FLAGS, MSG_LEN = 2, 3, 4, 5, 6, 7
CONTROL_WORDS: Final = 8  # 64 bytes: a timespec (32 with its header) and a drop count (24)

_SOL_SOCKET: Final = 1
_TIMESTAMPNS: Final = _SOL_SOCKET | 35 << 32  # level | type of the cmsg (asm-generic/socket.h)
_DROPS: Final = _SOL_SOCKET | 40 << 32

_EFF, _RTR, _ERR = 0x80000000, 0x40000000, 0x20000000
_BRS, _ESI = 1, 2
_TRUNCATED: Final = 0x20  # MSG_TRUNC

# slots of `state`
DROPS, GARBAGE, BUS_OFF, RESTARTED = range(4)
# error counters: the ten classes of CAN_ERR_*, then what CAN_ERR_CRTL says in data[1]
ERROR_NAMES: Final = (
    "tx_timeout", "lost_arbitration", "controller", "protocol", "transceiver", "no_acknowledge", "bus_off",
    "bus_error", "restarted", "error_counters", "fifo_overflow", "tx_overflow", "rx_warning", "tx_warning",
    "rx_passive", "tx_passive", "error_active",
)  # fmt: skip
_CLASSES: Final = 10
_CONTROLLER: Final = 2


@njit(
    types.int64(
        types.uint64[:, ::1],
        types.uint8[:, ::1],
        types.uint32[:, ::1],
        types.uint64[:, ::1],
        types.int64,
        types.int64,
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
def unpack(
    headers: Any,
    buffers: Any,
    words: Any,
    controls: Any,
    count: Any,
    at: Any,
    state: Any,
    errors: Any,
    t: Any,
    ident: Any,
    flags: Any,
    length: Any,
    data: Any,
) -> Any:
    """Write `count` received messages behind the `at` frames that the outputs hold; return how many they hold then.

    headers uint64[c, 8] · buffers uint8[c, 72] and the same memory as words uint32[c, 18] · controls uint64[c, 8] ·
    state, errors counters · t int64 wall ns or NO_STAMP. Error frames are counted, not given out.
    """
    width = data.shape[1]
    n = at
    for i in range(count):
        size = headers[i, MSG_LEN] & 0xFFFFFFFF
        stamp = np.int64(NO_STAMP)
        used = np.int64(headers[i, CONTROLLEN]) >> 3
        headers[i, CONTROLLEN] = CONTROL_WORDS * 8
        end = used + 1 if used < CONTROL_WORDS else CONTROL_WORDS  # a drop count's cmsg is 20 bytes long
        w = np.int64(0)
        while w + 3 <= end:
            kind = np.int64(controls[i, w + 1])
            if kind == _TIMESTAMPNS and w + 4 <= CONTROL_WORDS:
                stamp = np.int64(controls[i, w + 2]) * 1_000_000_000 + np.int64(controls[i, w + 3])
            elif kind == _DROPS:
                state[DROPS] += (np.int64(controls[i, w + 2]) - state[DROPS]) & 0xFFFFFFFF
            step = (np.int64(controls[i, w]) + 7) >> 3
            if step < 2:
                break
            w += step
        if size not in (CLASSIC, LONG) or headers[i, MSG_FLAGS] & _TRUNCATED:
            state[GARBAGE] += 1
            continue
        raw = np.int64(words[i, 0])
        have = np.int64(buffers[i, 4])
        if have > size - 8 or have > width:
            state[GARBAGE] += 1
            continue
        if raw & _ERR:
            for k in range(_CLASSES):
                errors[k] += (raw >> k) & 1
            if (raw >> _CONTROLLER) & 1:
                for k in range(len(errors) - _CLASSES):
                    errors[_CLASSES + k] += (np.int64(buffers[i, 9]) >> k) & 1
            state[BUS_OFF] += (raw >> 6) & 1
            state[RESTARTED] += (raw >> 8) & 1
            continue
        flag = np.int64(0)
        if raw & _EFF:
            flag |= EXTENDED
            raw &= 0x1FFFFFFF
        else:
            raw &= 0x7FF
        if words[i, 0] & _RTR and size == CLASSIC:
            flag |= REMOTE
            have = np.int64(0)
        if size == LONG:
            flag |= FD
            if buffers[i, 5] & _BRS:
                flag |= BIT_RATE_SWITCH
            if buffers[i, 5] & _ESI:
                flag |= ERROR_STATE
        t[n] = stamp
        ident[n] = raw
        flags[n] = flag
        length[n] = have
        for k in range(width):
            data[n, k] = buffers[i, 8 + k] if k < have else 0
        n += 1
    return n
