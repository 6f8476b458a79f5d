"""All that this product can send on a bus: read-only diagnostic requests, and the flow control of their answers.

A wire sends nothing but an `Outgoing`, and only `request` and `flow_control` make one. What clears, controls or writes
(services 04, 08, 10, 27, 2E, 31) has no member in `Service`, so there is no way to say it.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

PADDING: Final = 0x55  # ISO 15765-4 wants 8 bytes, the value is free; 55 needs no stuff bits
MOST_PIDS: Final = 6  # of one service 01 request on CAN (SAE J1979; ISO 15765-4 single frame)

FUNCTIONAL_11: Final = 0x7DF  # ISO 15765-4, domain.md F2
FUNCTIONAL_29: Final = 0x18DB33F1
_TESTER: Final = 0xF1


class Service(IntEnum):
    """The services of SAE J1979 that only read."""

    CURRENT = 0x01
    FREEZE_FRAME = 0x02
    STORED_CODES = 0x03
    PENDING_CODES = 0x07
    VEHICLE_INFO = 0x09
    PERMANENT_CODES = 0x0A


_MOST_PARAMETERS: Final = {Service.CURRENT: MOST_PIDS, Service.FREEZE_FRAME: 2, Service.VEHICLE_INFO: 1}
_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One frame of 8 bytes to send; made by `request` and `flow_control` alone."""

    id: int
    extended: bool
    data: bytes
    seal: object

    def __post_init__(self) -> None:
        if self.seal is not _SEAL:
            raise ValueError("a frame to send is made by request() or flow_control()")


def is_answer_id(identifier: int) -> bool:
    """Say whether control units answer a tester on this identifier (ISO 15765-4)."""
    return identifier & ~7 == 0x7E8 or identifier & ~0xFF == 0x18DAF100


def physical_id(answer_id: int) -> int:
    """Return the identifier on which the control unit that answers on `answer_id` is asked alone."""
    if not is_answer_id(answer_id):
        raise ValueError(f"{answer_id:X} is no answer's identifier")
    if answer_id <= 0x7FF:
        return answer_id - 8
    return 0x18DA0000 | (answer_id & 0xFF) << 8 | _TESTER


def request(service: Service, parameters: bytes = b"", *, unit: int | None = None, extended: bool = False) -> Outgoing:
    """Make a request to the control unit that answers on `unit`, or to all (29-bit where `extended`)."""
    if not isinstance(service, Service):
        raise ValueError(f"service {service!r} is not one of {', '.join(s.name for s in Service)}")
    if len(parameters) > _MOST_PARAMETERS.get(service, 0):
        raise ValueError(f"service {service:02X} takes no {len(parameters)} parameters")
    payload = bytes([service]) + parameters
    if unit is None:
        return _frame(FUNCTIONAL_29 if extended else FUNCTIONAL_11, bytes([len(payload)]) + payload)
    return _frame(physical_id(unit), bytes([len(payload)]) + payload)


def flow_control(unit: int) -> Outgoing:
    """Make the frame that lets the control unit answering on `unit` send the rest of its answer without pauses."""
    return _frame(physical_id(unit), b"\x30\x00\x00")


def _frame(identifier: int, data: bytes) -> Outgoing:
    return Outgoing(identifier, identifier > 0x7FF, data.ljust(8, bytes([PADDING])), _SEAL)
