"""The road under the virtual car: grade, bank, curvature and roughness by metre travelled, from a seed."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

GRADE: Final = 0  # rows of a road's table: rise over run
BANK: Final = 1  # rad, left side up positive
CURVATURE: Final = 2  # 1/m, left positive
ROUGHNESS: Final = 3  # body acceleration at 15 m/s, m/s² rms


@dataclass(frozen=True, slots=True)
class Terrain:
    """What kind of road it is; the seed decides where its hills and bends lie."""

    grade: float = 0.015  # rms rise over run; 0.08 is the steepest grade usual on public roads
    grade_length_m: float = 600.0  # distance over which a grade lasts
    bend: float = 0.0006  # rms curvature, 1/m
    bend_length_m: float = 120.0
    roughness: float = 0.35  # m/s² rms at 15 m/s on asphalt in fair state; 1.2 on broken asphalt or cobbles


def build_road(terrain: Terrain, length_m: float, rng: np.random.Generator) -> Floats:
    """Lay a road of `length_m`: float64[4, n], one column per metre, rows as named above."""
    n = int(length_m) + 2
    road = np.empty((4, n))
    road[GRADE] = np.clip(_smooth(n, terrain.grade_length_m, rng) * terrain.grade, -0.1, 0.1)
    road[CURVATURE] = np.clip(_smooth(n, terrain.bend_length_m, rng), -2.5, 2.5) * terrain.bend
    # 2 % crossfall drains a straight road towards its right edge; 0.6° of seeded variety
    road[BANK] = 0.02 + _smooth(n, 80.0, rng) * 0.01
    road[ROUGHNESS] = terrain.roughness * np.exp(0.35 * _smooth(n, 150.0, rng))
    return road


def _smooth(n: int, length_m: float, rng: np.random.Generator) -> Floats:
    """Return `n` metres of a smooth random function, variance about 1, that changes over `length_m`."""
    knots = rng.standard_normal(int(n / length_m) + 5)
    x = np.arange(n) / length_m + 1.0
    i = x.astype(np.int64)
    f = x - i
    # uniform cubic B-spline: twice differentiable, so neither slope nor bend ever jumps
    value = (
        (1 - f) ** 3 * knots[i - 1]
        + (3 * f**3 - 6 * f**2 + 4) * knots[i]
        + (-3 * f**3 + 3 * f**2 + 3 * f + 1) * knots[i + 1]
        + f**3 * knots[i + 2]
    ) / 6.0
    return np.asarray(value / 0.69)  # the spline keeps 0.48 of the knots' variance
