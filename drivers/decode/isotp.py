"""ISO 15765-2 (ISO-TP): the answers of diagnostic control units, put together again from CAN frames.

One kernel walks every frame of a recording or a bus, picks the ids on which control units answer a tester
(ISO 15765-4: 11-bit 0x7E8..0x7EF, 29-bit 0x18DAF1xx), and copies whole payloads to a heap. Its state outlives the
call, so any split of the frames into batches gives the same payloads. A reception ends without a payload on a wrong
sequence number, a frame shorter than the first one, a gap above N_Cr = 1 s, or a new first or single frame.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit, types

from agent.blocks import EXTENDED, Frames

N_CR_NS: Final = 1_000_000_000  # ISO 15765-4 table: longest wait for the next consecutive frame
MAX_PAYLOAD: Final = 4095  # the classic 12-bit length; a longer CAN FD transfer is not an emission answer
SLOTS: Final = 32  # receptions at one time: 8 control units on 4 buses
MAX_MESSAGES: Final = 16384  # payloads handed out per call of the kernel
HEAP: Final = 8 * MAX_MESSAGES + 2 * MAX_PAYLOAD

EXTENDED_KEY: Final = 1 << 31  # in a message's `unit`: the id is a 29-bit one

COUNTERS: Final = ("single", "multi", "sequence_errors", "stray", "timeouts", "interrupted", "malformed", "oversized")
SINGLE, MULTI, SEQUENCE_ERRORS, STRAY, TIMEOUTS, INTERRUPTED, MALFORMED, OVERSIZED = range(len(COUNTERS))

# columns of the state of one reception
UNIT, TIME, WANTED, HAVE, NEXT, WIDTH = range(6)


class Messages(NamedTuple):
    """Whole payloads, in the order in which their last frames came.

    t int64[n] ns of the last frame · unit int64[n]: CAN id | EXTENDED_KEY | bus << 32 · start, length int32[n] into
    `heap` uint8[...]. The arrays are views that the next step overwrites.
    """

    t: npt.NDArray[np.int64]
    unit: npt.NDArray[np.int64]
    start: npt.NDArray[np.int32]
    length: npt.NDArray[np.int32]
    heap: npt.NDArray[np.uint8]


def _read_only(kind: types.Type, dimensions: int = 1) -> types.Array:
    return types.Array(kind, dimensions, "C", readonly=True)


@njit(
    types.int64(
        _read_only(types.int64),
        _read_only(types.uint8),
        _read_only(types.uint32),
        _read_only(types.uint8),
        _read_only(types.uint8),
        _read_only(types.uint8, 2),
        types.int64,
        types.int64[:, ::1],
        types.uint8[:, ::1],
        types.int64[::1],
        types.int64[::1],
        types.int64[::1],
        types.int32[::1],
        types.int32[::1],
        types.uint8[::1],
        types.int64[::1],
    ),
    cache=True,
    nogil=True,
)
def reassemble(
    t: npt.NDArray[np.int64],
    bus: npt.NDArray[np.uint8],
    can_id: npt.NDArray[np.uint32],
    flags: npt.NDArray[np.uint8],
    length: npt.NDArray[np.uint8],
    data: npt.NDArray[np.uint8],
    begin: int,
    slots: npt.NDArray[np.int64],
    partial: npt.NDArray[np.uint8],
    counters: npt.NDArray[np.int64],
    out_t: npt.NDArray[np.int64],
    out_unit: npt.NDArray[np.int64],
    out_start: npt.NDArray[np.int32],
    out_length: npt.NDArray[np.int32],
    heap: npt.NDArray[np.uint8],
    made: npt.NDArray[np.int64],
) -> int:
    """Walk frames from `begin` until they or the room for payloads end; return the next frame, `made[0]` payloads."""
    n = len(t)
    width = data.shape[1]
    n_out = 0
    used = 0
    i = begin
    while i < n:
        ident = np.int64(can_id[i])
        if (ident & ~np.int64(7)) != 0x7E8 and (ident & ~np.int64(0xFF)) != 0x18DAF100:
            i += 1
            continue
        # bits of agent.blocks: 1 extended, 2 remote, 4 error
        if (flags[i] & 6) != 0 or ((flags[i] & 1) != 0) != (ident > 0x7FF):
            i += 1
            continue
        if n_out == len(out_t) or used + MAX_PAYLOAD > len(heap):
            break
        size = min(np.int64(length[i]), width)
        now = t[i]
        unit = ident | (np.int64(bus[i]) << 32)
        if ident > 0x7FF:
            unit |= EXTENDED_KEY
        row = i
        i += 1
        if size < 1:
            counters[MALFORMED] += 1
            continue
        kind = data[row, 0] >> 4
        if kind == 3:  # flow control: an answer to a long request, carries nothing
            continue
        if kind > 3:
            counters[MALFORMED] += 1
            continue

        slot = -1
        for s in range(slots.shape[0]):
            if slots[s, WANTED] != 0 and slots[s, UNIT] == unit:
                slot = s
                break
        late = slot >= 0 and (now < slots[slot, TIME] or now - slots[slot, TIME] > N_CR_NS)

        if kind == 2:
            if slot < 0:
                counters[STRAY] += 1
                continue
            if late:
                counters[TIMEOUTS] += 1
                slots[slot, WANTED] = 0
                continue
            if (data[row, 0] & 15) != slots[slot, NEXT]:
                counters[SEQUENCE_ERRORS] += 1
                slots[slot, WANTED] = 0
                continue
            have = int(slots[slot, HAVE])
            part = min(int(slots[slot, WANTED]) - have, int(slots[slot, WIDTH]) - 1)
            if size - 1 < part:
                counters[MALFORMED] += 1
                slots[slot, WANTED] = 0
                continue
            for k in range(part):
                partial[slot, have + k] = data[row, 1 + k]
            have += part
            if have < slots[slot, WANTED]:
                slots[slot, HAVE] = have
                slots[slot, NEXT] = (slots[slot, NEXT] + 1) & 15
                slots[slot, TIME] = now
                continue
            for k in range(have):
                heap[used + k] = partial[slot, k]
            out_t[n_out] = now
            out_unit[n_out] = unit
            out_start[n_out] = used
            out_length[n_out] = have
            used += have
            n_out += 1
            slots[slot, WANTED] = 0
            counters[MULTI] += 1
            continue

        if slot >= 0:  # a new message before the old one was whole: ISO 15765-2 gives the old one up
            counters[TIMEOUTS if late else INTERRUPTED] += 1
            slots[slot, WANTED] = 0

        if kind == 0:
            wanted = np.int64(data[row, 0] & 15)
            first = 1
            if wanted == 0 and size > 8:  # CAN FD escape: the length stands in the second byte
                wanted = np.int64(data[row, 1])
                first = 2
            if wanted == 0 or first + wanted > size or (first == 1 and wanted > 7):
                counters[MALFORMED] += 1
                continue
            for k in range(wanted):
                heap[used + k] = data[row, first + k]
            out_t[n_out] = now
            out_unit[n_out] = unit
            out_start[n_out] = used
            out_length[n_out] = wanted
            used += int(wanted)
            n_out += 1
            counters[SINGLE] += 1
            continue

        if size < 8:
            counters[MALFORMED] += 1
            continue
        wanted = (np.int64(data[row, 0] & 15) << 8) | np.int64(data[row, 1])
        first = 2
        if wanted == 0:  # escape: 32-bit length
            first = 6
            for k in range(2, 6):
                wanted = (wanted << 8) | np.int64(data[row, k])
        if wanted <= size - first:
            counters[MALFORMED] += 1  # would have fitted into this frame
            continue
        if wanted > MAX_PAYLOAD:
            counters[OVERSIZED] += 1
            continue
        slot = 0  # a free slot, else the one that has waited longest
        for s in range(slots.shape[0]):
            if slots[s, WANTED] == 0:
                slot = s
                break
            if slots[s, TIME] < slots[slot, TIME]:
                slot = s
        if slots[slot, WANTED] != 0:
            counters[INTERRUPTED] += 1
        have = size - first
        for k in range(have):
            partial[slot, k] = data[row, first + k]
        slots[slot, UNIT] = unit
        slots[slot, TIME] = now
        slots[slot, WANTED] = wanted
        slots[slot, HAVE] = have
        slots[slot, NEXT] = 1
        slots[slot, WIDTH] = size
    made[0] = n_out
    return i


class Reassembler:
    """Keep the receptions under way between batches of frames, one per control unit and bus."""

    def __init__(self) -> None:
        self._slots = np.zeros((SLOTS, 6), np.int64)
        self._partial = np.zeros((SLOTS, MAX_PAYLOAD), np.uint8)
        self._counters = np.zeros(len(COUNTERS), np.int64)
        self._t = np.empty(MAX_MESSAGES, np.int64)
        self._unit = np.empty(MAX_MESSAGES, np.int64)
        self._start = np.empty(MAX_MESSAGES, np.int32)
        self._length = np.empty(MAX_MESSAGES, np.int32)
        self._heap = np.empty(HEAP, np.uint8)
        self._made = np.zeros(1, np.int64)

    @property
    def counters(self) -> dict[str, int]:
        """Count payloads by kind and receptions by what spoilt them, since the start."""
        return {name: int(n) for name, n in zip(COUNTERS, self._counters, strict=True)}

    def walk(self, frames: Frames) -> Iterator[Messages]:
        """Yield the payloads that these frames complete, in batches; use each before asking for the next."""
        t, bus = np.ascontiguousarray(frames.t), np.ascontiguousarray(frames.bus)
        can_id, flags = np.ascontiguousarray(frames.id), np.ascontiguousarray(frames.flags)
        length, data = np.ascontiguousarray(frames.len), np.ascontiguousarray(frames.data)
        begin = 0
        while begin < len(frames.t):
            begin = reassemble(
                t,
                bus,
                can_id,
                flags,
                length,
                data,
                begin,
                self._slots,
                self._partial,
                self._counters,
                self._t,
                self._unit,
                self._start,
                self._length,
                self._heap,
                self._made,
            )
            n = int(self._made[0])
            if n:
                yield Messages(self._t[:n], self._unit[:n], self._start[:n], self._length[:n], self._heap)


def unit_name(unit: int) -> str:
    """Write a message's unit as people write CAN ids: '7E8' or '18DAF110'."""
    can_id = unit & 0x1FFFFFFF
    return f"{can_id:08X}" if unit & EXTENDED_KEY else f"{can_id:03X}"


def frames_of_text(text: str) -> Frames:
    """Read the lines of an adapter that shows headers ('7E8 03 41 0D 32', '18DAF11003410D32') as frames of one time.

    An odd number of hex digits has an 11-bit header, an even one a 29-bit header. Other lines (prompts, SEARCHING…,
    OK) are skipped.
    """
    rows: list[tuple[int, int, bytes]] = []
    for line in text.replace("\r", "\n").replace(">", "\n").split("\n"):
        digits = "".join(line.split())
        if not digits.isascii() or any(c not in "0123456789ABCDEFabcdef" for c in digits):
            continue
        header = 3 if len(digits) % 2 else 8
        payload = digits[header:]
        if 2 <= len(payload) <= 128:
            flags = EXTENDED if header == 8 else 0
            rows.append((int(digits[:header], 16), flags, bytes.fromhex(payload)))
    n = len(rows)
    data = np.zeros((n, 64), np.uint8)
    for i, (_, _, payload_bytes) in enumerate(rows):
        data[i, : len(payload_bytes)] = np.frombuffer(payload_bytes, np.uint8)
    return Frames(
        np.zeros(n, np.int64),
        np.zeros(n, np.uint8),
        np.array([r[0] for r in rows], np.uint32),
        np.array([r[1] for r in rows], np.uint8),
        np.array([len(r[2]) for r in rows], np.uint8),
        data,
    )


def payloads_of_text(text: str) -> list[tuple[str, bytes]]:
    """Put together the answers in an adapter's text: (control unit such as '7E8', payload) in order."""
    return [
        (unit_name(int(unit)), m.heap[start : start + length].tobytes())
        for m in Reassembler().walk(frames_of_text(text))
        for unit, start, length in zip(m.unit, m.start, m.length, strict=True)
    ]
