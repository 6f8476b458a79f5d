"""`roadwitness can` and `profile`: recordings and a live slcan bus through the same code, and nothing lost unsaid."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import BIT_RATE_SWITCH, ERROR, EXTENDED, FD, REMOTE, Frames
from agent.vehicle.sniffing import Sniffer
from agent.vehicle.traffic import Key
from agent.vehicle.writing import CandumpWriter
from drivers.recording import open_recording
from tests.can_peers import Adapter
from tests.command_line import Ended, ran
from tests.vehicle_bus import MS, candump, car_frames, frames

J1939 = (
    (0x0CF00400, 20, "F0FFFF6813FFFFFF"),
    (0x18FEF100, 100, "FFFFFFFFFFFFFFFF"),
    (0x18FEEE00, 1000, "FFFFFFFFFFFFFFFF"),
)
OBD = ((0x7DF, 500, "02010D5555555555"), (0x7E8, 500, "03410D3255555555"))
Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("COLUMNS", "100")
    empty = tmp_path / "agent.toml"
    empty.write_text("")
    here = ["--config", str(empty), "--store", str(tmp_path / "store")]
    return lambda *arguments: ran(capsys, monkeypatch, *arguments, *here)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "drive.log"
    path.write_text(candump(car_frames(3, *OBD)))
    return path


def told(ended: Ended) -> dict:
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found: dict = json.loads(ended.stdout)
    return found


def test_rates_of_a_recording(run: Run, log: Path) -> None:
    found = told(run("can", "rates", str(log), "--bit-rate", "0", "--json"))
    bus = found["buses"][0]
    assert (bus["bus"], bus["frames"], bus["bit_rate_known"]) == ("can0", len(car_frames(3, *OBD).t), False)
    engine = next(row for row in found["ids"] if row["id"] == "0C9")
    assert (engine["frames"], engine["rate_hz"], engine["bytes"]) == (300, pytest.approx(100.0), [8, 8])
    assert "0C9" in run("can", "rates", str(log)).stdout


def test_a_bus_is_recognised_by_what_it_says(run: Run, log: Path, tmp_path: Path) -> None:
    car = told(run("can", "identify", str(log), "--json"))
    assert [p["name"] for p in car["profiles"] if p["fits"]] == ["simcar"]
    assert (car["buses"][0]["requests"], car["buses"][0]["answers"], car["buses"][0]["j1939"]) == (True, ["7E8"], False)
    truck = tmp_path / "truck.log"
    rows = sorted((t * MS, i, bytes.fromhex(d)) for i, period, d in J1939 for t in range(0, 3000, period))
    truck.write_text(candump(frames(rows)))
    found = told(run("can", "identify", str(truck), "--json"))
    assert (found["buses"][0]["j1939"], found["buses"][0]["ids_29"]) == (True, 3)
    assert "engine speed and torque" in run("can", "identify", str(truck)).stdout
    assert "Fits: simcar" in run("can", "identify", str(log)).stdout


def test_decoding_by_the_profile_that_fits_by_a_named_one_and_by_a_dbc(run: Run, log: Path, tmp_path: Path) -> None:
    found = told(run("can", "decode", str(log), "--json"))
    signals = {s["name"]: s for s in found["signals"]}
    assert found["by"].startswith("profile simcar")
    assert signals["Vehicle.Speed"]["newest"] == pytest.approx(25.0)
    assert signals["Obd.Speed"]["newest"] == pytest.approx(50 / 3.6)
    dbc = tmp_path / "own.dbc"
    dbc.write_text('BO_ 1001 SPEED: 2 X\n SG_ Kmh : 0|16@1+ (0.01,0) [0|0] "km/h" X\n')
    own = told(run("can", "decode", str(log), "--dbc", str(dbc), "--json"))
    assert [(s["name"], s["newest"], s["unit"], s["values"]) for s in own["signals"]] == [
        ("SPEED.Kmh", 90.0, "km/h", 60)
    ]
    assert any("identifiers are not described" in note for note in own["notes"])
    assert "Vehicle.Speed" in run("can", "decode", str(log)).stdout
    assert run("can", "decode", str(log), "--dbc", str(dbc), "-p", "simcar").returncode == 1


def test_csv_of_decoded_samples_is_a_recording_again(run: Run, log: Path, tmp_path: Path) -> None:
    path = tmp_path / "drive.csv"
    path.write_text(run("can", "decode", str(log), "--csv").stdout)
    again = open_recording(path)
    blocks = np.concatenate(list(again.batches()))
    assert again.kind == "samples"
    assert len(blocks) == path.read_text().count("\n") - 1 > 3000
    assert again.counts.bad_lines == again.counts.out_of_range == 0


def test_what_changes_is_told_by_bits(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "two.log"
    path.write_text(
        candump(
            frames([(0, 0x10, b"\x00\x01"), (1000, 0x20, b"\x05"), (2000, 0x10, b"\x03\x01"), (3000, 0x20, b"\x05")])
        )
    )
    rows = told(run("can", "sniff", str(path), "--json"))["ids"]
    assert [(r["id"], r["data"], r["changed_bits"], r["changes"]) for r in rows] == [
        ("010", "0301", "0300", 1),
        ("020", "05", "00", 0),
    ]
    assert [r["id"] for r in told(run("can", "sniff", str(path), "--changing", "--json"))["ids"]] == ["010"]
    assert [r["id"] for r in told(run("can", "sniff", str(path), "--id", "20", "--json"))["ids"]] == ["020"]
    assert "03 01" in run("can", "sniff", str(path)).stdout


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0x10, 0x20]), st.binary(max_size=8)), min_size=1, max_size=30), st.data())
def test_changes_do_not_depend_on_how_frames_come_in_batches(
    rows: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    whole = frames([(k * MS, i, d) for k, (i, d) in enumerate(rows)])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    one, many = Sniffer(), Sniffer()
    one.add(whole, ["can0"])
    for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        many.add(Frames(*(c[a:b] for c in whole)), ["can0"])  # type: ignore[arg-type]
    for key in one.ids:
        mine, theirs = one.ids[key], many.ids[key]
        assert (mine.data, mine.changes, mine.lengths, mine.bits.tobytes()) == (
            theirs.data,
            theirs.changes,
            theirs.lengths,
            theirs.bits.tobytes(),
        )
        assert mine.changed_ns.tobytes() == theirs.changed_ns.tobytes()


@pytest.mark.parametrize("ending", [".log", ".blf", ".asc"])
def test_a_recording_keeps_every_frame_in_every_format(run: Run, log: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"copy{ending}"
    found = told(run("can", "record", str(out), str(log), "--json"))
    whole = car_frames(3, *OBD)
    assert (found["frames"], found["lost"]) == (len(whole.t), 0)
    copied = open_recording(out)
    parts = [b for b in copied.batches() if isinstance(b, Frames)]
    assert np.array_equal(np.concatenate([p.id for p in parts]), whole.id)
    assert np.array_equal(np.concatenate([p.data[:, :8] for p in parts]), whole.data)
    assert np.abs(np.concatenate([p.t for p in parts]) - whole.t).max() <= 2000
    again = run("can", "record", str(out), str(log))
    assert (again.returncode, "exists already" in again.stderr) == (1, True)


def test_a_recording_ends_at_its_limit_and_says_so(run: Run, log: Path, tmp_path: Path) -> None:
    found = told(run("can", "record", str(tmp_path / "a.log"), str(log), "--megabytes", "0.01", "--json"))
    assert found["ended"] == "at the limit of 0.01 MB"
    bad = run("can", "record", str(tmp_path / "a.xyz"), str(log))
    assert "known are .log, .blf, .asc" in bad.stderr


def test_candump_text_says_remote_and_fd_frames_as_candump_does() -> None:
    file = io.BytesIO()
    writer = CandumpWriter(file)
    writer.write(frames([(0, 0x123, b"\x01\x02")]), ["can0"], 10**18)
    writer.write(frames([(1000, 0x18FEF100, b"")], REMOTE), ["can 0"], 10**18)
    writer.write(frames([(2000, 0x7, b"\xaa")], FD | BIT_RATE_SWITCH, 64), ["can0"], 10**18)
    writer.write(frames([(3000, 0x7, b"")], ERROR), ["can0"], 10**18)
    assert file.getvalue().decode().splitlines() == [
        "(1000000000.000000) can0 123#0102",
        "(1000000000.000001) can_0 18FEF100#R",
        "(1000000000.000002) can0 007##1AA",
    ]
    assert (writer.written, EXTENDED) == (3, 1)


def test_a_live_bus_is_recorded_and_looked_at_without_a_word_sent(run: Run, tmp_path: Path) -> None:
    chatter = b"".join(b"t0C98401F40280000000F\r" for _ in range(50))
    adapter = Adapter(chatter=chatter)
    wire = ["--channel", adapter.path, "--bit-rate", "500000"]
    try:
        limit = ["--seconds", "30", "--megabytes", "0.002"]  # 46 frames: it ends as soon as they are there
        found = told(run("can", "record", str(tmp_path / "live.log"), *wire, *limit, "--json"))
        assert (46 <= found["frames"] <= 50, found["lost"]) == (True, 0)
        rows = told(run("can", "sniff", *wire, "--seconds", "2", "--json"))["ids"]
        assert [r["id"] for r in rows] == ["0C9"]
    finally:
        adapter.close()
    assert not [text for text in adapter.said if text[:1] in (b"t", b"T", b"O")], "listen-only, nothing sent"


def test_a_wire_that_is_not_there_ends_in_one_line(run: Run, tmp_path: Path) -> None:
    for command in ("rates", "identify", "sniff", "decode"):
        ended = run("can", command, "--channel", str(tmp_path / "none"), "--bit-rate", "500000")
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
        assert "cannot open" in ended.stderr
    assert "no CAN bus in agent.toml" in run("can", "rates").stderr
    assert "not both" in run("can", "rates", str(tmp_path / "x.log"), "--channel", "can0").stderr


def test_a_profile_is_suggested_with_what_it_would_give(run: Run, log: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.dbc"
    own.write_text('BO_ 201 A: 8 X\n SG_ S : 0|8@1+ (1,0) [0|0] "" X\n')
    found = told(run("profile", "suggest", str(log), "--dbc", str(tmp_path), "--json"))
    best = found["matches"][0]
    assert (best["name"], best["fits"], best["seen"]) == ("simcar", True, 9)
    assert {g["channel"] for g in best["gains"] if g["plausible"]} >= {
        "Vehicle.Speed",
        "Vehicle.Chassis.Brake.IsPressed",
    }
    assert [m["name"] for m in found["matches"]] == ["simcar", "own"]
    text = run("profile", "suggest", str(log)).stdout
    assert 'profile = "simcar" for this bus in agent.toml' in text
    assert "Vehicle.Speed" in text


def test_help_shows_examples(run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (["can", "record"], ["obd", "monitor"], ["profile", "suggest"]):
        assert "Example" in ran(capsys, monkeypatch, *command, "--help").stdout


def test_key_is_written_as_people_write_identifiers() -> None:
    assert (Key("a", 0x7, False).text, Key("a", 0x18FEF100, True).text) == ("007", "18FEF100")
