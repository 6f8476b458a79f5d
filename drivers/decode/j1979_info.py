"""SAE J1979 answers that are not measurements: trouble codes (services 03, 07, 0A) and vehicle identity (09)."""

from typing import Final

from agent.vin import VIN_LENGTH

DTC_SERVICES: Final[dict[int, str]] = {0x43: "stored", 0x47: "pending", 0x4A: "permanent"}


def dtc_text(code: int) -> str:
    """Write two bytes of a trouble code as people do: 0x4123 is C0123 (SAE J2012)."""
    return f"{'PCBU'[code >> 14]}{code >> 12 & 3}{code & 0xFFF:03X}"


def trouble_codes(payload: bytes) -> list[str] | None:
    """Read the codes of an answer 43, 47 or 4A (a count, then two bytes each; 00 00 is padding); None if it is cut."""
    if len(payload) < 2 or len(payload) < 2 + 2 * payload[1]:
        return None
    codes = (int.from_bytes(payload[2 + 2 * i : 4 + 2 * i], "big") for i in range(payload[1]))
    return [dtc_text(code) for code in codes if code]


def _text(raw: bytes) -> str:
    return "".join(chr(b) for b in raw if 0x20 <= b < 0x7F).strip()


def vin_of(payload: bytes) -> str | None:
    """Read the VIN of an answer 49 02 01 …; None if the answer is cut."""
    vin = payload[3:].lstrip(b"\0")[:VIN_LENGTH]
    return _text(vin) if len(vin) == VIN_LENGTH else None


def calibration_ids(payload: bytes) -> list[str] | None:
    """Read the calibration ids of an answer 49 04 n …, 16 characters each; None if the answer is cut."""
    if len(payload) < 3 or len(payload) < 3 + 16 * payload[2]:
        return None
    return [_text(payload[3 + 16 * i : 19 + 16 * i]) for i in range(payload[2])]


def calibration_numbers(payload: bytes) -> list[str] | None:
    """Read the calibration verification numbers of an answer 49 06 n …, 4 bytes each as hex; None if it is cut."""
    if len(payload) < 3 or len(payload) < 3 + 4 * payload[2]:
        return None
    return [payload[3 + 4 * i : 7 + 4 * i].hex().upper() for i in range(payload[2])]


def unit_name_of(payload: bytes) -> str | None:
    """Read the control unit's name of an answer 49 0A 01 …: 4 characters, a dash, a name; None if it is cut."""
    if len(payload) < 8:
        return None
    return _text(payload[3:]) or None
