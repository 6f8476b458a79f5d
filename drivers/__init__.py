"""Drivers: each reads one wire and yields blocks. One seam of three verbs, found by a lazy table of strings.

A constructor takes its configuration and does no I/O. `read` returns an empty block when `timeout_s` has passed
without data and None when the source has ended for good (only recordings end). `DriverError` means that the device
is in trouble; `close` may be called twice. A driver never sleeps, retries or logs: the feed owns trouble.
"""

from importlib import import_module
from typing import Any, Final, Protocol

from agent.blocks import Block
from agent.errors import ConfigError, near_names


class Driver(Protocol):
    """What every driver does."""

    name: str  # what it reads, for logs and health, e.g. "canbus:can0"

    def open(self) -> None:
        """Open the device; raise DriverError when it cannot be opened."""

    def read(self, timeout_s: float) -> Block | None:
        """Return the samples that have come, at the latest after `timeout_s`; None at the end of a recording."""

    def close(self) -> None:
        """Release the device."""


DRIVERS: Final[dict[str, str]] = {
    "gps": "drivers.gps:Gps",
    "imu": "drivers.imu:Imu",
    "power": "drivers.power:Power",
    "canbus": "drivers.canbus:CanBus",
    "obdcan": "drivers.obdcan:ObdCan",
    "elm327": "drivers.elm327:Elm327",
    "replay": "drivers.replay:Replay",
}


def driver_class(name: str) -> Any:
    """Import and return the driver class `name`; raise ConfigError for a name not in the table."""
    if name not in DRIVERS:
        raise ConfigError(f"driver '{name}' is not known{near_names(name, DRIVERS)}")
    module, attribute = DRIVERS[name].split(":")
    return getattr(import_module(module), attribute)
