"""Which boot's video lies in a span of UTC, and when that was by the boot's own clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.clip.clipper import LATE_NS, NO_CAMERA
from agent.clock import NS_PER_S
from agent.commands.commands import SURE
from agent.dashcam.segments import Name, cameras, names
from agent.incident.folder import Video
from agent.store import Store

NOTHING: Final = "nothing was filmed then"


@dataclass(frozen=True, slots=True)
class Placed:
    """A span of time by the clock of one boot; `uncertainty_ns` is how far UTC may be off there."""

    boot: str
    video: Video
    uncertainty_ns: int


def place(
    store: Store, folder: Path, boot: str, now_ns: int, from_utc_ns: int, to_utc_ns: int, wanted: Sequence[str]
) -> Placed | str:
    """Find the span in what the dashcam has filmed; return in words why it cannot be found, or not told for sure.

    `boot` is the present one; `wanted` names cameras, all of them where it is empty.
    """
    known = cameras(folder)
    if not known:
        return NO_CAMERA
    missing = sorted(set(wanted) - set(known))
    if missing:
        return f"there is no camera '{missing[0]}' here; there is {', '.join(known)}"
    filmed: dict[str, list[Name]] = {}
    for camera in wanted or known:
        for name in names(folder, camera):
            filmed.setdefault(name.boot, []).append(name)
    found: list[Placed] = []
    unsure = undated = 0
    for of_boot, segments in filmed.items():
        utc = store.utc_of(of_boot, 0)
        if utc is None:
            undated += 1
            continue
        video = Video(from_ns=from_utc_ns - utc.utc_ns, to_ns=to_utc_ns - utc.utc_ns)
        # what was filmed last is still being written
        going_on = of_boot == boot and video.from_ns <= now_ns and video.to_ns > now_ns - LATE_NS
        if not going_on and not any(n.start_ns <= video.to_ns and video.from_ns < n.end_ns for n in segments):
            unsure += utc.quality not in SURE
        elif utc.quality not in SURE:
            return f"the box did not know the time for sure then, only to {utc.uncertainty_ns / NS_PER_S:.0f} s"
        else:
            found.append(Placed(of_boot, video, utc.uncertainty_ns))
    if len(found) > 1:
        return "the box started anew within that time; ask for the time before or after"
    if found:
        return found[0]
    if unsure or undated:
        return f"{NOTHING}, unless by one of {unsure + undated} starts of the box whose time is not known for sure"
    return NOTHING
