"""The power state of the car, from several signs and never from one: a pure state machine in the samples' own time.

Asleep needs agreement, because one sign is always wrong somewhere: smart alternators run at 12.3 V, engines stop at
lights, control units answer as long as they are asked, batteries are charged in garages. Awake needs one good sign,
because a false alarm costs a minute of polling; each false alarm makes the next one harder.
"""

from dataclasses import dataclass
from typing import Final, Literal

from agent.blocks import Block
from agent.clock import NS_PER_S
from agent.power.ledger import Ledger
from agent.power.settings import PowerRules
from agent.power.signs import BUS_SILENT_NS, FRESH_NS, HIGH_V, NEVER, VOLTS_FRESH_NS, Signs

State = Literal["driving", "engine_on", "engine_off", "parked", "cut_off"]
ASLEEP: Final[tuple[State, ...]] = ("parked", "cut_off")
STILL_NS: Final = 10 * NS_PER_S  # not moving for so long is standing
SPOKE_NS: Final = 60 * NS_PER_S  # an adapter that was lost comes back within so long (feed: retry_cap_s)
JUST_NS: Final = 3 * NS_PER_S // 2  # no older than that is what an engine that runs now has said
FELL_V: Final = 0.4  # the alternator let go of the supply (drivers/elm/recovery.py waits for the same rise)
LOW_S: Final = 60.0  # the supply is low for so long: an ignition that was left on does not keep us awake
HARDEST: Final = 5  # doublings of what a fruitless wake asks of the next: 32 times, within …
LONGEST_S: Final = 60.0  # … a minute: a car that drives away is noticed all the same
RISING: Final = 2  # measurements in a row
FLOAT_V: Final = 0.4  # above `charging_v` somebody else pays: chargers float at 13.6 V, lithium rests at 13.4


@dataclass(frozen=True, slots=True)
class Change:
    """A new state, and the signs that led to it in one sentence."""

    t_ns: int
    before: State
    state: State
    why: str


class PowerState:
    """Take samples with `take`, say what time it is with `step`; `state` and what led to it can be read at any time."""

    def __init__(self, rules: PowerRules, now_ns: int) -> None:
        self._rules = rules
        self.signs = Signs(rules.running_rpm, rules.moving_mps, rules.gnss_moving_mps, rules.shake_mps2)
        self.ledger = Ledger(rules, now_ns)
        self.state: State = "engine_off"
        self.since_ns = now_ns
        self.alive_ns = now_ns  # when engine or motion were last seen, or it was last woken
        self.driven_ns = now_ns  # when engine or motion were last proved
        self.volts: float | None = None  # of a 12 V system
        self.charging = False
        self._charged_ns = NEVER
        self._factor = rules.nominal_v / 12.0 or 1.0
        self._before_v = 0.0  # while the engine ran
        self._woken_by = ""  # until an engine or motion proves it right
        self._fruitless: dict[str, int] = {}

    @property
    def asleep(self) -> bool:
        """Say whether polling rests."""
        return self.state in ASLEEP

    def take(self, block: Block) -> None:
        """Take samples in order of time."""
        self.signs.take(block)

    def step(self, now_ns: int) -> Change | None:
        """Judge what is known at `now_ns`; return the change, if any."""
        self._weigh_supply(now_ns)
        running, moving = self.running(now_ns), self.moving(now_ns)
        if running or moving:
            self.alive_ns = now_ns
        proved = running or self.driven(now_ns) or self.signs.shaking.lasting_ns(now_ns) >= LONGEST_S * NS_PER_S
        if proved:
            self.driven_ns = now_ns
            self._woken_by = ""
            self._fruitless.clear()
        floated = self.volts is not None and self.volts >= self._rules.charging_v + FLOAT_V
        self.ledger.step(now_ns, asleep=self.asleep, running=proved, charged=floated, volts=self.volts)
        if self.asleep:
            change = self._wake(now_ns, running, moving) or self._cut(now_ns)
        else:
            change = self._park(now_ns, running, moving) or self._follow(now_ns, running, moving)
        return change

    def running(self, now_ns: int) -> bool:
        """Say whether an engine turns by itself."""
        return now_ns - self.signs.running_ns <= FRESH_NS and self.signs.rpm >= self._rules.running_rpm

    def driven(self, now_ns: int) -> bool:
        """Say whether the car moves by its own or the satellites' account."""
        return max(self.signs.driven_ns, self.signs.travelled_ns) >= now_ns - STILL_NS

    def moving(self, now_ns: int) -> bool:
        """Say whether the car moves: by its own or the satellites' speed, by shaking where there is neither."""
        signs = self.signs
        if self.driven(now_ns):
            return True
        if max(signs.speed_ns, signs.fix_ns) >= now_ns - FRESH_NS:
            return False
        return signs.shaking.lasting_ns(now_ns) >= self._rules.wake_shake_s * NS_PER_S

    def off_signs(self, now_ns: int) -> list[str]:
        """Return in words every sign that the engine is off."""
        signs, found = self.signs, []
        if self._ignition(now_ns) is False:
            found.append("the ignition is off")
        if now_ns - signs.rpm_ns <= FRESH_NS and signs.rpm < self._rules.running_rpm:
            found.append(f"the engine turns at {signs.rpm:.0f} rpm")
        if self._bus_silent(now_ns):
            found.append(f"the bus has been silent for {(now_ns - signs.bus.last_ns) / NS_PER_S:.0f} s")
        fell_v = self._before_v - self.volts if self.volts is not None else 0.0
        if self.volts is not None and (not self.charging or fell_v >= FELL_V):
            fall = f", {fell_v:.1f} V less than before" if fell_v >= FELL_V else ""
            found.append(f"the supply has {self.volts:.1f} V{fall}")
        seen_ns = max(signs.speed_ns, signs.fix_ns, signs.shake_ns)
        if now_ns - seen_ns <= STILL_NS and not self.moving(now_ns):
            found.append("nothing moves")
        return found

    def _weigh_supply(self, now_ns: int) -> None:
        supply = self.signs.supply(now_ns)
        if supply is None:
            self.volts, self.charging = None, False
            return
        volts = supply.now()
        if not self._rules.nominal_v:
            before = supply.before(0)
            self._factor = 2.0 if before is not None and before > HIGH_V else 1.0
        self.volts = volts / self._factor
        self.charging = self.volts >= self._rules.charging_v
        if self.charging:
            self._charged_ns = now_ns
        signs = self.signs
        if now_ns - max(signs.running_ns, signs.driven_ns, signs.travelled_ns) <= JUST_NS:
            self._before_v = self.volts

    def _ignition(self, now_ns: int) -> bool | None:
        return self.signs.ignition if now_ns - self.signs.ignition_ns <= VOLTS_FRESH_NS else None

    def _bus_silent(self, now_ns: int) -> bool:
        """Say whether the bus fell silent when driving ended; one that was lost on the way says nothing."""
        last_ns = self.signs.bus.last_ns
        return last_ns >= self.driven_ns - SPOKE_NS and now_ns - last_ns > BUS_SILENT_NS

    def _follow(self, now_ns: int, running: bool, moving: bool) -> Change | None:
        """Be what is seen now, while awake."""
        if moving:
            return self._become(now_ns, "driving", "the car moves")
        if running:
            return self._become(now_ns, "engine_on", f"the engine turns at {self.signs.rpm:.0f} rpm")
        if self.charging and not self._bus_silent(now_ns) and self._ignition(now_ns) is not False:
            return self._become(now_ns, "engine_on", f"the supply is charged at {self.volts:.1f} V")
        return self._become(now_ns, "engine_off", "; ".join(self.off_signs(now_ns)) or "nothing is heard")

    def _park(self, now_ns: int, running: bool, moving: bool) -> Change | None:
        """Fall asleep when the signs agree for long enough."""
        if running or moving:
            return None
        rules, off_s = self._rules, (now_ns - self.alive_ns) / NS_PER_S
        found = self.off_signs(now_ns)
        if self._woken_by and off_s >= rules.fruitless_s and not self.charging:
            self._fruitless[self._woken_by] = min(self._fruitless.get(self._woken_by, 0) + 1, HARDEST)
            return self._sleep(now_ns, [f"nothing came of waking by {self._woken_by}", *found])
        ignition = self._ignition(now_ns)
        if ignition is False:
            key_off_s = (now_ns - self.signs.switched_ns) / NS_PER_S
            if min(off_s, key_off_s) >= rules.key_off_s and len(found) >= (3 if self.charging else 2):
                return self._sleep(now_ns, found)
        agreed_s = min(off_s, (now_ns - self._charged_ns) / NS_PER_S)
        left_on = ignition is True and not self.ledger.low(now_ns, LOW_S)
        if agreed_s >= rules.engine_off_s and len(found) >= 2 and not left_on:
            return self._sleep(now_ns, found)
        if off_s >= rules.standing_s:
            return self._sleep(now_ns, [*found, f"no engine and no motion for {off_s:.0f} s"])
        return None

    def _sleep(self, now_ns: int, found: list[str]) -> Change | None:
        self.signs.forget_supply()
        self._woken_by = ""
        return self._become(now_ns, "parked", "; ".join(found))

    def _wake(self, now_ns: int, running: bool, moving: bool) -> Change | None:
        """Wake by the first good sign."""
        by, why = self._wake_sign(now_ns, running, moving)
        if not by:
            return None
        self.alive_ns = now_ns
        self._woken_by = "" if running or (by == "motion" and self.driven(now_ns)) else by
        self._before_v = 0.0
        return self._become(now_ns, "driving" if moving else "engine_on" if running else "engine_off", why)

    def _wake_sign(self, now_ns: int, running: bool, moving: bool) -> tuple[str, str]:
        """Return the kind of sign and the sentence for it, both '' without one."""
        signs, rules = self.signs, self._rules
        if running:
            return "engine", f"the engine turns at {signs.rpm:.0f} rpm"
        if moving and max(signs.driven_ns, signs.travelled_ns) > self.since_ns:
            return "motion", "the car moves"
        if self._ignition(now_ns) and signs.switched_ns > self.since_ns:
            return "ignition", "the ignition was switched on"
        bus = signs.bus
        if bus.since_ns > self.since_ns and bus.lasting_ns(now_ns) >= self._needed_ns("bus", rules.wake_bus_s):
            return "bus", "the bus speaks again"
        shaken_ns = min(signs.shaking.lasting_ns(now_ns), signs.shaking.last_ns - self.since_ns)
        if shaken_ns >= self._needed_ns("motion", rules.wake_shake_s):
            return "motion", f"the car has shaken for {shaken_ns / NS_PER_S:.0f} s"
        step = self._voltage_step(now_ns)
        return ("voltage", step) if step else ("", "")

    def _needed_ns(self, kind: str, seconds: float) -> float:
        return min(seconds * 2.0 ** self._fruitless.get(kind, 0), max(LONGEST_S, seconds)) * NS_PER_S

    def _voltage_step(self, now_ns: int) -> str:
        """Say in words by how much the supply has jumped, '' when it has not."""
        supply, rules = self.signs.supply(now_ns), self._rules
        rising = RISING + self._fruitless.get("voltage", 0)
        before = supply.before(rising) if supply is not None else None
        if supply is None or before is None:
            return ""
        latest = [volts / self._factor for _, volts in supply.recent][-rising:]
        before /= self._factor
        if min(latest) >= before + rules.wake_rise_v:
            return f"the supply rose from {before:.1f} to {latest[-1]:.1f} V"
        if latest[-1] <= before - rules.wake_dip_v:
            return f"the supply fell from {before:.1f} to {latest[-1]:.1f} V: a starter turns"
        return ""

    def _cut(self, now_ns: int) -> Change | None:
        if self.state == "cut_off" or self.moving(now_ns):
            return None
        why = self.ledger.enough(now_ns, self.driven_ns)
        return self._become(now_ns, "cut_off", why) if why else None

    def _become(self, now_ns: int, state: State, why: str) -> Change | None:
        if state == self.state:
            return None
        change = Change(now_ns, self.state, state, why)
        self.state, self.since_ns = state, now_ns
        return change
