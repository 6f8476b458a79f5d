"""Make one non-decreasing time line of the stamps in a file, whatever its recorder's clock did.

The rule, frame by frame in the order of the file, with W = 1 s:

* a stamp within W behind the newest one so far is ordinary disorder between buses: frames are sorted by time;
* a stamp more than W ahead is a gap in the recording and stays one, unless it is longer than 30 days (a clock that
  jumps from 1970 to today among them): that is the clock being set, and time goes on from the frame before;
* a stamp more than W behind is the clock being set back: time goes on from the frame before;
* a single stamp that is more than W off while the next one is not is damaged and takes the time of the frame before.

Every frame is kept. Clock steps are counted and named; they never become motion, because no interval between two
frames is stretched or shrunk apart from the one in which the clock was set, which becomes zero.
"""

from typing import Final, Generic

import numba as nb
import numpy as np
import numpy.typing as npt

from agent.clock import NS_PER_S
from drivers.recording.base import RecordingBase
from drivers.recording.batch import B, join, length, take, times, with_times

WINDOW_NS: Final = NS_PER_S  # buses of one logger differ by milliseconds, gateways by some tenths of a second
ABSURD_NS: Final = 30 * 86_400 * NS_PER_S  # no recording contains a month of silence
EPOCH_2000_NS: Final = 946_684_800 * NS_PER_S  # below it, a stamp is not an absolute time
MOST_HELD: Final = 1 << 18  # frames in one window: eight CAN FD buses at full load stay below half of it

# Slots of the kernel's state.
_STARTED, _OFFSET, _HIGH, _UTC, _STEPS, _DAMAGED, _SEEN = range(7)
_KEPT_STEPS: Final = 4  # steps described in words, the rest are counted


@nb.njit("boolean(int64[::1], int64, int64, int64[::1], int64[:, ::1])", cache=True, nogil=True)
def place(
    t: npt.NDArray[np.int64], begin: int, end: int, state: npt.NDArray[np.int64], steps: npt.NDArray[np.int64]
) -> bool:
    """Turn the raw stamps t[begin:end] into ns since the first frame, in place; say whether they are in order.

    t[end], where there is one, is the raw stamp that follows. state int64[7], steps int64[_KEPT_STEPS, 2] receives
    (frame number, size in ns) of the first clock steps.
    """
    ordered = True
    for i in range(begin, end):
        raw = t[i]
        state[_SEEN] += 1
        if state[_STARTED] == 0:
            state[_STARTED] = 1
            state[_OFFSET] = -raw
            if raw >= EPOCH_2000_NS:
                state[_UTC] = raw
            t[i] = 0
            continue
        at = raw + state[_OFFSET]
        off = at - state[_HIGH]
        if off > WINDOW_NS or off < -WINDOW_NS:
            alone = False
            if i + 1 < len(t):
                following = t[i + 1] + state[_OFFSET] - state[_HIGH]
                alone = -WINDOW_NS <= following <= WINDOW_NS
            if alone:
                at = state[_HIGH]
                state[_DAMAGED] += 1
            elif off < 0 or off > ABSURD_NS:
                if state[_STEPS] < len(steps):
                    steps[state[_STEPS], 0] = state[_SEEN]
                    steps[state[_STEPS], 1] = off
                state[_STEPS] += 1
                state[_OFFSET] -= off
                at = state[_HIGH]
                if state[_UTC] < 0 and raw >= EPOCH_2000_NS:
                    state[_UTC] = raw - at
        if at < state[_HIGH]:
            ordered = False
        else:
            state[_HIGH] = at
        t[i] = at
    return ordered


class Timeline(Generic[B]):
    """Turn batches with raw stamps (ns, any origin) into ordered batches with ns since the first frame.

    Any split of the same stamps into batches gives the same frames in the same order. Holds back one second.
    """

    def __init__(self, recording: RecordingBase) -> None:
        self._recording = recording
        self._state = np.array([0, 0, 0, -1, 0, 0, 0], np.int64)
        self._steps = np.zeros((_KEPT_STEPS, 2), np.int64)
        self._held: B | None = None
        self._placed = 0  # how many of the held ones have their final time
        self._origin: int | None = None
        self._given = 0  # time of the last one given out
        self._told = 0

    def push(self, batch: B) -> B | None:
        """Take the next batch; return what is certain now, None when nothing is."""
        return self._advance(batch, last=False)

    def finish(self) -> B | None:
        """Return what was held back."""
        return self._advance(None, last=True)

    def _advance(self, batch: B | None, *, last: bool) -> B | None:
        parts = [part for part in (self._held, batch) if part is not None and length(part)]
        if not parts:
            return None
        held = join(parts)
        t = times(held)
        n = len(t)
        end = n if last else n - 1  # the newest waits for its follower, which says whether it is damaged
        ordered = place(t, self._placed, end, self._state, self._steps)
        held = with_times(held, t)
        if not (ordered and _ordered(t[:end])):
            order = np.argsort(t[:end], kind="stable")
            held = take(held, np.concatenate((order, np.arange(end, n))))
            t = times(held)
        ready = n if last else int(np.searchsorted(t[:end], self._state[_HIGH] - WINDOW_NS, side="right"))
        if end - ready > MOST_HELD:
            ready = end - MOST_HELD
        self._held, self._placed = (None, 0) if ready == n else (take(held, slice(ready, n)), end - ready)
        self._tell()
        return self._give(take(held, slice(0, ready)), t[:ready]) if ready else None

    def _give(self, batch: B, t: npt.NDArray[np.int64]) -> B:
        if self._origin is None:
            self._origin = int(t[0])
        t = np.maximum(t - self._origin, self._given)
        self._given = int(t[-1])
        if self._state[_UTC] >= 0:
            self._recording.start_utc_ns = int(self._state[_UTC]) + self._origin
        return with_times(batch, t)

    def _tell(self) -> None:
        counts = self._recording.counts
        counts.time_steps, counts.bad_times = int(self._state[_STEPS]), int(self._state[_DAMAGED])
        while self._told < min(counts.time_steps, _KEPT_STEPS):
            number, step_ns = (int(x) for x in self._steps[self._told])
            way = "forward" if step_ns > 0 else "back"
            self._recording.problem(
                f"frame {number}: the recorder's clock was set {way} by {abs(step_ns) / NS_PER_S:.3f} s; it is left out"
            )
            self._told += 1


def _ordered(t: npt.NDArray[np.int64]) -> bool:
    return bool(np.all(t[1:] >= t[:-1]))
