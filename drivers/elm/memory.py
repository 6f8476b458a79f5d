"""What each car can tell, by VIN, in a small file, so that a start need not ask for it again."""

import os
from pathlib import Path
from typing import Final

import msgspec

from agent.known import known

MOST_CARS: Final = 50  # the newest are kept; a shop's box moves between cars


class Memory:
    """A JSON file {VIN: {unit: [PIDs]}}; without a path nothing is remembered.

    A damaged or unwritable file is as good as none: `trouble` says why in one line.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.trouble = ""

    def recall(self, vin: str) -> dict[str, tuple[int, ...]] | None:
        """Return the PIDs of each control unit of this car; None if it is not known."""
        return self._cars().get(vin)

    def keep(self, vin: str, units: dict[str, tuple[int, ...]]) -> None:
        """Write what this car can tell; the file is replaced whole."""
        if self._path is None:
            return
        cars = self._cars()
        cars.pop(vin, None)
        cars[vin] = units
        kept = dict(list(cars.items())[-MOST_CARS:])
        part = self._path.with_suffix(".part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(msgspec.json.encode(kept))
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
        except OSError as e:
            self.trouble = f"{self._path}: cannot be written: {e.strerror}; the car is asked again at the next start"

    def _cars(self) -> dict[str, dict[str, tuple[int, ...]]]:
        if self._path is None:
            return {}
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=known(dict[str, dict[str, tuple[int, ...]]]))
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as e:
            self.trouble = f"{self._path}: cannot be read: {e}; the car is asked again"
            return {}
