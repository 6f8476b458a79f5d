"""OBD-II on CAN: diagnostic answers on the bus become samples, the vehicle's identity and its trouble codes.

The first kernel (isotp) walks the frames and puts answers together; the one here walks service 01 answers by the
PID table. Answers of other services are rare and are read in Python.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import from_dtype, njit, types

from agent.blocks import BLOCK, Block, Frames, empty_block
from agent.channels import BY_NAME
from agent.vin import vin_valid
from drivers.decode import j1979_info
from drivers.decode.isotp import MAX_MESSAGES, MAX_PAYLOAD, Messages, Reassembler, payloads_of_text, unit_name
from drivers.decode.j1979 import FIRST_REVISED, PIDS, TO_CHANNEL, parameters, values

CURRENT_DATA: Final = 0x41

COUNTERS: Final = ("answers", "unknown_pids", "malformed", "negative", "uds", "other_services", "not_available")
ANSWERS, UNKNOWN_PIDS, BAD, NEGATIVE, UDS, OTHER, NOT_AVAILABLE = range(len(COUNTERS))

FIELD: Final = np.dtype(
    [
        ("start", "<i4"),
        ("bits", "<i4"),
        ("signed", "<i4"),
        ("gate", "<i4"),
        ("gate_value", "<i4"),
        ("absent", "<i8"),
        ("num", "<f8"),
        ("den", "<f8"),
        ("offset", "<f8"),
        ("to_num", "<f8"),
        ("to_den", "<f8"),
        ("channel", "<u2"),
    ]
)
# columns of the table of PIDs; a length of 0 is an unknown PID
LENGTH, LONG, FIRST, END = range(4)
# columns of the cursor that a call leaves
MESSAGE, SAMPLES, REST = range(3)

_SAMPLES: Final = MAX_MESSAGES + MAX_PAYLOAD


def _tables() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.void]]:
    """Turn the PIDs and those of their fields that have a channel into two arrays."""
    pids = np.zeros((256, 4), np.int32)
    fields: list[tuple[float, ...]] = []
    for pid in PIDS.values():
        first = len(fields)
        for f in pid.fields:
            if not f.channel:
                continue
            channel = BY_NAME[f.channel]
            to_num, to_den = (1.0, 1.0) if channel.unit == f.unit else TO_CHANNEL[f.unit, channel.unit]
            place = (f.start, f.bits, f.signed, f.gate, f.gate_value, f.absent)
            fields.append((*place, f.num, f.den, f.offset, to_num, to_den, channel.number))
        pids[pid.number] = (pid.length, pid.long or pid.length, first, len(fields))
    return pids, np.array(fields, FIELD)


def _read_only(kind: types.Type, dimensions: int = 1) -> types.Array:
    return types.Array(kind, dimensions, "C", readonly=True)


@njit(
    types.void(
        types.int64[::1],
        types.int32[::1],
        types.int32[::1],
        types.uint8[::1],
        _read_only(types.int32, 2),
        _read_only(from_dtype(FIELD)),
        from_dtype(BLOCK)[::1],
        types.int32[::1],
        types.int64[::1],
        types.int64[::1],
    ),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def decode_answers(
    t: npt.NDArray[np.int64],
    start: npt.NDArray[np.int32],
    length: npt.NDArray[np.int32],
    heap: npt.NDArray[np.uint8],
    pids: npt.NDArray[np.int32],
    fields: npt.NDArray[np.void],
    out: npt.NDArray[np.void],
    rest: npt.NDArray[np.int32],
    counters: npt.NDArray[np.int64],
    cursor: npt.NDArray[np.int64],
) -> None:
    """Walk payloads from `cursor[MESSAGE]`; leave samples in `out`, payloads of other services by index in `rest`.

    Stops early when the next answer might not fit into `out`. The walk is that of j1979.parameters.
    """
    n_out = 0
    n_rest = 0
    m = cursor[MESSAGE]
    while m < len(t):
        if n_out + MAX_PAYLOAD > len(out):
            break
        begin = np.int64(start[m])
        stop = begin + length[m]
        now = t[m]
        message = m
        m += 1
        service = heap[begin]
        if service != CURRENT_DATA:
            if service in (0x43, 0x47, 0x49, 0x4A):
                rest[n_rest] = message
                n_rest += 1
            elif service == 0x7F:
                counters[NEGATIVE] += 1
            elif service >= 0x50:
                counters[UDS] += 1
            else:
                counters[OTHER] += 1
            continue

        counters[ANSWERS] += 1
        short = False
        long = False
        for reading in (LENGTH, LONG):
            at = begin + 1
            while at < stop and pids[heap[at], LENGTH] != 0:
                at += 1 + pids[heap[at], reading]
            if reading == LENGTH:
                short = at == stop
            else:
                long = at == stop
        column = LONG if long else LENGTH
        at = begin + 1
        if at == stop:
            counters[BAD] += 1
        while at < stop:
            pid = heap[at]
            size = np.int64(pids[pid, column])
            if size == 0:
                counters[UNKNOWN_PIDS] += 1
                break
            if at + 1 + size > stop or (short == long and pids[pid, LONG] != pids[pid, LENGTH]):
                counters[BAD] += 1
                break
            base = at + 1
            for f in range(pids[pid, FIRST], pids[pid, END]):
                field = fields[f]
                gate = field["gate"]
                if gate >= 0 and (heap[base + (gate >> 3)] >> (7 - (gate & 7))) & 1 != field["gate_value"]:
                    counters[NOT_AVAILABLE] += 1
                    continue
                first = field["start"]
                last = first + field["bits"] - 1
                raw = np.int64(0)
                for k in range(first >> 3, (last >> 3) + 1):
                    raw = (raw << 8) | np.int64(heap[base + k])
                raw = (raw >> (7 - (last & 7))) & ((np.int64(1) << field["bits"]) - 1)
                if raw == field["absent"]:
                    counters[NOT_AVAILABLE] += 1
                    continue
                if field["signed"] != 0 and (raw >> (field["bits"] - 1)) != 0:
                    raw -= np.int64(1) << field["bits"]
                value = np.float64(raw) * field["num"] / field["den"] + field["offset"]
                out[n_out]["t"] = now
                out[n_out]["channel"] = field["channel"]
                out[n_out]["value"] = value * field["to_num"] / field["to_den"]
                n_out += 1
            if pid >= FIRST_REVISED and not (short or long):
                if base + size < stop:
                    counters[BAD] += 1
                break
            at = base + size
    cursor[MESSAGE] = m
    cursor[SAMPLES] = n_out
    cursor[REST] = n_rest


# Service 09: info type -> (name in vehicle_info, reader of the payload)
_INFO: Final[dict[int, tuple[str, Callable[[bytes], Any]]]] = {
    0x04: ("calibration_ids", j1979_info.calibration_ids),
    0x06: ("calibration_numbers", j1979_info.calibration_numbers),
    0x0A: ("unit_names", j1979_info.unit_name_of),
}


class ObdDecoder:
    """Turn frames into OBD samples; any split of the frames into batches gives the same samples.

    `vehicle_info` holds 'vin' and 'vin_valid', and by control unit ('7E8') 'calibration_ids', 'calibration_numbers',
    'unit_names', as far as the bus has told. A sample's time is that of the answer's last frame.
    """

    def __init__(self) -> None:
        self._reassembler = Reassembler()
        self._pids, self._fields = _tables()
        self._out = np.empty(_SAMPLES, BLOCK)
        self._rest = np.empty(MAX_MESSAGES, np.int32)
        self._counters = np.zeros(len(COUNTERS), np.int64)
        self._cursor = np.zeros(3, np.int64)
        self._codes: dict[str, dict[str, list[str]]] = {name: {} for name in j1979_info.DTC_SERVICES.values()}
        self.vehicle_info: dict[str, Any] = {}

    @property
    def counters(self) -> dict[str, int]:
        """Count answers by kind and by what spoilt them, since the start; 'malformed' counts frames and answers."""
        total = self._reassembler.counters
        for name, n in zip(COUNTERS, self._counters, strict=True):
            total[name] = total.get(name, 0) + int(n)
        return total

    @property
    def dtcs(self) -> dict[str, list[str]]:
        """Give the trouble codes of the last answers of all control units, sorted: stored, pending, permanent."""
        return {name: sorted({c for codes in by_unit.values() for c in codes}) for name, by_unit in self._codes.items()}

    @property
    def unit_dtcs(self) -> dict[str, dict[str, list[str]]]:
        """Give the trouble codes of the last answers: stored, pending, permanent -> control unit ('7E8') -> codes."""
        return self._codes

    def decode(self, frames: Frames) -> Block:
        """Return the samples of the answers that these frames complete, in the order of the frames."""
        blocks = [block for messages in self._reassembler.walk(frames) for block in self._samples(messages)]
        return np.concatenate(blocks) if blocks else empty_block()

    def _samples(self, m: Messages) -> list[Block]:
        blocks: list[Block] = []
        cursor = self._cursor
        cursor[MESSAGE] = 0
        while cursor[MESSAGE] < len(m.t):
            decode_answers(
                m.t,
                m.start,
                m.length,
                m.heap,
                self._pids,
                self._fields,
                self._out,
                self._rest,
                self._counters,
                cursor,
            )
            if cursor[SAMPLES]:
                blocks.append(self._out[: cursor[SAMPLES]].copy())
            for i in self._rest[: cursor[REST]]:
                payload = m.heap[m.start[i] : m.start[i] + m.length[i]].tobytes()
                self._take(unit_name(int(m.unit[i])), payload)
        return blocks

    def _take(self, unit: str, payload: bytes) -> None:
        """Keep what an answer of services 03, 07, 09, 0A says; count it when it is cut."""
        if payload[0] in j1979_info.DTC_SERVICES:
            codes = j1979_info.trouble_codes(payload)
            if codes is None:
                self._counters[BAD] += 1
            else:
                self._codes[j1979_info.DTC_SERVICES[payload[0]]][unit] = codes
            return
        self._counters[ANSWERS] += 1
        info = payload[1] if len(payload) > 1 else -1
        if info == 0x02:
            vin = j1979_info.vin_of(payload)
            if vin is None:
                self._counters[BAD] += 1
            elif vin_valid(vin) or not self.vehicle_info.get("vin_valid"):
                self.vehicle_info |= {"vin": vin, "vin_valid": vin_valid(vin)}
        elif info in _INFO:
            name, read = _INFO[info]
            found = read(payload)
            if found is None:
                self._counters[BAD] += 1
            else:
                self.vehicle_info.setdefault(name, {})[unit] = found


def decode_answer(text: str) -> dict[str, float]:
    """Read an adapter's answer to a service 01 request, headers shown: J1979 names and values in units of J1979.

    Several PIDs, several frames and several control units may be in one answer; of two values of one name the first
    is kept. Answers to other services give nothing; text that is no answer gives {}.
    """
    found: dict[str, float] = {}
    for _, payload in payloads_of_text(text):
        if payload[0] == CURRENT_DATA:
            for pid, data in parameters(payload):
                for field, value in values(pid, data):
                    found.setdefault(field.name, value)
    return found
