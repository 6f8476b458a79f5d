"""Candump text to trips and events: the whole `roadwitness replay` process beside the usual script, time and memory.

Both are measured as whole processes, start-up included, on the same file; the script decodes only, we also fuse,
detect and find trips. The limit is reading the file's bytes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.fixtures import write_long_candump

ROOT = Path(__file__).resolve().parents[1]
RUNS = 3
FRAMES = (1_000_000, 10_000_000)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        script_rate = 0.0
        for frames in FRAMES:
            log = Path(folder) / f"{frames}.log"
            write_long_candump(log, frames)
            size_mb = log.stat().st_size / 1e6
            read_s = min(_read(log) for _ in range(RUNS))
            command = [sys.executable, "-m", "agent", "replay", str(log), "--profile", "simcar", "--json"]
            ours = sorted(_measure(command) for _ in range(RUNS))[RUNS // 2]
            if not script_rate:
                dbc = str(ROOT / "config" / "dbc" / "simcar.dbc")
                script = _measure([sys.executable, "-m", "benchmarks._usual", str(log), dbc])
                script_rate = frames / script[0]
                print(f"{'usual script (python-can + cantools)':44} {script[0]:8.2f} s {script_rate:12,.0f} frames/s")
            rate = frames / ours[0]
            name = f"roadwitness replay, {frames:,} frames, {size_mb:.0f} MB"
            inside = json.loads(ours[2])["speed"]["frames_per_s"]
            print(
                f"{name:44} {ours[0]:8.2f} s {rate:12,.0f} frames/s   {rate / script_rate:6.1f} x the script"
                f"   (its own count {inside:,.0f}/s)   peak {ours[1] / 1024:.0f} MB"
            )
            print(f"{'limit: reading the file':44} {read_s:8.3f} s {frames / read_s:12,.0f} frames/s")
            log.unlink()


def _read(log: Path) -> float:
    begin = time.perf_counter()
    with log.open("rb", buffering=0) as f:
        while f.read(1 << 22):
            pass
    return time.perf_counter() - begin


def _measure(command: list[str]) -> tuple[float, int, str]:
    """Return wall seconds, peak RSS in KiB and standard output of one process."""
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed: {text}")
    return wall, usage.ru_maxrss, text
