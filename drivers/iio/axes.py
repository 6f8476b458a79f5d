"""All axes of one IIO device side by side: from integers to the channels' units in one matrix product."""

import numpy as np
import numpy.typing as npt

from agent.channels import BY_NUMBER, number
from drivers.iio.device import AXES, QUANTITIES, Triad
from drivers.iio.scan import Integers, ScanLayout


class Axes:
    """All axes of a device side by side: what each batch needs, made once at open."""

    def __init__(self, triads: list[Triad], layout: ScanLayout | None) -> None:
        self.names = [name for triad in triads for name in triad.names]
        self.channels = np.array(
            [number(f"{QUANTITIES[t.quantity][0]}.{a.upper()}") for t in triads for a in AXES], "<u2"
        )
        self.low = np.array([BY_NUMBER[int(c)].low for c in self.channels])
        self.high = np.array([BY_NUMBER[int(c)].high for c in self.channels])
        n = len(self.names)
        self._turn, self._zero = np.zeros((n, n)), np.zeros(n)
        for at, triad in enumerate(triads):
            own = slice(3 * at, 3 * at + 3)
            self._turn[own, own] = (triad.mount * triad.scale * triad.factor).T
            self._zero[own] = triad.offset @ self._turn[own, own]
        rails = {e.name: e.rails for e in layout.elements} if layout is not None else {}
        self.rails = (
            np.array([rails.get(name, (-(1 << 62), 1 << 62)) for name in self.names], np.int64).reshape(-1, 2).T
        )

    def values(self, raw: Integers) -> npt.NDArray[np.float64]:
        """Turn raw[n, axes] into the channels' units: mount × ((raw + offset) × scale), as one matrix."""
        values: npt.NDArray[np.float64] = raw @ self._turn + self._zero
        return values
