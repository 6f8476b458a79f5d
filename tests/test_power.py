"""The power driver against sysfs trees and the kernel's own description of its GPIO interface."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import Block, join_blocks
from agent.channels import BY_NAME, number
from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import ConfigError, DriverError
from drivers import gpio
from drivers.gpio import Edge, Line, chip_called, edges_of
from drivers.power import Power

WAIT_S = 30.0


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """Show a board: a UPS, a hwmon monitor, a converter, two thermal zones, a Raspberry Pi's firmware."""
    for path, text in {
        "class/power_supply/ups/voltage_now": "12650000",
        "class/power_supply/ups/online": "1",
        "class/hwmon/hwmon0/name": "cpu_thermal",
        "class/hwmon/hwmon3/name": "ina226",
        "class/hwmon/hwmon3/in1_input": "13820",
        "bus/iio/devices/iio:device1/name": "ads1015",
        "bus/iio/devices/iio:device1/in_voltage0_raw": "1200",
        "bus/iio/devices/iio:device1/in_voltage0_scale": "2.0",
        "class/thermal/thermal_zone0/type": "gpu-thermal",
        "class/thermal/thermal_zone0/temp": "61000",
        "class/thermal/thermal_zone1/type": "cpu-thermal",
        "class/thermal/thermal_zone1/temp": "52318",
        "devices/platform/soc/soc:firmware/get_throttled": "50000",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return tmp_path


def read_until(power: Power, enough: Callable[[list[Block]], bool]) -> Block:
    blocks: list[Block] = []
    end = monotonic_ns() + round(WAIT_S * NS_PER_S)
    while not enough(blocks):
        assert monotonic_ns() < end, power.counts
        block = power.read(0.05)
        if len(block):
            blocks.append(block)
    return join_blocks(blocks)


def first(power: Power) -> dict[str, float]:
    block = read_until(power, bool)
    names = {c.number: name.removeprefix("Power.") for name, c in BY_NAME.items()}
    return {names[int(c)]: float(v) for c, v in zip(block["channel"], block["value"], strict=True)}


@pytest.mark.parametrize(
    ("voltage", "factor", "volts"),
    [("supply:ups", 1.0, 12.65), ("hwmon:ina226/in1", 1.0, 13.82), ("hwmon:hwmon3/in1", 1.0, 13.82),
     ("iio:ads1015/voltage0", 5.7, 13.68)],
)  # fmt: skip
def test_every_kind_of_voltage_is_read(sysfs: Path, voltage: str, factor: float, volts: float) -> None:
    power = Power(voltage=voltage, voltage_factor=factor, ignition="supply:ups", sysfs=sysfs)
    power.open()
    assert first(power) == {
        "Voltage": pytest.approx(volts), "Ignition": 1.0, "BoardTemperature": pytest.approx(52.318), "Throttled": 0.0
    }  # fmt: skip
    power.close()


def test_a_board_without_any_of_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="name a voltage or ignition source"):
        Power(sysfs=tmp_path).open()


def test_the_board_alone_is_enough(sysfs: Path) -> None:
    power = Power(sysfs=sysfs)
    power.open()
    assert first(power) == {"BoardTemperature": pytest.approx(52.318), "Throttled": 0.0}
    power.close()


def test_heat_and_low_supply_are_said_and_so_is_their_end(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.power.SLOW_NS", 0)
    bits = sysfs / "devices/platform/soc/soc:firmware/get_throttled"
    bits.write_text("50005\n")
    (sysfs / "class/thermal/thermal_zone1/temp").write_text("83200\n")
    power = Power(sysfs=sysfs, period_s=0.001)
    power.open()
    assert first(power)["Throttled"] == 1.0
    (board,) = [f for f in power.health() if f.source == "power:board"]
    assert board.state == "degraded"
    assert "83 °C, its supply voltage is low, it is throttled" in board.detail
    bits.write_text("50000\n")
    (sysfs / "class/thermal/thermal_zone1/temp").write_text("71000\n")
    assert first(power)["Throttled"] == 0.0
    assert [f.state for f in power.health()] == ["ok", "ok"]
    power.close()


def test_the_mainline_undervoltage_alarm_serves_where_the_firmware_file_is_absent(sysfs: Path) -> None:
    (sysfs / "devices/platform/soc/soc:firmware/get_throttled").unlink()
    (sysfs / "class/hwmon/hwmon5").mkdir()
    (sysfs / "class/hwmon/hwmon5/name").write_text("rpi_volt\n")
    (sysfs / "class/hwmon/hwmon5/in0_lcrit_alarm").write_text("1\n")
    power = Power(sysfs=sysfs)
    power.open()
    assert first(power)["Throttled"] == 1.0
    power.close()


def test_looks_come_at_their_period_and_in_order(sysfs: Path) -> None:
    power = Power(voltage="supply:ups", ignition="supply:ups", sysfs=sysfs, period_s=0.02)
    power.open()
    start_ns = monotonic_ns()
    block = read_until(power, lambda blocks: len(blocks) == 4)
    assert monotonic_ns() - start_ns >= 0.06 * NS_PER_S
    assert np.all(np.diff(block["t"]) >= 0)
    assert (block["channel"] == number("Power.Voltage")).sum() == 4
    assert (block["channel"] == number("Power.BoardTemperature")).sum() == 1
    power.close()


def test_a_time_out_gives_an_empty_block(sysfs: Path) -> None:
    power = Power(voltage="supply:ups", sysfs=sysfs, period_s=60)
    power.open()
    first(power)
    assert len(power.read(0.01)) == 0
    assert len(power.read(0.0)) == 0
    power.close()


def test_ignition_may_be_inverted(sysfs: Path) -> None:
    power = Power(ignition="supply:ups", ignition_active_low=True, sysfs=sysfs)
    power.open()
    assert first(power)["Ignition"] == 0.0
    power.close()


def test_nonsense_is_counted_and_not_given(sysfs: Path) -> None:
    power = Power(voltage="supply:ups", ignition="supply:ups", sysfs=sysfs, period_s=0.001)
    power.open()
    for text in ("", "n/a", "1e999", "\0\0", "-12"):
        (sysfs / "class/power_supply/ups/voltage_now").write_text(text)
        assert "Voltage" not in first(power)
    assert power.counts["bad_values"] == 4
    assert power.counts["out_of_range"] == 1
    power.close()


def test_unplugging_raises_driver_error_and_plugging_in_again_works(sysfs: Path) -> None:
    power = Power(voltage="supply:ups", sysfs=sysfs, period_s=0.001)
    power.open()
    before = read_until(power, bool)
    os.rename(sysfs / "class/power_supply/ups", sysfs / "ups")
    with pytest.raises(DriverError, match=r"voltage_now: No such file.*still there"):
        read_until(power, lambda _: False)
    power.close()
    power.close()
    with pytest.raises(DriverError, match="not open"):
        power.read(0.01)
    with pytest.raises(DriverError, match="voltage_now"):
        power.open()
    os.rename(sysfs / "ups", sysfs / "class/power_supply/ups")
    power.open()
    assert read_until(power, bool)["t"][0] >= before["t"][-1]
    power.close()


def test_an_absent_chip_is_named_with_those_that_are_there(sysfs: Path) -> None:
    with pytest.raises(DriverError, match=r"'ina219' is not below .*chips there: cpu_thermal, ina226"):
        Power(voltage="hwmon:ina219/in1", sysfs=sysfs).open()


@pytest.mark.parametrize(
    "wrong",
    [{"voltage": "battery"}, {"voltage": "hwmon:x/temp1"}, {"ignition": "gpio:17"}, {"ignition": "gpio:../x/1"}],
)
def test_a_wrong_source_is_an_error_of_the_configuration(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="is none of"):
        Power(**wrong)  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None)
@given(text=st.binary(max_size=30))
def test_no_content_of_a_file_raises(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    root = tmp_path_factory.getbasetemp() / "power"
    for file in (
        "class/power_supply/ups/voltage_now",
        "class/power_supply/ups/online",
        "class/thermal/thermal_zone0/temp",
    ):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(text)
    power = Power(voltage="supply:ups", ignition="supply:ups", sysfs=root)
    power.open()
    for sample in power.read(0.1):
        channel = next(c for c in BY_NAME.values() if c.number == sample["channel"])
        assert channel.low <= sample["value"] <= channel.high
    power.close()


# --- the GPIO line ------------------------------------------------------------------------------------------------

PROGRAM = """
#include <linux/gpio.h>
#include <stddef.h>
#include <stdio.h>
#define O(m) (unsigned long)offsetof(struct gpio_v2_line_request, m)
int main(void) {
  printf("%lu %lu %lu ", (unsigned long)GPIO_GET_CHIPINFO_IOCTL, (unsigned long)sizeof(struct gpiochip_info),
    (unsigned long)offsetof(struct gpiochip_info, label));
  printf("%lu %lu %lu %lu %lu %lu %lu %lu %lu %lu %lu", (unsigned long)GPIO_V2_GET_LINE_IOCTL,
    (unsigned long)GPIO_V2_LINE_GET_VALUES_IOCTL, (unsigned long)sizeof(struct gpio_v2_line_event), O(consumer),
    O(config.flags), O(config.num_attrs), O(config.attrs[0].attr.debounce_period_us), O(config.attrs[0].mask),
    O(num_lines), O(event_buffer_size), O(fd));
  return 0;
}
"""


def test_requests_are_laid_out_as_the_kernels_header_says(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None or not Path("/usr/include/linux/gpio.h").exists():
        pytest.skip("no C compiler or kernel headers: sudo apt install gcc linux-libc-dev")
    (tmp_path / "layout.c").write_text(PROGRAM)
    subprocess.run([compiler, "-o", tmp_path / "layout", tmp_path / "layout.c"], check=True)
    said = subprocess.run([tmp_path / "layout"], capture_output=True, text=True, check=True).stdout
    asked, info, label, request, values, event, *offsets = map(int, said.split())
    assert (gpio.GET_CHIP, gpio.CHIP.size) == (asked, info)
    assert gpio.CHIP.pack(b"", b"\x01", 0)[label] == 1
    assert (gpio.GET_LINE, gpio.GET_VALUES, gpio.EVENT.size) == (request, values, event)
    marked = gpio.REQUEST.pack(
        *[0] * 64, b"\x01", 2, 3, 0, 4, 5, *[0] * 27, 6, 7, 8
    )  # consumer, flags, attributes, debounce, mask, lines, buffer, fd
    assert [marked[at] for at in offsets] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert sum(1 for byte in marked if byte) == 8


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2**63), st.booleans(), st.integers(0, 2**32 - 1)), max_size=5),
    st.binary(max_size=47),
)
def test_edges_are_read_and_a_cut_one_ignored(edges: list[tuple[int, bool, int]], rest: bytes) -> None:
    data = b"".join(gpio.EVENT.pack(t, 1 if up else 2, 17, n, n) for t, up, n in edges)
    assert edges_of(data + rest) == [Edge(*edge) for edge in edges]


def test_edges_become_samples_at_the_kernels_time(sysfs: Path) -> None:
    power = Power(voltage="supply:ups", sysfs=sysfs)
    power.open()
    first(power)
    line = Line.__new__(Line)  # asking a chip needs a chip; what follows is the same
    line._name, (line.fd, kernel) = "line", os.pipe2(os.O_NONBLOCK)
    now_ns = monotonic_ns()
    os.write(
        kernel,
        b"".join(gpio.EVENT.pack(now_ns + n, 1 + n % 2, 17, number, 0) for n, number in ((0, 1), (1, 2), (2, 5))),
    )
    power._edges(line, 1.0)
    assert [(t, v) for t, _, v in power._samples] == [(now_ns, 1.0), (now_ns + 1, 0.0), (now_ns + 2, 1.0)]
    assert power.counts["edges"] == 3
    assert power.counts["lost_edges"] == 2
    with pytest.raises(DriverError, match="read level"):
        line.active()
    line.close()
    line.close()
    os.close(kernel)
    power.close()


def test_a_file_that_is_no_gpio_chip_is_refused_with_a_word(sysfs: Path) -> None:
    (sysfs / "gpiochip0").write_text("")
    with pytest.raises(DriverError, match=r"gpiochip0 line 17: request: Inappropriate ioctl.*gpioinfo"):
        Power(ignition="gpio:gpiochip0/17", sysfs=sysfs, dev=sysfs).open()
    with pytest.raises(DriverError, match="gpiochip1 line 17: request: No such file"):
        Power(ignition="gpio:gpiochip1/17", sysfs=sysfs, dev=sysfs).open()


@pytest.fixture
def chips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of chips that tell their content as label; the kernel's own are asked in tests/kernel (car.sh)."""

    def ask(fd: int, request: int, told: bytearray) -> None:
        label = os.pread(fd, 32, 0)
        if request != gpio.GET_CHIP or not label:
            raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")
        told[:] = gpio.CHIP.pack(b"", label, 54)

    monkeypatch.setattr(gpio.fcntl, "ioctl", ask)
    for n, label in enumerate(("gpio-brcmstb@107d508500", "", "twice", "twice", "pinctrl-rp1")):
        (tmp_path / f"gpiochip{n}").write_text(label)
    return tmp_path


def test_a_chip_is_found_by_its_label_whatever_its_number(chips: Path) -> None:
    assert chip_called("power", "pinctrl-rp1", chips) == chips / "gpiochip4"
    (chips / "gpiochip4").rename(chips / "gpiochip7")
    (chips / "gpiochip4").symlink_to("gpiochip7")  # as Raspberry Pi OS does
    assert chip_called("power", "pinctrl-rp1", chips) == chips / "gpiochip7"
    assert chip_called("power", "gpio-brcmstb@107d508500", chips) == chips / "gpiochip0"
    assert chip_called("power", "gpiochip4", chips) == chips / "gpiochip4"


@pytest.mark.parametrize(("label", "found"), [("pinctrl-bcm2711", 0), ("twice", 2)])
def test_a_label_that_names_no_one_chip_is_told_with_those_that_are_there(chips: Path, label: str, found: int) -> None:
    with pytest.raises(DriverError, match=rf"power: {found} chips are called '{label}'.*brcmstb@107d508500, .*rp1$"):
        Power(ignition=f"gpio:{label}/17", sysfs=chips, dev=chips).open()
