"""What is played on the wires: CAN frames and the samples decoded from them, from a drive or from recordings."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.blocks import EXTENDED, Block, Frames, empty_block, join_blocks
from agent.channels import BY_NUMBER
from agent.clock import NS_PER_S
from drivers.decode.decode import Decode
from drivers.decode.plan import Entry
from drivers.decode.profile import IdFilter, Profile
from drivers.replay import Replay
from sim.drive import BUS, Drive
from sim.encode import take

AHEAD_NS: Final = 10 * NS_PER_S  # read ahead by so much: also what `channels` and `buses` are known from
BATCH: Final = 1024
OF_THE_BOX: Final = ("Gnss.", "Imu.")  # channels of the box's own sensors, which no car's bus carries

Batch = tuple[list[Frames], Block]


class Tape:
    """Frames and samples in order of time, t in ns since the drive or the recording began."""

    def __init__(self, batches: Iterator[Batch], buses: list[str], decode: Decode) -> None:
        self.buses = buses
        self._decode = decode
        self._batches = batches
        self._frames: list[Frames] = []
        self._blocks: list[Block] = []
        self._reached_ns = -1
        self._read_all = False
        self._own: dict[str, list[IdFilter]] = {}
        self._pull(0)
        self.channels = {int(c) for block in self._blocks for c in np.unique(block["channel"])}
        self.start_buses = sorted({buses[b] for f in self._frames for b in np.unique(f.bus).tolist()})

    @property
    def ended(self) -> bool:
        """Whether everything has been taken."""
        return self._read_all and not self._frames and not self._blocks

    @property
    def profile(self) -> Profile | None:
        """The profile that explains the frames."""
        return self._decode.profile

    def take(self, until_ns: int) -> Batch:
        """Return the frames and samples up to and including `until_ns`, and forget them."""
        self._pull(until_ns)
        frames, self._frames = _split_frames(self._frames, until_ns)
        now = [b[: np.searchsorted(b["t"], until_ns, side="right")] for b in self._blocks]
        self._blocks = [b[len(n) :] for b, n in zip(self._blocks, now, strict=True) if len(n) < len(b)]
        return frames, join_blocks(now)

    def close(self) -> None:
        """Release the recordings."""
        self._read_all = True
        close = getattr(self._batches, "close", None)
        if close is not None:
            close()

    def of_the_car(self, bus: str, frames: Frames) -> Frames:
        """Leave out the messages of `bus` from which the profile reads nothing but the box's own sensors."""
        if bus not in self._own:
            self._own[bus] = _box_messages(self.profile, bus) if self.profile else []
        extended = frames.flags & EXTENDED != 0
        keep = np.ones(len(frames.t), np.bool_)
        for f in self._own[bus]:
            keep &= (frames.id & np.uint32(f.mask) != np.uint32(f.id & f.mask)) | (extended != f.extended)
        return frames if keep.all() else _chosen(frames, np.flatnonzero(keep))

    def _pull(self, until_ns: int) -> None:
        while not self._read_all and self._reached_ns <= until_ns + AHEAD_NS:
            batch = next(self._batches, None)
            if batch is None:
                self._read_all = True
                return
            frames, block = batch
            for each in [f.t for f in frames if len(f.t)] + ([block["t"]] if len(block) else []):
                self._reached_ns = max(self._reached_ns, int(each[-1]))
            self._frames += [f for f in frames if len(f.t)]
            self._blocks += [block] if len(block) else []


def drive_tape(drive: Drive, folder: Path, profile: Profile, from_s: float = 0.0) -> Tape:
    """Play a simulated drive from `from_s` of it on, which is the tape's t = 0; its frames are those of the drive."""
    decode = Decode(profile, folder)
    from_ns = round(from_s * NS_PER_S)

    def batches() -> Iterator[Batch]:
        for first in range(int(np.searchsorted(drive.frames.t, from_ns)), len(drive.frames.t), BATCH):
            part = take(drive.frames, slice(first, first + BATCH))
            part = part._replace(t=part.t - from_ns)
            yield [part], decode(part, [BUS])

    return Tape(batches(), [BUS], decode)


def recorded_tape(paths: list[Path], folder: Path, profile: Profile | None) -> Tape:
    """Play recordings merged by time; without `profile` the first frames choose one.

    Raises RecordingError when one cannot be read at all.
    """
    decode = Decode(profile, folder)
    buses: list[str] = []
    captured: list[Frames] = []

    def keep(frames: Frames, names: list[str]) -> Block:
        captured.append(frames)
        buses[:] = names
        return decode(frames, names)

    source = Replay(paths, keep)
    source.open()

    def batches() -> Iterator[Batch]:
        try:
            while (block := source.read(0.0)) is not None:
                frames = list(captured)
                captured.clear()
                yield frames, block
            if captured:
                yield captured, empty_block()
        finally:
            source.close()

    return Tape(batches(), buses, decode)


def by_bus(frames: list[Frames], buses: list[str]) -> dict[str, Frames]:
    """Join frames and part them by the name of their bus."""
    if not frames:
        return {}
    width = max(f.data.shape[1] for f in frames)
    padded = [f._replace(data=np.pad(f.data, ((0, 0), (0, width - f.data.shape[1])))) for f in frames]
    joined = _joined(padded)
    return {buses[bus]: _chosen(joined, np.flatnonzero(joined.bus == bus)) for bus in np.unique(joined.bus).tolist()}


def repeated(frames: Frames, times: int) -> Frames:
    """Return each frame `times` over, one after the other."""
    return frames if times == 1 else _chosen(frames, np.repeat(np.arange(len(frames.t)), times))


def _box_messages(profile: Profile, bus: str) -> list[IdFilter]:
    def is_the_boxs(entry: Entry) -> bool:
        return bool(entry.takes) and all(BY_NUMBER[t.channel].name.startswith(OF_THE_BOX) for t in entry.takes)

    return replace(profile, entries=tuple(e for e in profile.entries if is_the_boxs(e)), ids=()).id_filters(bus)


def _split_frames(kept: list[Frames], until_ns: int) -> tuple[list[Frames], list[Frames]]:
    now: list[Frames] = []
    later: list[Frames] = []
    for frames in kept:
        n = int(np.searchsorted(frames.t, until_ns, side="right"))
        if n:
            now.append(take(frames, slice(0, n)))
        if n < len(frames.t):
            later.append(take(frames, slice(n, None)))
    return now, later


def _joined(parts: list[Frames]) -> Frames:
    if len(parts) == 1:
        return parts[0]
    return Frames(
        np.concatenate([f.t for f in parts]),
        np.concatenate([f.bus for f in parts]),
        np.concatenate([f.id for f in parts]),
        np.concatenate([f.flags for f in parts]),
        np.concatenate([f.len for f in parts]),
        np.concatenate([f.data for f in parts]),
    )


def _chosen(frames: Frames, rows: npt.NDArray[np.intp]) -> Frames:
    return Frames(
        frames.t[rows], frames.bus[rows], frames.id[rows], frames.flags[rows], frames.len[rows], frames.data[rows]
    )
