"""What a driver knows about its device beyond samples: standing facts, which the feed turns into health records."""

from collections.abc import Mapping
from typing import Final, Literal

from agent.records import Health

FactState = Literal["ok", "degraded", "lost"]
MOST_CODES: Final = 40  # of one control unit in one list; a car in ruins has a dozen, an adapter in ruins any number


class Facts:
    """The standing facts of one device, at most one per source; `t_ns` of each is when it last changed its state.

    A source is the driver's name, or that and ":" and a part, as in "imu:lis3dh:clipping".
    """

    def __init__(self) -> None:
        self._standing: dict[str, Health] = {}

    def say(
        self, t_ns: int, source: str, state: FactState, detail: str, learned: Mapping[str, str] | None = None
    ) -> None:
        """Set what stands for `source`; the sentence of a state that goes on stays the first one.

        `learned` is what a program should read (Health.facts): where it changes, there is a new fact.
        """
        before, facts = self._standing.get(source), dict(learned or {})
        if before is None or before.state != state or before.facts != facts:
            self._standing[source] = Health(t_ns=t_ns, source=source, state=state, detail=detail, facts=facts)

    def state(self, source: str) -> FactState | None:
        """Return the state that stands for `source`, None before anything is known."""
        fact = self._standing.get(source)
        return None if fact is None else fact.state

    def standing(self, counts: dict[str, int]) -> list[Health]:
        """Return the facts, each with the counters of the device that are not zero."""
        seen = {name: count for name, count in counts.items() if count}
        return [
            Health(t_ns=f.t_ns, source=f.source, state=f.state, detail=f.detail, counts=seen, facts=f.facts)
            for f in self._standing.values()
        ]


def say_vehicle(
    facts: Facts, t_ns: int, source: str, vin: str | None, valid: bool, codes: Mapping[str, Mapping[str, list[str]]]
) -> None:
    """Say who the vehicle is, and what its control units list; `codes` are 'stored' … -> unit -> codes.

    The facts are `{source}:vin` with "vin" where it is valid, and `{source}:dtc` with "vin" and, for every list that a
    unit has given, "UNIT stored" and so on: codes with spaces between them, "" where it gave none.
    """
    known = {"vin": vin} if vin and valid else {}
    if vin:
        text = f"the vehicle calls itself {vin}" + ("" if valid else ", which is no valid VIN")
        facts.say(t_ns, f"{source}:vin", "ok" if valid else "degraded", text, known)
    lists = {
        f"{unit} {name}": " ".join(sorted(given)[:MOST_CODES])
        for name, by_unit in codes.items()
        for unit, given in by_unit.items()
    }
    if lists:
        n = len({code for given in lists.values() for code in given.split()})
        text = f"the vehicle lists {n} trouble code{'' if n == 1 else 's'}"
        facts.say(t_ns, f"{source}:dtc", "ok", text, {**known, **lists})
