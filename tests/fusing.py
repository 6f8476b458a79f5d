"""Small drives with known truth for fusion's tests: plain numpy, nothing of the product's simulator."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.blocks import BLOCK, Block
from agent.channels import number
from agent.fuse.fusion import Fusion
from agent.fuse.settings import FusionSettings
from agent.records import Mount
from agent.state import State

Floats = npt.NDArray[np.float64]
G = 9.80665
DT = 0.01


@dataclass
class Path:
    """What the car really did, every 10 ms: m/s, m/s², deg/s (left positive), slope as rise over run."""

    speed: Floats
    accel: Floats
    yaw: Floats
    slope: Floats

    @property
    def t(self) -> Floats:
        return np.arange(len(self.speed)) * DT


def turned(yaw: float, pitch: float, roll: float) -> Floats:
    """The matrix from vehicle axes to box axes of a box turned by these angles in degrees."""
    a, b, c = np.radians([yaw, pitch, roll])
    z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    x = np.array([[1, 0, 0], [0, np.cos(c), -np.sin(c)], [0, np.sin(c), np.cos(c)]])
    return np.asarray((z @ y @ x).T)


def town(seed: int, minutes: float, steepest: float = 0.1, stops: bool = True) -> Path:
    """Start, cruise with bends, brake, stand; hills up to `steepest`."""
    rng = np.random.default_rng(seed)
    accel: list[Floats] = [np.zeros(500)]
    yaw: list[Floats] = [np.zeros(500)]
    v = 0.0
    while sum(map(len, accel)) * DT < minutes * 60:
        top = rng.uniform(8, 22)
        for goal, rate in ((top, rng.uniform(0.8, 2.4)), (0.0 if stops else rng.uniform(4, 8), rng.uniform(1.0, 2.8))):
            n = max(int(abs(goal - v) / rate / DT), 1)
            shape = np.sin(np.linspace(0, np.pi, n)) ** 0.5
            a = (goal - v) * shape / (shape.sum() * DT)
            accel.append(a)
            yaw.append(np.zeros(n))
            v = goal
            n = int(rng.uniform(6, 20) / DT)
            bend = np.zeros(n)
            if goal == top:
                for start in range(0, n - 500, 600):
                    bend[start : start + 400] = rng.uniform(-16, 16) * np.sin(np.linspace(0, np.pi, 400)) ** 2
            accel.append(np.zeros(n))
            yaw.append(bend)
    a, w = np.concatenate(accel), np.concatenate(yaw)
    speed = np.clip(np.cumsum(a) * DT, 0, None)
    way = np.cumsum(speed) * DT
    slope = steepest * (0.7 * np.sin(way / 300 + seed) + 0.3 * np.sin(way / 110))
    return Path(speed, a, w, slope)


def samples(t: Floats, channel: str, values: Floats) -> Block:
    """One channel as a block."""
    block = np.zeros(len(values), BLOCK)
    block["t"] = np.round(t * 1e9).astype(np.int64)
    block["channel"] = number(channel)
    block["value"] = values
    return block


def merged(*blocks: Block) -> Block:
    """Blocks in time order."""
    block = np.concatenate(blocks)
    return block[np.argsort(block["t"], kind="stable")]


def imu(path: Path, mount: Floats | list[Floats], seed: int = 0, noise: float = 0.2, quantum: float = 0.01) -> Block:
    """A 100 Hz box: noise, bias, quantisation; `mount` may be one matrix per sample."""
    rng = np.random.default_rng(seed)
    angle = np.arctan(path.slope)
    truth = np.stack([path.accel + G * np.sin(angle), path.speed * np.radians(path.yaw), G * np.cos(angle)], axis=1)
    turn = np.stack([np.zeros_like(path.yaw), np.zeros_like(path.yaw), path.yaw], axis=1)
    matrix = np.asarray(mount)
    rotate = "ij,nj->ni" if matrix.ndim == 2 else "nij,nj->ni"
    force = np.einsum(rotate, matrix, truth) + rng.normal(0, noise, truth.shape) + rng.uniform(-0.1, 0.1, 3)
    rate = np.einsum(rotate, matrix, turn) + rng.normal(0, 0.2, turn.shape) + rng.uniform(-0.8, 0.8, 3)
    parts = [
        samples(path.t, f"Imu.{what}.{axis}", np.round(values[:, i] / quantum) * quantum)
        for what, values in (("Acceleration", force), ("AngularVelocity", rate))
        for i, axis in enumerate("XYZ")
    ]
    return merged(*parts)


def obd(path: Path, hz: float = 2.0) -> Block:
    """Integer km/h."""
    every = round(1 / hz / DT)
    return samples(path.t[::every], "Obd.Speed", np.floor(path.speed[::every] * 3.6) / 3.6)


def gnss(path: Path, seed: int = 0) -> Block:
    """1 Hz, 50 mm/s noise."""
    rng = np.random.default_rng(seed)
    speed = np.abs(path.speed[::100] + rng.normal(0, 0.05, len(path.speed[::100])))
    return samples(path.t[::100], "Gnss.Speed", speed)


def wheels(path: Path) -> Block:
    """Four wheels at 50 Hz."""
    names = [f"Vehicle.Chassis.Axle.Row{r}.Wheel.{s}.Speed" for r in (1, 2) for s in ("Left", "Right")]
    return merged(*(samples(path.t[::2], name, path.speed[::2]) for name in names))


def fused(block: Block, mount: Mount | None = None) -> tuple[State, Fusion]:
    """All rows of one block, and the fusion that gave them."""
    fusion = Fusion(FusionSettings(), mount)
    return np.concatenate([fusion.step(block), fusion.finish()]), fusion


def error_deg(found: tuple[float, float, float], true: Floats) -> float:
    """The angle between two directions."""
    return float(np.degrees(np.arccos(np.clip(np.dot(found, true), -1, 1))))
