"""No satellite for longer than any tunnel is, or all of them weak for longer than any roof."""

from collections.abc import Sequence
from typing import Final

from agent.clock import NS_PER_S
from agent.guard.memory import Memory
from agent.guard.senses import Second
from agent.guard.settings import SkySettings
from agent.guard.standing import Standing, event
from agent.records import Event, Health

SEEN: Final = "gnss"  # in the memory: this box has had a fix once, so it has an antenna
FIX_S: Final = 10.0  # a fix for so long is the sky again
SILENT_NS: Final = 5 * NS_PER_S  # a receiver that says nothing for so long sees nothing
CALM_S: Final = 60.0
MOVING_MPS: Final = 1.0


class Sky:
    """Counts metres driven without satellites, and with weak ones."""

    def __init__(self, settings: SkySettings, memory: Memory) -> None:
        self._settings = settings
        self._memory = memory
        self._lit = Standing(FIX_S, 0.0)
        self._lost_told = memory.level("gnss_lost") > 0
        self._jam = Standing(0.0, CALM_S, memory.level("gnss_jammed"))
        self._seen_ns: int | None = None
        self._dark_ns: int | None = None
        self._dark_m = 0.0
        self._weak: tuple[str, float] | None = None  # source that reports weak satellites, and by how many dB
        self._weak_m = self._weak_s = 0.0

    def hear(self, facts: Sequence[Health]) -> None:
        """Take what the receiver's driver makes of the signals."""
        for fact in facts:
            if not (fact.source.startswith("gps:") and fact.source.endswith(":signal")):
                continue
            if fact.state == "degraded" and self._weak is None:
                self._weak = (fact.source, _number(fact.facts.get("weaker_db", "")))
                self._weak_m = self._weak_s = 0.0
            elif fact.state != "degraded":
                self._weak = None

    def step(self, now: Second) -> list[Event]:
        """Take one second."""
        return [*self._lost(now), *self._jammed(now)]

    def _lost(self, now: Second) -> list[Event]:
        if now.fix or now.satellites:
            self._seen_ns, self._dark_ns, self._dark_m = now.t_ns, None, 0.0
        self._lit.step(now.t_ns, 3 if now.fix else 0, not now.fix)
        if self._lit.told:
            self._memory.set(SEEN, "seen")
            self._lost_told = False
        if self._seen_ns is None:
            self._seen_ns = now.t_ns
        heard = now.satellites == 0 or now.t_ns - self._seen_ns >= SILENT_NS
        if heard and not now.fix and not now.satellites:
            self._dark_ns = self._seen_ns if self._dark_ns is None else self._dark_ns
            self._dark_m += now.speed_mps or 0.0
        had = self._memory.facts.get(SEEN) == "seen"
        found = []
        if had and self._dark_ns is not None and self._dark_m >= self._settings.lost_m and not self._lost_told:
            self._lost_told = True
            seconds = (now.t_ns - self._dark_ns) / NS_PER_S
            found = [
                event(
                    "gnss_lost",
                    "moderate",
                    self._dark_ns,
                    seconds,
                    "s",
                    sources=["gnss"],
                    until_ns=now.t_ns,
                    speed_mps=now.speed_mps,
                )
            ]
        self._memory.set("told gnss_lost", "1" if self._lost_told else "")
        return found

    def _jammed(self, now: Second) -> list[Event]:
        s = self._settings
        moving = now.speed_mps is not None and now.speed_mps >= MOVING_MPS
        if self._weak is not None and moving:
            self._weak_m += now.speed_mps or 0.0
            self._weak_s += 1.0
        weak = self._weak is not None and self._weak_m >= s.jam_m and self._weak_s >= s.jam_s
        level = self._jam.step(now.t_ns, 1 if weak else 0, self._weak is None)
        self._memory.set("told gnss_jammed", str(self._jam.told or ""))
        if not level or self._weak is None:
            return []
        return [
            event(
                "gnss_jammed",
                "minor",
                now.t_ns - round(self._weak_s * NS_PER_S),
                self._weak[1],
                "dB",
                sources=["gnss"],
                confirmed=False,  # a long gallery or an elevated road above can look the same
                until_ns=now.t_ns,
                speed_mps=now.speed_mps,
            )
        ]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
