"""Other processors: the same recordings give the same records, bit for bit, as on this machine.

What is compared is the SHA-256 over all records of a kind as they are signed and chained, over the stored samples, and
over the files of a crash's package. arm64 is the Pi's architecture; the emulated amd64 has no AVX-512, by which
libraries choose their routines.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.kernel.cache import CHECKOUT, HERE, call
from tests.kernel.conftest import Figure
from tests.kernel.guest import Guest

pytestmark = pytest.mark.arch("amd64", "arm64")

LIMIT_S: Final = 1800.0
DATA: Final = CHECKOUT.parent / "shared" / "data"
SCENARIOS: Final = {"commute": 6, "sensor-trouble": 6, "crash-pair": 2, "crash-rollover": 2}  # minutes
RECORDED: Final = {
    "trip164": ("can/trip164/*.log.xz", "canmod"),
    "rav4": ("can/rav4/*.log.xz", "toyota-rav4"),
}
READ: Final = HERE / "programs/replayed.py"


def on_host(files: list[Path], profile: str, store: Path) -> tuple[dict[str, Any], str]:
    """Replay on this machine; return the report without its speed, and the digests."""
    command = [sys.executable, "-m", "agent", "replay", *map(str, files), "--profile", profile, "--json"]
    said = call(*command, "--store", store, cwd=CHECKOUT)
    return of(said), call(sys.executable, READ, store)


def in_guest(guest: Guest, files: list[Path], profile: str) -> tuple[dict[str, Any], str]:
    """Replay in the guest; return the same."""
    names = []
    for file in files:
        guest.put(f"/root/in/{file.name}", file.read_bytes())
        names.append(f"/root/in/{file.name}")
    guest.put("/root/replayed.py", READ.read_bytes())
    guest.run("rm -rf /root/store")
    words = ["roadwitness", "replay", *names, "--profile", profile, "--json", "--store", "/root/store"]
    said = guest.run(words, limit_s=LIMIT_S).out
    return of(said), guest.run("python3 /root/replayed.py /root/store").out


def of(said: str) -> dict[str, Any]:
    report = json.loads(said)
    del report["speed"]
    for crash in report["crashes"]:
        del crash["incident"]  # named after the boot, whose number each replay draws anew
    return report  # type: ignore[no-any-return]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_simulated_drive_gives_the_records_of_this_machine(
    guest: Guest, tmp_path: Path, figure: Figure, scenario: str
) -> None:
    words = ["sim", "record", str(tmp_path / "drive.log"), "--scenario", scenario, "--seed", "7"]
    call(sys.executable, "-m", "agent", *words, "--minutes", SCENARIOS[scenario], cwd=CHECKOUT)
    files = [tmp_path / "drive.log"]
    ours, theirs = on_host(files, "simcar", tmp_path / "store"), in_guest(guest, files, "simcar")
    assert theirs == ours
    kept = {kind: n for kind, (n, _) in json.loads(ours[1]).items()}
    assert kept["trip"] >= 1
    assert kept["samples"] >= 1
    if scenario.startswith("crash"):
        assert (kept["crash"], kept["package"], kept["package's file"]) == (4, 2, 12)
    figure(f"{scenario}: records that are the same in every bit", sum(kept.values()), "")


@pytest.mark.data
@pytest.mark.parametrize("name", RECORDED)
def test_a_recording_gives_the_records_of_this_machine(guest: Guest, tmp_path: Path, figure: Figure, name: str) -> None:
    pattern, profile = RECORDED[name]
    files = sorted(DATA.glob(pattern))
    if not files:
        pytest.skip(f"no recording {DATA / pattern}")
    ours, theirs = on_host(files, profile, tmp_path / "store"), in_guest(guest, files, profile)
    assert theirs == ours
    figure(f"{name}: records that are the same in every bit", sum(n for n, _ in json.loads(ours[1]).values()), "")
