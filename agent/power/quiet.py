"""What is worth keeping of a parked night: all that is not inertial, and the inertial samples around an impact.

The spine sees every sample; only the store gets less, and less often: a card that is written once a second for a
night wears, and one sample of a still sensor is like the next.
"""

from typing import Final

import numpy as np

from agent.blocks import Block, empty_block, join_blocks
from agent.channels import BY_NAME, number
from agent.clock import NS_PER_S

AXES: Final = tuple(number(f"Imu.Acceleration.{a}") for a in "XYZ")
INERTIAL: Final = np.array([c.number for c in BY_NAME.values() if c.name.startswith("Imu.")], np.uint16)
KNOCK_MPS2: Final = 1.0  # peak to peak on one axis: twenty times the noise of a cheap sensor; a shut door makes 1 to 3
AROUND_NS: Final = 2 * NS_PER_S  # kept before and after a knock


class Quiet:
    """Pass on everything until `begin`; from then on what matters, at most once in `hold_s`, in order of time."""

    def __init__(self, hold_s: float) -> None:
        self._hold_ns = round(hold_s * NS_PER_S)
        self._held: list[Block] = []
        self._before: list[Block] = []  # inertial, of the last AROUND_NS: kept if a knock follows
        self._lies: Block = empty_block()  # one inertial sample of each channel: how the box lies
        self._due_ns: int | None = None  # in the samples' time
        self._knocked_ns: int | None = None
        self.active = False

    def begin(self) -> None:
        """The car is parked."""
        self.active = True

    def end(self) -> Block:
        """Return what is held; the car is used again, or the box ends."""
        self.active = False
        self._knocked_ns = None
        return self.keep_all()

    def keep_all(self) -> Block:
        """Return what is held, and go on holding what comes."""
        self._before = []
        return self._release(None)

    def keep(self, block: Block) -> Block:
        """Take samples in order of time; return those that the store should take now."""
        if not self.active or not len(block):
            return block
        start_ns, end_ns = int(block["t"][0]), int(block["t"][-1])
        if self._due_ns is None:
            self._due_ns = end_ns + self._hold_ns
        if self._knocks(block):
            self._knocked_ns = end_ns
        if self._knocked_ns is not None and start_ns - self._knocked_ns <= AROUND_NS:
            self._held += [*self._before, block]
            return self.keep_all()
        inertial = np.isin(block["channel"], INERTIAL)
        if inertial.any():
            self._before.append(block[inertial])
            while self._before and end_ns - int(self._before[0]["t"][-1]) > AROUND_NS:
                gone = self._before.pop(0)
                self._lies = gone[gone["t"] == gone["t"][-1]]
        if not inertial.all():
            self._held.append(block[~inertial])
        if end_ns < self._due_ns:
            return empty_block()
        return self._release(int(self._before[0]["t"][0]) if self._before else None)

    def _knocks(self, block: Block) -> bool:
        for axis in AXES:
            values = block["value"][block["channel"] == axis]
            if len(values) and values.max() - values.min() >= KNOCK_MPS2:
                return True
        return False

    def _release(self, until_ns: int | None) -> Block:
        """Return what is held before `until_ns`; None: all of it."""
        joined = join_blocks([self._lies, *self._held])
        cut = len(joined) if until_ns is None else int(np.searchsorted(joined["t"], until_ns))
        self._held, self._lies, self._due_ns = [joined[cut:]], empty_block(), None
        return joined[:cut]
