"""What the crash detector judges by."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CrashSettings:
    """Thresholds of a crash; sources in docs/sources.md."""

    trigger_kmh: float = (
        8.0  # velocity change within 150 ms from which it is a crash (49 CFR 563.5, GB 39732-2020 4.1.1)
    )
