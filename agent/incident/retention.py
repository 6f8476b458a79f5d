"""Which packages may go: those that the receiver holds whole, when they are old or take too much room. Others never."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.incident.folder import RECORD, REQUEST, Incident, incidents, marker
from agent.incident.settings import IncidentSettings

log = logging.getLogger(__name__)

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
    sizes = {i.id: _size(i) for i in held}
    left = sum(sizes.values())
    gone: list[str] = []
    for incident in held:
        limit_ns = _acknowledged_ns(incident) + settings.acknowledged_days * _DAY_NS
        old = now_utc_ns is not None and limit_ns < now_utc_ns
        if not old and left <= settings.acknowledged_bytes:
            continue
        try:
            _remove(incident)
        except OSError as e:
            log.warning("%s: cannot be removed: %s; it stays until the next look", incident.folder, e.strerror)
            continue
        left -= sizes[incident.id]
        gone.append(incident.id)
    return Removed(len(gone), sum(sizes[name] for name in gone))


def _remove(incident: Incident) -> None:
    """Remove a folder; its head and the marker last, so that a removal that was cut is found and ended."""
    heads = [incident.folder / name for name in (RECORD, REQUEST)]
    for path in sorted(incident.folder.iterdir(), key=lambda p: p in heads):
        path.unlink()
    incident.folder.rmdir()
    marker(incident.folder).unlink()


def _acknowledged_ns(incident: Incident) -> int:
    try:
        return marker(incident.folder).stat().st_mtime_ns
    except OSError:
        return 0


def _size(incident: Incident) -> int:
    total = 0
    for name in incident.files:
        try:
            total += (incident.folder / name).stat().st_size
        except OSError:
            continue
    return total
