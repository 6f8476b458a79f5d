"""From a ready adapter to a vehicle: protocol, control units, what they can tell, VIN."""

from dataclasses import dataclass, field
from typing import Final

from agent.vin import vin_valid
from drivers.decode import j1979_info
from drivers.elm.answers import CAN, J1850, Answer, Answers, shape_of
from drivers.elm.command import current_data
from drivers.elm.dialogue import Dialogue, Script
from drivers.elm.memory import Memory
from drivers.elm.poll import MOST, RPM, SPEED
from drivers.elm.reply import Action, Reply
from drivers.elm.samples import read_answers

# After the adapter's own search has failed: one protocol after the other, commonest first. A (J1939) has no J1979.
TRY_ORDER: Final = ("6", "8", "1", "7", "9", "2", "3", "4", "5")
SUPPORT: Final = (0x00, 0x20, 0x40, 0x60, 0x80, 0xA0, 0xC0)


@dataclass(slots=True)
class Vehicle:
    """What answers behind the adapter. `units` maps control units to the PIDs that they have."""

    protocol: str
    answers: Answers
    units: dict[str, tuple[int, ...]]
    vin: str | None = None
    vin_valid: bool = False
    remembered: bool = False  # the PIDs come from the cache
    silent: list[int] = field(default_factory=list)  # PIDs that the car claims and does not answer
    # trouble codes as last read: 'stored', 'pending', 'permanent' -> control unit -> codes
    codes: dict[str, dict[str, list[str]]] = field(default_factory=dict)


def find(d: Dialogue, prefer: str | None, thorough: bool) -> Script[Vehicle | None]:
    """Find the protocol on which a vehicle answers: the one it had, the adapter's search, then each.

    Where one is known the others are tried only if `thorough`, and so is each on its own: all that asking on a bus
    that may be asleep is for engines that run.
    """
    steps = [f"ATTP{prefer}"] if prefer else []
    if thorough or not prefer:
        steps.append("ATSP0")
    if thorough:
        steps += [f"ATTP{digit}" for digit in TRY_ORDER]
    for step in steps:
        yield from d.command(step)
        reply = yield from d.ask("0100", d.timing.search_s if step == "ATSP0" else d.timing.answer_s)
        if not reply.data():
            if step != steps[-1] and reply.failure is not None and reply.failure.action is Action.BUS:
                yield from d.command("ATPC")
            continue
        digit = yield from _protocol(d, reply)
        if digit is None:
            continue
        answers = Answers(digit, d.adapter.headers)
        units = _supported(answers.read(reply), 0x00)
        again = yield from d.request("0100")  # units that were still waking up while the adapter searched
        units = _joined(units, _supported(answers.read(again), 0x00))
        if units:
            return Vehicle(digit, answers, units)
    return None


def study(d: Dialogue, vehicle: Vehicle, memory: Memory, with_vin: bool) -> Script[None]:
    """Learn VIN and PIDs, from the cache where this car is in it, and what adapter and car can do together.

    `with_vin` False leaves out the VIN, whose long answer some clones do not survive.
    """
    if with_vin:
        yield from _read_vin(d, vehicle)
    known = memory.recall(vehicle.vin) if vehicle.vin and vehicle.vin_valid else None
    if known is not None and _same_start(known, vehicle.units):
        vehicle.units, vehicle.remembered = known, True
    else:
        for base in SUPPORT[1:]:
            if not any(base in have for have in vehicle.units.values()):
                break
            reply = yield from d.request(current_data((base,)))
            vehicle.units = _joined(vehicle.units, _supported(vehicle.answers.read(reply), base))
        if vehicle.vin and vehicle.vin_valid:
            memory.keep(vehicle.vin, vehicle.units)
    yield from probe(d, vehicle)


def _protocol(d: Dialogue, reply: Reply) -> Script[str | None]:
    """Ask which protocol it is; where the adapter cannot say, the shape of the answers does."""
    told = (yield from d.command("ATDPN")).lines
    for _, line in told:
        digit = line.removeprefix("A")
        if len(digit) == 1 and digit in "123456789":
            return digit
    if not d.adapter.headers:
        return "6"
    return shape_of([line for _, line in reply.data()])


def _read_vin(d: Dialogue, vehicle: Vehicle) -> Script[None]:
    for _ in range(2):  # a clone's damaged VIN is mostly whole the second time
        reply = yield from d.request("0902")
        for answer in vehicle.answers.read(reply):
            if answer.payload[:2] != b"\x49\x02":
                continue
            vin = j1979_info.vin_of(answer.payload)
            if vin and (vehicle.vin is None or vin_valid(vin)):
                vehicle.vin, vehicle.vin_valid = vin, vin_valid(vin)
        if vehicle.vin_valid or reply.failure is not None:
            return


def probe(d: Dialogue, vehicle: Vehicle) -> Script[None]:
    """Find out whether requests may name a count of answers, and several PIDs, by asking and checking the answer."""
    d.adapter.counted, d.adapter.most = False, 1
    if vehicle.protocol in J1850 or not d.adapter.headers or not d.adapter.prompts:
        return  # J1850 PWM wants every answer acknowledged
    reply = yield from d.request(current_data((0x00,), len(vehicle.units)))
    d.adapter.counted = set(_supported(vehicle.answers.read(reply), 0x00)) == set(vehicle.units)
    both = (SPEED, RPM)
    if vehicle.protocol in CAN and any(set(both) <= set(have) for have in vehicle.units.values()):
        reply = yield from d.request(current_data(both))
        reading = read_answers(vehicle.answers.read(reply), both, {}, reply.sent_ns, d.counters)
        d.adapter.most = MOST if reading.answered == set(both) else 1


def _supported(answers: list[Answer], base: int) -> dict[str, tuple[int, ...]]:
    """Read bitmaps 41 00, 41 20 …: highest bit of the first byte is PID base + 1."""
    units: dict[str, tuple[int, ...]] = {}
    for answer in answers:
        payload = answer.payload
        if len(payload) == 6 and payload[0] == 0x41 and payload[1] == base:
            bits = int.from_bytes(payload[2:], "big")
            pids = tuple(base + 1 + i for i in range(32) if bits >> (31 - i) & 1)
            if pids:
                units[answer.unit] = pids
    return units


def _joined(one: dict[str, tuple[int, ...]], other: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {unit: tuple(sorted({*one.get(unit, ()), *other.get(unit, ())})) for unit in sorted({*one, *other})}


def _same_start(known: dict[str, tuple[int, ...]], seen: dict[str, tuple[int, ...]]) -> bool:
    """Say whether the remembered units and their first bitmaps are those of this car today."""
    first = {unit: tuple(p for p in have if p <= 0x20) for unit, have in known.items()}
    return first == {unit: tuple(p for p in have if p <= 0x20) for unit, have in seen.items()}
