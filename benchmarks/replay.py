"""Candump text to trips and events: the whole `roadwitness replay` process beside the usual script, time and memory.

Both are measured as whole processes, start-up included, on the same file with the same DBC; the script decodes only, we
also fuse, detect and find trips. The file is a simulated drive on a bus at 750 frames/s, repeated. The limit is reading
the file's bytes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNS = 3
REPEATS = (1, 9)  # of a drive of 1.1 million frames


def main() -> None:
    """Print the table."""
    script_rate = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for repeats in REPEATS:
            log = Path(folder) / f"{repeats}.log"
            frames = int(_measure([sys.executable, "-m", "benchmarks._drive", str(log), str(repeats)])[2])
            read_s = min(_read(log) for _ in range(RUNS))
            command = [sys.executable, "-m", "agent", "replay", str(log), "--profile", "simcar", "--json"]
            wall_s, peak_kib, out = sorted(_measure(command) for _ in range(RUNS))[RUNS // 2]
            if not script_rate:
                dbc = str(ROOT / "config" / "dbc" / "simcar.dbc")
                script_s = _measure([sys.executable, "-m", "benchmarks._usual", str(log), dbc])[0]
                script_rate = frames / script_s
                print(f"{'usual script (python-can + cantools)':40} {script_s:8.2f} s {script_rate:12,.0f} frames/s")
            rate = frames / wall_s
            inside = json.loads(out)["speed"]["frames_per_s"]
            size_mb = log.stat().st_size / 1e6
            print(f"roadwitness replay, {frames:,} frames, {size_mb:.0f} MB, peak {peak_kib / 1024:.0f} MB")
            print(
                f"{'  whole process':40} {wall_s:8.2f} s {rate:12,.0f} frames/s {rate / script_rate:8.1f} x the script"
            )
            print(f"{'  as it reports itself':40} {'':8}   {inside:12,.0f} frames/s {inside / script_rate:8.1f} x")
            print(f"{'  limit: reading the file':40} {read_s:8.3f} s {frames / read_s:12,.0f} frames/s")
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
