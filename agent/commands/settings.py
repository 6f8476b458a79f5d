"""Whose commands this device heeds, and which; by default nobody's."""

import re
from dataclasses import dataclass
from typing import Final

from agent.commandmessages import ARGUMENTS

COMMANDS: Final = tuple(ARGUMENTS)
_KEY: Final = re.compile(r"[0-9a-f]{64}")
# Tables that no command ever changes: who may command, what the owner agrees to, which wires are read and how, what
# becomes of evidence and of the car's battery. Whoever needs another value there comes to the box.
NEVER: Final = (
    "commands",
    "consent",
    "drivers",
    "enrolment",
    "evidence",
    "crash",
    "incident",
    "store",
    "power",
    "vehicle",
)


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """What this device lets itself be told."""

    keys: tuple[str, ...] = ()  # of receivers, 64 hex digits each; none: every command is refused and counted
    # Commands that are heeded at all. These read and change nothing, and a clip waits for the owner's word besides;
    # what sends a question to the car (dtc), tells where it was (track) or changes the box is let in by its fitter.
    allow: tuple[str, ...] = ("clip", "doctor", "bundle")
    # Tables and keys that `config` may change: how patiently data are sent, and where to. No files, no passwords.
    config_keys: tuple[str, ...] = (
        *("sync", "upload", "budget"),
        *("broker.url", "broker.keepalive_s", "broker.in_flight", "broker.connect_timeout_s"),
    )
    per_day: int = 100  # commands answered in 24 h; more are ignored and counted, for every answer stays in the store

    def __post_init__(self) -> None:
        """Refuse keys that are none, commands that do not exist, and settings that no command may change."""
        for key in self.keys:
            if not _KEY.fullmatch(key):
                raise ValueError(f"keys: {key!r} is not a public key of 64 hex digits (receiver command-key prints it)")
        unknown = sorted(set(self.allow) - set(COMMANDS))
        if unknown:
            raise ValueError(f"allow: {', '.join(unknown)} is no command; there are: {', '.join(COMMANDS)}")
        never = sorted(key for key in self.config_keys if key.partition(".")[0] in NEVER)
        if never:
            raise ValueError(f"config_keys: {', '.join(never)} is never changed by command")
        if self.per_day < 1:
            raise ValueError("per_day must be 1 or more")

    def changeable(self, key: str) -> bool:
        """Say whether `config` may change a key, written table.key."""
        return any(key == let or key.startswith(f"{let}.") for let in self.config_keys)
