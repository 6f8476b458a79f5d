"""An ELM327 that is pulled and comes back as another tty, and one that only a reset of its USB device brings back.

Recovery: back on another tty within the next attempt and the adapter's own start, about 5 s; a locked-up adapter on USB
at the attempt after the second that failed.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import clock
from agent.channels import number
from agent.errors import DriverError
from agent.feed import Feed, FeedSettings
from agent.intake import Intake
from agent.records import Health
from drivers.elm import usb
from drivers.elm327 import Elm327, Elm327Settings
from sim.elm327 import FakeElm, PtyElm
from sim.elm_car import Car
from tests.elm_making import VirtualLine, climbing, collect

S = 1_000_000_000
BACK_S = 20.0  # so long a machine that does much else may take
PATIENCE_S = 30.0


def test_pulled_and_back_on_another_tty_it_is_read_again(tmp_path: Path) -> None:
    pty = PtyElm(FakeElm(Car(values=climbing)), tmp_path / "ttyELM")
    intake, told = Intake(100_000, S), list[Health]()
    driver = Elm327Settings(port=str(pty.path), baud=38400)
    feed = Feed(lambda: Elm327(driver), intake, FeedSettings(retry_s=0.1, retry_cap_s=0.5))
    never = threading.Event()

    def until(enough: Callable[[], bool]) -> float:
        """Take what comes until it is enough; return how long that was."""
        began_ns = clock.monotonic_ns()
        while not enough():
            assert clock.monotonic_ns() - began_ns < PATIENCE_S * S, told
            intake.raise_bug()
            block, said = intake.take(clock.monotonic_ns(), everything=True)
            told.extend(said)
            seen.append(int((block["channel"] == number("Obd.Speed")).sum()))
            never.wait(0.01)
        return (clock.monotonic_ns() - began_ns) / S

    seen: list[int] = []
    others: list[int] = []
    feed.start()
    try:
        until(lambda: sum(seen) >= 3)
        for _ in range(2):
            before = pty.path.resolve()
            pty.unplug()
            until(lambda: told[-1].state == "lost")
            others += os.openpty()  # another device takes its number meanwhile
            pty.plug()
            assert pty.path.resolve() != before
            seen.clear()
            assert until(lambda: sum(seen) >= 3) < BACK_S
            assert told[-1].state == "ok"
    finally:
        feed.stop()
        feed.join(PATIENCE_S)
        pty.stop()
        for descriptor in others:
            os.close(descriptor)
    assert [h.state for h in told] == ["ok", "lost", "ok", "lost", "ok"]


class LockedUp(VirtualLine):
    """An adapter whose USB side has locked up: it opens and says nothing, until `reset`."""

    locked = True
    resets = 0

    def read(self, timeout_s: float) -> bytes:
        said = super().read(timeout_s)
        return b"" if self.locked else said

    def reset(self, port: str) -> bool | None:
        self.resets += 1
        self.locked = False
        return True


def adapter(*, usb_reset: bool, refused: bool = False) -> tuple[Elm327, LockedUp]:
    line = LockedUp(FakeElm(Car(values=climbing)))
    settings = Elm327Settings(port="virtual", baud=38400, usb_reset=usb_reset)
    reset = (lambda port: False) if refused else line.reset
    return Elm327(settings, line=line, clock=line.clock, reset=reset), line


def test_an_adapter_that_opening_anew_does_not_bring_back_is_reset_where_that_is_configured() -> None:
    driver, line = adapter(usb_reset=True)
    for _ in range(2):
        with pytest.raises(DriverError):
            driver.open()
        assert line.resets == 0
    driver.open()
    assert line.resets == 1
    assert len(collect(driver, line, 10.0)) > 10
    assert driver.counts["usb_resets"] == 1
    driver.open()
    assert line.resets == 1  # it answers: the count begins anew


def test_without_leave_no_device_is_reset_and_where_it_is_refused_that_is_counted_and_tried_rarely() -> None:
    driver, line = adapter(usb_reset=False)
    for _ in range(20):
        with pytest.raises(DriverError):
            driver.open()
    assert (line.resets, driver.counts.get("usb_resets")) == (0, None)
    driver, line = adapter(usb_reset=True, refused=True)
    for _ in range(20):
        with pytest.raises(DriverError):
            driver.open()
    assert driver.counts["usb_resets_refused"] == 4  # before the 3rd, 5th, 9th and 17th attempt


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Make /sys and /dev as a Pi shows them: an FTDI bridge on port 1.2, and a UART that is none."""
    bridge = tmp_path / "sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.2"
    (bridge / "1-1.2:1.0/ttyUSB3").mkdir(parents=True)
    (bridge / "busnum").write_text("1\n")
    (bridge / "devnum").write_text("17\n")
    (bridge.parent / "busnum").write_text("1\n")  # the hub above it, which must be left alone
    (bridge.parent / "devnum").write_text("2\n")
    uart = tmp_path / "sys/devices/platform/soc/3f201000.serial"
    uart.mkdir(parents=True)
    for name, device in (("ttyUSB3", bridge / "1-1.2:1.0/ttyUSB3"), ("ttyAMA0", uart)):
        (tmp_path / "sys/class/tty" / name).mkdir(parents=True)
        (tmp_path / "sys/class/tty" / name / "device").symlink_to(device)
    (tmp_path / "dev/bus/usb/001").mkdir(parents=True)
    (tmp_path / "dev/bus/usb/001/017").touch()
    (tmp_path / "dev/ttyUSB3").touch()
    (tmp_path / "dev/elm").symlink_to("ttyUSB3")
    return tmp_path


def test_the_reset_goes_to_the_usb_device_behind_the_port_and_to_no_other(machine: Path) -> None:
    asked: list[tuple[str, int, int]] = []

    def ioctl(descriptor: int, request: int, argument: int) -> None:
        asked.append((str(Path(f"/proc/self/fd/{descriptor}").resolve()), request, argument))

    assert usb.reset(str(machine / "dev/elm"), machine / "sys", machine / "dev", ioctl) is True
    assert asked == [(str(machine / "dev/bus/usb/001/017"), 0x5514, 0)]
    for port in ("ttyAMA0", "ttyUSB9", "rfcomm0"):
        assert usb.reset(str(machine / "dev" / port), machine / "sys", machine / "dev", ioctl) is None
    assert usb.reset("socket://192.168.0.10:35000", machine / "sys", machine / "dev", ioctl) is None
    assert len(asked) == 1


def test_a_reset_that_the_kernel_or_its_node_refuses_is_no_exception(machine: Path) -> None:
    def refusing(descriptor: int, request: int, argument: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    assert usb.reset(str(machine / "dev/elm"), machine / "sys", machine / "dev", refusing) is False
    (machine / "dev/bus/usb/001/017").unlink()
    assert usb.reset(str(machine / "dev/elm"), machine / "sys", machine / "dev", refusing) is False
