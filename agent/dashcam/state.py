"""What is known of a camera, in `video/<camera>/health.json`: written by the dashcam, read by the daemon and by people.

Written when something changes and every `REFRESH_NS`, so that a reader can tell a dashcam that has ended from one that
has nothing to say.
"""

from pathlib import Path
from typing import Final, Literal

import msgspec

from agent.clock import NS_PER_S
from agent.dashcam.segments import write_whole
from agent.known import known

FILE: Final = "health.json"
REFRESH_NS: Final = 10 * NS_PER_S
SILENT_NS: Final = 60 * NS_PER_S  # an older file of this boot: nobody writes it any more

Trouble = Literal["lost", "frozen", "blind", "blurred", "slow", "disk", "keys"]


class Problem(msgspec.Struct, frozen=True):
    """One trouble that stands: since when (monotonic ns), how much in the unit of its kind, and one plain sentence."""

    since_ns: int
    value: float
    detail: str


class CameraState(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a camera; `t_ns` is when it was written."""

    camera: str
    boot: str
    t_ns: int
    state: Literal["starting", "ok", "degraded", "lost", "resting", "ended"]
    problems: dict[Trouble, Problem] = {}
    mode: Literal["copy", "encode", ""] = ""
    codec: str = ""
    encoder: str = ""  # empty when copying
    width: int = 0
    height: int = 0
    fps: float = 0.0  # as kept, over the last seconds
    overlay: bool = False  # the agent is to tell time and speed (agent.dashcam.shown)
    sharpness: float = 0.0  # usual, of this camera; taken up by the next start
    counts: dict[str, int] = {}
    hangs: list[int] = []  # monotonic ns of each time that the process ended because this camera hung


def read_state(folder: Path, camera: str) -> CameraState | None:
    """Read what is known of a camera; None when there is no file, or none that can be understood."""
    try:
        return msgspec.json.decode((folder / camera / FILE).read_bytes(), type=known(CameraState))
    except (OSError, msgspec.DecodeError):
        return None


def write_state(folder: Path, state: CameraState) -> None:
    """Write what is known of a camera; raise OSError."""
    write_whole(folder / state.camera / FILE, msgspec.json.format(msgspec.json.encode(state), indent=1))
