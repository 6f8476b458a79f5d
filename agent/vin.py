"""Vehicle identification numbers (ISO 3779): what is one, and which carry a check digit by law."""

from typing import Final

VIN_LENGTH: Final = 17
# 49 CFR 565.15 tables III and IV, ISO 3779 (no I, O, Q): letter values, position weights, remainder 10 is 'X'
_VALUES: Final = {
    **{str(d): d for d in range(10)},
    **dict(
        zip(
            "ABCDEFGHJKLMNPRSTUVWXYZ",
            (1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 7, 9, 2, 3, 4, 5, 6, 7, 8, 9),
            strict=True,
        )
    ),
}
_WEIGHTS: Final = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
# First letters of the makers' codes of countries whose law demands the check digit: North America (49 CFR 565), China
# (GB 16735). Elsewhere position 9 is the maker's.
_CHECK_DIGIT_REGIONS: Final = "12345L"


def vin_check_digit(vin: str) -> str:
    """Compute the check digit that belongs in position 9; raise KeyError for letters that no VIN has."""
    remainder = sum(_VALUES[c] * w for c, w in zip(vin, _WEIGHTS, strict=True)) % 11
    return "X" if remainder == 10 else str(remainder)


def vin_valid(vin: str) -> bool:
    """Say whether this is a VIN: 17 letters and digits without I, O, Q, and the check digit where the law has one."""
    if len(vin) != VIN_LENGTH or any(c not in _VALUES for c in vin):
        return False
    return vin[0] not in _CHECK_DIGIT_REGIONS or vin_check_digit(vin) == vin[8]


def vin_checked(vin: str) -> bool:
    """Say whether this valid VIN has a check digit by law, so that it cannot be a misread one."""
    return vin[:1] in tuple(_CHECK_DIGIT_REGIONS)
