"""Wall-clock stamps of a batch of frames become monotonic times that a clock step cannot move.

The kernel and python-can stamp in UTC as the machine believes it. The distance of UTC from monotonic time is read
after each batch. It is the same as at the batch before unless the clock was set in between; then a frame belongs to
whichever distance puts it latest without putting it into the future. What remains is clamped: a time never falls and
never lies after the moment of reading.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit, types

from agent.clock import monotonic_ns, wall_minus_monotonic_ns

NO_STAMP: Final = -1  # in place of a wall time: take the moment of reading
STEP_NS: Final = 1_000_000  # less is the noise of reading two clocks
SLACK_NS: Final = 50_000  # how far into the future a stamp may seem to lie by that noise

# slots of `state`
LAST, CLAMPED = range(2)


@njit(
    types.void(types.int64[::1], types.int64, types.int64, types.int64, types.int64[::1]),
    cache=True,
    nogil=True,
)
def settle(t: Any, before_ns: Any, after_ns: Any, now_ns: Any, state: Any) -> None:
    """Turn wall times `t` into monotonic times in place; `before_ns`, `after_ns` are UTC minus monotonic time."""
    last = state[LAST]
    for i in range(len(t)):
        chosen = now_ns
        if t[i] != NO_STAMP:
            new, old = t[i] - after_ns, t[i] - before_ns
            new_fits, old_fits = new <= now_ns + SLACK_NS, old <= now_ns + SLACK_NS
            if new_fits and old_fits:
                chosen = max(new, old)
            elif new_fits:
                chosen = new
            elif old_fits:
                chosen = old
            else:
                state[CLAMPED] += 1
            chosen = min(chosen, now_ns)
        if chosen < last:
            if last - chosen > STEP_NS:
                state[CLAMPED] += 1
            chosen = last
        t[i] = chosen
        last = chosen
    state[LAST] = last


class WallStamps:
    """Turns the stamps of one wire; `clamped` counts frames whose stamp could not be believed."""

    def __init__(self) -> None:
        self._state = np.zeros(2, np.int64)
        self._distance_ns: int | None = None
        self.clock_steps = 0

    def settle(self, t: npt.NDArray[np.int64]) -> None:
        """Turn a batch, just read, in place."""
        after_ns = wall_minus_monotonic_ns()
        self.settle_at(t, after_ns, monotonic_ns())

    def settle_at(self, t: npt.NDArray[np.int64], after_ns: int, now_ns: int) -> None:
        """Turn a batch read at `now_ns`, when UTC was `after_ns` ahead of monotonic time."""
        before_ns = after_ns
        if self._distance_ns is not None and abs(after_ns - self._distance_ns) > STEP_NS:
            before_ns = self._distance_ns
            self.clock_steps += 1
        settle(t, before_ns, after_ns, now_ns, self._state)
        self._distance_ns = after_ns

    @property
    def clamped(self) -> int:
        """How many frames got the time of the frame before or of reading instead of their own."""
        return int(self._state[CLAMPED])
