"""What a technician asks a vehicle, as conversations without a wire: each yields requests and is sent what was heard.

A request is a service and its parameters; what is heard are the answers to it, (control unit, payload from the service
on), none where nobody answered or where the wire may not say the request. All of it only reads: drivers.elm.diagnosis
and drivers.can.asking hold these conversations, and neither can send anything else.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from agent.vin import vin_valid
from drivers.decode import j1979_info
from drivers.decode.j1979 import PIDS, parameters, values
from drivers.decode.j1979_info import DTC_SERVICES, dtc_text, trouble_codes

T = TypeVar("T")
Heard = list[tuple[str, bytes]]
Question = Generator[bytes, Heard, T]
Asking = Callable[[], Question[T]]  # a question that can be asked again from its start

SUPPORT: Final = (0x00, 0x20, 0x40, 0x60, 0x80, 0xA0, 0xC0)


@dataclass(frozen=True, slots=True)
class Readiness:
    """The lamp and the monitors of all control units together: a monitor is ready when no unit calls it incomplete.

    `monitors` since the codes were cleared, `cycle` since this start of the engine (None where no unit tells);
    `compression` says that the engine is a diesel, which has other monitors.
    """

    mil: bool
    codes: int
    monitors: dict[str, bool]
    compression: bool = False
    cycle: dict[str, bool] | None = None


@dataclass(frozen=True, slots=True)
class FreezeFrame:
    """What the engine's unit kept when `code` was stored: J1979 names and values in units of J1979."""

    unit: str
    code: str
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the vehicle and its control units say they are; the rest by control unit."""

    vin: str | None
    vin_valid: bool
    calibration_ids: dict[str, list[str]] = field(default_factory=dict)
    calibration_numbers: dict[str, list[str]] = field(default_factory=dict)
    unit_names: dict[str, str] = field(default_factory=dict)


class Reading(NamedTuple):
    """One value of one control unit, in the unit of J1979."""

    unit: str
    pid: int
    name: str
    value: float
    measure: str


def codes() -> Question[dict[str, dict[str, list[str]]]]:
    """Read stored, pending and permanent trouble codes by control unit; a unit without codes has an empty list."""
    found: dict[str, dict[str, list[str]]] = {}
    for service, name in DTC_SERVICES.items():
        by_unit = found.setdefault(name, {})
        for unit, payload in (yield bytes([service - 0x40])):
            read = trouble_codes(payload) if payload[:1] == bytes([service]) else None
            if read is not None:
                by_unit[unit] = read
    return found


def readiness() -> Question[Readiness | None]:
    """Read PIDs 01 and 41 of all units; None when no unit answers 01."""
    lamp, count, compression, seen = False, 0, False, False
    monitors: dict[str, bool] = {}
    for told in (yield from _monitors(0x01)):
        seen = True
        lamp |= bool(told["mil_on"])
        count += int(told["dtc_count"])
        compression |= bool(told["compression_ignition"])
        _join(monitors, told, "")
    if not seen:
        return None
    cycle: dict[str, bool] | None = None
    for told in (yield from _monitors(0x41)):
        cycle = cycle or {}
        _join(cycle, told, "cycle_")
    return Readiness(lamp, count, monitors, compression, cycle)


def _monitors(pid: int) -> Question[list[dict[str, float]]]:
    head = bytes((0x41, pid))
    return [
        {f.name: value for f, value in values(PIDS[pid], payload[2:])}
        for _, payload in (yield bytes((0x01, pid)))
        if payload[:2] == head and len(payload) == 6
    ]


def _join(monitors: dict[str, bool], told: dict[str, float], prefix: str) -> None:
    for name, value in told.items():
        if name.endswith("_supported") and value:
            monitor = name.removesuffix("_supported")
            ready = not told[f"{monitor}_incomplete"]
            short = monitor.removeprefix(prefix).removeprefix("diesel_")
            monitors[short] = monitors.get(short, True) and ready


def freeze_frame() -> Question[FreezeFrame | None]:
    """Read frame 0 of the first unit that has one: the code that caused it and every value the product knows."""
    unit, code = "", 0
    for asked, payload in (yield b"\x02\x02\x00"):
        if payload[:3] == b"\x42\x02\x00" and len(payload) == 5:
            code = int.from_bytes(payload[3:], "big")
            unit = asked
            if code:
                break
    if not code:
        return None
    pids: list[int] = []
    for base in SUPPORT:
        if base and base not in pids:
            break
        for data in (yield from _frame(unit, base)):
            pids += [base + 1 + i for i in range(32) if int.from_bytes(data, "big") >> (31 - i) & 1]
    told: dict[str, float] = {}
    for pid in pids:
        if pid in PIDS and PIDS[pid].fields and pid % 0x20 and pid != 0x02:
            for data in (yield from _frame(unit, pid)):
                told |= {f.name: value for f, value in values(PIDS[pid], data)}
    return FreezeFrame(unit, dtc_text(code), told)


def _frame(unit: str, pid: int) -> Question[list[bytes]]:
    """Ask for one PID of frame 0: the data bytes that the unit gave, or nothing."""
    sizes: Final = (4,) if pid % 0x20 == 0 else (PIDS[pid].length, PIDS[pid].long)
    head = bytes((0x42, pid, 0x00))
    return [
        payload[3:]
        for asked, payload in (yield bytes((0x02, pid, 0x00)))
        if asked == unit and payload[:3] == head and len(payload) - 3 in sizes
    ][:1]


def identity() -> Question[Identity]:
    """Read VIN, calibrations and names of service 09."""
    vin, valid = None, False
    for payload in [p for _, p in (yield b"\x09\x02") if p[:2] == b"\x49\x02"]:
        read = j1979_info.vin_of(payload)
        if read and (vin is None or (vin_valid(read) and not valid)):
            vin, valid = read, vin_valid(read)
    told = Identity(vin, valid)
    for unit, payload in (yield b"\x09\x04"):
        if payload[:2] == b"\x49\x04" and (ids := j1979_info.calibration_ids(payload)):
            told.calibration_ids[unit] = ids
    for unit, payload in (yield b"\x09\x06"):
        if payload[:2] == b"\x49\x06" and (numbers := j1979_info.calibration_numbers(payload)):
            told.calibration_numbers[unit] = numbers
    for unit, payload in (yield b"\x09\x0a"):
        if payload[:2] == b"\x49\x0a" and (name := j1979_info.unit_name_of(payload)):
            told.unit_names[unit] = name
    return told


def supported() -> Question[dict[str, tuple[int, ...]]]:
    """Read which PIDs of service 01 each control unit has."""
    units: dict[str, set[int]] = {}
    for base in SUPPORT:
        if base and not any(base in have for have in units.values()):
            break
        for unit, payload in (yield bytes((0x01, base))):
            if payload[:2] == bytes((0x41, base)) and len(payload) == 6:
                bits = int.from_bytes(payload[2:], "big")
                units.setdefault(unit, set()).update(base + 1 + i for i in range(32) if bits >> (31 - i) & 1)
    return {unit: tuple(sorted(have)) for unit, have in sorted(units.items()) if have}


def current(pids: Sequence[int]) -> Question[list[Reading]]:
    """Read the values of these PIDs, one request each, from every unit that has them; absent fields are not told."""
    found = []
    for pid in pids:
        for unit, payload in (yield bytes((0x01, pid))):
            if payload[:1] != b"\x41":
                continue
            for told, data in parameters(payload):
                if told.number == pid:
                    found += [Reading(unit, pid, f.name, value, f.unit) for f, value in values(told, data)]
    return found
