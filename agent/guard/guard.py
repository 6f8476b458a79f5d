"""All rules about box and car in one chain: samples, state and facts of drivers in, events and the memory out.

No clock is read here and no device: what the daemon has to ask for (time quality, room on the disk) it asks through
two functions. A restart takes up the memory, so that nothing is told twice.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from msgspec.structs import replace

from agent.blocks import Block
from agent.clock import NS_PER_S
from agent.guard.box import Box
from agent.guard.car import Car
from agent.guard.memory import Memory
from agent.guard.senses import Place, Second, Senses
from agent.guard.settings import GuardSettings, VehicleSettings
from agent.guard.sky import Sky
from agent.guard.supply import Supply
from agent.guard.tow import Tow
from agent.records import Event, Health, Record, TimeQuality
from agent.state import State
from agent.store import Store

LOOK_NS: Final = 60 * NS_PER_S  # between two looks at the disk
PLACE_NS: Final = 60 * NS_PER_S  # a place that is older is no place of an event

Records = list[tuple[int, Record]]


class Driven(Protocol):
    """What is known of trips: the spine."""

    @property
    def driving(self) -> bool:
        """Say whether a trip is going on."""

    def trip_start(self, t_ns: int) -> int | None:
        """Return the start of the trip that was under way at a time."""


class Guard:
    """Give what befell box and car as (time known, record)."""

    def __init__(
        self,
        settings: GuardSettings,
        vehicle: VehicleSettings,
        memory: Memory,
        *,
        told: Sequence[Event] = (),
        time: Callable[[], TimeQuality] = lambda: "none",
        used_share: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`told` are events of this boot that the store holds already."""
        latest = {event.kind: event.t_ns for event in told}
        self._memory = memory
        self._time, self._used_share = time, used_share
        self._senses = Senses()
        self._supply = Supply(settings.supply, memory)
        self._sky = Sky(settings.sky, memory)
        self._tow = Tow(settings.tow, memory)
        self._box = Box(settings.box, memory, "clock_unknown" in latest)
        self._car = Car(vehicle, memory, latest.get("vin_mismatch"))
        self._share: float | None = None
        self._looked_ns: int | None = None
        self._place: tuple[int, Place] | None = None
        self._waiting: list[Event] = []

    @classmethod
    def of(
        cls,
        settings: GuardSettings,
        vehicle: VehicleSettings,
        store: Store,
        boot: str,
        time: Callable[[], TimeQuality],
    ) -> "Guard":
        """Take up what earlier runs remembered in `store`."""
        told = [s.record for s in store.records(Event, boot)]
        least = settings.box.least_free_bytes
        return cls(
            settings, vehicle, Memory.of(store), told=told, time=time, used_share=lambda: store.used_share(least)
        )

    def hear(self, facts: Sequence[Health]) -> None:
        """Take what drivers and parts of the daemon have told; events of it come with the next second."""
        self._sky.hear(facts)
        self._waiting += self._car.hear(facts)

    def step(self, block: Block, rows: Sequence[State], driven: Driven) -> Records:
        """Take the next samples and rows of state."""
        found: Records = []
        for now in self._senses.step(block, rows):
            for event in self._second(now, driven.trip_start(now.t_ns) if driven.driving else None):
                placed = self._where(event, now)
                found.append((now.t_ns, replace(placed, trip_t_ns=driven.trip_start(event.t_ns))))
            memory = self._memory.record(now.t_ns)
            if memory is not None:
                found.append((now.t_ns, memory))
        return found

    def _second(self, now: Second, trip_start_ns: int | None) -> list[Event]:
        if self._looked_ns is None or now.t_ns - self._looked_ns >= LOOK_NS:
            self._looked_ns, self._share = now.t_ns, self._used_share()
        if now.place is not None:
            self._place = (now.t_ns, now.place)
        waiting, self._waiting = self._waiting, []
        return [
            *waiting,
            *self._supply.step(now),
            *self._sky.step(now),
            *self._tow.step(now, self._supply.charging(now)),
            *self._box.step(now, self._time(), self._share),
            *self._car.step(now.t_ns, trip_start_ns),
        ]

    def _where(self, event: Event, now: Second) -> Event:
        """Add the last known place where it is not older than a minute."""
        if self._place is None or now.t_ns - self._place[0] > PLACE_NS:
            return event
        return replace(event, latitude=round(self._place[1].latitude, 7), longitude=round(self._place[1].longitude, 7))
