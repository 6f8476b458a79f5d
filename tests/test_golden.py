"""Goldens: what a drive gave when a person last looked at it. `pytest --rebuild-golden` writes them anew."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.replay import run
from sim.drive import simulate
from sim.record import write_drive

GOLDEN = Path(__file__).parent / "golden"
DRIVES = (("commute", 7, 8.0), ("motorway", 7, 8.0), ("sensor-trouble", 7, 8.0), ("obd-only", 7, 8.0))
TOLERANCE = {
    "abs": 0.02,
    "rel": 1e-4,
}  # of times in s, distances in m, forces in m/s²: other processors round otherwise


def near(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: near(v) for k, v in value.items()}
    if isinstance(value, list):
        return [near(v) for v in value]
    return pytest.approx(value, **TOLERANCE) if isinstance(value, float) else value


@pytest.mark.parametrize(("scenario", "seed", "minutes"), DRIVES)
def test_replay_tells_what_it_told_before(
    scenario: str, seed: int, minutes: float, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    log = write_drive(simulate(scenario, seed, minutes), tmp_path)[0]
    report = run([log], profile="simcar").report(1.0)
    told = {name: report[name] for name in ("mount", "trips", "events", "rejected")}
    told["recording"] = {k: report["recording"][k] for k in ("frames", "samples", "duration_s", "start_utc")}
    path = GOLDEN / f"{scenario}-{seed}.json"
    if request.config.getoption("--rebuild-golden"):
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    golden = json.loads(path.read_text(encoding="utf-8"))
    assert golden["events"] or scenario == "calm-city"
    assert told == near(golden)
