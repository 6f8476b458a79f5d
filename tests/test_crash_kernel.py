"""The crash kernel is its plain-Python self, and its state does not depend on how the samples were cut."""

import importlib.util
import types
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from crash_signals import block_of, detect, half_sine, hit, random_mount, ride
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import Block
from agent.crash import kernel, stream
from agent.crash.settings import CrashSettings


def plain() -> types.ModuleType:
    """A second copy of the kernel's module in which every kernel is its plain-Python self."""
    spec = importlib.util.find_spec("agent.crash.kernel")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in list(vars(module).items()):
        if hasattr(value, "py_func"):
            code = value.py_func
            setattr(module, name, types.FunctionType(code.__code__, vars(module), name, code.__defaults__))
    return module


PLAIN = plain()


class Walk:
    """The kernel's state, and what it told."""

    def __init__(self, collide: Any, as_records: bool) -> None:
        self.collide = collide
        self.table, self.parameters, self.stream = (
            stream.uses(),
            stream.parameters(CrashSettings()),
            stream.new_stream(),
        )
        self.ring, self.times = np.zeros((stream.RING, stream.COLUMNS)), np.zeros(stream.RING, np.int64)
        self.tally, self.notes = np.zeros(len(stream.COUNTS), np.int64), np.zeros(stream.NOTES, stream.NOTE)
        self.told: list[bytes] = []
        self.view = (lambda a: a.view(np.recarray)) if as_records else (lambda a: a)

    def step(self, block: Block, wakes: list[int]) -> None:
        i = 0
        while i < len(block):
            if int(self.stream["wake"][0]) == stream.ALWAYS_NS and wakes:
                self.stream["wake"] = wakes.pop(0)
            i, n = self.collide(
                self.view(block),
                i,
                self.view(self.table),
                self.view(self.parameters),
                self.view(self.stream),
                self.ring,
                self.times,
                self.tally,
                self.view(self.notes),
            )
            self.told += [note.tobytes() for note in self.notes[:n]]

    def state(self) -> tuple[bytes, ...]:
        """Everything that it remembers."""
        return (self.stream.tobytes(), self.ring.tobytes(), self.times.tobytes(), self.tally.tobytes(), *self.told)


def everything(seed: int, hz: float) -> Block:
    """A short ride with a knock, a crash, a roll, speeds of every source and some that vanish, flags and nonsense."""
    rng = np.random.default_rng(seed)
    of = ride(rng, hz, 4.5, 0.3, 0.3)
    of.push[:, 2] += 30 * half_sine(of.t, 1.2, 0.03)
    hit(of, 1.9, rng.uniform(5, 60), rng.uniform(0.02, 0.1), rng.uniform(0, 360))
    assert of.turn is not None
    of.turn[of.t > 2.2, 0] += rng.uniform(0, 200)
    for name in ("Wheel.Speed", "Vehicle.Speed", "Obd.Speed", "Gnss.Speed"):
        of.says(name, lambda t: np.where(t < rng.uniform(1, 4), 16.0, rng.uniform(0, 16)), rng.uniform(1, 50))
    for row in (1, 2):
        for side in ("Left", "Right"):
            of.says(f"Vehicle.Chassis.Axle.Row{row}.Wheel.{side}.Speed", lambda t: np.where(t < 3, 14.0, 0.0), 20.0)
    of.says("Vehicle.Safety.IsFuelCutOff", lambda t: (t > 2).astype(float), 10.0)
    of.says("Imu.Clipped", lambda t: (np.abs(t - 2) < 0.05).astype(float), 20.0).says("Obd.EngineSpeed", 900.0)
    of.says("Gnss.FixType", 3.0).says("Vehicle.Chassis.Brake.IsPressed", 1.0)
    block = block_of(of, random_mount(rng), float(rng.choice([2, 8, 16])))
    kept = rng.random(len(block)) > 0.01
    block["value"][rng.random(len(block)) < 0.001] = np.nan
    block["value"][rng.random(len(block)) < 0.001] = 1e9
    return block[kept]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([50.0, 100.0, 400.0]), st.lists(st.integers(0, 2500), max_size=12))
def test_the_kernel_is_its_plain_python_self(seed: int, hz: float, cuts: list[int]) -> None:
    block = everything(seed, hz)
    compiled, python = Walk(kernel.collide, as_records=False), Walk(PLAIN.collide, as_records=True)
    edges = sorted({0, len(block), *(c for c in cuts if c < len(block))})
    compiled.step(block, [1_500_000_000, 2_000_000_000])
    wakes = [1_500_000_000, 2_000_000_000]
    with np.errstate(all="ignore"):
        for a, b in pairwise(edges):
            python.step(block[a:b], wakes)
    assert python.state() == compiled.state()
    assert len(compiled.told) >= 2


def test_a_wake_comes_before_the_first_sample_from_its_time_on() -> None:
    of = ride(np.random.default_rng(1), 100.0, 2.0)
    walk = Walk(kernel.collide, as_records=False)
    block = block_of(of)
    walk.stream["wake"] = 1_000_000_000
    i, n = kernel.collide(
        block, 0, walk.table, walk.parameters, walk.stream, walk.ring, walk.times, walk.tally, walk.notes
    )
    assert (n, int(walk.notes["kind"][0])) == (1, stream.WAKE)
    assert block["t"][i] >= 1_000_000_000 > block["t"][i - 1]


@pytest.mark.parametrize("hz", [400.0, 1000.0])
def test_the_filter_is_cfc_60(hz: float) -> None:
    """SAE J211-1 appendix C: two poles; one pass is 3 dB down at 2.0775 × 60 Hz, two passes at 100 Hz."""
    gains = []
    for tone in (10.0, stream.DESIGN_HZ, 180.0):
        of = ride(np.random.default_rng(1), hz, 3.0, 0.0)
        of.push[:, 0] += 5.0 * np.sin(2 * np.pi * tone * of.t)
        _, detector = detect(block_of(of))
        settled = detector._times > 2_000_000_000
        gains.append(float(np.sqrt(2 * np.mean(detector._ring[settled, stream.AX] ** 2))) / 5.0)
    assert gains[0] == pytest.approx(1.0, abs=0.02)
    assert gains[1] == pytest.approx(np.sqrt(0.5), abs=0.03)
    assert gains[2] < 0.55


def test_below_300_hz_the_sensors_own_low_pass_has_to_do() -> None:
    of = ride(np.random.default_rng(1), 100.0, 3.0, 0.0)
    of.push[:, 0] += 3.0 * np.sin(2 * np.pi * 40.0 * of.t)
    _, detector = detect(block_of(of))
    assert float(np.abs(detector._ring[:300, stream.AX]).max()) > 2.7
