"""The dashcam is asked to end, so that systemd starts it anew: it runs as another user, whom the agent cannot signal.

video/keep/restart     the id of the command, by the agent; the dashcam that starts removes it, and that is its answer
"""

import contextlib
import os
from pathlib import Path
from typing import Final

from agent.dashcam.segments import KEEP
from agent.durable import sync_folder

FILE: Final = "restart"


def ask(folder: Path, name: str) -> None:
    """Ask the dashcam of a video folder to start anew; raise OSError."""
    part = folder / KEEP / f".{FILE}"
    part.write_text(name, encoding="ascii")
    os.chmod(part, 0o640)
    part.replace(folder / KEEP / FILE)
    sync_folder(folder / KEEP)


def withdraw(folder: Path) -> None:
    """Ask no more; a file that cannot be removed stays until the dashcam starts."""
    with contextlib.suppress(OSError):
        (folder / KEEP / FILE).unlink(missing_ok=True)


def asked(folder: Path) -> str:
    """Return by which command a new start is asked for, "" where none is."""
    try:
        return (folder / KEEP / FILE).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


class Restarting:
    """The dashcam's side: what is asked for when it starts is answered by that start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        withdraw(folder)
        self._answered = asked(folder)  # where the file could not be removed

    def wanted(self) -> bool:
        """Say whether the process should end."""
        return asked(self._folder) not in ("", self._answered)
