"""What `agent.toml` may say of files and of what sending may cost."""

from dataclasses import dataclass, field
from typing import Final

from agent.filemessages import MAX_CHUNK

LEAST_CHUNK: Final = 4096  # its topic and checksum, 200 bytes, are 5 % of it
MOST_WINDOW: Final = 12  # beside it a crash still finds room among the broker's 16 in flight (BrokerSettings)
_MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class UploadSettings:
    """How the files of packages are sent."""

    window: int = 12  # most chunks without an answer; how much is on the road is measured
    chunk_bytes: int = MAX_CHUNK  # most; a slow link gets smaller ones …
    chunk_s: float = 0.5  # … that take no longer than this or a round trip, so that a crash waits for little
    max_bytes_per_s: int = 0  # of files, all together; 0: as fast as the link is
    answer_s: float = 30.0  # wait for the receiver, from the last sign of progress; then ask anew what it holds
    busy_s: float = 60.0  # wait when the receiver can take nothing, e.g. because its disk is full
    refused_s: float = 600.0  # wait after a file was refused, or cannot be read here

    def __post_init__(self) -> None:
        """Check the numbers; raise ValueError."""
        if not 1 <= self.window <= MOST_WINDOW:
            raise ValueError(f"window must be 1 to {MOST_WINDOW}")
        if not LEAST_CHUNK <= self.chunk_bytes <= MAX_CHUNK:
            raise ValueError(f"chunk_bytes must be {LEAST_CHUNK} to {MAX_CHUNK}")
        if self.max_bytes_per_s and self.max_bytes_per_s < LEAST_CHUNK:
            raise ValueError(f"max_bytes_per_s must be 0, or {LEAST_CHUNK} and more")
        if min(self.chunk_s, self.answer_s, self.busy_s, self.refused_s) <= 0:
            raise ValueError("times must be more than 0")


@dataclass(frozen=True, slots=True)
class Allowance:
    """Bytes by lane and, for files, by class; 0 is no limit. Crashes are counted and never stopped."""

    reply: int = 0
    event: int = 0
    trip: int = 0
    health: int = 0
    clip: int = 0
    track: int = 0
    records: int = 0  # files of a package that are not video
    video: int = 0

    def __post_init__(self) -> None:
        """Check the numbers; raise ValueError."""
        if any(getattr(self, name) < 0 for name in self.__slots__):
            raise ValueError("budgets must be 0 (no limit) or more bytes")


def _a_day() -> Allowance:
    # A trip hour costs some 20 KB with its track (benchmarks sync); ten driven hours stay far below these.
    return Allowance(health=2 * _MB, track=10 * _MB, records=50 * _MB, video=300 * _MB)


def _a_month() -> Allowance:
    return Allowance(health=20 * _MB, track=100 * _MB, records=500 * _MB, video=2000 * _MB)


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """What sending may cost, in bytes by UTC day and month; what is over it waits for the next."""

    metered: bool = True  # the link costs by the byte; false: bytes are counted, and nothing is held back
    day: Allowance = field(default_factory=_a_day)
    month: Allowance = field(default_factory=_a_month)
