"""`[jt808]` of receiver.toml: the platform, and the terminals that are told to it. Off unless switched on."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from agent.clock import NS_PER_S

Datum = Literal["wgs84", "gcj02"]
ALWAYS_NS: Final = 2**62


@dataclass(frozen=True, slots=True)
class TerminalSettings:
    """One device as the platform knows it. Without `consent_from` nothing of it is sent."""

    phone: str  # the terminal's number in every header: up to 20 digits
    terminal: str  # its id at the platform: up to 30 characters
    plate: str  # or the VIN while it has no plate (plate_colour 0)
    plate_colour: int = 1  # JT/T 697.7: 1 blue, 2 yellow, 3 black, 4 white, 5 green, 9 other; 0 no plate yet
    imei: str = ""
    consent_from: datetime | None = None  # the owner agreed to this use from then on …
    consent_until: datetime | None = None  # … until then; after it the terminal is signed off at the platform

    def __post_init__(self) -> None:
        """Check what the standard bounds; raise ValueError."""
        if not (self.phone.isascii() and self.phone.isdigit() and len(self.phone) <= 20):
            raise ValueError(f"phone {self.phone!r}: write up to 20 digits")
        for name, text, most in (("terminal", self.terminal, 30), ("imei", self.imei, 15)):
            if not (text.isascii() and text.isprintable() and len(text) <= most):
                raise ValueError(f"{name} {text!r}: write up to {most} ASCII characters")
        if not self.terminal or not self.plate or len(self.plate) > 30:
            raise ValueError("terminal and plate must be given, plate in up to 30 characters")
        if not _in_gbk(self.plate):
            raise ValueError(f"plate {self.plate!r}: cannot be written in GBK, which the standard asks for")
        if not 0 <= self.plate_colour <= 255:
            raise ValueError("plate_colour must be 0 to 255")
        if any(t is not None and t.tzinfo is None for t in (self.consent_from, self.consent_until)):
            raise ValueError("consent_from and consent_until need a time zone, e.g. 2026-11-01T00:00:00+08:00")

    @property
    def allowed(self) -> tuple[int, int]:
        """From when until when (UTC ns, the end excluded) positions may be told; an empty span without consent."""
        if self.consent_from is None:
            return 0, 0
        until = ALWAYS_NS if self.consent_until is None else _ns(self.consent_until)
        return _ns(self.consent_from), until


@dataclass(frozen=True, slots=True)
class Jt808Settings:
    """Where the platform is, and how patiently it is told."""

    enabled: bool = False
    host: str = ""
    port: int = 0
    tls: bool = False
    ca: str = ""  # PEM; the system's authorities when empty
    province: int = 0  # GB/T 2260, first two digits; 0: the platform's default
    city: int = 0  # the other four
    maker: str = ""  # up to 11 characters
    model: str = "roadwitness"  # up to 30
    datum: Datum = "wgs84"  # of what is sent; gcj02 sets status bit 5
    poll_s: float = 5.0  # between looks into the database
    heartbeat_s: float = 60.0  # a link that sends nothing says so
    connect_timeout_s: float = 10.0
    answer_timeout_s: float = 10.0  # first wait; the n-th repetition waits n times as long as before it
    retransmissions: int = 3
    back_off_s: float = 5.0  # after a broken link; doubles
    back_off_most_s: float = 600.0  # up to this; at once after a refusal
    messages_per_s: float = 50.0  # all terminals together
    fresh_s: float = 60.0  # a live position older than that is not told as live
    terminals: dict[str, TerminalSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the numbers and that whoever is switched on says where to; raise ValueError."""
        if self.enabled and not (self.host and 0 < self.port < 65536):
            raise ValueError("host and port of the platform must be given when enabled")
        if not (0 <= self.province <= 65535 and 0 <= self.city <= 65535):
            raise ValueError("province and city must be 0 to 65535")
        for name, text, most in (("maker", self.maker, 11), ("model", self.model, 30)):
            if not (text.isascii() and text.isprintable() and len(text) <= most):
                raise ValueError(f"{name} {text!r}: write up to {most} ASCII characters")
        spans = (self.poll_s, self.heartbeat_s, self.connect_timeout_s, self.answer_timeout_s, self.back_off_s)
        if not min(*spans, self.back_off_most_s, self.messages_per_s, self.fresh_s) > 0 or self.retransmissions < 0:
            raise ValueError("seconds and messages_per_s must be above 0, retransmissions not below")
        phones = [t.phone.lstrip("0") for t in self.terminals.values()]
        if len(set(phones)) != len(phones):
            raise ValueError("two terminals have one phone: the platform would take them for one")


def _ns(moment: datetime) -> int:
    return round(moment.timestamp() * 1000) * (NS_PER_S // 1000)


def _in_gbk(text: str) -> bool:
    try:
        text.encode("gbk")
    except UnicodeEncodeError:
        return False
    return True
