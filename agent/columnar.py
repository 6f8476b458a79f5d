"""Blocks as bytes: per channel, quantised, delta coded, split into byte planes, zstd. numpy and zstandard only.

A stored block is a fixed head (HEAD), a CRC-32 of all that follows the CRC, then one zstd frame. The frame holds
variable-length integers that describe the columns, and after them every column's byte planes. Channels that were
sampled together (the axes of one sensor, the signals of one message) share one column of times. Numbers are quantised
to the channel's quantum and the time unit; the order of the samples is kept exactly. Bytes from elsewhere are
bounded before anything is allocated and end in ValueError, never in another exception.
"""

import struct
import zlib
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import zstandard

from agent.blocks import BLOCK, Block
from agent.channels import BY_NUMBER

MAGIC: Final = b"RWB1"
# magic, CRC-32 of the rest, samples, time unit (ns), time of the first sample (units), bytes inside the zstd frame
HEAD: Final = struct.Struct("<4sIIIqI")
_COVERED_FROM: Final = 8  # the CRC covers what follows it

TIME_UNIT_NS: Final = 100_000  # 0.1 ms: a tenth of the shortest period sampled (1 kHz); see docs/decisions/0061
_LEAST_UNIT_NS: Final = 1_000  # below it differences of differences of 64-bit times would overflow
# Differences of a noisy sensor hold few true repeats: short chance matches disturb the entropy coder more than they
# save. On trip164 this needs 8 % fewer bytes than level 9 for 1.3 times its time (3 ms a minute of data), and 1 % fewer
# than level 19 for a sixth of its time (benchmarks/storage.py). The logs bound the compressor's own memory: 2.8 MB in
# place of level 9's 13 MB, at the same size, for what comes before half a megabyte ago is never like what comes now.
_COMPRESSION: Final = zstandard.ZstdCompressionParameters.from_level(
    9,
    strategy=zstandard.STRATEGY_BTOPT,
    min_match=6,
    window_log=19,
    chain_log=18,
    hash_log=18,
    write_content_size=True,
)

MAX_SAMPLES: Final = 1 << 20  # a minute at 17,000 samples/s, more than two saturated 500 kbit/s buses give
_MAX_COLUMNS: Final = 4096
_MAX_INNER: Final = MAX_SAMPLES * 18 + _MAX_COLUMNS * 64  # 8 bytes of time, 8 of value, 2 of order, and the table

# How a column's numbers are written
_RAW: Final = 0  # float64 as it is: a channel without a known quantum, or values that do not fit one
_PLAIN, _DELTA, _DELTA2 = 1, 2, 3  # zig-zag of the number, of its difference, of the difference of differences
_FIRSTS: Final = (0, 0, 1, 2)  # how many first numbers stand in the table

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


class _Column(NamedTuple):
    """One written column: how, its first numbers (differences start from them), planes of `width` bytes.

    `step` divides every number after the first ones: a sensor of 0.125 m/s² resolution has 125 at a quantum of 0.001.
    """

    how: int
    first: tuple[int, ...]
    step: int
    width: int
    planes: bytes


def encode(block: Block, time_unit_ns: int = TIME_UNIT_NS) -> bytes:
    """Encode at most MAX_SAMPLES samples, in any order; times round to `time_unit_ns` ≥ 1000, values to their quantum.

    Raise ValueError when the block is larger or the unit finer.
    """
    if time_unit_ns < _LEAST_UNIT_NS:
        raise ValueError(f"time unit of {time_unit_ns} ns, at least {_LEAST_UNIT_NS} can be stored")
    if len(block) > MAX_SAMPLES:
        raise ValueError(f"block of {len(block)} samples, at most {MAX_SAMPLES} are stored in one")
    times = _quantise_time(np.ascontiguousarray(block["t"]), time_unit_ns)
    channels = np.ascontiguousarray(block["channel"])
    origin = int(times[0]) if len(times) else 0
    by_channel = np.argsort(channels, kind="stable")
    numbers, starts = np.unique(channels[by_channel], return_index=True)
    rows = np.split(by_channel, starts[1:]) if len(numbers) else []

    # Columns stand in the order in which their first samples came, so that the usual order of samples needs no bytes.
    appearance = sorted(range(len(rows)), key=lambda i: int(rows[i][0]))
    groups: dict[bytes, int] = {}  # times of a column -> number of the group that shares them
    group_times: list[Ints] = []
    table = bytearray()
    planes: list[bytes] = []
    columns = bytearray()
    order_rows: list[Ints] = []
    for i in appearance:
        own = times[rows[i]] - origin
        key = own.tobytes()
        if key not in groups:
            groups[key] = len(group_times)
            group_times.append(own)
        quantum_code, column = _write_values(int(numbers[i]), np.ascontiguousarray(block["value"][rows[i]]))
        _put(columns, int(numbers[i]), groups[key], _fold(quantum_code))
        _put_column(columns, column)
        planes.append(column.planes)
        order_rows.append(rows[i])
    _put(table, len(group_times), len(order_rows))
    head_planes: list[bytes] = []
    for own in group_times:
        column = _write_ints(own)
        _put(table, len(own))
        _put_column(table, column)
        head_planes.append(column.planes)
    order = _order(times, order_rows)
    table.append(order is not None)
    inner = bytes(table + columns) + b"".join(head_planes) + b"".join(planes)
    if order is not None:
        inner += _to_planes(order.astype(np.uint64), 2)
    body = HEAD.pack(MAGIC, 0, len(block), time_unit_ns, origin, len(inner))[_COVERED_FROM:]
    body += zstandard.ZstdCompressor(compression_params=_COMPRESSION).compress(inner)
    return MAGIC + zlib.crc32(body).to_bytes(4, "little") + body


def decode(data: bytes) -> Block:
    """Decode what `encode` wrote; raise ValueError naming what is wrong with the bytes."""
    if len(data) < HEAD.size or data[:4] != MAGIC:
        raise ValueError("not a stored block")
    _, crc, samples, unit, origin, inner_size = HEAD.unpack_from(data)
    if zlib.crc32(data[_COVERED_FROM:]) != crc:
        raise ValueError("stored block is damaged: checksum")
    if samples > MAX_SAMPLES or inner_size > _MAX_INNER or unit == 0:
        raise ValueError("stored block declares impossible sizes")
    frame = data[HEAD.size :]
    try:
        # The frame's own size field is what zstandard allocates by, so it is looked at first.
        if zstandard.frame_content_size(frame) != inner_size:
            raise ValueError("stored block is damaged: its sizes disagree")
        inner = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompress(frame, max_output_size=inner_size)
    except zstandard.ZstdError as e:
        raise ValueError(f"stored block is damaged: {e}") from e
    return _Reader(inner, samples).block(origin, unit)


class _Head(NamedTuple):
    """What the table says of one column."""

    rows: int
    how: int
    first: tuple[int, ...]
    step: int
    width: int


class _Reader:
    """Reads the inside of one stored block, checking every declared size against what is there."""

    def __init__(self, inner: bytes, samples: int) -> None:
        self._inner = inner
        self._at = 0
        self._samples = samples

    def block(self, origin: int, unit: int) -> Block:
        groups, columns = self._number(), self._number()
        if groups > columns or columns > min(_MAX_COLUMNS, self._samples):
            raise ValueError("stored block declares impossible sizes")
        time_heads = [self._column_head(self._number()) for _ in range(groups)]
        explicit_order = self._byte()
        value_heads = []
        for _ in range(columns):
            channel, group, quantum_code = self._number(), self._number(), _unfold(self._number())
            if group >= groups or channel > 0xFFFF:
                raise ValueError("stored block is damaged: column table")
            value_heads.append((channel, group, quantum_code, self._column_head(time_heads[group].rows)))
        # Every group is used by a column, so that times never take more room than the samples that were declared.
        if {group for _, group, _, _ in value_heads} != set(range(groups)):
            raise ValueError("stored block is damaged: column table")
        if sum(head.rows for *_, head in value_heads) != self._samples:
            raise ValueError("stored block is damaged: sample counts")
        group_times = [self._ints(head) for head in time_heads]
        block = np.empty(self._samples, BLOCK)
        at = 0
        for channel, group, quantum_code, head in value_heads:
            rows = slice(at, at + head.rows)
            block["channel"][rows] = channel
            block["t"][rows] = (group_times[group] + origin) * unit
            block["value"][rows] = self._values(quantum_code, head)
            at += head.rows
        if explicit_order:
            column_of = self._planes(self._samples, 2).astype(np.int64)
            place = np.argsort(column_of, kind="stable")
            counts = [head.rows for *_, head in value_heads]
            if np.bincount(column_of, minlength=columns).tolist() != counts:
                raise ValueError("stored block is damaged: order of samples")
            ordered = np.empty_like(block)
            ordered[place] = block
        else:
            ordered = block[np.argsort(block["t"], kind="stable")]
        if self._at != len(self._inner):
            raise ValueError("stored block is damaged: bytes left over")
        return ordered

    def _byte(self) -> int:
        if self._at >= len(self._inner):
            raise ValueError("stored block is damaged: it ends early")
        self._at += 1
        return self._inner[self._at - 1]

    def _number(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("stored block is damaged: number too long")

    def _column_head(self, count: int) -> _Head:
        how, width, step = self._byte(), self._byte(), self._number()
        if how > _DELTA2 or width > 8 or not _FIRSTS[how] < count + 1 <= self._samples + 1:
            raise ValueError("stored block is damaged: column head")
        return _Head(count, how, tuple(_unfold(self._number()) for _ in range(_FIRSTS[how])), step, width)

    def _planes(self, count: int, width: int) -> npt.NDArray[np.uint64]:
        size = count * width
        if self._at + size > len(self._inner):
            raise ValueError("stored block is damaged: it ends early")
        wide = np.zeros((count, 8), np.uint8)
        wide[:, :width] = np.frombuffer(self._inner, np.uint8, size, self._at).reshape(width, count).T
        self._at += size
        return wide.view("<u8").reshape(count)

    def _ints(self, head: _Head) -> Ints:
        folded = self._planes(head.rows - len(head.first), head.width)
        values = (folded >> np.uint64(1)).view(np.int64) ^ -(folded & np.uint64(1)).view(np.int64)
        values *= _wrap(head.step)
        for start in reversed(head.first):
            values = np.cumsum(np.concatenate((np.array([_wrap(start)], np.int64), values)))
        return values

    def _values(self, quantum_code: int, head: _Head) -> npt.NDArray[np.float64]:
        if head.how == _RAW:
            return self._planes(head.rows, head.width).view(np.float64)
        values = self._ints(head)
        if quantum_code == 0:
            raise ValueError("stored block is damaged: column head")
        numbers = values.astype(np.float64)
        return numbers * float(quantum_code) if quantum_code > 0 else numbers / float(-quantum_code)


def _quantise_time(t: Ints, unit: int) -> Ints:
    whole = t // unit
    return whole + ((t - whole * unit) * 2 >= unit)


def round_time(t_ns: int) -> int:
    """Return a time as the store will give it back."""
    return (t_ns * 2 + TIME_UNIT_NS) // (2 * TIME_UNIT_NS) * TIME_UNIT_NS


def quantum_code(quantum: float) -> int:
    """Write a quantum as a whole number: k for k, −k for 1/k; 0 when it is neither."""
    if quantum >= 1 and quantum == int(quantum):
        return int(quantum)
    inverse = round(1 / quantum)
    return -inverse if 1 / inverse == quantum else 0


def _to_quanta(channel: int, values: npt.NDArray[np.float64]) -> tuple[int, Ints | None]:
    """Return the quantum's code and the values as counts of it, or None where only raw numbers keep them."""
    known = BY_NUMBER.get(channel)
    code = quantum_code(known.quantum) if known else 0
    if code == 0:
        return 0, None
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.rint(values / float(code) if code > 0 else values * float(-code))
        if not np.all(np.abs(scaled) < 2.0**52):  # NaN and infinities fail this too
            return 0, None
    return code, scaled.astype(np.int64)


def _write_values(channel: int, values: npt.NDArray[np.float64]) -> tuple[int, _Column]:
    code, counts = _to_quanta(channel, values)
    if counts is None:
        return 0, _Column(_RAW, (), 1, 8, _to_planes(values.view(np.uint64), 8))
    return code, _write_ints(counts)


def _write_ints(values: Ints) -> _Column:
    """Write whole numbers by whichever differences have the fewest bits."""
    candidates = [_candidate(_PLAIN, (), values)]
    if len(values) > 1:
        candidates.append(_candidate(_DELTA, (int(values[0]),), np.diff(values)))
    if len(values) > 2:
        first = (int(values[0]), int(values[1] - values[0]))
        candidates.append(_candidate(_DELTA2, first, np.diff(values, 2)))
    _, how, first_numbers, step, rest = min(candidates, key=lambda candidate: candidate[0])
    folded = ((rest << 1) ^ (rest >> 63)).view(np.uint64)
    width = (int(folded.max()).bit_length() + 7) // 8 if len(folded) else 0
    return _Column(how, first_numbers, step, width, _to_planes(folded, width))


def _candidate(how: int, first: tuple[int, ...], numbers: Ints) -> tuple[float, int, tuple[int, ...], int, Ints]:
    """Return about how many bits this way of writing takes, and the way."""
    step = int(np.gcd.reduce(numbers)) or 1
    rest = numbers // step
    return float(np.log2(np.abs(rest).astype(np.float64) + 1).sum()), how, first, step, rest


def _to_planes(values: npt.NDArray[np.uint64], width: int) -> bytes:
    """Return the lowest `width` bytes of each number, all first bytes, then all second bytes, …"""
    return np.ascontiguousarray(values.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width].T).tobytes()


def _order(times: Ints, rows: list[Ints]) -> Ints | None:
    """Return the column of each sample, or None when sorting the columns by time gives the samples' order."""
    if not rows:
        return None
    joined = np.concatenate(rows)
    natural = joined[np.argsort(times[joined], kind="stable")]
    if np.array_equal(natural, np.arange(len(times))):
        return None
    column = np.empty(len(times), np.int64)
    for i, own in enumerate(rows):
        column[own] = i
    return column


def _put(out: bytearray, *numbers: int) -> None:
    for number in numbers:
        rest = number
        while rest >= 0x80:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)


def _put_column(out: bytearray, column: _Column) -> None:
    out.append(column.how)
    out.append(column.width)
    _put(out, column.step, *(_fold(v) for v in column.first))


def _fold(value: int) -> int:
    """Zig-zag: 0, −1, 1, −2 … → 0, 1, 2, 3 …"""
    return value * 2 if value >= 0 else -value * 2 - 1


def _unfold(value: int) -> int:
    return value >> 1 if not value & 1 else -(value + 1 >> 1)


def _wrap(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
