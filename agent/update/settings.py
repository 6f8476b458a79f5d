"""What `agent.toml` may say of updates."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UpdateSettings:
    """Where versions come from, what fetching them may cost, and how long one has to prove itself."""

    url: str = ""  # of the vendor's repository, https://…; "" never looks for updates
    metered_month_bytes: int = (
        300_000_000  # over a link that costs by the byte ([budget] metered): a version and a retry
    )
    trial_s: float = (
        600.0  # a new version is healthy within this time of a boot, or goes: kernels compile for 60 s on a Pi
    )
    steady_s: float = 60.0  # healthy for so long without a break; a crash loop turns every 2 s
    boots: int = 3  # boots in which a new version may try; a car that is driven 5 min at a time gives it that many

    def __post_init__(self) -> None:
        """Check the numbers; raise ValueError."""
        if self.url and not self.url.startswith(("https://", "http://127.0.0.1", "http://localhost")):
            raise ValueError("url must begin with https://")
        if not 0 < self.steady_s < self.trial_s:
            raise ValueError("steady_s must be above 0 and below trial_s")
        if self.boots < 1 or self.metered_month_bytes < 0:
            raise ValueError("boots must be 1 or more, metered_month_bytes 0 or more")
