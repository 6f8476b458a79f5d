"""Who stamps the time of packages."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """The time-stamping authority (RFC 3161), none by default: a contract with a neutral one must come first."""

    tsa_url: str = ""  # http:// or https://; "" asks nobody
    tsa_ca: str = ""  # PEM file of the authorities that are trusted; "" takes the token, and verifiers judge it
    timeout_s: float = 20.0  # for one answer, about 5 KB over a slow link
    retry_s: float = 60.0  # first wait after a failure, doubled each time …
    retry_cap_s: float = 3600.0  # … up to this

    def __post_init__(self) -> None:
        """Refuse an address that is none, and waits that are none."""
        if self.tsa_url and not self.tsa_url.startswith(("http://", "https://")):
            raise ValueError(f"tsa_url must begin with http:// or https://, not '{self.tsa_url}'")
        if not 0 < self.timeout_s <= 300 or not 0 < self.retry_s <= self.retry_cap_s:
            raise ValueError("timeout_s must be above 0 and at most 300, retry_s above 0 and at most retry_cap_s")
