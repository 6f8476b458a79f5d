"""Vectors of three, with sums in one order on every processor.

numpy's own `@` and `norm` are OpenBLAS's, which takes another routine for each processor: the last bits differ, and
with them the hash of a record.
"""

from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def dot(a: Any, b: Any) -> float:
    """Multiply two vectors."""
    return float(a[0]) * float(b[0]) + float(a[1]) * float(b[1]) + float(a[2]) * float(b[2])


def length(a: Any) -> float:
    """Return how long a vector is."""
    return sqrt(dot(a, a))


def unit(a: Any) -> Floats:
    """Scale a vector to length one; one of no length becomes not-a-number."""
    array = np.asarray(a, np.float64)
    return array / np.float64(length(array))


def along(rows: Floats, *axes: Floats) -> Floats:
    """Return how far each of `rows` [n, 3] reaches along each axis: [n], or [n, axes] for several."""
    reached = [rows[:, 0] * axis[0] + rows[:, 1] * axis[1] + rows[:, 2] * axis[2] for axis in axes]
    return reached[0] if len(axes) == 1 else np.stack(reached, axis=1)
