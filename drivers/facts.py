"""What a driver knows about its device beyond samples: standing facts, which the feed turns into health records."""

from typing import Literal

from agent.records import Health

FactState = Literal["ok", "degraded", "lost"]


class Facts:
    """The standing facts of one device, at most one per source; `t_ns` of each is when it last changed its state.

    A source is the driver's name, or that and ":" and a part, as in "imu:lis3dh:clipping".
    """

    def __init__(self) -> None:
        self._standing: dict[str, Health] = {}

    def say(self, t_ns: int, source: str, state: FactState, detail: str) -> None:
        """Set what stands for `source`; the sentence of a state that goes on stays the first one."""
        before = self._standing.get(source)
        if before is None or before.state != state:
            self._standing[source] = Health(t_ns=t_ns, source=source, state=state, detail=detail)

    def state(self, source: str) -> FactState | None:
        """Return the state that stands for `source`, None before anything is known."""
        fact = self._standing.get(source)
        return None if fact is None else fact.state

    def standing(self, counts: dict[str, int]) -> list[Health]:
        """Return the facts, each with the counters of the device that are not zero."""
        seen = {name: count for name, count in counts.items() if count}
        return [
            Health(t_ns=f.t_ns, source=f.source, state=f.state, detail=f.detail, counts=seen)
            for f in self._standing.values()
        ]
