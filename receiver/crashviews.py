"""What the template of a crash is given: rows and files turned into words, drawings and tables."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot
from typing import Any, Final
from urllib.parse import quote

from agent.clock import NS_PER_S
from agent.records import Crash
from receiver import crashcharts, crashwords, draw
from receiver.access import Row as Look
from receiver.charts import Chart
from receiver.checks import Check
from receiver.contents import Camera, Contents, Table
from receiver.crashcharts import Direction, Moments
from receiver.crashes import CrashPage, PackageFile
from receiver.crashwords import PackageWords
from receiver.draw import Map
from receiver.drive import Fix, Route, Samples, Series, moved
from receiver.explain import Finding
from receiver.views import Figure, bands, bar_name, when_of
from receiver.words import Words

# before.csv: shown first, one row a second, as far as the car gives them; of those in brackets the first that is there
FEW: Final = (
    ("speed_mps", "speed_indicated_mps", "speed_obd_mps", "speed_gnss_mps"),
    ("brake_on", "brake_pct"),
    ("accelerator_pct", "throttle_pct"),
    ("steering_deg",),
    ("engine_rpm",),
)
EVERY: Final = 10  # rows: one a second
SWITCHES: Final = ("brake_on", "abs_active", "esc_active", "belt_driver", "belt_passenger", "ignition_on")
# end of a column's name -> key of its unit (or the unit itself), factor, digits
UNITS: Final = {
    "mps": ("unit.kmh", 3.6, 0),
    "mps2": ("unit.mps2", 1.0, 1),
    "pct": ("%", 1.0, 0),
    "rpm": ("crash_unit.rpm", 1.0, 0),
    "deg": ("°", 1.0, 0),
    "degps": ("crash_unit.degps", 1.0, 1),
    "v": ("crash_unit.v", 1.0, 1),
}
CLAIM_STATES: Final = {  # of receiver.claiming.states
    "reported": "crash.claim_reported",
    "evidence": "crash.claim_evidence",
    "assessed": "crash.claim_assessed",
    "settled": "crash.claim_settled",
    "disputed": "crash.claim_disputed",
}
MOST_LOOKS: Final = 10
NEAR: Final = 45.0  # units of the map: signs would cover each other


@dataclass(frozen=True, slots=True)
class Film:
    """One camera's video with the addresses of what belongs to it."""

    camera: Camera
    src: str
    poster: str
    subtitles: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of what the car said."""

    name: str
    unit: str


@dataclass(frozen=True, slots=True)
class Before:
    """The table of the seconds before, as text: the few columns once a second, and everything."""

    few: list[Column]
    few_rows: list[list[str]]
    all: list[Column]
    all_rows: list[list[str]]


@dataclass(frozen=True, slots=True)
class FileLine:
    """One file in the list."""

    file: PackageFile
    what: str
    size: str
    address: str
    percent: int


@dataclass(frozen=True, slots=True)
class CrashView:
    """One crash in words and drawings."""

    base: str  # address of the page
    kind: str
    when: str
    utc_ns: int | None
    certain: bool
    lead: list[str]
    claim: str
    figures: list[Figure]
    sure: list[Finding]
    package: PackageWords
    films: list[Film]
    no_film: list[str]
    chart: Chart | None
    readout: dict[str, Any]
    resultant: bool
    blow: Chart | None
    blow_names: list[str]
    whole: Chart | None
    own_axes: bool
    direction: Direction | None
    side: str
    map: Map | None
    map_state: str  # shown, coming, none
    bar_name: str
    bands: list[str]
    mark: draw.Spot | None
    start_before: bool  # the word stands left of its sign
    end_before: bool
    place: str
    before: Before | None
    check: Check | None
    checked: str
    missing: list[tuple[str, str]]
    files: list[FileLine]
    whole_here: bool
    size: str
    looks: list[tuple[int, str]]


def crash(words: Words, page: CrashPage, contents: Contents, looks: Sequence[Look], kept: bool) -> CrashView:
    """Put one crash into words and drawings; `kept` says that this receiver keeps files."""
    row, record, text = page.row, page.record, words.text
    base = address(row.device, row.incident)
    said = crashcharts.moments(contents, record)
    fixes = moved(crashcharts.fixes(contents.track, row.t_ns), words.shown)
    spot = _place(record)
    shown = words.shown(*spot) if spot else None
    drawn = _map(fixes, shown)
    films = [_film(base, camera) for camera in contents.cameras]
    main = contents.cameras[0] if contents.cameras else None
    check = row.package.check if row.package.state in ("proved", "failed") else None
    mark = drawn.frame.spot(shown) if drawn and shown else None
    blow = crashcharts.blow_chart(contents, record, _ms)
    names = [text("crash.blow_change")] if record.curve_longitudinal_cmps else []
    return CrashView(
        base=base,
        kind=text.among("crash_kind", row.kind),
        when=when_of(words, row.utc_ns, row.received_utc_ns),
        utc_ns=row.utc_ns,
        certain=words.certain(row.clock),
        lead=crashwords.lead(words, record),
        claim=_claim(words, page),
        figures=crashwords.figures(words, record),
        sure=crashwords.sure(words, row, record, contents),
        package=crashwords.package(words, row.package, kept),
        films=films,
        no_film=[] if films else _no_film(words, check),
        chart=crashcharts.moments_chart(said, None if main is None else (main.start_s, main.end_s), _seconds),
        readout=_readout(words, said, Route(fixes, Series()), drawn, row.t_ns),
        resultant=said.resultant,
        blow=blow,
        blow_names=[*names, text("crash.blow_force")],
        whole=crashcharts.whole_chart(contents, _seconds),
        own_axes=contents.mount is None and bool(contents.imu.t_s),
        direction=crashcharts.direction(record),
        side="" if record.direction_clock is None else crashwords.side_of(words, record.direction_clock),
        map=drawn,
        map_state="shown" if drawn else "coming" if row.package.state in ("none", "arriving") else "none",
        bar_name=bar_name(words, drawn),
        bands=bands(),
        mark=mark,
        start_before=_left_of(drawn.start if drawn else None, mark),
        end_before=_left_of(drawn.end if drawn else None, mark),
        place=words.coordinates(*spot) if spot else text("crash.map_none"),
        before=_before(words, contents.before),
        check=check,
        checked="" if check is None else _checked(words, check),
        missing=[(_missing(words, what), why) for what, why in check.missing] if check else [],
        files=[_file(words, base, f) for f in page.files],
        whole_here=bool(page.files) and all(f.held for f in page.files),
        size=crashwords.size_of(words, row.package.size),
        looks=[(look.utc_ns, _look(words, look)) for look in looks],
    )


def address(device: str, incident: str) -> str:
    """Return the address of a crash's page."""
    return f"/vehicles/{quote(device, safe='')}/crashes/{quote(incident, safe='')}"


def progress(words: Words, package: PackageWords, version: str) -> dict[str, Any]:
    """Return what the page's script asks for again and again."""
    sentence = (" " if words.text.language == "en" else "").join(package.sentences)  # as crash.html has it
    return {
        "version": version,
        "state": package.looks,
        "label": package.label,
        "sentence": sentence,
        "percent": package.percent,
    }


def _claim(words: Words, page: CrashPage) -> str:
    claim, text = page.row.claim, words.text
    if claim is None:
        return ""
    after_ns = None if page.row.utc_ns is None else claim.opened_utc_ns - page.row.utc_ns
    said = text("crash.claim_bare", id=claim.id)
    if after_ns is not None and after_ns >= 0 and words.certain(page.row.clock):
        said = text("crash.claim", id=claim.id, after=words.duration(after_ns / NS_PER_S))
    return f"{said}{text('event.separator')}{text(CLAIM_STATES[claim.state])}"


def _film(base: str, camera: Camera) -> Film:
    def at(name: str) -> str:
        return f"{base}/files/{quote(name, safe='')}" if name else ""

    return Film(camera, at(camera.file), at(camera.poster), at(camera.subtitles))


def _no_film(words: Words, check: Check | None) -> list[str]:
    if check is None:
        return [words.text("crash_film.none")]
    why = next((why for what, why in check.missing if what.startswith("video")), "")
    said = [words.text("crash_film.without")]
    return [*said, words.text("crash_film.why", why=why)] if why else said


def _place(record: Crash) -> tuple[float, float] | None:
    lat, lon = record.latitude, record.longitude
    return (lat, lon) if lat is not None and lon is not None and abs(lat) <= 85 and abs(lon) <= 180 else None


def _left_of(end: draw.Spot | None, mark: draw.Spot | None) -> bool:
    """Say whether an end of the track lies left of the collision, whose word then stands on the other side."""
    return end is not None and mark is not None and end[0] < mark[0]


def _map(fixes: list[Fix], spot: tuple[float, float] | None) -> Map | None:
    drawn = draw.trip_map(fixes, Series(), Route(fixes, Series()), [spot] if spot else [])
    if drawn is not None and spot is not None and drawn.end is not None:
        x, y = drawn.frame.spot(spot)
        if hypot(drawn.end[0] - x, drawn.end[1] - y) < NEAR:  # the car stands where it was hit
            return replace(drawn, end=None)
    return drawn


def _readout(words: Words, said: Moments, route: Route, drawn: Map | None, t0_ns: int) -> dict[str, Any]:
    """Return what the curves read at each tenth of a second, and where on the map that was."""
    places = [route.at(t0_ns + round(t * NS_PER_S)) for t in said.t_s]
    text = words.text
    return {
        "t": said.t_s,
        "speed": _rounded(said.speed_kmh),
        "lon": _rounded(said.longitudinal_kmh),
        "lat": [] if said.resultant else _rounded(said.lateral_kmh),
        "spot": [None if p is None or drawn is None else [round(v, 1) for v in drawn.frame.spot(p)] for p in places],
        "unit": text("unit.kmh"),
        "names": [text("live.speed"), text("crash.change")],
        "seconds": text("unit.seconds", n="{n}"),
    }


def _rounded(values: Samples) -> Samples:
    return [None if v is None else round(v, 1) for v in values]


def _before(words: Words, table: Table) -> Before | None:
    """Write the table of the seconds before; None where there is none."""
    given = [name for name, values in table.columns.items() if any(v is not None for v in values)]
    if not given:
        return None
    few = [name for names in FEW if (name := next((n for n in names if n in given), ""))]
    rows = range(len(table.t_s))
    last = len(table.t_s) - 1
    return Before(
        few=[_column(words, name) for name in few],
        few_rows=[_cells(words, table, i, few) for i in rows if (last - i) % EVERY == 0],
        all=[_column(words, name) for name in given],
        all_rows=[_cells(words, table, i, given) for i in rows],
    )


def _column(words: Words, name: str) -> Column:
    key = UNITS.get(name.rpartition("_")[2], ("", 1.0, 0))[0] if name not in SWITCHES else ""
    return Column(words.text.among("crash_column", name), words.text(key) if "." in key else key)


def _cells(words: Words, table: Table, i: int, names: list[str]) -> list[str]:
    said = [words.number(table.t_s[i], 1)]
    for name in names:
        value = table.columns[name][i]
        _, factor, digits = UNITS.get(name.rpartition("_")[2], ("", 1.0, 0))
        if value is None:
            said.append("–")
        elif name in SWITCHES:
            said.append(words.text("crash.yes") if value >= 0.5 else words.text("crash.no"))
        else:
            said.append(words.number(round(value * factor, digits) + 0.0, digits))  # no minus zero
    return said


def _checked(words: Words, check: Check) -> str:
    return words.text("crash.proof_checked", time=words.ago(check.checked_utc_ns), edition=check.edition or "–")


def _missing(words: Words, what: str) -> str:
    head, _, of = what.partition(" of camera ")
    named = words.text.among("crash_missing", head.replace(" ", "_"))
    known = named if named != head.replace(" ", "_") else head
    return f"{known} ({of})" if of else known


def _file(words: Words, base: str, file: PackageFile) -> FileLine:
    plain = file.name.replace(".", "_")
    keys = words.text.names()
    kind = file.name.partition("-")[0]
    key = f"crash_file.{plain}" if f"crash_file.{plain}" in keys else f"crash_file.{kind}"
    what = words.text(key) if key in keys else words.text("crash_file.other")
    percent = 100 if not file.size else int(100 * min(1.0, file.received / file.size))
    return FileLine(
        file, what, crashwords.size_of(words, file.size), f"{base}/files/{quote(file.name, safe='')}", percent
    )


def _look(words: Words, look: Look) -> str:
    text = words.text
    what = text.among("crash_look", look.what).replace("{name}", look.name)
    return text("crash.looks_line", who=look.who, address=look.address, what=what)


def _seconds(t_s: float) -> str:
    return f"{t_s:+.0f} s".replace("-", "−") if t_s else "0"


def _ms(t_s: float) -> str:
    return f"{1000 * t_s:.0f} ms".replace("-", "−")
