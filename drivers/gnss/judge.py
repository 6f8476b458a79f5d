"""What the reports say of receiver, antenna and sky: staleness, lost fixes, jumps, wrong dates, jamming. Pure.

Thresholds without a source named beside them are our choice; none was measured on a jammed receiver.
"""

import math
from typing import Final

from agent.clock import NS_PER_S, iso_utc
from drivers.facts import Facts, FactState
from drivers.gnss.messages import FIX_3D, NO_FIX, TIME_ONLY, Fix, Sky

EARTH_M_PER_DEG: Final = 111_195.0  # 6,371,009 m × π / 180
FASTEST_MPS: Final = 120.0  # channel table: no car is faster
JUMP_M: Final = 50.0  # less is multipath between houses
CALM_NS: Final = 10 * NS_PER_S  # a jump is over when none followed for this long
# A rolled-over receiver is 1,024 weeks back (which agent.boottime repairs); nothing live is before or after these.
EARLIEST_UTC_NS: Final = 946_684_800 * NS_PER_S  # 2000-01-01: below this a date is a receiver's cold-start default
LIVE_UTC_NS: Final = 1_735_689_600 * NS_PER_S  # 2025-01-01: no live device of ours is older
LATEST_UTC_NS: Final = LIVE_UTC_NS + 1024 * 7 * 86_400 * NS_PER_S
# Strength of the four best satellites falling by 10 dB at once: leaves and houses take single satellites, a jammer or
# a roof takes all.
BEST: Final = 4
COLLAPSE_DB: Final = 10.0
LEARN: Final = 0.05  # share of a new report in the usual strength: 20 reports, 20 s at 1 Hz
LEARNT: Final = 10  # reports before a fall means anything
DEAF_NS: Final = 10 * NS_PER_S


class Judge:
    """Follow the reports of one receiver and keep its facts."""

    def __init__(self, facts: Facts, source: str, stale_ns: int) -> None:
        self._facts = facts
        self._source = source
        self._stale_ns = stale_ns
        self._last_fix: tuple[int, float, float] | None = None
        self._jumped_ns: int | None = None
        self._report_ns: int | None = None
        self._usual_db = 0.0
        self._reports = 0
        self._heard_ns: int | None = None
        self.jumps = 0
        self.wrong_dates = 0

    def begin(self, now_ns: int) -> None:
        """Begin to wait for reports, at open."""
        self._report_ns = now_ns

    def fix(self, t_ns: int, now_ns: int, fix: Fix) -> None:
        """Take a fix that was true at `t_ns` and arrived at `now_ns`."""
        self._report_ns = now_ns
        say, source = self._facts.say, self._source
        say(now_ns, source, "ok", "the receiver reports")
        if fix.fix_type == NO_FIX:
            say(now_ns, f"{source}:fix", "lost", "the receiver has no fix")
            return
        if fix.fix_type >= FIX_3D and fix.fix_type != TIME_ONLY:
            say(now_ns, f"{source}:fix", "ok", "3-D fix")
        else:
            say(now_ns, f"{source}:fix", "degraded", "the fix is not three-dimensional: few satellites in view")
        self._position(t_ns, fix)

    def usable_utc(self, now_ns: int, fix: Fix) -> int | None:
        """Return the UTC of a fix where it can serve as time (perhaps 1,024 weeks late), else None."""
        if fix.utc_ns is None or fix.fix_type == NO_FIX:
            return None  # without a fix it is the receiver's own clock, or its default
        source = f"{self._source}:time"
        if not EARLIEST_UTC_NS <= fix.utc_ns < LATEST_UTC_NS:
            self.wrong_dates += 1
            self._facts.say(now_ns, source, "lost", f"the receiver's date cannot be: {_date(fix.utc_ns)}")
            return None
        if fix.utc_ns < LIVE_UTC_NS:
            self.wrong_dates += 1
            self._facts.say(
                now_ns,
                source,
                "degraded",
                f"the receiver's date is {_date(fix.utc_ns)}: its week number has rolled over",
            )
        else:
            self._facts.say(now_ns, source, "ok", "the receiver's date can be")
        return fix.utc_ns

    def sky(self, now_ns: int, sky: Sky) -> None:
        """Take a list of satellites: compare their strength with the usual one."""
        source = f"{self._source}:signal"
        best = sky.heard_dbhz[:BEST]
        strength = sum(best) / BEST  # a satellite that is missing counts as nothing heard
        collapsed = self._reports >= LEARNT and strength < self._usual_db - COLLAPSE_DB
        if best:
            self._heard_ns = now_ns
        elif self._heard_ns is not None and now_ns - self._heard_ns >= DEAF_NS:
            self._facts.say(
                now_ns, source, "lost", "no satellite is heard any more: antenna unplugged or broken, or a roof above"
            )
            return
        if collapsed:
            if self._facts.state(source) not in ("lost", "degraded"):
                weaker = f"{self._usual_db - strength:.0f}"
                said = f"all satellites became weaker by {weaker} dB at once: jamming, or a roof"
                self._facts.say(now_ns, source, "degraded", said, {"weaker_db": weaker})
            return
        if len(best) == BEST:
            share = LEARN if self._reports else 1.0
            self._usual_db += share * (strength - self._usual_db)
            self._reports += 1
            self._facts.say(now_ns, source, "ok", "satellites are heard as usual")

    def trouble(self, now_ns: int, state: FactState, detail: str) -> None:
        """Take word from gpsd that the receiver is gone, or that gpsd refused something."""
        self._facts.say(now_ns, self._source, state, detail)

    def passing(self, now_ns: int) -> None:
        """Let time pass without a report."""
        if self._report_ns is not None and now_ns - self._report_ns > self._stale_ns:
            seconds = self._stale_ns / NS_PER_S
            if self._facts.state(self._source) != "lost":
                self._facts.say(now_ns, self._source, "degraded", f"no report from the receiver for {seconds:g} s")
        if self._jumped_ns is not None and now_ns - self._jumped_ns > CALM_NS:
            self._jumped_ns = None
            self._facts.say(now_ns, f"{self._source}:position", "ok", "positions follow each other again")

    def _position(self, t_ns: int, fix: Fix) -> None:
        if fix.latitude is None or fix.longitude is None or abs(fix.latitude) > 90.0:
            return
        before, self._last_fix = self._last_fix, (t_ns, fix.latitude, fix.longitude)
        if before is None:
            return
        north_m = (fix.latitude - before[1]) * EARTH_M_PER_DEG
        east_deg = (fix.longitude - before[2] + 180.0) % 360.0 - 180.0
        moved_m = math.hypot(north_m, east_deg * EARTH_M_PER_DEG * math.cos(math.radians(fix.latitude)))
        possible_m = JUMP_M + FASTEST_MPS * (t_ns - before[0]) / NS_PER_S
        if moved_m <= possible_m:
            return
        self.jumps += 1
        self._jumped_ns = t_ns
        self._facts.say(
            t_ns, f"{self._source}:position", "degraded", f"the position jumped by {moved_m:.0f} m, as no car can"
        )


def _date(utc_ns: int) -> str:
    return iso_utc(utc_ns)[:10]
