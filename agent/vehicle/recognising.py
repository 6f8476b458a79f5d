"""What kind of bus this is: likely bit rate, J1939 or OBD-II on it, which profiles fit, what was overheard."""

from dataclasses import dataclass, field
from typing import Any, Final

from agent.blocks import Frames
from agent.vehicle.matching import Match, Matcher
from agent.vehicle.traffic import Key
from drivers.decode.decode import OBD_IDS, OBD_IDS_29
from drivers.decode.obd import ObdDecoder

# Parameter groups that engines, brakes and gearboxes of trucks send by themselves (SAE J1939-71, -73, -81)
GROUPS: Final = {
    0xF003: "accelerator and load (EEC2)",
    0xF004: "engine speed and torque (EEC1)",
    0xF001: "anti-lock brakes (EBC1)",
    0xF002: "gearbox (ETC1)",
    0xFEF1: "vehicle speed (CCVS)",
    0xFEEE: "engine temperatures (ET1)",
    0xFEF2: "fuel economy (LFE)",
    0xFEF7: "supply voltage (VEP1)",
    0xFEEF: "engine pressures (EFL/P1)",
    0xFECA: "trouble codes (DM1)",
    0xEE00: "address claim",
    0xFEBF: "wheel speeds (EBC2)",
}
ENOUGH: Final = 3  # of those groups make a J1939 bus


@dataclass(frozen=True, slots=True)
class Recognised:
    """What is known of one bus."""

    bus: str
    ids_11: int
    ids_29: int
    bit_rate: int | None
    from_wire: bool  # the bit rate is the wire's own, not a conclusion from bursts
    groups: tuple[str, ...]  # of J1939
    requests: bool  # a tester asks for OBD-II
    answers: tuple[str, ...]  # identifiers on which control units answer

    @property
    def j1939(self) -> bool:
        """Whether it looks like a J1939 bus."""
        return len(self.groups) >= ENOUGH


@dataclass(slots=True)
class Recogniser:
    """Look at what passes."""

    matcher: Matcher
    obd: ObdDecoder = field(default_factory=ObdDecoder)

    def add(self, frames: Frames, buses: list[str]) -> None:
        """Take a batch."""
        self.matcher.add(frames, buses)
        self.obd.decode(frames)

    @property
    def vehicle(self) -> dict[str, Any]:
        """What control units were overheard to say of the vehicle."""
        return self.obd.vehicle_info

    def matches(self) -> list[Match]:
        """Return the profiles that something speaks for, best first."""
        return self.matcher.matches()

    def bus(self, name: str, bit_rate: int | None) -> Recognised:
        """Return what is known of one bus; `bit_rate` as the wire tells it."""
        keys = [key for key in self.matcher.traffic.ids if key.bus == name]
        likely = self.matcher.traffic.buses[name].likely_bit_rate
        groups = {group for key in keys if key.extended and (group := _group(key)) in GROUPS}
        answers = sorted(key.text for key in keys if _answers(key))
        return Recognised(
            bus=name,
            ids_11=sum(not key.extended for key in keys),
            ids_29=sum(key.extended for key in keys),
            bit_rate=bit_rate or likely,
            from_wire=bit_rate is not None,
            groups=tuple(GROUPS[group] for group in sorted(groups)),
            requests=any(_asks(key) for key in keys),
            answers=tuple(answers),
        )


def _group(key: Key) -> int:
    """Return the parameter group: without priority and source, and without the destination of a PDU1."""
    group = key.id >> 8 & 0x3FFFF
    return group if group & 0xFF00 >= 0xF000 else group & 0x3FF00


def _asks(key: Key) -> bool:
    if key.extended:
        return key.id == 0x18DB33F1 or (key.id >> 16 in OBD_IDS_29 and key.id & 0xFF == 0xF1)
    return key.id in OBD_IDS and key.id < 0x7E8


def _answers(key: Key) -> bool:
    return key.id & ~0xFF == 0x18DAF100 if key.extended else 0x7E8 <= key.id <= 0x7EF
