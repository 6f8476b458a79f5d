"""Which packages may go: those that the receiver holds whole, when they are old or take too much room. Others never.

A package goes in one step: its folder gets a name that is no incident's. Emptying that folder, and taking away the
marker beside it, may be cut at any point; the next look goes on.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.durable import sync_folder
from agent.incident.folder import ACKNOWLEDGED, Incident, incidents, marker
from agent.incident.settings import IncidentSettings

log = logging.getLogger(__name__)

REMOVED: Final = ".removed"
_DAY_NS: Final = 86_400 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Removed:
    """What retention took away."""

    packages: int
    bytes: int


def prune(packages: Path, settings: IncidentSettings, now_utc_ns: int | None) -> Removed:
    """Remove acknowledged packages beyond `acknowledged_days` and `acknowledged_bytes`, the oldest first.

    Age counts from the acknowledgement, and not at all while `now_utc_ns` is unknown. What cannot be removed stays
    until the next look.
    """
    held = sorted((i for i in incidents(packages) if i.acknowledged), key=_acknowledged_ns)
    sizes = {i.id: _size(i.folder) for i in held}
    left = sum(sizes.values())
    for incident in held:
        limit_ns = _acknowledged_ns(incident) + settings.acknowledged_days * _DAY_NS
        old = now_utc_ns is not None and limit_ns < now_utc_ns
        if not old and left <= settings.acknowledged_bytes:
            continue
        try:
            incident.folder.rename(incident.folder.with_name(incident.id + REMOVED))
        except OSError as e:
            log.warning("%s: cannot be removed: %s; it stays until the next look", incident.folder, e.strerror)
            continue
        left -= sizes[incident.id]
    gone = _clear(packages)
    return Removed(len(gone), sum(gone))


def withdraw(packages: Path) -> int:
    """Remove what was asked for, and the crashes that the receiver holds: the owner agrees to it no more.

    Evidence of a crash that the receiver does not hold yet stays until it does. Return how many went; OSError is told.
    """
    for incident in incidents(packages):
        if incident.crash is None or incident.acknowledged:
            try:
                incident.folder.rename(incident.folder.with_name(incident.id + REMOVED))
            except OSError as e:
                log.warning("%s: cannot be removed: %s; it stays until the next look", incident.folder, e.strerror)
    return len(_clear(packages))


def removable(packages: Path) -> bool:
    """Say whether `withdraw` would remove anything."""
    return any(i.crash is None or i.acknowledged for i in incidents(packages)) or any(packages.glob(f"*{REMOVED}"))


def _clear(packages: Path) -> list[int]:
    """Empty the folders that are no incidents any more; return their sizes."""
    gone: list[int] = []
    for folder in sorted(packages.glob(f"*{REMOVED}")):
        size = _size(folder)
        try:
            _empty(folder)
        except OSError as e:
            log.warning("%s: cannot be removed: %s; it stays until the next look", folder, e.strerror)
            continue
        gone.append(size)
    _drop_markers(packages)
    return gone


def _empty(folder: Path) -> None:
    """Remove a folder that is no incident any more; its new name is durable before its first file goes."""
    sync_folder(folder.parent)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def _drop_markers(packages: Path) -> None:
    """Remove the markers of packages that are gone."""
    for path in packages.glob(f"*{ACKNOWLEDGED}"):
        if not path.with_suffix("").exists():
            try:
                path.unlink()
            except OSError as e:
                log.warning("%s: cannot be removed: %s; it stays until the next look", path, e.strerror)


def _acknowledged_ns(incident: Incident) -> int:
    try:
        return marker(incident.folder).stat().st_mtime_ns
    except OSError:
        return 0


def _size(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.iterdir())
    except OSError:
        return 0
