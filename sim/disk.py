"""A disk that is full: fill the small file system on which an agent's store lies, and free it again."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.errors import ConfigError

BALLAST: Final = "roadwitness-ballast"
MOST_BYTES: Final = 256 << 20  # a larger one is somebody's real disk
STEP: Final = 1 << 20


class Disk:
    """The file system of `folder`; ConfigError unless it is small enough to be filled without harm to others.

    `option` is how the person who gave the folder did that.
    """

    def __init__(self, folder: Path, option: str = "--disk") -> None:
        try:
            free = shutil.disk_usage(folder).free
        except OSError as e:
            raise ConfigError(f"{option} {folder}: {e.strerror}; give the folder of the agent's store") from e
        if free > MOST_BYTES:
            raise ConfigError(
                f"{option} {folder}: {free >> 20} MiB are free there, and at most {MOST_BYTES >> 20} are filled; "
                f"mount a small one: sudo mount -t tmpfs -o size=64m tmpfs {folder}"
            )
        self._ballast = folder / BALLAST

    def fill(self) -> None:
        """Leave no byte free."""
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = STEP
            while size:
                try:
                    os.write(descriptor, bytes(size))
                except OSError:
                    size //= 2
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Give the room back; legal twice."""
        with suppress(FileNotFoundError):
            self._ballast.unlink()
