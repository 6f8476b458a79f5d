"""Who is told of renewals that are due, as `receiver.toml` says it."""

from dataclasses import dataclass, field
from typing import Literal

from receiver.webhooks.posting import check_address, here


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Where notices are posted; off without an address."""

    url: str = ""  # https://…; http:// only to this machine
    secret_file: str = ""  # at least 16 bytes: signs each notice


@dataclass(frozen=True, slots=True)
class EmailSettings:
    """By which server notices are mailed; off without a host."""

    host: str = ""
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"  # none: only to this machine
    sender: str = ""
    to: list[str] = field(default_factory=list)
    user: str = ""
    password_file: str = ""


@dataclass(frozen=True, slots=True)
class NoticeSettings:
    """Who is told of renewals that are due."""

    schedule: str = "V2"  # receiver/renewals/schedules.toml
    webhook: WebhookSettings = field(default_factory=WebhookSettings)
    email: EmailSettings = field(default_factory=EmailSettings)

    def __post_init__(self) -> None:
        """Check what can be checked without a network; raise ValueError."""
        if self.webhook.url:
            check_address(self.webhook.url)
            if not self.webhook.secret_file:
                raise ValueError("webhook.secret_file is needed: notices are signed")
        if self.email.host:
            if not self.email.sender or not self.email.to:
                raise ValueError("email.sender and email.to are needed")
            if self.email.security == "none" and not here(self.email.host):
                raise ValueError("email.security may be none only to this machine")
            if not 0 < self.email.port < 65536 or any(
                "\n" in a or "\r" in a for a in (self.email.sender, *self.email.to)
            ):
                raise ValueError("email.port, email.sender or email.to is not valid")
