"""MF4 bus logging (ASAM MDF 4, "MDF bus logging" groups as CANedge writes them) through asammdf.

asammdf comes with the `formats` extra and is imported only here. Each group of raw frames is read BATCH records at a
time and the groups are merged by time.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agent.blocks import BIT_RATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, REMOTE, Frames
from agent.errors import RecordingError
from drivers.recording.base import Counts, RecordingBase
from drivers.recording.batch import take
from drivers.recording.merge import Stream, merge, timed
from drivers.recording.timeline import EPOCH_2000_NS, Timeline

BATCH: Final = 20_000
_KINDS: Final = {"CAN_DataFrame": 0, "CAN_RemoteFrame": REMOTE, "CAN_ErrorFrame": ERROR}

# What asammdf 8.8 has been seen to raise on damaged files; MdfException is added where asammdf is imported.
_DAMAGE: Final = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, NameError, OSError,
    RuntimeError, struct.error, TypeError, ValueError, zlib.error,
)  # fmt: skip


class Mf4(RecordingBase):
    """A recording in an MF4 file; raises RecordingError when the file cannot be opened or asammdf is missing."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._mdf: Any
        self._open()
        try:
            start_ns = int(self._mdf.header.start_time.timestamp() * 1e6) * 1000
        except _DAMAGE:
            start_ns = 0
        self._start_ns = start_ns if start_ns >= EPOCH_2000_NS else 0
        if self._start_ns:  # of the first frame; the header has the start of the measurement
            self.start_utc_ns = self._start_ns + min((self._first_ns(i) for i, _ in self._groups()), default=0)

    def _open(self) -> None:
        try:
            from asammdf import MDF
            from asammdf.blocks.mdf_v4 import MDF4
            from asammdf.blocks.utils import MdfException
        except ImportError as error:
            raise RecordingError(
                f"{self.path}: reading MF4 needs asammdf: pip install 'roadwitness[formats]'"
            ) from error
        self._damage = (*_DAMAGE, MdfException)
        # asammdf 8.8 closes in __del__ what a damaged file never let it open, and would print a traceback
        setattr(MDF4, "__del__", _close_quietly)  # noqa: B010
        # where the copy of a file goes whose logger lost its power; asammdf 8.8 leaves it behind when that is damaged
        self._scratch = TemporaryDirectory(prefix="roadwitness-")
        try:
            self._mdf = MDF(self.path, temporary_folder=self._scratch.name)
        except self._damage as error:
            self._scratch.cleanup()
            raise RecordingError(
                f"{self.path}: the MF4 file is damaged ({_why(error)}); copy it again from the logger"
            ) from error

    def batches(self) -> Iterator[Frames]:
        """Read from the start; t in ns since the first frame, non-decreasing; memory does not grow with the file."""
        if self._mdf is None:
            self._open()
        self.counts = Counts()
        timeline: Timeline[Frames] = Timeline(self)
        groups = list(self._groups())
        if not groups:
            self.problem("the file holds no CAN frames (no CAN_DataFrame group)")
        for raw in merge([Stream(timed(self._group(index, kind))) for index, kind in groups]):
            self.counts.frames += len(raw.t)
            self.counts.error_frames += int(np.count_nonzero(raw.flags & ERROR))
            self.counts.remote_frames += int(np.count_nonzero(raw.flags & REMOTE))
            ready = timeline.push(raw)
            if ready is not None:
                yield ready
        held = timeline.finish()
        if held is not None:
            yield held
        self.close()

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        if self._mdf is not None:
            self._mdf.close()
            self._scratch.cleanup()
            self._mdf = None

    def _groups(self) -> Iterator[tuple[int, str]]:
        for index, group in enumerate(self._mdf.groups):
            if group.channel_group.cycles_nr:
                for channel in group.channels:
                    if channel.name in _KINDS:
                        yield index, channel.name
                        break

    def _first_ns(self, index: int) -> int:
        try:
            stamps = self._mdf.get_master(index, record_offset=0, record_count=1)
            return int(np.rint(float(stamps[0]) * 1e9))
        except self._damage:
            return 0

    def _group(self, index: int, kind: str) -> Iterator[Frames]:
        """Yield the frames of one group, ordered by time within a batch, with absolute raw stamps where known."""
        total = int(self._mdf.groups[index].channel_group.cycles_nr)
        names = [channel.name for channel in self._mdf.groups[index].channels]
        reached = 0
        for offset in range(0, total, BATCH):
            try:
                frames = self._records(index, kind, names, offset, min(BATCH, total - offset))
            except self._damage as error:
                self.counts.bad_lines += total - offset
                self.truncate(f"group {index} ends at record {offset} of {total} ({_why(error)})")
                return
            if not len(frames.t):
                self.truncate(f"group {index} ends at record {offset} of {total}")
                return
            order = np.argsort(frames.t, kind="stable")
            frames = take(frames, order)
            np.maximum(frames.t, reached, out=frames.t)  # records of one bus are written in order
            reached = int(frames.t[-1])
            yield frames

    def _records(self, index: int, kind: str, names: list[str], offset: int, count: int) -> Frames:
        def column(name: str) -> npt.NDArray[Any] | None:
            full = f"{kind}.{name}"
            if full not in names:
                return None
            where = {"group": index, "index": names.index(full), "record_offset": offset, "record_count": count}
            # converted, because a constant column is a record counter with a conversion; raw where that gives words
            values = np.asarray(self._mdf.get(full, **where).samples)
            return values if values.dtype.kind in "uifb" else np.asarray(self._mdf.get(full, raw=True, **where).samples)

        stamps = self._mdf.get_master(index, record_offset=offset, record_count=count)
        t = self._start_ns + np.rint(np.asarray(stamps, np.float64) * 1e9).astype(np.int64)
        n = len(t)

        def numbers(name: str, default: int = 0) -> npt.NDArray[np.int64]:
            values = column(name)
            return np.full(n, default, np.int64) if values is None else values[:n].astype(np.int64)

        ident = numbers("ID")
        flags = np.full(n, _KINDS[kind], np.int64)
        if kind == "CAN_ErrorFrame":
            data = np.zeros((n, 8), np.uint8)
            lengths = np.zeros(n, np.int64)
        else:
            flags |= np.where(numbers("IDE") | (ident > 0x7FF), EXTENDED, 0)
            for name, bit in (("EDL", FD), ("BRS", BIT_RATE_SWITCH), ("ESI", ERROR_STATE)):
                flags |= np.where(numbers(name), bit, 0)
            lengths = np.clip(numbers("DataLength"), 0, 64) if kind == "CAN_DataFrame" else np.zeros(n, np.int64)
            data = _data(column("DataBytes"), n, lengths)
        bus_numbers = numbers("BusChannel", 1)
        seen, which = np.unique(bus_numbers, return_inverse=True)
        bus = np.array([self.bus_number(f"can{max(int(b) - 1, 0)}") for b in seen], np.uint8)[which]
        return Frames(
            t, bus, (ident & 0x1FFFFFFF).astype(np.uint32), flags.astype(np.uint8), lengths.astype(np.uint8), data
        )


def _data(payload: npt.NDArray[Any] | None, n: int, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return the payload as uint8[n, 8 or 64], zero beyond each frame's length."""
    have = 0 if payload is None or payload.ndim != 2 else min(payload.shape[1], 64)
    width = 64 if have > 8 and int(lengths.max(initial=0)) > 8 else 8
    data = np.zeros((n, width), np.uint8)
    if payload is not None and have:
        copied = min(have, width)
        data[:, :copied] = payload[:n, :copied]
    np.minimum(lengths, min(have, width), out=lengths)
    data[np.arange(width)[None, :] >= lengths[:, None]] = 0
    return data


def _close_quietly(mdf: Any) -> None:
    with suppress(*_DAMAGE):
        mdf.close()


def _why(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
