"""Who is told what, as `[webhooks.NAME]` in `receiver.toml` says it."""

from dataclasses import dataclass, field
from typing import Final

from receiver.webhooks.posting import check_address

TYPES: Final = ("claim.opened", "claim.moved", "package.whole", "score.published", "device.lost")


@dataclass(frozen=True, slots=True)
class HookSettings:
    """One address and what it is told."""

    url: str  # https://…; http:// only to this machine
    secret_file: str  # at least 16 bytes: signs each post
    events: list[str] = field(default_factory=lambda: list(TYPES))
    longest_h: float = 72.0  # how long a post is tried again
    lost_after_h: float = 72.0  # a device that nobody heard for so long is told as lost

    def __post_init__(self) -> None:
        """Check what can be checked without a network; raise ValueError."""
        check_address(self.url, "webhooks url")
        if not self.secret_file:
            raise ValueError("webhooks secret_file is needed: posts are signed")
        unknown = [e for e in self.events if e not in TYPES]
        if unknown or not self.events:
            raise ValueError(f"webhooks events {unknown}: known are {', '.join(TYPES)}")
        if not 0 < self.longest_h <= 24 * 30 or not self.lost_after_h > 0:
            raise ValueError("webhooks longest_h must be above 0 and at most 720, lost_after_h above 0")
