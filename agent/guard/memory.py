"""What the rules remember over restarts, boots and cars, kept as a health record of the store like any other.

The newest such record is the memory. It is told again at every start and once a week, so that it is never the
oldest of what the store removes.
"""

from typing import Final

from agent.clock import NS_PER_S
from agent.records import Health
from agent.store import Store

SOURCE: Final = "guard"
AGAIN_NS: Final = 7 * 86_400 * NS_PER_S
MOST_CARS: Final = 3  # whose trouble codes are remembered


class Memory:
    """Names and values, all text; `record` gives what is to be stored."""

    def __init__(self, facts: dict[str, str] | None = None) -> None:
        self.facts = dict(facts or {})
        self._changed = False
        self._due_ns = 0  # what is known is told at the start

    @classmethod
    def of(cls, store: Store) -> "Memory":
        """Return what the rules of earlier runs remembered."""
        kept = store.last_health(SOURCE)
        return cls(kept.facts if kept is not None else None)

    def level(self, name: str) -> int:
        """Return the level at which a condition was told, 0 where it does not stand."""
        told = self.facts.get(f"told {name}", "")
        return int(told) if told in ("1", "2", "3") else 0

    def set(self, name: str, value: str) -> None:
        """Remember a value, or forget it: ""."""
        if self.facts.get(name, "") == value:
            return
        if value:
            self.facts[name] = value
        else:
            del self.facts[name]
        self._changed = True

    def codes(self, car: str) -> dict[str, str]:
        """Return what a car's control units listed when they were last asked: "UNIT list" -> codes."""
        prefix = f"dtc {car} "
        return {name.removeprefix(prefix): codes for name, codes in self.facts.items() if name.startswith(prefix)}

    def set_codes(self, car: str, lists: dict[str, str]) -> None:
        """Remember what a car's control units list; an empty list is worth knowing too."""
        for name, codes in lists.items():
            self.set(f"dtc {car} {name}", codes or "-")
        cars = sorted({name.split(" ")[1] for name in self.facts if name.startswith("dtc ")} - {car})
        for other in cars[: max(0, len(cars) + 1 - MOST_CARS)]:
            for name in [name for name in self.facts if name.startswith(f"dtc {other} ")]:
                self.set(name, "")

    def record(self, t_ns: int) -> Health | None:
        """Return the record to store where something changed or it is time again."""
        if not self._changed and not (self.facts and t_ns >= self._due_ns):
            return None
        self._changed, self._due_ns = False, t_ns + AGAIN_NS
        detail = "what the rules about box and car remember"
        return Health(t_ns=t_ns, source=SOURCE, state="ok", detail=detail, facts=dict(self.facts))
