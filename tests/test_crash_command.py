"""A recorded collision through `roadwitness replay`, and what `crashes` and `events` show of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.channels import BY_NUMBER
from agent.cli.crashes import package_in_words, package_of
from agent.incident.folder import PACKAGES, SIGNATURE, acknowledge, incidents, look, write_files
from agent.incident.recorder import Recorder
from agent.incident.settings import IncidentSettings
from agent.records import Mount
from agent.settings import AgentConfig
from agent.spine import Spine
from agent.store import Store
from tests.crashing import BOOT, collision, crash_at, pieces

ROOT = Path(__file__).resolve().parents[1]


def roadwitness(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "agent", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The store folder and the report of a replayed collision."""
    folder = tmp_path_factory.mktemp("crash")
    lines = (f"{s['t'] / 1e9:.4f},{BY_NUMBER[s['channel']].name},{s['value']:.5f}" for s in collision(imu_hz=100))
    (folder / "drive.csv").write_text("\n".join(["t_s,channel,value", *lines]) + "\n", encoding="ascii")
    store = folder / "store"
    report: dict[str, Any] = json.loads(
        roadwitness("replay", str(folder / "drive.csv"), "--store", str(store), "--json")
    )
    return store, report


def test_replay_lists_the_crash_and_makes_its_package(replayed: tuple[Path, dict[str, Any]]) -> None:
    store, report = replayed
    (crash,) = report["crashes"]
    assert crash["kind"] == "impact"
    assert crash["complete"]
    assert crash["t_s"] == pytest.approx(70.0, abs=0.03)
    assert crash["known_after_s"] < 0.2
    assert crash["delta_v_mps"] == pytest.approx(12.5, abs=1.3)
    (found,) = incidents(store / PACKAGES)
    assert found.id == crash["incident"]
    assert (found.record_final, found.record_complete) == (True, True)
    assert "imu.csv" in found.files


def test_the_spine_and_the_recorder_make_the_same_files_of_blocks_of_any_size() -> None:
    drive, s = collision((70.0, 73.0), imu_hz=100), AgentConfig()
    made = []
    for step in (len(drive), 9973, 61):
        spine, recorder = Spine(s.fusion, s.detection, s.trips, boot=BOOT), Recorder(s.incident, BOOT)
        drafts = []
        for block in pieces(drive, range(0, len(drive), step)):
            output = spine.step(block)
            for _, record in output.records:
                if isinstance(record, Mount):
                    recorder.mount_known(record)
            drafts += recorder.step(block, output.rows, output.crashes)
        made.append([d.files for d in drafts if d.record.final])
    assert len(made[0]) == 2
    assert made[0] == made[1] == made[2]


def test_replay_says_it_in_words(replayed: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    store, _ = replayed
    shown = roadwitness("replay", str(store.parent / "drive.csv"))
    assert "Crashes" in shown
    assert "impact" in shown
    assert not list(tmp_path.iterdir())


def test_crashes_and_events_show_it(replayed: tuple[Path, dict[str, Any]]) -> None:
    store, report = replayed
    (told,) = json.loads(roadwitness("crashes", "--store", str(store), "--json"))
    assert told["id"] == report["crashes"][0]["incident"]
    assert told["complete"]
    assert "imu.csv" in told["package"]["files"]
    shown = roadwitness("crashes", "--store", str(store))
    assert told["id"] in shown
    assert "signed" in shown or "waits for its video and signature" in shown
    assert "impact" in roadwitness("events", "--store", str(store))


def test_without_a_crash_it_says_so(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    assert roadwitness("crashes", "--store", str(tmp_path)).strip() == "No crashes."
    assert json.loads(roadwitness("crashes", "--store", str(tmp_path), "--json")) == []


def test_a_package_is_told_as_far_as_it_has_come(tmp_path: Path) -> None:
    drive = collision(until_s=72.0, imu_hz=100)
    recorder = Recorder(IncidentSettings(), "b" * 32)
    (growing,) = recorder.step(drive, [], [crash_at(70_000_000_000)])
    (final,) = recorder.finish()
    folder = tmp_path / PACKAGES / growing.id
    said = []
    assert package_of(look(folder)) == {"package": None}
    said.append(package_in_words(growing.id, look(folder)))
    write_files(folder, growing.files)
    said.append(package_in_words(growing.id, look(folder)))
    write_files(folder, final.files)
    said.append(package_in_words(growing.id, look(folder)))
    write_files(folder, {SIGNATURE: b""})
    said.append(package_in_words(growing.id, look(folder)))
    acknowledge(tmp_path / PACKAGES, growing.id)
    said.append(package_in_words(growing.id, look(folder)))
    expected = ["no package here", "still growing", "waits for its video and signature, record cut short",
                "signed, waits to be sent, record cut short", "the receiver holds it, record cut short"]  # fmt: skip
    assert all(words in line for words, line in zip(expected, said, strict=True)), said
    assert np.all([growing.id in line for line in said])
