"""The canbus driver on its three kinds of wire, for the contract suite."""

import itertools
from pathlib import Path
from typing import Any

import can

from drivers.can.socketcan import SocketCan
from drivers.can.wire import CanSettings
from drivers.canbus import CanBus
from drivers.decode.dbc import load_dbc
from tests.can_peers import Adapter, Datagrams, can_frame

CONFIG = Path(__file__).parents[2] / "config"
SPEED = next(m for m in load_dbc(CONFIG / "dbc" / "simcar.dbc").messages if m.name == "ENGINE")
CHANNELS = itertools.count()


class SocketRig:
    """SocketCAN's receive path on a loopback datagram socket, which every kernel has."""

    def __init__(self) -> None:
        self.wire = Datagrams()

    def driver(self) -> CanBus:
        settings = CanSettings(profile="simcar", window_s=0.002)
        return CanBus(settings, CONFIG, lambda s: SocketCan(s, lambda name, filters: self.wire.inner.dup()))

    def speak(self, n: int) -> None:
        self.wire.put(*[can_frame(SPEED.id, bytes(8))] * n)

    def garble(self, noise: bytes) -> None:
        self.wire.put(noise)

    def unplug(self) -> None:
        self.wire.unplug()

    def close(self) -> None:
        self.wire.close()


class SlcanRig:
    """An slcan adapter on a pty."""

    def __init__(self) -> None:
        self.adapter = Adapter()

    def driver(self) -> CanBus:
        settings = CanSettings("slcan", self.adapter.path, profile="simcar", bit_rate=500_000, window_s=0.002)
        return CanBus(settings, CONFIG)

    def speak(self, n: int) -> None:
        self.adapter.put(b"\r")  # ends what noise may have begun
        for _ in range(n):
            self.adapter.frame(SPEED.id, bytes(8))

    def garble(self, noise: bytes) -> None:
        self.adapter.put(noise)

    def unplug(self) -> None:
        self.adapter.unplug()

    def close(self) -> None:
        self.adapter.close()


class VirtualRig:
    """python-can's virtual bus, standing for every interface that python-can knows."""

    def __init__(self) -> None:
        self.channel = f"contract{next(CHANNELS)}"
        self.far = can.Bus(interface="virtual", channel=self.channel)
        self.made: Any = None

    def driver(self) -> CanBus:
        self.made = CanBus(CanSettings("virtual", self.channel, profile="simcar", window_s=0.002), CONFIG)
        return self.made

    def speak(self, n: int) -> None:
        for _ in range(n):
            self.far.send(can.Message(arbitration_id=SPEED.id, is_extended_id=False, data=bytes(8)))

    def garble(self, noise: bytes) -> None:
        # the virtual bus carries objects: an impossible identifier is the noise that it can carry
        message = can.Message(data=noise[:8], is_extended_id=False)
        message.arbitration_id = 0x800 + (noise[0] if noise else 0)
        self.far.send(message)

    def unplug(self) -> None:
        self.made._wire._bus.shutdown()

    def close(self) -> None:
        self.far.shutdown()


RIGS = (SocketRig, SlcanRig, VirtualRig)
