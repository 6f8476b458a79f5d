"""The dashcam process: its cameras, their health, the loop, and the line to systemd.

What hangs ends the process: a device that is stuck in its driver stays taken until then, and systemd starts us again
in two seconds. The other camera's segments are ended before, so it loses those seconds and nothing else; a camera that
hangs again and again while another one works is left alone for `HOLD_NS`.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent import clock
from agent.boot import kernel_boot_id
from agent.clock import NS_PER_S
from agent.dashcam.camera import CameraAtWork, Maker, make_camera
from agent.dashcam.health import Judge
from agent.dashcam.keeping import Work
from agent.dashcam.quota import Quota
from agent.dashcam.restarting import Restarting
from agent.dashcam.resting import may_rest
from agent.dashcam.salvage import salvage
from agent.dashcam.segments import cameras, names
from agent.dashcam.settings import DashcamConfig, load_dashcam
from agent.dashcam.state import FILE, REFRESH_NS, CameraState, Problem, Trouble, read_state, write_state
from agent.dashcam.withholding import is_withheld
from agent.errors import ConfigError, DriverError
from agent.watchdog import Watchdog

log = logging.getLogger(__name__)

TICK_S: Final = 0.25
STOP_S: Final = 5.0  # for the cameras to end; one that hangs is left behind
HOLD_NS: Final = 600 * NS_PER_S
MOST_HANGS: Final = 3  # within HOLD_NS
LONG_KEYS: Final = 1.25  # key pictures so many times segment_s apart are told
UNBOUNDED: Final = 1 << 62
NO_CAMERA: Final = "no camera is configured: add a table [cameras.NAME] to dashcam.toml"


class HangError(DriverError):
    """A camera hangs; the process ends."""


class Watched:
    """One camera, and what is thought of it."""

    def __init__(self, at_work: CameraAtWork, judge: Judge, hangs: list[int]) -> None:
        self.at_work = at_work
        self.judge = judge
        self.hangs = hangs
        self.state: CameraState | None = None
        self.progress = (0, 0)
        self.last_ns = 0
        self.troubles: dict[Trouble, Problem] = {}


class Dashcam:
    """Run the configured cameras on the video folder until `stop`."""

    def __init__(
        self,
        config: DashcamConfig,
        folder: Path,
        *,
        boot: str = "",
        watchdog: Watchdog | None = None,
        make: Maker = make_camera,
    ) -> None:
        if not config.cameras:
            raise ConfigError(NO_CAMERA)
        self._config = config
        self._folder = folder
        self._boot = boot or kernel_boot_id()
        self._watchdog = watchdog or Watchdog()
        self._make = make
        self._ends = False  # no event: a handler that sets one while this thread holds its lock waits for ever
        self._never = threading.Event()  # waited on where only time passes
        most = {name: camera.max_bytes for name, camera in config.cameras.items()}
        # a camera that is configured no more keeps its video until the disk needs the room
        most = dict.fromkeys(cameras(folder), UNBOUNDED) | most
        self._quota = Quota(folder, most, config.min_free_bytes)
        self._watched: list[Watched] = []
        self._second_ns = 0
        self._restarting: Restarting | None = None

    def stop(self) -> None:
        """End as soon as the growing segments are whole; a signal handler may call it."""
        self._ends = True

    def run(self) -> None:
        """Run until `stop` or the end of all files; raise HangError when a camera hangs, or what ended a thread."""
        self._begin()
        self._watchdog.ready()
        try:
            while not self._ends and not all(w.at_work.ended for w in self._watched):
                clock.wait(self._never, TICK_S)
                self._tick(clock.monotonic_ns())
        finally:
            self._watchdog.stopping()
            self._end()

    def _begin(self) -> None:
        """Save what an earlier run left, and start the cameras."""
        now_ns = clock.monotonic_ns()
        for name, camera in self._config.cameras.items():
            own = self._folder / name
            try:
                own.mkdir(parents=True, exist_ok=True)
                salvage(own)
            except OSError as e:
                raise ConfigError(f"{own}: cannot be used: {e.strerror or e}; may this user write it?") from None
            before = read_state(self._folder, name)
            same = before is not None and before.boot == self._boot
            hangs = [t for t in before.hangs if now_ns - t < HOLD_NS] if before and same else []
            there = names(self._folder, name)
            work = Work(own, self._boot, there[-1].sequence + 1 if there else 0)
            hold_ns = hangs[-1] + HOLD_NS if len(hangs) >= MOST_HANGS and len(self._config.cameras) > 1 else 0
            if hold_ns > now_ns:
                log.error("%s: hung %d times: left alone for a while, so that others can work", name, len(hangs))
            at_work = CameraAtWork(name, camera, self._config, work, make=self._make, hold_ns=hold_ns)
            judge = Judge(self._config.health, camera.fps, now_ns, before.sharpness if before else 0.0)
            self._watched.append(Watched(at_work, judge, hangs))
        for name in set(cameras(self._folder)) - self._config.cameras.keys():
            (self._folder / name / FILE).unlink(missing_ok=True)  # nobody will refresh it
        self._restarting = Restarting(self._folder)
        self._quota.begin()
        self._quota.make_room()
        withheld = is_withheld(self._folder)
        for watched in self._watched:
            watched.at_work.rest(withheld)
            self._publish(watched, now_ns, "starting")
            watched.at_work.start()
        log.info("films %s", ", ".join(self._config.cameras))
        self._watchdog.status(f"films {', '.join(self._config.cameras)}")

    def _tick(self, now_ns: int) -> None:
        for watched in self._watched:
            if watched.at_work.bug is not None:
                raise watched.at_work.bug
            step = watched.at_work.hanging(now_ns)
            if step is not None:
                self._hangs(watched, now_ns, step)
            self._take_in(watched)
        if now_ns < self._second_ns:
            return
        self._second_ns = now_ns + NS_PER_S
        if self._restarting is not None and self._restarting.wanted():
            log.warning("ends, to be started again: a command asks for it")
            self._ends = True
        withheld = is_withheld(self._folder)
        resting = withheld or (self._config.rest_parked and may_rest(self._folder, self._boot, now_ns))
        for watched in self._watched:
            watched.at_work.rest(resting)
        gone = self._quota.erase() if withheld else self._quota.make_room()
        if withheld and gone:
            log.warning("erased %d segments: the owner does not agree to video", gone)
        for watched in self._watched:
            self._judge(watched, now_ns)
        self._feed(now_ns)

    def _take_in(self, watched: Watched) -> None:
        """Take what the camera's threads have left."""
        work, judge = watched.at_work.work, watched.judge
        while work.finished:
            self._quota.add(watched.at_work.name, work.finished.popleft())
        while work.looks:
            judge.looked(work.looks.popleft())
        if work.came_ns != watched.last_ns:
            watched.last_ns = work.came_ns
            judge.came(work.came_ns)

    def _judge(self, watched: Watched, now_ns: int) -> None:
        """Form an opinion; tell it where it has changed."""
        at_work, judge = watched.at_work, watched.judge
        work = at_work.work
        if at_work.resting:
            judge.rested(now_ns)
            if watched.state is None or watched.state.state != "resting" or now_ns - watched.state.t_ns >= REFRESH_NS:
                watched.troubles = {}
                self._publish(watched, now_ns, "resting")
            return
        fps = judge.rate(now_ns, work.kept)
        refusal = work.refusal or self._quota.refusal
        if refusal:
            full = "; all that stands is kept for incidents" if self._quota.full else ""
            judge.tell("disk", now_ns, 0.0, f"the disk refuses: {refusal}{full}")
        else:
            judge.well("disk")
        apart_s = work.key_distance_ns / NS_PER_S
        if apart_s > LONG_KEYS * self._config.segment_s:
            wanted_s = self._config.segment_s
            text = f"key pictures {apart_s:.1f} s apart: so much may be lost; set the camera to {wanted_s:g} s"
            judge.tell("keys", now_ns, apart_s, text)
        else:
            judge.well("keys")
        reason = at_work.reason or ("gives only old pictures" if at_work.counts.get("stale") else "")
        troubles = {} if at_work.ended else judge.problems(now_ns, reason)
        changed = troubles.keys() != watched.troubles.keys()
        for name in troubles.keys() - watched.troubles.keys():
            log.warning("%s: %s: %s", at_work.name, name, troubles[name].detail)
        for name in watched.troubles.keys() - troubles.keys():
            log.warning("%s: no longer %s", at_work.name, name)
        watched.troubles = troubles
        state = watched.state
        begun = state is not None and state.state == "starting" and (work.kept > 0 or bool(troubles))
        if changed or begun or state is None or now_ns - state.t_ns >= REFRESH_NS:
            self._publish(watched, now_ns, "starting" if not work.kept and not troubles else "ok", fps)

    def _publish(self, watched: Watched, now_ns: int, state: str, fps: float = 0.0) -> None:
        """Write what is known of a camera; a disk that refuses has been told already."""
        at_work = watched.at_work
        if watched.troubles and state != "ended":
            state = "lost" if "lost" in watched.troubles else "degraded"
        width, height = at_work.size
        encoder = at_work.encoder
        watched.state = CameraState(
            camera=at_work.name,
            boot=self._boot,
            t_ns=now_ns,
            state=state,  # type: ignore[arg-type]
            problems=watched.troubles,
            mode="" if at_work.copying is None else "copy" if at_work.copying else "encode",
            codec=("mjpeg" if encoder == "mjpeg" else "h264")
            if encoder
            else at_work.offer.codec
            if at_work.offer
            else "",
            encoder=encoder,
            width=width,
            height=height,
            fps=round(fps, 2),
            overlay=at_work.settings.overlay,
            sharpness=round(watched.judge.sharpness, 3),
            counts=at_work.counts
            | {"segments_bytes": self._quota.bytes_of(at_work.name), "bad_keeps": self._quota.bad_keeps},
            hangs=watched.hangs,
        )
        try:
            write_state(self._folder, watched.state)
        except OSError as e:
            log.warning("%s: health cannot be written: %s", at_work.name, e.strerror or e)

    def _feed(self, now_ns: int) -> None:
        """Tell systemd that work goes on: a picture came, or an attempt to open a camera came to an end."""
        moved = []
        for watched in self._watched:
            progress = (watched.at_work.work.came_ns, watched.at_work.attempts)
            moved.append(progress != watched.progress or watched.at_work.ended or watched.at_work.resting)
            watched.progress = progress
        if any(moved):
            self._watchdog.fed(now_ns)

    def _hangs(self, watched: Watched, now_ns: int, step: str) -> None:
        """End because a camera hangs; its file says so to the next start and to the agent."""
        name = watched.at_work.name
        detail = f"hangs in {step} for {self._config.hang_s:g} s"
        watched.hangs = [*watched.hangs, now_ns]
        watched.troubles = {"lost": Problem(watched.last_ns or now_ns, 0.0, detail)}
        self._publish(watched, now_ns, "lost")
        raise HangError(f"{name} ({watched.at_work.settings.source}): {detail}; the process ends to free the device")

    def _end(self) -> None:
        """Let every camera end its segment; one that hangs is left behind."""
        for watched in self._watched:
            watched.at_work.stop()
        deadline_ns = clock.monotonic_ns() + round(STOP_S * NS_PER_S)
        for watched in self._watched:
            hung = watched.at_work.hanging(clock.monotonic_ns()) is not None
            left_s = 0.0 if hung else max(0.0, (deadline_ns - clock.monotonic_ns()) / NS_PER_S)
            if watched.at_work.join(left_s):
                self._take_in(watched)
                self._publish(watched, clock.monotonic_ns(), "ended")
            else:
                log.warning("%s: does not end and is left behind", watched.at_work.name)
        bug = next((w.at_work.bug for w in self._watched if w.at_work.bug is not None), None)
        if bug is not None:
            log.critical("the dashcam ends because of a bug", exc_info=bug)


def run(config: Path | None, folder: Path, on_dashcam: Callable[[Dashcam], None]) -> None:
    """Load the configuration and run the dashcam on `folder`; `on_dashcam` gets it before it starts, for signals."""
    dashcam = Dashcam(load_dashcam(config), folder, watchdog=Watchdog.of_systemd())
    on_dashcam(dashcam)
    dashcam.run()
