"""Where a box has its certificates from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class EnrolmentSettings:
    """The receiver that enrolled this box; `roadwitness enrol` writes this table."""

    receiver: str = ""  # https://host[:port]; "" renews no certificate
    ca: Path | None = None  # who vouches for that address; the system's authorities when absent
    key: Literal["ed25519", "p256"] = "ed25519"  # of the certificate, made anew with each

    def __post_init__(self) -> None:
        """Refuse an address that would go unencrypted."""
        if self.receiver:
            check_address(self.receiver)


def check_address(text: str) -> str:
    """Return the address of a receiver without a slash at its end; raise ValueError saying what to write."""
    from ipaddress import ip_address
    from urllib.parse import urlsplit

    parts = urlsplit(text)
    try:
        local = parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
    except ValueError:
        local = False
    if parts.username or parts.query or parts.path.strip("/") or not parts.hostname:
        raise ValueError(f"receiver {text!r}: not the address of a receiver; write https://host")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise ValueError(f"receiver {text!r}: would go unencrypted; write https://{parts.hostname}")
    return text.rstrip("/")
