"""The daemon: feeds, one spine, store and sync in one process that ends well or ends loudly.

The main thread is the spine's. It wakes ten times a second, once while the car is parked (agent.power), merges what
the feeds brought, drives the spine, keeps what comes of it, and only then feeds the watchdog. A thread that dies of a
bug ends the process with a traceback; systemd starts it again, and what was driven is recovered from the store
(agent.recovery).
"""

import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from agent import clock, devices
from agent.blow import Blows, is_blow
from agent.boot import kernel_boot_id
from agent.boottime import BootTime
from agent.clerk import Clerk
from agent.clock import NS_PER_S
from agent.commands.inbox import Inbox
from agent.config import config_dir
from agent.consent.consent import Consent
from agent.consent.enforcing import Enforcing, clear
from agent.dashcam.watch import VIDEO, CameraWatch
from agent.errors import NotFittedError, RoadwitnessError, StoreError
from agent.feeds import Feeds
from agent.governed import Governed
from agent.guard.ending import tell_cut
from agent.guard.guard import Guard
from agent.house import House
from agent.incident.folder import PACKAGES
from agent.incident.recorder import Recorder
from agent.incident.recovery import take_up
from agent.incident.retention import prune as prune_packages
from agent.incident.writer import IncidentWriter
from agent.intake import Intake
from agent.ladder import Ladder, Level
from agent.local.desk import Desk
from agent.local.view import Parts
from agent.memory import release_compiler
from agent.patience import PatientStore
from agent.pipeline import Pipeline
from agent.power.parking import TICK_S, Parking
from agent.records import Clock, Crash, Event, Health, Record, TimeQuality
from agent.recovery import finish_boot, resumed
from agent.sending import Sending
from agent.settings import AgentConfig, load_agent, start_agent
from agent.spine import Spine
from agent.store import Store
from agent.timekeeping import Timekeeper
from agent.update.news import tell_update
from agent.watchdog import Watchdog
from drivers import Driver

log = logging.getLogger(__name__)

SECOND_NS: Final = NS_PER_S
LOADED_NS: Final = 5 * NS_PER_S  # after the start nearly every kernel has been used
AT_ONCE: Final = ("broker", "sync", "upload", "budget")  # tables of agent.toml that are read again while it runs …
BETWEEN_TRIPS: Final = ("fusion", "detection", "trips", "crash")  # … and these; others at a restart
RECOVERY_S: Final = 60.0  # asked of systemd to open the store and for each chunk of recovery; one takes a second


@dataclass(frozen=True, slots=True)
class Place:
    """Where the daemon runs: its store, its configuration file, the boot, and the line to systemd."""

    folder: Path
    config: Path | None = None
    boot: str = ""  # "" asks the kernel
    watchdog: Watchdog = field(default_factory=Watchdog)


class Daemon:
    """Run what `settings` say until `stop`; `make` gives the drivers, by default those that are configured."""

    def __init__(self, settings: AgentConfig, place: Place, make: list[Callable[[], Driver]] | None = None) -> None:
        self._settings = settings
        self._place = place
        self._makers = devices.makers(settings.drivers, config_dir()) if make is None else make
        if not self._makers:
            raise NotFittedError(devices.NONE)
        self._recording = bool(settings.drivers.replay)
        self._packages = place.folder / PACKAGES
        self._boot = place.boot or (uuid.uuid4().hex if self._recording else kernel_boot_id())
        self._intake = Intake(settings.daemon.queue_samples, round(settings.daemon.hold_s * NS_PER_S), is_blow)
        self._feeds = Feeds(self._makers, self._intake, settings.daemon.feed, patient=self._recording)
        self._parking: Parking | None = None  # recordings do not park
        self._blows: Blows | None = None  # nor do they lose their power
        self._cameras: CameraWatch | None = None  # nor have they a dashcam
        self._ends = False  # no event: a handler that sets one while this thread holds its lock waits for ever
        self._never = threading.Event()  # waited on where only time passes
        self._reloading = False
        self._next_spine: AgentConfig | None = None
        self._second_ns = self._prune_ns = 0
        self._lean_ns: int | None = None
        self._clerk: Clerk | None = None
        self._inbox = Inbox()
        self._consent: Consent | None = None  # who replays a recording has what is in it already
        self._enforcing: Enforcing | None = None
        self._desk: Desk | None = None  # once the store is ours

    def stop(self) -> None:
        """End at the next tick, when what was taken in is safe; a signal handler may call it."""
        self._ends = True

    def reload(self) -> None:
        """Read the configuration again at the next tick; a signal handler may call it."""
        self._reloading = True

    def run(self) -> None:
        """Run until `stop` or the end of all recordings; raise what ended a thread, or RoadwitnessError."""
        self._still_starting()  # a first store is begun, an old one checked, a suspect one read through
        with Store.open(self._place.folder, self._settings.store, monotonic_ns=clock.monotonic_ns) as store:
            ladder = Ladder(self._place.folder, self._boot, self._settings.daemon.crashes)
            level = ladder.begin(clock.monotonic_ns())
            self._desk = desk = self._answer(ladder)
            if level == "hold":
                store.close()
                self._hold(ladder, desk)
                return
            try:
                self._drive(store, ladder, level)
            except RoadwitnessError as trouble:
                ladder.crashed(clock.monotonic_ns(), str(trouble))
                raise
            except BaseException as bug:
                ladder.crashed(clock.monotonic_ns(), f"{type(bug).__name__}: {bug}")
                log.critical("the agent ends because of a bug", exc_info=bug)
                raise
            finally:
                desk.stop()
            ladder.ended()

    def _drive(self, store: Store, ladder: Ladder, level: Level) -> None:
        """Take up the boot, run, and end it."""
        if not self._recording:
            s = self._settings
            self._consent = Consent(self._place.folder, store.device, s.consent, s.commands.keys, self._intake.tell)
            clear(self._consent, store, self._packages)
        spine, records, incidents = self._take_up(store, ladder)
        keeper = PatientStore(store, clock.monotonic_ns)
        keeper.append(records)
        if store.moved_aside:
            self._tell("store", "degraded", store.moved_aside)
        sending = self._send(store, self._settings)
        try:
            timekeeper = Timekeeper(spine.boot_time, self._place.folder)
            pipeline = Pipeline(spine, keeper, sending, incidents)
            if not self._recording:
                time: Callable[[], TimeQuality] = lambda: spine.boot_time.quality  # noqa: E731
                pipeline.guard = Guard.of(self._settings.guard, self._settings.vehicle, store, self._boot, time)
                self._parking = self._manage_power(store, pipeline, keeper)
                self._blows = Blows(self._intake, keeper)
                told = [stored.record for stored in store.records(Event, self._boot)]
                self._cameras = CameraWatch(self._place.folder / VIDEO, self._boot, clock.monotonic_ns(), told)
                self._enforcing = self._obey(store, pipeline, keeper, self._cameras)
            if self._desk is not None:
                parts = Parts(store, pipeline, keeper, self._feeds, lambda: self._parking, self._cameras, self._consent)
                self._desk.show(parts, self._intake.tell, self._settings.power.running_rpm)
            if level == "normal":
                self._start_feeds()
            else:
                text = f"runs without its devices after repeated crashes; the last: {ladder.reason}"
                log.error("%s", text)
                self._tell("agent", "degraded", text)
                self._place.watchdog.status(text)
            self._begin_time(pipeline, keeper, timekeeper)
            self._place.watchdog.ready()
            tell_update(self._place.folder, self._intake.tell)
            self._prune_ns = clock.monotonic_ns() + round(self._settings.daemon.prune_s * NS_PER_S)
            self._lean_ns = clock.monotonic_ns() + LOADED_NS
            self._begin_clerk(store, pipeline)
            try:
                while not self._ends and not (level == "normal" and self._recording and self._feeds.over):
                    level = self._tick(store, pipeline, keeper, timekeeper, ladder, level)
            finally:
                self._feeds.stop()
            self._intake.raise_bug()
            self._place.watchdog.stopping()
            self._finish(store, pipeline, keeper, timekeeper)
        finally:
            if self._clerk is not None:
                self._clerk.stop()
            if pipeline.sending is not None:
                pipeline.sending.stop()

    # beginning

    def _answer(self, ladder: Ladder) -> Desk:
        return Desk(
            self._place.folder,
            self._boot,
            self._place.config,
            ladder,
            recording=self._recording,
            call=self._intake.woken.set,
            on_bug=self._intake.fail,
        )

    def _obey(self, store: Store, pipeline: Pipeline, keeper: PatientStore, cameras: CameraWatch) -> Enforcing:
        assert self._consent is not None
        governed = Governed(
            pipeline,
            keeper,
            cameras,
            settings=lambda: self._settings,
            incidents=self._new_incidents,
            clerk=lambda: self._clerk,
            begin_clerk=lambda: self._begin_clerk(store, pipeline),
            connect=lambda: self._send(store, self._settings),
            tell=self._intake.tell,
        )
        enforcing = Enforcing(self._consent, store, self._packages, governed)
        enforcing.begin(clock.monotonic_ns())
        return enforcing

    def _allows(self, purpose: str) -> bool:
        return self._consent is None or self._consent.allows(purpose)

    def _new_incidents(self) -> IncidentWriter:
        return IncidentWriter(self._packages, Recorder(self._settings.incident, self._boot), self._intake.tell)

    def _begin_clerk(self, store: Store, pipeline: Pipeline) -> None:
        self._clerk = Clerk.of(
            store,
            self._place.folder,
            self._boot,
            self._settings,
            clock.monotonic_ns(),
            lambda: pipeline.sending.wake() if pipeline.sending is not None else None,
            self._intake.fail,
            None if self._recording else self._inbox,  # the time of a recording is not the commands' time
            self._intake.tell,
            self._allows,
            House(
                self._place.folder,
                self._place.config,
                end=self.stop,
                busy=pipeline.busy,
                asleep=lambda: self._parking is not None and self._parking.power.asleep,
                heard=pipeline.heard,
            ),
        )
        self._clerk.start()

    def _take_up(self, store: Store, ladder: Ladder) -> tuple[Spine, list[tuple[int, Record]], IncidentWriter]:
        """Begin the boot: finish what an earlier one left, or go on where this one was when the agent ended."""
        s = self._settings
        incidents = self._new_incidents()
        recorder = incidents.recorder
        if self._recording:
            store.begin_boot(self._boot, recorded=True)
            time = BootTime(recorded=True)
            spine = Spine(s.fusion, s.detection, s.trips, boot_time=time, crash=s.crash, boot=self._boot)
            return spine, [], incidents
        before = store.last_boot()
        if before is not None and before != self._boot:
            trips = finish_boot(store, before, self._settings, self._still_starting)
            if trips:
                log.warning("recovered %d trip%s that the last boot left open", trips, "s" if trips > 1 else "")
            if tell_cut(store, before, ladder.cut):
                log.warning("the supply was cut in the middle of the last drive")
        store.begin_boot(self._boot)
        spine, missing = resumed(store, self._boot, s, BootTime(), self._still_starting, recorder)
        found = [record for _, record in missing if isinstance(record, Crash)]
        incidents.write(take_up(store, self._packages, recorder, found, s, self._still_starting))
        return spine, missing, incidents

    def _still_starting(self) -> None:
        self._place.watchdog.starting(RECOVERY_S)

    def _begin_time(self, pipeline: Pipeline, keeper: PatientStore, timekeeper: Timekeeper) -> None:
        """Restore a time, so that nothing is without one, unless this boot knows better already."""
        boot_time = pipeline.spine.boot_time
        if self._recording:
            start_utc_ns = devices.recording_start_ns(self._makers[0])
            if start_utc_ns is not None:
                self._learned(pipeline, keeper, boot_time.restore(0, start_utc_ns))
        elif boot_time.quality == "none":
            self._learned(pipeline, keeper, timekeeper.begin(clock.monotonic_ns()))

    def _send(self, store: Store, settings: AgentConfig) -> Sending:
        return Sending(
            store,
            settings.broker,
            settings.sync,
            self._boot,
            on_health=self._intake.tell,
            on_bug=self._intake.fail,
            upload=settings.upload,
            budget=settings.budget,
            on_command=self._inbox.put,
            on_consent=None if self._consent is None else self._consent.put,
            trusted=settings.commands.keys,
            enrolment=settings.enrolment,
        )

    def _manage_power(self, store: Store, pipeline: Pipeline, keeper: PatientStore) -> Parking:
        return Parking(
            self._settings.power,
            self._settings.trips,
            pipeline,
            keeper,
            store,
            clock.monotonic_ns(),
            feeds=lambda: self._feeds,
            linger=self._intake.linger,
            connect=lambda: self._send(store, self._settings),
            status=self._place.watchdog.status,
        )

    def _start_feeds(self) -> None:
        names = self._feeds.start()
        log.info("reads %s", names)
        self._place.watchdog.status(f"reads {names}")

    # going on

    def _tick(
        self,
        store: Store,
        pipeline: Pipeline,
        keeper: PatientStore,
        timekeeper: Timekeeper,
        ladder: Ladder,
        level: Level,
    ) -> Level:
        """Do one round of work; return the level of the next."""
        clock.wait(self._intake.woken, TICK_S if self._parking is None else self._parking.tick_s)
        self._intake.woken.clear()
        self._intake.raise_bug()
        now_ns = clock.monotonic_ns()
        self._work(pipeline, keeper, now_ns)
        if self._enforcing is not None:
            self._enforcing.step(now_ns)
        if self._blows is not None:
            self._blows.step(now_ns)
        if self._parking is not None and level == "normal":
            self._parking.step(now_ns)
        if self._reloading:
            self._reload(store, pipeline)
        self._renew_spine(pipeline)
        if now_ns >= self._second_ns:
            self._second_ns = now_ns + SECOND_NS
            if not self._recording:
                self._learned(pipeline, keeper, timekeeper.look(now_ns))
            self._watch_cameras(pipeline, keeper, now_ns)
            self._feeds.watch(now_ns, ladder.crashes)
            if self._lean_ns is not None and now_ns >= self._lean_ns:
                self._lean_ns = None
                release_compiler()
            if now_ns >= self._prune_ns:
                self._prune_ns = now_ns + round(self._settings.daemon.prune_s * NS_PER_S)
                self._prune(store, timekeeper.utc_ns(now_ns))
            if level == "minimal" and ladder.level(now_ns) == "normal":
                log.warning("no crash for a while: reading the devices again")
                self._tell("agent", "ok", "reads its devices again")
                level = "normal"
                self._start_feeds()
        if self._desk is not None:
            self._desk.step(now_ns, level)
        self._place.watchdog.fed(now_ns)
        return level

    def _work(self, pipeline: Pipeline, keeper: PatientStore, now_ns: int, *, everything: bool = False) -> None:
        block, told = self._intake.take(now_ns, everything=everything)
        if told:
            keeper.append([(record.t_ns, record) for record in told])
            if pipeline.guard is not None:
                pipeline.guard.hear(told)
            if pipeline.sending is not None:
                pipeline.sending.wake()
        if len(block):
            if self._parking is not None:
                self._parking.take(block)
            output = pipeline.step(block)
            if self._desk is not None:
                self._desk.take(block, output.rows)
            if self._clerk is not None and self._allows("video"):
                self._clerk.hear(output.events)
        keeper.tend()
        pipeline.tend()

    def _learned(self, pipeline: Pipeline, keeper: PatientStore, learned: Clock | None) -> None:
        if learned is not None:
            pipeline.spine.clock_known(learned)
            keeper.append([(learned.t_ns, learned)])

    def _watch_cameras(self, pipeline: Pipeline, keeper: PatientStore, now_ns: int) -> None:
        if self._cameras is None:
            return
        told = self._cameras.look(now_ns)
        if told:
            keeper.append([(record.t_ns, record) for record in told])
            if pipeline.sending is not None:
                pipeline.sending.wake()
        self._cameras.rest(now_ns, self._parking is not None and self._parking.power.asleep)
        self._cameras.say(now_ns, pipeline.spine.boot_time.offset_ns, pipeline.spine.speed)

    def _prune(self, store: Store, now_utc_ns: int | None) -> None:
        tell_update(self._place.folder, self._intake.tell)
        # packages first: a store on a full disk can remove nothing before something else has made room
        removed = prune_packages(self._packages, self._settings.incident, now_utc_ns)
        if removed.packages:
            log.info("removed %d packages that the receiver holds, %d bytes", removed.packages, removed.bytes)
        try:
            report = store.prune(now_utc_ns)
        except StoreError as trouble:
            log.warning("%s; old data stay until the next look", trouble)
            return
        if report.blocks or report.entries:
            log.info("pruned %d blocks and %d records", report.blocks, report.entries)

    def _reload(self, store: Store, pipeline: Pipeline) -> None:
        """Take new values: the uplink's at once, thresholds when no trip is going on, others at a restart."""
        self._reloading = False
        try:
            settings = load_agent(self._place.config, self._place.folder)
            if any(getattr(settings, n) != getattr(self._settings, n) for n in AT_ONCE):
                self._send_anew(store, pipeline, settings)
        except RoadwitnessError as wrong:
            log.error("%s; the configuration in use stays", wrong)
            return
        old, self._settings = self._settings, settings
        if self._desk is not None:
            self._desk.configured()
        if any(getattr(settings, n) != getattr(old, n) for n in BETWEEN_TRIPS):
            self._next_spine = settings
        others = [f.name for f in fields(AgentConfig) if f.name not in AT_ONCE + BETWEEN_TRIPS]
        rest = [n for n in others if getattr(settings, n) != getattr(old, n)]
        log.info("configuration read again%s", f"; {', '.join(rest)} wait for a restart" if rest else "")

    def _send_anew(self, store: Store, pipeline: Pipeline, settings: AgentConfig) -> None:
        """Sync by other settings; by the old ones where these turn out to be wrong."""
        if pipeline.sending is not None:
            pipeline.sending.stop()  # first: two connections of one name throw each other out
        try:
            pipeline.sending = self._send(store, settings)
        except RoadwitnessError:
            pipeline.sending = self._send(store, self._settings)
            raise

    def _renew_spine(self, pipeline: Pipeline) -> None:
        """Apply new thresholds between trips: one trip is judged by one set of rules."""
        if self._next_spine is None or pipeline.spine.driving:
            return
        s, self._next_spine = self._next_spine, None
        pipeline.renew(s.fusion, s.detection, s.trips, s.crash)
        log.info("new thresholds apply")

    # ending

    def _finish(self, store: Store, pipeline: Pipeline, keeper: PatientStore, timekeeper: Timekeeper) -> None:
        """Take in what is left, close the trip, and make everything durable."""
        now_ns = clock.monotonic_ns()
        self._work(pipeline, keeper, now_ns, everything=True)
        pipeline.finish()
        if self._parking is not None:
            self._parking.finish()
        if not self._recording:
            timekeeper.save(now_ns)
        elif pipeline.incidents is not None:
            pipeline.incidents.finish()  # a boot goes on when the agent is started again; a recording is over
        keeper.last()
        log.info("ended with everything stored")

    def _hold(self, ladder: Ladder, desk: Desk) -> None:
        """Do nothing, say why, and end after a while, to be started again."""
        hold_s = self._settings.daemon.crashes.hold_s
        text = f"holds after too many crashes; the last: {ladder.reason}; tries again after {hold_s / 60:.0f} min"
        log.critical("%s", text)
        self._place.watchdog.status(text)
        self._place.watchdog.ready()
        until_ns = clock.monotonic_ns() + round(hold_s * NS_PER_S)
        while not self._reloading and (now_ns := clock.monotonic_ns()) < until_ns:
            if self._ends:
                break
            clock.wait(self._never, 1.0)
            desk.step(now_ns, "hold")
            self._place.watchdog.fed(now_ns)
        desk.stop()
        ladder.ended()

    def _tell(self, source: str, state: str, detail: str) -> None:
        t_ns = clock.monotonic_ns()
        self._intake.tell(Health(t_ns=t_ns, source=source, state=state, detail=detail))  # type: ignore[arg-type]


def run(config: Path | None, folder: Path, on_daemon: Callable[[Daemon], None]) -> None:
    """Load the configuration and run the daemon on `folder`; `on_daemon` gets it before it starts, for signals."""
    daemon = Daemon(start_agent(config, folder), Place(folder, config, watchdog=Watchdog.of_systemd()))
    on_daemon(daemon)
    daemon.run()
