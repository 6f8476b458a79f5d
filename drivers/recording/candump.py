"""candump text, in both forms, straight into arrays."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.blocks import Frames, empty_frames
from drivers.recording import candump_kernel as kernel
from drivers.recording.base import MOST_BUSES, Counts, RecordingBase, bad_lines
from drivers.recording.batch import take
from drivers.recording.source import Source
from drivers.recording.timeline import EPOCH_2000_NS, Timeline

CHUNK: Final = 1 << 20  # bytes read at a time: 23,000 frames, whose arrays stay in the second-level cache
CAPACITY: Final = 1 << 15  # frames a batch at most

LINE: Final = re.compile(
    rb"[ \t\0]*\(\d{1,10}(\.\d+)?\)[ \t]+\S+[ \t]+([0-9A-Fa-f]{1,8}#|([RT]X [- BE]+)?[0-9A-Fa-f]{3,8}\s+\[\d+\])"
)

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


def _is_delta(head: bytes) -> bool:
    """Say whether the stamps of this beginning of a file are times since the line before (candump -t d).

    `-t d` and `-t z` look alike and both begin with 0. Times since the start only grow (a few per cent fall back a
    little where buses mix); times since the line before fall as often as they rise, or stay the same.
    """
    lines = [line for line in head.split(b"\n")[:-1] if LINE.match(line)]
    console = bool(lines) and b"#" not in lines[0]
    stamps = [float(line[line.index(b"(") + 1 : line.index(b")")]) for line in lines]
    if len(stamps) < (3 if console else 20) or stamps[0] >= 1.0:
        return False
    falls = sum(b < a for a, b in pairwise(stamps))
    return falls > 0.05 * len(stamps) or (console and stamps[-1] <= stamps[1])


class Candump(RecordingBase):
    """A recording made by candump; `head` is the beginning of its text."""

    def __init__(self, path: Path, head: bytes) -> None:
        super().__init__(path)
        self._source: Source | None = None
        self._delta = _is_delta(head)
        first = next((line for line in head.split(b"\n") if LINE.match(line)), b"(0)")
        stamp_ns = int(float(first[first.index(b"(") + 1 : first.index(b")")]) * 1e6) * 1000
        self.start_utc_ns = stamp_ns if stamp_ns >= EPOCH_2000_NS and not self._delta else None

    def batches(self) -> Iterator[Frames]:
        """Read from the start; t in ns since the first frame, non-decreasing; memory does not grow with the file."""
        self.close()
        self.counts = Counts()
        self._source = source = Source(self.path)
        timeline: Timeline[Frames] = Timeline(self)
        for raw in self._raw(source):
            self.counts.frames += len(raw.t)
            ready = timeline.push(raw)
            if ready is not None:
                yield ready
        held = timeline.finish()
        if held is not None:
            yield held
        if source.ended_by:
            self.truncate(source.ended_by)
        self.close()

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _raw(self, source: Source) -> Iterator[Frames]:
        """Yield frames with the stamps of the file, in its order."""
        state = np.zeros(kernel.STATE, np.int64)
        state[kernel.DELTA] = self._delta
        names = np.zeros((MOST_BUSES, kernel.NAME), np.uint8)
        name_lengths = np.zeros(MOST_BUSES, np.uint8)
        text = np.empty(CHUNK + kernel.LONGEST + kernel.GUARD, np.uint8)
        width = 8
        carried = 0
        last = False
        bad_before = 0
        while not last:
            got = source.read_into(text.data[carried : carried + CHUNK])
            last = not got
            stop = carried + got
            text[stop : stop + kernel.GUARD] = ord("\n")
            bad_before = int(state[kernel.BAD])
            at = 0
            while True:
                batch = empty_frames(CAPACITY, width)
                at = int(kernel.parse(text, at, stop, last, state, names, name_lengths, *batch))
                n = int(state[kernel.FRAMES])
                self._note(state, names, name_lengths)
                if n:
                    yield take(batch, slice(0, n))
                if state[kernel.WIDE]:
                    width = 64
                elif n < CAPACITY:
                    break
            carried = stop - at
            text[:carried] = text[at:stop].copy()
        if state[kernel.BAD]:
            self.problem(bad_lines(int(state[kernel.FIRST_BAD]), int(state[kernel.BAD]), "a candump line"))
        if state[kernel.NULS]:
            self.problem(f"{state[kernel.NULS]} zero bytes between the lines (power was cut while recording)")
        if int(state[kernel.BAD]) > bad_before:  # the text that no newline follows
            self.truncate("the last line is cut off")

    def _note(self, state: Ints, names: Bytes, name_lengths: Bytes) -> None:
        counts = self.counts
        counts.bad_lines = int(state[kernel.BAD])
        counts.error_frames = int(state[kernel.ERRORS])
        counts.remote_frames = int(state[kernel.REMOTES])
        for k in range(len(self.buses), int(state[kernel.N_BUSES])):
            self.buses.append(names[k, : name_lengths[k]].tobytes().decode("ascii", "backslashreplace"))
