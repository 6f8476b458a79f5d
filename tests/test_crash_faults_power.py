"""The power cut around a collision, of agent and dashcam at once: what is lost, and what comes whole after all.

200 moments are tried by `python -m benchmarks powercuts`; here as many as a test suite has time for.
"""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from agent.evidence import verify_package
from agent.incident.folder import PACKAGES, incidents, read_record
from agent.records import Crash, Package
from agent.store import Store
from sim.accident import rest_of
from tests.crashing import S, collision
from tests.dashcam_making import film_h264
from tests.power_cuts import BOOT, START_S, ZERO_S

ROOT = Path(__file__).resolve().parents[1]
FILM_S = 16
CUTS = 8
AT_ONCE = 8
TELEMETRY_S, VIDEO_S = 1.0, 2.0  # that a cut may cost, on a machine that lets nobody wait


def cars(folder: Path, count: int, at_once: int = AT_ONCE, seed: int = 1) -> list[dict[str, Any]]:
    """Cut the power of `count` cars at random moments and return what is said of each."""
    films = folder / "films"
    films.mkdir()
    whole = film_h264(films / "0.mp4", FILM_S, gop=30, size=(128, 72))
    for second in range(1, FILM_S):
        rest_of(whole, films / f"{second}.mp4", second)
    drive = collision(imu_hz=100)
    np.save(folder / "drive.npy", drive[drive["t"] >= (START_S - 1) * S])
    chance = random.Random(seed)
    given = [
        {
            "folder": str(folder / str(number)),
            "kill_s": ZERO_S
            + chance.choice([chance.uniform(-0.5, 1.0), chance.uniform(0.8, 3.0), chance.uniform(3, 8)]),
            "again": chance.choice(["boot", "process"]),
            "film": str(films),
            "samples": str(folder / "drive.npy"),
            "torn": number,
        }
        for number in range(count)
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.power_cuts", str(at_once)],
        cwd=ROOT, input="".join(json.dumps(one) + "\n" for one in given),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == count, done.stderr
    return said


def judged(said: dict[str, Any]) -> None:
    """Hold one car to what is promised."""
    assert "error" not in said, said
    assert said["killed"] == [signal.SIGKILL] * 2, said
    assert set(said["ended"]) == {0}, said
    waited_s = 3 * said["late_s"]  # a sample is handed on by three threads
    assert said["telemetry_s"] <= TELEMETRY_S + waited_s, said
    assert said["video_s"] <= VIDEO_S + waited_s, said
    folder = Path(said["given"]["folder"])
    with Store.open(folder, read_only=True) as store:
        assert store.verify().ok
        crashes = [s.record for s in store.records(Crash)]
        packages = {s.record.incident: s.record for s in store.records(Package)}
        key = verify_package.read_key(store.device)
    if said["newest_s"] >= ZERO_S + TELEMETRY_S + waited_s or (
        said["given"]["again"] == "process" and said["kill_s"] < ZERO_S - 1.5
    ):
        assert crashes, said
    assert len({c.id for c in crashes}) <= 1
    assert said["whole"], said
    found = incidents(folder / PACKAGES)
    assert [i.id for i in found] == list({c.id for c in crashes})
    for incident in found:
        assert packages[incident.id].complete
        assert incident.record_final
        report = verify_package.verify(str(incident.folder), key)
        assert report.exit_code == 0, [report.faults, said]
        manifest = json.loads((incident.folder / verify_package.MANIFEST).read_bytes())
        told = "; ".join(f"{gone['what']}: {gone['why']}" for gone in manifest["missing"])
        record = read_record(incident.folder)
        assert record.complete or "the end of the record" in told
        if record.boot == BOOT and said["kill_s"] < ZERO_S + 1.9:
            assert "video of camera front" in told, [told, said]


@pytest.mark.timeout(300)
def test_the_power_cut_at_random_moments_costs_less_than_a_second_and_the_package_comes_whole(tmp_path: Path) -> None:
    for said in cars(tmp_path, CUTS):
        judged(said)


def test_a_film_goes_on_at_any_second(tmp_path: Path) -> None:
    rest_of(film_h264(tmp_path / "all.mp4", 4, gop=30, size=(128, 72)), tmp_path / "rest.mp4", 3)
    with av.open(str(tmp_path / "rest.mp4")) as container:
        pictures = list(container.decode(video=0))
    assert len(pictures) == 30
    assert pictures[0].key_frame


@pytest.mark.parametrize("missing", ["telemetry_s", "video_s"])
def test_the_judge_here_finds_a_cut_that_cost_too_much(missing: str) -> None:
    said = {"killed": [9, 9], "ended": [0, 0], "late_s": 0.0, "telemetry_s": 0.5, "video_s": 0.5}
    said[missing] = 2.5
    with pytest.raises(AssertionError):
        judged(said)
