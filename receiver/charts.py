"""Curves and bars as geometry for SVG: a trip over time, an event's window, histograms. The template writes them.

Curves are drawn in columns × 100 boxes that the page stretches; labels stand at shares of the plot, so that text is
never stretched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, floor, log10
from typing import Final

from agent.clock import NS_PER_S
from agent.records import Event
from receiver.drive import Route, Samples, Series, thin

COLUMNS: Final = 800  # more would not be seen
FLAG_PERCENT: Final = 7.0  # of the chart's width: 20 pixels of a phone's
FLAG_ROWS: Final = 3
_TICKS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


@dataclass(frozen=True, slots=True)
class Curve:
    """One line in a panel; `css` names its look."""

    css: str
    d: str


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal line at `at` percent of the panel."""

    at: float
    label: str
    css: str = "grid"
    nth: int = 0  # among the limits: their labels stand side by side


@dataclass(frozen=True, slots=True)
class Panel:
    """A drawing within a chart; `top` and `height` are percent of the chart."""

    top: float
    height: float
    columns: int
    curves: list[Curve]
    levels: list[Level]


@dataclass(frozen=True, slots=True)
class Tick:
    """A time under the chart, at `at` percent of its width."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in percent of the chart's width; `name` says whose it is."""

    at: float
    width: float
    name: str
    css: str
    row: int = 0  # of its flag, so that flags do not cover each other


@dataclass(frozen=True, slots=True)
class Chart:
    """Panels over one time axis; the spans' flags need `rows` rows."""

    panels: list[Panel]
    ticks: list[Tick]
    spans: list[Span]
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Readout:
    """What a pointer over the trip's chart reads, by column: lists as the page's script parses them."""

    times: list[str] = field(default_factory=list)
    speed: list[float | None] = field(default_factory=list)
    longitudinal: Samples = field(default_factory=list)
    lateral: Samples = field(default_factory=list)
    places: list[tuple[float, float] | None] = field(default_factory=list)


def trip_chart(series: Series, spans: list[Span], zero_ns: int, label: Callable[[int], str]) -> Chart | None:
    """Draw speed (km/h) over acceleration (m/s²); ticks are round from `zero_ns`; None without a single known value."""
    speed = thin([None if v is None else v * 3.6 for v in series.speed], COLUMNS)
    longitudinal, lateral = thin(series.longitudinal, COLUMNS), thin(series.lateral, COLUMNS)
    if not any(v is not None for column in (speed, longitudinal, lateral) for v in column):
        return None
    panels = [speed_panel(speed, 0, 54), force_panel({"lon": longitudinal, "lat": lateral}, 63, 37, ())]
    end_ns = series.start_ns + len(series) * series.step_ns
    placed = _in_rows(spans)
    return Chart(
        panels, ticks(series.start_ns, end_ns, zero_ns, label), placed, 1 + max((s.row for s in placed), default=-1)
    )


def readout(series: Series, route: Route, label: Callable[[int], str]) -> Readout:
    """Return what the columns of the trip's chart stand for."""
    columns = min(len(series), COLUMNS)
    if not columns:
        return Readout()
    times = [series.start_ns + (2 * i + 1) * len(series) * series.step_ns // (2 * columns) for i in range(columns)]
    return Readout(
        times=[label(t) for t in times],
        speed=[None if v is None else round(v * 3.6, 1) for v in thin(series.speed, COLUMNS)],
        longitudinal=thin(series.longitudinal, COLUMNS),
        lateral=thin(series.lateral, COLUMNS),
        places=[route.at(t) for t in times],
    )


def window_chart(event: Event, limits: list[tuple[float, str]], label: Callable[[int], str]) -> Chart | None:
    """Draw the state around an event; `limits` are labelled values of the force that the rule looks at."""
    window = event.window
    if window is None:
        return None
    given = (window.speed_mps, window.longitudinal_mps2, window.lateral_mps2)
    rows = min(max(map(len, given)), 6000)
    known = [[v if v is not None and abs(v) < 1000 else None for v in [*c, *[None] * (rows - len(c))]] for c in given]
    if not any(v is not None for column in known for v in column):
        return None
    speed = thin([None if v is None else v * 3.6 for v in known[0][:rows]], COLUMNS)
    name = "lat" if event.kind == "harsh_cornering" else "lon"
    force = thin(known[2 if name == "lat" else 1][:rows], COLUMNS)
    # rows are 100 ms apart (agent.records.Window)
    end_ns = window.start_ns + rows * NS_PER_S // 10
    spans = [span(event.t_ns, event.duration_ns, window.start_ns, end_ns, "", event.severity)]
    panels = [speed_panel(speed, 0, 44), force_panel({name: force}, 57, 43, limits)]
    return Chart(panels, ticks(window.start_ns, end_ns, event.t_ns, label), spans)


def span(t_ns: int, duration_ns: int, start_ns: int, end_ns: int, name: str, css: str) -> Span:
    """Place a stretch of time on an axis from `start_ns` to `end_ns`."""
    whole = max(1, end_ns - start_ns)
    left = min(100.0, max(0.0, 100 * (t_ns - start_ns) / whole))
    right = min(100.0, max(left, 100 * (t_ns + max(0, duration_ns) - start_ns) / whole))
    return Span(left, right - left, name, css)


def _in_rows(spans: list[Span]) -> list[Span]:
    """Give each span the first row in which its flag is FLAG_PERCENT from the last; the third takes the rest."""
    ends = [-100.0] * FLAG_ROWS
    placed = []
    for one in sorted(spans, key=lambda s: s.at + s.width / 2):
        middle = one.at + one.width / 2
        row = next((r for r, end in enumerate(ends) if middle - end >= FLAG_PERCENT), FLAG_ROWS - 1)
        ends[row] = middle
        placed.append(replace(one, row=row))
    return placed


def speed_panel(values: Samples, top: float, height: float) -> Panel:
    """Draw km/h from nil, with an area below the line; `top` and `height` are percent of the chart."""
    highest = max((v for v in values if v is not None), default=0.0)
    step = _nice(max(highest, 20.0) / 3)
    most = step * ceil(max(highest, 20.0) / step)
    levels = [Level(100 - 100 * step * n / most, f"{step * n:g}") for n in range(round(most / step) + 1)]
    lines = _runs(values, lambda v: 100 - 100 * v / most)
    area = "".join(f"M{run[0][0]} 100L{_points(run)}L{run[-1][0]} 100Z" for run in lines)
    return Panel(top, height, max(1, len(values)), [Curve("area", area), Curve("speed", _lines(lines))], levels)


def force_panel(columns: dict[str, Samples], top: float, height: float, limits: Sequence[tuple[float, str]]) -> Panel:
    """Draw what has two signs: around nil without `limits`, else as much of either side as values and limits need."""
    known = [v for values in columns.values() for v in values if v is not None]
    if limits:
        bounds = [*known, *(v for v, _ in limits), -1.0, 1.0]
        low, high = 1.1 * min(bounds), 1.1 * max(bounds)
        step = _nice((high - low) / 5)
    else:
        step = _nice(max([3.0, *map(abs, known)]) / 2)
        high = step * ceil(max([3.0, *map(abs, known)]) / step)
        low = -high

    def y(value: float) -> float:
        return 100 * (high - value) / (high - low)

    levels = [Level(y(step * n), signed(step * n)) for n in range(ceil(low / step), floor(high / step) + 1)]
    levels += [Level(y(v), name, "limit", nth) for nth, (v, name) in enumerate(limits)]
    curves = [Curve(name, _lines(_runs(values, y))) for name, values in columns.items()]
    return Panel(top, height, max(1, *map(len, columns.values())), curves, levels)


def signed(value: float) -> str:
    """Write a round number with its sign."""
    return f"{value:+g}".replace("-", "−") if value else "0"


def _nice(value: float) -> float:
    """Return the smallest 1, 2 or 5 × 10ⁿ that is at least `value`."""
    power = 10.0 ** floor(log10(value))
    return next(f * power for f in (1.0, 2.0, 5.0, 10.0) if f * power >= value * (1 - 1e-9))


def _runs(values: Samples, y: Callable[[float], float]) -> list[list[tuple[float, float]]]:
    """Cut at unknown values; a point stands in the middle of its column."""
    runs: list[list[tuple[float, float]]] = [[]]
    for i, value in enumerate(values):
        if value is None:
            if runs[-1]:
                runs.append([])
        else:
            runs[-1].append((i + 0.5, y(value)))
    return [run for run in runs if run]


def _points(run: list[tuple[float, float]]) -> str:
    return "L".join(f"{x:g} {round(v, 2):g}" for x, v in run)


def _lines(runs: list[list[tuple[float, float]]]) -> str:
    # a lone point has no length: a hair to the right makes it visible under round line ends
    return "".join(f"M{_points(run)}" if len(run) > 1 else f"M{_points(run)}h.01" for run in runs)


def ticks(start_ns: int, end_ns: int, zero_ns: int, label: Callable[[int], str]) -> list[Tick]:
    """Return up to seven times, round as counted from `zero_ns`; `label` is asked with ns on the axis."""
    seconds = (end_ns - start_ns) / NS_PER_S
    step = next((s for s in _TICKS_S if s >= seconds / 6), _TICKS_S[-1]) * NS_PER_S
    first = zero_ns - (zero_ns - start_ns) // step * step
    return [
        Tick(100 * (t - start_ns) / (end_ns - start_ns), label(t))
        for t in range(first, end_ns, step)
        if 0.02 * (end_ns - start_ns) <= t - start_ns <= 0.98 * (end_ns - start_ns)
    ]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a histogram: its height is percent of the highest."""

    label: str
    shown: str
    height: float


def bars(values: Sequence[float], write: Callable[[float], str], labels: Sequence[str]) -> list[Bar]:
    """Return one bar for each value, as `write` puts it; [] when all are nil."""
    highest = max(values, default=0.0)
    if not highest > 0.0:
        return []
    return [
        Bar(label, write(max(0.0, v)), max(0.0, 100 * (v / highest))) for label, v in zip(labels, values, strict=True)
    ]
