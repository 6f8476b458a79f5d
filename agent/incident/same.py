"""Which crash is which: one that is found again after a restart is the one that the store holds already."""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from agent.clock import NS_PER_S
from agent.records import Crash

# Found again from stored samples (times to 0.1 ms, values to their quantum), and without what was learned before the
# last trip, time zero may lie elsewhere: by one sample of a 10 Hz speed at either end, and a window of 150 ms.
SAME_NS: Final = NS_PER_S // 2


class Same:
    """Give every crash of one boot one identity and let each of its two tellings pass once."""

    def __init__(self, kept: Iterable[Crash] = ()) -> None:
        self._told: dict[str, bool] = {}  # incident -> whether it was told complete
        self._before: dict[str, int] = {}  # those of before the restart that nobody has met again -> time zero
        self._names: dict[str, tuple[str, int]] = {}  # found now -> incident and time zero as first told
        for crash in kept:
            self._told[crash.id] = crash.complete or self._told.get(crash.id, False)
            self._before[crash.id] = crash.t_ns

    def admit(self, crash: Crash) -> Crash | None:
        """Return the crash under the name that it has in the store; None when the store holds as much already."""
        named = self.named(crash)
        if named.id in self._told and (self._told[named.id] or not crash.complete):
            return None
        self._told[named.id] = crash.complete
        return named

    def named(self, crash: Crash) -> Crash:
        """Return the crash under the name that it has in the store, whether it is told or not."""
        if crash.id not in self._names:
            self._names[crash.id] = self._met(crash)
        name, t_ns = self._names[crash.id]
        return crash if name == crash.id else replace(crash, id=name, t_ns=t_ns)

    def _met(self, crash: Crash) -> tuple[str, int]:
        near = {name: abs(t - crash.t_ns) for name, t in self._before.items() if abs(t - crash.t_ns) <= SAME_NS}
        if not near:
            return crash.id, crash.t_ns
        name = min(near, key=lambda n: near[n])
        return name, self._before.pop(name)
