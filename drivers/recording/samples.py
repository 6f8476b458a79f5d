"""Samples of channels in long CSV: a header with `t_s`, `channel` and `value`, then one sample a line.

Channel names and units are those of agent.channels. `t_s` counts seconds from anywhere; from 2000-01-01 on it is
taken as UTC. A file written channel after channel (each from its beginning) is put in order of time.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from agent.blocks import BLOCK, Block
from agent.channels import BY_NAME, CHANNELS
from agent.errors import near_names
from drivers.recording import samples_kernel as kernel
from drivers.recording.base import Counts, RecordingBase, bad_lines
from drivers.recording.merge import Stream, merge, timed
from drivers.recording.source import Source
from drivers.recording.timeline import EPOCH_2000_NS, WINDOW_NS, Timeline

CHUNK: Final = 1 << 20
CAPACITY: Final = 1 << 15
SORTED_AT_ONCE: Final = 1 << 20  # samples: 18 MB
MOST_FALLS: Final = 1000  # places looked at in one block where time falls back
COLUMNS: Final = ("t_s", "channel", "value")


Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


def header_columns(line: bytes) -> tuple[int, list[int]] | None:
    """Return the separator and the positions of t_s, channel and value in a header line, None when it is none."""
    for separator in b",;\t":
        fields = [
            f.strip(b' \t\r"').decode("ascii", "replace")
            for f in line.removeprefix(b"\xef\xbb\xbf").split(bytes((separator,)))
        ]
        if all(name in fields for name in COLUMNS):
            return separator, [fields.index(name) for name in COLUMNS]
    return None


def _channel_table() -> tuple[npt.NDArray[Any], ...]:
    slots = np.full(kernel.SLOTS, -1, np.int64)
    names = np.zeros((len(CHANNELS), kernel.NAME), np.uint8)
    lengths = np.zeros(len(CHANNELS), np.int64)
    for row, channel in enumerate(CHANNELS):
        name = np.frombuffer(channel.name.encode(), np.uint8)
        names[row, : len(name)] = name
        lengths[row] = len(name)
        slot = kernel.name_hash(np.ascontiguousarray(names[row]), 0, len(name))
        while slots[slot] >= 0:
            slot = (slot + 1) % kernel.SLOTS
        slots[slot] = row
    numbers = np.array([c.number for c in CHANNELS], np.int64)
    low, high = np.array([c.low for c in CHANNELS], np.float64), np.array([c.high for c in CHANNELS], np.float64)
    return slots, names, lengths, numbers, low, high


class SampleCsv(RecordingBase):
    """A recording of samples; `head` is the beginning of its text."""

    kind: Literal["frames", "samples"] = "samples"

    def __init__(self, path: Path, head: bytes) -> None:
        super().__init__(path)
        self._source: Source | None = None
        first, _, rest = head.partition(b"\n")
        columns = header_columns(first)
        assert columns is not None, "open_recording chose this reader by the header"
        self._separator, self._columns = columns
        self._header_bytes = len(first) + 1
        line = rest.split(b"\n", 1)[0].split(bytes((self._separator,)))
        if self._columns[0] < len(line):
            ok, seconds = kernel.number(*_whole(line[self._columns[0]]))
            if ok and seconds * 1e9 >= EPOCH_2000_NS:
                self.start_utc_ns = round(seconds * 1e6) * 1000

    def batches(self) -> Iterator[Block]:
        """Read from the start; t in ns since the first sample, non-decreasing; memory does not grow with the file."""
        self.counts = Counts()
        timeline: Timeline[Block] = Timeline(self)
        for raw in self._in_order():
            ready = timeline.push(raw)
            if ready is not None:
                yield ready
        held = timeline.finish()
        if held is not None:
            yield held
        self.close()

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _in_order(self) -> Iterator[Block]:
        if not self._grouped():
            yield from self._raw()
            return
        self.problem("the file holds one channel after the other; its samples are put in order of time")
        with TemporaryFile() as spill:
            starts, n = [0], 0
            chunk: list[Block] = []
            for raw in self._raw():
                chunk.append(raw)
                n += len(raw)
                if n - starts[-1] >= SORTED_AT_ONCE:
                    _spill(chunk, spill)
                    starts.append(n)
            _spill(chunk, spill)
            yield from merge([Stream(timed(_unspill(spill, a, b))) for a, b in pairwise([*starts, n]) if b > a])

    def _grouped(self) -> bool:
        """Say whether time starts again together with a channel that had not been seen before."""
        seen: set[int] = set()
        newest = None
        for block in self._parse(Source(self.path), count=False):
            t = block["t"]
            high = np.maximum.accumulate(t if newest is None else np.concatenate(([newest], t)))
            falls = np.flatnonzero(t < high[-len(t) :] - WINDOW_NS)
            for at in falls[:MOST_FALLS]:
                channel = int(block["channel"][at])
                if channel not in seen and channel not in block["channel"][:at]:
                    return True
            seen.update(np.unique(block["channel"]).tolist())
            newest = high[-1]
        return False

    def _raw(self) -> Iterator[Block]:
        """Yield samples with the times of the file, in its order, and count."""
        self.close()
        self._source = source = Source(self.path)
        yield from self._parse(source, count=True)
        if source.ended_by:
            self.truncate(source.ended_by)

    def _parse(self, source: Source, *, count: bool) -> Iterator[Block]:
        columns = np.array(self._columns, np.int64)
        state = np.zeros(kernel.STATE, np.int64)
        table = _channel_table()
        strange = (
            np.zeros((kernel.MOST_UNKNOWN + 1, kernel.NAME), np.uint8),
            np.zeros(kernel.MOST_UNKNOWN + 1, np.int64),
            np.zeros(kernel.MOST_UNKNOWN + 1, np.int64),
        )
        text = np.empty(CHUNK + kernel.LONGEST + 1, np.uint8)
        try:
            skip_header(source, self._header_bytes)
            carried, last = 0, False
            while not last:
                got = source.read_into(text.data[carried : carried + CHUNK])
                last = not got
                stop = carried + got
                text[stop] = ord("\n")
                at, full = 0, True
                while full:
                    out = np.empty(CAPACITY, BLOCK)
                    arguments: tuple[Any, ...] = (
                        text,
                        at,
                        stop,
                        last,
                        self._separator,
                        columns,
                        state,
                        *table,
                        *strange,
                        out,
                    )
                    at = int(kernel.parse(*arguments))
                    n = int(state[kernel.SAMPLES])
                    full = n == CAPACITY
                    if count:
                        self.counts.samples += n
                        self.counts.bad_lines = int(state[kernel.BAD])
                        self.counts.out_of_range = int(state[kernel.OUTSIDE])
                    if n:
                        yield out[:n]
                carried = stop - at
                text[:carried] = text[at:stop].copy()
        finally:  # also when the reading is given up half-way
            source.close()
        if count:
            self._tell(state, *strange)

    def _tell(self, state: Ints, unknown: Bytes, lengths: Ints, counted: Ints) -> None:
        named = int(state[kernel.N_UNKNOWN])
        for k in range(named):
            name = unknown[k, : lengths[k]].tobytes().decode("utf-8", "backslashreplace")
            self.counts.unknown_channels[name] = int(counted[k])
            self.problem(f"channel '{name}' is not known{near_names(name, BY_NAME)}: {counted[k]} samples are left out")
        if counted[kernel.MOST_UNKNOWN]:
            self.counts.unknown_channels["(others)"] = int(counted[kernel.MOST_UNKNOWN])
        if self.counts.bad_lines:
            self.problem(bad_lines(int(state[kernel.FIRST_BAD]) + 1, self.counts.bad_lines, "a sample"))
        if self.counts.out_of_range:
            self.problem(
                f"{self.counts.out_of_range} samples are outside their channel's plausible range; they are left out"
            )


def skip_header(source: Source, n: int) -> None:
    """Read past the first `n` bytes."""
    while n > 0 and (skipped := source.read(n)):
        n -= len(skipped)


def _whole(field: bytes) -> tuple[Bytes, int, int]:
    stripped = field.strip(b' \t\r"')
    return np.frombuffer(stripped + b"\n", np.uint8).copy(), 0, len(stripped)


def _spill(chunk: list[Block], spill: IO[bytes]) -> None:
    """Write the blocks in order of time to the end of `spill`, and forget them."""
    if chunk:
        joined = np.concatenate(chunk)
        spill.write(joined[np.argsort(joined["t"], kind="stable")].tobytes())
        chunk.clear()


def _unspill(spill: IO[bytes], begin: int, end: int) -> Iterator[Block]:
    """Yield the samples begin..end of `spill`, a block at a time."""
    for at in range(begin, end, CAPACITY):
        spill.seek(at * BLOCK.itemsize)
        yield np.frombuffer(bytearray(spill.read((min(at + CAPACITY, end) - at) * BLOCK.itemsize)), BLOCK)
