"""When to go on, to reset the adapter, to give the port up, and when to look for a silent vehicle again. Pure."""

from enum import Enum, auto
from typing import Final

from agent.clock import NS_PER_S

STRIKES: Final = 3  # useless exchanges in a row before the adapter is reset; each has been resynchronised already
RESETS: Final = 4  # resets within WINDOW_S before the port is given up; cranking may cause two or three
WINDOW_S: Final = 60.0

# Seconds until a silent vehicle is asked again: soon at first (ignition), then rarely, so that it can sleep and
# its alarm stays quiet (meatpiHQ/wican-fw#506, #448).
RETRY_S: Final = (5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0)
RISE_V: Final = 0.4  # the alternator lifts the supply by more than this: ask at once
CHARGING_V: Final = 13.0  # no battery rests that high: the engine runs, so a silent vehicle deserves a thorough search


class Stage(Enum):
    """How far recovery goes."""

    GO_ON = auto()
    RESET = auto()
    REOPEN = auto()


class Breaker:
    """Count strikes and resets; open the circuit when resetting does not help."""

    def __init__(self) -> None:
        self._strikes = 0
        self._resets: list[int] = []

    def strike(self) -> Stage:
        """Note a useless exchange."""
        self._strikes += 1
        return Stage.RESET if self._strikes >= STRIKES else Stage.GO_ON

    def reset(self, now_ns: int) -> Stage:
        """Note that the adapter is to be reset; REOPEN when that has been done too often lately."""
        self._strikes = 0
        self._resets = [t for t in self._resets if now_ns - t < WINDOW_S * NS_PER_S] + [now_ns]
        return Stage.REOPEN if len(self._resets) > RESETS else Stage.RESET

    def good(self) -> None:
        """Note an answer."""
        self._strikes = 0


class Absence:
    """Say when to look for a vehicle that does not answer."""

    def __init__(self) -> None:
        self._tries = 0
        self._next_ns = 0
        self._volts: float | None = None

    def again(self, now_ns: int, volts: float | None) -> None:
        """Note a search that found nothing, or a vehicle that fell silent."""
        self._next_ns = now_ns + int(RETRY_S[min(self._tries, len(RETRY_S) - 1)] * NS_PER_S)
        self._tries += 1
        self._volts = volts

    def over(self) -> None:
        """Note that the vehicle answers."""
        self._tries, self._next_ns = 0, 0

    def due_ns(self, volts: float | None) -> int:
        """Say when to look again: 0, at once, when the supply has risen since."""
        if volts is not None and self._volts is not None and volts >= self._volts + RISE_V:
            return 0
        return self._next_ns
