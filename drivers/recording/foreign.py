"""ASC, BLF, TRC and python-can's CSV through python-can's readers, which are not trusted.

A line that a reader chokes on is counted and the reader goes on after it; a damaged BLF container too. What the
readers raise on damaged files is in one table; nothing of it leaves this module.
"""

import io
import logging
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from can import Message
from can.io import ASCReader, BLFReader, CSVReader, TRCReader
from can.io.blf import BLFParseError

from agent.blocks import BIT_RATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, REMOTE, Frames
from agent.clock import NS_PER_S
from agent.errors import RecordingError
from drivers.recording.base import Counts, RecordingBase, bad_lines
from drivers.recording.source import Source
from drivers.recording.timeline import EPOCH_2000_NS, Timeline

BATCH: Final = 20_000
LONGEST: Final = 4096  # characters of a line handed to a reader
CHUNK: Final = 1 << 16

# What python-can's readers have been seen to raise on damaged input (python-can 4.6.1, random bytes).
_DAMAGE: Final = (
    ArithmeticError, AssertionError, AttributeError, BLFParseError, EOFError, LookupError, MemoryError, OSError,
    struct.error, TypeError, UnboundLocalError, ValueError, zlib.error,
)  # fmt: skip


logging.getLogger("can.io").setLevel(logging.ERROR)  # what its readers warn of is counted here


class _Lines(io.TextIOBase):
    """The lines of a text source as python-can's readers take them; remembers where they are."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._text = b""
        self._ended = False
        self._again: list[str] = []
        self.number = 0
        self.cut_off = False

    def readable(self) -> bool:
        return True

    def again(self, *lines: str) -> None:
        """Give these lines next, before the source goes on."""
        self._again.extend(lines)

    def __next__(self) -> str:  # type: ignore[override]
        if self._again:
            return self._again.pop(0)
        while b"\n" not in self._text and not self._ended:
            chunk = self._source.read(CHUNK)
            self._ended = not chunk
            if b"\n" not in chunk and len(self._text) > LONGEST:
                continue  # the rest of a line that is too long to be one
            self._text += chunk
        if not self._text:
            raise StopIteration
        line, newline, self._text = self._text.partition(b"\n")
        self.number += 1
        self.cut_off = not newline
        return line[:LONGEST].decode("latin-1").replace("\0", " ") + "\n"

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        return next(self, "")


class _Trc(TRCReader):
    """python-can's TRC reader, which drops short lines without a count, made to raise on them."""

    def _parse_line(self, line: str) -> Message | None:
        if not line or line.startswith(";"):
            return None
        return self._parse_cols(tuple(line.split(maxsplit=self._num_columns)))


def _asc_start(head: str) -> float | None:
    """Return the time of t = 0 in seconds: the trigger block's, else the file's; None when no such line can be read."""
    lines = (
        re.search(rf"^{word}\s+\w{{3}}\s+(.+?)\s*$", head, re.I | re.M) for word in (r"begin\s+triggerblock", "date")
    )
    found = next((line for line in lines if line), None)
    if found is None:
        return None
    for form in ("%b %d %I:%M:%S.%f %p %Y", "%b %d %I:%M:%S %p %Y", "%b %d %H:%M:%S.%f %Y", "%b %d %H:%M:%S %Y"):
        try:
            return datetime.strptime(found[1], form).replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue
    return None


@dataclass(frozen=True, slots=True)
class Format:
    """How one format is read: python-can's reader, what lets it go on after a bad line, and where its buses begin."""

    name: str
    reader: Callable[..., Any]
    text: bool
    resume: tuple[str, ...] = ()  # lines that a new pass of the reader takes for the header
    first_bus: int = 0  # python-can's number of the first bus
    zoned: bool = False  # stamps are Unix times; the other formats write the recorder's wall clock


FORMATS: Final[dict[str, Format]] = {
    "asc": Format("Vector ASC", ASCReader, text=True, resume=("internal events logged\n",)),
    "trc": Format("PEAK TRC", _Trc, text=True, resume=(";\n",), first_bus=1),
    "csv": Format("python-can CSV", CSVReader, text=True, resume=("timestamp\n",), zoned=True),
    "blf": Format("Vector BLF", BLFReader, text=False),
}


class PythonCan(RecordingBase):
    """A recording that python-can reads; `format_name` is a key of FORMATS, `head` the beginning of the file."""

    def __init__(self, path: Path, format_name: str, head: bytes) -> None:
        super().__init__(path)
        if format_name == "asc" and re.search(rb"^base\s+\w+\s+timestamps\s+relative", head, re.I | re.M):
            # python-can takes such times for times since the start (its ASCReader never uses timestamps_format)
            raise RecordingError(f"{path}: its times count from line to line; save it again with absolute time stamps")
        self._format = FORMATS[format_name]
        self._source: Source | None = None
        self._offset_s = (_asc_start(head.decode("latin-1")) or 0.0) if format_name == "asc" else 0.0
        first = next(self._messages(count=False), None)
        if first is not None and (first.timestamp + self._offset_s) * 1e9 >= EPOCH_2000_NS:
            self.start_utc_ns = _stamp_ns(first.timestamp + self._offset_s)
            if not self._format.zoned:
                self.problem(f"{self._format.name} names no time zone: its times are taken as UTC")
        self.close()

    def batches(self) -> Iterator[Frames]:
        """Read from the start; t in ns since the first frame, non-decreasing; memory does not grow with the file."""
        self.counts = Counts()
        timeline: Timeline[Frames] = Timeline(self)
        batch: list[Message] = []
        for message in self._messages(count=True):
            batch.append(message)
            if len(batch) == BATCH:
                ready = timeline.push(self._frames(batch))
                batch = []
                if ready is not None:
                    yield ready
        for rest in (timeline.push(self._frames(batch)) if batch else None, timeline.finish()):
            if rest is not None:
                yield rest
        self.close()

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _messages(self, *, count: bool) -> Iterator[Message]:
        self.close()
        self._source = source = Source(self.path)
        if self._format.text:
            yield from self._text_messages(source, count=count)
        else:
            yield from self._binary_messages(source, count=count)
        if count and source.ended_by:
            self.truncate(source.ended_by)

    def _text_messages(self, source: Source, *, count: bool) -> Iterator[Message]:
        """Yield messages; a reader that raised goes on with the line after the one it raised on."""
        lines = _Lines(source)
        reader = self._format.reader(lines)
        first_bad = bad = 0
        reached = -1
        while lines.number > reached:  # a reader that raises without taking a line would do so for ever
            reached = lines.number
            try:
                for message in reader:
                    if _plausible(message):
                        yield message
                    else:
                        bad += 1
                        first_bad = first_bad or lines.number
                break
            except _DAMAGE:
                bad += 1
                first_bad = first_bad or lines.number
                if lines.cut_off and count:
                    self.truncate("the last line is cut off")
                lines.again(*self._format.resume)
        if count and bad:
            self.counts.bad_lines = bad
            self.problem(bad_lines(first_bad, bad, f"a {self._format.name} line"))

    def _binary_messages(self, source: Source, *, count: bool) -> Iterator[Message]:
        file = io.BufferedReader(_Raw(source))
        bad = 0
        at = -1
        try:
            reader = self._format.reader(file)
        except _DAMAGE as error:
            if count:
                self.truncate(f"the header of this {self._format.name} file is damaged ({_why(error)})")
            return
        while file.tell() != at:  # a container that cannot be read is left out as long as the next one can be found
            at = file.tell()
            try:
                for message in reader:
                    if _plausible(message):
                        yield message
                    else:
                        bad += 1
                break
            except _DAMAGE as error:
                bad += 1
                if count:
                    self.truncate(f"damaged near byte {file.tell()} ({_why(error)})")
        if count:
            self.counts.bad_lines = bad

    def _frames(self, messages: list[Message]) -> Frames:
        n = len(messages)
        width = 64 if any(len(m.data) > 8 for m in messages) else 8
        data = bytearray().join([bytes(m.data).ljust(width, b"\0") for m in messages])  # writable, as kernels want
        frames = Frames(
            np.array([_stamp_ns(m.timestamp + self._offset_s) for m in messages], np.int64),
            np.array([self.bus_number(self._bus_name(m.channel)) for m in messages], np.uint8),
            np.array([m.arbitration_id for m in messages], np.uint32),
            np.array([_flags(m) for m in messages], np.uint8),
            np.array([0 if m.is_remote_frame else len(m.data) for m in messages], np.uint8),
            np.frombuffer(data, np.uint8).reshape(n, width),
        )
        self.counts.frames += n
        self.counts.error_frames += int(np.count_nonzero(frames.flags & ERROR))
        self.counts.remote_frames += int(np.count_nonzero(frames.flags & REMOTE))
        return frames

    def _bus_name(self, channel: Any) -> str:
        if channel is None:
            return "can0"
        return f"can{max(channel - self._format.first_bus, 0)}" if isinstance(channel, int) else str(channel)


class _Raw(io.RawIOBase):
    """A source as the raw file that io.BufferedReader wants."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._at = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._at  # the position is asked for, never set

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]
        data = self._source.read(len(into))
        into[: len(data)] = data
        self._at += len(data)
        return len(data)


def _plausible(message: Message) -> bool:
    """Say whether a reader's message can be a frame at all: readers do not check what they read."""
    return (
        0 <= message.arbitration_id <= 0x1FFFFFFF
        and (message.is_extended_id or message.arbitration_id <= 0x7FF or message.is_error_frame)
        and len(message.data) <= (64 if message.is_fd else 8)
        and abs(message.timestamp) < 9e9
    )


def _stamp_ns(seconds: float) -> int:
    """Return ns, rounded to the microsecond that a float of today's Unix time resolves when it is one."""
    return round(seconds * 1e6) * 1000 if seconds * NS_PER_S >= EPOCH_2000_NS else round(seconds * NS_PER_S)


def _flags(message: Message) -> int:
    if message.is_error_frame:
        return ERROR
    return (
        EXTENDED * message.is_extended_id
        | REMOTE * message.is_remote_frame
        | FD * message.is_fd
        | BIT_RATE_SWITCH * message.bitrate_switch
        | ERROR_STATE * message.error_state_indicator
    )


def _why(error: BaseException) -> str:
    return str(error) or type(error).__name__
