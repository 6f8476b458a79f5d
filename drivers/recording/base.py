"""What every recording is: where it is, what has been counted in it, and what a person should know about it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

from agent.blocks import Block, Frames

MOST_PROBLEMS: Final = 20  # a list that a person reads; the counts say how many there were
MOST_BUSES: Final = 250  # Frames.bus is one byte; no logger records more buses


@dataclass(slots=True)
class Counts:
    """What was found so far; grows while the recording is read."""

    frames: int = 0  # accepted, of every kind
    samples: int = 0
    bad_lines: int = 0  # lines or objects that are not a frame or a sample
    error_frames: int = 0
    remote_frames: int = 0
    time_steps: int = 0  # the recorder's clock was set while it recorded
    bad_times: int = 0  # single damaged time stamps, replaced by the time of the frame before
    out_of_range: int = 0  # samples outside their channel's plausible range, or not finite
    truncated: bool = False  # the file ends too early
    unknown_channels: dict[str, int] = field(default_factory=dict)


class Recording(Protocol):
    """A recorded drive: CAN frames, or samples of channels.

    `start_utc_ns` is the absolute time of t = 0 as the file says, in ns since 1970, or None when the file has only
    relative times (stamps before 2000-01-01 are a clock that was never set). `buses` grows while reading.
    """

    kind: Literal["frames", "samples"]
    path: Path
    buses: list[str]
    start_utc_ns: int | None
    counts: Counts
    problems: list[str]

    def batches(self) -> Iterator[Frames | Block]:
        """Read from the start; t in ns since the first frame, non-decreasing; memory does not grow with the file."""

    def close(self) -> None:
        """Release the file; closing twice is fine."""


class RecordingBase:
    """The bookkeeping that the readers of all formats share."""

    kind: Literal["frames", "samples"] = "frames"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.buses: list[str] = []
        self.start_utc_ns: int | None = None
        self.counts = Counts()
        self.problems: list[str] = []

    def problem(self, sentence: str) -> None:
        """Keep one plain sentence for a person, the first MOST_PROBLEMS of them."""
        if len(self.problems) < MOST_PROBLEMS and sentence not in self.problems:
            self.problems.append(sentence)

    def bus_number(self, name: str) -> int:
        """Return the number of the bus `name`; buses beyond MOST_BUSES share the last number."""
        if name not in self.buses:
            if len(self.buses) >= MOST_BUSES:
                self.problem(f"more than {MOST_BUSES} buses: the rest are taken as {self.buses[-1]}")
                return len(self.buses) - 1
            self.buses.append(name)
        return self.buses.index(name)

    def truncate(self, why: str) -> None:
        """Note that the file ends too early and why."""
        self.counts.truncated = True
        self.problem(f"{why}; what was read before it is used")

    def close(self) -> None:
        """Release the file; closing twice is fine."""


def bad_lines(first: int, count: int, what: str) -> str:
    """Say in one sentence where the first line is that is not `what`, and how many more there are."""
    more = f" ({count - 1} more)" if count > 1 else ""
    return f"line {first}: not {what}{more}"
