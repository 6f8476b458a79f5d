"""What a feed's thread notes of its device, for people who ask how it does: read by other threads, written by one."""

from dataclasses import dataclass, field
from typing import Literal

FeedState = Literal["opening", "open", "lost", "closed", "ended"]


@dataclass(slots=True)
class Account:
    """Each field is replaced as a whole, never changed in place; times are monotonic ns."""

    state: FeedState
    since_ns: int
    error: str = ""  # the last one; kept after the device has come back
    error_ns: int | None = None
    counts: dict[str, int] = field(default_factory=dict)
    samples: int = 0
    newest_ns: int | None = None  # when samples came last

    def note(self, state: FeedState, now_ns: int) -> None:
        """Note a state, and since when it stands."""
        if state != self.state:
            self.since_ns, self.state = now_ns, state

    def failed(self, error: str, now_ns: int) -> None:
        """Note the last error, in one line."""
        self.error, self.error_ns = error, now_ns
        self.note("lost", now_ns)
