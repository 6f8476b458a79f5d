"""Whether a command brings the arguments of its kind."""

from typing import Any

import msgspec

from agent.commandmessages import Command
from agent.known import known


def refusal(command: Command, kind: type[Any]) -> str:
    """Return why a command's arguments are none of `kind`, "" where they are."""
    try:
        msgspec.convert(command.arguments, known(kind))
    except msgspec.ValidationError as e:
        return f"its arguments are not those of {command.command}: {e}"
    return ""
