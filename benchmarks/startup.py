"""Start-up: `--help`, and a warm `replay` until its first event could come, beside bare Python and `import numba`."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNS = 7


def main() -> None:
    """Print medians over a few runs."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = Path(folder) / "tiny.log"
        tiny.write_text("(1700000000.000000) can0 123#00\n(1700000000.100000) can0 123#00\n")
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import numba'": [sys.executable, "-c", "import numba"],
            "roadwitness --help": [sys.executable, "-m", "agent", "--help"],
            "roadwitness replay, two frames, warm kernels": [
                sys.executable,
                "-m",
                "agent",
                "replay",
                str(tiny),
                "--json",
            ],
        }
        for name, command in commands.items():
            _run(command)
            print(f"{name:46} {statistics.median(_run(command) for _ in range(RUNS)):6.3f} s")


def _run(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - begin
