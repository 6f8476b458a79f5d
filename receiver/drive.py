"""A trip's track and curve unpacked from their records, and where the car was at any moment. Pure, no I/O.

Records come from devices: they were valid by type and signed, but their numbers may still be anything, so every value
is bounded here.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Final

from agent.clock import NS_PER_S
from agent.records import Curve, Track

MOST_SAMPLES: Final = 200_000  # two days of seconds: no trip is longer, whatever a record says
_FASTEST_CMPS: Final = 12_000  # 432 km/h (agent.channels)
_HARDEST_CMPS2: Final = 16_000  # ±16 g (agent.channels)

Samples = list[float | None]


@dataclass(frozen=True, slots=True)
class Fix:
    """One place on the track: monotonic ns, degrees, m/s."""

    t_ns: int
    latitude: float
    longitude: float
    speed_mps: float | None


def moved(fixes: Iterable[Fix], shown: Callable[[float, float], tuple[float, float]]) -> list[Fix]:
    """Return a track in another datum."""
    return [Fix(f.t_ns, *shown(f.latitude, f.longitude), f.speed_mps) for f in fixes]


@dataclass(frozen=True, slots=True)
class Series:
    """Speed (m/s) and acceleration (m/s²) at equal steps from `start_ns`; equally long, None where unknown."""

    start_ns: int = 0
    step_ns: int = NS_PER_S
    speed: Samples = field(default_factory=list)
    longitudinal: Samples = field(default_factory=list)
    lateral: Samples = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.speed)


def unpack_track(pieces: Sequence[Track]) -> list[Fix]:
    """Return the fixes of a trip in time order; what is not on Earth is left out, joints come once."""
    fixes: list[Fix] = []
    for piece in sorted(pieces, key=lambda p: p.start_ns):
        ms, lats, lons = (accumulate(deltas) for deltas in (piece.dt_ms, piece.dlat_e7, piece.dlon_e7))
        for dt_ms, lat_e7, lon_e7, cmps in zip(ms, lats, lons, piece.speed_cmps, strict=False):
            t_ns = piece.start_ns + dt_ms * 1_000_000
            if abs(lat_e7) > 85 * 10**7 or abs(lon_e7) > 180 * 10**7 or (fixes and t_ns <= fixes[-1].t_ns):
                continue
            fixes.append(Fix(t_ns, lat_e7 / 1e7, lon_e7 / 1e7, cmps / 100 if 0 <= cmps <= _FASTEST_CMPS else None))
    return fixes


def unpack_curve(pieces: Sequence[Curve]) -> Series:
    """Return the curve of a trip in one piece; steps between pieces are unknown."""
    usable = sorted((p for p in pieces if p.step_ms > 0), key=lambda p: p.start_ns)
    if not usable:
        return Series()
    start, step = usable[0].start_ns, usable[0].step_ms * 1_000_000
    columns: tuple[Samples, Samples, Samples] = ([], [], [])
    for piece in usable:
        at = (piece.start_ns - start) // step
        if piece.step_ms * 1_000_000 != step or at + len(piece.speed_cmps) > MOST_SAMPLES:
            continue
        given = (piece.speed_cmps, piece.longitudinal_cmps2, piece.lateral_cmps2)
        for column, values, most in zip(columns, given, (_FASTEST_CMPS, _HARDEST_CMPS2, _HARDEST_CMPS2), strict=True):
            column.extend([None] * (at - len(column)))
            del column[at:]
            column.extend(v / 100 if v is not None and abs(v) <= most else None for v in values)
    longest = max(map(len, columns))
    for column in columns:
        column.extend([None] * (longest - len(column)))
    return Series(start, step, *columns)


class Route:
    """Says where the car was at a time: along the simplified line, by the distance that the curve's speed gives."""

    def __init__(self, fixes: Sequence[Fix], series: Series) -> None:
        self._fixes = fixes
        self._times = [f.t_ns for f in fixes]
        self._series = series
        self._way = list(accumulate((v or 0.0 for v in series.speed), initial=0.0))

    def at(self, t_ns: int) -> tuple[float, float] | None:
        """Return (latitude, longitude), or None before the first and after the last fix."""
        if not self._times or not self._times[0] <= t_ns <= self._times[-1]:
            return None
        i = min(bisect_right(self._times, t_ns), len(self._times) - 1)
        a, b = self._fixes[max(i - 1, 0)], self._fixes[i]
        share = self._share(a.t_ns, t_ns, b.t_ns)
        west = (b.longitude - a.longitude + 180.0) % 360.0 - 180.0  # the short way round
        return a.latitude + share * (b.latitude - a.latitude), a.longitude + share * west

    def _share(self, from_ns: int, t_ns: int, to_ns: int) -> float:
        start, here, end = (self._driven(t) for t in (from_ns, t_ns, to_ns))
        if end - start > 1.0:
            return (here - start) / (end - start)
        return (t_ns - from_ns) / (to_ns - from_ns) if to_ns > from_ns else 0.0

    def _driven(self, t_ns: int) -> float:
        """Return the steps' speeds summed until a time: metres, up to a constant factor."""
        last = len(self._way) - 1
        at = (t_ns - self._series.start_ns) / self._series.step_ns
        if at <= 0 or at >= last:
            return self._way[0 if at <= 0 else last]
        i = int(at)
        return self._way[i] + (at - i) * (self._way[i + 1] - self._way[i])


def thin(values: Samples, columns: int) -> Samples:
    """Return at most `columns` values: of each run of neighbours the one of largest magnitude."""
    if len(values) <= columns:
        return values
    bounds = [len(values) * i // columns for i in range(columns + 1)]
    runs = ([v for v in values[a:b] if v is not None] for a, b in pairwise(bounds))
    return [max(run, key=abs) if run else None for run in runs]
