"""Whose commands this device heeds, and which; by default nobody's."""

import re
from dataclasses import dataclass
from typing import Final

COMMANDS: Final = ("clip",)
_KEY: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """What this device lets itself be told."""

    keys: tuple[str, ...] = ()  # of receivers, 64 hex digits each; none: every command is refused and counted
    allow: tuple[str, ...] = ("clip",)  # commands that are heeded at all
    per_day: int = 100  # commands answered in 24 h; more are ignored and counted, for every answer stays in the store

    def __post_init__(self) -> None:
        """Refuse keys that are none and commands that do not exist."""
        for key in self.keys:
            if not _KEY.fullmatch(key):
                raise ValueError(f"keys: {key!r} is not a public key of 64 hex digits (receiver command-key prints it)")
        unknown = sorted(set(self.allow) - set(COMMANDS))
        if unknown:
            raise ValueError(f"allow: {', '.join(unknown)} is no command; there are: {', '.join(COMMANDS)}")
        if self.per_day < 1:
            raise ValueError("per_day must be 1 or more")
