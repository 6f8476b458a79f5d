"""What a tester says to a vehicle: find it, learn what it supports and who it is, then poll. Pure: no clock, no I/O.

A generator yields what to ask and when, and is sent what was heard. A vehicle that stops answering is looked for at
growing intervals, so that its control units can sleep.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final

from agent.clock import NS_PER_S
from drivers.can.outgoing import Outgoing, Service, request
from drivers.can.schedule import Schedule
from drivers.decode.j1979 import parameters

CODES_EVERY_S: Final = 300.0  # trouble codes change seldom; PID 01 tells their number in between
SEEK_FIRST_S: Final = 1.0
SEEK_MOST_S: Final = 60.0  # a tester that asks more often may keep a parked car awake (peers.md 3.5)
IDENTITY_AGAIN_S: Final = 10.0  # a gateway that wakes up, or a lost frame of a long answer: soon over
IDENTITY_TRIES: Final = 3  # unanswered requests after which a question is taken for unsupported (domain.md F3)
LOST: Final = 5  # requests in a row without any answer: ignition off, or the plug is out
MAPS: Final = tuple(range(0x00, 0x100, 0x20))

Questions = tuple[tuple[Service, bytes], ...]

_IDENTITY: Final = ((Service.VEHICLE_INFO, b"\x02"), (Service.VEHICLE_INFO, b"\x04"), (Service.VEHICLE_INFO, b"\x0a"))
_CODES: Final = (
    (Service.STORED_CODES, b""),
    (Service.PENDING_CODES, b""),
    (Service.PERMANENT_CODES, b""),
)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to send at `at_ns` (monotonic) or later: of one unit, or of all where `unit` is None."""

    service: Service
    parameters: bytes
    at_ns: int
    unit: int | None = None
    extended: bool = False

    def frame(self) -> Outgoing:
        """Return the frame that asks this."""
        return request(self.service, self.parameters, unit=self.unit, extended=self.extended)

    def is_answer(self, unit: int, payload: bytes) -> bool:
        """Say whether `payload` from `unit` answers this, positively or not."""
        if (self.unit is not None and unit != self.unit) or not payload:
            return False
        if payload[0] == 0x7F:
            return payload[1:2] == bytes([self.service])
        if payload[0] != self.service + 0x40:
            return False
        return not self.parameters or payload[1:2] == b"" or payload[1] in self.parameters


@dataclass(frozen=True, slots=True)
class Heard:
    """The answers to an Ask, (unit, payload) each, and the time."""

    now_ns: int
    answers: list[tuple[int, bytes]]


Talk = Generator[Ask, Heard, None]


@dataclass(slots=True)
class Vehicle:
    """What the conversation has learned."""

    extended: bool = False
    supported: dict[int, frozenset[int]] = field(default_factory=dict)  # by answer identifier
    unknown: Questions = ()  # questions of identity that nobody has answered yet
    polling: bool = False  # the vehicle answers and is being polled
    unanswered: int = 0
    requests: int = 0


def talk(vehicle: Vehicle, now_ns: int) -> Talk:
    """Hold the conversation for ever, keeping `vehicle` up to date."""
    wait_s = 0.0
    while True:
        vehicle.polling = False
        now_ns = yield from _seek(vehicle, now_ns + round(wait_s * NS_PER_S))
        if not vehicle.supported:
            wait_s = min(max(2 * wait_s, SEEK_FIRST_S), SEEK_MOST_S)
            continue
        wait_s = SEEK_FIRST_S
        now_ns = yield from _learn(vehicle, now_ns)
        vehicle.polling = True
        now_ns = yield from _poll(vehicle, now_ns)


def _asked(vehicle: Vehicle, ask: Ask) -> Generator[Ask, Heard, Heard]:
    heard = yield ask
    vehicle.requests += 1
    vehicle.unanswered += not heard.answers
    return heard


def _map_of(payload: bytes, base: int) -> frozenset[int]:
    """Read a bitmap of supported PIDs, an answer 41 <base> and four bytes."""
    if payload[:2] != bytes([0x41, base]) or len(payload) < 6:
        return frozenset()
    bits = int.from_bytes(payload[2:6], "big")
    return frozenset(base + 1 + i for i in range(32) if bits >> (31 - i) & 1)


def _seek(vehicle: Vehicle, at_ns: int) -> Generator[Ask, Heard, int]:
    """Ask everybody for the first bitmap, with the identifiers that answered last time first."""
    vehicle.supported = {}
    for extended in (vehicle.extended, not vehicle.extended):
        heard = yield from _asked(vehicle, Ask(Service.CURRENT, b"\0", at_ns, extended=extended))
        at_ns = heard.now_ns
        found = {unit: _map_of(payload, 0) for unit, payload in heard.answers}
        vehicle.supported = {unit: pids for unit, pids in found.items() if pids}
        if vehicle.supported:
            vehicle.extended = extended
            break
    return at_ns


def _learn(vehicle: Vehicle, now_ns: int) -> Generator[Ask, Heard, int]:
    """Ask each unit for its further bitmaps, then all of them for identity and trouble codes."""
    for unit in sorted(vehicle.supported):
        for base in MAPS[1:]:
            if base not in vehicle.supported[unit]:
                break
            heard = yield from _asked(vehicle, Ask(Service.CURRENT, bytes([base]), now_ns, unit, vehicle.extended))
            now_ns = heard.now_ns
            for _, payload in heard.answers:
                vehicle.supported[unit] |= _map_of(payload, base)
    vehicle.unknown, now_ns = yield from _questions(vehicle, _IDENTITY, now_ns)
    _, now_ns = yield from _questions(vehicle, _CODES, now_ns)
    return now_ns


def _questions(vehicle: Vehicle, questions: Questions, now_ns: int) -> Generator[Ask, Heard, tuple[Questions, int]]:
    """Ask everybody; return what nobody answered, and the time."""
    unanswered = []
    for service, parameter in questions:
        heard = yield from _asked(vehicle, Ask(service, parameter, now_ns, extended=vehicle.extended))
        now_ns = heard.now_ns
        if not heard.answers:
            unanswered.append((service, parameter))
    return tuple(unanswered), now_ns


def _poll(vehicle: Vehicle, now_ns: int) -> Generator[Ask, Heard, int]:
    """Poll until LOST requests in a row got no answer."""
    schedule = Schedule(vehicle.supported, now_ns)
    silent = 0
    tries = IDENTITY_TRIES - 1
    identity_ns = now_ns + round(IDENTITY_AGAIN_S * NS_PER_S)
    codes_ns = now_ns + round(CODES_EVERY_S * NS_PER_S)
    while silent < LOST and (due_ns := schedule.next_ns()) is not None:
        if vehicle.unknown and tries and now_ns >= identity_ns:
            vehicle.unknown, now_ns = yield from _questions(vehicle, vehicle.unknown, now_ns)
            identity_ns = now_ns + round(IDENTITY_AGAIN_S * NS_PER_S)
            tries -= 1
        if now_ns >= codes_ns:
            _, now_ns = yield from _questions(vehicle, _CODES, now_ns)
            codes_ns = now_ns + round(CODES_EVERY_S * NS_PER_S)
        at_ns = max(due_ns, now_ns)
        unit, pids = schedule.take(at_ns)
        heard = yield from _asked(vehicle, Ask(Service.CURRENT, bytes(pids), at_ns, unit, vehicle.extended))
        now_ns = heard.now_ns
        got = {pid.number for _, payload in heard.answers if payload[0] == 0x41 for pid, _ in parameters(payload)}
        schedule.heard(unit, pids, got, now_ns)
        silent = 0 if heard.answers else silent + 1
    return now_ns
