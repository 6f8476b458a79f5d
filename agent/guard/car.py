"""Which car it is, and what it says is wrong with it: VIN and trouble codes, as the diagnostic drivers tell them."""

from collections.abc import Sequence
from typing import Final

from agent.guard.memory import Memory
from agent.guard.settings import VehicleSettings
from agent.guard.standing import event
from agent.records import Event, EventKind, Health, Severity
from agent.vin import vin_checked, vin_valid

DRIVERS: Final = ("elm327:", "obdcan:", "canbus:")
NOBODY: Final = "?"  # a car that does not tell its VIN
# VINs without a check digit that differ in fewer places are one VIN, misread: nothing else would show that.
DIFFERENT: Final = 3
LISTS: Final = ("stored", "pending", "permanent")
MOST_WORDS: Final = 160  # characters of codes in one event


class Car:
    """Compares what the car tells with what is known of it; `trips_told` are starts of trips with a mismatch told."""

    def __init__(self, settings: VehicleSettings, memory: Memory, mismatch_ns: int | None = None) -> None:
        self._bound = settings.vin
        self._memory = memory
        self._told_ns = mismatch_ns  # of the last mismatch that was told in this boot
        self._other: str | None = None  # the VIN that does not belong here

    def hear(self, facts: Sequence[Health]) -> list[Event]:
        """Take what drivers have learned."""
        found: list[Event] = []
        for fact in facts:
            if not fact.source.startswith(DRIVERS):
                continue
            if fact.source.endswith(":vin"):
                self._named(fact.facts.get("vin", ""))
            elif fact.source.endswith(":dtc"):
                found += self._listed(fact)
        return found

    def step(self, t_ns: int, trip_start_ns: int | None) -> list[Event]:
        """Tell a mismatch once in every trip."""
        other = self._other
        if other is None or trip_start_ns is None or (self._told_ns is not None and self._told_ns >= trip_start_ns):
            return []
        self._told_ns = t_ns
        expected = self._bound or self._memory.facts.get("vin", "")
        if not self._bound:  # nobody bound the box: from now on this is its car
            self._memory.set("vin", other)
            self._other = None
        return [
            event(
                "vin_mismatch",
                "severe",
                t_ns,
                1.0,
                "",
                sources=["vin"],
                confirmed=vin_checked(other),
                detail=f"{other} \u2260 {expected}",
            )
        ]

    def _named(self, vin: str) -> None:
        if not vin_valid(vin):
            return
        expected = self._bound or self._memory.facts.get("vin", "")
        if not expected:
            self._memory.set("vin", vin)
            return
        places = sum(a != b for a, b in zip(vin, expected, strict=True))
        alike = places == 0 or (not vin_checked(vin) and places < DIFFERENT)
        self._other = None if alike else vin

    def _listed(self, fact: Health) -> list[Event]:
        car = fact.facts.get("vin", NOBODY)
        lists = {n: c for n, c in fact.facts.items() if n.rpartition(" ")[2] in LISTS and n.count(" ") == 1}
        before = {name: "" if codes == "-" else codes for name, codes in self._memory.codes(car).items()}
        after = {**before, **lists}  # a list that was not given now is as it was
        self._memory.set_codes(car, lists)
        found: list[Event] = []
        for unit in sorted({name.partition(" ")[0] for name in lists}):
            old, new = _levels(unit, before), _levels(unit, after)
            stored = [code for code, level in new.items() if level == 2 > old.get(code, 0)]
            pending = [code for code, level in new.items() if level == 1 > old.get(code, 0)]
            gone = [code for code in old if code not in new]
            groups: tuple[tuple[EventKind, Severity, list[str], str], ...] = (
                ("dtc_set", "moderate", stored, "fault_memory"),
                ("dtc_set", "minor", pending, "fault_suspected"),
                ("dtc_cleared", "minor", gone, "fault_memory"),
            )
            for kind, severity, codes, source in groups:
                if codes:
                    detail = f"{' '.join(codes)[:MOST_WORDS]} ({unit})"
                    n = float(len(codes))
                    found.append(event(kind, severity, fact.t_ns, n, "", sources=[source], detail=detail))
        return found


def _levels(unit: str, lists: dict[str, str]) -> dict[str, int]:
    """Return the codes of a unit with 1 where it suspects them (pending), 2 where it is sure (stored, permanent)."""
    levels: dict[str, int] = {}
    for name, level in (("pending", 1), ("stored", 2), ("permanent", 2)):
        for code in lists.get(f"{unit} {name}", "").split():
            levels[code] = max(level, levels.get(code, 0))
    return dict(sorted(levels.items()))
