"""The inertial sensor: is it there, how fast and how noisy, does it feel gravity, is it at its rails, is it mounted."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np

from agent import clock
from agent.blocks import Block, empty_block, join_blocks
from agent.channels import number
from agent.clock import NS_PER_S
from agent.doctor.can import without
from agent.doctor.finding import Facts, Finding, ill, well
from agent.doctor.seen import Seen
from agent.errors import DriverError, StoreError
from agent.records import Event, Mount
from agent.vectors import length
from drivers import Driver
from drivers.imu import Imu

LISTEN_S: Final = 2.5
STORED_S: Final = 6.0
AXES: Final = tuple(number(f"Imu.Acceleration.{axis}") for axis in "XYZ")
CLIPPED: Final = number("Imu.Clipped")
G: Final = 9.80665
G_OFF: Final = 0.06  # share: zero-g offset of 60 mg (ICM-20600 and LSM6DS3 data sheets: 40-60 mg) and calibration
DRIVING_OFF: Final = 0.25  # share: a mean over seconds of driving stays within a quarter of g
SLOW_SHARE: Final = 0.8
CRASH_HZ: Final = 50.0  # ΔV in 150 ms needs 7 samples and more (docs/sources.md C1)
STILL: Final = 0.25  # m/s² rms: an engine may idle, nothing drives (docs/sources.md P1)
USE: Final = 0.5  # confidence of the mount from which it is used (fusion.use_confidence)
_CAUSES: Final = (
    ("no sample for", "imu_silent"),
    ("disappeared", "imu_missing"),
    ("needs a trigger", "imu_trigger"),
    ("may this user", "not_permitted"),
    ("Permission denied", "not_permitted"),
    ("no accelerometer", "imu_missing"),
    ("is not below", "imu_missing"),
)


def cause_of(error: str) -> str:
    """Return the code of what the driver complains of."""
    return next((code for words, code in _CAUSES if words in error), "imu_missing")


def devices(seen: Seen) -> list[Callable[[Seen], Iterator[Finding]]]:
    """Return what judges each configured sensor, then how the box is mounted."""
    sensors: list[Callable[[Seen], Iterator[Finding]]] = [partial(_sensor, driver) for driver in seen.drivers("imu")]
    return [*sensors, _mount] if sensors else []


def _sensor(driver: Driver, seen: Seen) -> Iterator[Finding]:
    assert isinstance(driver, Imu)
    return _of_daemon(seen, driver) if seen.held else _ourselves(seen, driver)


def _of_daemon(seen: Seen, driver: Imu) -> Iterator[Finding]:
    name = driver.name
    device = seen.device(name)
    trouble = without(seen, device, name, "imu.sensor")
    if trouble is not None:
        yield trouble
        return
    assert device is not None
    if device.state == "lost":
        yield ill("fail", "imu.sensor", cause_of(device.error), device.error, device=name)
        return
    both = seen.two(name)
    if both is None:
        yield ill("unknown", "imu.sensor", "agent_not_asked", "the agent did not answer again", device=name)
        return
    first, second, seconds = both
    scans = second.counts.get("samples", 0) - first.counts.get("samples", 0)
    yield from _rate(scans / seconds, driver.rate_hz, name)
    if device.healths.get(name) == "degraded":
        yield ill("fail", "imu.values", "imu_stuck", "the same values again and again", device=name)
        return
    clipped = second.counts.get("clipped", 0) - first.counts.get("clipped", 0)
    try:
        now_ns = clock.monotonic_ns()
        with seen.store() as store:
            block = store.read_block(now_ns - round(STORED_S * NS_PER_S), now_ns, seen.boot, [*AXES, CLIPPED])
    except StoreError:
        block = empty_block()
    yield from _values(block, clipped, name)


def _ourselves(seen: Seen, driver: Imu) -> Iterator[Finding]:
    name, asked_hz = driver.name, driver.rate_hz
    seen.release.append(driver.close)
    blocks: list[Block] = []
    begun_ns = clock.monotonic_ns()
    try:
        driver.open()
        begun_ns = clock.monotonic_ns()
        until_ns = begun_ns + round(min(LISTEN_S, seen.left_s()) * NS_PER_S)
        while (left_ns := until_ns - clock.monotonic_ns()) > 0:
            blocks.append(driver.read(min(0.25, left_ns / NS_PER_S)))
    except DriverError as error:
        yield ill("fail", "imu.sensor", cause_of(str(error)), str(error), device=name)
        return
    finally:
        driver.close()
    seconds = (clock.monotonic_ns() - begun_ns) / NS_PER_S
    block = join_blocks(blocks)
    scans = driver.counts["samples"]
    if not scans:
        yield ill("fail", "imu.sensor", "imu_silent", f"no sample in {seconds:.1f} s", device=name)
        return
    yield from _rate(scans / seconds, asked_hz, name)
    yield from _values(block, driver.counts["clipped"], name)


def _rate(rate_hz: float, asked_hz: float, name: str) -> Iterator[Finding]:
    text = f"{rate_hz:.0f} of {asked_hz:.0f} samples a second"
    facts: Facts = {"rate_hz": round(rate_hz, 1), "asked_hz": asked_hz}
    if rate_hz <= 0:
        yield ill("fail", "imu.sensor", "imu_silent", text, device=name, **facts)
    elif rate_hz < SLOW_SHARE * min(asked_hz, CRASH_HZ) or rate_hz < 0.5 * asked_hz:
        yield ill("warn", "imu.sensor", "imu_slow", text, device=name, **facts)
    else:
        yield well("imu.sensor", text, device=name, **facts)


def _values(block: Any, clipped: int, name: str) -> Iterator[Finding]:
    """Judge gravity, noise and rails by a few seconds of samples."""
    axes = [block["value"][block["channel"] == axis] for axis in AXES]
    n = min(len(axis) for axis in axes)
    if n < 10:
        if clipped:
            yield ill("fail", "imu.values", "imu_clipped", f"at its rails {clipped} times", device=name, times=clipped)
        else:
            yield ill("unknown", "imu.values", "imu_not_kept", "no samples to look at", device=name)
        return
    xyz = np.array([axis[:n] for axis in axes])
    g = length(xyz.mean(axis=1))
    noise = float(np.sqrt(xyz.var(axis=1).sum()))
    text = f"gravity {g:.2f} m/s², noise {noise:.3f} m/s²"
    facts: Facts = {"gravity_mps2": round(g, 3), "noise_mps2": round(noise, 4), "clipped": clipped}
    share = abs(g - G) / G
    if clipped:
        yield ill("fail", "imu.values", "imu_clipped", f"at its rails {clipped} times", device=name, **facts)
    elif noise == 0.0:
        yield ill("fail", "imu.values", "imu_stuck", "the same values again and again", device=name, **facts)
    elif share > DRIVING_OFF or (share > G_OFF and noise < STILL):
        yield ill("fail", "imu.values", "imu_gravity", text, device=name, **facts)
    else:
        yield well("imu.values", text, device=name, **facts)


def _mount(seen: Seen) -> Iterator[Finding]:
    """Judge what fusion has learned of how the box sits, and whether it was moved since."""
    try:
        with seen.store() as store:
            mounts = store.records(Mount)
            moved = [s for s in store.records(Event) if s.record.kind == "device_moved"]
    except StoreError:
        mounts, moved = [], []
    if not mounts:
        yield ill("warn", "imu.mount", "mount_not_learned", "not learned yet: no drive so far", confidence=0.0)
        return
    last = mounts[-1]
    confidence = last.record.confidence
    text = f"known to {confidence:.0%}"
    later = [s for s in moved if s.boot == last.boot and s.record.t_ns > last.record.t_ns]
    if later:
        yield ill("warn", "imu.mount", "box_moved", "the box was moved since it was learned", confidence=confidence)
    elif confidence < USE:
        yield ill("warn", "imu.mount", "mount_not_learned", text, confidence=round(confidence, 2))
    else:
        yield well("imu.mount", text, confidence=round(confidence, 2))
