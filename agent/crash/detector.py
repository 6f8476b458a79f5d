"""The crash detector: samples in, crashes and impacts that are none out; a pure function of the samples and rows.

The kernel tells what physics says (velocity changes, bumps, tilt, speed that vanished) at the exact sample; here it is
judged whether the vehicle or only the box was hit. What must wait, waits for a time in the signal, never for a block's
end: any split of the samples gives the same records.
"""

from collections import deque
from math import acos, degrees
from typing import Any, Final

import numpy as np

from agent.blocks import BLOCK, Block
from agent.crash import measure as of
from agent.crash import stream as on
from agent.crash.evidence import FELL_BEFORE_NS, HANDLED_BEFORE_NS, LOOK_NS, SECOND, Evidence
from agent.crash.found import Incident, Plan, bump, crash
from agent.crash.settings import CrashSettings
from agent.crash.stream import KMH, SPEED_NAMES, G
from agent.records import Crash, CrashKind, Event, Mount, Severity
from agent.state import State
from agent.vectors import Floats, dot, unit

REASONS: Final = (
    "handled",
    "dropped",
    "knocked",
    "swung_back",
    "still_driving",
    "tilted",
    "upright",
    "speed_glitch",
    "clipped_bump",
    "bumps_over_limit",
)
LATE: Final = 2.5  # knock times after time zero: a knock is told from a crash
KNOCK_SHARE: Final = 0.85
KNOCK_FROM_HZ: Final = 90.0  # slower sensors smear a knock into a crash
COLLAPSE_WAIT_NS: Final = 5 * SECOND // 2
QUIET_WAIT_NS: Final = 3 * SECOND // 10  # where no source of speed speaks but gyroscopes do
SWING_NS: Final = 3 * SECOND // 2  # where there are no gyroscopes: a swing of the arm and back
CLIPPED_WAIT_NS: Final = SECOND // 2
STEADY_NS: Final = 100_000_000
SHAKEN_NS: Final = 400_000_000
MEASURED_NS: Final = 340_000_000  # after time zero: 300 ms and the tail
ROLL_PATIENCE_NS: Final = 5 * SECOND
FLAG_NS: Final = 3 * SECOND  # a flag of the vehicle within so much belongs to the collision
IMU_FROM_HZ: Final = 40.0  # slower ones cannot see a collision
VIOLENT_G: Final = 2.0
FULL_KMH: Final = 12.0  # a clipped pulse counts from this estimate on: half as much again as the trigger
FULL_S: Final = 0.04  # and from this width: potholes and kerbs are shorter
CREEP_MPS: Final = 5.5  # 20 km/h: what still drives faster has not rolled over
ECHO_NS: Final = 3 * SECOND  # a second source sees the same loss so much later at most
PLATEAU: Final = 0.95
STALE_S: Final = 3.0  # an OBD value that did not change for so long was perhaps held back
HOUR_NS: Final = 3600 * SECOND


class CrashDetector:
    """Finds collisions in the samples of one boot or one recording.

    `boot` names the incidents. `counts` says what was turned down, by reason.
    """

    def __init__(self, settings: CrashSettings, boot: str, mount: Mount | None = None) -> None:
        from agent.crash.kernel import collide

        self._collide = collide
        self._settings = settings
        self._boot = boot
        self._mount = mount
        self._uses = on.uses()
        self._parameters = on.parameters(settings)
        self._stream = on.new_stream()
        self._s: Any = self._stream[0]
        self._ring = np.zeros((on.RING, on.COLUMNS))
        self._times = np.zeros(on.RING, np.int64)
        self._tally = np.zeros(len(on.COUNTS), np.int64)
        self._notes = np.zeros(on.NOTES, on.NOTE)
        self._evidence = Evidence(self._s, settings)
        self._persist_ns = round(settings.persist_s * 1e9)
        self._incidents: list[Incident] = []
        self._last_zero_ns, self._last_number = on.NEVER_NS, 0  # of the crash that was told last
        self._bumps: deque[int] = deque()
        self._reasons = dict.fromkeys(REASONS, 0)
        self._found: list[Crash | Event] = []

    @property
    def counts(self) -> dict[str, int]:
        """What was dropped and what was found to be no crash, by reason."""
        dropped = {f"crash_{name}": int(n) for name, n in zip(on.COUNTS, self._tally, strict=True)}
        return dropped | {f"crash_{name}": n for name, n in self._reasons.items()}

    def mount_known(self, mount: Mount) -> None:
        """Take how the box sits in the car, from the next sample on."""
        self._mount = mount

    def step(self, block: Block, rows: State) -> list[Crash | Event]:
        """Take the next samples in time order and the rows of state that became known; return what was found."""
        self._evidence.add(rows)
        block = np.require(block, BLOCK, ["C", "W"])
        i = 0
        while i < len(block):
            self._s["wake"] = min((incident.due[0] for incident in self._incidents), default=on.ALWAYS_NS)
            i, n = self._collide(
                block,
                i,
                self._uses,
                self._parameters,
                self._stream,
                self._ring,
                self._times,
                self._tally,
                self._notes,
            )
            for note in self._notes[:n].copy():
                self._take(note)
        return self._give()

    def finish(self) -> list[Crash | Event]:
        """End the boot or the recording: judge and complete what is open with what is known."""
        now = int(self._s["now"])
        for incident in list(self._incidents):
            if incident.plan != "told":
                self._decide(incident, now)
            if incident.plan == "told":
                self._complete(incident, now)
        self._incidents.clear()
        s = self._s
        if int(s["bump_from"]) != on.NEVER_NS and not int(s["bump_crash"]):
            self._bump(int(s["bump_from"]), int(s["bump_to"]), float(s["bump_mean"]), float(s["bump_peak"]), now)
        s["bump_from"] = on.NEVER_NS
        return self._give()

    def _give(self) -> list[Crash | Event]:
        found, self._found = self._found, []
        return found

    def _take(self, note: Any) -> None:
        """Act on one note of the kernel."""
        now, kind = int(note["t"]), int(note["kind"])
        if kind == on.WAKE:
            self._wake(now)
        elif kind == on.TRIGGER:
            self._triggered(now)
        elif kind == on.PULSE:
            self._clipped_pulse(int(note["from_t"]), int(note["to_t"]), now)
        elif kind == on.BUMP:
            self._bump(int(note["from_t"]), int(note["to_t"]), float(note["before"]), float(note["after"]), now)
        elif kind == on.ROLL:
            self._rolled(int(note["from_t"]), now)
        elif kind == on.FLAGGED:
            self._flagged(on.FLAGS[int(note["index"])], now)
        elif kind == on.COLLAPSE:
            self._speed_lost(note, now)

    def _wake(self, now: int) -> None:
        for incident in [one for one in self._incidents if one.due[0] <= now]:
            incident.due.pop(0)
            if incident.measure_ns is not None and now >= incident.measure_ns:
                self._measure(incident)
                incident.measure_ns = None
            if incident.plan != "told" and now >= incident.decide_ns:
                self._decide(incident, now)
            elif incident.plan == "told" and not incident.due:
                self._complete(incident, now)

    # what the kernel tells

    def _triggered(self, now: int) -> None:
        """A velocity change of 8 km/h in 150 ms: was it the vehicle's?"""
        s = self._s
        gravity = s["gravity"].copy()
        seen = self._trace(gravity, now)
        zero = of.time_zero(seen, now, int(s["floor_t"]), self._settings)
        incident = self._new("impact", zero, now)
        incident.gravity = gravity
        self._measure(incident)
        moving = self._evidence.moving(zero)
        for i, name in enumerate(on.FLAGS):
            if int(s["flag_t"][i]) >= zero - SECOND:
                incident.confirm(name)
        touched = self._touched(zero)
        if incident.confirmed_by:
            self._tell(incident, now)
        elif moving is not True and self._evidence.switched_off(now):
            self._wait(incident, "parked", zero + MEASURED_NS)
        elif moving is True and touched:
            self._wait(incident, "collapse", zero + COLLAPSE_WAIT_NS)
        elif touched:
            self._reject(incident, touched, now)
        elif moving is not True:
            self._wait(incident, "standing", zero + self._patience_ns(moving, now))
        elif self._knocked(incident):
            self._wait(incident, "knock", zero + round(LATE * self._knock_ns(incident)))
        else:
            self._tell(incident, now)

    def _clipped_pulse(self, begin: int, end: int, now: int) -> None:
        """A pulse at the sensor's rails that did not reach the threshold: the true one may have."""
        s = self._s
        gravity = s["gravity"].copy()
        seen = self._trace(gravity, now)
        zero = of.time_zero(seen, end, begin, self._settings)
        moving = self._evidence.moving(zero)
        change, width = of.full_pulse(seen, begin, end)
        full = change >= FULL_KMH * KMH and width >= FULL_S
        parked = moving is not True and self._evidence.switched_off(now)
        if self._touched(zero) or parked or not (full or moving):
            self._reasons["clipped_bump"] += 1
            return
        incident = self._new("impact", zero, now)
        incident.gravity = gravity
        self._measure(incident)
        s["floor_t"] = now
        if not full:
            self._wait(incident, "clipped", zero + CLIPPED_WAIT_NS)
        elif moving:
            s["bump_crash"] = 1
            self._tell(incident, now)
        else:
            s["bump_crash"] = 1
            self._wait(incident, "standing", zero + self._patience_ns(moving, now))

    def _bump(self, begin: int, end: int, mean_mps: float, peak_mps2: float, now: int) -> None:
        """A blow that is no crash: of the road, of a door, of the box, or of who hit the parked car."""
        sets = self._settings
        parked = self._evidence.parked(begin, now)
        least_g = sets.parked_g if parked else sets.bump_g
        if mean_mps < least_g * G * sets.onset_longitudinal_ms / 1e3:
            return  # a soft one of a car whose ignition is off, but which moves, or whose box is handled
        mean_mps2 = mean_mps / (sets.onset_longitudinal_ms * 1e-3)
        levels = (least_g * G, sets.bump_moderate_g * G, sets.bump_severe_g * G)
        while self._bumps and self._bumps[0] < now - HOUR_NS:
            self._bumps.popleft()
        if len(self._bumps) >= self._settings.bumps_per_hour:
            self._reasons["bumps_over_limit"] += 1
            return
        self._bumps.append(now)
        severity: Severity = "minor"
        if mean_mps2 >= levels[2]:
            severity = "severe"
        elif mean_mps2 >= levels[1]:
            severity = "moderate"
        rounded = tuple(round(x, 3) for x in levels)
        self._found.append(
            bump(
                "parked_impact" if parked else "bump",
                severity,
                begin,
                end,
                peak_mps2,
                self._evidence.before(begin),
                (rounded[0], rounded[1], rounded[2]),
                self._evidence.place(begin, now),
            )
        )

    def _rolled(self, leaning_ns: int, now: int) -> None:
        """More than 60° from upright for a second: the car, or a box that came off, or rocks in its holder?"""
        if of.reads_upright(self._s["low"], self._s["home"], self._settings.tilt_deg):
            self._reasons["upright"] += 1
            self._s["over_told"], self._s["over_from"] = 0, now  # asked again in a second
            return
        moving = self._evidence.moving(leaning_ns)
        if moving is None:
            seen = self._trace(self._s["gravity"].copy(), now)
            recent = seen.t >= leaning_ns - SECOND
            calm = np.hypot(seen.a[recent, 0], seen.a[recent, 1]).max(initial=0.0) < VIOLENT_G * G
            if calm or int(self._s["fell_t"]) >= leaning_ns - FELL_BEFORE_NS:
                moving = False
        if moving is False:
            self._reasons["tilted"] += 1
            return
        incident = self._new("rollover", leaning_ns, now)
        incident.roll_deg = self._roll()
        if self._has_stopped(incident, now):
            self._tell(incident, now)
        else:
            self._wait(incident, "roll", now + ROLL_PATIENCE_NS)

    def _flagged(self, name: str, now: int) -> None:
        """The vehicle itself says that it crashed."""
        near = [one for one in self._incidents if one.zero_ns >= now - FLAG_NS]
        for incident in near:
            incident.confirm(name)
            if incident.plan != "told":
                self._tell(incident, now)
        if near or name == "fuel_cut":  # overrun cuts the fuel as well
            return
        bumped = int(self._s["bump_from"])
        felt = bumped >= now - SECOND
        incident = self._new("impact" if felt else "suspected", bumped if felt else now, now)
        incident.confirm(name)
        if felt:
            self._s["bump_crash"] = 1
            incident.gravity = self._s["gravity"].copy()
            self._measure(incident)
        self._tell(incident, now)

    def _speed_lost(self, note: Any, now: int) -> None:
        """A source of speed fell faster than tyres can brake; an accelerometer that works knows better."""
        source = int(note["index"])
        begin = int(note["from_t"])
        known = any(one.zero_ns >= begin - ECHO_NS for one in self._incidents)
        if known or self._rate(now) is not None:
            return
        t, v = self._evidence.speeds(source, begin - SECOND // 2, now)
        begin = int(t[np.flatnonzero(v >= PLATEAU * v.max())[-1]])  # the last moment before it fell
        incident = self._new("suspected", begin, now)
        incident.source, incident.held_s = source, float(note["after"])
        incident.speed_before_mps = float(v.max())
        incident.end_ns = now
        self._wait(incident, "suspect", now + round(self._settings.suspect_hold_s * 1e9))

    # what becomes of an incident

    def _decide(self, incident: Incident, now: int) -> None:
        """Judge what had to wait."""
        plan, zero = incident.plan, incident.zero_ns
        evidence = self._evidence
        reason = ""
        if plan == "knock":
            reason = "knocked" if self._knocked(incident) else ""
        elif plan == "collapse":
            change = incident.measured.resultant_mps if incident.measured else 0.0
            if not evidence.collapsed(zero, change, now) and not evidence.stopped(zero, now):
                reason = self._touched(zero) or "still_driving"
        elif plan == "clipped":
            if not evidence.lost_at_once(zero, now):
                self._reasons["clipped_bump"] += 1
                self._incidents.remove(incident)
                return
            self._s["bump_crash"] = 1
        elif plan == "roll":
            reason = "" if self._has_stopped(incident, now) else "still_driving"
        elif plan == "suspect":
            reason = "" if self._plausible(incident, now) else "speed_glitch"
        elif plan in ("standing", "parked") and not evidence.pushed_away(zero, now):
            reason = self._moved_by_hand(incident, now)
        if reason:
            self._reject(incident, reason, now)
        elif plan == "parked":
            self._incidents.remove(incident)
            m = incident.measured
            peak, change = (m.peak_mps2, m.resultant_mps) if m else (0.0, 0.0)
            self._bump(zero, incident.known_ns, change, peak, now)
        else:
            self._tell(incident, now)

    def _tell(self, incident: Incident, now: int) -> None:
        """Say that it is a crash, at once."""
        incident.plan = "told"
        since = incident.zero_ns - self._last_zero_ns
        if 0 <= since <= round(self._settings.chain_s * 1e9):
            incident.number, incident.since_previous_ns = self._last_number + 1, since
        self._last_zero_ns, self._last_number = incident.zero_ns, incident.number
        end = max(incident.zero_ns + round(self._settings.complete_s * 1e9), now) + LOOK_NS
        incident.due = [x for x in (incident.measure_ns,) if x is not None and x < end] + [end]
        self._look_around(incident, now)
        self._found.append(crash(incident, self._boot, complete=False))

    def _complete(self, incident: Incident, now: int) -> None:
        """Say what the whole of it was."""
        self._incidents.remove(incident)
        if incident.measure_ns is not None:
            self._measure(incident)
        zero = incident.zero_ns
        self._look_around(incident, now)
        incident.speed_after_mps = self._evidence.after(zero, now)
        if incident.kind != "suspected":
            change = incident.measured.resultant_mps if incident.measured else 0.0
            if self._evidence.collapsed(zero, change, now):
                incident.confirm("speed_collapse")
        if self._evidence.stopped(zero, now):
            incident.confirm("standstill")
        if incident.kind == "rollover":
            incident.roll_deg = max(incident.roll_deg or 0.0, self._roll())
        self._found.append(crash(incident, self._boot, complete=True))

    def _reject(self, incident: Incident, reason: str, now: int) -> None:
        """No crash: what shook the box is a bump at most."""
        self._reasons[reason] += 1
        if incident in self._incidents:
            self._incidents.remove(incident)
        if incident.kind == "impact" and incident.measured:
            m = incident.measured
            self._bump(incident.zero_ns, incident.known_ns, m.resultant_mps, m.peak_mps2, now)

    def _new(self, kind: CrashKind, zero: int, now: int) -> Incident:
        incident = Incident(kind, zero, now)
        incident.rate_hz = self._rate(now)
        incident.speed_before_mps = self._evidence.before(zero)
        heard = [SPEED_NAMES[i] for i in range(on.SPEEDS) if int(self._s["speed_t"][i]) >= zero - 10 * SECOND]
        incident.sensors = (["imu"] if incident.rate_hz is not None else []) + heard
        if kind == "impact":
            incident.measure_ns = zero + MEASURED_NS
        self._incidents.append(incident)
        return incident

    def _wait(self, incident: Incident, plan: Plan, until_ns: int) -> None:
        incident.plan, incident.decide_ns = plan, until_ns
        incident.due = sorted(x for x in (until_ns, incident.measure_ns) if x is not None)

    def _look_around(self, incident: Incident, now: int) -> None:
        incident.place = self._evidence.place(incident.zero_ns, now)

    def _trace(self, gravity: Floats, now: int) -> of.Trace:
        return of.trace(self._ring, self._times, self._s, gravity, self._mount, now - 2 * SECOND)

    def _seen(self, incident: Incident, now: int) -> of.Trace:
        """Return the trace around an incident; after a gap, which empties the ring, the last that had its time zero."""
        seen = self._trace(incident.gravity, min(now, incident.zero_ns + SWING_NS))
        if len(seen.t) > 1 and seen.t[0] <= incident.zero_ns:
            incident.seen = seen
        return incident.seen or seen

    def _measure(self, incident: Incident) -> None:
        if incident.gravity is None:
            return
        seen = self._seen(incident, incident.zero_ns + SECOND // 2)
        if len(seen.t) < 2 or seen.t[-1] <= incident.zero_ns:
            return
        incident.measured = of.measure(seen, incident.zero_ns, self._settings)
        incident.mount_confidence = self._mount.confidence if seen.oriented and self._mount else 0.0

    def _knocked(self, incident: Incident) -> bool:
        """Say whether nearly all of the velocity change came at once: that moves a box, not a car."""
        if (incident.rate_hz or 0.0) < KNOCK_FROM_HZ:
            return False
        seen = self._seen(incident, incident.zero_ns + SECOND // 2)
        return of.early_share(seen, incident.zero_ns, self._knock_ns(incident)) >= KNOCK_SHARE

    def _knock_ns(self, incident: Incident) -> int:
        """Return within what time a change of velocity is a knock: a slow sensor spreads it over two periods."""
        return round(max(self._settings.knock_ms * 1e6, 2e9 / (incident.rate_hz or 1e3)))

    def _touched(self, zero: int) -> str:
        """Say by which sign the box was moved on its own just before: "handled", "dropped", or "" for none."""
        s = self._s
        if int(s["fell_t"]) >= zero - FELL_BEFORE_NS:
            return "dropped"
        turned = int(s["handled_t"]) >= zero - HANDLED_BEFORE_NS and int(s["handled_from"]) < zero
        return "handled" if turned else ""

    def _patience_ns(self, moving: bool | None, now: int) -> int:
        """Return for how long a blow is looked at that no speed explains."""
        if not self._turning(now):
            return SWING_NS
        return QUIET_WAIT_NS if moving is None else self._persist_ns

    def _turning(self, now: int) -> bool:
        return now - int(self._s["turn_t"]) <= SECOND // 10

    def _moved_by_hand(self, incident: Incident, now: int) -> str:
        """Return why a blow on a car that stands, or of which no speed is known, was the box's alone, else ""."""
        s, zero = self._s, incident.zero_ns
        if self._knocked(incident):
            return "knocked"
        locked = incident.measured is not None and incident.measured.locked
        if not locked and int(s["handled_t"]) >= zero - HANDLED_BEFORE_NS:
            return "handled"
        was, is_now = unit(incident.gravity), unit(s["gravity"])
        if self._turning(now) and degrees(acos(min(1.0, dot(was, is_now)))) > self._settings.handled_deg:
            return "handled"
        gentle = self._turning(now) and int(s["stirred_t"]) < zero - HANDLED_BEFORE_NS
        seen = self._seen(incident, now)
        if not self._turning(now):  # a car that stands is pushed once; a box in the hand again and again
            before = of.pushed(seen, zero - SECOND, zero - STEADY_NS, self._settings)
            if before or (not locked and of.pushed(seen, zero + SHAKEN_NS, now, self._settings)):
                return "handled"
        return "swung_back" if not gentle and of.swung_back(seen, zero, self._settings) else ""

    def _has_stopped(self, incident: Incident, now: int) -> bool:
        """Say whether what lies on its side has lost its speed, or nobody can say."""
        speed = self._evidence.speed_now(now)
        return speed is None or speed <= max(CREEP_MPS, 0.5 * (incident.speed_before_mps or 0.0))

    def _plausible(self, incident: Incident, now: int) -> bool:
        """Say whether the speed that vanished was the vehicle's."""
        return self._evidence.lost_speed(
            incident.source, incident.zero_ns, incident.end_ns, now, incident.held_s > STALE_S
        )

    def _roll(self) -> float:
        return degrees(acos(max(-1.0, min(1.0, float(self._s["over_least"])))))

    def _rate(self, now: int) -> float | None:
        """Return the accelerometer's rate in Hz; None where it is silent or too slow to see a collision."""
        s = self._s
        period = float(s["period"])
        alive = now - int(s["t"]) <= SECOND and int(s["run"]) > 2 and 0.0 < period <= 1.0 / IMU_FROM_HZ
        return 1.0 / period if alive else None
