"""What the IMU and the satellite receiver cost: CPU time of a driver's reads per second of data, against plain Python.

The alternative for the IMU reads the same pipe and does the same work scan by scan with `struct`;
for the receiver it is the standard library's `json` on the same lines and nothing else.
"""

import json
import os
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agent.blocks import Block, make_block
from agent.channels import number
from agent.clock import NS_PER_S, monotonic_ns
from drivers.gps import Gps
from drivers.imu import Imu
from sim.gpsd import FakeGpsd, Report
from sim.iio import FakeIio

SECONDS = 20
MOUNT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
AXES = [number(f"Imu.{kind}.{axis}") for kind in ("Acceleration", "AngularVelocity") for axis in "XYZ"]


def main() -> None:
    """Print CPU time per second of data and the ratio to the alternative."""
    print(f"{'driver':24} {'CPU share of a core':>20} {'alternative':>14} {'ratio':>7}")
    for rate_hz in (100, 200, 1000):
        ours, theirs = _imu(rate_hz, _driver_reads), _imu(rate_hz, _struct_reads)
        print(f"{f'imu {rate_hz} Hz, 6 axes':24} {ours:>19.3%} {theirs:>13.3%} {theirs / ours:>6.1f}x")
    ours, theirs = _gps(10)
    print(f"{'gps 10 Hz, 8 satellites':24} {ours:>19.3%} {theirs:>13.3%} {theirs / ours:>6.1f}x")


def _imu(rate_hz: int, reads: Callable[[Imu, int], float]) -> float:
    """Return CPU s per s of data, batches of 0.1 s."""
    with tempfile.TemporaryDirectory() as folder:
        device = FakeIio(Path(folder))
        device.plug()
        imu = Imu(sysfs=device.sysfs, dev=device.dev, rate_hz=rate_hz)
        imu.open()
        random = np.random.default_rng(1)
        used, n = 0.0, rate_hz // 10
        for _ in range(SECONDS * 10):
            t = monotonic_ns() - np.arange(n - 1, -1, -1) * 1000  # sooner than real: the loop does not wait
            device.write(t, random.normal(0, 3, (n, 3)), random.normal(0, 20, (n, 3)))
            used += reads(imu, n)
        imu.close()
        device.unplug()
    return used / SECONDS


def _driver_reads(imu: Imu, n: int) -> float:
    start = time.thread_time()
    block = imu.read(1.0)
    used = time.thread_time() - start
    assert len(block) >= 6 * n
    return used


def _struct_reads(imu: Imu, n: int) -> float:
    """Do the same work scan by scan: scale, turn by the mount matrix, look for rails, gaps and what cannot be."""
    start = time.thread_time()
    assert imu._fd is not None
    samples: list[tuple[int, int, float]] = []
    clipped = lost = 0
    before = None
    for *raw, _temperature, t in _scans(os.read(imu._fd, 1 << 16)):
        clipped += any(value <= -32767 or value >= 32767 for value in raw)
        if before is not None and t - before > 15_000_000:
            lost += round((t - before) / 10_000_000) - 1
        before = t
        for at, scale in ((0, 0.0047884), (3, 0.061035)):
            triad = [value * scale for value in raw[at : at + 3]]
            for axis, row in enumerate(MOUNT):
                value = row[0] * triad[0] + row[1] * triad[1] + row[2] * triad[2]
                if -2000.0 <= value <= 2000.0:
                    samples.append((t, AXES[at + axis], value))
    block: Block = make_block(samples)
    used = time.thread_time() - start
    assert len(block) == 6 * n
    return used


def _scans(data: bytes) -> list[tuple[int, ...]]:
    big, little = struct.Struct(">7h"), struct.Struct("<q")
    return [
        (*big.unpack_from(data, at), *little.unpack_from(data, at + 16)) for at in range(0, len(data) // 24 * 24, 24)
    ]


def _gps(rate_hz: int) -> tuple[float, float]:
    with FakeGpsd() as gpsd:
        gps = Gps(*gpsd.address)
        gps.open()
        assert gpsd.watched.wait(5)
        lines: list[bytes] = []
        send = gpsd.send

        def keeping(raw: bytes, *, timing: bool = False) -> None:
            lines.append(raw)
            send(raw, timing=timing)

        gpsd.send = keeping  # type: ignore[method-assign]
        used, start_ns = 0.0, monotonic_ns()
        for n in range(SECONDS * rate_hz):
            before = gps.counts["reports"]
            gpsd.report(
                Report(monotonic_ns(), start_ns + n * NS_PER_S // rate_hz, 50.0 + n * 1e-6, 8.0, speed_mps=10.0)
            )
            while gps.counts["reports"] == before:
                start = time.thread_time()
                gps.read(1.0)
                used += time.thread_time() - start
        gps.close()
    start = time.thread_time()
    for line in lines:
        json.loads(line)
    return used / SECONDS, (time.thread_time() - start) / SECONDS
