"""The car's battery is low, or the supply has vanished while the car was in use."""

from typing import Final

from agent.clock import NS_PER_S
from agent.guard.memory import Memory
from agent.guard.senses import CAR_BATTERY_V, Second
from agent.guard.settings import SupplySettings
from agent.guard.standing import Standing, event, level_of
from agent.records import SEVERITIES, Event

TRUCK_V: Final = 18.0  # a 12 V system never holds so much, not even with a truck's battery at its terminals …
TRUCK_S: Final = 60.0  # … for so long
RECENT_NS: Final = 60 * NS_PER_S  # "was there", "was driven": within this
DRIVING_MPS: Final = 2.8  # 10 km/h
BACK_S: Final = 30.0  # supply is back for so long: the next time is another one


class Supply:
    """Look at the voltage of battery and supply; `charging` is what the tow rule wants to know of it."""

    def __init__(self, settings: SupplySettings, memory: Memory) -> None:
        self._settings = settings
        self._memory = memory
        self._low = Standing(settings.hold_s, settings.calm_s, memory.level("low_battery"))
        self._gone = Standing(settings.vanished_s, BACK_S, memory.level("power_lost"))
        self._truck = Standing(TRUCK_S, TRUCK_S)
        self._lowest_v = 99.0
        self._there_ns = self._used_ns = -RECENT_NS
        self._fast: tuple[int, float] = (-RECENT_NS, 0.0)
        self._factor = 1.0

    def charging(self, now: Second) -> bool:
        """Say whether the voltage is one that only a running engine or a charger gives."""
        return now.volts is not None and now.volts >= self._settings.charging_v * self._factor

    def step(self, now: Second) -> list[Event]:
        """Take one second."""
        found: list[Event] = []
        if now.volts is not None:
            if self._truck.step(now.t_ns, 3 if now.volts >= TRUCK_V else 0, now.volts < TRUCK_V):
                self._factor = 2.0
            found += self._battery(now, now.volts / self._factor)
        if now.supply_v is not None:
            found += self._vanished(now, now.supply_v / self._factor)
        return found

    def _battery(self, now: Second, volts: float) -> list[Event]:
        s = self._settings
        levels = (s.minor_v, s.moderate_v, s.severe_v)
        if volts < CAR_BATTERY_V:
            return []
        self._lowest_v = volts if volts > s.minor_v else min(volts, self._lowest_v)
        reached = level_of(volts, levels)
        if now.in_use and reached == 1:
            reached = 0  # a smart alternator lets the battery run down to half, then charges it
        level = self._low.step(now.t_ns, reached, volts >= s.release_v)
        self._memory.set("told low_battery", str(self._low.told or ""))
        if not level:
            return []
        return [
            event(
                "low_battery",
                SEVERITIES[level - 1],
                self._low.began_ns,
                self._lowest_v * self._factor,
                "V",
                sources=["supply"],
                until_ns=now.t_ns,
                levels=(s.minor_v * self._factor, s.moderate_v * self._factor, s.severe_v * self._factor),
            )
        ]

    def _vanished(self, now: Second, volts: float) -> list[Event]:
        """Tell of a supply that is gone while the box lives on by a battery of its own."""
        s = self._settings
        if volts >= CAR_BATTERY_V:
            self._there_ns = now.t_ns
            if now.in_use:
                self._used_ns = now.t_ns
        if now.speed_mps is not None and now.speed_mps >= DRIVING_MPS:
            self._fast = (now.t_ns, now.speed_mps)
        driven = now.t_ns - self._fast[0] <= RECENT_NS
        used = driven or now.t_ns - self._used_ns <= RECENT_NS
        gone = volts < s.vanished_v and used and now.t_ns - self._there_ns <= RECENT_NS
        level = self._gone.step(now.t_ns, (3 if driven else 2) if gone else 0, volts >= CAR_BATTERY_V)
        self._memory.set("told power_lost", str(self._gone.told or ""))
        if not level:
            return []
        speed_mps = self._fast[1] if driven else 0.0
        return [
            event(
                "power_lost",
                SEVERITIES[level - 1],
                self._gone.began_ns,
                speed_mps,
                "m/s",
                sources=["supply"],
                until_ns=now.t_ns,
                speed_mps=speed_mps,
            )
        ]
