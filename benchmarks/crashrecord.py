"""The crash record: what the rings cost, and how soon after time zero everything is on disk.

The alternatives: a Python deque for each channel, which is how such rings are usually written; csv.writer for the
tables; one bare fsync of the same bytes for the disk.
"""

import csv
import io
import os
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from agent import clock
from agent.blocks import BLOCK, Block, empty_block, join_blocks
from agent.channels import number
from agent.consent.settings import ConsentSettings
from agent.daemon import Daemon, Place
from agent.incident.folder import PACKAGES, RECORD, write_files
from agent.incident.recorder import Draft, Recorder
from agent.incident.rings import Rings
from agent.incident.settings import IncidentSettings
from agent.link import BrokerSettings
from agent.records import Crash, incident_id
from agent.settings import AgentConfig
from agent.store import Store

S: Final = clock.NS_PER_S
SECONDS: Final = 90
HIT_S: Final = 70
IMU_HZ: Final = 1000
RUNS: Final = 10
# elements of a car that gives everything, at the rates of a modern bus
CAR: Final = (
    "Vehicle.Speed",
    "Vehicle.Chassis.Accelerator.PedalPosition",
    "Vehicle.Chassis.Brake.IsPressed",
    "Vehicle.Powertrain.CombustionEngine.Speed",
    "Vehicle.Chassis.SteeringWheel.Angle",
    "Vehicle.AngularVelocity.Yaw",
    *(f"Vehicle.Chassis.Axle.Row{row}.Wheel.{side}.Speed" for row in (1, 2) for side in ("Left", "Right")),
)
OTHERS: Final = ("Obd.CoolantTemperature", "Obd.FuelLevel", "Vehicle.Exterior.AirTemperature")  # in no table
FIX: Final = ("Gnss.Latitude", "Gnss.Longitude", "Gnss.Speed", "Gnss.Heading", "Gnss.HorizontalAccuracy")


def main() -> None:
    """Print the cost of the rings, of a draft, of writing it, and the time from time zero to the disk."""
    block = drive(IMU_HZ)
    rings(block)
    (draft,) = tables(block)
    disk(draft)
    daemon()


def rings(block: Block) -> None:
    """Print ns per sample in blocks of 0.1 s, as they come in a car, and of 10 s."""
    print(f"{len(block):,} samples of {SECONDS} s: IMU 6 x {IMU_HZ} Hz, {len(CAR)} signals at 100 Hz, fixes at 1 Hz")
    usual = timed(lambda: in_deques(block)) / len(block)
    rows = [("a deque for each channel", usual)]
    for step_s in (0.1, 10.0):
        cuts = np.searchsorted(block["t"], np.arange(step_s, SECONDS, step_s) * S)
        parts = np.split(block, cuts)
        rows.append(
            (f"rings, blocks of {step_s:g} s", min(timed(lambda p=parts: fill(p)) for _ in range(5)) / len(block))
        )
    rows.append(("memory copy (limit)", min(timed(block.copy) for _ in range(5)) / len(block)))
    for name, cost in rows:
        print(f"  {name:28} {cost:8.1f} ns/sample {usual / cost:8.1f} x deques")
    print(f"  share of one core, live: {rows[1][1] * len(block) / SECONDS / 1e9:.3%}")


def fill(parts: list[Block]) -> None:
    """Take the blocks as the recorder does."""
    kept = Rings()
    for part in parts:
        kept.take(part)


def in_deques(block: Block) -> None:
    """Keep every sample of the tables' channels in a Python deque of its own."""
    kept: dict[int, deque[tuple[int, float]]] = {
        number(name): deque(maxlen=20_000) for name in (*CAR, *FIX, *(f"Imu.{axis}" for axis in AXES))
    }
    for t, channel, value in zip(block["t"].tolist(), block["channel"].tolist(), block["value"].tolist(), strict=True):
        ring = kept.get(channel)
        if ring is not None:
            ring.append((t, value))


def tables(block: Block) -> list[Draft]:
    """Print ms for the files of one incident, first and final; return the final draft."""
    recorder = Recorder(IncidentSettings(), "b" * 32)
    upto = int(np.searchsorted(block["t"], HIT_S * S + S // 20))
    took: list[float] = []

    def step(part: Block, crashes: list[Crash]) -> list[Draft]:
        began = time.perf_counter()
        drafts = recorder.step(part, [], crashes)
        took.append((time.perf_counter() - began) * 1e3)
        return drafts

    step(block[: upto - 1000], [])
    (first,) = step(block[upto - 1000 : upto], [crash_at(HIT_S * S)])
    step(block[upto : upto + 70_000], [])
    last = step(block[upto + 70_000 :], [crash_at(HIT_S * S, complete=True)])
    lines = [line.split(",") for line in last[0].files["imu.csv"].decode().splitlines()]
    usual = timed(lambda: csv.writer(io.StringIO()).writerows(lines)) / 1e6
    size = sum(map(len, first.files.values())), sum(map(len, last[0].files.values()))
    print("files of one incident, IMU at 1 kHz")
    print(f"  first, when the crash is known  {took[1]:7.1f} ms for {size[0]:>9,} bytes")
    print(f"  final                           {took[3]:7.1f} ms for {size[1]:>9,} bytes")
    print(f"  csv.writer, imu.csv from texts  {usual:7.1f} ms (numbers are not even formatted)")
    return last


def disk(draft: Draft) -> None:
    """Print ms until a draft is durable, beside one bare fsync of as many bytes."""
    data = b"".join(draft.files.values())
    ours, bare = [], []
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        for i in range(RUNS):
            ours.append(timed(lambda i=i: write_files(Path(name) / str(i), draft.files)) / 1e6)
            bare.append(timed(lambda i=i: one_file(Path(name) / f"{i}.bin", data)) / 1e6)
    print(f"durable on this disk: {len(draft.files)} files, {len(data):,} bytes, median of {RUNS}")
    package, limit = statistics.median(ours), statistics.median(bare)
    print(f"  the package                     {package:7.1f} ms, worst {max(ours):.1f}")
    print(f"  one file, one fsync (limit)     {limit:7.1f} ms, ratio {package / limit:.1f}")


def one_file(path: Path, data: bytes) -> None:
    """Write and fsync one file."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


class Device:
    """Hands over what its samples say has happened, every `batch_s`; samples are on the machine's own clock."""

    def __init__(self, name: str, samples: Block, batch_s: float) -> None:
        self.name = name
        self._samples, self._batch_s = samples, batch_s
        self._closing = threading.Event()
        self._at = 0

    def open(self) -> None:
        self._at = int(np.searchsorted(self._samples["t"], clock.monotonic_ns()))

    def read(self, timeout_s: float) -> Block:
        clock.wait(self._closing, self._batch_s)
        upto = int(np.searchsorted(self._samples["t"], clock.monotonic_ns()))
        block = self._samples[self._at : upto].copy() if upto > self._at else empty_block()
        self._at = max(upto, self._at)
        return block

    def close(self) -> None:
        self._closing.set()


def daemon() -> None:
    """Print wall ms from time zero until the Crash record and the files are on disk, in the real daemon."""
    stored, written = [], []
    for run in range(RUNS):
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
            one = life(Path(name), fix_s=run / RUNS)
            stored.append(one[0])
            written.append(one[1])
    print(
        f"the daemon, real time: IMU 100 Hz in batches of 0.1 s, bus 0.02 s, fixes 1 Hz at every phase; {RUNS} crashes"
    )
    for what, found in (("Crash record in the store", stored), ("package files", written)):
        print(f"  time zero to {what:26} median {statistics.median(found):4.0f} ms, worst {max(found):4.0f} ms")


def life(folder: Path, fix_s: float) -> tuple[float, float]:
    """Run one daemon through one crash; return ms from time zero to the stored record and to the files.

    Fixes come `fix_s` after the second.
    """
    block = drive(100, fix_s)
    begin_ns = clock.monotonic_ns() - (HIT_S - 4) * S
    block["t"] += begin_ns
    zero_ns = begin_ns + HIT_S * S
    inertial, fixes = (
        (block["channel"] >= 60) & (block["channel"] < 70),
        np.isin(block["channel"], [number(n) for n in FIX]),
    )
    devices = [(inertial, "imu", 0.1), (fixes, "gps", 0.05), (~inertial & ~fixes, "bus", 0.02)]
    makers = [lambda w=w, n=n, b=b: Device(n, block[w], b) for w, n, b in devices]
    running = Daemon(
        AgentConfig(broker=BrokerSettings(url="mqtt://127.0.0.1:1"), consent=ConsentSettings(sheet="none")),
        Place(folder, boot="b" * 32),
        makers,
    )
    seen: list[float] = []

    def watch() -> None:
        never = threading.Event()
        while not list((folder / PACKAGES).glob(f"*/{RECORD}")):
            if clock.monotonic_ns() > zero_ns + 5 * S:
                break
            clock.wait(never, 0.002)
        seen.append((clock.monotonic_ns() - zero_ns) / 1e6)
        running.stop()

    saved = Store.append

    def append(self: Store, records: list[tuple[int, object]]) -> object:
        done = saved(self, records)  # type: ignore[arg-type]
        if any(isinstance(record, Crash) for _, record in records) and len(seen) < 1:
            stamps.append((clock.monotonic_ns() - zero_ns) / 1e6)
        return done

    stamps: list[float] = []
    Store.append = append  # type: ignore[method-assign,assignment]
    try:
        watcher = threading.Thread(target=watch)
        watcher.start()
        running.run()
        watcher.join()
    finally:
        Store.append = saved  # type: ignore[method-assign]
    return stamps[0], seen[0]


AXES: Final = (*(f"Acceleration.{a}" for a in "XYZ"), *(f"AngularVelocity.{a}" for a in "XYZ"))


def drive(imu_hz: int, fix_s: float = 0.13) -> Block:
    """Return 90 s of a car at 15 m/s that hits something at HIT_S: half a sine of 20 g in 100 ms."""
    t = np.arange(0, SECONDS, 1 / imu_hz)
    phase = (t - HIT_S) / 0.1
    hit = np.where((phase >= 0) & (phase < 1), -196.0 * np.sin(np.pi * np.clip(phase, 0, 1)), 0.0)
    waves = [hit + 0.2 * np.sin(40 * t), 0.2 * np.cos(30 * t), 9.81 + 0.1 * np.sin(50 * t), *[np.sin(t)] * 3]
    car_t = np.arange(0, SECONDS, 0.01)
    fix_t = np.arange(fix_s, SECONDS, 1.0)
    moving = np.where(car_t < HIT_S, 15.0, 0.0)
    signals = [(f"Imu.{axis}", t, wave) for axis, wave in zip(AXES, waves, strict=True)]
    signals += [(name, car_t, moving if "Speed" in name else np.zeros(len(car_t))) for name in (*CAR, *OTHERS)]
    places = (np.full(len(fix_t), 30.0), 114 + fix_t * 15 / 96_000, np.where(fix_t < HIT_S, 15.0, 0.0), fix_t, fix_t)
    signals += [(name, fix_t, values) for name, values in zip(FIX, places, strict=True)]
    parts = []
    for name, times, values in signals:
        part = np.zeros(len(times), BLOCK)
        part["t"], part["channel"], part["value"] = np.round(times * S).astype(np.int64), number(name), values
        parts.append(part)
    return join_blocks(parts)


def crash_at(t0_ns: int, *, complete: bool = False) -> Crash:
    """Return a crash that holds little else."""
    return Crash(
        id=incident_id("b" * 32, t0_ns),
        kind="impact",
        t_ns=t0_ns,
        known_ns=t0_ns + 30_000_000,
        complete=complete,
        locked=True,
        number=1,
        since_previous_ns=None,
        delta_v_longitudinal_mps=None,
        delta_v_lateral_mps=None,
        delta_v_mps=12.5,
        delta_v_max_ns=None,
        direction_deg=None,
        direction_clock=None,
        peak_mps2=196.0,
        clipped=False,
        roll_deg=None,
        curve_step_ms=10,
        curve_longitudinal_cmps=[],
        curve_lateral_cmps=[],
        speed_before_mps=15.0,
        speed_after_mps=None,
        confirmed_by=[],
        sensors=["imu"],
        rate_hz=1000.0,
        mount_confidence=0.0,
        rule="benchmark",
    )


def timed(work: Callable[[], object]) -> float:
    """Return the ns that `work` takes."""
    began = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - began


if __name__ == "__main__":
    main()
