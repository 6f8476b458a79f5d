"""Asking a box: arguments are checked here as the box will, so that nobody waits for a refusal of his own making."""

from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from agent.commandmessages import ARGUMENTS
from agent.errors import RoadwitnessError, near_names
from agent.known import known
from receiver import commands

LIFE_S: Final = 72 * 3600.0  # as for a clip: a car may stand for a weekend


def ask(
    engine: Engine,
    key: Ed25519PrivateKey,
    device: str,
    name: str,
    arguments: dict[str, Any],
    *,
    reason: str,
    actor: str,
    now_ns: int,
    life_s: float = LIFE_S,
) -> str:
    """Sign and keep a command, as receiver.commands.issue; return its id. Raise RoadwitnessError with what is wrong."""
    if name not in ARGUMENTS:
        raise RoadwitnessError(f"there is no command {name!r}{near_names(name, ARGUMENTS)}")
    try:
        msgspec.convert(arguments, known(ARGUMENTS[name]))
    except msgspec.ValidationError as e:
        raise RoadwitnessError(f"command {name}: {e}") from e
    return commands.issue(
        engine, key, device, name, arguments, reason=reason, actor=actor, life_s=life_s, now_ns=now_ns
    )
