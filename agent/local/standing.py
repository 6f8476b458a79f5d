"""Whether the car stands with its engine off, by every sign: asked before anything in the vehicle is changed."""

from collections.abc import Callable
from typing import Final

from agent.clock import NS_PER_S
from agent.local.messages import UNHEARD, UNMEASURED
from agent.pipeline import Pipeline
from agent.power.parking import Parking
from agent.power.signs import FRESH_NS

STILL_MPS: Final = 0.5  # noise of a fused speed at rest
SPEED_NS: Final = 5 * NS_PER_S  # a fused speed is made 1.5 s late
RECORDING: Final = "a recording is replayed: there is no car"


class Car:
    """What the daemon knows of the car just now; `parking` gives its power management, None while it replays."""

    def __init__(self, pipeline: Pipeline, parking: Callable[[], Parking | None], running_rpm: float) -> None:
        self._pipeline, self._parking, self._running_rpm = pipeline, parking, running_rpm

    @property
    def replayed(self) -> bool:
        """Say whether there is no car, only a recording."""
        return self._parking() is None

    @property
    def crash(self) -> bool:
        """Say whether a crash is being recorded."""
        incidents = self._pipeline.incidents
        return incidents is not None and incidents.recorder.growing

    def moves(self, now_ns: int) -> str:
        """Return what speaks against a standing car with its engine off, "" where nothing does."""
        parking = self._parking()
        if parking is None:
            return RECORDING
        power = parking.power
        if power.running(now_ns):
            return f"the engine turns at {power.signs.rpm:.0f} rpm"
        speed = self._pipeline.spine.speed
        if speed is not None and now_ns - speed[0] <= SPEED_NS and speed[1] > STILL_MPS:
            return f"the car moves at {speed[1] * 3.6:.0f} km/h"
        if power.moving(now_ns):
            return "the car moves"
        if power.charging:
            return f"the supply is charged at {power.volts:.1f} V, as by a running engine"
        return ""

    def unproved(self, now_ns: int) -> str:
        """Return why the car is not known to stand with its engine off, "" where it is: silence proves nothing."""
        against, parking = self.moves(now_ns), self._parking()
        if against or parking is None:
            return against
        power, speed = parking.power, self._pipeline.spine.speed
        off = now_ns - power.signs.rpm_ns <= FRESH_NS and power.signs.rpm < self._running_rpm
        if not (off or power.asleep or power.signs.ignition is False):
            return UNHEARD
        seen_ns = max(power.signs.speed_ns, power.signs.fix_ns, power.signs.shake_ns)
        if now_ns - seen_ns > SPEED_NS and (speed is None or now_ns - speed[0] > SPEED_NS):
            return UNMEASURED
        return ""

    def stays_awake(self, now_ns: int) -> None:
        """Keep the car from being taken for parked: a technician is at work in it."""
        parking = self._parking()
        if parking is not None and not parking.power.asleep:
            parking.power.alive_ns = now_ns
