"""The daemon's eye on the dashcam: once a second it reads what the dashcam wrote, and makes events and health of it.

Each occurrence of a trouble is told once, also over a restart of the agent: an occurrence is a camera, a kind and the
time at which it began. A dashcam that has stopped writing without saying goodbye is told as a lost camera.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from agent.clock import NS_PER_S
from agent.dashcam.resting import RestSaying
from agent.dashcam.segments import cameras
from agent.dashcam.shown import Now, write_now
from agent.dashcam.state import FILE, SILENT_NS, CameraState, Problem, Trouble, read_state
from agent.dashcam.withholding import Withholding
from agent.records import Event, EventKind, Health, Severity

START_NS: Final = 120 * NS_PER_S  # for the dashcam to write its first state of a boot
VIDEO: Final = "video"  # beside the store
_MS: Final = 1_000_000  # stored times are rounded to ms

# what is an event, how bad, in which unit its value is
EVENTS: Final[dict[Trouble, tuple[EventKind, Severity, str]]] = {
    "lost": ("camera_lost", "severe", "s"),
    "frozen": ("camera_frozen", "severe", "share"),
    "blind": ("camera_blind", "moderate", "level"),
    "blurred": ("camera_blurred", "minor", "share"),
    "slow": ("camera_slow", "minor", "1/s"),
}

Told = tuple[str, str, int]  # camera, kind, ms at which it began


class CameraWatch:
    """What the daemon knows of the cameras, and what it has told of them."""

    def __init__(self, folder: Path, boot: str, now_ns: int, told: Sequence[Event] = ()) -> None:
        """Take the video folder, and the events of this boot that the store holds."""
        self._folder = folder
        self._boot = boot
        self._begun_ns = now_ns
        self._told: set[Told] = {(s, e.kind, e.t_ns // _MS) for e in told for s in e.sources}
        self._health: dict[str, tuple[str, str]] = {}
        self._read: dict[str, tuple[int, CameraState | None]] = {}
        self._overlay = False
        self._rest = RestSaying(folder, boot)
        self._withholding = Withholding(folder)
        self._withheld = False

    def rest(self, now_ns: int, parked: bool) -> None:
        """Let the cameras rest while the car is parked; make again what the disk refused."""
        self._rest.say(now_ns, parked)
        self._withholding.say(self._withheld)

    def withhold(self, withheld: bool) -> None:
        """Let nothing be filmed, and what was filmed go, while the owner does not agree to it."""
        self._withheld = withheld
        self._withholding.say(withheld)

    def look(self, now_ns: int) -> list[Event | Health]:
        """Return what is new since the last look."""
        found: list[Event | Health] = []
        self._overlay = False
        for camera in cameras(self._folder):
            state = self._state(camera)
            if state is None:
                continue
            if state.boot == self._boot:
                self._overlay |= state.overlay and state.state != "ended"
            elif now_ns - self._begun_ns < START_NS:
                continue  # an earlier boot's; this one's is still to come
            found += self._tell(camera, now_ns, state.counts, *self._judged(state, now_ns))
        return found

    def seen(self, now_ns: int) -> list[tuple[CameraState, Literal["ok", "degraded", "lost"], str]]:
        """Return every camera as it was last written, how it does, and that in a sentence; nothing is told by this."""
        found = []
        for camera in cameras(self._folder):
            state = self._state(camera)
            if state is not None and (state.boot == self._boot or now_ns - self._begun_ns >= START_NS):
                judged, detail, _ = self._judged(state, now_ns)
                found.append((state, judged, detail))
        return found

    def say(self, now_ns: int, offset_ns: int | None, speed: tuple[int, float] | None) -> None:
        """Let a camera that writes time and speed into its picture know them; speed as (time, m/s)."""
        if not self._overlay:
            return
        fresh = speed is not None and now_ns - speed[0] < 3 * NS_PER_S and speed[1] == speed[1]
        now = Now(
            boot=self._boot,
            t_ns=now_ns,
            utc_minus_monotonic_ns=offset_ns,
            speed_mps=speed[1] if fresh and speed is not None else None,
        )
        with contextlib.suppress(OSError):  # a picture without a speed is no reason to stop
            write_now(self._folder, now)

    def _state(self, camera: str) -> CameraState | None:
        """Return what the dashcam wrote last; read again only when it has changed."""
        try:
            changed_ns = (self._folder / camera / FILE).stat().st_mtime_ns
        except OSError:
            return None
        known = self._read.get(camera)
        if known is None or known[0] != changed_ns:
            known = self._read[camera] = (changed_ns, read_state(self._folder, camera))
        return known[1]

    def _judged(
        self, state: CameraState, now_ns: int
    ) -> tuple[Literal["ok", "degraded", "lost"], str, dict[Trouble, Problem]]:
        """Return state, sentence and troubles, with what the dashcam itself can no longer say."""
        if state.boot != self._boot:
            detail = "the dashcam has not started; see: systemctl status roadwitness-dashcam"
            return "lost", detail, {"lost": Problem(self._begun_ns, START_NS / NS_PER_S, detail)}
        if state.state == "resting":
            why = "does not film: the owner does not agree to it" if self._withheld else "rests while the car is parked"
            return "ok", why, {}
        if state.state == "ended":
            return "lost", "the dashcam was stopped", {}
        if now_ns - state.t_ns > SILENT_NS:
            detail = "the dashcam says nothing any more; see: systemctl status roadwitness-dashcam"
            return "lost", detail, {"lost": Problem(state.t_ns, SILENT_NS / NS_PER_S, detail)}
        if state.problems:
            detail = "; ".join(problem.detail for _, problem in sorted(state.problems.items()))
            return ("lost" if "lost" in state.problems else "degraded"), detail, state.problems
        return "ok", "starts" if state.state == "starting" else "films", {}

    def _tell(
        self,
        camera: str,
        now_ns: int,
        counts: dict[str, int],
        state: str,
        detail: str,
        problems: dict[Trouble, Problem],
    ) -> list[Event | Health]:
        source = f"camera:{camera}"
        found: list[Event | Health] = []
        for trouble, problem in sorted(problems.items()):
            if trouble not in EVENTS:
                continue
            kind, severity, unit = EVENTS[trouble]
            told = (source, kind, problem.since_ns // _MS)
            if told not in self._told:
                self._told.add(told)
                found.append(_event(kind, severity, unit, source, problem, now_ns))
        known = (state, "; ".join(sorted(problems)))
        if self._health.get(camera) != known and detail != "starts":
            first = camera not in self._health
            self._health[camera] = known
            if not (first and state == "ok"):
                counts = {name: count for name, count in counts.items() if count}
                found.append(
                    Health(t_ns=now_ns, source=source, state=state, detail=detail, counts=counts)  # type: ignore[arg-type]
                )
        return found


def _event(kind: EventKind, severity: Severity, unit: str, source: str, problem: Problem, now_ns: int) -> Event:
    """Make the event of one occurrence; what is lost is measured by how long it has been away."""
    away_s = (now_ns - problem.since_ns) / NS_PER_S
    return Event(
        kind=kind,
        severity=severity,
        confirmed=True,
        t_ns=problem.since_ns,
        duration_ns=max(0, now_ns - problem.since_ns),
        peak=round(away_s if unit == "s" else problem.value, 3),
        unit=unit,
        speed_before_mps=None,
        rule=f"{kind}/1",
        sources=[source],
    )
