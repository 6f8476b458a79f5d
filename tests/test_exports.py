"""Exports read back by the programs that read such files: XML, JSON, CSV and Parquet; nothing lost, nothing made up."""

import csv
import io
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.clock import iso_utc
from agent.errors import ConfigError, StoreError
from agent.records import Track
from receiver import access, db
from receiver.drive import Fix, unpack_track
from receiver.exports import geojson, source
from receiver.exports.files import WHAT, check, opened, parse_moment, write
from receiver.exports.source import Span
from tests.pages import NOW, SPEEDING, Desk, S, braking, clock_at, drive
from tests.syncing import ListSource, new_database, postgresql

ROOT = Path(__file__).resolve().parents[1]
ALL = Span(0, 2**62)
GPX = "{http://www.topografix.com/GPX/1/1}"
ORDER = {  # GPX 1.1's own sequences, of what may stand here
    "gpx": ["metadata", "wpt", "rte", "trk", "extensions"],
    "trk": ["name", "cmt", "desc", "src", "link", "number", "type", "extensions", "trkseg"],
    "trkseg": ["trkpt", "extensions"],
    "trkpt": ["ele", "time", "magvar", "name", "cmt", "desc", "type", "fix", "sat", "hdop", "extensions"],
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    url = f"sqlite:///{tmp_path / 'receiver.db'}"
    if request.param == "postgresql":
        cluster: str = request.getfixturevalue("cluster")
        url = new_database(cluster)
    desk = Desk(db.open_database(url))
    yield desk
    desk.engine.dispose()


def filled(desk: Desk) -> ListSource:
    """Send three trips: two of a boot that knows the time, one of a boot that does not; three events."""
    source = desk.enrol()
    events = [braking(300 * S), braking(500 * S, latitude=None, longitude=None, **SPEEDING)]
    desk.send(source, [clock_at(NOW - 86_400 * S), *drive(events=events)])
    desk.send(source, drive(start_ns=4000 * S, seconds=600))
    desk.send(source, drive(start_ns=50 * S, seconds=300, events=[braking(60 * S, rule="=cmd|'x'!A1")]), boot="dark")
    return source


def exported(desk: Desk, device: str, what: str, format: str, span: Span = ALL) -> bytes:
    out = io.BytesIO()
    write(out, desk.engine, device, span, what, format)
    return out.getvalue()


def utc_s(t_ns: int) -> int:
    return (t_ns - S + NOW - 86_400 * S) // S


def test_gpx_is_in_the_order_of_its_schema_and_has_every_point_once(desk: Desk) -> None:
    root = ElementTree.fromstring(exported(desk, filled(desk).device, "tracks", "gpx"))
    assert (root.tag, root.attrib["version"], root.attrib["creator"]) == (f"{GPX}gpx", "1.1", "roadwitness")
    for element in root.iter():
        name = element.tag.removeprefix(GPX)
        children = [c.tag.removeprefix(GPX) for c in element]
        if name in ORDER:
            assert set(children) <= set(ORDER[name])
            assert children == sorted(children, key=ORDER[name].index)
    tracks = root.findall(f"{GPX}trk")
    assert [len(t.findall(f".//{GPX}trkpt")) for t in tracks] == [31, 21, 11]
    assert ["not known" in (t.findtext(f"{GPX}cmt") or "") for t in tracks] == [False, False, True]
    [fixes] = [unpack_track([r]) for r in drive() if isinstance(r, Track)]
    for point, fix in zip(tracks[0].iter(f"{GPX}trkpt"), fixes, strict=True):
        assert (float(point.attrib["lat"]), float(point.attrib["lon"])) == (fix.latitude, fix.longitude)
        moment = datetime.fromisoformat(point.findtext(f"{GPX}time") or "")
        assert moment.timestamp() == utc_s(fix.t_ns)
        speed = point.findtext(f"{GPX}extensions/{{urn:roadwitness:gpx:1}}speed")
        assert fix.speed_mps == pytest.approx(float(speed or "nan"), abs=0.006)
    assert not list(tracks[2].iter(f"{GPX}time"))


def test_geojson_is_lines_of_longitude_and_latitude_with_times_beside_them(desk: Desk) -> None:
    told = json.loads(exported(desk, filled(desk).device, "tracks", "geojson"))
    assert told["type"] == "FeatureCollection"
    assert [f["geometry"]["type"] for f in told["features"]] == ["LineString"] * 3
    first, _, dark = told["features"]
    assert first["geometry"]["coordinates"][0] == [121.47, 31.23]
    assert len(first["geometry"]["coordinates"]) == len(first["properties"]["times"]) == 31
    assert first["properties"]["times"][0] == iso_utc(utc_s(100 * S) * S) == first["properties"]["start_utc"]
    assert first["properties"]["time_quality"] == "gnss"
    assert (dark["properties"]["start_utc"], dark["properties"]["time_quality"]) == (None, "none")
    assert set(dark["properties"]["times"]) == {None}


def test_events_are_points_where_the_place_is_known(desk: Desk) -> None:
    told = json.loads(exported(desk, filled(desk).device, "events", "geojson"))["features"]
    assert [f["properties"]["kind"] for f in told] == ["harsh_braking", "speeding", "harsh_braking"]
    assert told[0]["geometry"] == {"type": "Point", "coordinates": [121.481, 31.245]}
    assert told[1]["geometry"] is None
    assert [f["properties"]["time_utc"] is None for f in told] == [False, False, True]
    assert all(f["properties"]["trip"] for f in told)


def test_csv_has_a_row_for_each_and_no_formula_for_a_spreadsheet(desk: Desk) -> None:
    device = filled(desk).device
    points = list(csv.DictReader(io.StringIO(exported(desk, device, "tracks", "csv").decode())))
    assert [sum(p["trip"] == n for p in points) for n in sorted({p["trip"] for p in points})] == [31, 21, 11]
    assert points[1]["time_utc"] == iso_utc(utc_s(130 * S) * S)
    assert (points[1]["elapsed_s"], points[-1]["time_utc"], points[-1]["time_quality"]) == ("30.0", "", "none")
    trips = list(csv.DictReader(io.StringIO(exported(desk, device, "trips", "csv").decode())))
    assert [t["duration_s"] for t in trips] == ["900.0", "600.0", "300.0"]
    assert [t["confirmed_events"] for t in trips] == ["2", "0", "1"]
    events = list(csv.DictReader(io.StringIO(exported(desk, device, "events", "csv").decode())))
    assert [e["confirmed"] for e in events] == ["true"] * 3
    assert events[2]["rule"] == "'=cmd|'x'!A1"


def test_parquet_says_what_csv_says_with_types_and_nulls(desk: Desk) -> None:
    device = filled(desk).device
    for what in WHAT:
        table = pq.read_table(io.BytesIO(exported(desk, device, what, "parquet")))
        rows = list(csv.DictReader(io.StringIO(exported(desk, device, what, "csv").decode())))
        assert table.column_names == list(rows[0])
        assert table.num_rows == len(rows)
        for name in table.column_names:
            kind = str(table.schema.field(name).type)
            if kind == "timestamp[ns, tz=UTC]":
                values = ["" if v is None else iso_utc(v) for v in table[name].cast("int64").to_pylist()]
                assert values == [r[name] for r in rows]
            elif kind == "double":
                assert table[name].to_pylist() == [float(r[name]) if r[name] else None for r in rows]
            elif kind == "int64":
                assert table[name].to_pylist() == [int(r[name]) if r[name] else None for r in rows]


def test_a_range_takes_trips_by_their_start_and_its_end_is_excluded(desk: Desk) -> None:
    device = filled(desk).device
    first, second = utc_s(100 * S) * S, utc_s(4000 * S) * S

    def durations(span: Span) -> list[float]:
        return [(t.row.end_ns - t.row.t_ns) / S for t in source.trips(desk.engine, device, span)]

    assert durations(Span(first, second)) == [900.0]
    assert durations(Span(first + 1, second + 1)) == [600.0]
    assert durations(Span(NOW, NOW + 1)) == [300.0]  # by arrival: its own time is not known
    assert durations(Span(NOW + 1, 2**62)) == []
    assert list(source.trips(desk.engine, "rw-0000000000000000", ALL)) == []


@pytest.mark.parametrize(("what", "format"), [(w, f) for w, formats in WHAT.items() for f in formats])
def test_a_device_without_trips_gives_a_file_that_is_empty_and_whole(tmp_path: Path, what: str, format: str) -> None:
    desk = Desk(db.open_database(f"sqlite:///{tmp_path / 'receiver.db'}"))
    data = exported(desk, desk.enrol().device, what, format)
    desk.engine.dispose()
    if format == "gpx":
        assert len(ElementTree.fromstring(data)) == 0
    elif format == "geojson":
        assert json.loads(data)["features"] == []
    elif format == "csv":
        assert data.count(b"\r\n") == 1
    else:
        assert pq.read_table(io.BytesIO(data)).num_rows == 0


def test_altered_and_hostile_tracks_leave_the_others_alone(tmp_path: Path) -> None:
    desk = Desk(db.open_database(f"sqlite:///{tmp_path / 'receiver.db'}"))
    device = desk.enrol()
    wild = Track(
        trip_start_ns=9000 * S,
        start_ns=9000 * S,
        error_m=5.0,
        dt_ms=[0, 2**60, -5, 1],
        dlat_e7=[2**50, 0, 7, 1],
        dlon_e7=[0],
        speed_cmps=[-1, 2**40, 7],
    )
    far = replace(wild, dt_ms=[0, 2**60], dlat_e7=[7, 7], dlon_e7=[7, 7], speed_cmps=[0, 0], trip_start_ns=100 * S)
    desk.send(device, [clock_at(NOW), *drive(), drive(start_ns=9000 * S)[0], wild, far])
    with desk.engine.begin() as connection:
        connection.execute(
            db.entry.update().where(db.entry.c.seq == 1, db.entry.c.kind == "track").values(body=b"\xff")
        )
    told = json.loads(exported(desk, device.device, "tracks", "geojson"))["features"]
    assert ElementTree.fromstring(exported(desk, device.device, "tracks", "gpx")) is not None
    assert pq.read_table(io.BytesIO(exported(desk, device.device, "tracks", "parquet"))).num_rows == 2
    desk.engine.dispose()
    assert told[0]["properties"]["times"][1] is None  # 36 million years later
    assert told[1]["geometry"] is None


def fix(t_ns: int, latitude: float, longitude: float) -> Fix:
    return Fix(t_ns, latitude, longitude, None)


def test_a_line_over_the_180th_meridian_is_cut_there() -> None:
    fixes = [fix(0, 10.0, 179.0), fix(10, 12.0, -179.0), fix(20, 12.0, -178.0)]
    lines, times = geojson._lines(fixes, [0, 10, 20])
    assert lines == [[(179.0, 10.0), (180.0, 11.0)], [(-180.0, 11.0), (-179.0, 12.0), (-178.0, 12.0)]]
    assert times == [[0, 5], [5, 10, 20]]
    assert geojson._geometry(lines) == {"type": "MultiLineString", "coordinates": lines}
    assert geojson._geometry([[(1.0, 2.0)]]) == {"type": "Point", "coordinates": (1.0, 2.0)}


@hypothesis_settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(-85, 85), st.floats(-180, 180)), min_size=1, max_size=30))
def test_no_piece_of_any_line_crosses_the_meridian_and_no_point_is_lost(places: list[tuple[float, float]]) -> None:
    fixes = [fix(n, *place) for n, place in enumerate(places)]
    lines, times = geojson._lines(fixes, list(range(len(fixes))))
    assert [len(line) for line in lines] == [len(line) for line in times]
    for line in lines:
        assert all(abs(a[0] - b[0]) <= 180.0 for a, b in pairwise(line))
    flat = [p for line in lines for p in line]
    assert set(flat) >= {(f.longitude, f.latitude) for f in fixes}
    assert len(flat) == len(fixes) + 2 * (len(lines) - 1)


def test_memory_does_not_grow_with_the_number_of_trips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_PAGE", 50)
    desk = Desk(db.open_database(f"sqlite:///{tmp_path / 'receiver.db'}"))
    device = desk.enrol()
    one = drive(seconds=300)
    shift = 400 * S
    records: list[Any] = [clock_at(NOW - 86_400 * 30 * S)]
    for n in range(600):
        for r in one:
            times = ("t_ns", "start_ns", "end_ns", "trip_start_ns")
            records.append(replace(r, **{f: getattr(r, f) + n * shift for f in times if hasattr(r, f)}))
    desk.send(device, records)

    def peak(trips: int) -> int:
        span = Span(0, NOW - 86_400 * 30 * S + (trips * shift))
        exported(desk, device.device, "tracks", "csv", Span(0, 1))  # what is made once is made now
        tracemalloc.start()
        with opened(str(tmp_path / "out")) as out:
            write(out, desk.engine, device.device, span, "tracks", "gpx")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few, many = peak(150), peak(600)
    size = (tmp_path / "out").stat().st_size
    desk.engine.dispose()
    assert many < 1.5 * few
    assert size > 500_000


def test_a_file_takes_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    def broken() -> None:
        with opened(str(tmp_path / "half")) as out:
            out.write(b"1")
            raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left"):
        broken()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError, match="choose another --out"), opened(str(tmp_path / "absent" / "x")):
        pass


def test_a_range_may_begin_and_end_where_no_clock_goes(desk: Desk) -> None:
    device = filled(desk).device
    ever = Span(parse_moment("--from", "0001-01-01T00:00:00+14:00"), parse_moment("--to", "9999-12-31"))
    assert exported(desk, device, "trips", "csv", ever) == exported(desk, device, "trips", "csv") != b""
    assert parse_moment("--to", "2262-04-11") < ever.to_ns


def test_wrong_words_are_named() -> None:
    with pytest.raises(ConfigError, match="near names: tracks"):
        check("track", "gpx")
    with pytest.raises(ConfigError, match="csv, parquet"):
        check("trips", "gpx")
    with pytest.raises(ConfigError, match="--from 'soon'"):
        parse_moment("--from", "soon")
    moment = datetime(2026, 11, 1, 0, 0, tzinfo=UTC)
    assert (
        parse_moment("--to", "2026-11-01")
        == parse_moment("--to", "2026-11-01T08:00:00+08:00")
        == int(moment.timestamp()) * S
    )


def test_the_command_writes_a_file_or_a_pipe_and_logs_the_look(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'receiver.db'}"
    desk = Desk(db.open_database(url))
    device = filled(desk).device

    def run(*words: str) -> "subprocess.CompletedProcess[bytes]":
        command = [sys.executable, "-m", "agent", "receiver", "export", *words, "--db", url]
        return subprocess.run(command, capture_output=True, cwd=ROOT, timeout=60)

    piped = run(device, "--format", "geojson")
    assert piped.returncode == 0, piped.stderr
    assert len(json.loads(piped.stdout)["features"]) == 3
    filed = run(
        device, "--what", "trips", "--format", "parquet", "--from", "2026-11-01", "--out", str(tmp_path / "x.pq")
    )
    assert filed.returncode == 0, filed.stderr
    assert b"3 trips" in filed.stderr
    assert pq.read_table(tmp_path / "x.pq").num_rows == 3
    stranger = run("rw-0123456789abcdef", "--format", "csv")
    assert stranger.returncode != 0
    assert b"not enrolled here" in stranger.stderr
    assert b"Traceback" not in stranger.stderr
    looks = access.latest(desk.engine, device, "", 10)
    assert [(look.what, look.name) for look in looks] == [("export", "trips parquet"), ("export", "tracks geojson")]
    assert access.verify(desk.engine).broken is None
    desk.engine.dispose()
