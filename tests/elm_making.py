"""A line to a fake adapter in virtual time: minutes of a bad adapter pass in milliseconds."""

import numpy as np

from agent.blocks import Block, empty_block
from agent.errors import DriverError
from drivers.elm327 import Elm327, Elm327Settings
from sim.elm327 import FakeElm, Speaking
from sim.elm_car import Car

S = 1_000_000_000


class VirtualLine:
    """Carry bytes between driver and fake; reading moves the clock."""

    def __init__(self, fake: Speaking) -> None:
        self.fake = fake
        self.now_ns = 1000 * S
        self.opened: list[int] = []
        self.closed = 0

    def clock(self) -> int:
        return self.now_ns

    def open(self, baud: int) -> None:
        if self.fake.gone:
            raise DriverError("virtual: no such device")
        self.fake.host_baud = baud
        self.opened.append(baud)

    def write(self, data: bytes) -> None:
        if self.fake.gone:
            raise DriverError("virtual: the adapter is gone")
        assert data != b"\r", "an empty line repeats the last request"
        self.fake.receive(data, self.now_ns)

    def read(self, timeout_s: float) -> bytes:
        if self.fake.gone:
            raise DriverError("virtual: the adapter is gone")
        until_ns = self.now_ns + int(timeout_s * S)
        due_ns = self.fake.next_ns()
        if due_ns is not None and due_ns <= until_ns:
            self.now_ns = max(self.now_ns, due_ns)
            return self.fake.take(self.now_ns)
        self.now_ns = until_ns + (1000 if timeout_s else 0)
        return b""

    def close(self) -> None:
        self.closed += 1


def climbing(t_ns: int) -> dict[str, float]:
    """Give a car whose speed says what second it is, so that a stale value shows."""
    return {"speed_kmh": t_ns // S % 200, "rpm": 1000 + t_ns // S % 200 * 10}


def virtual(fake: Speaking | None = None, **settings: object) -> tuple[Elm327, VirtualLine]:
    fake = fake or FakeElm(Car(values=climbing))
    line = VirtualLine(fake)
    return Elm327(Elm327Settings(port="virtual", **settings), line=line, clock=line.clock), line


def collect(driver: Elm327, line: VirtualLine, seconds: float) -> Block:
    """Read for so many virtual seconds."""
    blocks = [empty_block()]
    until_ns = line.now_ns + int(seconds * S)
    while line.now_ns < until_ns:
        before_ns = line.now_ns
        blocks.append(driver.read(0.25))
        assert line.now_ns - before_ns < 0.26 * S + 1000
    return np.concatenate(blocks)
