"""What the box has taken from the battery, and whether that, the voltage or the time says that it is enough."""

from agent.clock import NS_PER_S
from agent.power.settings import PowerRules

NS_PER_H = 3600 * NS_PER_S
RECOVER_V = 0.2  # above the limit by this: the supply was not low, it was loaded


class Ledger:
    """Energy by a constant power for each state; a low voltage by how long it has lasted without a break."""

    def __init__(self, rules: PowerRules, now_ns: int) -> None:
        self._rules = rules
        self._last_ns = now_ns
        self._low_ns: int | None = None
        self.taken_wh = 0.0

    def step(self, now_ns: int, *, asleep: bool, running: bool, charged: bool, volts: float | None) -> None:
        """Account for the time since the last step; `volts` are those of a 12 V system, None where unknown."""
        hours = max(now_ns - self._last_ns, 0) / NS_PER_H
        self._last_ns = now_ns
        if running:
            self.taken_wh = max(0.0, self.taken_wh - self._rules.recharge_w * hours)
        elif not charged:
            self.taken_wh += (self._rules.parked_w if asleep else self._rules.awake_w) * hours
        if volts is None or running or volts > self._rules.cut_v + RECOVER_V:
            self._low_ns = None
        elif volts <= self._rules.cut_v and self._low_ns is None:
            self._low_ns = now_ns

    def low(self, now_ns: int, seconds: float) -> bool:
        """Say whether the voltage has been low for so long."""
        return self._low_ns is not None and now_ns - self._low_ns >= seconds * NS_PER_S

    def enough(self, now_ns: int, driven_ns: int) -> str:
        """Say why the battery must be left alone, '' while it need not; the car was last driven at `driven_ns`."""
        rules = self._rules
        if self.low(now_ns, rules.cut_s):
            return f"the supply has been at {rules.cut_v:g} V or less for {rules.cut_s:g} s"
        if self.taken_wh >= rules.budget_wh:
            return f"{self.taken_wh:.1f} Wh were taken from the battery, {rules.budget_wh:g} may be"
        if now_ns - driven_ns >= rules.parked_h * NS_PER_H:
            return f"it has been parked for {rules.parked_h:g} h"
        return ""
