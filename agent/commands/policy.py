"""Whether a command may be obeyed here at all, before anything is done for it: the owner's side of the door."""

from collections.abc import Callable
from typing import Final

from agent.commandmessages import Command
from agent.commands.settings import CommandSettings

# Why a command is refused, "" where it is not. What the law or the owner asks for is decided by such a function alone.
Policy = Callable[[Command], str]

# What gives away what only the owner may: command -> the purpose that must be agreed to.
SENSITIVE: Final = {"clip": "clip", "track": "track"}
PLACES: Final = "with_position"  # an argument that asks for exact places beside what else is asked for
NO_CONSENT: Final = "the owner does not agree to it, as far as this device knows ([consent], or the receiver's word)"


def by_settings(settings: CommandSettings, allows: Callable[[str], bool]) -> Policy:
    """Return the policy: what `agent.toml` allows, and sensitive commands only where the owner `allows` their purpose.

    A clip shows people and places, a track whereabouts; no insurer sees them of everyday driving without his word.
    """

    def refusal(command: Command) -> str:
        if command.command not in settings.allow:
            return f"'{command.command}' is not allowed on this device ([commands] allow)"
        if command.command in SENSITIVE and not allows(SENSITIVE[command.command]):
            return NO_CONSENT
        if command.arguments.get(PLACES) and not allows(SENSITIVE["track"]):
            return NO_CONSENT
        return ""

    return refusal
