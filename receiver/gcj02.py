"""WGS-84 into GCJ-02, the datum of maps sold in China, a smooth shift of some 500 m, and back. We store WGS-84 only.

The forward formula and its check values are public knowledge (docs/sources.md, J2); outside the box nothing is shifted.
"""

from math import cos, pi, radians, sin, sqrt
from typing import Final

_AXIS_M: Final = 6_378_137.0
_ECCENTRICITY2: Final = 0.00669342162296594323
_STEPS: Final = 4  # each leaves less than a hundredth of the error before it
_SOUTH, _NORTH, _WEST, _EAST = 0.8293, 55.8271, 72.004, 137.8347


def from_wgs84(latitude: float, longitude: float) -> tuple[float, float]:
    """Return a place's latitude and longitude in GCJ-02, degrees."""
    if not (_SOUTH <= latitude <= _NORTH and _WEST <= longitude <= _EAST):
        return latitude, longitude
    x, y = longitude - 105.0, latitude - 35.0
    waves = 20.0 * sin(6.0 * x * pi) + 20.0 * sin(2.0 * x * pi)
    north = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * sqrt(abs(x))
    north += (waves + 20.0 * sin(y * pi) + 40.0 * sin(y / 3.0 * pi)) * 2.0 / 3.0
    north += (160.0 * sin(y / 12.0 * pi) + 320.0 * sin(y * pi / 30.0)) * 2.0 / 3.0
    east = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * sqrt(abs(x))
    east += (waves + 20.0 * sin(x * pi) + 40.0 * sin(x / 3.0 * pi)) * 2.0 / 3.0
    east += (150.0 * sin(x / 12.0 * pi) + 300.0 * sin(x / 30.0 * pi)) * 2.0 / 3.0
    phi = radians(latitude)
    magic = 1.0 - _ECCENTRICITY2 * sin(phi) ** 2
    per_north = _AXIS_M * (1.0 - _ECCENTRICITY2) / (magic * sqrt(magic)) * pi / 180.0
    per_east = _AXIS_M / sqrt(magic) * cos(phi) * pi / 180.0
    return latitude + north / per_north, longitude + east / per_east


def to_wgs84(latitude: float, longitude: float) -> tuple[float, float]:
    """Return the WGS-84 of a place that a map gave in GCJ-02, to 0.1 m: the shift is taken off where it leads from."""
    guess = (latitude, longitude)
    for _ in range(_STEPS):
        shifted = from_wgs84(*guess)
        guess = (guess[0] + latitude - shifted[0], guess[1] + longitude - shifted[1])
    return guess
