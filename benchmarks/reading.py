"""candump text into arrays: frames/s beside python-can's reader, a plain Python parser and the bytes; memory."""

import lzma
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from can import CanutilsLogReader

from agent.blocks import Block, Frames, make_block
from benchmarks.fixtures import write_long_candump
from drivers.recording import open_recording
from drivers.replay import Replay

RAV4 = Path(__file__).parents[2] / "shared" / "data" / "can" / "rav4" / "rav4_60s.candump.log.xz"
# VmHWM rather than ru_maxrss, which a child inherits from the process that forked it
_MEMORY = """
import re, sys
from pathlib import Path
from drivers.recording import open_recording
n = sum(len(batch.t) for batch in open_recording(Path(sys.argv[1])).batches())
print(n, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def _ours(path: Path) -> int:
    return sum(len(batch.t) for batch in open_recording(path).batches())


def _python_can(path: Path) -> int:
    return sum(1 for _ in CanutilsLogReader(str(path)))


def _plain(path: Path) -> int:
    """Split, int and fromhex: what one writes without a library."""
    n = 0
    with path.open(encoding="ascii") as file:
        for line in file:
            stamp, _bus, frame = line.split()
            ident, data = frame.split("#")
            float(stamp[1:-1]), int(ident, 16), bytes.fromhex(data)
            n += 1
    return n


def _bytes(path: Path) -> int:
    lines = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            lines += chunk.count(b"\n")
    return lines


WAYS: tuple[tuple[str, Callable[[Path], int], int], ...] = (
    ("python-can CanutilsLogReader", _python_can, 1),
    ("plain Python: split, int, fromhex", _plain, 1),
    ("roadwitness, text to ordered frames", _ours, 5),
    ("limit: read the bytes, count lines", _bytes, 5),
)


def tile_rav4(path: Path, n_frames: int) -> None:
    """Write the RAV4 recording again and again, time going on, until there are `n_frames` frames."""
    lines = lzma.decompress(RAV4.read_bytes()).splitlines()
    pattern = re.compile(rb"\((\d+)\.(\d+)\)")
    stamps = [int(m[1]) * 1_000_000 + int(m[2]) for line in lines if (m := pattern.match(line))]
    rest = [line[line.index(b")") :] for line in lines]
    length = stamps[-1] - stamps[0] + 1000
    with path.open("wb") as file:
        for k in range(n_frames // len(lines) + 1):
            part = zip(stamps, rest, strict=True)
            file.writelines(b"(%d.%06d%s\n" % (*divmod(t + k * length, 1_000_000), text) for t, text in part)


def measure(title: str, path: Path) -> None:
    """Print one table for the log at `path`: best of several runs, warm file cache."""
    _ours(path), _bytes(path)
    print(f"{title} ({path.stat().st_size / 1e6:.0f} MB)")
    rates = {}
    for name, way, runs in WAYS:
        best = float("inf")
        for _ in range(runs):
            began = time.perf_counter()
            n = way(path)
            best = min(best, time.perf_counter() - began)
        rates[name] = n / best
        ratio = rates[name] / rates[WAYS[0][0]]
        print(f"  {name:38} {n:>10,} frames {rates[name] / 1e6:8.2f} M frames/s {ratio:8.1f} x python-can")


def _costly(frames: Frames, buses: list[str]) -> Block:
    """Stand in for a decoder that costs about as much as the parser (a sort of all payloads)."""
    np.sort(frames.data.reshape(-1))
    return make_block([(int(frames.t[-1]), 1, 0.0)])


def _in_turn(path: Path) -> None:
    for batch in open_recording(path).batches():
        _costly(batch, [])


def _ahead(path: Path) -> None:
    driver = Replay([path], _costly)
    driver.open()
    while driver.read(1.0) is not None:
        pass
    driver.close()


def measure_reading_ahead(path: Path) -> None:
    """Print what the reading thread of the replay driver saves; it needs an idle second core."""
    best = {_in_turn: float("inf"), _ahead: float("inf")}
    for _ in range(7):
        for way in (_in_turn, _ahead):
            began = time.perf_counter()
            way(path)
            best[way] = min(best[way], time.perf_counter() - began)
    print(
        f"parse and an equally costly decoder: in turn {best[_in_turn] * 1e3:.0f} ms, reading ahead "
        f"{best[_ahead] * 1e3:.0f} ms ({best[_in_turn] / best[_ahead]:.2f} x)"
    )


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.log"
        write_long_candump(path, 1_000_000)
        measure("synthetic drive, two buses", path)
        measure_reading_ahead(path)
        if RAV4.is_file():
            tile_rav4(Path(folder) / "rav4.log", 1_000_000)
            measure("RAV4 recording, repeated", Path(folder) / "rav4.log")
        for n in (1_000_000, 10_000_000):
            write_long_candump(path, n)
            out = subprocess.run(
                [sys.executable, "-c", _MEMORY, str(path)], capture_output=True, text=True, check=True
            ).stdout.split()
            print(f"peak memory of a process that reads {int(out[0]):>10,} frames: {int(out[1]) / 1024:.0f} MB")


if __name__ == "__main__":
    main()
