"""When the car counts as parked, what still runs then, and when the box lets go of the battery."""

from dataclasses import dataclass, fields
from typing import Final

KINDS: Final = ("canbus", "obdcan", "elm327", "gps", "imu", "power")


@dataclass(frozen=True, slots=True)
class PowerRules:
    """Sleep, wake and cut-off (docs/sources.md P1). Voltages are of a 12 V system, doubled where the car has 24 V."""

    # signs
    running_rpm: float = 300.0  # faster than any starter turns an engine, slower than any engine idles
    moving_mps: float = 1.0  # by wheels, bus or OBD
    gnss_moving_mps: float = 2.8  # three fixes in a row: 10 km/h is beyond the drift of a parked receiver
    shake_mps2: float = 0.25  # rms of one second: an idling engine makes 0.10-0.15, driving 0.3 and more (trip164)
    charging_v: float = 13.2  # above what a lead-acid battery rests at (12.8 V): alternator, DC-DC or charger
    nominal_v: float = 0.0  # 12 or 24; 0 finds it: more than 18 V is a 24 V system
    # asleep after
    key_off_s: float = 30.0  # the ignition line is off and another sign agrees
    engine_off_s: float = 180.0  # two signs agree: longer than the longest stop-start pause at a light
    standing_s: float = 900.0  # nothing moves and no engine turns, whatever else is said: hybrids, chargers, lost wires
    # awake by
    wake_rise_v: float = 0.5  # an alternator or DC-DC began; doors, lights and blowers lower the supply
    wake_dip_v: float = 1.5  # a starter turns: a warm engine takes 2 V and more
    wake_shake_s: float = 3.0  # a knock or a passing lorry is over by then
    wake_bus_s: float = 2.0  # a stray frame of network management is not a wake-up
    fruitless_s: float = 60.0  # no engine and no motion for so long after waking: asleep again, and harder to wake
    # cut off
    cut_v: float = 12.2  # about half of the charge left; the engine still starts in frost
    cut_s: float = 300.0  # below it for so long without a break: no starter and no door light lasts that long
    budget_wh: float = 30.0  # taken from the battery since it was last charged: 4 % of 60 Ah
    awake_w: float = 4.0  # what the box takes while it polls and sends …
    parked_w: float = 1.5  # … and asleep; measure yours
    recharge_w: float = 45.0  # what the alternator gives back, on average
    parked_h: float = 30.0  # parked for longer than this: off, whatever the battery says
    # asleep
    tick_s: float = 1.0  # between two rounds of work
    flush_s: float = 120.0  # the receiver has so long from its last progress to take what is left, before sync rests
    heartbeat_s: float = 900.0  # sync then connects so often; 0 stays connected
    store_s: float = 60.0  # quiet samples are kept once in so long; one with an impact at once
    turn_off: tuple[str, ...] = ()  # kinds of devices that are closed meanwhile, e.g. "gps"; without "imu" no impacts
    shutdown: tuple[str, ...] = ()  # run at cut-off when all is durable, e.g. "systemctl", "poweroff"; none: only idle

    def __post_init__(self) -> None:
        """Refuse what cannot work, and what would cut the battery off in a moving or cranking car."""
        positive = [f.name for f in fields(self) if isinstance(getattr(self, f.name), float)]
        for name in positive:
            if getattr(self, name) < 0 or (getattr(self, name) == 0 and name not in ("nominal_v", "heartbeat_s")):
                raise ValueError(f"{name} must be above 0")
        if self.nominal_v not in (0.0, 12.0, 24.0):
            raise ValueError("nominal_v must be 0, 12 or 24")
        if not self.key_off_s <= self.engine_off_s <= self.standing_s:
            raise ValueError("key_off_s, engine_off_s and standing_s must rise in this order")
        if self.cut_s < 30 or self.cut_v >= self.charging_v:
            raise ValueError("cut_s must be 30 or more, cut_v below charging_v")
        if not 0.1 <= self.tick_s <= 5.0:
            raise ValueError("tick_s must be between 0.1 and 5")
        wrong = [kind for kind in self.turn_off if kind not in KINDS]
        if wrong:
            raise ValueError(f"turn_off: '{wrong[0]}' is not one of {', '.join(KINDS)}")
