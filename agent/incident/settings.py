"""How much is kept around a collision, and for how long."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IncidentSettings:
    """What a package holds, how many there may be, and when the oldest go."""

    video_before_s: float = 15.0  # wanted of the cameras …
    video_after_s: float = 10.0  # … around time zero
    per_hour: int = 10  # crashes that get a package; later ones of the same hour only their record
    acknowledged_days: float = 90.0  # packages that the receiver holds; others stay for ever
    acknowledged_bytes: int = 2 * 1024**3  # of these, all together; the oldest go first

    def __post_init__(self) -> None:
        """Refuse what would keep nothing."""
        if min(self.video_before_s, self.video_after_s, self.acknowledged_days, self.acknowledged_bytes) < 0:
            raise ValueError("durations, ages and sizes must be 0 or more")
        if self.per_hour < 1:
            raise ValueError("per_hour must be 1 or more: a crash without a package proves nothing")
