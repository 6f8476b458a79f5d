"""Whether a command may be obeyed here at all, before anything is done for it: the owner's side of the door."""

from collections.abc import Callable
from typing import Final

from agent.commandmessages import Command
from agent.commands.settings import CommandSettings

# Why a command is refused, "" where it is not. What the law or the owner asks for is decided by such a function alone.
Policy = Callable[[Command], str]

SENSITIVE: Final = frozenset({"clip"})  # gives away what only the owner may
NO_CONSENT: Final = "the owner's consent is not recorded on this device ([commands] consent)"


def by_settings(settings: CommandSettings) -> Policy:
    """Return the policy of `agent.toml`: what it allows, and sensitive commands only with the owner's consent."""

    def refusal(command: Command) -> str:
        if command.command not in settings.allow:
            return f"'{command.command}' is not allowed on this device ([commands] allow)"
        if command.command in SENSITIVE and not settings.consent:
            return NO_CONSENT
        return ""

    return refusal
