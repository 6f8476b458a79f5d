"""The command `dtc`: the trouble codes that the car's control units hold, with their texts. It only reads.

The device over which the car is asked is borrowed from the daemon, as a technician at the car borrows it, and asked
what the technician's command asks: questions that read, no others can be said (drivers.diagnosis). It waits while the
car is parked, so that no control unit is woken.

codes.json   {"format", "device", "protocol", "codes": [{code, kind, unit, text, origin}], "lamp", "notes"}
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from agent.commandmessages import NoArguments
from agent.commands.reading import Found

FORMAT: Final = "roadwitness-codes/1"
FILE: Final = "codes.json"
PURPOSE: Final = "read trouble codes for a command"
LEND_S: Final = 120.0  # a slow bus (ISO 9141-2) takes some 20 s to be found and asked


class Codes:
    """Reads trouble codes through the daemon that it runs in."""

    def __init__(self, folder: Path, config: Path | None) -> None:
        self._folder = folder
        self._config = config

    def read(self, _: NoArguments) -> Found:
        """Return what the car holds; raise RoadwitnessError where it cannot be asked."""
        from agent.vehicle.asking import Borrowed, wire_to  # drivers' libraries: loaded when they are needed
        from agent.vehicle.devices import for_questions, held
        from agent.vehicle.dtc import meaning
        from drivers import diagnosis

        device = for_questions(self._config)
        with held(device, self._folder, PURPOSE, asks=True, seconds=LEND_S) as check:
            wire = wire_to(device)
            asked = Borrowed(wire, check)
            try:
                wire.open()
                found = asked.ask(diagnosis.codes)
                ready = asked.ask(diagnosis.readiness)
                protocol, notes = wire.protocol, list(wire.notes)
            finally:
                wire.close()
        rows: list[dict[str, Any]] = [
            {"code": code, "kind": kind, "unit": unit, **meaning(code)._asdict()}
            for kind, units in found.items()
            for unit, codes in units.items()
            for code in codes
        ]
        told: dict[str, Any] = {"format": FORMAT, "device": device.name, "protocol": protocol}
        told |= {"codes": rows, "notes": notes, "lamp": None if ready is None else ready.mil}
        units = {unit for units in found.values() for unit in units}
        words = f"{len({row['code'] for row in rows})} codes in {len(units)} control units"
        return Found({FILE: msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n"}, words)
