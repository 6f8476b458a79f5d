"""The inertial sensor behind the kernel's Industrial I/O: the LIS3DH's driver on a stub of an I2C bus, at 100 Hz."""

import json
import signal
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.kernel.cache import HERE
from tests.kernel.channel import Process
from tests.kernel.conftest import Figure
from tests.kernel.errors import GuestError
from tests.kernel.guest import Guest

LIMIT_S: Final = 300.0
RATE_HZ: Final = 100.0
HELD_S: Final = 4.0  # what the driver asks the kernel to keep (drivers/iio/device.py)
UPRIGHT: Final = 83  # counts of 12 mg: 1 g, as programs/car.sh leaves the z axis
MACHINE: Final = {"memory_mib": 512}
SENSOR: Final = '"$(dirname "$(grep -l "^lis3dh$" /sys/bus/iio/devices/*/name)")"'
BUS: Final = '$(i2cdetect -l | awk \'/stub/{sub("i2c-","",$1);print $1}\')'
Told = dict[str, Any]


class Watch:
    """The driver at work in the guest."""

    def __init__(self, guest: Guest, **arguments: str) -> None:
        words = " ".join(f"{name}={value}" for name, value in arguments.items())
        self.process: Process = guest.start(f"exec python3 /root/watch_imu.py {words}")

    @property
    def all(self) -> list[Told]:
        """All that it told."""
        return [json.loads(line) for line in bytes(self.process.out).decode().split("\n")[:-1]]

    def until(self, condition: Callable[[Told], bool], since: int = 0) -> Told:
        """Wait until `condition` holds of a line from the `since`th on, and return that."""

        def found() -> Told | None:
            return next((told for told in self.all[since:] if condition(told)), None)

        self.process.until(lambda: self.process.code is not None or found() is not None, LIMIT_S)
        told = found()
        if told is None:
            raise GuestError(f"never came: {self.all[-1:]}\n{bytes(self.process.err).decode()}")
        return told


@pytest.fixture(scope="module")
def car(guest: Guest) -> Guest:
    """The guest with sensor, trigger and ignition line."""
    for name in ("car.sh", "watch_imu.py"):
        guest.put(f"/root/{name}", (HERE / "programs" / name).read_bytes())
    guest.run("sh -e /root/car.sh")
    return guest


@pytest.fixture
def watch(car: Guest) -> Iterator[Watch]:
    """The driver, reading."""
    made = Watch(car, device="lis3dh", trigger="t0")
    made.until(lambda told: told.get("scans", 0) > 0)
    yield made
    made.process.kill(signal.SIGTERM)
    made.process.wait(LIMIT_S)


def put_on(car: Guest, axis: int, raw: int) -> None:
    """Let the sensor say `raw`, 12 bits, on axis 0, 1 or 2: left-justified in two registers (LIS3DH data sheet, 3.2.1);
    bit 7 of the register's number asks for the next ones too, and the stub takes it for another register.
    """
    low, high = (raw << 4).to_bytes(2, "little", signed=True)
    register = 0x28 + 2 * axis
    for at, value in ((register, low), (register + 1, high)):
        car.run(f"i2cset -f -y {BUS} 0x18 {at} {value}; i2cset -f -y {BUS} 0x18 {at | 0x80} {value}")


@pytest.mark.short
def test_the_buffer_is_read_in_batches_with_the_kernels_times_and_scale(
    car: Guest, watch: Watch, figure: Figure
) -> None:
    told = watch.until(lambda told: told.get("spanned_s", 0) > 10)
    assert watch.all[0]["rate_hz"] == RATE_HZ
    assert car.run(f"cat {SENSOR}/buffer/watermark {SENSOR}/buffer/length").out.split() == ["10", "400"]
    assert car.run(f"cat {SENSOR}/current_timestamp_clock").out.strip("\n\0") == "monotonic"
    offered = [float(scale) for scale in car.run(f"cat {SENSOR}/in_accel_scale_available").out.split()]
    scale = float(car.run(f"cat {SENSOR}/in_accel_z_scale").out)
    assert scale == max(offered) > 5 * min(offered)  # a collision does not fit into the ±2 g that it starts with
    assert told["last"]["Imu.Acceleration.Z"] == pytest.approx(UPRIGHT * scale, abs=1e-3)
    assert told["last"]["Imu.Acceleration.X"] == 0.0
    expected = told["spanned_s"] * RATE_HZ
    counts = told["counts"]
    assert counts["bad_times"] == 0
    assert counts["samples"] + counts["lost"] == pytest.approx(expected, rel=0.05)
    figure("samples of the sensor that came, of those due", counts["samples"] / expected, "")
    figure("median batch", sorted(line["scans"] for line in watch.all if "scans" in line)[len(watch.all) // 2], "scans")


def test_what_the_kernel_could_not_keep_is_counted_as_lost(car: Guest, watch: Watch, figure: Figure) -> None:
    pid = car.run("pgrep -f '[w]atch_imu.py device=lis3dh'").out.split()[0]
    before = watch.all[-1]
    stopped = car.run(f"kill -STOP {pid}; cut -d' ' -f1 /proc/uptime").out
    late = car.run(
        f"until awk -v s={stopped.strip()} '{{exit !($1 > s + 12)}}' /proc/uptime; do sleep 0.2; done; "
        f"kill -CONT {pid}; cut -d' ' -f1 /proc/uptime"
    ).out
    gone = (float(late) - float(stopped) - HELD_S) * RATE_HZ
    told = watch.until(lambda told: told["counts"]["lost"] - before["counts"]["lost"] > gone / 2, len(watch.all))
    told = watch.until(lambda told: told.get("spanned_s", 0) > before.get("spanned_s", 0) + 16)
    counts = told["counts"]
    assert counts["samples"] + counts["lost"] == pytest.approx(told["spanned_s"] * RATE_HZ, rel=0.05)
    figure("scans lost while nobody read for 12 s", counts["lost"] - before["counts"]["lost"], "")
    figure("of those, more than the kernel could keep", gone, "")


def test_a_force_beyond_the_sensors_range_is_told(car: Guest, watch: Watch) -> None:
    put_on(car, 0, 2047)
    told = watch.until(lambda told: told["counts"]["clipped"] > 0)
    source = "imu:lis3dh:clipping"
    told = watch.until(lambda told: told["health"].get(source, [""])[0] == "degraded")
    assert told["last"]["Imu.Clipped"] == 1.0
    put_on(car, 0, 0)
    since = len(watch.all)
    assert watch.until(lambda told: told["last"]["Imu.Clipped"] == 0.0, since)
    watch.until(lambda told: told["health"].get(source, ["ok"])[0] == "ok", since)


def test_a_sensor_that_disappears_is_opened_again_when_it_is_back(car: Guest, watch: Watch) -> None:
    since = len(watch.all)
    car.run(f"echo 0x18 > /sys/bus/i2c/devices/i2c-{BUS}/delete_device")
    told = watch.until(lambda told: "trouble" in told, since)
    assert "disappeared" in told["trouble"] or "is not below" in told["trouble"]
    car.run(f"echo lis3dh 0x18 > /sys/bus/i2c/devices/i2c-{BUS}/new_device")
    watch.until(lambda told: told.get("scans", 0) > 0, len(watch.all))
    put_on(car, 2, UPRIGHT)


def test_a_device_without_three_axes_is_refused_by_name(car: Guest) -> None:
    car.module("iio_dummy")
    car.run("mkdir -p /sys/kernel/config/iio/devices/dummy/acc0")
    dummy = Watch(car, device="acc0")
    told = dummy.until(lambda told: "trouble" in told)
    assert "neither acceleration nor angular velocity on three axes" in told["trouble"]
    dummy.process.kill(signal.SIGTERM)
    dummy.process.wait(LIMIT_S)
