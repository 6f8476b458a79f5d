"""What every driver of a device promises, run for every row of DRIVERS; a driver's far end is `tests/rigs/<name>.py`.

That module has RIGS, a tuple of classes. A rig makes a `driver()`, lets the far end `speak(n)` (valid data that give
n samples or more), `garble(noise)`, be `unplug()`ged, and is closed with `close()`.
"""

import random
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.blocks import BLOCK
from agent.channels import BY_NUMBER
from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import DriverError
from drivers import DRIVERS, driver_class

# What no far end speaks to: each has these promises in a suite of its own
NO_DEVICE = {
    "replay",  # reads files, ends with None, cannot be unplugged: tests/test_replay_driver.py
    "power",  # looks at files when it is time, so that it is never silent: tests/test_power.py
}
PATIENCE_S = 30.0


def rig_classes() -> list[Any]:
    found = []
    for name in sorted(DRIVERS.keys() - NO_DEVICE):
        if (Path(__file__).parent / "rigs" / f"{name}.py").exists():
            rigs = import_module(f"tests.rigs.{name}").RIGS
            found += [pytest.param(rig, id=f"{name}-{rig.__name__}") for rig in rigs]
    return found


@pytest.fixture(params=rig_classes())
def rig(request: Any) -> Iterator[Any]:
    made = request.param()
    yield made
    made.close()


def read_until(driver: Any, enough: int) -> list[np.ndarray]:
    """Read blocks until they hold `enough` samples."""
    blocks: list[np.ndarray] = []
    deadline_ns = monotonic_ns() + round(PATIENCE_S * NS_PER_S)
    while sum(len(b) for b in blocks) < enough:
        assert monotonic_ns() < deadline_ns, "the samples did not come"
        blocks.append(driver.read(0.05))
    return blocks


def test_every_driver_of_a_device_has_a_rig_here():
    missing = {n for n in DRIVERS.keys() - NO_DEVICE if not (Path(__file__).parent / "rigs" / f"{n}.py").exists()}
    assert not missing, "add tests/rigs/<name>.py with RIGS, as tests/rigs/canbus.py has"


def test_a_driver_in_the_table_is_the_class_it_names():
    for name in DRIVERS:
        assert {"open", "read", "close"} <= set(dir(driver_class(name))), name


def test_a_constructor_does_no_io_and_names_the_driver(rig):
    driver = rig.driver()
    assert driver.name
    driver.close()
    driver.close()


def test_a_silent_device_gives_empty_blocks_in_time(rig):
    driver = rig.driver()
    driver.open()
    try:
        began_ns = monotonic_ns()
        block = driver.read(0.05)
        assert monotonic_ns() - began_ns < 20 * NS_PER_S
        assert block is not None
        assert block.dtype == BLOCK
        assert len(block) == 0
        assert len(driver.read(0.0)) == 0
    finally:
        driver.close()


def test_what_the_device_says_comes_as_known_channels_with_times_that_never_fall(rig):
    driver = rig.driver()
    driver.open()
    try:
        before_ns = monotonic_ns() - NS_PER_S
        rig.speak(5)
        blocks = read_until(driver, 5)
        rig.speak(20)
        blocks += read_until(driver, 20)
        samples = np.concatenate(blocks)
        assert np.all(np.diff(samples["t"]) >= 0)
        assert before_ns <= samples["t"][0] <= samples["t"][-1] <= monotonic_ns()
        assert set(samples["channel"].tolist()) <= set(BY_NUMBER)
        assert np.isfinite(samples["value"]).all()
    finally:
        driver.close()


def test_garbage_raises_nothing_and_is_followed_by_what_is_right(rig):
    driver = rig.driver()
    driver.open()
    chance = random.Random(3)
    try:
        for size in (1, 7, 16, 40, 72, 200):
            rig.garble(chance.randbytes(size))
            driver.read(0.02)
        rig.speak(5)
        read_until(driver, 5)
        if hasattr(driver, "counts"):
            assert sum(driver.counts.values()) > 0
    finally:
        driver.close()


def test_unplugging_raises_a_driver_error_of_one_line(rig):
    driver = rig.driver()
    driver.open()
    try:
        rig.unplug()
        with pytest.raises(DriverError) as raised:
            read_until(driver, 1_000_000)
        assert "\n" not in str(raised.value)
    finally:
        driver.close()
        driver.close()


def test_a_driver_can_be_opened_again(rig):
    driver = rig.driver()
    for _ in range(2):
        driver.open()
        try:
            rig.speak(3)
            read_until(driver, 3)
        finally:
            driver.close()
