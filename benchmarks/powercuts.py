"""The power of agent and dashcam cut at 200 random moments around a collision: what it costs, and what comes whole.

The alternative of each figure is what the issue allows: 1 s of telemetry, 2 s of video.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

from agent.records import Crash
from agent.store import Store
from tests.power_cuts import BOOT, ZERO_S
from tests.test_crash_faults_power import TELEMETRY_S, VIDEO_S, cars, judged

CUTS: Final = 200


def main() -> None:
    """Print how much was lost, how long the package took, and how many cars did not keep what is promised."""
    with tempfile.TemporaryDirectory() as folder:
        said = cars(Path(folder), CUTS)
        broken = [text for one in said if (text := _broken(one))]
        soon = sorted((one["kill_s"] - ZERO_S, _knows(one)) for one in said if 0 <= one["kill_s"] - ZERO_S < 1)
    print(f"{CUTS} power cuts from 0.5 s before to 8 s after time zero; half of them with a new boot")
    print(f"  {'missing, s':34}{'median':>9}{'most':>9}{'allowed':>9}")
    for name, key, most in (("telemetry", "telemetry_s", TELEMETRY_S), ("video", "video_s", VIDEO_S)):
        values = [one[key] for one in said if key in one]
        print(f"  {name:34}{statistics.median(values):9.3f}{max(values):9.3f}{most:9.1f}")
    again = [one["whole_after_s"] for one in said if "whole_after_s" in one]
    print(f"  {'package whole after the restart, s':34}{statistics.median(again):9.1f}{max(again):9.1f}")
    lost = [after_s for after_s, knows in soon if not knows]
    print(f"  cut within 1 s of time zero: {len(soon) - len(lost)} of {len(soon)} know of the crash afterwards;")
    print(f"    the last that does not was cut {max(lost, default=0.0):.2f} s after it (allowed: 1 s)")
    print(f"  kept all that is promised: {CUTS - len(broken)} of {CUTS}")
    for text in broken:
        print(f"    {text}")


def _knows(said: dict[str, Any]) -> bool:
    """Say whether the store has the crash, also where it happened on the way to the restart."""
    with Store.open(Path(said["given"]["folder"]), read_only=True) as store:
        return any(stored.boot == BOOT for stored in store.records(Crash))


def _broken(said: dict[str, Any]) -> str:
    try:
        judged(said)
    except AssertionError as wrong:
        return f"{said.get('kill_s')}: {str(wrong)[:300]}"
    return ""


if __name__ == "__main__":
    main()
