"""When a picture was taken: from the stamp that came with it, whatever clock that is of, to monotonic ns.

Which clock a stamp is of is found at the first picture. V4L2's is CLOCK_MONOTONIC by rule (uvcvideo: good to some ms)
and is taken as it is; an older driver's wall time is moved over. A sender's own clock (RTP, containers) gives the
distances, and the picture that was least delayed gives the offset: jitter of the network does not move pictures, its
least delay does. Without a stamp it is the time of arrival.
"""

from typing import Final, Literal

from agent.clock import NS_PER_S

NEAR_NS: Final = 5 * NS_PER_S  # a stamp so near to a clock is that clock's
DRIFT: Final = 100e-6  # between two quartz clocks, at most (usual crystals: ±50 ppm each)
JUMP_NS: Final = 2 * NS_PER_S  # a sender that is so far off has begun to count anew

Clock = Literal["kernel", "wall", "sender", "arrival"]


class Stamps:
    """The stamps of one session with a camera; `latency_ns` is taken from those that are not the kernel's."""

    def __init__(self, latency_ns: int = 0) -> None:
        self.clock: Clock | None = None
        self._latency_ns = latency_ns
        self._offset_ns = 0
        self._last_arrival_ns = 0
        self._last_ns: int | None = None
        self.stale = 0  # pictures whose stamp did not move on

    def time_of(self, stamp_ns: int | None, now_ns: int, wall_minus_monotonic_ns: int) -> int | None:
        """Return the monotonic time of a picture that arrived at `now_ns`; None for one that was there before."""
        if self.clock is None:
            self.clock = _clock_of(stamp_ns, now_ns, wall_minus_monotonic_ns)
            if stamp_ns is not None:
                self._offset_ns = now_ns - stamp_ns
        t_ns = self._monotonic(stamp_ns, now_ns, wall_minus_monotonic_ns)
        if self._last_ns is not None and t_ns <= self._last_ns:
            self.stale += 1
            return None
        self._last_ns = t_ns
        return t_ns

    def _monotonic(self, stamp_ns: int | None, now_ns: int, wall_minus_monotonic_ns: int) -> int:
        if stamp_ns is None or self.clock == "arrival":
            return now_ns - self._latency_ns
        if self.clock == "kernel":
            return stamp_ns
        if self.clock == "wall":
            return stamp_ns - wall_minus_monotonic_ns - self._latency_ns
        offset_ns = now_ns - stamp_ns
        grown_ns = (
            self._offset_ns + round((now_ns - self._last_arrival_ns) * DRIFT) if self._last_arrival_ns else offset_ns
        )
        self._offset_ns = offset_ns if abs(offset_ns - grown_ns) > JUMP_NS else min(grown_ns, offset_ns)
        self._last_arrival_ns = now_ns
        return stamp_ns + self._offset_ns - self._latency_ns


def _clock_of(stamp_ns: int | None, now_ns: int, wall_minus_monotonic_ns: int) -> Clock:
    if stamp_ns is None:
        return "arrival"
    if abs(stamp_ns - now_ns) < NEAR_NS:
        return "kernel"
    return "wall" if abs(stamp_ns - wall_minus_monotonic_ns - now_ns) < NEAR_NS else "sender"
