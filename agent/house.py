"""What commands may ask of the daemon that they run in: who it is, whether it may end now, whether it is heard."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class House:
    """The daemon as its commands see it; every function may be called from any thread."""

    folder: Path  # of the store
    config: Path | None  # agent.toml; None is the installed one
    end: Callable[[], None]  # the supervisor starts it again
    busy: Callable[[], str]  # why it should not end now; "" where it may
    asleep: Callable[[], bool]  # the car is parked, and its control units should sleep
    # Whether the receiver has answered on the present connection; None while sending is paused by the parked car.
    heard: Callable[[], bool | None]
