"""What a technician asks: trouble codes, the lamp, which monitors are ready, the freeze frame. Reading only."""

from dataclasses import dataclass
from typing import Final

from drivers.decode.j1979 import PIDS, values
from drivers.decode.j1979_info import DTC_SERVICES, dtc_text, trouble_codes
from drivers.elm.command import allowed
from drivers.elm.dialogue import Dialogue, Script
from drivers.elm.vehicle import SUPPORT, Vehicle


@dataclass(frozen=True, slots=True)
class Readiness:
    """The lamp and the monitors of all control units together: a monitor is ready when no unit calls it incomplete."""

    mil: bool
    codes: int
    monitors: dict[str, bool]


@dataclass(frozen=True, slots=True)
class FreezeFrame:
    """What the engine's unit kept when `code` was stored: J1979 names and values in units of J1979."""

    unit: str
    code: str
    values: dict[str, float]


def codes(d: Dialogue, vehicle: Vehicle) -> Script[dict[str, dict[str, list[str]]]]:
    """Read stored, pending and permanent trouble codes by control unit; a unit without codes has an empty list."""
    found: dict[str, dict[str, list[str]]] = {}
    for service, name in DTC_SERVICES.items():
        reply = yield from d.request(f"{service - 0x40:02X}")
        by_unit = found.setdefault(name, {})
        for answer in vehicle.answers.read(reply):
            if answer.payload[0] == service:
                read = trouble_codes(answer.payload)
                if read is not None:
                    by_unit[answer.unit] = read
    return found


def readiness(d: Dialogue, vehicle: Vehicle) -> Script[Readiness | None]:
    """Read PID 01 of all units; None when no unit answers it."""
    reply = yield from d.request("0101")
    lamp, count, monitors, seen = False, 0, dict[str, bool](), False
    for answer in vehicle.answers.read(reply):
        if answer.payload[:2] != b"\x41\x01" or len(answer.payload) != 6:
            continue
        seen = True
        told = {field.name: value for field, value in values(PIDS[0x01], answer.payload[2:])}
        lamp |= bool(told["mil_on"])
        count += int(told["dtc_count"])
        for name, value in told.items():
            if name.endswith("_supported") and value:
                monitor = name.removesuffix("_supported")
                ready = not told[f"{monitor}_incomplete"]
                monitors[monitor] = monitors.get(monitor, True) and ready
    return Readiness(lamp, count, monitors) if seen else None


def freeze_frame(d: Dialogue, vehicle: Vehicle) -> Script[FreezeFrame | None]:
    """Read frame 0 of the first unit that has one: the code that caused it and every value the product knows."""
    unit, code = "", 0
    for answer in vehicle.answers.read((yield from d.request("020200"))):
        if answer.payload[:3] == b"\x42\x02\x00" and len(answer.payload) == 5:
            code = int.from_bytes(answer.payload[3:], "big")
            unit = answer.unit
            if code:
                break
    if not code:
        return None
    pids: list[int] = []
    for base in SUPPORT:
        if base and base not in pids:
            break
        for data in (yield from _frame(d, vehicle, unit, base)):
            pids += [base + 1 + i for i in range(32) if int.from_bytes(data, "big") >> (31 - i) & 1]
    told: dict[str, float] = {}
    for pid in pids:
        if pid in PIDS and PIDS[pid].fields and pid % 0x20 and pid != 0x02 and allowed(f"02{pid:02X}00"):
            for data in (yield from _frame(d, vehicle, unit, pid)):
                told |= {field.name: value for field, value in values(PIDS[pid], data)}
    return FreezeFrame(unit, dtc_text(code), told)


def _frame(d: Dialogue, vehicle: Vehicle, unit: str, pid: int) -> Script[list[bytes]]:
    """Ask for one PID of frame 0: the data bytes that the unit gave, or nothing."""
    reply = yield from d.request(f"02{pid:02X}00")
    sizes: Final = (4,) if pid % 0x20 == 0 else (PIDS[pid].length, PIDS[pid].long)
    head = bytes((0x42, pid, 0x00))
    return [
        answer.payload[3:]
        for answer in vehicle.answers.read(reply)
        if answer.unit == unit and answer.payload[:3] == head and len(answer.payload) - 3 in sizes
    ][:1]
