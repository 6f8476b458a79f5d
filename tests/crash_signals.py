"""Collisions and what only looks like one, as a box would feel them: plain numpy, nothing of the product's simulator.

Axes are ISO 8855 (x forward, y left, z up); directions are where the force comes from, clockwise from the front.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from agent.blocks import BLOCK, Block
from agent.channels import number
from agent.crash.detector import CrashDetector
from agent.crash.settings import CrashSettings
from agent.records import Crash, Event, Mount
from agent.state import empty_state

Floats = npt.NDArray[np.float64]
G = 9.80665
KMH = 1 / 3.6
MEAN = {"half-sine": 2 / np.pi, "haversine": 0.5, "square": 1.0, "triangle": 0.5}
OUTPUT = list[Crash | Event]


@dataclass
class Ride:
    """What the box feels in vehicle axes without gravity, m/s² and deg/s, and what else speaks."""

    t: Floats  # s
    push: Floats  # [n, 3]
    turn: Floats | None = None  # [n, 3]
    others: list[tuple[str, Floats, Floats]] = field(default_factory=list)  # channel, times in s, values

    def says(self, channel: str, values: Floats | float, hz: float = 10.0) -> "Ride":
        """Add a channel that speaks at `hz` throughout."""
        t = np.arange(0.0, self.t[-1], 1.0 / hz)
        self.others.append((channel, t, np.broadcast_to(values, t.shape) if np.isscalar(values) else values(t)))  # type: ignore[operator]
        return self


def ride(rng: np.random.Generator, hz: float, seconds: float, noise: float = 0.1, jitter: float = 0.0) -> Ride:
    """A calm ride: noise of the sensor and of the road; `jitter` as a share of a period."""
    n = int(seconds * hz)
    t = (np.arange(n) + 0.5 + rng.uniform(-jitter, jitter, n)) / hz
    return Ride(t, rng.normal(0, noise, (n, 3)), rng.normal(0, 0.2, (n, 3)))


def half_sine(t: Floats, start: float, seconds: float) -> Floats:
    """A half-sine of height 1."""
    x = (t - start) / seconds
    return np.where((x > 0) & (x < 1), np.sin(np.pi * x), 0.0)


def shape_of(shape: str, x: Floats) -> Floats:
    """A pulse of height 1 over 0..1."""
    inside = (x > 0) & (x < 1)
    value = {
        "half-sine": np.sin(np.pi * x),
        "haversine": np.sin(np.pi * x) ** 2,
        "square": np.ones_like(x),
        "triangle": 1 - np.abs(2 * x - 1),
    }[shape]
    return np.where(inside, value, 0.0)


def hit(
    of: Ride, at_s: float, change_kmh: float, seconds: float, from_deg: float = 0.0, shape: str = "half-sine"
) -> Ride:
    """Add a collision: the sensor's samples are means over its own period, as behind its low-pass."""
    fine = np.arange(at_s - 0.05, at_s + seconds + 0.05, 1e-4)
    pulse = change_kmh * KMH / seconds / MEAN[shape] * shape_of(shape, (fine - at_s) / seconds)
    velocity = np.concatenate([[0.0], np.cumsum(pulse) * 1e-4])
    edges = np.concatenate([fine, [fine[-1] + 1e-4]])
    period = float(np.median(np.diff(of.t)))
    felt = np.interp(of.t + period / 2, edges, velocity) - np.interp(of.t - period / 2, edges, velocity)
    angle = np.radians(from_deg)
    of.push += (felt / period)[:, None] * np.array([-np.cos(angle), np.sin(angle), 0.0])
    return of


def random_mount(rng: np.random.Generator) -> Floats:
    """A rotation matrix from vehicle to box axes."""
    w, x, y, z = (q := rng.standard_normal(4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def mount_of(turned: Floats) -> Mount:
    """What fusion would have learned of such a mount."""
    up, ahead = turned[:, 2], turned[:, 0]
    return Mount(
        t_ns=0,
        gravity=(float(up[0]), float(up[1]), float(up[2])),
        forward=(float(ahead[0]), float(ahead[1]), float(ahead[2])),
        confidence=0.9,
    )


def block_of(of: Ride, turned: Floats | None = None, range_g: float | None = None) -> Block:
    """Lay a ride out as the samples of a box mounted so, with a sensor that ends at `range_g`."""
    turned = np.eye(3) if turned is None else turned
    force = (of.push + np.array([0.0, 0.0, G])) @ turned.T
    if range_g is not None:
        force = np.clip(force, -range_g * G, range_g * G)
    columns = [(f"Imu.Acceleration.{axis}", of.t, force[:, i]) for i, axis in enumerate("XYZ")]
    if of.turn is not None:
        rate = of.turn @ turned.T
        columns += [(f"Imu.AngularVelocity.{axis}", of.t, rate[:, i]) for i, axis in enumerate("XYZ")]
    parts = []
    for name, t, values in columns + of.others:
        part = np.zeros(len(t), BLOCK)
        part["t"], part["channel"], part["value"] = np.round(np.asarray(t) * 1e9), number(name), values
        parts.append(part)
    joined = np.concatenate(parts)
    return joined[np.argsort(joined["t"], kind="stable")]


def detect(block: Block, mount: Mount | None = None, *, cuts: list[int] | None = None) -> tuple[OUTPUT, CrashDetector]:
    """Run the detector over `block` cut at `cuts`; return what it found, and it."""
    detector = CrashDetector(CrashSettings(), "boot", mount)
    found: OUTPUT = []
    edges = sorted({0, len(block), *(cuts or [])})
    for a, b in pairwise(edges):
        found += detector.step(block[a:b], empty_state())
    return found + detector.finish(), detector


def crashes(found: OUTPUT) -> list[Crash]:
    """The complete records among what was found; each must have been told before, with the same time zero."""
    first = {c.id: c for c in found if isinstance(c, Crash) and not c.complete}
    last = [c for c in found if isinstance(c, Crash) and c.complete]
    assert {c.id for c in last} == set(first)
    assert all(c.t_ns == first[c.id].t_ns and c.known_ns == first[c.id].known_ns for c in last)
    assert len(last) == len(first)
    return last


def bumps(found: OUTPUT) -> list[Event]:
    """What was no crash."""
    return [e for e in found if isinstance(e, Event)]
