"""The simplified track of a trip: no removed fix lies farther than a stated error from the line that is kept.

A cone is opened from the last kept fix and narrowed by every fix that follows, so one pass with constant memory
decides (the sleeve of Zhao and Saalfeld, 1997). A fix in the cone is within 0.8 of the error across the line; one that
falls back by less than 0.6 of the error is within it along the line, and √(0.8² + 0.6²) = 1: the bound holds for the
segment, not only for the infinite line. Lines are straight in latitude and longitude; the distances from them are taken
at the scale of the kept fix, which is right to 1 part in 1,000 along a segment.
"""

from math import cos, hypot, isnan, nan, radians
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from agent.records import Track

M_PER_DEG: Final = 111_194.93  # of latitude, on a sphere of 6,371,008.8 m
NS_PER_MS: Final = 1_000_000
PIECE: Final = 500  # points in one record: some 6 KB on the wire
LONGEST_M: Final = 5_000.0  # a segment ends here, so that the scale of its start still holds at its end
MARGIN_M: Final = 0.2  # for the scale and for coordinates stored to 1e-7 degrees (1 cm)

# `state` of the simplifier
STARTED, LAT, LON, SPEED, LAST_LAT, LAST_LON, LAST_SPEED, FARTHEST, CONE, AXIS, LEFT, RIGHT, SIZE = range(13)


class Points(NamedTuple):
    """Fixes as parallel arrays: time (ns), latitude and longitude (degrees), speed (m/s, NaN unknown)."""

    t: npt.NDArray[np.int64]
    lat: npt.NDArray[np.float64]
    lon: npt.NDArray[np.float64]
    speed: npt.NDArray[np.float64]


class Simplifier:
    """Takes the fixes of one trip as they come and keeps those that the error bound needs."""

    def __init__(self, error_m: float) -> None:
        from agent.track_kernel import simplify_fixes

        self._kernel = simplify_fixes
        self._error_m = error_m
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._state = np.zeros(SIZE)
        self._times = np.zeros(2, np.int64)
        self._kept: list[Points] = []

    def step(self, fixes: Points, marks: npt.NDArray[np.uint8]) -> None:
        """Take the next fixes, in time order; fixes without a position are passed over.

        `marks` [n]: 0 pass over, 1 take the fix, 2 keep the fix before it for certain, 3 both.
        """
        if not len(fixes.t):
            return
        t, lat, lon, speed = (np.ascontiguousarray(a) for a in fixes)
        out_t = np.empty(2 * len(t), np.int64)
        out = np.empty((2 * len(t), 3))
        error_m = self._error_m - MARGIN_M
        n = self._kernel(t, lat, lon, speed, marks, error_m, self._state, self._times, out_t, out)
        if n:
            self._kept.append(Points(out_t[:n].copy(), *(out[:n, i].copy() for i in range(3))))

    def points(self) -> Points:
        """Return what is kept so far, the last fix included."""
        state = self._state
        kept = list(self._kept)
        if state[STARTED] and self._times[1] != self._times[0]:
            last = state[[LAST_LAT, LAST_LON, LAST_SPEED]]
            kept.append(Points(self._times[1:].copy(), last[:1], last[1:2], last[2:]))
        return _joined(kept)


def simplify(
    t: npt.NDArray[np.int64], lat: npt.NDArray[np.float64], lon: npt.NDArray[np.float64], error_m: float
) -> npt.NDArray[np.int64]:
    """Return the indices of the fixes to keep: none of the others is farther than `error_m` from the line they make."""
    simplifier = Simplifier(error_m)
    simplifier.step(Points(t, lat, lon, np.arange(len(t), dtype=np.float64)), np.ones(len(t), np.uint8))
    return simplifier.points().speed.astype(np.int64)


def encode(points: Points, trip_start_ns: int, error_m: float) -> list[Track]:
    """Pack points into records of at most 500; each begins where the one before it ended, so that lines join."""
    pieces = []
    for first in range(0, max(1, len(points.t) - 1), PIECE - 1):
        part = cut(points, first, first + PIECE)
        if not len(part.t):
            break
        start = int(part.t[0])
        ms = (part.t - start) // NS_PER_MS
        lat, lon = (np.rint(degrees * 1e7).astype(np.int64) for degrees in (part.lat, part.lon))
        speed = np.where(np.isnan(part.speed), -1, np.rint(np.nan_to_num(part.speed) * 100)).astype(np.int64)
        pieces.append(
            Track(
                trip_start_ns=trip_start_ns,
                start_ns=start,
                error_m=error_m,
                dt_ms=np.diff(ms, prepend=0).tolist(),
                dlat_e7=np.diff(lat, prepend=0).tolist(),
                dlon_e7=np.diff(lon, prepend=0).tolist(),
                speed_cmps=speed.tolist(),
            )
        )
    return pieces


def decode(pieces: list[Track]) -> Points:
    """Unpack the records of one trip, in order; the shared ends come once."""
    parts: list[Points] = []
    for piece in pieces:
        cmps = np.array(piece.speed_cmps, np.float64)
        whole = Points(
            piece.start_ns + np.cumsum(piece.dt_ms, dtype=np.int64) * NS_PER_MS,
            np.cumsum(piece.dlat_e7) / 1e7,
            np.cumsum(piece.dlon_e7) / 1e7,
            np.where(cmps < 0, nan, cmps / 100),
        )
        parts.append(cut(whole, 1 if parts else 0, len(cmps)))
    return _joined(parts)


def cut(points: Points, first: int, end: int) -> Points:
    """Return the points from `first` up to, not including, `end`."""
    return Points(points.t[first:end], points.lat[first:end], points.lon[first:end], points.speed[first:end])


def _joined(parts: list[Points]) -> Points:
    empty = Points(np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0))
    whole = [empty, *parts]
    return Points(
        np.concatenate([p.t for p in whole]),
        np.concatenate([p.lat for p in whole]),
        np.concatenate([p.lon for p in whole]),
        np.concatenate([p.speed for p in whole]),
    )


def metres(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Return the distance between two near places (degrees); NaN where one is unknown."""
    if isnan(lat1) or isnan(lat2):
        return nan
    dlon = (lon2 - lon1 + 180.0) % 360.0 - 180.0
    return hypot((lat2 - lat1) * M_PER_DEG, dlon * M_PER_DEG * cos(radians((lat1 + lat2) / 2)))
