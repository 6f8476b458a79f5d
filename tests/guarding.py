"""Seconds made by hand, for the rules about box and car."""

from collections.abc import Sequence
from math import cos, radians, sin
from typing import Any

from agent.guard.guard import Guard
from agent.guard.memory import Memory
from agent.guard.senses import Place, Second
from agent.guard.settings import GuardSettings, VehicleSettings
from agent.records import Event, Health, TimeQuality

S = 1_000_000_000
HOME = (36.6512, 117.1201)
UP = (0.3, -0.2, 9.79)


def place(north_m: float = 0.0, accuracy_m: float = 3.0) -> Place:
    return Place(HOME[0] + north_m / 111_195.0, HOME[1], accuracy_m)


class Told:
    """A guard that is fed seconds, over restarts; `events` is everything it told."""

    def __init__(
        self, settings: GuardSettings | None = None, vin: str = "", facts: dict[str, str] | None = None
    ) -> None:
        self.settings = settings or GuardSettings()
        self.vehicle = VehicleSettings(vin)
        self.kept: dict[str, str] = dict(facts or {})
        self.events: list[Event] = []
        self.time: TimeQuality = "gnss"
        self.share: float | None = None
        self.trip_ns: int | None = None
        self.t_ns = 1000 * S
        self.restart()

    def restart(self, *, boot: bool = False) -> None:
        """Begin again with what the store would hold: the memory record, and in one boot its events."""
        if boot:
            self.t_ns, before = 10 * S, []
        else:
            before = list(self.events)
        self.memory = Memory(self.kept)
        self.guard = Guard(
            self.settings,
            self.vehicle,
            self.memory,
            told=before,
            time=lambda: self.time,
            used_share=lambda: self.share,
        )

    def hear(self, *facts: Health) -> None:
        self.guard.hear(facts)

    def pass_by(self, seconds: int, *, every: int = 1, **what: Any) -> "Told":
        """Let seconds pass; a value that is a function takes the seconds since the start of this stretch."""
        for i in range(0, seconds, every):
            given = {name: value(i) if callable(value) else value for name, value in what.items()}
            given = {"supply_v": given.get("volts"), **given}
            self.events += self.guard._second(Second(t_ns=self.t_ns, **given), self.trip_ns)
            record = self.memory.record(self.t_ns)
            if record is not None:
                self.kept = dict(record.facts)
            self.t_ns += every * S
        return self

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def drive(self, seconds: int, **what: Any) -> "Told":
        """Drive at 20 m/s under the open sky."""
        usual: dict[str, Any] = {"speed_mps": 20.0, "gnss_mps": 20.0, "in_use": True, "volts": 14.1, "gravity": UP}
        usual |= {"satellites": 9, "fix": True, "place": place()}
        return self.pass_by(seconds, **(usual | what))

    def park(self, seconds: int, **what: Any) -> "Told":
        """Stand with the engine off, at rest."""
        usual: dict[str, Any] = {"speed_mps": 0.0, "gnss_mps": 0.1, "in_use": False, "volts": 12.6, "gravity": UP}
        usual |= {"satellites": 9, "fix": True, "place": place()}
        return self.pass_by(seconds, **(usual | what))


def fact(source: str, t_ns: int = S, state: str = "ok", **facts: str) -> Health:
    return Health(t_ns=t_ns, source=source, state=state, detail="d", facts=facts)  # type: ignore[arg-type]


def codes(vin: str | None, lists: dict[str, Sequence[str]], source: str = "elm327:/dev/rfcomm0:dtc") -> Health:
    """Return what a driver tells of trouble codes."""
    facts = {name: " ".join(given) for name, given in lists.items()}
    return Health(t_ns=S, source=source, state="ok", detail="d", facts=facts | ({"vin": vin} if vin else {}))


def tilted(degrees: float) -> tuple[float, float, float]:
    """Return gravity of a car that stands `degrees` steeper than at UP, about its y axis."""
    x, y, z = UP
    c, s = cos(radians(degrees)), sin(radians(degrees))
    return (x * c + z * s, y, -x * s + z * c)
