"""Which clips are made beside those of crashes, and how many."""

from dataclasses import dataclass
from typing import Final

REPORT: Final = "video.json"  # in a package: what the cameras filmed; written last of all that comes of them


@dataclass(frozen=True, slots=True)
class ClipSettings:
    """What the agent does with the dashcam's video."""

    severe_events: bool = False  # keep a clip of severe harsh braking and cornering too; needs the owner's consent
    severe_before_s: float = 8.0  # of such a clip, before the event …
    severe_after_s: float = 4.0  # … and after it
    asked_per_day: int = 10  # clips without a crash, by rule or by command; the next day brings as many
    asked_longest_s: float = 60.0  # of one that is asked for by command

    def __post_init__(self) -> None:
        """Refuse lengths that are none."""
        if min(self.severe_before_s, self.severe_after_s, self.asked_per_day) < 0 or self.asked_longest_s <= 0:
            raise ValueError("lengths and numbers of clips must be 0 or more, asked_longest_s above 0")
