"""Fusion: ns per sample of the compiled kernels, beside their plain-Python selves and a copy of the same memory."""

import importlib.util
import time
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.blocks import BLOCK, Block
from agent.channels import number
from agent.fuse import fusion as module
from agent.fuse.fusion import Fusion
from agent.fuse.settings import FusionSettings

HZ = 100
SECONDS = 2400
SLICE_S = 20


def main() -> None:
    """Print ns per sample, ratios and the physical limit."""
    block = drive()
    fuse(block)
    compiled = min(timed(lambda: fuse(block)) for _ in range(5)) / len(block)
    copied = min(timed(block.copy) for _ in range(5)) / len(block)
    small = block[block["t"] < SLICE_S * 1_000_000_000]
    saved = module.collect, module.understand
    module.collect, module.understand = plain("windows", "collect"), plain("vehicle", "understand")  # type: ignore[attr-defined]
    python = timed(lambda: fuse(small)) / len(small)
    module.collect, module.understand = saved  # type: ignore[attr-defined]
    print(f"{len(block):,} samples, {SECONDS} s: IMU {HZ} Hz, wheels 50 Hz, OBD 2 Hz, GNSS 1 Hz; CPU time")
    for name, cost in (
        ("fusion, compiled", compiled),
        ("fusion, plain Python", python),
        ("memory copy (limit)", copied),
    ):
        print(f"{name:24} {cost:10.1f} ns/sample {python / cost:10.1f} x plain Python")
    print(f"share of one core at live speed: {compiled * len(block) / SECONDS / 1e9:.4%}")


def drive() -> Block:
    """A wave of speed under four kinds of sensor, time ordered."""
    rng = np.random.default_rng(1)
    fine = np.arange(SECONDS * HZ) / HZ
    speed = 12 + 10 * np.sin(fine / 15)
    accel = 10 / 15 * np.cos(fine / 15)
    signals: dict[str, tuple[int, npt.NDArray[np.float64]]] = {
        "Imu.Acceleration.X": (1, accel + rng.normal(0, 0.2, len(fine))),
        "Imu.Acceleration.Y": (1, rng.normal(0, 0.2, len(fine))),
        "Imu.Acceleration.Z": (1, 9.8 + rng.normal(0, 0.2, len(fine))),
        **{f"Imu.AngularVelocity.{a}": (1, rng.normal(0, 0.3, len(fine))) for a in "XYZ"},
        "Obd.Speed": (50, np.floor(speed * 3.6) / 3.6),
        "Gnss.Speed": (100, speed),
        **{f"Vehicle.Chassis.Axle.Row{r}.Wheel.{s}.Speed": (2, speed) for r in (1, 2) for s in ("Left", "Right")},
    }
    parts = []
    for name, (every, values) in signals.items():
        part = np.zeros(len(values[::every]), BLOCK)
        part["t"], part["channel"], part["value"] = (
            (fine[::every] * 1e9).astype(np.int64),
            number(name),
            values[::every],
        )
        parts.append(part)
    block = np.concatenate(parts)
    return block[np.argsort(block["t"], kind="stable")]


def fuse(block: Block) -> None:
    """Run one whole stream."""
    fusion = Fusion(FusionSettings())
    fusion.step(block)
    fusion.finish()


def timed(work: Callable[[], object]) -> float:
    """Return the CPU time of `work` in ns."""
    begin = time.process_time_ns()
    work()
    return float(time.process_time_ns() - begin)


def plain(name: str, kernel: str) -> Callable[..., Any]:
    """Return a kernel whose callees are plain Python too, taking records as attributes."""
    original = importlib.import_module(f"agent.fuse.{name}")
    scope = dict(vars(original))
    for key, value in vars(original).items():
        if hasattr(value, "py_func"):
            scope[key] = types.FunctionType(value.py_func.__code__, scope, key)

    def call(*arguments: Any) -> Any:
        views = [a.view(np.recarray) if isinstance(a, np.ndarray) and a.dtype.names else a for a in arguments]
        with np.errstate(all="ignore"):
            return scope[kernel](*views)

    return call
