"""What a technician is shown of a vehicle: each answer as data (what --json prints), and as a table from those data."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

from agent.cli.laying import Steady, console, facts, notes, table
from agent.errors import ConfigError, near_names
from agent.vehicle.asking import VehicleWire
from agent.vehicle.dtc import meaning
from agent.vin import vin_checked
from drivers.decode.j1979 import PIDS
from drivers.diagnosis import FreezeFrame, Identity, Readiness, Reading

Told = dict[str, Any]
Codes = Mapping[str, Mapping[str, list[str]]]

USUAL: Final = (0x0C, 0x0D, 0x05, 0x11, 0x42, 0x2F, 0x0F, 0x0B, 0x10)  # what a technician looks at first
_STATES: Final = (0x01, 0x41)  # lamp and monitors: `readiness` shows them
_KINDS: Final = {
    "stored": "confirmed; the lamp may be on",
    "pending": "seen once; not yet confirmed",
    "permanent": "stays until the car itself has seen it repaired",
}
_MEASURES: Final = {f.name: f.unit for pid in PIDS.values() for f in pid.fields}
_WORDS: Final = {"degC": "°C", "deg": "°"}


def measures(pid: int) -> bool:
    """Say whether a PID has values that a person reads: not the maps of what is supported, nor states of monitors."""
    return pid in PIDS and pid not in _STATES and any(f.bits > 1 for f in PIDS[pid].fields)


def measure_of(name: str) -> str:
    """Return the unit in which J1979 gives the value `name`."""
    return _MEASURES.get(name, "")


def words(name: str) -> str:
    """Write a name of J1979 for people: engine_speed is engine speed."""
    return name.replace("_", " ")


def number(value: float) -> str:
    """Write a value with as many places as it deserves."""
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}"


def _valued(value: float, measure: str) -> str:
    return f"{number(value)} {_WORDS.get(measure, measure)}".rstrip()


def identity(told: Identity) -> Told:
    """Return who the car says it is."""
    check = None if told.vin is None else "right" if vin_checked(told.vin) else "none"
    return {**asdict(told), "check_digit": check}


def show_identity(told: Told) -> None:
    """Print who the car says it is."""
    rows = [("VIN", _vin(told))]
    for name, title in (
        ("unit_names", "Name"),
        ("calibration_ids", "Software"),
        ("calibration_numbers", "Checksum"),
    ):
        for unit, value in told[name].items():
            rows.append((f"{title} {unit}", value if isinstance(value, str) else ", ".join(value)))
    console().print(facts(rows))


def _vin(told: Told) -> str:
    if told["vin"] is None:
        return "not told by the car; read it from the windscreen"
    if not told["vin_valid"]:
        return f"{told['vin']} (not a valid VIN: read it again)"
    # outside North America and China most makers leave the ninth character free
    return f"{told['vin']} ({'check digit right' if told['check_digit'] == 'right' else 'no check digit'})"


def codes(found: Codes, ready: Readiness | None, told: Iterable[str]) -> Told:
    """Return the codes with what they mean, each once for every list and unit that has it."""
    rows = [
        {"code": code, "kind": kind, "unit": unit, **meaning(code)._asdict()}
        for kind, units in found.items()
        for unit, listed in units.items()
        for code in listed
    ]
    units = sorted({unit for by_unit in found.values() for unit in by_unit})
    return {"codes": rows, "units": units, "lamp": None if ready is None else ready.mil, "notes": list(told)}


def show_codes(told: Told) -> None:
    """Print the codes, what they mean, and what their kinds mean."""
    out = console()
    lamp = {None: "not told", True: "on", False: "off"}[told["lamp"]]
    answered = ", ".join(told["units"]) or "none"
    out.print(f"Lamp: {lamp}. Control units that answered: {answered}.")
    if not told["codes"]:
        out.print(
            "No trouble codes." if told["units"] else "No control unit answered: whether there are codes is not known."
        )
        return
    out.print(
        table(
            ["Code", "Kind", "Unit", "Meaning"], [[r["code"], r["kind"], r["unit"], r["text"]] for r in told["codes"]]
        )
    )
    for kind in _KINDS:
        if any(row["kind"] == kind for row in told["codes"]):
            out.print(f"{kind}: {_KINDS[kind]}.")


def readiness(ready: Readiness | None) -> Told:
    """Return lamp and monitors."""
    return {"answered": False} if ready is None else {"answered": True, **asdict(ready)}


def show_readiness(told: Told) -> None:
    """Print lamp and monitors."""
    out = console()
    if not told["answered"]:
        out.print("No control unit tells its readiness.")
        return
    kind = "compression (diesel)" if told["compression"] else "spark"
    out.print(f"Lamp {'on' if told['mil'] else 'off'}, {told['codes']} codes stored. Ignition by {kind}.")
    cycle = told["cycle"] or {}
    rows = [
        [words(name), "ready" if ready else "not yet", {True: "ready", False: "not yet", None: "-"}[cycle.get(name)]]
        for name, ready in sorted(told["monitors"].items())
    ]
    out.print(table(["Self-test", "Since clearing", "This drive"], rows))
    missing = sum(not ready for ready in told["monitors"].values())
    if missing:
        out.print(
            f"{missing} not ready yet: they run by themselves within days of driving; an emission test would fail now."
        )


def freeze(frame: FreezeFrame | None) -> Told:
    """Return the freeze frame."""
    if frame is None:
        return {"unit": None, "code": None, "meaning": None, "values": []}
    rows = [{"name": name, "value": value, "measure": measure_of(name)} for name, value in frame.values.items()]
    return {"unit": frame.unit, "code": frame.code, "meaning": meaning(frame.code).text, "values": rows}


def show_freeze(told: Told) -> None:
    """Print the freeze frame."""
    if told["code"] is None:
        console().print("No freeze frame: no control unit has kept one.")
        return
    console().print(f"{told['code']} of {told['unit']}: {told['meaning']}")
    states = {f.name for pid in _STATES for f in PIDS[pid].fields}
    show_values([row for row in told["values"] if row["name"] not in states])


def show_values(rows: list[Told]) -> None:
    """Print names and values."""
    shown = [[words(row["name"]), _valued(row["value"], row["measure"])] for row in rows]
    console().print(table(["What", "Value"], shown, right=[1]))


def pids(units: Mapping[str, tuple[int, ...]], readings: list[Reading], told: Iterable[str]) -> Told:
    """Return what each unit has, with the values now."""
    rows: list[Told] = []
    for unit, have in units.items():
        for pid in have:
            if pid % 0x20 == 0:
                continue
            values = [
                {"name": r.name, "value": r.value, "measure": r.measure}
                for r in readings
                if (r.unit, r.pid) == (unit, pid)
            ]
            rows.append({"unit": unit, "pid": f"{pid:02X}", "known": pid in PIDS, "values": values})
    return {"pids": rows, "notes": list(told)}


def show_pids(told: Told) -> None:
    """Print what each unit has."""
    rows = []
    for row in told["pids"]:
        shown = "; ".join(f"{words(v['name'])} {_valued(v['value'], v['measure'])}" for v in row["values"])
        if not shown:
            shown = _described(int(row["pid"], 16)) if row["known"] else "unknown here"
        rows.append([row["pid"], row["unit"], shown])
    out = console()
    out.print(table(["PID", "Unit", "Now"], rows))
    notes(out, told["notes"])


def _described(pid: int) -> str:
    fields = PIDS[pid].fields
    if not fields:
        return "not decoded"
    return "lamp and self-tests: see readiness" if pid in _STATES else f"{words(fields[0].name)}: no value now"


def scan(name: str, wire: VehicleWire, who: Identity, found: Codes, ready: Readiness | None) -> Told:
    """Return the overview."""
    return {
        "device": name,
        "protocol": wire.protocol,
        "facts": wire.facts,
        "volts": wire.volts(),
        "units": {unit: len([p for p in have if p % 0x20]) for unit, have in wire.units.items()},
        "identity": identity(who),
        "codes": codes(found, ready, ())["codes"],
        "readiness": readiness(ready),
        "notes": wire.notes,
    }


def show_scan(told: Told) -> None:
    """Print the overview."""
    ready = told["readiness"]
    rows = [("Vehicle", _vin(told["identity"])), ("Speaks", told["protocol"])]
    rows += [(name.capitalize(), value) for name, value in told["facts"].items()]
    rows += [("Supply", f"{told['volts']:.1f} V")] if told["volts"] is not None else []
    rows += [("Units", ", ".join(f"{unit} ({n} PIDs)" for unit, n in told["units"].items()))]
    if ready["answered"]:
        rows += [("Lamp", "on" if ready["mil"] else "off")]
        missing = [words(name) for name, good in ready["monitors"].items() if not good]
        rows += [("Self-tests", f"not ready: {', '.join(missing)}" if missing else "all ready")]
    rows += [("Codes", "none")] if not told["codes"] else []
    out = console()
    out.print(facts(rows))
    if told["codes"]:
        out.print(table(["Code", "Kind", "Meaning"], [[r["code"], r["kind"], r["text"]] for r in told["codes"]]))
    notes(out, told["notes"])


def chosen(wanted: list[str]) -> list[int]:
    """Return the PIDs that the command line names by number (0C) or name (engine_speed); the usual ones for none."""
    if not wanted:
        return list(USUAL)
    by_name = {f.name: pid.number for pid in PIDS.values() for f in pid.fields}
    found = []
    for each in wanted:
        name = each.lower().replace("-", "_")
        digits = name.removeprefix("0x")
        if name in by_name:
            found.append(by_name[name])
        elif len(digits) == 2 and set(digits) <= set("0123456789abcdef"):
            found.append(int(digits, 16))
        else:
            raise ConfigError(f"PID '{each}' is neither a number like 0C nor a known name{near_names(name, by_name)}")
    return found


class MonitorView(Steady):
    """Values as they come: a table that stays in its place on a terminal, else a line a round."""

    def __init__(self, live: bool) -> None:
        super().__init__(live)
        self._out = console()

    def show(self, at_s: float, readings: list[Reading]) -> None:
        """Show one round."""
        several = {name for name, n in Counter(r.name for r in readings).items() if n > 1}
        if self._live is None:
            told = "  ".join(
                f"{r.name}{f'@{r.unit}' if r.name in several else ''} {_valued(r.value, r.measure)}" for r in readings
            )
            told = told or "no answer"
            self._out.print(f"{at_s:8.1f} s  {told}", soft_wrap=True)
            return
        rows = [[words(r.name), _valued(r.value, r.measure), r.unit] for r in readings]
        self._live.update(table(["What", "Now", "Unit"], rows, right=[1], title=f"{at_s:.1f} s"), refresh=True)
