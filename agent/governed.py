"""What the owner's consent governs in the daemon: the pipeline and its keeper, the cameras, sync and the clerk."""

import logging
from collections.abc import Callable
from typing import Final, Literal

from agent import clock
from agent.clerk import Clerk
from agent.dashcam.watch import CameraWatch
from agent.errors import RoadwitnessError
from agent.incident.writer import IncidentWriter
from agent.patience import PatientStore
from agent.pipeline import Pipeline
from agent.records import Health
from agent.sending import Sending
from agent.settings import AgentConfig

log = logging.getLogger(__name__)

SOURCE: Final = "consent"


class Governed:
    """Starts and stops parts of the daemon as agent.consent.enforcing asks; one thread, that of the spine, may call it.

    `settings` gives those of the moment, `incidents` makes what writes packages, `clerk` gives the one at work and
    `begin_clerk` another, `connect` begins sync, `tell` takes what people should know.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        keeper: PatientStore,
        cameras: CameraWatch,
        *,
        settings: Callable[[], AgentConfig],
        incidents: Callable[[], IncidentWriter],
        clerk: Callable[[], Clerk | None],
        begin_clerk: Callable[[], None],
        connect: Callable[[], Sending],
        tell: Callable[[Health], None],
    ) -> None:
        self._pipeline, self._keeper, self._cameras = pipeline, keeper, cameras
        self._settings, self._incidents, self._tell = settings, incidents, tell
        self._clerk, self._begin_clerk, self._connect = clerk, begin_clerk, connect
        self._recording = True
        self._paused: Sending | None = None

    def record(self, on: bool) -> None:
        """Record from now on, or no more."""
        if on == self._recording:
            return
        self._recording = on
        s = self._settings()
        self._keeper.record(on)
        self._pipeline.record(on, self._incidents(), s.fusion, s.detection, s.trips, s.crash)

    def film(self, on: bool) -> None:
        """Let the cameras film, or not."""
        self._cameras.withhold(not on)

    def pause(self) -> bool:
        """Stop sync and the clerk; say whether both have stopped."""
        sending, clerk = self._pipeline.sending, self._clerk()
        if sending is not None:
            sending.stop()
            self._pipeline.sending, self._paused = None, sending
        if clerk is not None:
            clerk.stop()
        return (self._paused is None or self._paused.stopped) and (clerk is None or not clerk.is_alive())

    def go_on(self) -> None:
        """Begin what was stopped again; where sync cannot begin, power management tries it again."""
        clerk = self._clerk()
        if clerk is None or not clerk.is_alive():
            self._begin_clerk()
        if self._paused is not None and self._paused.stopped:
            self._paused = None
            try:
                self._pipeline.sending = self._connect()
            except RoadwitnessError as wrong:
                log.error("%s", wrong)

    def told(self, detail: str, *, wanting: bool = False) -> None:
        """Tell people; `wanting` says that somebody has to act."""
        state: Literal["ok", "degraded"] = "degraded" if wanting else "ok"
        self._tell(Health(t_ns=clock.monotonic_ns(), source=SOURCE, state=state, detail=detail))
