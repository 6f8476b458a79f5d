"""What must survive a power cut in the middle of an update: a small file, replaced whole and synced."""

from pathlib import Path
from typing import Final, Literal

import msgspec

from agent.durable import replace_whole
from agent.errors import RoadwitnessError
from agent.known import known

STATE_FILE: Final = "state.json"
OUTCOME_FILE: Final = "outcome.json"  # read by the agent, which tells it as a record

# idle: nothing under way. switching: the links may point to either. trial: the new version runs and is judged.
# returning: the old version is being put back. registering: the new one is proved, dpkg does not know it yet.
Phase = Literal["idle", "switching", "trial", "returning", "registering"]


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What worked before the switch."""

    devices: list[str] = []  # that were open
    connected: bool = False  # sync had reached the receiver


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Where an update stands, and what is known of versions."""

    phase: Phase = "idle"
    version: str = ""  # tried, or proved last
    previous: str = ""  # to go back to
    reason: str = ""  # why it goes back
    package: str = ""  # the .deb of `version`
    boot: str = ""  # in which the trial was last seen
    boots: int = 0  # in which it has been tried
    baseline: Baseline = Baseline()
    refused: dict[str, str] = {}  # version -> why it is not tried again by itself
    month: str = ""  # of `bytes`, e.g. 2026-11
    bytes: int = 0  # fetched over a metered link in that month


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an update ended, for the agent to tell."""

    id: str
    version: str
    previous: str
    result: Literal["installed", "rolled_back"]
    detail: str  # one sentence
    utc: str


def load(folder: Path) -> State:
    """Return what is remembered; nothing under way where the file is missing or cannot be understood."""
    try:
        return msgspec.json.decode((folder / STATE_FILE).read_bytes(), type=known(State))
    except (OSError, ValueError):
        return State()


def save(folder: Path, state: State) -> None:
    """Replace what is remembered, durably; raise RoadwitnessError."""
    write_whole(folder / STATE_FILE, msgspec.json.format(msgspec.json.encode(state)) + b"\n")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is the old or the new one after a power cut; raise RoadwitnessError."""
    try:
        replace_whole(path, data)
    except OSError as e:
        raise RoadwitnessError(f"{path}: cannot be written: {e.strerror}; is the disk full, or read-only?") from e
