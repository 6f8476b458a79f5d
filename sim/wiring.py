"""Write the agent.toml with which an agent finds the virtual car's wires."""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.wires import Wires


def agent_toml(wires: "Wires", broker_url: str = "", **more: dict[str, Any]) -> str:
    """Return the text of an agent.toml: `[drivers.KIND.NAME]` for each wire, a consent, and the broker where given.

    `more` are further keys by the last name of their table.
    """
    tables: dict[str, dict[str, Any]] = {"broker": {"url": broker_url}} if broker_url else {}
    tables["consent"] = {"sheet": "a virtual car: nobody drives it"}
    tables |= driver_tables(wires)
    tables = {name: table | more.get(name.rpartition(".")[2], {}) for name, table in tables.items()}
    parts = [f"[{name}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in t.items()) for name, t in tables.items()]
    return "\n".join(parts)


def driver_tables(wires: "Wires") -> dict[str, dict[str, Any]]:
    """Return what the agent must be told of each wire, by the name of its table; the profile it finds by listening."""
    told = wires.described
    tables = {
        f"drivers.canbus.can{number}": {**where, "bus": bus} for number, (bus, where) in enumerate(told["can"].items())
    }
    named = {"elm327": "drivers.elm327.obd", "gpsd": "drivers.gps.main", "imu": "drivers.imu.box"}
    return tables | {table: told[wire] for wire, table in named.items() if wire in told}
