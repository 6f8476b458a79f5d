"""The frame of the house: packages, tables, rules that a reviewer would otherwise have to remember."""

import re
import subprocess
import sys
from collections import Counter
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

from agent.channels import CHANNELS
from agent.errors import near_names
from agent.records import KIND_LANES, KINDS, LANES

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("agent", "drivers", "sim", "receiver")
STAND_ALONE = "agent/evidence/verify_package.py"  # one file by its purpose: people copy it (decision 0190)
SOURCES = sorted(p for package in (*PACKAGES, "benchmarks", "tests") for p in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_ours_and_no_other_distributions(package: str) -> None:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    assert set(packages_distributions().get(package, [])) <= {"roadwitness"}
    assert Path(spec.origin).parent.name == package


def test_config_and_systemd_hold_data_only() -> None:
    assert not [p for folder in ("config", "systemd") for p in (ROOT / folder).rglob("*.py")]


def test_channel_numbers_and_names_are_unique() -> None:
    assert max(Counter(c.number for c in CHANNELS).values()) == 1
    assert max(Counter(c.name for c in CHANNELS).values()) == 1
    assert all(0 < c.number < 65536 and c.low < c.high and c.quantum > 0 for c in CHANNELS)


def test_every_record_kind_has_a_lane() -> None:
    assert KINDS.keys() == KIND_LANES.keys()
    assert set(KIND_LANES.values()) <= set(LANES)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_file_is_short_and_plainly_named(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    limit = 700 if path.parts[len(ROOT.parts)] in ("tests", "benchmarks") else 500
    limit = 1000 if path == ROOT / STAND_ALONE else limit
    assert text.count("\n") <= limit
    assert not re.search(r"^class \w*(Manager|Helper|Handler)\b", text, re.MULTILINE)
    assert path.stem not in ("utils", "helpers", "common", "misc")
    assert not re.search(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b", text)


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parts[len(ROOT.parts)] in ("agent", "drivers")], ids=str)
def test_device_code_does_not_know_that_it_may_be_simulated(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("sim.demo:app", "").replace("sim.cli:app", "")
    assert not re.search(r"\bif\b.*\bsimul|import sim\b|from sim\b|\bfake\b", text, re.IGNORECASE)


def test_repository_names_no_registry_and_no_machine_path() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    forbidden = re.compile("/wo" r"rk/|/opt/py" r"pi|py" r"pi\.org/simple|index-u" "rl", re.IGNORECASE)
    assert listed
    for name in listed:
        path = ROOT / name
        if path.is_file() and path.suffix not in {".png", ".xz", ".gz"}:
            assert not forbidden.search(path.read_text(encoding="utf-8", errors="replace")), name


def test_constraints_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split("\n")
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!-]*|#.*|", line) for line in lines)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("agent.records", ["numba", "can", "paho"]),
        ("agent.cli", ["numba", "numpy", "can", "paho", "sqlite_utils", "fastapi"]),
        ("drivers", ["numba", "can", "serial", "cv2", "obd"]),
        ("agent.messages", ["numba", "paho", "sqlite_utils"]),
        ("agent.daemon", ["av", "cv2", "can", "sqlite_utils", "pandas", "scipy"]),  # what it shares a Pi with
    ],
)
def test_import_stays_light(module: str, heavy: list[str]) -> None:
    code = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_near_names_lists_what_resembles() -> None:
    assert near_names("Speeed", ["Speed", "Heading"]) == " (near names: Speed)"
    assert near_names("qqqq", ["Speed"]) == ""


def test_every_record_kind_has_a_place_in_both_databases() -> None:
    from agent.store.schema import PROJECTIONS
    from receiver.db import metadata

    assert PROJECTIONS.keys() == KINDS.keys()
    kept = {"clock": "boot_clock"}
    assert {kept.get(kind, kind) for kind in KINDS} <= metadata.tables.keys()
