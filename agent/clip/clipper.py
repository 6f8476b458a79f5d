"""The clipper: keeps the video that incidents want, has it cut when it is there, and says what is missing.

It works in the evidence thread. Cutting is a process of its own (`python -m agent.clip`), because a codec that hangs or
crashes cannot be caught; what it made stands in the package, `video.json` last, and that file is the only state.
"""

import json
import logging
import subprocess
import sys
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from agent.clip.settings import REPORT, ClipSettings
from agent.clip.side import CHANNELS, gpx, lines, points, table
from agent.clock import NS_PER_S
from agent.dashcam.segments import cameras, keep, keeps, names, release
from agent.errors import StoreError
from agent.evidence.manifest import Material, Missing
from agent.incident.folder import Incident, Request, Video, ask, incidents, write_files
from agent.records import Event, incident_id
from agent.store import Store

log = logging.getLogger(__name__)

LATE_NS: Final = 12 * NS_PER_S  # after the range a camera has ended its segment, or never will
CUT_S: Final = 120.0  # for one incident's cameras; 25 s of video take well under a second to copy
TRIES: Final = 3
DAY_NS: Final = 86_400 * NS_PER_S
NO_CAMERA: Final = "no dashcam has ever filmed here"


class Asked(NamedTuple):
    """How a clip was asked for by a command."""

    name: str  # of the package
    boot: str  # whose clock the times are of
    cameras: tuple[str, ...]  # none: all
    command: str
    actor: str
    why: str


class Clipper:
    """Tends the video of one store's packages; `boot` is the present one.

    One thread at a time may call `tend` and `material`.
    """

    def __init__(
        self, store: Store, packages: Path, video: Path, boot: str, settings: ClipSettings, now_ns: int
    ) -> None:
        self._store = store
        self._packages = packages
        self._video = video
        self._boot = boot
        self._settings = settings
        self._begun_ns = now_ns
        self._tries: dict[str, int] = {}
        self._why: dict[str, str] = {}  # incident -> why its video was given up
        self._kept = {k.incident for k in keeps(video)[0]}
        self._heard: deque[Event] = deque()
        self.busy = False  # a package grows
        self.refused = 0  # clips beyond what a day may bring

    def tend(self, now_ns: int) -> None:
        """Ask the dashcam to keep what is wanted, and cut what is there. Trouble is logged and told in the manifest."""
        self._ask_for_events(now_ns)
        wanting = [i for i in incidents(self._packages) if i.filmed and not i.acknowledged and not i.has(REPORT)]
        for incident in wanting:
            if incident.id in self._why:
                continue
            try:
                self._keep(incident)
                if self._ready(incident, now_ns):
                    self._cut(incident)
            except (OSError, StoreError) as trouble:
                self._failed(incident, str(trouble))
        self.busy = any(not i.signed for i in wanting)
        growing = {i.id for i in wanting if i.id not in self._why and not (i.folder / REPORT).exists()}
        for name in self._kept - growing:
            release(self._video, name)
        self._kept &= growing

    def material(self, incident: Incident) -> Material:
        """Say for the manifest what is still to come, what is missing and why, and which time each clip covers."""
        if not incident.filmed:
            return Material()
        if incident.id in self._why:
            return Material(missing=(Missing("video", self._why[incident.id]),))
        if not incident.has(REPORT):
            return Material(waiting="the video")
        report: dict[str, Any] = msgspec.json.decode((incident.folder / REPORT).read_bytes())
        covers: dict[str, tuple[int, int]] = {}
        missing: list[Missing] = []
        for camera in report["cameras"]:
            clips = [(c["file"], int(c["start_ns"]), int(c["end_ns"])) for c in camera["clips"]]
            covers |= {file: (start_ns, end_ns) for file, start_ns, end_ns in clips}
            if camera["view"]:
                covers[camera["view"]] = (clips[0][1], clips[0][2])
            holes = [(begins_s, ends_s) for c in camera["clips"] for begins_s, ends_s in c["holes_s"]]
            why = _lacking(incident.video, [(start_ns, end_ns) for _, start_ns, end_ns in clips], holes)
            if why:
                missing.append(Missing(f"video of camera {camera['camera']}", why))
        return Material(missing=missing, covers=covers)

    def hear(self, events: Iterable[Event]) -> None:
        """Take events, from any thread; a severe one gets a clip where the settings want that."""
        if self._settings.severe_events:
            self._heard.extend(events)

    def _ask_for_events(self, now_ns: int) -> None:
        before_ns, after_ns = (
            round(s * NS_PER_S) for s in (self._settings.severe_before_s, self._settings.severe_after_s)
        )
        while self._heard:
            event = self._heard.popleft()
            if event.severity == "severe" and event.confirmed and event.kind.startswith("harsh_"):
                video = Video(from_ns=event.t_ns - before_ns, to_ns=event.t_ns + event.duration_ns + after_ns)
                try:
                    self.ask(event.t_ns, video, event.kind, now_ns)
                except StoreError as trouble:
                    log.warning("%s: no clip of a severe event: %s", event.kind, trouble)

    def ask(self, t_ns: int, video: Video, reason: str, now_ns: int, asked: Asked | None = None) -> str | None:
        """Begin a package of a clip without a crash; return its name, None where the day has brought enough.

        Times are of the present boot, or of the one that `asked` names; `now_ns` is of the present one. Raise
        StoreError when the disk refuses.
        """
        if self._asked_lately(now_ns) >= self._settings.asked_per_day:
            self.refused += 1
            return None
        by = asked or Asked(incident_id(self._boot, t_ns), self._boot, (), "", "", "")
        request = Request(
            incident=by.name,
            boot=by.boot,
            t_ns=t_ns,
            video=video,
            reason=reason,
            cameras=list(by.cameras),
            asked_boot=self._boot,
            asked_ns=now_ns,
            command=by.command,
            actor=by.actor,
            why=by.why,
        )
        ask(self._packages, request)
        return by.name

    def _asked_lately(self, now_ns: int) -> int:
        """Count the clips that were asked for within a day, by the packages themselves: a restart forgets none."""
        requests = [i.request for i in incidents(self._packages) if i.request is not None and i.filmed]
        return sum(self._age_ns(r, now_ns) < DAY_NS for r in requests)

    def _age_ns(self, request: Request, now_ns: int) -> int:
        """Return how long ago a clip was asked for; in another boot, one whose time is not known counts as old."""
        if request.asked_boot == self._boot:
            return now_ns - request.asked_ns
        then, now = self._store.utc_of(request.asked_boot, request.asked_ns), self._store.utc_of(self._boot, now_ns)
        return DAY_NS if then is None or now is None else now.utc_ns - then.utc_ns

    def _keep(self, incident: Incident) -> None:
        if incident.id not in self._kept and cameras(self._video):
            keep(self._video, incident.id, incident.boot, incident.video.from_ns, incident.video.to_ns)
            self._kept.add(incident.id)

    def _ready(self, incident: Incident, now_ns: int) -> bool:
        """Say whether every camera has filmed the range, or will not any more."""
        if not incident.record_final:
            return False
        if self._store.replayed(incident.boot):
            return True
        if incident.boot != self._boot:  # the dashcam ends what was torn when it starts
            return now_ns - self._begun_ns >= LATE_NS
        if now_ns >= incident.video.to_ns + LATE_NS:
            return True
        filming = [names(self._video, camera) for camera in cameras(self._video)]
        ends = [mine[-1].end_ns for mine in filming if mine and mine[-1].boot == self._boot]
        return bool(ends) and min(ends) >= incident.video.to_ns and now_ns >= incident.video.to_ns

    def _cut(self, incident: Incident) -> None:
        cues = self._beside(incident)
        if not cameras(self._video):
            self._why[incident.id] = NO_CAMERA
            return
        times = (incident.video.from_ns, incident.video.to_ns, incident.t0_ns)
        asked = {
            "folder": str(incident.folder.absolute()),
            "video": str(self._video.absolute()),
            "boot": incident.boot,
            "times": [str(t) for t in times],
            "cues": [[str(t_ns), text] for t_ns, text in cues],
            "cameras": [] if incident.request is None else incident.request.cameras,
        }
        try:
            done = subprocess.run(
                [sys.executable, "-m", "agent.clip"],
                check=False,
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                timeout=CUT_S,
            )
        except subprocess.TimeoutExpired:
            self._failed(incident, f"cutting took longer than {CUT_S:.0f} s")
            return
        if done.returncode:
            self._failed(incident, (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1])

    def _beside(self, incident: Incident) -> list[tuple[int, str]]:
        """Write where the car was and how fast, for the page and for maps; return a line for each second."""
        video, utc = incident.video, self._store.utc_of(incident.boot, 0)
        block = self._store.read_block(video.from_ns - 3 * NS_PER_S, video.to_ns + 1, incident.boot, CHANNELS)
        track = points(block, video, incident.t0_ns)
        files = {
            "track.gpx": gpx(track, utc, incident.id),
            "track.json": table(track, incident.t0_ns, utc),
        }
        if incident.signed:  # given up before a restart: its signature covers what stands there
            files = {name: data for name, data in files.items() if not incident.has(name)}
        write_files(incident.folder, files)
        return lines(track, utc)

    def _failed(self, incident: Incident, why: str) -> None:
        tries = self._tries[incident.id] = self._tries.get(incident.id, 0) + 1
        log.warning("%s: no clip yet, attempt %d of %d: %s", incident.id, tries, TRIES, why)
        if tries >= TRIES:
            self._why[incident.id] = why


def _lacking(wanted: Video, clips: list[tuple[int, int]], holes: list[tuple[float, float]]) -> str:
    """Say in words what part of the range the clips of one camera do not show; "" where they show all."""
    if not clips:
        return "nothing was filmed in this time"
    lacks = []
    if (late_ns := clips[0][0] - wanted.from_ns) > 0:
        lacks.append(f"the first {late_ns / NS_PER_S:.1f} s")
    if (early_ns := wanted.to_ns - clips[-1][1]) > 0:
        lacks.append(f"the last {early_ns / NS_PER_S:.1f} s")
    lacks += [f"everything from {begins_s:.1f} to {ends_s:.1f} s after time zero" for begins_s, ends_s in holes]
    if len(clips) > 1:
        lacks.append("the time between its parts, for the camera was opened again")
    return " and ".join(lacks)
