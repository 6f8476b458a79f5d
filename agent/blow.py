"""A blow that was just felt: what waits for its turn in the intake is made durable before it is merged and judged.

Samples wait up to `daemon.hold_s` for slower devices. A collision may take the power with it within that time, and with
it the only trace of itself; so the first violent sample of an accelerometer has everything written that has come. The
samples then go their usual way: what is found, and in which order, does not change (docs/decisions/0243).
"""

from typing import Final, Protocol

import numpy as np

from agent.blocks import Block
from agent.channels import BY_NAME
from agent.clock import NS_PER_S
from agent.intake import Intake

# On any axis of the box, gravity included. A half-sine of 8 km/h in 150 ms, the weakest collision, has 2.4 g at its
# peak; a hard brake on a rough road stays below 1.5 g but for its holes (docs/sources.md C3).
BLOW_MPS2: Final = 2.0 * 9.80665
LASTS_NS: Final = NS_PER_S // 2  # then its crash is known, and from there on every step is durable
APART_NS: Final = NS_PER_S // 8  # between two writings: an accelerometer's batches come every 0.1 s
_AXES: Final = np.array([BY_NAME[f"Imu.Acceleration.{axis}"].number for axis in "XYZ"], np.uint16)


class Ahead(Protocol):
    """What makes samples durable that are not its own yet: a store, or the daemon's patient one."""

    def keep_ahead(self, block: Block) -> None:
        """Make samples durable that have come and are not appended yet."""


def is_blow(block: Block) -> bool:
    """Say whether an accelerometer's samples are among these, and a violent one among them."""
    channel = block["channel"]
    chosen = (channel >= _AXES[0]) & (channel <= _AXES[-1])
    return bool(chosen.any()) and bool((np.abs(block["value"][chosen]) >= BLOW_MPS2).any())


class Blows:
    """Has what waits in `intake` written while a blow is fresh; `step` belongs to the spine's thread."""

    def __init__(self, intake: Intake, keeper: Ahead) -> None:
        self._intake = intake
        self._keeper = keeper
        self._until_ns = self._next_ns = 0

    def step(self, now_ns: int) -> None:
        """Write what waits, if a blow was felt lately."""
        if self._intake.felt():
            self._until_ns = now_ns + LASTS_NS
        if self._next_ns <= now_ns < self._until_ns:
            self._next_ns = now_ns + APART_NS
            self._keeper.keep_ahead(self._intake.waiting())
