"""The imu driver on a folder and a pipe that look like the kernel's, for the contract suite."""

import tempfile
from pathlib import Path

import numpy as np

from agent.clock import NS_PER_S, monotonic_ns
from drivers.imu import Imu
from sim.iio import FakeIio

PERIOD_NS = NS_PER_S // 100


class ImuRig:
    """A sensor that lies level."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.device = FakeIio(Path(self._folder.name))
        self.device.plug()
        self._last_ns = 0

    def driver(self) -> Imu:
        return Imu(sysfs=self.device.sysfs, dev=self.device.dev)

    def speak(self, n: int) -> None:
        t = np.maximum(monotonic_ns() - np.arange(n - 1, -1, -1) * 1000, self._last_ns + 1 + np.arange(n))
        self._last_ns = int(t[-1])
        self.device.write(t, np.broadcast_to([0.3, -0.2, 9.8], (n, 3)), np.broadcast_to([0.5, -1.5, 20.0], (n, 3)))

    def garble(self, noise: bytes) -> None:
        whole = bytes(-len(noise) % 24)  # a cut scan would shift all that follow: the kernel hands out whole ones
        assert self.device._flowing()
        self.device._send(np.frombuffer(noise + whole, np.uint8))

    def unplug(self) -> None:
        self.device.unplug()

    def close(self) -> None:
        self.device.unplug()
        self._folder.cleanup()


RIGS = (ImuRig,)
