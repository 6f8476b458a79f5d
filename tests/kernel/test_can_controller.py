"""A real controller's driver (SJA1000 on a Kvaser card that QEMU emulates): our networkd file sets its bit rate and
lets it listen only. Error counters and bus-off by bad wiring cannot be had: the emulated bus never disturbs a bit."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.kernel.can import OURS, Watch
from tests.kernel.guest import Guest

CARD: Final = ("-device", "kvaser_pci,canbus=wires")
MACHINE: Final = {"devices": ("-object", "can-bus,id=wires", *CARD, *CARD)}  # can0 is the box's, can1 the car's


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


def link(guest: Guest) -> Any:
    return json.loads(guest.run("ip -j -d -s link show can0").out)[0]


def test_our_networkd_file_sets_bit_rate_and_listen_only_and_the_agent_sees_both(guest: Guest, watch: Watch) -> None:
    guest.until("ip link show can0 | grep -q ',UP'")
    said = link(guest)["linkinfo"]["info_data"]
    assert said["bittiming"]["bitrate"] == 500_000
    assert "LISTEN-ONLY" in said["ctrlmode"]
    assert said["restart_ms"] == 100
    assert (watch.told["bit_rate"], watch.told["notes"]) == (500_000, [])
