"""SAE J1979 answers that are not measurements: trouble codes (services 03, 07, 0A) and vehicle identity (09)."""

from typing import Final

DTC_SERVICES: Final[dict[int, str]] = {0x43: "stored", 0x47: "pending", 0x4A: "permanent"}

VIN_LENGTH: Final = 17
# 49 CFR 565.15 tables III and IV, ISO 3779 (no I, O, Q): letter values, position weights, remainder 10 is 'X'
_VIN_VALUES: Final = {
    **{str(d): d for d in range(10)},
    **dict(
        zip(
            "ABCDEFGHJKLMNPRSTUVWXYZ",
            (1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 7, 9, 2, 3, 4, 5, 6, 7, 8, 9),
            strict=True,
        )
    ),
}
_VIN_WEIGHTS: Final = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
# First letters of the makers' codes of countries whose law demands the check digit: North America (49 CFR 565), China
# (GB 16735). Elsewhere position 9 is the maker's.
_CHECK_DIGIT_REGIONS: Final = "12345L"


def dtc_text(code: int) -> str:
    """Write two bytes of a trouble code as people do: 0x4123 is C0123 (SAE J2012)."""
    return f"{'PCBU'[code >> 14]}{code >> 12 & 3}{code & 0xFFF:03X}"


def trouble_codes(payload: bytes) -> list[str] | None:
    """Read the codes of an answer 43, 47 or 4A (a count, then two bytes each; 00 00 is padding); None if it is cut."""
    if len(payload) < 2 or len(payload) < 2 + 2 * payload[1]:
        return None
    codes = (int.from_bytes(payload[2 + 2 * i : 4 + 2 * i], "big") for i in range(payload[1]))
    return [dtc_text(code) for code in codes if code]


def vin_check_digit(vin: str) -> str:
    """Compute the check digit that belongs in position 9; raise KeyError for letters that no VIN has."""
    remainder = sum(_VIN_VALUES[c] * w for c, w in zip(vin, _VIN_WEIGHTS, strict=True)) % 11
    return "X" if remainder == 10 else str(remainder)


def vin_valid(vin: str) -> bool:
    """Say whether this is a VIN: 17 letters and digits without I, O, Q, and the check digit where the law has one."""
    if len(vin) != VIN_LENGTH or any(c not in _VIN_VALUES for c in vin):
        return False
    return vin[0] not in _CHECK_DIGIT_REGIONS or vin_check_digit(vin) == vin[8]


def vin_checked(vin: str) -> bool:
    """Say whether this valid VIN has a check digit by law, so that it cannot be a misread one."""
    return vin[:1] in tuple(_CHECK_DIGIT_REGIONS)


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
