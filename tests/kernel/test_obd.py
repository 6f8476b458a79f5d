"""Asking a control unit over CAN, which has deadlines of milliseconds: time counts instructions here, so that a busy
host keeps nobody waiting. The other end of our requests, flow control and long answers is the kernel's ISO-TP."""

import re
from collections.abc import Iterator
from typing import Final

import pytest

from tests.kernel.cache import HERE
from tests.kernel.can import Watch, with_vcan
from tests.kernel.channel import Process
from tests.kernel.conftest import Figure
from tests.kernel.guest import Guest

MACHINE: Final = {"icount": 1}
VIN: Final = "JTMRJREV1HD139163"
LIMIT_S: Final = 900.0  # of the host's time


@pytest.fixture(scope="module", autouse=True)
def _bus(guest: Guest) -> None:
    with_vcan(guest)
    guest.put("/root/ecu.py", (HERE / "programs/ecu.py").read_bytes())


def unit_on(guest: Guest, bus: str) -> Process:
    """Start a control unit."""
    unit = guest.start(f"exec python3 /root/ecu.py {bus} {VIN}")
    unit.until_says("ready", LIMIT_S)
    return unit


def ask(guest: Guest, figure: Figure, way: str, **settings: str | int) -> None:
    """Look whether the driver learns identity and values."""
    asker = Watch(guest, opens=False, kind="obdcan", transmit=1, profile="toyota-rav4", **settings)
    told = asker.until(lambda now: bool(now.get("vehicle", {}).get("vin")) and "Obd.Speed" in now["last"], LIMIT_S)
    assert told["vehicle"]["vin"] == VIN
    assert told["last"]["Obd.Speed"] == pytest.approx(20.0)
    assert told["counts"]["obd_sequence_errors"] == told["counts"]["obd_malformed"] == 0
    figure(f"{way}: requests until identity and first values", told["counts"]["requests"], "")
    asker.stop()


def test_a_control_unit_is_asked_and_answers_by_the_kernels_iso_tp(guest: Guest, figure: Figure) -> None:
    unit = unit_on(guest, "can0")
    ask(guest, figure, "SocketCAN")
    unit.kill()


@pytest.fixture
def adapter(guest: Guest) -> Iterator[str]:
    """A serial line that takes an adapter's commands but L, before a bus of its own (slcanpty of can-utils)."""
    guest.run("ip link add far0 type vcan && ip link set far0 up")
    made = guest.start("exec stdbuf -oL slcanpty /dev/ptmx far0")
    made.until(lambda: b"/dev/pts/" in made.out + made.err or made.code is not None)
    line = re.search(r"/dev/pts/\d+", made.said)
    assert line, made.said
    held = guest.start(f"exec sleep infinity <{line[0]}")  # it ends when nobody has its line open
    yield line[0]
    held.kill()
    made.kill()


def test_an_adapter_that_cannot_listen_only_is_refused_unless_asking_is_allowed(
    guest: Guest, adapter: str, figure: Figure
) -> None:
    way: dict[str, str | int] = {"interface": "slcan", "channel": adapter, "bit_rate": 500_000, "bus": "can0"}
    listener = Watch(guest, opens=False, profile="toyota-rav4", **way)
    listener.until(lambda now: "cannot listen only" in now.get("trouble", ""), LIMIT_S)
    listener.stop()
    unit = unit_on(guest, "far0")
    ask(guest, figure, "slcan", **way)
    unit.kill()
