"""`roadwitness replay`, as a person or a script runs it."""

import json
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import ran

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
KINDS = {"harsh_braking", "harsh_acceleration", "harsh_cornering", "speeding", "idling", "over_rev", "fatigue"}


OLD = {  # the x86 processor of 2004 for OpenBLAS, numpy and glibc
    "OPENBLAS_CORETYPE": "Prescott",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA",
}


def roadwitness(*arguments: str, code: int = 0, **env: str) -> "subprocess.CompletedProcess[str]":
    words = ["env", *(f"{name}={value}" for name, value in env.items()), sys.executable, "-m", "agent", *arguments]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def replay(*arguments: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(roadwitness("replay", *arguments, "--json").stdout)
    return report


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drive")
    roadwitness("sim", "record", str(folder / "commute.log"), "--scenario", "commute", "--seed", "7", "--minutes", "6")
    return folder / "commute.log"


@pytest.fixture(scope="module")
def truth(drive: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(drive.with_suffix(".truth.json").read_text())
    return told


@pytest.fixture(scope="module")
def report(drive: Path) -> dict[str, Any]:
    return replay(str(drive), "--profile", "simcar")


def test_report_has_the_promised_fields(report: dict[str, Any]) -> None:
    assert report["recording"].keys() >= {"frames", "samples", "duration_s", "unknown_ids", "bad_lines"}
    assert report["speed"].keys() >= {"wall_s", "frames_per_s", "realtime_factor"}
    assert report["mount"].keys() == {"gravity", "forward", "confidence"}
    wanted = {"start_t_s", "end_t_s", "start_utc", "distance_m", "duration_s", "moving_s", "idle_s", "stops"}
    assert all(t.keys() >= wanted | {"max_speed_mps"} for t in report["trips"])
    wanted = {
        "kind",
        "severity",
        "confirmed",
        "t_s",
        "duration_s",
        "peak",
        "unit",
        "speed_before_mps",
        "rule",
        "sources",
    }
    assert all(e.keys() >= wanted for e in report["events"])
    assert {e["kind"] for e in report["events"]} <= KINDS | {"device_moved"}
    assert report["recording"]["unknown_ids"] == 0


def test_what_was_driven_is_what_is_found(report: dict[str, Any], truth: dict[str, Any]) -> None:
    assert report["recording"]["frames"] == truth["frames"]
    driven = sum(t["distance_m"] for t in report["trips"])
    assert driven == pytest.approx(truth["distance_m"], rel=0.02)
    assert len(report["trips"]) == len(truth["trips"])
    assert report["time"]["quality"] == "gnss"


def test_the_profile_is_found_by_the_ids_on_the_bus(drive: Path, report: dict[str, Any]) -> None:
    found = replay(str(drive))
    assert found["recording"]["profile"] == "simcar"
    assert found["events"] == report["events"]
    assert found["trips"] == report["trips"]


def test_compressed_and_blf_copies_tell_the_same(drive: Path, report: dict[str, Any], tmp_path: Path) -> None:
    import lzma

    import can

    squeezed = tmp_path / "drive.log.xz"
    squeezed.write_bytes(lzma.compress(drive.read_bytes(), preset=0))
    assert replay(str(squeezed), "--profile", "simcar")["events"] == report["events"]
    short = tmp_path / "short.log"
    with drive.open() as lines:
        short.write_text("".join(next(lines) for _ in range(40_000)))
    with can.LogReader(short) as reader, can.BLFWriter(tmp_path / "short.blf") as writer:
        for message in reader:
            message.channel = 1
            writer.on_message_received(message)
    text, binary = (replay(str(tmp_path / name), "--profile", "simcar") for name in ("short.log", "short.blf"))
    assert binary["recording"]["frames"] == text["recording"]["frames"] == 40_000
    assert [t["distance_m"] for t in binary["trips"]] == pytest.approx([t["distance_m"] for t in text["trips"]], abs=1)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the older processor that stands in is an x86")
@pytest.mark.parametrize("scenario", ["commute", "crash-pair"])
def test_an_older_processor_finds_the_same_in_every_bit(scenario: str, tmp_path: Path) -> None:
    file = tmp_path / "drive.log"
    roadwitness("sim", "record", str(file), "--scenario", scenario, "--seed", "7", "--minutes", "2")
    kept = []
    for env in ({}, OLD):
        store = tmp_path / f"store-{len(kept)}"
        roadwitness("replay", str(file), "--profile", "simcar", "--store", str(store), **env)
        told = [sys.executable, str(ROOT / "tests/kernel/programs/replayed.py"), str(store)]
        kept.append(json.loads(subprocess.check_output(told)))
    assert kept[0] == kept[1]
    assert {"trip", "mount", "samples"} <= set(kept[0])


def test_samples_need_no_profile(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    rows = ["t_s,channel,value"]
    for i in range(1200):
        t = i / 10
        speed = 15.0 if t < 60 else max(0.0, 15.0 - 5.0 * (t - 60)) if t < 70 else min(15.0, t - 70)
        rows += [f"{t:.2f},Wheel.Speed,{speed:.3f}", f"{t:.2f},Gnss.Speed,{speed:.3f}"]
    path.write_text("\n".join(rows) + "\n")
    found = replay(str(path))
    assert found["recording"]["samples"] == 2400
    (braking,) = [e for e in found["events"] if e["kind"] == "harsh_braking"]
    assert braking["severity"] == "severe"
    assert braking["confirmed"]
    assert braking["t_s"] == pytest.approx(60, abs=1)
    assert braking["speed_before_mps"] == pytest.approx(15, abs=0.5)
    assert found["mount"] is None


def test_store_keeps_what_the_report_tells(drive: Path, report: dict[str, Any], tmp_path: Path) -> None:
    replay(str(drive), "--profile", "simcar", "--store", str(tmp_path / "store"))
    trips = json.loads(roadwitness("trips", "--store", str(tmp_path / "store"), "--json").stdout)
    events = json.loads(roadwitness("events", "--store", str(tmp_path / "store"), "--json").stdout)
    assert [t["distance_m"] for t in trips] == pytest.approx([t["distance_m"] for t in report["trips"]], abs=0.1)
    assert [(e["kind"], e["severity"], e["t_ns"]) for e in events] == [
        (e["kind"], e["severity"], round(e["t_s"] * 1e9)) for e in sorted(report["events"], key=lambda e: e["t_s"])
    ]
    assert {e["trip_t_ns"] for e in events} <= {t["start_ns"] for t in trips}
    assert " 0 do not hold" in roadwitness("store", "verify", "--store", str(tmp_path / "store")).stdout
    roadwitness("trips", "--store", str(tmp_path / "store"))
    roadwitness("events", "--store", str(tmp_path / "store"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["absent.log"], "absent.log"),
        (["{log}", "--profile", "simcra"], "simcar"),
        (["{log}", "--dbc", "{log}"], "--profile"),
        (["{log}", "--profile", "simcar", "--dbc", "{log}"], "not a DBC"),
        (["{log}", "--config", "absent.toml"], "absent.toml"),
        (["{log}", "--uplink", "mqtt://example.org"], "mqtts://"),
        (["{empty}"], "empty"),
        (["{garbage}"], "garbage"),
    ],
)
def test_trouble_is_one_line_and_exit_code_1(
    arguments: list[str],
    told: str,
    drive: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "empty.log").touch()
    (tmp_path / "garbage.bin").write_bytes(bytes(range(1, 256)) * 50)
    names = {"log": drive, "empty": tmp_path / "empty.log", "garbage": tmp_path / "garbage.bin"}
    filled = [a.format(**names) for a in arguments]
    done = ran(capsys, monkeypatch, "replay", *filled)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("roadwitness: ")
    assert told in done.stderr
    done = ran(capsys, monkeypatch, "replay", *filled, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]


def test_a_broker_that_is_down_costs_nothing_but_is_told(drive: Path, report: dict[str, Any], tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"mqtt://127.0.0.1:{closed.getsockname()[1]}"
    store = str(tmp_path / "store")
    arguments = [str(drive), "--profile", "simcar", "--store", store, "--uplink", url, "--wait", "1", "--json"]
    done = roadwitness("replay", *arguments, code=1)
    told = json.loads(done.stdout)
    assert told["events"] == report["events"]
    assert told["sync"]["acknowledged"] == 0 < told["sync"]["entries"]
    assert "still to be sent" in done.stderr
    kept = json.loads(roadwitness("events", "--store", store, "--json").stdout)
    assert len(kept) == len(report["events"])


def test_a_recording_with_nothing_known_in_it_says_so(tmp_path: Path) -> None:
    log = tmp_path / "strange.log"
    log.write_text("".join(f"({1700000000 + i / 100:.6f}) can3 6A{i % 7}#0011223344556677\n" for i in range(500)))
    found = replay(str(log))
    assert found["recording"]["frames"] == 500
    assert found["recording"]["unknown_ids"] == 7
    assert any("profile" in p for p in found["recording"]["problems"])
    assert found["trips"] == found["events"] == []


def test_bad_lines_and_a_clock_step_are_counted_and_cost_nothing_else(
    drive: Path, report: dict[str, Any], tmp_path: Path
) -> None:
    lines = drive.read_text().splitlines(keepends=True)
    middle = len(lines) // 2
    stepped = [
        f"({float(line[1 : line.index(')')]) - 86_400:.6f}){line[line.index(')') + 1 :]}" for line in lines[middle:]
    ]
    damaged = tmp_path / "damaged.log"
    damaged.write_text("".join([*lines[:1000], "what is this\n", "(12) can0\n", *lines[1000:middle], *stepped]))
    found = replay(str(damaged), "--profile", "simcar")
    assert found["recording"]["bad_lines"] == 2
    assert found["recording"]["time_steps"] == 1
    assert found["recording"]["frames"] == report["recording"]["frames"]
    driven = [sum(t["distance_m"] for t in r["trips"]) for r in (found, report)]
    assert driven[0] == pytest.approx(driven[1], rel=0.001)
    assert len(found["events"]) == len(report["events"])


@pytest.mark.data
def test_trip164_is_one_trip_of_40_km_with_three_stops() -> None:
    log = DATA / "can" / "trip164" / "trip164.candump.log.xz"
    if not log.exists():
        pytest.skip("../shared/data is absent")
    found = replay(str(log), "--profile", "canmod")
    assert found["recording"]["frames"] == 292_097
    (trip,) = found["trips"]
    assert trip["distance_m"] == pytest.approx(40_500, rel=0.01)
    assert trip["stops"] == 3
    assert found["mount"]["gravity"][0] > 0.97
    assert found["mount"]["forward"][1] < -0.97
    assert found["mount"]["confidence"] > 0.8
    assert not [e for e in found["events"] if e["severity"] == "severe"]
    # the recording's own README: decelerations by 1 s differences of OBD speed reach -2.5 once and -3.0 never
    braking = [e for e in found["events"] if e["kind"] == "harsh_braking"]
    assert len(braking) <= 1
    assert all(e["severity"] == "minor" for e in braking)


@pytest.mark.data
def test_rav4_spike_is_no_event() -> None:
    log = DATA / "can" / "rav4" / "rav4_60s.candump.log.xz"
    if not log.exists():
        pytest.skip("../shared/data is absent")
    found = replay(str(log), "--profile", "toyota-rav4")
    assert found["recording"]["frames"] == 98_800
    assert found["recording"]["buses"] == ["can0", "can1"]
    assert not [e for e in found["events"] if e["kind"].startswith("harsh")]
