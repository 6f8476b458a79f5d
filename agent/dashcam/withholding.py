"""The owner does not agree to video: nothing is filmed, and what was filmed goes.

video/keep/withheld     empty, by the agent, from when it knows so until the owner agrees; outlives boots

The dashcam obeys it without its agent. Segments that a keep request covers go as soon as the request does: a crash
under way keeps its evidence (decision 0258).
"""

import logging
from pathlib import Path
from typing import Final

from agent.dashcam.segments import KEEP
from agent.durable import sync_folder

log = logging.getLogger(__name__)

FILE: Final = "withheld"


class Withholding:
    """The agent's side; `say` may be called again and again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._refusal = ""

    def say(self, withheld: bool) -> None:
        """Make it so, durable on return; what the disk refuses is told once and tried at the next call.

        A video folder that nobody made has no dashcam.
        """
        path = self._folder / KEEP / FILE
        try:
            if not self._folder.is_dir() or path.exists() == withheld:
                return
            path.parent.mkdir(exist_ok=True)
            if withheld:
                path.touch(mode=0o644)
            else:
                path.unlink(missing_ok=True)
            sync_folder(path.parent)
            self._refusal = ""
        except OSError as e:
            if not self._refusal:
                log.error("%s: cannot be changed: %s; tried again", path, e.strerror or e)
            self._refusal = e.strerror or str(e)


def is_withheld(folder: Path) -> bool:
    """Say whether nothing may be filmed or stand in the loop."""
    return (folder / KEEP / FILE).exists()
