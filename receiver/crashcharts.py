"""A crash as geometry for SVG: what the car did around the video, the blow itself, and from where it came.

Times are seconds from time zero; velocity changes are drawn in km/h, accelerations in m/s².
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, cos, floor, hypot, radians, sin
from typing import Final

from agent.clock import NS_PER_S
from agent.records import Crash
from receiver.charts import COLUMNS, Chart, Panel, Span, Tick, force_panel, speed_panel
from receiver.contents import Axis, Contents, Table
from receiver.drive import Fix, Samples

G_MPS2: Final = 9.80665
FROM_S: Final = -20.0  # before.csv
TO_S: Final = 10.0  # track.csv
STEP_S: Final = 0.1
ZERO: Final = 0.2  # percent of the width: the mark of time zero
JOINED: Final = 2
HOLD_S: Final = 1.6  # between two speeds of a satellite receiver a line is drawn, over a longer silence none
BLOW_FROM_S: Final = -0.1
BLOW_TO_S: Final = 0.5  # 49 CFR 563 asks for 300 ms of velocity change
MOST_CURVE: Final = 2_000  # points of a record's velocity change
_MOST_KMH: Final = 432.0  # agent.channels
_MOST_MPS2: Final = 2_000.0
_TICKS_S: Final = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Moments:
    """What the page's script reads at each tenth of a second: lists as long as `t_s`."""

    t_s: list[float]
    speed_kmh: Samples
    longitudinal_kmh: Samples  # velocity change since time zero
    lateral_kmh: Samples
    resultant: bool  # there is one velocity change only, without direction


def moments(contents: Contents, crash: Crash) -> Moments:
    """Put speed and velocity change on one axis of tenths of a second."""
    n = round((TO_S - FROM_S) / STEP_S) + 1
    t_s = [round(FROM_S + i * STEP_S, 1) for i in range(n)]
    before = contents.before
    own = next((c for c in map(before.column, _SPEEDS) if any(v is not None for v in c)), [])
    known = {round(t, 1): _kmh(v) for t, v in zip(before.t_s, own, strict=False)}
    after = _between(contents.track.t_s, [_kmh(v) for v in contents.track.column("speed_mps")])
    speed = [known.get(t) if t <= 0.0 and known.get(t) is not None else after(t) for t in t_s]
    change = _change(crash)
    longitudinal, lateral = ([at(t) for t in t_s] for at in change)
    if not crash.curve_longitudinal_cmps:
        longitudinal = lateral = [None] * n
    return Moments(t_s, speed, longitudinal, lateral, not crash.curve_lateral_cmps)


_SPEEDS: Final = ("speed_mps", "speed_indicated_mps", "wheel_mps", "speed_obd_mps", "speed_gnss_mps")


def moments_chart(said: Moments, shown: tuple[float, float] | None, label: Callable[[float], str]) -> Chart | None:
    """Draw speed over velocity change; `shown` is what the video shows, drawn as a band behind."""
    if not any(v is not None for v in (*said.speed_kmh, *said.longitudinal_kmh)):
        return None
    names = (
        {"lon": said.longitudinal_kmh} if said.resultant else {"lon": said.longitudinal_kmh, "lat": said.lateral_kmh}
    )
    panels = [speed_panel(said.speed_kmh, 0, 54)]
    if any(v is not None for v in said.longitudinal_kmh):
        panels.append(force_panel(names, 63, 37, ()))
    whole = said.t_s[-1] - said.t_s[0]
    spans = []
    if shown is not None:
        start, end = max(shown[0], said.t_s[0]), min(shown[1], said.t_s[-1])
        spans = [Span(100 * (start - said.t_s[0]) / whole, 100 * max(0.0, end - start) / whole, "", "filmed")]
    spans.append(Span(100 * -said.t_s[0] / whole, ZERO, "", "zero"))
    return Chart(panels, _ticks(said.t_s[0], said.t_s[-1], label), spans)


def blow_chart(contents: Contents, crash: Crash, label: Callable[[float], str]) -> Chart | None:
    """Draw the first half second: velocity change over acceleration, along and across where the mount is known."""
    columns = round((BLOW_TO_S - BLOW_FROM_S) / 0.01) + 1
    t_s = [BLOW_FROM_S + i * 0.01 for i in range(columns)]
    panels: list[Panel] = []
    if crash.curve_longitudinal_cmps:
        longitudinal, lateral = ([at(t) for t in t_s] for at in _change(crash))
        names = {"lon": longitudinal, "lat": lateral} if crash.curve_lateral_cmps else {"lon": longitudinal}
        panels.append(force_panel(names, 0, 44, ()))
    forces = forces_between(contents, BLOW_FROM_S, BLOW_TO_S)
    if forces:
        panels.append(force_panel(forces, 57 if panels else 0, 43 if panels else 100, ()))
    if not panels:
        return None
    zero = Span(100 * -BLOW_FROM_S / (BLOW_TO_S - BLOW_FROM_S), ZERO, "", "zero")
    return Chart(panels, _ticks(BLOW_FROM_S, BLOW_TO_S, label), [zero])


def whole_chart(contents: Contents, label: Callable[[float], str]) -> Chart | None:
    """Draw all that the inertial sensor measured, all three axes."""
    t_s = contents.imu.t_s
    if len(t_s) < 2:
        return None
    forces = forces_between(contents, t_s[0], t_s[-1], vertical=True)
    zero = Span(100 * -t_s[0] / (t_s[-1] - t_s[0]), ZERO, "", "zero")
    spans = [zero] if t_s[0] <= 0.0 <= t_s[-1] else []
    return Chart([force_panel(forces, 0, 100, ())], _ticks(t_s[0], t_s[-1], label), spans) if forces else None


def forces_between(contents: Contents, start_s: float, end_s: float, vertical: bool = False) -> dict[str, Samples]:
    """Return accelerations in equal columns, in vehicle axes without gravity, else in the box's with it."""
    axes = vehicle_axes(contents.imu, contents.mount)
    if not vertical and contents.mount is not None:
        axes.pop("up", None)
    found = {}
    for name, values in axes.items():
        columns = _columns(contents.imu.t_s, values, start_s, end_s)
        if any(v is not None for v in columns):
            found[name] = columns
    return found


def vehicle_axes(imu: Table, mount: tuple[Axis, Axis] | None) -> dict[str, Samples]:
    """Turn box axes into the vehicle's (x forward, y left, z up, ISO 8855), as `lon`, `lat`, `up`; rest is nil."""
    raw = [_bounded(imu.column(f"{axis}_mps2")) for axis in "xyz"]
    turned = _basis(mount) if mount is not None else None
    if turned is None:
        return dict(zip(("lon", "lat", "up"), raw, strict=True))
    return {
        name: [
            None if None in v else sum(a * b for a, b in zip(axis, v, strict=True)) - rest
            for v in zip(*raw, strict=True)
        ]
        for (name, rest), axis in zip((("lon", 0.0), ("lat", 0.0), ("up", G_MPS2)), turned, strict=True)
    }


def _basis(mount: tuple[Axis, Axis]) -> tuple[Axis, Axis, Axis] | None:
    """Return forward, left and up as unit vectors at right angles; None where the two say no such thing."""
    up, forward = mount
    size = hypot(*up)
    if not 0.5 < size < 2.0:
        return None
    up = (up[0] / size, up[1] / size, up[2] / size)
    along = sum(a * b for a, b in zip(up, forward, strict=True))
    level = [f - along * u for f, u in zip(forward, up, strict=True)]
    size = hypot(*level)
    if not 0.3 < size < 2.0:
        return None
    x, y, z = (v / size for v in level)
    return (x, y, z), (up[1] * z - up[2] * y, up[2] * x - up[0] * z, up[0] * y - up[1] * x), up


def fixes(track: Table, t0_ns: int) -> list[Fix]:
    """Return the places of track.csv that are on Earth, as the map takes them."""
    columns = (track.column("latitude_deg"), track.column("longitude_deg"), track.column("speed_mps"))
    return [
        Fix(t0_ns + round(t * NS_PER_S), lat, lon, v if v is not None and 0 <= v <= 120 else None)
        for t, lat, lon, v in zip(track.t_s, *columns, strict=True)
        if lat is not None and lon is not None and abs(lat) <= 85 and abs(lon) <= 180
    ]


@dataclass(frozen=True, slots=True)
class Direction:
    """The arrow of the picture from above, in a box of 200 × 200 with the car's middle at its own."""

    degrees: float
    x1: float
    y1: float
    x2: float
    y2: float


def direction(crash: Crash) -> Direction | None:
    """Return where the force came from, 0 the front and clockwise; None where it is not known."""
    degrees = crash.direction_deg
    if degrees is None and crash.direction_clock is not None:
        degrees = 30.0 * (crash.direction_clock % 12)
    if degrees is None or not -720 <= degrees <= 720:
        return None
    # the arrow ends on an ellipse around the car, which is 44 wide and 96 long
    dx, dy = sin(radians(degrees)), -cos(radians(degrees))
    rim = 1 / hypot(dx / 30, dy / 56)
    return Direction(degrees % 360, 100 + 92 * dx, 100 + 92 * dy, 100 + rim * dx, 100 + rim * dy)


def _change(crash: Crash) -> tuple[Callable[[float], float | None], Callable[[float], float | None]]:
    """Return what gives the velocity change (km/h) at a time: nil before time zero, the last value after its end."""
    step_s = crash.curve_step_ms / 1000

    def of(curve: Sequence[int]) -> Callable[[float], float | None]:
        values = [0.036 * v if abs(v) <= 100 * _MOST_KMH else None for v in curve[:MOST_CURVE]]

        def at(t_s: float) -> float | None:
            if not values or step_s <= 0:
                return None
            if t_s <= 0:
                return 0.0
            i = t_s / step_s
            low = min(int(i), len(values) - 1)
            a, b = values[low], values[min(low + 1, len(values) - 1)]
            return None if a is None or b is None else a + (b - a) * min(1.0, i - low)

        return at

    return of(crash.curve_longitudinal_cmps), of(crash.curve_lateral_cmps)


def _between(t_s: Sequence[float], values: Sequence[float | None]) -> Callable[[float], float | None]:
    """Return what gives a value between two that are near enough."""
    known = [(t, v) for t, v in zip(t_s, values, strict=True) if v is not None]
    times = [t for t, _ in known]

    def at(t: float) -> float | None:
        i = bisect_right(times, t)
        if i and times[i - 1] == t:
            return known[i - 1][1]
        if not 0 < i < len(known) or times[i] - times[i - 1] > HOLD_S:
            return None
        (a, left), (b, right) = known[i - 1], known[i]
        return left + (right - left) * (t - a) / (b - a)

    return at


def _columns(t_s: Sequence[float], values: Samples, start_s: float, end_s: float) -> Samples:
    """Put samples into equal columns of time, of each the value of largest magnitude."""
    inside = [(t, v) for t, v in zip(t_s, values, strict=True) if v is not None and start_s <= t <= end_s]
    if not inside:
        return []
    n = min(COLUMNS, max(2, len(inside) // 2))
    columns: Samples = [None] * n
    for t, v in inside:
        i = min(n - 1, int(n * (t - start_s) / (end_s - start_s)))
        held = columns[i]
        if held is None or abs(v) > abs(held):
            columns[i] = v
    return _joined(columns)


def _joined(columns: Samples) -> Samples:
    """Fill up to JOINED columns between two known ones: a sensor's times jitter, and are then no gap."""
    known = [i for i, v in enumerate(columns) if v is not None]
    for a, b in pairwise(known):
        left, right = columns[a], columns[b]
        if 1 < b - a <= JOINED + 1 and left is not None and right is not None:
            for i in range(a + 1, b):
                columns[i] = left + (right - left) * (i - a) / (b - a)
    return columns


def _ticks(start_s: float, end_s: float, label: Callable[[float], str]) -> list[Tick]:
    whole = end_s - start_s
    step = next((s for s in _TICKS_S if s >= whole / 6), _TICKS_S[-1])
    return [
        Tick(100 * (n * step - start_s) / whole, label(n * step))
        for n in range(ceil((start_s + 0.02 * whole) / step), floor((end_s - 0.02 * whole) / step) + 1)
    ]


def _kmh(mps: float | None) -> float | None:
    return None if mps is None or not -1 <= mps <= _MOST_KMH / 3.6 else max(0.0, 3.6 * mps)


def _bounded(values: Samples) -> Samples:
    return [v if v is not None and abs(v) <= _MOST_MPS2 else None for v in values]
