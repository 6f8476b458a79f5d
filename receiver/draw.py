"""The map of a trip without tiles: geometry for an SVG; the template writes it.

Mercator made true to scale at the middle of the trip: angles are right everywhere, lengths to 1 % within 50 km of its
middle at 50°. The drawing is WIDTH × HEIGHT units; sizes of text and marks are not here, because the page keeps
them constant on every screen.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import asinh, atan, atan2, ceil, cos, degrees, floor, hypot, log10, radians, sinh, tan
from typing import Final

from receiver.drive import Fix, Route, Series

WIDTH: Final = 1000.0
HEIGHT: Final = 620.0
BORDER: Final = 70.0  # units left free around the track, for pins
LEAST_M: Final = 200.0  # a car that stood still is not drawn larger than this
EARTH_M: Final = 6_371_008.8
# km/h from which the next colour begins: walking pace and queues, town, country road, motorway, beyond
SPEED_BANDS_KMH: Final = (10, 30, 60, 90, 120)
ARROWS: Final = 7  # along one track
_STEPS_DEG: Final = (
    *(d / 3600 for d in (1, 2, 5, 10, 15, 30)),
    *(d / 60 for d in (1, 2, 5, 10, 15, 30)),
    *(1, 2, 5, 10, 15, 30),
)

Place = tuple[float, float]  # degrees latitude, longitude
Spot = tuple[float, float]  # units of the drawing


@dataclass(frozen=True, slots=True)
class Frame:
    """Where on Earth the drawing is: `lat0`, `lon0` lie at its middle, one unit is `metres` long there."""

    lat0: float
    lon0: float
    metres: float

    def spot(self, place: Place) -> Spot:
        """Return where a place lies on the drawing."""
        k = EARTH_M * cos(radians(self.lat0)) / self.metres
        east = (place[1] - self.lon0 + 180.0) % 360.0 - 180.0
        north = asinh(tan(radians(place[0]))) - asinh(tan(radians(self.lat0)))
        return WIDTH / 2 + k * radians(east), HEIGHT / 2 - k * north

    def place(self, spot: Spot) -> Place:
        """Return the place at a spot of the drawing."""
        k = EARTH_M * cos(radians(self.lat0)) / self.metres
        north = (HEIGHT / 2 - spot[1]) / k + asinh(tan(radians(self.lat0)))
        return degrees(atan(sinh(north))), self.lon0 + degrees((spot[0] - WIDTH / 2) / k)


@dataclass(frozen=True, slots=True)
class Line:
    """A part of the track driven within one speed band; band -1 is unknown."""

    band: int
    d: str


@dataclass(frozen=True, slots=True)
class Arrow:
    """A direction of travel, degrees clockwise from north."""

    x: float
    y: float
    turn: float


@dataclass(frozen=True, slots=True)
class Grid:
    """A parallel or meridian with what it is called."""

    d: str
    x: float
    y: float
    label: str
    upright: bool


@dataclass(frozen=True, slots=True)
class Map:
    """All that the template needs; spots are units of the drawing."""

    frame: Frame
    lines: list[Line]
    arrows: list[Arrow]
    start: Spot | None
    end: Spot | None
    grid: list[Grid]
    bar_m: float  # length of the scale bar
    bar: float  # the same in units


def fit(places: Sequence[Place]) -> Frame:
    """Return the frame that shows all `places` (at least one)."""
    lat_low, lat_high = min(p[0] for p in places), max(p[0] for p in places)
    lon0 = places[0][1]
    east = [(p[1] - lon0 + 180.0) % 360.0 - 180.0 for p in places]
    lat0 = (lat_low + lat_high) / 2
    metres_lon = EARTH_M * cos(radians(lat0)) * radians(max(east) - min(east))
    mercator = asinh(tan(radians(lat_high))) - asinh(tan(radians(lat_low)))
    metres_lat = EARTH_M * cos(radians(lat0)) * mercator
    metres = max(
        metres_lon / (WIDTH - 2 * BORDER),
        metres_lat / (HEIGHT - 2 * BORDER),
        LEAST_M / (HEIGHT - 2 * BORDER),
    )
    middle = asinh(tan(radians(lat_low))) + mercator / 2
    lon = (lon0 + (min(east) + max(east)) / 2 + 180.0) % 360.0 - 180.0
    return Frame(degrees(atan(sinh(middle))), lon, metres)


def band(speed_mps: float | None) -> int:
    """Return the number of the speed band, -1 for an unknown speed."""
    return -1 if speed_mps is None else bisect_right(SPEED_BANDS_KMH, round(speed_mps * 3.6, 1))


def trip_map(fixes: Sequence[Fix], series: Series, route: Route, others: Sequence[Place]) -> Map | None:
    """Draw a track; `others` are further places that must be on the map. None when there is no place at all."""
    places = [(f.latitude, f.longitude) for f in fixes] + list(others)
    if not places:
        return None
    frame = fit(places)
    nodes = [(frame.spot(place), of) for place, of in _nodes(fixes, series, route)]
    bar_m = _round_length(frame.metres * WIDTH / 5)
    spots = [frame.spot((f.latitude, f.longitude)) for f in fixes]
    return Map(
        frame=frame,
        lines=list(_lines(nodes)),
        arrows=list(_arrows(spots)),
        start=spots[0] if spots else None,
        end=spots[-1] if spots else None,
        grid=graticule(frame),
        bar_m=bar_m,
        bar=bar_m / frame.metres,
    )


def _nodes(fixes: Sequence[Fix], series: Series, route: Route) -> Iterator[tuple[Place, int]]:
    """Yield the corners of the track, with the band of the way that follows each; where the band changes is one too."""
    first = series.start_ns
    for a, b in pairwise(fixes):
        i = max(0, -((first - a.t_ns) // series.step_ns))  # first whole step after a
        now = band(series.speed[i - 1] if 0 < i <= len(series) else a.speed_mps)
        yield (a.latitude, a.longitude), now
        while i < len(series) and first + i * series.step_ns < b.t_ns:
            of = band(series.speed[i])
            place = route.at(first + i * series.step_ns) if of != now else None
            if place is not None and of >= 0:
                yield place, of
                now = of
            i += 1
    if fixes:
        yield (fixes[-1].latitude, fixes[-1].longitude), -1


def _lines(nodes: list[tuple[Spot, int]]) -> Iterator[Line]:
    start = 0
    for i in range(1, len(nodes)):
        if i == len(nodes) - 1 or nodes[i][1] != nodes[start][1]:
            yield Line(nodes[start][1], path([spot for spot, _ in nodes[start : i + 1]]))
            start = i


def _arrows(spots: list[Spot]) -> Iterator[Arrow]:
    """Yield arrows at equal distances along the track."""
    steps = [hypot(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(spots)]
    total = sum(steps)
    if total < 80:
        return
    done, nth = 0.0, 1
    for (a, b), step in zip(pairwise(spots), steps, strict=True):
        while nth <= ARROWS and done + step >= total * nth / (ARROWS + 1) and step > 0:
            share = (total * nth / (ARROWS + 1) - done) / step
            turn = degrees(atan2(b[0] - a[0], a[1] - b[1]))
            yield Arrow(a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]), turn)
            nth += 1
        done += step


def graticule(frame: Frame) -> list[Grid]:
    """Return parallels and meridians, some five each way, drawn beyond the frame so that any screen is filled."""
    north, west = frame.place((0.0, 0.0))
    south, east = frame.place((WIDTH, HEIGHT))
    lines = []
    step = _step((east - west) / 5)
    for n in range(ceil(west / step), floor(east / step) + 1):
        x = frame.spot((frame.lat0, n * step))[0]
        label = _degrees(n * step, step, "EW") if x < 0.7 * WIDTH else ""  # the scale bar stands there
        lines.append(Grid(f"M{x:.1f} {-HEIGHT:.0f}V{2 * HEIGHT:.0f}", x, HEIGHT, label, True))
    step = _step((north - south) / 4)
    for n in range(ceil(south / step), floor(north / step) + 1):
        y = frame.spot((n * step, frame.lon0))[1]
        lines.append(Grid(f"M{-WIDTH:.0f} {y:.1f}H{2 * WIDTH:.0f}", 0.0, y, _degrees(n * step, step, "NS"), False))
    return lines


def _step(wanted: float) -> float:
    return next((s for s in _STEPS_DEG if s >= wanted), _STEPS_DEG[-1])


def _degrees(value: float, step: float, letters: str) -> str:
    """Write degrees, minutes and seconds, no finer than `step`; e.g. 55°40′N."""
    value = (value + 180.0) % 360.0 - 180.0 if letters == "EW" else value
    letter = "" if abs(value) < 1e-9 else letters[0 if value > 0 else 1]
    seconds = round(abs(value) * 3600)
    whole, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    if step >= 1:
        return f"{whole}°{letter}"
    return f"{whole}°{minutes:02d}′{letter}" if step >= 1 / 60 else f"{whole}°{minutes:02d}′{rest:02d}″{letter}"


def _round_length(metres: float) -> float:
    """Return the largest 1, 2 or 5 × 10ⁿ not above `metres`."""
    power = 10.0 ** floor(log10(metres))
    return float(max(f * power for f in (1, 2, 5) if f * power <= metres * (1 + 1e-9)))


def path(spots: Sequence[Spot]) -> str:
    """Write a polyline as SVG path data."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)


def sketch(places: Sequence[Place], width: float, height: float, most: int = 60) -> str:
    """Return the shape of a track as path data in a small box, or '' when it has no extent."""
    if len(places) < 2:
        return ""
    frame = fit(places)
    step = max(1, ceil(len(places) / most))
    spots = [frame.spot(p) for p in [*places[:-1:step], places[-1]]]
    left, top = min(x for x, _ in spots), min(y for _, y in spots)
    wide, high = max(x for x, _ in spots) - left, max(y for _, y in spots) - top
    if max(wide, high) * frame.metres < 1:
        return ""
    k = min((width - 6) / max(wide, 1e-9), (height - 6) / max(high, 1e-9))
    x0, y0 = (width - k * wide) / 2, (height - k * high) / 2
    return path([(x0 + k * (x - left), y0 + k * (y - top)) for x, y in spots])
