"""The acceptance drive, judged on the daemon's ticks. Pure: the same ticks give the same checks."""

from collections import deque
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from agent.channels import number
from agent.clock import NS_PER_S
from agent.fitting.rules import DriveRules, Expected
from agent.fitting.sheet import Item, ItemState
from agent.local.messages import Tick

State = Literal["open", "pass", "warn", "fail", "skip", "absent"]
LONGEST_TICK_NS: Final = 5 * NS_PER_S  # a longer pause between two ticks counts as this long
GRAVITY: Final = (9.3, 10.3)  # m/s² that a good sensor reads at rest: 9.81 and its offset (docs/sources.md, Fitting)
SEEN: Final = 3  # ticks in which a camera or the motion sensor did well: one may be chance

_FIX, _SATELLITES = number("Gnss.FixType"), number("Gnss.Satellites")
_ACCELERATION: Final = tuple(number(f"Imu.Acceleration.{axis}") for axis in "XYZ")
_TURNING: Final = tuple(number(f"Imu.AngularVelocity.{axis}") for axis in "XYZ")


class Check(NamedTuple):
    """One line of the live list: what was seen so far, and what to do if it stays open."""

    name: str
    state: State
    value: str
    advice: str = ""

    def item(self) -> Item:
        """Return it for the sheet, when the drive is over: what is open by then has failed."""
        state: ItemState = "fail" if self.state == "open" else self.state
        advice = self.advice if state in ("fail", "warn") else ""
        return Item(step="drive", name=self.name, state=state, value=self.value, advice=advice)


class Acceptance:
    """Watches one drive; `take` a tick after the other, `checks` tells at any time how far it is."""

    def __init__(self, rules: DriveRules, expected: Expected) -> None:
        self._rules, self._expected = rules, expected
        self._begun_ns: int | None = None
        self._last_ns: int | None = None
        self._agree_s = self._moving_s = self._fix_s = self._still_s = 0.0
        self._sources: set[str] = set()
        self._satellites = 0
        self._fixed = False
        self._fastest = 0.0
        self._stopped = False
        self._headings: deque[tuple[int, float]] = deque()
        self._left = self._right = 0.0
        self._samples: tuple[int, int] | None = None  # of the motion sensor's device, and when they were counted
        self._rates: deque[float] = deque(maxlen=SEEN)
        self._gravity: float | None = None
        self._measured = ""  # by the motion sensor, when it did well
        self._mount: float | None = None
        self._cameras: dict[str, tuple[int, str]] = {}
        self._volts: float | None = None
        self._charged = False
        self._time = "none"
        self._opened = self._closed = self._driving = False
        self._at_start: dict[str, int] = {}
        self._acknowledged: str = ""
        self._trip_held = False
        self._trouble = ""

    @property
    def seconds(self) -> float:
        """How long it has been watched."""
        if self._begun_ns is None or self._last_ns is None:
            return 0.0
        return (self._last_ns - self._begun_ns) / NS_PER_S

    def take(self, tick: Tick) -> None:
        """Take the next second."""
        before_ns = tick.t_ns if self._last_ns is None else self._last_ns
        passed_s = min(max(tick.t_ns - before_ns, 0), LONGEST_TICK_NS) / NS_PER_S
        if self._begun_ns is None:
            self._begun_ns = tick.t_ns
            self._at_start = {lane.name: lane.acknowledged for lane in tick.lanes}
        self._last_ns = tick.t_ns
        fresh = {v.channel: v.value for v in tick.values if v.age_s <= self._rules.fresh_s}
        self._take_speed(tick, passed_s)
        self._take_fix(fresh, passed_s)
        self._take_motion(tick, fresh)
        self._take_cameras(tick)
        if tick.power is not None and tick.power.volts_of_12 is not None:
            self._volts = max(self._volts or 0.0, tick.power.volts_of_12)
            self._charged |= tick.power.volts_of_12 >= self._rules.charging_v
        self._time = tick.utc.quality
        self._take_trip(tick)

    def checks(self) -> list[Check]:
        """Return every check, in the order of the list."""
        return [look(self) for look in _LOOKS]

    def closing(self) -> bool:
        """Say whether all that needs a moving car has passed or cannot pass: what is open needs a parked one."""
        return all(c.state != "open" for c in self.checks() if c.name not in PARKED)

    def over(self) -> bool:
        """Say whether nothing is open any more."""
        return all(c.state != "open" for c in self.checks())

    def items(self) -> list[Item]:
        """Return the items for the sheet."""
        return [check.item() for check in self.checks()]

    # a tick

    def _take_speed(self, tick: Tick, passed_s: float) -> None:
        fused = tick.fused
        if fused is None or fused.speed_mps is None:
            return
        self._fastest = max(self._fastest, fused.speed_mps)
        if fused.speed_mps >= self._rules.moving_mps:
            self._moving_s += passed_s
            self._sources |= set(fused.sources)
            if len(fused.sources) >= 2:
                self._agree_s += passed_s
        self._still_s = self._still_s + passed_s if fused.speed_mps < self._rules.still_mps else 0.0
        self._stopped |= self._still_s >= self._rules.stop_s and self._fastest >= self._rules.moving_mps
        self._mount = fused.mount if fused.mount is not None else self._mount
        if fused.heading_deg is not None and fused.speed_mps >= self._rules.moving_mps / 2:
            self._turn(tick.t_ns, fused.heading_deg)

    def _turn(self, t_ns: int, heading_deg: float) -> None:
        """Add up the heading over the last `turn_s`, however often it passes north."""
        if self._headings:
            change = (heading_deg - self._headings[-1][1] + 180.0) % 360.0 - 180.0
            heading_deg = self._headings[-1][1] + change
        self._headings.append((t_ns, heading_deg))
        while t_ns - self._headings[0][0] > self._rules.turn_s * NS_PER_S:
            self._headings.popleft()
        headings = [h for _, h in self._headings]
        self._right = max(self._right, heading_deg - min(headings))
        self._left = max(self._left, max(headings) - heading_deg)

    def _take_fix(self, fresh: dict[int, float], passed_s: float) -> None:
        self._fixed = fresh.get(_FIX, 0.0) in (3.0, 4.0)
        if self._fixed:
            self._fix_s += passed_s
            self._satellites = max(self._satellites, int(fresh.get(_SATELLITES, 0.0)))

    def _take_motion(self, tick: Tick, fresh: dict[int, float]) -> None:
        axes = sum(channel in fresh for channel in (*_ACCELERATION, *_TURNING))
        counted = [d.samples for d in tick.devices if d.kind == "imu"]
        if counted and axes:
            if self._samples is not None and tick.t_ns > self._samples[1]:
                count, then_ns = self._samples
                self._rates.append((counted[0] - count) / axes / ((tick.t_ns - then_ns) / NS_PER_S))
            self._samples = counted[0], tick.t_ns
        if self._still_s > 0 and all(channel in fresh for channel in _ACCELERATION):
            self._gravity = sum(fresh[channel] ** 2 for channel in _ACCELERATION) ** 0.5

    def _take_cameras(self, tick: Tick) -> None:
        for camera in tick.cameras:
            well, _ = self._cameras.get(camera.name, (0, ""))
            if well >= SEEN:
                continue
            ok = camera.state == "ok" and camera.fps > 0
            said = f"{camera.width} x {camera.height}, {camera.fps:.0f} pictures/s" if ok else camera.detail
            self._cameras[camera.name] = (well + 1 if ok else 0, said)

    def _take_trip(self, tick: Tick) -> None:
        self._opened |= tick.trip
        self._closed |= self._driving and not tick.trip
        self._driving = tick.trip
        for lane in tick.lanes:
            if lane.acknowledged > self._at_start.get(lane.name, 0):
                self._acknowledged = lane.name
            if lane.name == "trip" and self._closed:
                self._trip_held = lane.head > 0 and lane.acknowledged >= lane.head
        self._trouble = "" if tick.sync is None else tick.sync.reason

    # what stands in the list

    def _speed(self) -> Check:
        rules, name = self._rules, "Speed agrees between sources"
        sources = ", ".join(sorted(self._sources)) or "no source"
        if self._expected.speeds < 2:
            said = f"only one device tells a speed ({sources})"
            advice = "Events stay unconfirmed and do not count; add a satellite receiver, or an adapter or CAN bus."
            return Check(name, "warn" if self._moving_s >= rules.agree_s else "open", said, advice)
        done = self._agree_s >= rules.agree_s
        value = f"{sources}: agreed for {self._agree_s:.0f} of {self._moving_s:.0f} s under way"
        return Check(
            name, "pass" if done else "open", value, "Run `roadwitness doctor`: one of them is silent or wrong."
        )

    def _sky(self) -> Check:
        name = "Satellite fix"
        if not self._expected.gnss:
            return Check(name, "absent", "no satellite receiver is configured")
        if self._fix_s >= self._rules.fix_s:
            seen = f", {self._satellites} satellites" if self._satellites else ""
            return Check(name, "pass", f"three-dimensional{seen}")
        said = f"{self._fix_s:.0f} s with a fix so far" if self._fix_s else "no fix yet"
        return Check(name, "open", said, "Give the antenna a free view of the sky, away from metal and other cables.")

    def _clock(self) -> Check:
        done = self._time in ("gnss", "ntp")
        said = {"gnss": "from satellites", "ntp": "from the network"}.get(self._time, "not known yet")
        return Check("Time", "pass" if done else "open", said, "It comes with the first fix, or from the network.")

    def _motion(self) -> Check:
        name, wanted = "Motion sensor", self._expected.imu_hz
        if self._measured:
            return Check(name, "pass", self._measured)
        if not wanted:
            return Check(name, "absent", "no motion sensor is configured: crashes are only suspected, by the speed")
        rate = min(self._rates) if len(self._rates) == SEEN else 0.0
        value = f"{rate:.0f} of {wanted:.0f} samples/s" if rate else "no samples yet"
        if self._gravity is not None:
            value += f", {self._gravity:.1f} m/s2 at rest"
        good = self._gravity is not None and GRAVITY[0] <= self._gravity <= GRAVITY[1]
        done = good and rate >= self._rules.rate_share * wanted
        self._measured = value if done else ""
        return Check(
            name, "pass" if done else "open", value, "Check its wiring; run `roadwitness doctor` while standing."
        )

    def _turned(self) -> Check:
        name = "Mount"
        if not self._expected.imu_hz:
            return Check(name, "absent", "no motion sensor is configured")
        if not self._expected.mount:
            return Check(name, "skip", "with the step Mount")
        confidence = self._mount or 0.0
        done = confidence >= self._rules.confidence
        advice = "Fix the box firmly, then start off and brake firmly on a straight road a few times."
        return Check(name, "pass" if done else "open", f"confidence {100 * confidence:.0f} %", advice)

    def _pictures(self) -> Check:
        name = "Cameras"
        if not self._expected.cameras:
            return Check(name, "absent", "no camera is configured")
        ill = [c for c in self._expected.cameras if self._cameras.get(c, (0, ""))[0] < SEEN]
        said = "; ".join(
            f"{c}: {self._cameras.get(c, (0, 'no picture yet'))[1]}" for c in ill or self._expected.cameras
        )
        advice = "Check plug and cable; run `roadwitness doctor`, and see: systemctl status roadwitness-dashcam."
        return Check(name, "open" if ill else "pass", said, advice)

    def _supply(self) -> Check:
        name = "Charging"
        if not self._expected.supply and self._volts is None:
            return Check(name, "absent", "nothing tells the supply voltage")
        value = "no voltage yet" if self._volts is None else f"{self._volts:.1f} V at most (12 V scale)"
        if self._charged:
            return Check(name, "pass", value)
        if self._volts is None:
            return Check(name, "open", value, "Check the adapter's plug; run `roadwitness doctor`.")
        return Check(
            name, "warn", value, "The box did not see the alternator charge: check the supply's wire and fuse."
        )

    def _stop(self) -> Check:
        value = "stood after driving" if self._stopped else f"fastest {3.6 * self._fastest:.0f} km/h, no stop yet"
        advice = "Drive off, then stop for some seconds; if it was driven, no device told the speed."
        return Check("A stop", "pass" if self._stopped else "open", value, advice)

    def _corner(self, side: str, reached: float) -> Check:
        done = reached >= self._rules.turn_deg
        return Check(
            f"A {side} turn",
            "pass" if done else "open",
            f"{reached:.0f} degrees",
            "Turn at a corner, not slower than walking pace; it needs a satellite fix.",
        )

    def _begun(self) -> Check:
        advice = "It opens after 50 m of driving; nothing is recorded before the owner agreed (step Consent)."
        return Check("Trip opened", "pass" if self._opened else "open", "yes" if self._opened else "not yet", advice)

    def _ended(self) -> Check:
        value = "yes" if self._closed else "not yet: it closes 3 minutes after the engine was switched off"
        advice = "Park, switch the engine off and wait; the trip closes by itself later, too."
        return Check("Trip closed", "pass" if self._closed else "open", value, advice)

    def _sent(self) -> Check:
        name = "Receiver has it"
        if not self._expected.broker:
            return Check(name, "absent", "no broker is configured")
        if self._trip_held:
            return Check(name, "pass", "it acknowledged the trip")
        if self._acknowledged:
            return Check(
                name, "open", f"it acknowledged records of lane {self._acknowledged}, not the trip yet", _REACH
            )
        return Check(name, "open", f"nothing acknowledged yet{f': {self._trouble}' if self._trouble else ''}", _REACH)


_REACH: Final = "What was recorded is kept and sent later. Run `roadwitness doctor`: its lines on the network say why."
_LOOKS: Final[tuple[Callable[[Acceptance], Check], ...]] = (
    Acceptance._speed,
    Acceptance._sky,
    Acceptance._clock,
    Acceptance._motion,
    Acceptance._turned,
    Acceptance._pictures,
    Acceptance._supply,
    Acceptance._stop,
    lambda a: a._corner("left", a._left),
    lambda a: a._corner("right", a._right),
    Acceptance._begun,
    Acceptance._ended,
    Acceptance._sent,
)
PARKED: Final = ("Trip closed", "Receiver has it")  # these need the engine off, at the end
