"""The ELM327 driver on real ports: a pseudo terminal that comes and goes, and peers that are not ours at either end."""

import os
import select
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.blocks import Block, empty_block
from agent.channels import number
from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import DriverError
from drivers import diagnosis
from drivers.elm327 import Elm327, Elm327Settings
from sim.elm327 import FakeElm, PtyElm
from sim.elm_car import Car

SPEED, RPM, VOLTS = number("Obd.Speed"), number("Obd.EngineSpeed"), number("Power.Voltage")


def read_until(driver: Elm327, enough: Callable[[Block], bool], patience_s: float = 20.0) -> Block:
    block, until_ns = empty_block(), monotonic_ns() + int(patience_s * NS_PER_S)
    while not enough(block):
        assert monotonic_ns() < until_ns, driver.counts
        block = np.concatenate([block, driver.read(0.2)])
    return block


def has(channel: int, n: int = 3) -> Callable[[Block], bool]:
    return lambda block: int(np.count_nonzero(block["channel"] == channel)) >= n


@pytest.fixture
def plugged(tmp_path: Path) -> Iterator[PtyElm]:
    pty = PtyElm(FakeElm(Car()), tmp_path / "ttyELM")
    yield pty
    pty.stop()


def test_an_adapter_that_is_unplugged_and_back_on_another_tty_goes_on(plugged: PtyElm):
    driver = Elm327(Elm327Settings(port=str(plugged.path), speed_hz=50.0))
    for _ in range(3):
        driver.open()
        read_until(driver, has(SPEED))
        plugged.unplug()
        with pytest.raises(DriverError, match="ttyELM"):
            read_until(driver, has(SPEED, 10_000))
        with pytest.raises(DriverError, match="not open"):
            driver.read(0.01)
        with pytest.raises(DriverError, match="cannot open"):
            driver.open()
        plugged.plug()
    driver.open()
    read_until(driver, has(SPEED))
    driver.close()


def test_two_programs_cannot_share_an_adapter(plugged: PtyElm):
    first, second = (Elm327(Elm327Settings(port=str(plugged.path))) for _ in range(2))
    first.open()
    with pytest.raises(DriverError, match="cannot open"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_a_port_that_does_not_exist_is_told_in_one_line(tmp_path: Path):
    with pytest.raises(DriverError, match=r"nothere: cannot open the adapter's port: .*check its plug") as raised:
        Elm327(Elm327Settings(port=str(tmp_path / "nothere"))).open()
    assert "\n" not in str(raised.value)


def test_python_obd_takes_the_fake_for_an_adapter(plugged: PtyElm):
    plugged.adapter.car.vin = vin = "WP0ZZZ99ZTS390003"  # python-OBD 0.7.3 strips 0, 1 and 2 off a VIN's ends
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of python-OBD's own dependencies
        obd = pytest.importorskip("obd")
        connection = obd.OBD(str(plugged.path), baudrate=38400, fast=False, timeout=2, check_voltage=False)
        try:
            assert connection.status() == obd.OBDStatus.CAR_CONNECTED
            assert connection.query(obd.commands.SPEED).value.magnitude == 50
            assert connection.query(obd.commands.RPM).value.magnitude == 1726
            assert [code for code, _ in connection.query(obd.commands.GET_DTC).value] == ["P0133", "C0123"]
            assert bytes(connection.query(obd.commands.VIN).value).decode() == vin
        finally:
            connection.close()


@pytest.fixture
def emulated(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Run the ELM327-emulator of PyPI with a scenario of its own, as a process of its own; give its port."""
    program = Path(sys.executable).with_name("elm")
    if not program.exists():
        pytest.skip("PyPI package ELM327-emulator is not installed: pip install ELM327-emulator")
    told = tmp_path / "port"
    os.mkfifo(told)
    reading = os.open(told, os.O_RDONLY | os.O_NONBLOCK)
    process = subprocess.Popen(
        [program, "-b", told, "-s", request.param],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,  # it writes a log where it stands
    )
    try:
        text = b""
        until_ns = monotonic_ns() + 20 * NS_PER_S
        while b"\n" not in text and monotonic_ns() < until_ns:
            select.select([reading], [], [], 1.0)
            text += os.read(reading, 4096) if process.poll() is None else b"\n"
        assert text.startswith(b"/dev/"), text
        yield text.split()[0].decode()
    finally:
        os.close(reading)
        process.kill()
        process.wait()


@pytest.mark.parametrize("emulated", ["car", "mt05"], indirect=True)
def test_the_emulator_of_pypi_is_read(emulated: str):
    driver = Elm327(Elm327Settings(port=emulated))
    driver.open()
    block = read_until(driver, lambda b: has(SPEED)(b) and has(RPM)(b) and has(VOLTS, 1)(b))
    assert driver.vehicle is not None
    assert (driver.vehicle.protocol, driver.vehicle.vin) == ("6", "WP0ZZZ99ZTS390000")
    assert driver.adapter.clone, "it calls itself v1.5"
    assert np.all(np.diff(block["t"]) >= 0)
    assert isinstance(driver.ask(diagnosis.codes)["stored"], dict)
    driver.close()


@pytest.mark.parametrize("emulated", ["engineoff"], indirect=True)
def test_the_emulators_parked_car_gives_its_voltage_alone(emulated: str):
    driver = Elm327(Elm327Settings(port=emulated))
    driver.open()
    block = read_until(driver, has(VOLTS, 1))
    assert set(block["channel"].tolist()) == {VOLTS}
    assert driver.vehicle is None
    driver.close()
