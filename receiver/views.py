"""What the templates are given: rows of the database turned into words and drawings."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Annotated, Any, Final

from fastapi import Path, Query

from agent.clock import NS_PER_S
from agent.records import DRIVING_KINDS, SEVERITIES, Trip
from receiver import charts, draw
from receiver.charts import Bar, Chart
from receiver.draw import Map
from receiver.drive import Route, Series, moved, unpack_curve, unpack_track
from receiver.explain import Finding, Told, findings, tell
from receiver.fleet import Live
from receiver.queries import BootClock, EventRow, TripPage, TripRow
from receiver.words import Words

FRESH_NS: Final = 120 * NS_PER_S  # a position older than this does not say where the car is now
MOVING_MPS: Final = 1.0
THUMBNAIL: Final = (72.0, 44.0)
SHORT_TRIP_NS: Final = 600 * NS_PER_S  # its time axis needs seconds
SPEED_BAND_KMH: Final = 10  # of Trip.speed_histogram_s
MOST_BANDS: Final = 40

PageNumber = Annotated[int, Query(alias="page", ge=1, le=10**6)]
Id = Annotated[int, Path(ge=1, le=2**62)]


@dataclass(frozen=True, slots=True)
class LiveView:
    """The live state in words; `state` names its look."""

    state: str
    label: str
    seen: str
    speed: str
    unit: str
    position: str
    position_age: str
    version: str


def live(words: Words, now: Live | None, newest: tuple[int, ...]) -> LiveView:
    """Put the live state into words; a speed is only shown while it is fresh."""
    text, version = words.text, ".".join(map(str, newest))
    if now is None:
        return LiveView("never", text("vehicles.never"), text("live.never"), "–", "", "–", "", version)
    age_ns = None if now.position_utc_ns is None else words.now_ns - now.position_utc_ns
    fresh = now.online and age_ns is not None and -FRESH_NS <= age_ns <= FRESH_NS
    state, key = "offline", "live.offline"
    if now.online:
        state, key = ("online", "live.unknown") if not fresh or now.speed_mps is None else ("online", "live.standing")
        if fresh and now.speed_mps is not None and now.speed_mps >= MOVING_MPS:
            state, key = "moving", "live.moving"
    placed = now.latitude is not None and now.longitude is not None
    at = "" if not placed else text("live.position_age_unknown")
    if placed and now.position_utc_ns is not None:
        at = text("live.position_at", time=words.ago(now.position_utc_ns))
    speed = words.kmh(now.speed_mps) if fresh and now.speed_mps is not None else "–"
    return LiveView(
        state=state,
        label=text(key),
        seen=text("vehicles.seen", time=words.ago(now.seen_utc_ns)),
        speed=speed,
        unit=text("unit.kmh") if speed != "–" else text("live.no_speed"),
        position=words.coordinates(now.latitude or 0.0, now.longitude or 0.0) if placed else text("live.no_position"),
        position_age=at,
        version=version,
    )


def live_json(view: LiveView) -> dict[str, str]:
    """Return the live state as the page's script takes it."""
    return asdict(view)


@dataclass(frozen=True, slots=True)
class Mark:
    """A small sign for events of one kind and severity."""

    looks: str
    n: int
    label: str


@dataclass(frozen=True, slots=True)
class TripLine:
    """One trip in a list."""

    row: TripRow
    when: str
    start_utc_ns: int | None
    start: str
    end: str
    certain: bool
    distance: str
    duration: str
    top: str
    marks: list[Mark]
    sketch: str


@dataclass(frozen=True, slots=True)
class Day:
    """The trips of one day; `label` is the date."""

    label: str
    trips: list[TripLine]


def days(words: Words, rows: Sequence[TripRow]) -> list[Day]:
    """Group a list of trips by local day, in its order."""
    grouped: list[Day] = []
    for row in rows:
        utc_ns = row.clock.utc_ns(row.start_ns)
        label = words.text("time.unknown_day") if utc_ns is None else words.date(utc_ns)
        if not grouped or grouped[-1].label != label:
            grouped.append(Day(label, []))
        grouped[-1].trips.append(line(words, row))
    return grouped


def line(words: Words, row: TripRow) -> TripLine:
    """Put one trip of a list into words."""
    start, end = row.clock.utc_ns(row.start_ns), row.clock.utc_ns(row.end_ns)
    known = start is not None and end is not None
    return TripLine(
        row=row,
        when=when(words, row),
        start_utc_ns=start,
        start=words.clock(start) if known and start is not None else "–",
        end=words.clock(end) if known and end is not None else "–",
        certain=words.certain(row.clock),
        distance=words.km(row.distance_m),
        duration=words.duration((row.end_ns - row.start_ns) / NS_PER_S),
        top=words.kmh(row.max_speed_mps),
        marks=_marks(words, row),
        sketch=draw.sketch(row.places, *THUMBNAIL),
    )


def when(words: Words, row: TripRow) -> str:
    """Name a trip by its start."""
    return when_of(words, row.clock.utc_ns(row.start_ns), row.received_utc_ns)


def when_of(words: Words, utc_ns: int | None, received_utc_ns: int) -> str:
    """Write a time, or when its record arrived where it is not known."""
    if utc_ns is not None:
        return words.stamp(utc_ns)
    received = words.text("time.received", stamp=words.stamp(received_utc_ns))
    return f"{words.text('time.unknown')} ({received})"


def _marks(words: Words, row: TripRow) -> list[Mark]:
    """Return one sign for each severity, the hardest first; its label names the kinds."""
    text, marks = words.text, []
    for confirmed in (True, False):
        for severity in reversed(SEVERITIES):
            kinds = {
                kind: n for (kind, of, sure), n in sorted(row.marks.items()) if of == severity and sure == confirmed
            }
            if not kinds:
                continue
            listed = text("event.separator").join(f"{n} × {text.among('kind', kind)}" for kind, n in kinds.items())
            label = f"{text.among('severity', severity)}: {listed}"
            looks = f"{severity} {'confirmed' if confirmed else 'unconfirmed'}"
            label = label if confirmed else f"{text('trips.unconfirmed')}, {label}"
            marks.append(Mark(looks, sum(kinds.values()), label))
    return marks


def told(words: Words, rows: Sequence[EventRow], origin_ns: int | None) -> list[Told]:
    """Put events into words, numbered from 1."""
    return [tell(words, row, n, origin_ns) for n, row in enumerate(rows, 1)]


@dataclass(frozen=True, slots=True)
class Pin:
    """An event on the map."""

    event: Told
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure with its name."""

    name: str
    value: str
    unit: str


@dataclass(frozen=True, slots=True)
class Source:
    """The distance by one source and how far it is from the one that is shown."""

    name: str
    distance: str
    difference: str


@dataclass(frozen=True, slots=True)
class TripView:
    """One trip in words and drawings."""

    when: str
    start_utc_ns: int | None
    end_utc_ns: int | None
    certain: bool
    times: str
    figures: list[Figure]
    map: Map | None
    map_state: str  # shown, none, coming
    bar_name: str
    bands: list[str]
    pins: list[Pin]
    start_before: bool  # the word stands left of its mark
    end_before: bool
    chart: Chart | None
    readout: dict[str, Any]
    events: list[Told]
    facts: list[Figure]
    sources: list[Source]
    histogram: list[Bar]
    hours: list[Bar]
    findings: list[Finding]
    proof_state: str
    proof: str


def trip(words: Words, page: TripPage) -> TripView:
    """Put one trip into words and drawings."""
    row, record, clock = page.row, page.record, page.row.clock
    fixes, series = moved(unpack_track(page.track), words.shown), unpack_curve(page.curve)
    route = Route(fixes, series)
    events = told(words, page.events, row.start_ns)
    ends = [(record.start_latitude, record.start_longitude), (record.end_latitude, record.end_longitude)]
    ended = [words.shown(a, o) for a, o in ends if a is not None and o is not None]
    others = [e.place for e in events if e.place] + ended
    usable = [place for place in others if abs(place[0]) <= 85 and abs(place[1]) <= 180]
    drawn = draw.trip_map(fixes, series, route, usable)
    coming = record.track_points > 0 and not fixes
    long = row.end_ns - row.start_ns >= SHORT_TRIP_NS
    spans = [charts.span(e.t_ns, e.duration_ns, series.start_ns, _end(series), str(e.mark), e.looks) for e in events]
    start, end = clock.utc_ns(row.start_ns), clock.utc_ns(row.end_ns)
    pins = [Pin(e, *drawn.frame.spot(e.place)) for e in events if drawn and e.place and e.place in usable]
    return TripView(
        when=when(words, row),
        start_utc_ns=start,
        end_utc_ns=end,
        certain=words.certain(clock),
        times=f"{words.clock(start)}–{words.clock(end)}" if start is not None and end is not None else "",
        figures=_figures(words, page),
        map=drawn,
        map_state="coming" if coming else "shown" if drawn else "none",
        bar_name=bar_name(words, drawn),
        bands=bands(),
        pins=pins,
        start_before=_word_before(drawn.start if drawn else None, pins),
        end_before=_word_before(drawn.end if drawn else None, pins),
        chart=charts.trip_chart(
            series, spans, _round_ns(words, clock, row.start_ns), axis(words, clock, row.start_ns, not long)
        ),
        readout=_readout(words, series, route, drawn, axis(words, clock, row.start_ns, True)),
        events=events,
        facts=_facts(words, record),
        sources=_sources(words, record),
        histogram=_histogram(words, record),
        hours=_hours(words, record, start),
        findings=findings(words, record.quality, clock, (row.end_ns - row.start_ns) / NS_PER_S),
        proof_state="poor" if page.proof.broken else "fair" if page.proof.unlinked else "good",
        proof=_proof(words, page),
    )


def axis(words: Words, clock: BootClock, start_ns: int, seconds: bool) -> Callable[[int], str]:
    """Return what writes a monotonic time: time of day where it is known, else time since the start."""

    def write(t_ns: int) -> str:
        utc_ns = clock.utc_ns(t_ns)
        if utc_ns is None:
            return f"+{words.elapsed(t_ns - start_ns)}"
        return words.seconds(utc_ns) if seconds else words.clock(utc_ns)

    return write


def _round_ns(words: Words, clock: BootClock, start_ns: int) -> int:
    """Return a time from which an axis counts its ticks: local midnight where it is known, else the trip's start."""
    utc_ns = clock.utc_ns(start_ns)
    return start_ns if utc_ns is None else start_ns - (utc_ns - words.midnight_ns(utc_ns))


def _word_before(spot: draw.Spot | None, pins: Sequence[Pin]) -> bool:
    """Say whether the word at an end of the track stands left of it: at the right border, or where a pin covers it."""
    if spot is None:
        return False
    covered = any(0 < pin.x - spot[0] < 75 and abs(pin.y - spot[1]) < 30 for pin in pins)
    return spot[0] > 0.8 * draw.WIDTH or (covered and spot[0] > 0.12 * draw.WIDTH)


def bar_name(words: Words, drawn: Map | None) -> str:
    """Write the length of the map's scale bar."""
    if drawn is None:
        return ""
    km = drawn.bar_m >= 1000
    return f"{drawn.bar_m / 1000:g} {words.text('unit.km')}" if km else f"{drawn.bar_m:g} {words.text('unit.m')}"


def bands() -> list[str]:
    """Name the speed bands of the map in km/h."""
    edges = draw.SPEED_BANDS_KMH
    inner = [f"{a}–{b}" for a, b in pairwise(edges)]
    return [f"<{edges[0]}", *inner, f">{edges[-1]}"]


def _end(series: Series) -> int:
    return series.start_ns + len(series) * series.step_ns


def _readout(
    words: Words, series: Series, route: Route, drawn: Map | None, label: Callable[[int], str]
) -> dict[str, Any]:
    read = charts.readout(series, route, label)
    spots = [None if p is None or drawn is None else [round(v, 1) for v in drawn.frame.spot(p)] for p in read.places]
    text = words.text
    return {
        "time": read.times,
        "speed": read.speed,
        "lon": read.longitudinal,
        "lat": read.lateral,
        "spot": spots,
        "units": [text("unit.kmh"), text("unit.mps2")],
    }


def _figures(words: Words, page: TripPage) -> list[Figure]:
    text, record = words.text, page.record
    confirmed = sum(1 for e in page.events if e.record.confirmed and e.record.kind in DRIVING_KINDS)
    return [
        Figure(text("trip.distance"), words.km(record.distance_m), text("unit.km")),
        Figure(text("trip.duration"), words.duration((record.end_ns - record.start_ns) / NS_PER_S), ""),
        Figure(text("trip.top"), words.kmh(record.max_speed_mps), text("unit.kmh")),
        Figure(text("trip.events"), f"{confirmed}", text("trip.of_events", n=page.events_total)),
    ]


def _facts(words: Words, record: Trip) -> list[Figure]:
    text = words.text
    average = record.distance_m / record.moving_s if record.moving_s > 0 else 0.0
    return [
        Figure(text("trip.moving"), words.duration(record.moving_s), ""),
        Figure(text("trip.idle"), words.duration(record.idle_s), ""),
        Figure(text("trip.stops"), f"{record.stops:,}", ""),
        Figure(text("trip.average"), words.kmh(average), text("unit.kmh")),
        Figure(text("trip.night"), words.duration(record.night_s), ""),
        Figure(text("trip.smoothness"), text("trip.smoothness_value", n=words.number(record.smoothness_mps2, 2)), ""),
    ]


def _sources(words: Words, record: Trip) -> list[Source]:
    listed = []
    for name, metres in sorted(record.distance_by_source_m.items(), key=lambda item: (-item[1], item[0]))[:12]:
        difference = "–"
        if record.distance_m > 0:
            difference = f"{words.number(100 * (metres / record.distance_m - 1), 1)}\N{NO-BREAK SPACE}%"
            difference = difference if difference.startswith("−") or metres == record.distance_m else f"+{difference}"
        listed.append(Source(words.text.among("source", name), words.distance(metres), difference))
    return listed


def _histogram(words: Words, record: Trip) -> list[Bar]:
    seconds = record.speed_histogram_s[:MOST_BANDS]
    while seconds and seconds[-1] <= 0:
        seconds.pop()
    return charts.bars(seconds, words.duration, [f"{SPEED_BAND_KMH * i}" for i in range(len(seconds))])


def _hours(words: Words, record: Trip, start_utc_ns: int | None) -> list[Bar]:
    if len(record.hour_of_day_s) != 24 or start_utc_ns is None:
        return []
    offset = words.local(start_utc_ns).utcoffset()
    shift = round(offset.total_seconds() / 3600) if offset else 0
    local = [record.hour_of_day_s[(hour - shift) % 24] for hour in range(24)]
    return charts.bars(local, words.duration, [f"{hour}" for hour in range(24)])


def _proof(words: Words, page: TripPage) -> str:
    proof, text = page.proof, words.text
    if proof.broken:
        return text("trip.proof_broken", n=proof.records, broken=proof.broken)
    if proof.unlinked:
        return text("trip.proof_unlinked", n=proof.records, good=proof.good, unlinked=proof.unlinked)
    return text("trip.proof_good", n=proof.records)
