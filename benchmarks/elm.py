"""Samples a second through an ELM327 with the latency of a real adapter: this driver beside python-OBD's own loop.

Both talk to the same fake adapter on a pty in the same run, one after the other, and want the same parameters. The
fake takes 8 ms for a control unit, 30 ms of waiting for more answers unless their count is named, and carries
characters at 38,400 baud. python-OBD's loop is the usual one: one query after the other, round and round.
"""

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agent.blocks import empty_block
from agent.channels import number
from drivers.elm327 import Elm327, Elm327Settings
from sim.elm327 import REAL, FakeElm, PtyElm
from sim.elm_car import ENGINE, GEARBOX, Car

SECONDS = 12.0
SPEED, RPM = number("Obd.Speed"), number("Obd.EngineSpeed")


def _ours(port: str, fake: FakeElm, speed_hz: float) -> tuple[float, float, float, float]:
    driver = Elm327(Elm327Settings(port=port, baud=38400, speed_hz=speed_hz))
    driver.open()
    while driver.vehicle is None:
        driver.read(0.2)
    before, end = fake.requests, time.monotonic() + SECONDS
    block = empty_block()
    while time.monotonic() < end:
        block = np.concatenate([block, driver.read(0.2)])
    requests = fake.requests - before
    driver.close()
    times = block["t"][block["channel"] == SPEED] / 1e9
    return requests / SECONDS, len(block) / SECONDS, len(times) / SECONDS, float(np.diff(times).max())


def _python_obd(port: str, fake: FakeElm, fast: bool) -> tuple[float, float, float, float]:
    import obd

    obd.logger.setLevel("CRITICAL")
    connection = obd.OBD(port, baudrate=38400, fast=fast, timeout=2, check_voltage=False)
    if not connection.is_connected():
        raise SystemExit("python-OBD did not connect to the fake adapter")
    wanted: list[Any] = [c for c in connection.supported_commands if c.mode == 1 and c.pid % 0x20 and c.pid != 4]
    wanted.sort(key=lambda c: c.pid)
    before, end = fake.requests, time.monotonic() + SECONDS
    samples, times = 0, []
    speed = obd.commands.SPEED
    while time.monotonic() < end:
        for command in wanted:
            sent = time.monotonic()
            if connection.query(command).value is not None:
                samples += 1
                if command == speed:
                    times.append((sent + time.monotonic()) / 2)
    requests = fake.requests - before
    connection.close()
    gap = float(np.diff(times).max()) if len(times) > 1 else float("nan")
    return requests / SECONDS, samples / SECONDS, len(times) / SECONDS, gap


def _run(
    name: str, units: tuple[Any, ...], work: Callable[[str, FakeElm], tuple[float, float, float, float]]
) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        fake = FakeElm(Car(units=units), REAL)
        pty = PtyElm(fake, Path(folder) / "elm")
        try:
            begin = time.thread_time()
            requests, samples, speed, gap = work(str(pty.path), fake)
            cpu = 100 * (time.thread_time() - begin) / SECONDS
        finally:
            pty.stop()
    print(f"{name:44}{requests:10.1f}{samples:10.1f}{speed:10.2f}{gap:10.2f}{cpu:8.1f}")
    return samples, speed


def main() -> None:
    """Print requests, samples and speed samples a second, the longest gap in speed, and this thread's CPU."""
    warnings.simplefilter("ignore")  # of python-OBD's own dependencies
    print(f"{'':44}{'requests/s':>10}{'samples/s':>10}{'speed/s':>10}{'gap s':>10}{'CPU %':>8}")
    for label, units in (("one unit", (ENGINE,)), ("two units", (ENGINE, GEARBOX))):
        most = _run(f"{label}: this driver, speed always due", units, lambda p, f: _ours(p, f, 1000.0))
        _run(f"{label}: this driver, 5 Hz as configured", units, lambda p, f: _ours(p, f, 5.0))
        slow = _run(f"{label}: python-OBD, fast=False", units, lambda p, f: _python_obd(p, f, False))
        fast = _run(f"{label}: python-OBD, fast=True", units, lambda p, f: _python_obd(p, f, True))
        print(
            f"{'':4}× fast=True: samples {most[0] / fast[0]:.1f}, speed {most[1] / fast[1]:.1f}; "
            f"× fast=False: samples {most[0] / slow[0]:.1f}, speed {most[1] / slow[1]:.1f}"
        )
    carried = 10 * (len("010D0C1\r") + len("7E806410D320C1AF8\r\r>")) / REAL.baud
    ideal = 1 / (REAL.command_s + REAL.unit_s + carried)
    print(f"limit of this fake: {ideal:.1f} requests/s (unit and line alone), {2 * ideal:.0f} samples/s of two each")
