"""A real controller's driver (SJA1000 on a Kvaser card that QEMU emulates): our networkd file sets its bit rate and
lets it listen only; what its queue of five frames could not hold is told. Error counters and bus-off by bad wiring
cannot be had: the emulated bus never disturbs a bit."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.kernel.can import OURS, Watch, goes_down_and_up
from tests.kernel.conftest import Figure
from tests.kernel.guest import Guest

CARD: Final = ("-device", "kvaser_pci,canbus=wires")
MACHINE: Final = {"devices": ("-object", "can-bus,id=wires", *CARD, *CARD)}  # can0 is the box's, can1 the car's
FRAME: Final = "0AA#3388338833883388"  # toyota-rav4: four wheels at 64.25 km/h
SENT: Final = 2000


@pytest.fixture(scope="module")
def cards(guest: Guest) -> None:
    guest.copy(OURS, f"/etc/systemd/network/{OURS.name}")
    guest.run("networkctl reload")
    guest.module("kvaser_pci", "can-raw")
    guest.until("ip link show can1")
    guest.run("ip link set can1 up type can bitrate 500000")


@pytest.fixture
def watch(guest: Guest, cards: None) -> Iterator[Watch]:
    made = Watch(guest, profile="toyota-rav4")
    yield made
    made.stop()


def link(guest: Guest, name: str = "can0") -> Any:
    return json.loads(guest.run(f"ip -j -d -s link show {name}").out)[0]


def counted(guest: Guest) -> tuple[int, int, int]:
    """Return how many frames the car sent, how many the box's driver received, and how often its queue overran."""
    received = link(guest)["stats64"]["rx"]
    return link(guest, "can1")["stats64"]["tx"]["packets"], received["packets"], received["over_errors"]


def test_our_networkd_file_sets_bit_rate_and_listen_only_and_the_agent_sees_both(guest: Guest, watch: Watch) -> None:
    guest.until("ip link show can0 | grep -q ',UP'")
    said = link(guest)["linkinfo"]["info_data"]
    assert said["bittiming"]["bitrate"] == 500_000
    assert "LISTEN-ONLY" in said["ctrlmode"]
    assert said["restart_ms"] == 100
    assert (watch.told["bit_rate"], watch.told["notes"]) == (500_000, [])


def test_what_the_car_sends_is_decoded_or_told_as_lost(guest: Guest, watch: Watch, figure: Figure) -> None:
    """The kernel counts how often the chip's queue overran, not how many frames that cost."""
    guest.run(f"cansend can1 {FRAME}")
    watch.until_counted(frames=1)
    assert watch.told["last"]["Vehicle.Speed"] == pytest.approx(64.25 / 3.6)
    before = counted(guest)
    guest.run(f"cangen can1 -I 0AA -L 8 -D 3388338833883388 -n {SENT} -g 1 -p 1000", limit_s=300)
    guest.until(f"[ $(cat /sys/class/net/can1/statistics/tx_packets) -ge {before[0] + SENT} ]", 300)
    sent, received, overran = (now - then for now, then in zip(counted(guest), before, strict=True))
    figure("sent by an emulated SJA1000", sent, "frames")
    figure("received by another", received, "frames")
    figure("its overruns", overran, "")

    def told() -> tuple[int, int]:
        return watch.counts["frames"] + watch.counts["lost_in_queue"], watch.counts["error_fifo_overflow"]

    watch.until(lambda _: told() == (received + 1, overran))
    assert sent - received >= overran
    assert sent == received or overran > 0


def test_a_controller_that_is_taken_down_and_up_is_told_and_taken_up_again(guest: Guest, watch: Watch) -> None:
    goes_down_and_up(guest, watch)
    watch.begin()
    guest.run(f"cansend can1 {FRAME}")
    watch.until_counted(frames=1)


def test_a_card_that_is_taken_out_and_put_in_again_is_set_up_by_networkd(guest: Guest, watch: Watch) -> None:
    where = guest.run("basename $(readlink -f /sys/class/net/can0/device)").out.strip()
    guest.run(f"echo 1 > /sys/bus/pci/devices/{where}/remove")
    watch.until(lambda now: not now["open"] and "unplugged" in now["trouble"])  # the kernel takes it down at first
    guest.run("echo 1 > /sys/bus/pci/rescan")
    told = watch.until(lambda now: now["open"])
    assert (told["bit_rate"], told["notes"]) == (500_000, [])
    watch.begin()
    guest.run(f"cansend can1 {FRAME}")
    watch.until_counted(frames=1)


def test_a_switched_off_listen_only_is_told_with_what_to_type(guest: Guest, cards: None) -> None:
    guest.run("ip link set can0 down && ip link set can0 up type can bitrate 500000 listen-only off")
    watch = Watch(guest, profile="toyota-rav4")
    assert "listen-only on" in watch.told["notes"][0]
    watch.stop()
