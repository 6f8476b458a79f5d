"""Time and speed for the overlay: the agent knows them, the dashcam writes them into the picture.

video/keep/now      {"boot", "t_ns", "utc_minus_monotonic_ns", "speed_mps"}, by the agent, once a second, only while a
                    camera asks for it; it is not made durable, because it is old a second later
"""

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

from agent.clock import NS_PER_S, iso_utc
from agent.dashcam.segments import KEEP
from agent.known import known

FILE: Final = "now"
OLD_NS: Final = 3 * NS_PER_S  # what was said longer ago is not shown


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent says about this moment; None is not known."""

    boot: str
    t_ns: int
    utc_minus_monotonic_ns: int | None
    speed_mps: float | None


def write_now(folder: Path, now: Now) -> None:
    """Say it; raise OSError."""
    path = folder / KEEP / FILE
    part = path.with_name(f".{FILE}")
    part.write_bytes(msgspec.json.encode(now))
    os.chmod(part, 0o640)
    part.replace(path)


class Shown:
    """The line for the picture, read again once a second."""

    def __init__(self, folder: Path, boot: str) -> None:
        self._path = folder / KEEP / FILE
        self._boot = boot
        self._now: Now | None = None
        self._read_ns = 0

    def line(self, t_ns: int) -> str:
        """Return time and speed at `t_ns`; the seconds since the boot where UTC is not known."""
        if t_ns - self._read_ns >= NS_PER_S:
            self._read_ns = t_ns
            self._now = None
            with contextlib.suppress(OSError, msgspec.DecodeError):
                self._now = msgspec.json.decode(self._path.read_bytes(), type=known(Now))
        now = self._now
        if now is None or now.boot != self._boot or abs(t_ns - now.t_ns) > OLD_NS:
            return f"{t_ns / NS_PER_S:.3f} s since start  --- km/h"
        offset_ns = now.utc_minus_monotonic_ns
        when = f"{t_ns / NS_PER_S:.3f} s since start" if offset_ns is None else _utc(t_ns + offset_ns)
        speed = "---" if now.speed_mps is None else f"{now.speed_mps * 3.6:.0f}"
        return f"{when}  {speed} km/h"


def _utc(utc_ns: int) -> str:
    return iso_utc(utc_ns).replace("T", " ").replace("Z", " UTC")
