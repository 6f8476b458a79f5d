"""The speed and acceleration curve of a trip, once a second, small enough to be sent for every trip."""

from math import isnan
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.clock import NS_PER_S
from agent.records import Curve
from agent.state import State

PIECE_S: Final = 1800  # seconds in one record: about 4 KB on the wire

# Columns of STATE in order of preference; the first known value of a row is taken.
LONGITUDINAL: Final = ("lon_wheel", "lon_can", "lon_vehicle", "lon_imu", "lon_obd", "lon_gnss")
LATERAL: Final = ("lat_imu", "lat_vehicle", "lat_yaw", "lat_gnss")


def first_known(rows: State, columns: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Return for each row the first of `columns` that is not NaN, else NaN."""
    best = rows[columns[0]].copy()
    for name in columns[1:]:
        unknown = np.isnan(best)
        if not unknown.any():
            break
        best[unknown] = rows[name][unknown]
    return best


class CurveRing:
    """Collects rows second by second and cuts out the curve of a trip once its start and end are known."""

    def __init__(self) -> None:
        self._seconds: dict[int, list[float]] = {}  # second -> [speed, longitudinal, lateral]

    def step(self, rows: State) -> None:
        """Take the next rows."""
        if not len(rows):
            return
        second = rows["t"] // NS_PER_S
        columns = np.stack([rows["speed"], first_known(rows, LONGITUDINAL), first_known(rows, LATERAL)])  # 3 x n
        starts = np.flatnonzero(np.r_[True, second[1:] != second[:-1]])
        ends = np.r_[starts[1:], len(rows)]
        magnitude = np.where(np.isnan(columns), -1.0, np.abs(columns))
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            at = start + magnitude[:, start:end].argmax(axis=1)
            largest = columns[np.arange(3), at].tolist()
            known = self._seconds.get(int(second[start]))
            if known is not None:  # the second was split between two calls
                largest = [b if isnan(a) or abs(b) > abs(a) else a for a, b in zip(known, largest, strict=True)]
            self._seconds[int(second[start])] = largest

    def cut(self, start_ns: int, end_ns: int) -> list[Curve]:
        """Return the curve from `start_ns` to `end_ns` in pieces and forget all that is older than its end."""
        first, last = start_ns // NS_PER_S, end_ns // NS_PER_S
        pieces = []
        for begin in range(first, last + 1, PIECE_S):
            rows = [self._seconds.get(s, [np.nan] * 3) for s in range(begin, min(begin + PIECE_S, last + 1))]
            speed, longitudinal, lateral = ([_centi(r[i]) for r in rows] for i in range(3))
            pieces.append(
                Curve(
                    trip_start_ns=start_ns,
                    start_ns=begin * NS_PER_S,
                    step_ms=1000,
                    speed_cmps=speed,
                    longitudinal_cmps2=longitudinal,
                    lateral_cmps2=lateral,
                )
            )
        self.forget(last)
        return pieces

    def forget(self, before_s: int) -> None:
        """Drop everything older than `before_s` seconds of the boot."""
        while self._seconds and (oldest := next(iter(self._seconds))) < before_s:  # rows come in order of time
            del self._seconds[oldest]


def _centi(value: float) -> int | None:
    return None if isnan(value) else round(value * 100)
