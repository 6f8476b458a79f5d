"""The page of a crash, its files and its package: in every state, for hostile input, no look without its row."""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import select, text, update

from agent.evidence import verify_package
from agent.evidence.manifest import Missing
from agent.incident.folder import write_files
from receiver import access, contents, crashes, db, delivery, texts
from receiver.claiming import reporting
from receiver.claiming.facts import limits
from receiver.claiming.reporting import Declared
from receiver.claiming.states import STATES
from receiver.contents import Contents, Table
from receiver.web import HEADERS
from tests.crash_cases import NOW, Box, Insurer, address, hit
from tests.packing import S, begin, clock
from tests.pages import client


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path / "box")
    yield made
    made.store.close()


@pytest.fixture
def insurer(tmp_path: Path) -> Iterator[Insurer]:
    made = Insurer(tmp_path / "insurer")
    yield made
    made.engine.dispose()


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Box, Insurer]]:
    """A crash with video whose package is proved."""
    folder = tmp_path_factory.mktemp("proved")
    box = Box(folder / "box")
    box.crashes()
    insurer = Insurer(folder / "insurer")
    insurer.take_all(box)
    yield box, insurer
    box.store.close()
    insurer.engine.dispose()


def get(insurer: Insurer, path: str, **headers: str) -> Any:
    return client(insurer.engine, files=insurer.files).get(path, headers=headers)


def body(insurer: Insurer, box: Box, lang: str = "en") -> str:
    answer = get(insurer, address(box) + f"?lang={lang}")
    assert answer.status_code == 200
    return str(answer.text)


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def report(insurer: Insurer, box: Box) -> None:
    """Let the receiver have the records, and no package."""
    begin(box.store, box.crash, clocks=(clock(5 * S),))
    insurer.enrol(box)
    insurer.take_records(box)


def looks(insurer: Insurer) -> list[tuple[str, str]]:
    with db.reading(insurer.engine) as connection:
        t = db.access_log
        return [(r.what, r.name) for r in connection.execute(select(t).order_by(t.c.seq))]


# states


def test_a_report_alone_is_a_page_that_says_what_will_follow(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.enrol(box)
    insurer.take_records(box, lanes=["event", "crash"], most=1)
    said = plain(body(insurer, box))
    assert "The car was hit from the front: its speed changed by 22 km/h within" in said
    assert "Package: Report only" in said
    assert "still being measured" in said
    assert "No file has been announced yet" in said
    assert "opened by the box itself 40 s after the collision" in said
    assert plain(body(insurer, box, "zh")).count("证据包: 只有报告") == 1


def test_what_has_arrived_is_shown_before_the_rest(insurer: Insurer, box: Box) -> None:
    box.crashes()
    insurer.enrol(box)
    insurer.take_records(box)
    insurer.take_file(box, box.package / "before.csv")
    insurer.take_file(box, box.package / "clip-front.mp4", share=0.5)
    said = plain(body(insurer, box))
    assert re.search(r"On its way: \d\d %", said)
    assert "All 201 rows and 7 columns" in said
    assert "No video has arrived yet" in said
    now = get(insurer, address(box, "/progress.json")).json()
    assert (now["state"], now["percent"]) == ("arriving", int(re.search(r"On its way: (\d+) %", said)[1]))  # type: ignore[index]
    assert get(insurer, address(box, "/files/clip-front.mp4")).status_code == 404
    assert get(insurer, address(box, "/files/before.csv")).status_code == 200
    assert get(insurer, address(box, "/package.zip")).status_code == 404
    insurer.take_files(box)
    between = get(insurer, address(box, "/progress.json")).json()
    assert (between["state"], between["percent"]) == ("checking", None)
    insurer.settle()
    after = get(insurer, address(box, "/progress.json")).json()
    assert after["state"] == "proved"
    assert len({now["version"], between["version"], after["version"]}) == 3


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_proved_package_is_shown_whole_with_what_it_does_not_prove(proved: tuple[Box, Insurer], lang: str) -> None:
    box, insurer = proved
    html = body(insurer, box, lang)
    said = plain(html)
    expected = {
        "en": ["9 files and 7 records are exactly as this box signed them", "This does not prove", "Who drove.",
               "12 o’clock", "A speed that fell as much."],
        "zh": ["9 个文件和7 条记录与本设备签名时完全一致", "不能证明", "驾驶人是谁。", "12 点钟方向", "车速相应骤降。"],
    }[lang]  # fmt: skip
    for words in expected:
        assert words in said
    for name in (p.name for p in box.package.iterdir()):
        assert f'href="{address(box, "/files/" + name)}"' in html
        assert hashlib.sha256((box.package / name).read_bytes()).hexdigest() in html
    assert re.search(r'<video [^>]*src="[^"]+/files/clip-front.mp4"[^>]*data-start="-[23]', html)
    assert '<track kind="captions"' in html
    assert html.count("<tr><th") == (1 + 21) + (1 + 201)


def test_a_failed_package_names_the_file_and_is_still_there(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.enrol(box)
    insurer.take_records(box)
    insurer.take_files(box)
    path = Path(insurer.files.path(box.store.device, box.crash.id, "track.csv"))
    path.write_bytes(path.read_bytes().replace(b"31.23", b"39.90", 1))
    insurer.settle()
    said = plain(body(insurer, box))
    assert "Package: Not proved" in said
    assert "track.csv was altered" in said
    assert plain(body(insurer, box, "zh")).count("未通过核验") >= 2
    assert zipfile.ZipFile(io.BytesIO(get(insurer, address(box, "/package.zip")).content)).testzip() is None


def test_without_a_camera_the_page_says_why(insurer: Insurer, box: Box) -> None:
    box.missing.append(Missing("video", "no dashcam has ever filmed here"))
    box.crashes(films="")
    insurer.take_all(box)
    html = body(insurer, box)
    assert "<video" not in html
    assert "The box says: no dashcam has ever filmed here." in plain(html)
    assert "Video: no dashcam has ever filmed here" in plain(html)
    assert "视频: " in plain(body(insurer, box, "zh"))


def test_single_pictures_are_shown_by_their_copy_and_the_evidence_is_named(insurer: Insurer, box: Box) -> None:
    box.crashes(films="mjpeg")
    insurer.take_all(box)
    html = body(insurer, box)
    assert 'src="' + address(box, "/files/view-front.mp4") in html
    assert "the evidence is the file clip-front.mp4" in html


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"kind": "suspected", "delta_v_mps": None, "rate_hz": None, "confirmed_by": []}, "Somebody should look."),
        ({"kind": "rollover", "roll_deg": -94.0}, "The car turned over, by 94°."),
        ({"clipped": True}, "at least 22 km/h"),
        ({"direction_clock": None, "direction_deg": None}, "From which side is not known."),
        ({"number": 2, "since_previous_ns": 3 * S}, "It came 3 s after another collision."),
        ({"delta_v_mps": None}, "how hard could not be measured"),
        ({"latitude": None, "longitude": None}, "No place is known"),
        ({"curve_lateral_cmps": []}, "without direction"),
        ({"curve_longitudinal_cmps": [], "curve_lateral_cmps": []}, "The blow"),
        ({"speed_after_mps": None}, "It was doing 50 km/h before."),
    ],
)
def test_every_kind_of_crash_is_told_in_words(
    insurer: Insurer, tmp_path: Path, changed: dict[str, Any], expected: str
) -> None:
    box = Box(tmp_path / "other", replace(hit(), **changed))
    report(insurer, box)
    assert expected in plain(body(insurer, box))
    assert get(insurer, address(box) + "?lang=zh").status_code == 200
    assert get(insurer, f"/vehicles/{box.store.device}").status_code == 200
    box.store.close()


def test_the_vehicles_page_lists_crashes_and_knows_when_they_change(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.enrol(box)
    page = f"/vehicles/{box.store.device}"
    assert "No crash has been reported" in get(insurer, page).text
    first = get(insurer, page + "/live.json").json()["version"]
    insurer.take_records(box)
    second = get(insurer, page + "/live.json").json()["version"]
    insurer.take_files(box)
    insurer.settle()
    third = get(insurer, page + "/live.json").json()["version"]
    assert len({first, second, third}) == 3
    html = get(insurer, page).text
    assert address(box) in html
    assert "22 km/h, the front" in plain(html)
    assert "Package: Proved" in plain(html)


def test_a_claim_without_a_crash_takes_no_place_in_the_list_of_crashes(insurer: Insurer, box: Box) -> None:
    report(insurer, box)
    told = Declared(box.store.device, NOW - 100 * 3600 * S, "owner-7")
    reporting.report(insurer.engine, told, NOW + S, limits())
    for device in (None, box.store.device):
        found, page = crashes.crashes(insurer.engine, device, size=1)
        assert ([row.incident for row in found], page.pages) == ([box.crash.id], 1)


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("state", STATES)
def test_the_page_says_where_the_claim_stands(insurer: Insurer, box: Box, state: str, lang: str) -> None:
    report(insurer, box)
    with insurer.engine.begin() as connection:
        connection.execute(update(db.claim).values(state=state))
    said = {one for one in STATES if texts.text(lang)(f"crash.claim_{one}") in body(insurer, box, lang)}
    assert said == {state}


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_script_is_told_the_sentences_that_the_page_has(insurer: Insurer, box: Box, lang: str) -> None:
    box.crashes()
    insurer.take_all(box)
    with insurer.engine.begin() as connection:
        connection.execute(update(db.package_state).values(complete=False))  # one sentence more
    told = get(insurer, address(box, "/progress.json") + f"?lang={lang}").json()["sentence"]
    assert texts.text(lang)("crash_package.more") in told
    assert f'data-part="sentence">{told}</p>' in body(insurer, box, lang)


def test_a_receiver_without_files_shows_the_report(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.take_all(box)
    bare = client(insurer.engine)
    assert "This receiver keeps no files" in bare.get(address(box)).text
    assert bare.get(address(box, "/files/crash.json")).status_code == 404
    assert bare.get(address(box, "/package.zip")).status_code == 404
    assert bare.post(address(box, "/check")).status_code == 404


# files


def test_a_file_is_given_by_ranges_as_players_ask(proved: tuple[Box, Insurer]) -> None:
    box, insurer = proved
    data = (box.package / "clip-front.mp4").read_bytes()
    n, path = len(data), address(box, "/files/clip-front.mp4")
    tag = f'"{hashlib.sha256(data).hexdigest()}"'
    cases = {
        "bytes=0-": (206, data, f"bytes 0-{n - 1}/{n}"),
        "bytes=100-199": (206, data[100:200], f"bytes 100-199/{n}"),
        "bytes=-500": (206, data[-500:], f"bytes {n - 500}-{n - 1}/{n}"),
        f"bytes={n - 1}-{n + 50}": (206, data[-1:], f"bytes {n - 1}-{n - 1}/{n}"),
        f"bytes=-{n + 5}": (206, data, f"bytes 0-{n - 1}/{n}"),
        f"bytes={n}-": (416, b"", f"bytes */{n}"),
        "bytes=-0": (416, b"", f"bytes */{n}"),
        "bytes=5-2": (200, data, None),
        "bytes=-": (200, data, None),
        "bytes=0-1,5-6": (200, data, None),
        "lines=0-1": (200, data, None),
        "bytes=" + "9" * 40 + "-": (200, data, None),
    }
    for asked, (status, expected, told) in cases.items():
        answer = get(insurer, path, Range=asked)
        assert (answer.status_code, answer.headers.get("content-range")) == (status, told), asked
        assert answer.content == expected, asked
        assert answer.headers["accept-ranges"] == "bytes"
    assert get(insurer, path, Range="bytes=0-9", **{"If-Range": tag}).status_code == 206
    assert get(insurer, path, Range="bytes=0-9", **{"If-Range": '"other"'}).status_code == 200
    head = client(insurer.engine, files=insurer.files).head(path)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(n), b"")
    assert (head.headers["content-type"], head.headers["etag"]) == ("video/mp4", tag)
    assert head.headers["content-disposition"].startswith("inline")


def test_types_are_ours_and_everything_that_could_run_is_a_download(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    write_files(box.package, {"evil.html": b"<script>alert(1)</script>", "evil.svg": b"<svg onload='alert(1)'/>"})
    box.pack()
    insurer.take_all(box)
    types = {
        "evil.html": "application/octet-stream",
        "evil.svg": "application/octet-stream",
        "before.csv": "text/csv; charset=utf-8",
        "crash.json": "application/json",
        "chain.jsonl": "application/x-ndjson",
        "manifest.sig": "application/json",
    }
    for name, kind in types.items():
        answer = get(insurer, address(box, f"/files/{name}"), **{"Accept-Encoding": "gzip"})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == kind
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
        assert answer.content == (box.package / name).read_bytes()
        assert "content-encoding" not in answer.headers  # a range must be of the same bytes as the whole
        assert {h: answer.headers[h] for h in HEADERS} == HEADERS


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2freceiver.db",
        "%2e%2e",
        "../receiver.db",
        "crash.json%00",
        ".hidden",
        "no.csv",
        "%2fetc%2fpasswd",
    ],
)
def test_only_names_of_the_package_are_given(proved: tuple[Box, Insurer], name: str) -> None:
    box, insurer = proved
    assert get(insurer, address(box, f"/files/{name}")).status_code in (404, 307)


def test_other_devices_and_incidents_are_nothing(proved: tuple[Box, Insurer]) -> None:
    box, insurer = proved
    for path in (
        f"/vehicles/rw-0000000000000000/crashes/{box.crash.id}",
        f"/vehicles/{box.store.device}/crashes/{'0' * 16}",
        f"/vehicles/{box.store.device}/crashes/..%2f..",
        f"/vehicles/{box.store.device}/crashes/{box.crash.id.upper()}X",
    ):
        for tail in ("", "/progress.json", "/package.zip", "/files/crash.json"):
            assert get(insurer, path + tail).status_code == 404
    assert get(insurer, address(box, "/check")).status_code == 405


def test_a_file_that_is_gone_or_was_cut_is_said_and_not_half_given(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.take_all(box)
    path = Path(insurer.files.path(box.store.device, box.crash.id, "imu.csv"))
    path.write_bytes(path.read_bytes()[:-10])
    answer = get(insurer, address(box, "/files/imu.csv"))
    assert (answer.status_code, "This file cannot be read just now" in answer.text) == (503, True)
    listed = crashes.held_files(insurer.engine, box.store.device, box.crash.id)
    with pytest.raises(delivery.ShortError):
        b"".join(delivery.zipped(insurer.files, box.store.device, box.crash.id, listed))
    path.unlink()
    assert get(insurer, address(box, "/files/imu.csv")).status_code == 503
    assert get(insurer, address(box)).status_code == 200


def test_the_package_as_a_zip_is_proved_by_the_verifier(proved: tuple[Box, Insurer], tmp_path: Path) -> None:
    box, insurer = proved
    answer = get(insurer, address(box, "/package.zip"), **{"Accept-Encoding": "gzip"})
    assert answer.headers["content-type"] == "application/zip"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["content-disposition"] == f'attachment; filename="roadwitness-{box.crash.id}.zip"'
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert {i.compress_type for i in archive.infolist()} == {zipfile.ZIP_STORED}
    archive.extractall(tmp_path)
    assert verify_package.verify(str(tmp_path / box.crash.id), box.store.device).exit_code == 0


@pytest.mark.parametrize("limit", [1 << 31, 150_000, 5_000, 10])
def test_the_length_of_a_zip_is_known_before_also_where_it_needs_zip64(
    proved: tuple[Box, Insurer], monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    box, insurer = proved
    listed = crashes.held_files(insurer.engine, box.store.device, box.crash.id)
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
    data = b"".join(delivery.zipped(insurer.files, box.store.device, box.crash.id, listed))
    assert len(data) == delivery.zip_size(box.crash.id, listed)
    assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None


# looks


def test_every_view_and_download_is_in_the_log_and_nothing_else(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.take_all(box)
    app = client(insurer.engine, files=insurer.files)
    app.get(address(box))
    app.get(address(box, "/progress.json"))
    app.get(address(box, "/files/imu.csv"), headers={"Range": "bytes=0-9"})
    app.get(address(box, "/files/imu.csv"), headers={"Range": "bytes=10-19"})
    app.get(address(box, "/files/imu.csv"))
    app.get(address(box, "/files/no.csv"))
    app.get(address(box, "/package.zip"))
    app.post(address(box, "/check"))
    assert looks(insurer) == [
        ("page", ""), ("file", "imu.csv"), ("file", "imu.csv"), ("package", ""), ("check", "")
    ]  # fmt: skip
    assert access.verify(insurer.engine).broken is None
    said = plain(app.get(address(box)).text)
    assert "owner-1 from testclient: opened imu.csv" in said
    assert "owner-1 from testclient: downloaded the package" in said


def test_nothing_is_shown_that_cannot_be_logged(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.take_all(box)
    with insurer.engine.begin() as connection:
        connection.execute(text("CREATE TRIGGER full BEFORE INSERT ON access_log BEGIN SELECT RAISE(ABORT, 'no'); END"))
    for tail in ("", "/files/imu.csv", "/package.zip"):
        answer = get(insurer, address(box, tail))
        assert answer.status_code == 503
        assert b"t_s," not in answer.content


def test_a_check_is_run_again_only_for_our_own_page(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.take_all(box)
    app = client(insurer.engine, files=insurer.files)
    for wrong in ({"x-csrf": "no"}, {"origin": "http://evil.example"}):
        assert app.post(address(box, "/check"), headers=wrong).status_code == 403
    assert app.post(address(box, "/check")).json()["exit_code"] == 0
    Path(insurer.files.path(box.store.device, box.crash.id, "imu.csv")).write_bytes(b"t_s\n")
    assert app.post(address(box, "/check")).json()["exit_code"] == 1
    assert "Package: Not proved" in plain(app.get(address(box)).text)
    with insurer.engine.begin() as connection:
        connection.execute(update(db.package_state).values(whole=False))
    assert app.post(address(box, "/check")).status_code == 409


# what a device may say


XSS = "<img src=x onerror=alert(1)>\"'</script>{{7*7}}"


def test_nothing_that_a_device_says_becomes_markup(insurer: Insurer, tmp_path: Path) -> None:
    crash = replace(hit(), confirmed_by=[XSS], sensors=[XSS], rule=XSS)
    box = Box(tmp_path / "x", crash)
    box.missing.append(Missing(XSS, XSS))
    box.crashes(films="")
    clips = [{"file": "imu.csv", "start_s": -1, "end_s": 1}]
    told = {"cameras": [{"camera": "<img src=x onerror=alert(1)>", "clips": clips, "poster": "javascript:alert(1)"}]}
    write_files(box.package, {"video.json": json.dumps(told).encode()})
    box.pack()
    insurer.take_all(box)
    for lang in ("en", "zh"):
        html = body(insurer, box, lang)
        assert "<img" not in html
        assert "onerror=alert(1)&gt;" in html
        assert "javascript:" not in html
    box.store.close()


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe\x00", b"t_s\n", b"x,y\n1,2\n", b"t_s,a,a\n1,2,3\n", b't_s,a\n"1\n2', b"t_s,a\nnan,1\ninf,2\n"],
)
def test_a_table_that_is_none_is_empty(data: bytes) -> None:
    found = contents.table(data)
    assert found.t_s == []


def test_a_table_is_bounded_ordered_and_finite() -> None:
    rows = [f"{i / 100},{i},1e300,inf" for i in range(contents.MOST_ROWS + 500)]
    found = contents.table("\n".join(["t_s,a,b,c", *rows, "-5,1,1,1"]).encode())
    assert len(found.t_s) == contents.MOST_ROWS
    assert set(found.columns["b"]) == set(found.columns["c"]) == {None}
    short = contents.table(b"t_s,a,b\n1,2\n0.5,3,4\n2,5,6,7\n")
    assert (short.t_s, short.columns) == ([1.0, 2.0], {"a": [2.0, 5.0], "b": [None, 6.0]})


ANYTHING = (
    b"null",
    b"[" * 5000,
    b"{}",
    b"\x00" * 100,
    b'{"cameras":[{}]}',
    b'{"mount":{"gravity":[0,0,0],"forward":[0,0,0]}}',
    b'{"gaps_s":[[-1e308,1e308]],"complete":false,"reached_s":1e300}',
)


def test_files_of_any_content_leave_a_page(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.take_all(box)
    app = client(insurer.engine, files=insurer.files)
    for name in ("crash.json", "video.json", "before.csv", "imu.csv", "track.csv"):
        for data in ANYTHING:
            with insurer.engine.begin() as connection:
                row = {"device": box.store.device, "incident": box.crash.id, "name": name, "file": "0" * 64}
                row |= {"held": True, "size": len(data)}
                connection.execute(db.upsert(connection, db.package_file, row, ["device", "incident", "name"]))
            Path(insurer.files.path(box.store.device, box.crash.id, name)).write_bytes(data)
            assert app.get(address(box)).status_code == 200, (name, data[:20])


@pytest.mark.parametrize(
    "changed",
    [
        {"direction_clock": -7, "direction_deg": 1e300},
        {"delta_v_mps": 1e300, "peak_mps2": -1e300, "speed_before_mps": -1e9, "speed_after_mps": 1e18},
        {"curve_step_ms": 0},
        {"curve_step_ms": -10, "curve_longitudinal_cmps": [10**17] * 3},
        {"curve_longitudinal_cmps": [5] * 900, "curve_lateral_cmps": [1]},
        {"latitude": 89.9, "longitude": 720.0},
        {"roll_deg": 1e300, "kind": "rollover", "number": -1, "since_previous_ns": -5},
        {"position_age_ms": -(10**15), "accuracy_m": 1e300, "rate_hz": -1.0, "mount_confidence": 7.0},
    ],
)
def test_numbers_of_any_size_leave_a_page(insurer: Insurer, tmp_path: Path, changed: dict[str, Any]) -> None:
    box = Box(tmp_path / "odd", replace(hit(), **changed))
    report(insurer, box)
    for lang in ("en", "zh"):
        html = body(insurer, box, lang)
        assert "nan" not in re.findall(r' d="[^"]*"', html)
    box.store.close()


def test_the_axes_are_the_vehicles_where_the_mount_is_known() -> None:
    from receiver.crashcharts import vehicle_axes

    imu = Table([0.0], {"x_mps2": [1.0], "y_mps2": [-2.0], "z_mps2": [9.80665]})
    # the box looks to the right: its y axis points backwards
    turned = vehicle_axes(imu, ((0.0, 0.0, 1.0), (0.0, -1.0, 0.0)))
    assert {k: pytest.approx(v, abs=1e-9) for k, v in turned.items()} == {"lon": [2.0], "lat": [1.0], "up": [0.0]}
    assert vehicle_axes(imu, None)["up"] == [9.80665]
    assert vehicle_axes(imu, ((0.0, 0.0, 1.0), (0.0, 0.0, 1.0)))["lon"] == [1.0]  # a mount that is none
    assert Contents().before.column("x") == []
