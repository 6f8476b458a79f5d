"""The driver that reads recordings: the same three verbs as a device, fed from files.

Frames of all files are merged by time before they are decoded, samples after it. Files with absolute times keep
their distance, so that files which overlap run side by side and the others one after the other; files with relative
times all start at 0. Reading, parsing and decoding run ahead in one thread; what comes after is the caller's.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, TypeVar

import numpy as np

from agent.blocks import Block, Frames, empty_block
from agent.clock import NS_PER_S, monotonic_ns, wait
from drivers.recording import Recording, open_recording

AHEAD: Final = 3  # batches read ahead: hides a slow disk and xz, 3 MB of frames
Decode = Callable[[Frames, list[str]], Block]
T = TypeVar("T")


@dataclass(slots=True)
class Summary:
    """What has been read so far, over all files."""

    frames: int = 0
    samples: int = 0
    duration_s: float = 0.0  # from the first frame or sample to the last one given
    bad_lines: int = 0
    error_frames: int = 0
    remote_frames: int = 0
    time_steps: int = 0
    bad_times: int = 0
    out_of_range: int = 0
    truncated: bool = False
    unknown_channels: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    start_utc_ns: int | None = None  # of t = 0
    buses: list[str] = field(default_factory=list)


class Replay:
    """Yield what `paths` recorded as blocks, t in ns since the first frame of all.

    `decode` turns frames and the bus names into a new block; it is called in the reading thread, with frames in order
    of time. `pace` None reads as fast as it goes, 1.0 in real time, N at N times that.
    """

    def __init__(self, paths: list[Path], decode: Decode, pace: float | None = None) -> None:
        self.name = "replay:" + ",".join(path.name for path in paths)
        self._paths = paths
        self._decode = decode
        self._pace = pace
        self._recordings: list[Recording] = []
        self._buses: list[str] = []
        self._ahead: _Ahead[tuple[Block, int]] | _Ahead[Block] | None = None
        self._blocks: Iterator[Block] = iter(())
        self._pending = empty_block()
        self._started_ns: int | None = None
        self._reached_ns = 0
        self._closing = threading.Event()
        self._t0_utc_ns: int | None = None

    def open(self) -> None:
        """Open all files; raise RecordingError when one cannot be read at all."""
        self.close()
        self._closing.clear()
        self._recordings = [open_recording(path) for path in self._paths]
        self._buses, self._pending, self._started_ns, self._reached_ns = [], empty_block(), None, 0
        known = [r.start_utc_ns for r in self._recordings if r.start_utc_ns is not None]
        self._t0_utc_ns = min(known, default=None)
        self._blocks = self._block_source()

    def read(self, timeout_s: float) -> Block | None:
        """Return the next samples, an empty block when `timeout_s` has passed at the given pace, None at the end."""
        while not len(self._pending):
            block = next(self._blocks, None)
            if block is None:
                return None
            self._pending = block
            if self._pace is None and not len(block):
                return block  # frames without a known signal: give the caller its turn
        if self._pace is None:
            given, self._pending = self._pending, empty_block()
            return given
        return self._paced(timeout_s, self._pace)

    def close(self) -> None:
        """End the reading thread and release the files."""
        self._closing.set()
        if self._ahead is not None:
            self._ahead.stop()
            self._ahead = None
        for recording in self._recordings:
            recording.close()

    @property
    def recording(self) -> Summary:
        """Sum up what has been read so far."""
        summary = Summary(buses=list(self._buses), duration_s=self._reached_ns / NS_PER_S)
        for recording in self._recordings:
            counts = recording.counts
            summary.frames += counts.frames
            summary.samples += counts.samples
            summary.bad_lines += counts.bad_lines
            summary.error_frames += counts.error_frames
            summary.remote_frames += counts.remote_frames
            summary.time_steps += counts.time_steps
            summary.bad_times += counts.bad_times
            summary.out_of_range += counts.out_of_range
            summary.truncated |= counts.truncated
            for name, count in counts.unknown_channels.items():
                summary.unknown_channels[name] = summary.unknown_channels.get(name, 0) + count
            summary.problems.extend(f"{recording.path.name}: {problem}" for problem in recording.problems)
        summary.start_utc_ns = self._t0_utc_ns
        if len(self._recordings) == 1:  # a clock that was set while recording says only later when the start was
            summary.start_utc_ns = self._recordings[0].start_utc_ns
        return summary

    def _block_source(self) -> Iterator[Block]:
        """Start the reading thread; return the blocks of all files in order of time."""
        from drivers.recording.merge import Stream, merge, timed

        frames = [Stream(timed(self._frames_of(r)), self._offset_ns(r)) for r in self._of_kind("frames")]
        samples = [Stream(timed(self._samples_of(r)), self._offset_ns(r)) for r in self._of_kind("samples")]
        if not frames:
            ahead = _Ahead(merge(samples), self.name)
            self._ahead = ahead
            return self._reaching(iter(ahead))
        decoded = _Ahead(self._decoded(merge(frames)), self.name)
        self._ahead = decoded
        if not samples:
            return (block for block, _ in decoded)
        return merge([Stream(iter(decoded)), Stream(timed(self._reaching(merge(samples))))])

    def _of_kind(self, kind: str) -> list[Recording]:
        return [r for r in self._recordings if r.kind == kind]

    def _offset_ns(self, recording: Recording) -> int:
        if recording.start_utc_ns is None or self._t0_utc_ns is None:
            return 0
        return recording.start_utc_ns - self._t0_utc_ns

    def _frames_of(self, recording: Recording) -> Iterator[Frames]:
        """Yield the frames of one file with the times and bus numbers of the whole replay."""
        offset_ns = self._offset_ns(recording)
        numbers = np.zeros(256, np.uint8)
        known = 0
        for batch in recording.batches():
            assert isinstance(batch, Frames)
            for number in range(known, len(recording.buses)):
                name = recording.buses[number]
                if name not in self._buses:
                    self._buses.append(name)
                numbers[number] = self._buses.index(name)
            known = len(recording.buses)
            yield batch._replace(t=batch.t + offset_ns, bus=numbers[batch.bus])

    def _samples_of(self, recording: Recording) -> Iterator[Block]:
        offset_ns = self._offset_ns(recording)
        for batch in recording.batches():
            assert not isinstance(batch, Frames)
            batch["t"] += offset_ns
            yield batch

    def _decoded(self, frames: Iterator[Frames]) -> Iterator[tuple[Block, int]]:
        for batch in frames:
            last_ns = int(batch.t[-1])
            self._reached_ns = max(self._reached_ns, last_ns)
            yield self._decode(batch, self._buses), last_ns

    def _reaching(self, blocks: Iterator[Block]) -> Iterator[Block]:
        for block in blocks:
            self._reached_ns = max(self._reached_ns, int(block["t"][-1]))
            yield block

    def _paced(self, timeout_s: float, pace: float) -> Block:
        if self._started_ns is None:
            self._started_ns = monotonic_ns()
        first_ns = int(self._pending["t"][0])
        missing_s = (first_ns / pace - (monotonic_ns() - self._started_ns)) / NS_PER_S
        if missing_s > 0 and wait(self._closing, min(timeout_s, missing_s)):
            return empty_block()
        due_ns = (monotonic_ns() - self._started_ns) * pace
        n = int(np.searchsorted(self._pending["t"], due_ns, side="right"))
        given, self._pending = self._pending[:n], self._pending[n:]
        return given


class _Ahead(Generic[T]):
    """Run an iterator in a thread, at most AHEAD items ahead; what it raises is raised where it is read."""

    def __init__(self, items: Iterator[T], name: str) -> None:
        self._items = items
        self._room = threading.Semaphore(AHEAD)
        self._ready: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._stopping = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for item in self._items:
                self._room.acquire()
                if self._stopping:
                    return
                self._ready.put(item)
        except BaseException as error:  # handed over: raised again where it is read
            self._error = error
        finally:
            self._ready.put(None)

    def __iter__(self) -> Iterator[T]:
        while (item := self._ready.get()) is not None:
            self._room.release()
            yield item
        self._thread.join()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End the thread; what it has read ahead is dropped."""
        self._stopping = True
        self._room.release()
        self._thread.join()
