"""The cameras rest while the car is parked: filming for a night would flatten its battery.

video/keep/rest     {"boot", "t_ns"}, by the agent, again and again while the car is parked; removed when it wakes

A word that is old counts for nothing: a dashcam whose agent has died films.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

from agent.clock import NS_PER_S
from agent.dashcam.segments import KEEP
from agent.known import known

FILE: Final = "rest"
SAY_NS: Final = 60 * NS_PER_S
OLD_NS: Final = 5 * SAY_NS


class Rest(msgspec.Struct, frozen=True):
    """What the agent says: since this moment of this boot, at least, the car is parked."""

    boot: str
    t_ns: int


class RestSaying:
    """The agent's side."""

    def __init__(self, folder: Path, boot: str) -> None:
        self._path = folder / KEEP / FILE
        self._boot = boot
        self._said_ns: int | None = None
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)  # of an earlier life

    def say(self, now_ns: int, parked: bool) -> None:
        """Let the cameras rest, or film; a folder that is not there needs neither."""
        if parked and (self._said_ns is None or now_ns - self._said_ns >= SAY_NS):
            part = self._path.with_name(f".{FILE}")
            with contextlib.suppress(OSError):
                part.write_bytes(msgspec.json.encode(Rest(self._boot, now_ns)))
                os.chmod(part, 0o640)
                part.replace(self._path)
            self._said_ns = now_ns
        elif not parked and self._said_ns is not None:
            self._said_ns = None
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def may_rest(folder: Path, boot: str, now_ns: int) -> bool:
    """Say whether the car is parked, as far as the dashcam was told lately."""
    try:
        said = msgspec.json.decode((folder / KEEP / FILE).read_bytes(), type=known(Rest))
    except (OSError, msgspec.DecodeError):
        return False
    return said.boot == boot and abs(now_ns - said.t_ns) <= OLD_NS
