"""Act on the power state: let the control units sleep, close the trip, make all safe, idle; and let go of the battery.

Falling asleep: polling stops at once; the trip closes when its own rules say so; the receiver gets `flush_s` to take
what is left; then sync rests but for a heartbeat, and the spine wakes once in `tick_s`. Waking undoes it at once.
"""

import logging
import subprocess
from collections.abc import Callable, Iterable
from typing import Final, Literal

from agent.blocks import Block
from agent.clock import NS_PER_S
from agent.errors import ConfigError
from agent.feed import Feed
from agent.patience import PatientStore
from agent.pipeline import Pipeline
from agent.power.machine import Change, PowerState
from agent.power.quiet import Quiet
from agent.power.settings import PowerRules
from agent.records import Health
from agent.sending import Sending
from agent.store import Store
from agent.trips import TripSettings

log = logging.getLogger(__name__)

TICK_S: Final = 0.1  # the spine's rows come at 10 Hz: waking more often would find nothing new
TALKATIVE: Final = ("gps", "imu")  # devices that say something several times a second while the car stands
LISTEN_S: Final = 10.0  # a heartbeat stays connected for so long: somebody may want something of a parked car
ANSWER_S: Final = 30.0  # a heartbeat without any progress ends after this: in a garage there is no network all night
URGENT: Final = ("crash", "reply", "event")  # lanes that do not wait for the heartbeat
URGENT_S: Final = 60.0  # without success, urgent records try again after this, doubled each time up to the heartbeat
AGAIN_S: Final = 600.0  # the machine is still on so long after the shutdown command: it is run again


class Parking:
    """The acting half of power management; the daemon calls `take` and `step` from the spine's thread.

    `feeds` gives the feeds of the moment, `linger` lets samples wait longer for others, `connect` begins sync,
    `status` shows one line.
    """

    def __init__(
        self,
        rules: PowerRules,
        trips: TripSettings,
        pipeline: Pipeline,
        keeper: PatientStore,
        store: Store,
        now_ns: int,
        *,
        feeds: Callable[[], Iterable[Feed]],
        linger: Callable[[float], None],
        connect: Callable[[], Sending],
        status: Callable[[str], None],
    ) -> None:
        self.power = PowerState(rules, now_ns)
        self._rules, self._trips = rules, trips
        self._pipeline, self._keeper, self._store = pipeline, keeper, store
        self._feeds, self._linger, self._connect, self._status = feeds, linger, connect, status
        self._quiet = Quiet(rules.store_s)
        pipeline.thin = self._quiet.keep
        self._settled = False  # asleep and everything safe
        self._settle_by_ns = self._beat_ns = self._urgent_ns = self._connected_ns = 0
        self._tries = self._progress = 0
        self._command: subprocess.Popen[bytes] | None = None
        self._commanded_ns: int | None = None

    @property
    def tick_s(self) -> float:
        """How long the spine may sleep between two rounds."""
        return self._rules.tick_s if self.power.asleep else TICK_S

    def take(self, block: Block) -> None:
        """Take samples in order of time."""
        self.power.take(block)

    def step(self, now_ns: int) -> None:
        """Judge and act."""
        change = self.power.step(now_ns)
        if change is not None:
            self._changed(change)
        if self._command is not None:
            self._watch_command(now_ns, self._command)
        if self.power.asleep:
            self._settle(now_ns)
        elif self._pipeline.sending is None and now_ns >= self._beat_ns:
            self._pipeline.sending = self._connected(now_ns)

    def finish(self) -> None:
        """Hand over what is held back: the agent ends."""
        self._keeper.append_block(self._quiet.end())

    def _changed(self, change: Change) -> None:
        text = f"{change.state.replace('_', ' ')}: {change.why}"
        self._status(text)
        was, asleep = change.before in ("parked", "cut_off"), self.power.asleep
        if asleep:
            self._settled = False
            self._settle_by_ns = change.t_ns + round(self._rules.flush_s * NS_PER_S)
        if asleep and not was:
            self._rest()
        elif was and not asleep:
            self._wake(change.t_ns)
        if was or asleep:
            log.info("%s", text)
            self._say(change.t_ns, "degraded" if change.state == "cut_off" else "ok", text)

    def _rest(self) -> None:
        self._linger(self._rules.tick_s)
        for feed in self._feeds():
            kind = feed.name.partition(":")[0]
            pause_s = self._rules.tick_s if kind in TALKATIVE else 0.0
            feed.rest(pause_s, closed=kind in self._rules.turn_off)
        self._quiet.begin()
        self._commanded_ns, self._tries = None, 0

    def _wake(self, now_ns: int) -> None:
        for feed in self._feeds():
            feed.wake()
        self._linger(0.0)
        self._keeper.append_block(self._quiet.end())
        if self._pipeline.sending is None:
            self._pipeline.sending = self._connected(now_ns)

    def _settle(self, now_ns: int) -> None:
        """Close the trip, then sync, then rest; at cut-off then run the command."""
        spine = self._pipeline.spine
        if spine.driving and (self.power.state == "cut_off" or now_ns - self.power.driven_ns >= self._trip_ns()):
            self._pipeline.park()
            self._settle_by_ns = now_ns + round(self._rules.flush_s * NS_PER_S)
        if self._settled:
            self._beat(now_ns)
        elif not spine.driving:
            if self._pipeline.sending is None and self.power.state == "cut_off":
                self._begin_sync(now_ns)
            sending = self._pipeline.sending
            if sending is None or sending.caught_up or self._out_of_time(now_ns, sending):
                self._settled = True
                self._keeper.append_block(self._quiet.keep_all())
                self._keeper.flush()
                self._end_sync(now_ns, done=sending is None or sending.caught_up)
        if self._settled and self.power.state == "cut_off":
            self._shut_down(now_ns)

    def _trip_ns(self) -> int:
        """How long after the last sign of driving a trip is over, as its own rules say."""
        known = self.power.signs.rpm_ns > self.power.driven_ns  # an engine speed of 0 was seen
        return round((self._trips.engine_off_s if known else self._trips.standing_s) * NS_PER_S)

    # sync

    def _beat(self, now_ns: int) -> None:
        """Connect when it is time or urgent; rest again when the receiver holds everything."""
        sending = self._pipeline.sending
        if sending is not None:
            done = sending.caught_up and now_ns - self._connected_ns >= LISTEN_S * NS_PER_S
            if done or (self._out_of_time(now_ns, sending) and not sending.caught_up):
                self._end_sync(now_ns, done=done)
        elif now_ns >= self._beat_ns or (now_ns >= self._urgent_ns and self._urgent()):
            self._begin_sync(now_ns)

    def _urgent(self) -> bool:
        heads, positions = self._store.heads(), self._store.positions()
        return any(heads.get(lane, 0) > positions.get(lane, 0) for lane in URGENT)

    def _out_of_time(self, now_ns: int, sending: Sending) -> bool:
        """Say whether the receiver has had its time: counted from its last progress, unless the battery cannot wait."""
        if sending.progress != self._progress and self.power.state != "cut_off":
            self._progress = sending.progress
            self._settle_by_ns = max(self._settle_by_ns, now_ns + round(self._rules.flush_s * NS_PER_S))
        return now_ns >= self._settle_by_ns

    def _begin_sync(self, now_ns: int) -> None:
        self._connected_ns = now_ns
        wait_s = min(ANSWER_S, self._rules.flush_s) if self._settled else self._rules.flush_s
        self._settle_by_ns = now_ns + round(wait_s * NS_PER_S)
        self._pipeline.sending = sending = self._connected(now_ns)
        if sending is not None:
            self._progress = sending.progress

    def _connected(self, now_ns: int) -> Sending | None:
        """Begin sync; None, said and tried again later, where a key or certificate cannot be read just now."""
        try:
            return self._connect()
        except ConfigError as wrong:
            log.error("%s; tried again in %.0f s", wrong, URGENT_S)
            self._beat_ns = self._urgent_ns = now_ns + round(URGENT_S * NS_PER_S)
            return None

    def _end_sync(self, now_ns: int, *, done: bool) -> None:
        """Disconnect until the next beat, unless the configuration wants to stay connected."""
        beat_s = self._rules.heartbeat_s
        if not beat_s or self._pipeline.sending is None:
            return
        self._pipeline.sending.stop()
        self._pipeline.sending = None
        self._beat_ns = now_ns + round(beat_s * NS_PER_S)
        self._tries = 0 if done else self._tries + 1
        wait_s = 0.0 if done else min(URGENT_S * 2.0 ** min(self._tries - 1, 30), beat_s)
        self._urgent_ns = now_ns + round(wait_s * NS_PER_S)

    # the end

    def _shut_down(self, now_ns: int) -> None:
        if not self._rules.shutdown or self._command is not None:
            return
        if self._commanded_ns is not None and now_ns - self._commanded_ns < AGAIN_S * NS_PER_S:
            return
        self._commanded_ns = now_ns
        argv = list(self._rules.shutdown)
        log.warning("everything is stored; runs %s", " ".join(argv))
        try:
            self._command = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        except OSError as error:
            self._failed(now_ns, error.strerror or str(error))

    def _watch_command(self, now_ns: int, command: "subprocess.Popen[bytes]") -> None:
        code = command.poll()
        if code is None:
            return
        self._command = None
        if code:
            self._failed(now_ns, f"it ended with {code}")

    def _failed(self, now_ns: int, cause: str) -> None:
        again = f"again in {AGAIN_S / 60:.0f} min"
        text = f"shutdown command {self._rules.shutdown[0]}: {cause}; {again}; may this user run it (power.shutdown)?"
        log.error("%s", text)
        self._say(now_ns, "degraded", text)

    def _say(self, t_ns: int, state: Literal["ok", "degraded"], detail: str) -> None:
        volts = self.power.volts
        counts = {"taken_mwh": round(self.power.ledger.taken_wh * 1000)}
        if volts is not None:
            counts["millivolts_of_12"] = round(volts * 1000)
        health = Health(t_ns=t_ns, source="power:state", state=state, detail=detail, counts=counts)
        self._keeper.append([(t_ns, health)])  # at once: the receiver is to hold it before sync rests
        if self._pipeline.sending is not None:
            self._pipeline.sending.wake()
