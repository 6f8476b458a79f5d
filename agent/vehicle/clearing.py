"""The one place of the product that can clear trouble codes (service 04): by a person at the box, and no other way.

Nothing of it goes through the drivers, whose requests can only read (docs/decisions/0103, 0110): it opens the wire
itself, after the driver has closed it. The import contracts keep daemon, remote commands and drivers from importing
this module; agent.cli.obd alone does, after it has shown what would be lost and been told so in words (0288).
"""

from dataclasses import dataclass
from typing import Any, Final

from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import DriverError
from agent.vehicle.asking import Spoken
from agent.vehicle.devices import Device
from drivers.can.outgoing import FUNCTIONAL_11, FUNCTIONAL_29, PADDING, is_answer_id
from drivers.can.wire import CanSettings
from drivers.diagnosis import Reading
from drivers.elm.answers import Answers
from drivers.elm.line import SerialLine
from drivers.elm.reply import Reply
from drivers.elm.settings import Elm327Settings

SERVICE: Final = 0x04
CLEARED: Final = 0x44
REFUSED: Final = 0x7F
PENDING: Final = 0x78
ANSWER_S: Final = 5.0  # units write their memory; P2* of ISO 15765-4
SETTLE_S: Final = 1.0
ENGINE_SPEED: Final = 0x0C
SPEED: Final = 0x0D

# Why a unit says no (ISO 14229-1, negative response codes that this service meets)
_REASONS: Final = {
    0x10: "no reason given",
    0x11: "it does not know the request",
    0x12: "it does not know the request",
    0x22: "conditions are not right: ignition on, engine off",
    0x31: "the request is out of range",
    0x33: "it is locked",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Which units said that they cleared, and which refused, with the reason."""

    cleared: tuple[str, ...]
    refused: dict[str, str]


def hindrance(readings: list[Reading]) -> str:
    """Say why the codes may not be cleared now, '' when the engine is known to stand: `readings` of PIDs 0C and 0D."""
    turning = [r.value for r in readings if r.pid == ENGINE_SPEED]
    moving = [r.value for r in readings if r.pid == SPEED]
    if any(value > 0 for value in turning):
        return f"the engine runs ({max(turning):.0f} rpm); switch it off and the ignition on again"
    if any(value > 0 for value in moving):
        return f"the car moves ({max(moving):.0f} km/h)"
    if not turning and not moving:
        return "no control unit says whether the engine stands; switch the ignition on"
    return ""


def clear(device: Device, spoken: Spoken) -> Outcome:
    """Clear the codes of all control units over `device`, which must be closed; DriverError when nobody answers."""
    if isinstance(device.settings, Elm327Settings):
        outcome = _over_adapter(device.settings, spoken)
    else:
        outcome = _on_bus(device.settings, spoken)
    if not outcome.cleared and not outcome.refused:
        raise DriverError(f"{device.name}: no control unit answered the request to clear; read the codes again")
    return outcome


def _over_adapter(settings: Elm327Settings, spoken: Spoken) -> Outcome:
    line = SerialLine(settings.port)
    line.open(spoken.baud)
    try:
        _said(line, b"ATI\r", SETTLE_S)  # whatever was under way is over now; cut short, it is no request
        reply = _said(line, b"%02X\r" % SERVICE, ANSWER_S)
    finally:
        line.close()
    answers = Answers(spoken.protocol, spoken.headers).read(reply)
    heard = [(answer.unit, answer.payload) for answer in answers]
    if not spoken.headers and any(text == f"{CLEARED:02X}" for _, text in reply.data()):
        heard.append(("bare", bytes([CLEARED])))
    if not heard and reply.failure is not None:
        raise DriverError(f"{settings.port}: not cleared: {reply.failure.name} ({reply.failure.meaning})")
    return _outcome(heard)


def _said(line: SerialLine, text: bytes, wait_s: float) -> Reply:
    """Send `text` and return what came until the adapter's prompt, or until the time was over."""
    sent_ns = monotonic_ns()
    line.write(text)
    raw = bytearray()
    while not raw.rstrip().endswith(b">") and (left_s := wait_s - (monotonic_ns() - sent_ns) / NS_PER_S) > 0:
        raw += line.read(left_s)
    now_ns = monotonic_ns()
    lines = raw.replace(b"\0", b"").replace(b">", b"\r").replace(b"\n", b"\r").decode("ascii", "replace").upper()
    told = [part.strip() for part in lines.split("\r")]
    echo = text.decode().strip()
    return Reply(sent_ns, now_ns, [(now_ns, part) for part in told if part and part != echo], b">" in raw)


def _on_bus(settings: CanSettings, spoken: Spoken) -> Outcome:
    import can

    data = bytes((1, SERVICE)).ljust(8, bytes([PADDING]))
    identifier = FUNCTIONAL_29 if spoken.extended else FUNCTIONAL_11
    message = can.Message(arbitration_id=identifier, is_extended_id=spoken.extended, data=data)
    heard: list[tuple[str, bytes]] = []
    try:
        with can.Bus(channel=settings.channel, interface=settings.interface, **_arguments(settings)) as bus:
            bus.send(message)
            deadline_ns = monotonic_ns() + round(SETTLE_S * NS_PER_S)
            while (left_ns := deadline_ns - monotonic_ns()) > 0:
                frame = bus.recv(left_ns / NS_PER_S)
                if frame is None or not is_answer_id(frame.arbitration_id) or frame.is_error_frame:
                    continue
                payload = bytes(frame.data[1 : 1 + frame.data[0]]) if 0 < (frame.data or b"\0")[0] < 8 else b""
                if payload[:3] == bytes((REFUSED, SERVICE, PENDING)):
                    deadline_ns = monotonic_ns() + round(ANSWER_S * NS_PER_S)
                else:
                    heard.append((f"{frame.arbitration_id:0{8 if frame.is_extended_id else 3}X}", payload))
    except (can.CanError, OSError, ValueError, TypeError) as error:
        raise DriverError(f"{settings.channel}: cannot clear: {error}; check the adapter and the wiring") from error
    return _outcome(heard)


def _arguments(settings: CanSettings) -> dict[str, Any]:
    arguments: dict[str, Any] = dict(settings.options)
    if settings.bit_rate:
        arguments["bitrate"] = settings.bit_rate
    if settings.interface == "slcan":
        arguments |= {"tty_baudrate": settings.serial_baud, "sleep_after_open": 0.0}  # it was open just now
    return arguments


def _outcome(heard: list[tuple[str, bytes]]) -> Outcome:
    cleared = sorted({unit for unit, payload in heard if payload[:1] == bytes([CLEARED])})
    refused = {
        unit: _REASONS.get(payload[2], f"code {payload[2]:02X}")
        for unit, payload in heard
        if len(payload) >= 3 and payload[:2] == bytes((REFUSED, SERVICE)) and payload[2] != PENDING
    }
    return Outcome(tuple(cleared), refused)
