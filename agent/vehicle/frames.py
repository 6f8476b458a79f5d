"""Where frames come from: a live bus or a recording, read by the same code."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

from agent.blocks import Frames
from agent.clock import NS_PER_S, monotonic_ns, wall_ns
from agent.errors import RecordingError
from agent.vehicle.devices import Check, Device
from drivers.can.link import Link, link_of
from drivers.can.wire import CanSettings, Wire, make_wire
from drivers.recording import open_recording

READ_S: Final = 0.25  # so that a view is fresh and Ctrl-C heard on a silent bus
_LOST: Final = ("lost_in_queue", "error_fifo_overflow")
_SPOILT: Final = ("garbage", "bad_lines", "refused")
_ERRORS: Final = ("error_frames", "error_protocol", "error_bus_error", "error_bus_off")


class FrameSource(Protocol):
    """Frames in batches."""

    name: str
    live: bool

    @property
    def origin_ns(self) -> int | None:
        """The UTC of t = 0 in ns since 1970; None where nobody knows."""

    def batches(self, seconds: float | None) -> Iterator[tuple[Frames, list[str]]]:
        """Yield (frames, names of the buses) for so long; live also nothing at all, four times a second."""

    def bit_rate(self, bus: str) -> int | None:
        """Return the bit rate of a bus where the wire knows it."""

    def link(self) -> Link | None:
        """Return what the kernel says about the interface, None for anything else."""

    @property
    def counts(self) -> dict[str, int]:
        """What was odd, by kind; 'lost' are frames that were on the bus and could not be read."""

    @property
    def notes(self) -> list[str]:
        """What a technician should know, a sentence each."""

    def close(self) -> None:
        """Release it."""


class RecordedFrames:
    """A recording of CAN frames."""

    live = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._recording = open_recording(path)
        if self._recording.kind != "frames":
            raise RecordingError(f"{path}: holds samples, no CAN frames; give a recording of a bus")

    @property
    def origin_ns(self) -> int | None:
        return self._recording.start_utc_ns

    def batches(self, seconds: float | None) -> Iterator[tuple[Frames, list[str]]]:
        end_ns = None if seconds is None else round(seconds * NS_PER_S)
        for batch in self._recording.batches():
            assert isinstance(batch, Frames)
            if end_ns is not None and int(batch.t[-1]) > end_ns:
                n = int(batch.t.searchsorted(end_ns, side="right"))
                yield Frames(*(column[:n] for column in batch)), self._recording.buses  # type: ignore[arg-type]
                return
            yield batch, self._recording.buses

    def bit_rate(self, bus: str) -> int | None:
        return None

    def link(self) -> Link | None:
        return None

    @property
    def counts(self) -> dict[str, int]:
        c = self._recording.counts
        told = {"bad_lines": c.bad_lines, "error_frames": c.error_frames, "bad_times": c.bad_times}
        return {"lost": 0, **{name: n for name, n in told.items() if n}}

    @property
    def notes(self) -> list[str]:
        return list(self._recording.problems)

    def close(self) -> None:
        self._recording.close()


class LiveFrames:
    """A bus that is listened to; `check` raises when it is no longer ours."""

    live = True

    def __init__(self, device: Device, check: Check) -> None:
        assert isinstance(device.settings, CanSettings)
        self.name = device.name
        self._settings = device.settings
        self._check = check
        self._wire: Wire = make_wire(device.settings)
        self._stopped = threading.Event()
        self._wire.open([])
        self._origin_ns = wall_ns() - monotonic_ns()

    @property
    def origin_ns(self) -> int | None:
        return self._origin_ns

    def batches(self, seconds: float | None) -> Iterator[tuple[Frames, list[str]]]:
        buses = [self._settings.bus_name]
        end_ns = None if seconds is None else monotonic_ns() + round(seconds * NS_PER_S)
        while not self._stopped.is_set():
            left_s = READ_S if end_ns is None else min(READ_S, (end_ns - monotonic_ns()) / NS_PER_S)
            if left_s <= 0:
                return
            self._check()
            frames = self._wire.read(left_s)
            yield Frames(*(column.copy() for column in frames)), buses  # type: ignore[arg-type]

    def stop(self) -> None:
        """End `batches` soon; any thread or signal may call it."""
        self._stopped.set()

    def bit_rate(self, bus: str) -> int | None:
        return self._wire.bit_rate

    def link(self) -> Link | None:
        return link_of(self._settings.channel) if self._settings.interface == "socketcan" else None

    @property
    def counts(self) -> dict[str, int]:
        counts = self._wire.counts
        kept = {name: counts[name] for name in (*_SPOILT, *_ERRORS) if counts.get(name)}
        return {"lost": sum(counts.get(name, 0) for name in _LOST), **kept}

    @property
    def notes(self) -> list[str]:
        return list(self._wire.notes)

    def close(self) -> None:
        self._wire.close()


@contextmanager
def until_interrupted(source: FrameSource) -> Iterator[None]:
    """Let Ctrl-C end a live source's frames instead of the program, so that what was seen is still told."""
    if not isinstance(source, LiveFrames) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> Any:
        source.stop()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
