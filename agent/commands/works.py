"""Which commands there are and what obeys each: one table."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.clip.clipper import Clipper
from agent.commands.bundling import Bundling
from agent.commands.clips import Clips
from agent.commands.commands import Work
from agent.commands.configure import Configure
from agent.commands.dtc import Codes
from agent.commands.examine import Examining
from agent.commands.loglevel import LogLevel
from agent.commands.reading import Place, Read, Reading
from agent.commands.restart_agent import RestartAgent
from agent.commands.restart_dashcam import RestartDashcam
from agent.commands.track import Tracks
from agent.dashcam.watch import VIDEO
from agent.house import House
from agent.incident.folder import PACKAGES
from agent.store import Store

if TYPE_CHECKING:
    from agent.settings import AgentConfig


def works(
    store: Store,
    boot: str,
    settings: "AgentConfig",
    clipper: Clipper,
    house: House | None,
    on_bug: Callable[[BaseException], None],
) -> dict[str, Work]:
    """Return what obeys each command; without a `house`, as beside a test's store, only what reads that store."""
    folder = store.folder
    turn, place = threading.Lock(), Place(store, boot)

    def reads(read: Read, waits: Callable[[], str] = _at_once) -> Reading:
        return Reading(place, read, turn, on_bug, waits)

    known: dict[str, Work] = {
        "clip": Clips(store, folder / PACKAGES, folder / VIDEO, boot, clipper, settings.clips),
        "track": reads(Tracks(store, boot).read),
    }
    if house is not None:
        known |= {
            "doctor": reads(Examining(folder, house.config).read),
            "dtc": reads(Codes(folder, house.config).read, lambda: "until the car is driven" if house.asleep() else ""),
            "bundle": reads(Bundling(store, house).read),
            "log_level": LogLevel(),
            "config": Configure(house, settings.commands),
            "restart_agent": RestartAgent(house),
            "restart_dashcam": RestartDashcam(folder / VIDEO, house),
        }
    return known


def _at_once() -> str:
    return ""
