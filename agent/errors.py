"""The errors that a person may cause or meet: one tree, one line each.

    RoadwitnessError            anything with a sentence for a person
    ├── ConfigError             a configuration, profile or DBC file is wrong
    │   └── NotFittedError      there is nothing to run yet, and trying again will not change that
    ├── RecordingError          a recording cannot be read at all
    ├── DriverError             a device is in trouble; the feed reopens it
    ├── StoreError              the store cannot be opened or written
    ├── UplinkError             the broker or receiver cannot be reached, or refuses
    └── LocalError              the daemon on this machine cannot be asked, or refuses (agent.local.client)

Bugs are not in this tree: they end the process.
"""

import difflib
from collections.abc import Iterable


class RoadwitnessError(Exception):
    """Name the device or file, the step, the cause and what to do, in one line."""

    exit_code = 1


class ConfigError(RoadwitnessError):
    """A configuration, profile or DBC file is wrong."""


class NotFittedError(ConfigError):
    """The box is in no car yet: no device is configured. systemd leaves it at that (sysexits.h, EX_CONFIG)."""

    exit_code = 78


class RecordingError(RoadwitnessError):
    """A recording cannot be read at all."""


class DriverError(RoadwitnessError):
    """A device is in trouble; closing and reopening it may help."""


class StoreError(RoadwitnessError):
    """The store cannot be opened or written."""


class UplinkError(RoadwitnessError):
    """The broker or the receiver cannot be reached, or refuses."""


def near_names(name: str, known: Iterable[str], most: int = 3) -> str:
    """Say which known names resemble `name`: ' (near names: a, b)' or ''."""
    by_folded = {k.casefold(): k for k in known}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=most, cutoff=0.5)
    if not found:
        found = [folded for folded in by_folded if name.casefold() in folded][:most]
    return f" (near names: {', '.join(by_folded[f] for f in found)})" if found else ""
