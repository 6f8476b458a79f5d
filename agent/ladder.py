"""The crash-loop ladder: normal → minimal (store and sync, no drivers) → hold, with the reason kept in a file.

A start while the run before never said goodbye, in the same boot, is a crash; a power cut changes the boot and is not.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from agent.clock import NS_PER_S

LADDER_FILE: Final = "crashes.json"  # in the store's folder
UNSAID: Final = "the agent was killed, or ended without a word"

Level = Literal["normal", "minimal", "hold"]


@dataclass(frozen=True, slots=True)
class LadderSettings:
    """How many crashes are too many."""

    window_s: float = 600.0  # crashes longer ago do not count
    minimal_after: int = 3  # crashes within the window: run without drivers until the window has passed
    hold_after: int = 6  # crashes within the window: do nothing, and say why …
    hold_s: float = 3600.0  # … for so long, then try again

    def __post_init__(self) -> None:
        """Refuse a ladder whose rungs are out of order."""
        if not 1 <= self.minimal_after < self.hold_after or self.window_s <= 0 or self.hold_s <= 0:
            raise ValueError("minimal_after must be 1 or more and below hold_after; window_s and hold_s above 0")


class Ladder:
    """Counts crashes over restarts; times are monotonic ns of the boot."""

    def __init__(self, folder: Path, boot: str, settings: LadderSettings) -> None:
        self._path = folder / LADDER_FILE
        self._boot = boot
        self._settings = settings
        self._crashes: list[int] = []
        self.reason = ""  # of the last crash
        self.cut = ""  # the boot in which a run ended without a word because the machine did; "" where none did

    @property
    def crashes(self) -> int:
        """How many crashes counted when the rung was last asked for."""
        return len(self._crashes)

    def begin(self, now_ns: int) -> Level:
        """Count the run before if it crashed; say how much to start."""
        kept = self._load()
        if kept.get("boot") == self._boot:
            self._crashes = [t for t in kept.get("crashes", []) if isinstance(t, int)]
            self.reason = str(kept.get("reason", ""))
            if kept.get("running"):
                self._crashes.append(now_ns)
                self.reason = UNSAID
        elif kept.get("running"):
            self.cut = str(kept.get("boot", ""))
        level = self.level(now_ns)
        self._save(running=True)
        return level

    def level(self, now_ns: int) -> Level:
        """Return the rung for the crashes within the window."""
        self._crashes = [t for t in self._crashes if now_ns - t <= self._settings.window_s * NS_PER_S]
        if len(self._crashes) >= self._settings.hold_after:
            return "hold"
        return "minimal" if len(self._crashes) >= self._settings.minimal_after else "normal"

    def crashed(self, now_ns: int, reason: str) -> None:
        """Count a crash that can still be told."""
        self._crashes.append(now_ns)
        self.reason = reason
        self._save(running=False)

    def ended(self) -> None:
        """Note that this run ended as it should."""
        self._save(running=False)

    def _load(self) -> dict[str, Any]:
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return kept if isinstance(kept, dict) else {}

    def _save(self, *, running: bool) -> None:
        partial = self._path.with_suffix(".tmp")
        kept = {"boot": self._boot, "crashes": self._crashes, "running": running, "reason": self.reason}
        try:
            partial.write_text(json.dumps(kept), encoding="utf-8")
            os.replace(partial, self._path)
        except OSError:
            return  # a full disk must not keep the agent from starting
