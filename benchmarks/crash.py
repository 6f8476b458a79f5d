"""The crash detector at 1 kHz: share of a core and times real time, beside plain numpy and its plain-Python self.

Plain numpy does what a short script would: gravity off, cumulative sum, the largest change within 150 ms, block by
block of 100 ms; no filter, no time zero, nothing that tells a crash from a bump. Latency is time in the signal after
contact: until 8 km/h are reached, and until the crash is told.
"""

import importlib.util
import time
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.blocks import BLOCK, Block
from agent.channels import number
from agent.crash import kernel
from agent.crash.detector import CrashDetector
from agent.crash.settings import CrashSettings
from agent.records import Crash, Mount
from agent.state import empty_state

HZ = 1000
SECONDS = 600
PYTHON_SECONDS = 2
BATCH_S = 0.1
KMH = 1 / 3.6
G = 9.80665
AXES = tuple(number(f"Imu.Acceleration.{axis}") for axis in "XYZ")
RATES = tuple(number(f"Imu.AngularVelocity.{axis}") for axis in "XYZ")
UPRIGHT = Mount(t_ns=0, gravity=(0.0, 0.0, 1.0), forward=(1.0, 0.0, 0.0), confidence=0.9)


def main() -> None:
    """Print cost, ratios, the limit, and latency."""
    rough = road(SECONDS, 3.0)
    calm = road(SECONDS, 0.2)
    small = rough[: len(rough) // SECONDS * PYTHON_SECONDS]
    detect(small)
    costs = {
        "crash detector, rough road": min(timed(lambda: detect(rough)) for _ in range(3)) / SECONDS,
        "crash detector, calm road": min(timed(lambda: detect(calm)) for _ in range(3)) / SECONDS,
        "plain numpy, ΔV alone": min(timed(lambda: plain_numpy(rough)) for _ in range(3)) / SECONDS,
        "plain Python of the kernel": timed(lambda: detect(small, plain())) / PYTHON_SECONDS,
        "memory copy (limit)": min(timed(lambda: [b.copy() for b in batches(rough)]) for _ in range(3)) / SECONDS,
    }
    print(f"{HZ} Hz accelerometer and gyroscopes in batches of {BATCH_S:g} s; CPU time of one core")
    for name, cost in costs.items():
        share = costs["plain numpy, ΔV alone"] / cost
        print(f"{name:28} {cost:9.4%} of a core {1 / cost:10,.0f} × real time {share:8.2f} × plain numpy")
    latency()


def road(seconds: int, rough_mps2: float) -> Block:
    """A road with wheel hop and sensor noise, at `HZ`, with a GNSS speed."""
    rng = np.random.default_rng(1)
    n = seconds * HZ
    t = np.arange(n) / HZ
    hop = np.convolve(
        rng.normal(0, 1, n), np.sin(2 * np.pi * 11 * np.arange(100) / HZ) * np.exp(-np.arange(100) / 40), "same"
    )
    push = rng.normal(0, 0.1, (n, 3)) + rough_mps2 * (hop / hop.std())[:, None] * np.array([0.4, 0.4, 1.0])
    return laid_out(t, push, rng.normal(0, 2.0, (n, 3)))


def laid_out(t: npt.NDArray[np.float64], push: npt.NDArray[np.float64], turn: npt.NDArray[np.float64]) -> Block:
    """Lay out samples as the driver does: six axes to each time."""
    block = np.empty((len(t), 6), BLOCK)
    block["t"] = np.round(t * 1e9).astype(np.int64)[:, None]
    block["channel"] = AXES + RATES
    block["value"][:, :3], block["value"][:, 3:] = push + np.array([0.0, 0.0, G]), turn
    speed = np.zeros(int(t[-1] * 10) + 1, BLOCK)
    speed["t"], speed["channel"], speed["value"] = np.arange(len(speed)) * 100_000_000, number("Gnss.Speed"), 14.0
    joined = np.concatenate([block.ravel(), speed])
    return joined[np.argsort(joined["t"], kind="stable")]


def batches(block: Block) -> list[Block]:
    """Cut as the driver does."""
    edges = np.searchsorted(block["t"], np.arange(0, int(block["t"][-1]), round(BATCH_S * 1e9)))
    return np.split(block, edges[1:])


def detect(block: Block, collide: Any = None) -> list[Any]:
    """Run the detector in batches."""
    detector = CrashDetector(CrashSettings(), "bench", UPRIGHT)
    if collide is not None:
        detector._collide = collide
    none = empty_state()
    found: list[Any] = []
    for batch in batches(block):
        found += detector.step(batch, none)
    return found + detector.finish()


def plain_numpy(block: Block) -> float:
    """Return the largest horizontal velocity change within 150 ms, m/s."""
    window = round(0.15 * HZ)
    tail = np.zeros((window, 2))
    gravity = np.zeros(2)
    most = 0.0
    for batch in batches(block):
        axes = np.stack([batch["value"][batch["channel"] == axis] for axis in AXES[:2]], axis=1)
        gravity += 0.01 * (axes.mean(axis=0) - gravity)
        velocity = np.concatenate([tail, tail[-1] + np.cumsum(axes - gravity, axis=0) / HZ])
        for back in range(1, window + 1):
            most = max(most, float(np.hypot(*(velocity[window:] - velocity[window - back : -back]).T).max()))
        tail = velocity[-window:] - velocity[-1]
    return most


def plain() -> Any:
    """Return the kernel's plain-Python self."""
    spec = importlib.util.find_spec("agent.crash.kernel")
    assert spec is not None
    copy = importlib.util.module_from_spec(spec)
    vars(copy).update(vars(kernel))
    for name, value in list(vars(kernel).items()):
        if hasattr(value, "py_func"):
            setattr(copy, name, types.FunctionType(value.py_func.__code__, vars(copy), name))

    def collide(*arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            views = (a.view(np.recarray) if isinstance(a, np.ndarray) and a.dtype.names else a for a in arguments)
            return copy.collide(*views)

    return collide


def latency() -> None:
    """Print how much signal passes between contact, threshold and the record."""
    rng = np.random.default_rng(2)
    print(f"{'half-sine pulse':24} {'threshold':>10} {'told':>10} {'told after threshold':>22}")
    for peak_g, seconds in ((5, 0.1), (10, 0.1), (20, 0.08), (40, 0.09)):
        t = np.arange(20 * HZ) / HZ
        push = rng.normal(0, 0.1, (len(t), 3))
        x = (t - 12.0) / seconds
        push[:, 0] -= peak_g * G * np.where((x > 0) & (x < 1), np.sin(np.pi * x), 0.0)
        velocity = np.cumsum(push[:, 0]) / HZ
        reached = t[np.flatnonzero(np.abs(velocity - velocity[12 * HZ])[12 * HZ :] >= 8 * KMH)[0] + 12 * HZ]
        detector = CrashDetector(CrashSettings(), "bench", UPRIGHT)
        block = laid_out(t, push, rng.normal(0, 0.2, push.shape))
        for first in range(0, len(block), 6):
            found = detector.step(block[first : first + 6], empty_state())
            if any(isinstance(one, Crash) for one in found):
                told = block["t"][min(first + 5, len(block) - 1)] / 1e9
                break
        print(
            f"{peak_g:3} g, {seconds * 1e3:3.0f} ms          {(reached - 12) * 1e3:8.1f} ms {(told - 12) * 1e3:8.1f} ms"
            f" {(told - reached) * 1e3:19.1f} ms"
        )


def timed(work: Callable[[], object]) -> float:
    """Return the CPU seconds that `work` takes."""
    before = time.process_time()
    work()
    return time.process_time() - before


if __name__ == "__main__":
    main()
